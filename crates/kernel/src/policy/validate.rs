//! Strict validation that scales: each policy against the least schema that says the same of it.
//!
//! Cedar checks a policy once for every action of the schema, which is most of what loading costs. Two actions of one
//! declaration (the same group, the same context) differ only where a policy names one of them. So a policy is checked
//! against the actions that it names and one of each declaration besides; a policy whose scope names nothing but bound
//! tools, against these alone, for of every other action its scope is plainly false. What fails there is checked again
//! against the whole schema, so that people read what Cedar says of their configuration.
//!
//! What passed can be handed back as [`Validated`] and is then not checked again. A list that lies lets a policy in that
//! strict validation would refuse. Most of what validation finds is an error when the policy is asked, and errors deny;
//! but a `forbid` that compares a text with a number never fires and never errs. So the list is for loading what a human
//! has accepted already: whoever signs for a policy must have validated it without one, and whoever keeps a list keeps it
//! under a key. It must not know layers, files or keys.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{ActionConstraint, Policy, PolicySet, Schema, ValidationMode, Validator};
use countersign_model::Digest;

use super::schema::schema_text;
use super::{PolicySource, ToolDef};

#[cfg(test)]
mod tests;

/// Up to so many tools nothing is gained by a smaller schema.
const TOOLS_WHOLE_MAX: usize = 8;

/// Policies that passed strict validation, each with the schema that it passed under. Plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validated(BTreeSet<Digest>);

impl Validated {
    /// How many policies it vouches for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it vouches for none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it vouches for what `digest` stands for.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.0.contains(digest)
    }

    /// All that it holds, in order: 32 bytes each.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.0.iter()
    }
}

impl FromIterator<Digest> for Validated {
    fn from_iter<T: IntoIterator<Item = Digest>>(digests: T) -> Self {
        Self(digests.into_iter().collect())
    }
}

/// What is wrong with one policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    pub(super) policy: String,
    pub(super) problem: String,
    pub(super) remedy: &'static str,
}

/// Actions of the configuration, by the names that policies use.
struct Actions<'a> {
    by_name: BTreeMap<String, &'a ToolDef>,
    /// The first tool of each declaration.
    first_of_each: BTreeSet<String>,
}

/// Validates `policies`; those that `known` vouches for are passed over. What passed, and what did not.
///
/// # Errors
/// Where agents, targets and tools make no schema.
pub(super) fn validate(
    source: &PolicySource,
    (policies, full): (&[&Policy], &Schema),
    known: &Validated,
) -> Result<(Validated, BTreeSet<Finding>), String> {
    let actions = Actions::of(source);
    let mut groups: BTreeMap<BTreeSet<String>, Vec<&Policy>> = BTreeMap::new();
    for policy in policies {
        groups.entry(actions.needed(policy)).or_default().push(policy);
    }
    let mut passed = BTreeSet::new();
    let mut findings = BTreeSet::new();
    for (needed, policies) in groups {
        let text = actions.schema(&needed);
        let schema = Digest::of("countersign policy schema v1", &[text.as_bytes()]);
        let certified: Vec<(Digest, &Policy)> =
            policies.iter().map(|policy| (digest(&schema, policy), *policy)).collect();
        passed.extend(certified.iter().map(|(digest, _)| *digest));
        let unknown: Vec<&Policy> =
            certified.iter().filter(|(digest, _)| !known.contains(digest)).map(|(_, policy)| *policy).collect();
        if unknown.is_empty() {
            continue;
        }
        let (schema, _) = Schema::from_cedarschema_str(&text).map_err(|error| error.to_string())?;
        findings.extend(explained(checked(&unknown, &schema)?, &unknown, full)?);
    }
    // A bundle with findings does not load, so what it would vouch for does not matter.
    Ok((Validated(passed), findings))
}

