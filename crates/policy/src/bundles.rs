//! Baseline bundles: policies that come with Countersign and are turned on by name.
//!
//! Each is a policy file in our short form with cases that show what it does. They forbid, gate and oblige, and permit
//! next to nothing, so that several can be turned on together. They must not know an installation: environments are
//! production unless their name says otherwise, and no rule names an agent, a tool or a target.

use countersign_model::near::nearest;

use crate::yaml::{Compiled, Known, Problems, compile_as};

/// One bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// Its name, as `policy: [bundle:NAME]` has it.
    pub name: &'static str,
    /// What it is for, in one sentence.
    pub title: &'static str,
    /// Its policy, in YAML.
    pub policy: &'static str,
    /// What it does and does not do, for people.
    pub readme: &'static str,
    /// Cases that show it.
    pub cases: &'static str,
}

macro_rules! baseline {
    ($name:literal, $title:literal) => {
        Baseline {
            name: $name,
            title: $title,
            policy: include_str!(concat!("../bundles/", $name, "/policy.yaml")),
            readme: include_str!(concat!("../bundles/", $name, "/README.md")),
            cases: include_str!(concat!("../bundles/", $name, "/cases.yaml")),
        }
    };
}

/// All bundles.
pub const ALL: [Baseline; 8] = [
    baseline!("read-only", "agents read, and do nothing else"),
    baseline!("database", "SQL: reads run, drops never do in production, the rest of what removes data waits"),
    baseline!("kubernetes", "scaling within bounds, feedback loops cut, removals wait"),
    baseline!("terraform", "applies wait, destroys never run in production"),
    baseline!("shell", "no rm -rf, no curl | sh, no credentials; what escalates, deletes or leaves waits"),
    baseline!("email", "new domains, crowds and bursts wait or are denied"),
    baseline!("payments", "a cap, consent above small change, new payees and bursts wait"),
    baseline!("lethal-trifecta", "no way out for a run with private data and untrusted text"),
];

/// A name that no bundle has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no bundle `{name}`; {help}")]
pub struct UnknownBundle {
    /// The name.
    pub name: String,
    /// What to do.
    pub help: String,
}

/// The bundle of this name.
///
/// # Errors
/// That there is none.
pub fn find(name: &str) -> Result<&'static Baseline, UnknownBundle> {
    ALL.iter().find(|bundle| bundle.name == name).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|bundle| bundle.name).collect();
        let help = nearest(name, names.iter().copied())
            .map_or_else(|| format!("known are {}", names.join(", ")), |near| format!("did you mean `{near}`?"));
        UnknownBundle { name: name.escape_debug().to_string(), help }
    })
}

impl Baseline {
    /// What it is called among policy files.
    #[must_use]
    pub fn file(&self) -> String {
        format!("bundle:{}", self.name)
    }

    /// Compiles it for an installation.
    ///
    /// # Errors
    /// What does not fit the installation; tests see to it that there is nothing.
    pub fn compile(&self, known: &Known) -> Result<Compiled, Problems> {
        compile_as(&self.file(), self.policy, known, true)
    }
}
