//! The policy files that a configuration names: Cedar as it stands, YAML compiled, baseline bundles by name.
//!
//! It reads files and puts together what they say. What their text means is `countersign_policy`'s to know; what the
//! names in them stand for comes from the configuration. It does not load a bundle of Cedar: `compose` does.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use countersign_kernel::BudgetRule;
use countersign_kernel::policy::{PatternDef, PolicySource};
use countersign_policy::yaml::{self, Compiled, Known, Problem};

/// What a name of `policy:` that begins so is: a bundle that comes with Countersign.
const BUNDLE: &str = "bundle:";

/// All policy files together.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    /// Name and Cedar text of each, in order.
    pub(crate) texts: Vec<(String, String)>,
    /// Patterns of all.
    pub(crate) patterns: Vec<PatternDef>,
    /// Limits of all.
    pub(crate) budgets: Vec<BudgetRule>,
    /// Those that were written in YAML, with the text of each.
    pub(crate) compiled: Vec<(Compiled, String)>,
}

impl Policies {
    /// Reads and compiles the files that `policy:` names.
    pub(crate) fn read(names: &[String], folder: &Path, known: &Known) -> Result<Self> {
        if names.is_empty() {
            bail!("`policy` names no file; without a policy everything is denied, so name at least one");
        }
        let mut all = Self::default();
        for name in names {
            if all.texts.iter().any(|(other, _)| other == name) {
                bail!("`policy` names `{name}` twice; remove one");
            }
            all.add(name, folder, known)?;
        }
        all.checked()
    }

    fn add(&mut self, name: &str, folder: &Path, known: &Known) -> Result<()> {
        let (compiled, text) = if let Some(bundle) = name.strip_prefix(BUNDLE) {
            let bundle = countersign_policy::bundles::find(bundle)?;
            (bundle.compile(known)?, bundle.policy.to_owned())
        } else {
            let path = folder.join(name);
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read the policy file `{}`", path.display()))?;
            if !is_yaml(name) {
                self.texts.push((name.to_owned(), text));
                return Ok(());
            }
            (yaml::compile(name, &text, known)?, text)
        };
        self.texts.push((name.to_owned(), compiled.cedar()));
        self.patterns.extend(compiled.patterns.iter().cloned());
        self.budgets.extend(compiled.budgets.iter().cloned());
        self.compiled.push((compiled, text));
        Ok(())
    }

    /// What only all files together can show.
    fn checked(self) -> Result<Self> {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (compiled, _) in &self.compiled {
            for pattern in &compiled.patterns {
                if let Some(other) = owners.insert(pattern.id.as_str(), &compiled.file) {
                    bail!(
                        "the pattern `{}` stands in {other} and in {}; rename one of the two",
                        pattern.id,
                        compiled.file
                    );
                }
            }
        }
        Ok(self)
    }

    /// Warnings of all YAML files, a line each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let of = |compiled: &Compiled| {
            let lines = compiled.warnings.iter().map(|warning: &Problem| yaml::line(&compiled.file, warning));
            lines.collect::<Vec<_>>()
        };
        self.compiled.iter().flat_map(|(compiled, _)| of(compiled)).collect()
    }
}

/// The budgets of the files that a source was compiled from, by their names and texts; nothing where a text is not there
/// or compiles to something else than the source says.
pub(crate) fn budgets(source: &PolicySource, yaml: &[(String, String)]) -> Option<Vec<BudgetRule>> {
    let known = Known::of(source);
    let mut all = Vec::new();
    for (name, cedar) in &source.policies {
        let compiled = match name.strip_prefix(BUNDLE) {
            Some(bundle) => countersign_policy::bundles::find(bundle).ok()?.compile(&known).ok()?,
            None if !is_yaml(name) => continue,
            None => {
                let (_, text) = yaml.iter().find(|(file, _)| file == name)?;
                yaml::compile(name, text, &known).ok()?
            }
        };
        // Its first line holds the hash of the text.
        if compiled.cedar() != *cedar {
            return None;
        }
        all.extend(compiled.budgets);
    }
    Some(all)
}

/// What can be wider by the budgets of policy files: a line for each that went or leaves more.
pub(crate) fn raised(old: Option<&[BudgetRule]>, new: Option<&[BudgetRule]>) -> Vec<String> {
    let Some(old) = old else {
        return vec!["the budgets of the old policy files are not known, so they cannot be compared".to_owned()];
    };
    let is_kept = |old: &BudgetRule| {
        let counts_alike = |new: &BudgetRule| {
            (new.scope, new.window_ms, &new.agents) == (old.scope, old.window_ms, &old.agents) && new.cap <= old.cap
        };
        new.is_some_and(|new| new.iter().any(counts_alike))
    };
    let gone = old.iter().filter(|budget| !is_kept(budget));
    gone.map(|budget| format!("the budget `{}` of the old policy files went or was changed", budget.words())).collect()
}

/// Whether a file of this name is read as YAML.
pub(crate) fn is_yaml(name: &str) -> bool {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ending.eq_ignore_ascii_case("yaml") || ending.eq_ignore_ascii_case("yml"))
}

/// An error with the problems of a policy file drawn into its text, where it has any.
pub(crate) fn drawn(error: &anyhow::Error) -> String {
    match error.chain().find_map(|cause| cause.downcast_ref::<yaml::Problems>()) {
        Some(problems) => format!("`{}` is no policy\n{}", problems.file, problems.drawn(false)),
        None => format!("{error:#}"),
    }
}
