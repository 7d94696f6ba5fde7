//! What can make a policy wider though no question is asked of it: each is told as not proven.
//!
//! Questions are about rules, and are all put in the new schema. They know nothing of what Rego denies, of what a pattern
//! matches, and of what a tool's declaration makes of a call. It does not cover budgets and bindings, which are no part of
//! a policy's source.

use countersign_kernel::policy::{PolicySource, ToolDef};

/// Everything of the two sources that differs and that no question covers.
pub(crate) fn unasked(old: &PolicySource, new: &PolicySource) -> Vec<String> {
    rego(old, new).into_iter().chain(patterns(old, new)).chain(tools(old, new)).collect()
}

/// Rego only ever denies, so none before means that nothing was lost. More of it may still deny less: a rule can undo
/// another.
fn rego(old: &PolicySource, new: &PolicySource) -> Option<String> {
    let files = |source: &PolicySource| -> Vec<(String, String)> {
        source.policies.iter().filter(|(file, _)| file.ends_with(".rego")).cloned().collect()
    };
    let (old, new) = (files(old), files(new));
    let changed: Vec<&str> = old
        .iter()
        .filter(|file| !new.contains(file))
        .chain(new.iter().filter(|file| !old.contains(file)))
        .map(|(name, _)| name.as_str())
        .collect();
    if old.is_empty() || changed.is_empty() {
        return None;
    }
    let mut names: Vec<&str> = changed;
    names.sort_unstable();
    names.dedup();
    Some(format!("Rego changed (`{}`): what it denies cannot be compared", names.join("`, `")))
}

/// What patterns match cannot be proven. A new one counts too: a permit may wait for its name, and so may the `unless` of
/// a forbid.
fn patterns(old: &PolicySource, new: &PolicySource) -> Vec<String> {
    let differing = old.patterns.iter().filter(|pattern| !new.patterns.contains(pattern));
    let changed = differing
        .map(|pattern| format!("the pattern `{}` changed or went: what it matches cannot be compared", pattern.id));
    let is_new = |id: &str| old.patterns.iter().all(|pattern| pattern.id.as_str() != id);
    let added = new.patterns.iter().filter(|pattern| is_new(pattern.id.as_str()));
    let added = added.map(|pattern| format!("the pattern `{}` is new: what it matches cannot be compared", pattern.id));
    changed.chain(added).collect()
}

/// Tools that both know under one name, and that policy sees otherwise now.
fn tools(old: &PolicySource, new: &PolicySource) -> Vec<String> {
    let mut open = Vec::new();
    for after in &new.tools {
        let is_it = |tool: &&ToolDef| tool.upstream == after.upstream && tool.tool == after.tool;
        for before in old.tools.iter().filter(is_it) {
            let mut changed = Vec::new();
            if before.effect != after.effect {
                changed.push("declared effect");
            }
            if before.input_schema != after.input_schema {
                changed.push("schema of arguments");
            }
            if !changed.is_empty() {
                open.push(format!(
                    "the {} of `{}/{}` changed: what policy reads of its calls is not the same and cannot be compared",
                    changed.join(" and the "),
                    after.upstream,
                    after.tool
                ));
            }
        }
    }
    open
}
