//! Policy written in YAML, compiled to what the kernel loads.
//!
//! Three forms are read, told apart by their keys: our own short form (`version: 1`, `rules` with `then`), Sekuire's
//! (`actions`) and Expacti's (`rules` with a `pattern`). All become rules, and rules become Cedar through Cedar's own
//! structures, printed by Cedar: no text is pasted, so nothing in a file can break out of a string. What is unknown of a
//! call counts for the worst (see `fact`), and no rule lets a call run that was not understood, unless it says so. It must
//! not know files, the log or how a bundle is asked.

mod canonical;
mod conditions;
mod est;
mod expacti;
mod fact;
pub mod fmt;
mod known;
mod names;
mod node;
mod problem;
mod read;
mod rule;
mod sekuire;
mod short;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use countersign_kernel::BudgetRule;
use countersign_kernel::policy::PatternDef;
use countersign_model::Digest;

pub use self::known::Known;
pub use self::node::TEXT_BYTES_MAX;
pub use self::problem::{Problem, Problems, Span, drawn, line};

use self::node::{Node, Value};
use self::read::Reader;
use self::rule::Rule;

/// A file of policy, compiled.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The file's name.
    pub file: String,
    /// In which form it was written.
    pub form: Form,
    /// The policies that its rules became, in the order of the file.
    pub policies: Vec<CompiledPolicy>,
    /// Patterns for `context.matched`.
    pub patterns: Vec<PatternDef>,
    /// Limits on calls.
    pub budgets: Vec<BudgetRule>,
    /// What is well formed and should be known.
    pub warnings: Vec<Problem>,
    /// Where the rule of each policy stands.
    pub sources: BTreeMap<String, Span>,
    digest: Digest,
}

/// One policy of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompiledPolicy {
    /// Its id: the rule's, with `.gate` or `.obligation.NAME` for what belongs to it.
    pub id: String,
    /// The rule's id.
    pub rule: String,
    /// Its text in Cedar.
    pub cedar: String,
}

/// The forms that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Our own.
    Short,
    /// `actions: [{name, environment, effect | requires_approval}]`.
    Sekuire,
    /// `rules: [{pattern, action, notify}]`.
    Expacti,
}

impl Form {
    /// What people call it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Sekuire => "sekuire",
            Self::Expacti => "expacti",
        }
    }
}

impl Compiled {
    /// The Cedar that is loaded in place of the file. Its first line holds the hash of the file's text, so a hash over
    /// this covers both.
    #[must_use]
    pub fn cedar(&self) -> String {
        let name = self.file.escape_debug();
        let mut out = format!("// Compiled from `{name}`, SHA-256 {}.\n", self.digest.hex());
        for policy in &self.policies {
            out.push('\n');
            out.push_str(&policy.cedar);
        }
        out
    }
}

/// Compiles the text of a policy file.
///
/// # Errors
/// Everything that is wrong with it, with places and remedies.
pub fn compile(file: &str, text: &str, known: &Known) -> Result<Compiled, Problems> {
    compile_as(file, text, known, false)
}

/// Compiles a file that comes with Countersign: it may exempt environments that this installation does not have.
pub(crate) fn compile_as(file: &str, text: &str, known: &Known, bundle: bool) -> Result<Compiled, Problems> {
    let document = node::parse(text).map_err(|problem| Problems::new(file, text, vec![problem]))?;
    let mut compiling = Compiling {
        known,
        bundle,
        stem: stem(file),
        reader: Reader::default(),
        rules: Vec::new(),
        patterns: Vec::new(),
        budgets: Vec::new(),
    };
    let form = compiling.read(&document.root);
    let policies = compiling.policies();
    let Compiling { reader, rules, patterns, budgets, .. } = compiling;
    let Some(form) = form.filter(|_| reader.problems.is_empty()) else {
        return Err(Problems::new(file, text, reader.problems));
    };
    let mut warnings = reader.warnings;
    warnings.sort_by(|a, b| (a.span, &a.message).cmp(&(b.span, &b.message)));
    warnings.dedup();
    let span_of = |rule: &str| rules.iter().find(|known| known.id == rule).map_or_else(Span::default, |rule| rule.span);
    let sources = policies.iter().map(|policy| (policy.id.clone(), span_of(&policy.rule))).collect();
    let digest = Digest(sha256(text));
    Ok(Compiled { file: file.to_owned(), form, policies, patterns, budgets, warnings, sources, digest })
}

fn sha256(text: &str) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(text.as_bytes()).into()
}

/// The file's name without folders and endings, as part of an id.
fn stem(file: &str) -> String {
    let name = file.rsplit(['/', '\\', ':']).next().unwrap_or(file);
    let name = name.split('.').next().unwrap_or(name);
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let stem: String = name.chars().take(48).map(kept).collect();
    if stem.is_empty() { "policy".to_owned() } else { stem }
}

/// A compilation under way.
pub(crate) struct Compiling<'a> {
    known: &'a Known,
    bundle: bool,
    stem: String,
    reader: Reader,
    rules: Vec<Rule>,
    patterns: Vec<PatternDef>,
    budgets: Vec<BudgetRule>,
}

impl Compiling<'_> {
    /// The id of a rule that has none of its own.
    fn numbered(&self, index: usize) -> String {
        format!("{}.{}", self.stem, index.saturating_add(1))
    }

    fn read(&mut self, root: &Node) -> Option<Form> {
        let keys = self.reader.map(root, "a policy file")?;
        let has = |key: &str| keys.get(key).is_some();
        let patterns = keys.get("rules").is_some_and(|rules| match &rules.value {
            Value::List(items) => items.iter().any(|item| match &item.value {
                Value::Map(entries) => entries.iter().any(|(key, _)| key.text == "pattern"),
                _ => false,
            }),
            _ => false,
        });
        if has("actions") {
            sekuire::read(self, root);
            return Some(Form::Sekuire);
        }
        if patterns && !has("version") {
            expacti::read(self, root);
            return Some(Form::Expacti);
        }
        if has("version") || has("rules") {
            short::read(self, root);
            return Some(Form::Short);
        }
        let others = ["policy", "agent", "content", "Statement", "statements", "capabilities"];
        let help = if others.iter().any(|key| has(key)) {
            "of Sekuire's several shapes only `actions:` is read; write the others as `version: 1` and `rules:`"
        } else {
            "begin with `version: 1` and `rules:`, or with `actions:` (Sekuire), or with rules that have a `pattern` (Expacti)"
        };
        self.reader.fault(root.span, "this is no policy in a form that is known", help);
        None
    }

    fn policies(&mut self) -> Vec<CompiledPolicy> {
        let mut ids = BTreeSet::new();
        let mut policies = Vec::new();
        let mut pattern_ids = BTreeSet::new();
        for pattern in &self.patterns {
            if !pattern_ids.insert(pattern.id.as_str()) {
                let message = format!("the pattern `{}` stands there twice", pattern.id);
                self.reader.fault(Span::default(), message, "rename one of the two");
            }
        }
        for rule in &self.rules {
            for draft in rule.drafts(self.known) {
                if !ids.insert(draft.id.clone()) {
                    let message = format!("`{}` is the id of two policies of this file", draft.id);
                    self.reader.fault(rule.span, message, "give each rule an id of its own");
                }
                match draft.cedar().and_then(|text| est::formatted(&text)) {
                    Ok(cedar) => policies.push(CompiledPolicy { id: draft.id, rule: rule.id.clone(), cedar }),
                    Err(error) => {
                        let message = format!("the rule makes no policy: {error}");
                        self.reader.fault(rule.span, message, "correct the rule");
                    }
                }
            }
        }
        policies
    }
}
