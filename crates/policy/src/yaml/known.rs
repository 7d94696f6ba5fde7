//! What the configuration knows: the agents, groups, tools, targets and environments that a policy file may name.
//!
//! A name that nobody knows would make a rule that never holds, and a `deny` that never holds is worse than none. So names
//! are looked up here. It must not know rules.

use std::collections::BTreeSet;

use countersign_kernel::policy::PolicySource;
use countersign_model::method;

/// The names that a policy file may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Tools that are bound: upstream and name.
    pub tools: BTreeSet<(String, String)>,
    /// Agents.
    pub agents: BTreeSet<String>,
    /// Groups of agents.
    pub groups: BTreeSet<String>,
    /// Targets.
    pub targets: BTreeSet<String>,
    /// Environments of targets.
    pub environments: BTreeSet<String>,
    /// Humans; nothing where they are not known.
    pub humans: Option<BTreeSet<String>>,
}

impl Known {
    /// The names of a source of policy.
    #[must_use]
    pub fn of(source: &PolicySource) -> Self {
        let names = |all: &[String]| all.to_vec();
        Self {
            tools: source.tools.iter().map(|def| (def.upstream.to_string(), def.tool.to_string())).collect(),
            agents: source.agents.iter().map(|agent| agent.id.to_string()).collect(),
            groups: source.agents.iter().flat_map(|agent| names(&agent.groups)).collect(),
            targets: source.targets.iter().map(|target| target.id.to_string()).collect(),
            environments: source.targets.iter().map(|target| target.environment.to_string()).collect(),
            humans: source.humans.as_ref().map(|all| all.iter().map(ToString::to_string).collect()),
        }
    }
}

/// A tool, or several, as a file names them: `UPSTREAM/TOOL` or `TOOL`, with `*` for any characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolGlob {
    /// Every way to read it as an upstream and a tool: names may hold slashes.
    pub(crate) readings: Vec<(String, String)>,
    /// Whether it holds a `*`.
    pub(crate) glob: bool,
}

impl ToolGlob {
    pub(crate) fn new(text: &str) -> Self {
        let mut readings: Vec<(String, String)> = text
            .match_indices('/')
            .filter_map(|(at, _)| Some((text.get(..at)?.to_owned(), text.get(at.saturating_add(1)..)?.to_owned())))
            .filter(|(upstream, tool)| !upstream.is_empty() && !tool.is_empty())
            .collect();
        // A bare name of a method has a slash of its own.
        if readings.is_empty() || method::is_name(text) {
            readings.push(("*".to_owned(), text.to_owned()));
        }
        Self { readings, glob: text.contains('*') }
    }

    /// Whether it covers this tool.
    pub(crate) fn covers(&self, upstream: &str, tool: &str) -> bool {
        self.readings.iter().any(|(u, t)| like(u, upstream) && like(t, tool))
    }
}

/// Whether `text` is like `glob`, where `*` stands for any characters.
pub(crate) fn like(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else { return glob == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        match left.find(part) {
            Some(at) => left = left.get(at.saturating_add(part.len())..).unwrap_or(""),
            None => return false,
        }
    }
    left.ends_with(last)
}
