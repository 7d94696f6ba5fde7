//! The sources of accepted policies, so that a later one can be compared with them.
//!
//! Each lies under the hash that a human signed, and counts only if it loads to that hash: who changes one here takes
//! away what to compare with, and then a human has to consent. Budgets of policy files stand in their YAML alone, so that
//! is kept too; it counts only if it compiles to the Cedar that the hash is about, which names the text's own hash.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use countersign_kernel::BudgetRule;
use countersign_kernel::policy::{AgentDef, Bundle, PatternDef, PatternKind, PolicySource, TargetDef, ToolDef};
use countersign_model::{Digest, Effect};
use serde::{Deserialize, Serialize};

use crate::keys::private_folder;
use crate::layout::Layout;
use crate::policies::{Policies, budgets};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    policies: Vec<(String, String)>,
    agents: Vec<(String, Vec<String>)>,
    targets: Vec<(String, String)>,
    tools: Vec<KeptTool>,
    patterns: Vec<KeptPattern>,
    humans: Option<Vec<String>>,
    /// Name and text of the files in YAML. Older versions kept none.
    #[serde(default)]
    yaml: Vec<(String, String)>,
}

/// What was kept of a policy.
pub(crate) struct Source {
    /// What it was made of.
    pub(crate) source: PolicySource,
    /// What that loads to.
    pub(crate) bundle: Bundle,
    /// The budgets of its files; nothing where they are not known.
    pub(crate) budgets: Option<Vec<BudgetRule>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptTool {
    upstream: String,
    tool: String,
    effect: Option<String>,
    input_schema: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct KeptPattern {
    id: String,
    kind: String,
    text: String,
    argument: Option<String>,
}

fn place(layout: &Layout, hash: Digest) -> PathBuf {
    layout.sources().join(format!("{}.json", hash.hex()))
}

/// Keeps the source of the policy with this hash, and the files that it was compiled from.
pub(crate) fn keep(layout: &Layout, (source, files): (&PolicySource, &Policies), hash: Digest) -> Result<()> {
    let path = place(layout, hash);
    if read(&path, hash).is_ok_and(|kept| kept.budgets.is_some()) {
        return Ok(());
    }
    private_folder(&layout.sources())?;
    let aside = path.with_extension("new");
    let text = serde_json::to_string(&spelled(source, files))?;
    std::fs::write(&aside, text).with_context(|| format!("cannot write `{}`", aside.display()))?;
    std::fs::rename(&aside, &path).with_context(|| format!("cannot replace `{}`", path.display()))
}

/// What was kept of the policy with this hash.
///
/// # Errors
/// There is none, or what is there is something else.
pub(crate) fn load(layout: &Layout, hash: Digest) -> Result<Source> {
    read(&place(layout, hash), hash)
}

fn read(path: &Path, hash: Digest) -> Result<Source> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("the source of policy {} is not kept at `{}`", hash.short(), path.display()))?;
    let damaged = || format!("`{}` is damaged", path.display());
    let mut kept: Kept = serde_json::from_str(&text).with_context(damaged)?;
    let yaml = std::mem::take(&mut kept.yaml);
    let source = checked(kept).with_context(damaged)?;
    let bundle = Bundle::load(&source).with_context(damaged)?;
    if bundle.hash() != hash {
        bail!("`{}` holds another policy than its name says", path.display());
    }
    let budgets = budgets(&source, &yaml);
    Ok(Source { source, bundle, budgets })
}

fn spelled(source: &PolicySource, files: &Policies) -> Kept {
    Kept {
        policies: source.policies.clone(),
        agents: source.agents.iter().map(|agent| (agent.id.to_string(), agent.groups.clone())).collect(),
        targets: source.targets.iter().map(|def| (def.id.to_string(), def.environment.to_string())).collect(),
        tools: source
            .tools
            .iter()
            .map(|def| KeptTool {
                upstream: def.upstream.to_string(),
                tool: def.tool.to_string(),
                effect: def.effect.map(|effect| effect.as_str().to_owned()),
                input_schema: def.input_schema.clone(),
            })
            .collect(),
        patterns: source
            .patterns
            .iter()
            .map(|def| KeptPattern {
                id: def.id.to_string(),
                kind: def.kind.as_str().to_owned(),
                text: def.text.clone(),
                argument: def.argument.clone(),
            })
            .collect(),
        humans: source.humans.as_ref().map(|humans| humans.iter().map(ToString::to_string).collect()),
        yaml: files.compiled.iter().map(|(compiled, text)| (compiled.file.clone(), text.clone())).collect(),
    }
}

fn checked(kept: Kept) -> Result<PolicySource> {
    let agent = |(id, groups): (String, Vec<String>)| Ok(AgentDef { id: id.parse()?, groups });
    let target =
        |(id, environment): (String, String)| Ok(TargetDef { id: id.parse()?, environment: environment.parse()? });
    let tool = |kept: KeptTool| {
        Ok(ToolDef {
            upstream: kept.upstream.parse()?,
            tool: kept.tool.parse()?,
            effect: kept.effect.map(|effect| effect.parse::<Effect>()).transpose()?,
            input_schema: kept.input_schema,
        })
    };
    let pattern = |kept: KeptPattern| {
        let kind = PatternKind::of(&kept.kind).context("a pattern is of no known kind")?;
        Ok(PatternDef { id: kept.id.parse()?, kind, text: kept.text, argument: kept.argument })
    };
    Ok(PolicySource {
        policies: kept.policies,
        agents: kept.agents.into_iter().map(agent).collect::<Result<_>>()?,
        targets: kept.targets.into_iter().map(target).collect::<Result<_>>()?,
        tools: kept.tools.into_iter().map(tool).collect::<Result<_>>()?,
        patterns: kept.patterns.into_iter().map(pattern).collect::<Result<_>>()?,
        humans: kept
            .humans
            .map(|humans| humans.iter().map(|human| Ok(human.parse()?)).collect::<Result<_>>())
            .transpose()?,
    })
}