/// The findings in the words of the whole schema. Should that find nothing, what was found stands.
fn explained(found: BTreeSet<Finding>, policies: &[&Policy], full: &Schema) -> Result<BTreeSet<Finding>, String> {
    if found.is_empty() {
        return Ok(found);
    }
    let failed: Vec<&Policy> = policies
        .iter()
        .filter(|policy| found.iter().any(|finding| finding.policy == policy.id().to_string()))
        .copied()
        .collect();
    let whole = checked(&failed, full)?;
    let named: BTreeSet<&String> = whole.iter().map(|finding| &finding.policy).collect();
    let left = found.iter().filter(|finding| !named.contains(&finding.policy)).cloned().collect::<Vec<_>>();
    Ok(whole.iter().cloned().chain(left).collect())
}

/// What Cedar finds: errors, and warnings too.
fn checked(policies: &[&Policy], schema: &Schema) -> Result<BTreeSet<Finding>, String> {
    let mut set = PolicySet::new();
    for policy in policies {
        set.add((*policy).clone()).map_err(|error| error.to_string())?;
    }
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let errors = result.validation_errors().map(|error| Finding {
        policy: error.policy_id().to_string(),
        problem: error.to_string(),
        remedy: "correct it against the schema in the documentation",
    });
    let warnings = result.validation_warnings().map(|warning| Finding {
        policy: warning.policy_id().to_string(),
        problem: warning.to_string(),
        remedy: "a policy that cannot do what it says is refused: correct or remove it",
    });
    Ok(errors.chain(warnings).collect())
}

/// What stands for "this text passed under this schema, as this Cedar validates".
fn digest(schema: &Digest, policy: &Policy) -> Digest {
    let cedar = cedar_policy::get_sdk_version().to_string();
    let id = policy.id().to_string();
    let text = policy.to_string();
    let parts: [&[u8]; 4] = [cedar.as_bytes(), &schema.0, id.as_bytes(), text.as_bytes()];
    Digest::of("countersign validated v1", &parts)
}

impl<'a> Actions<'a> {
    fn of(source: &'a PolicySource) -> Self {
        let by_name: BTreeMap<String, &ToolDef> =
            source.tools.iter().map(|def| (format!("{}/{}", def.upstream, def.tool), def)).collect();
        let mut first: BTreeMap<Digest, String> = BTreeMap::new();
        for (name, def) in &by_name {
            first.entry(declaration(def, source)).or_insert_with(|| name.clone());
        }
        Self { by_name, first_of_each: first.into_values().collect() }
    }

    /// The tools that must be in the schema which `policy` is checked against.
    fn needed(&self, policy: &Policy) -> BTreeSet<String> {
        if self.by_name.len() <= TOOLS_WHOLE_MAX {
            return self.by_name.keys().cloned().collect();
        }
        let named: BTreeSet<String> = policy
            .entity_literals()
            .iter()
            .filter(|uid| uid.type_name().basename() == "Action")
            .map(|uid| uid.id().unescaped().to_owned())
            .filter(|name| self.by_name.contains_key(name))
            .collect();
        let is_tool = |uid: &cedar_policy::EntityUid| self.by_name.contains_key(uid.id().unescaped());
        let is_pinned = match policy.action_constraint() {
            ActionConstraint::Any => false,
            ActionConstraint::Eq(uid) => is_tool(&uid),
            ActionConstraint::In(uids) => !uids.is_empty() && uids.iter().all(is_tool),
        };
        if is_pinned { named } else { named.union(&self.first_of_each).cloned().collect() }
    }

    /// The schema of a configuration that has these tools and no others.
    fn schema(&self, needed: &BTreeSet<String>) -> String {
        let tools = needed.iter().filter_map(|name| self.by_name.get(name)).map(|def| (*def).clone()).collect();
        schema_text(&PolicySource { tools, ..PolicySource::default() })
    }
}

/// What a tool's declaration says, but for its name: the schema of a configuration where another has it.
fn declaration(def: &ToolDef, source: &PolicySource) -> Digest {
    let named = source.tools.first().unwrap_or(def);
    let tool = ToolDef { upstream: named.upstream.clone(), tool: named.tool.clone(), ..def.clone() };
    let text = schema_text(&PolicySource { tools: vec![tool], ..PolicySource::default() });
    Digest::of("countersign policy schema v1", &[text.as_bytes()])
}
