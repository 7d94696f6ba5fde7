//! Loading a bundle.
//!
//! A bundle is refused whole with every problem that was found: file, policy, what is wrong, what to do. What
//! loads is validated strictly against our schema; what validation cannot see (an entity that the policy names and the
//! configuration does not know) is an error too, for such a `forbid` would never fire.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Entities, Policy, PolicySet, Schema};
use countersign_model::Digest;
use countersign_model::id::{PolicyId, ToolName, UpstreamId};

use super::annotation::{Complaint, Layer, complaint, id, layer};
use super::arguments::{ArgumentTypes, Types};
use super::bundle::{Bundle, Known, Loaded};
use super::index::Index;
use super::listing::Listings;
use super::near;
use super::patterns::{self, PatternSet};
use super::rego::{Rego, is_rego};
use super::schema::{UNBOUND, entities, schema_text, uid};
use super::slice::{Rule, Slices};
use super::validate::{Finding, Validated, validate};
use super::{PolicySource, ToolDef};

/// Why a bundle is refused: every problem found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.lines())]
pub struct PolicyLoadError {
    /// The problems, in the order of the files.
    pub problems: Vec<PolicyProblem>,
}

/// One problem of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    /// The file, or what else of the configuration is at fault.
    pub file: String,
    /// The policy, where the problem is in one.
    pub policy: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl PolicyLoadError {
    fn lines(&self) -> String {
        let lines = self.problems.iter().map(|p| {
            let policy = p.policy.as_ref().map_or_else(String::new, |id| format!(", policy `{id}`"));
            format!("{}{policy}: {}; {}", p.file, p.problem, p.remedy)
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// One policy that was read, before its neighbours are known.
struct Read {
    file: String,
    id: PolicyId,
    rule: Rule,
}

struct Loading<'a> {
    source: &'a PolicySource,
    read: Vec<Read>,
    /// Where in the list each id is.
    places: BTreeMap<PolicyId, usize>,
    problems: Vec<PolicyProblem>,
}

impl Bundle {
    /// Loads a bundle, and validates every policy of it.
    ///
    /// # Errors
    /// Every problem that was found.
    pub fn load(source: &PolicySource) -> Result<Self, PolicyLoadError> {
        Self::load_knowing(source, &Validated::default()).map(|(bundle, _)| bundle)
    }

    /// Loads a bundle of which some policies may have been validated before: what `known` vouches for is read and not
    /// validated again. Gives back what vouches for all of it. See [`Validated`] for when a list may be trusted.
    ///
    /// # Errors
    /// Every problem that was found.
    pub fn load_knowing(source: &PolicySource, known: &Validated) -> Result<(Self, Validated), PolicyLoadError> {
        let mut loading = Loading { source, read: Vec::new(), places: BTreeMap::new(), problems: Vec::new() };
        loading.configuration();
        for (file, text) in source.policies.iter().filter(|(file, _)| !is_rego(file)) {
            loading.file(file, text);
        }
        let rego = loading.rego();
        let loaded = loading.bundle(rego, known);
        match loaded {
            Some(loaded) if loading.problems.is_empty() => Ok(loaded),
            _ => Err(PolicyLoadError { problems: loading.problems }),
        }
    }
}

impl Loading<'_> {
    fn complain(&mut self, file: &str, policy: Option<&str>, complaint: Complaint) {
        self.problems.push(PolicyProblem {
            file: file.to_owned(),
            policy: policy.map(str::to_owned),
            problem: complaint.problem,
            remedy: complaint.remedy,
        });
    }

    /// What must be unique in the configuration.
    fn configuration(&mut self) {
        let source = self.source;
        let agents = source.agents.iter().map(|agent| format!("the agent `{}`", agent.id));
        let targets = source.targets.iter().map(|target| format!("the target `{}`", target.id));
        let tools = source.tools.iter().map(|def| format!("the tool `{}/{}`", def.upstream, def.tool));
        let mut seen = BTreeSet::new();
        for what in agents.chain(targets).chain(tools) {
            if !seen.insert(what.clone()) {
                let twice = complaint(format!("{what} stands there twice"), "remove or rename one of them");
                self.complain("configuration", None, twice);
            }
        }
        for def in &source.tools {
            if let Some(Err(why)) = def.input_schema.as_deref().map(ArgumentTypes::read) {
                let problem = format!("the schema of the tool `{}/{}` cannot be read: {why}", def.upstream, def.tool);
                self.complain("configuration", None, complaint(problem, "accept the tool anew"));
            }
        }
        for alike in near::alike(source) {
            self.complain("configuration", None, alike);
        }
    }

    /// The compiled patterns; none where one cannot be read, which is a problem of the bundle.
    fn patterns(&mut self) -> PatternSet {
        PatternSet::load(&self.source.patterns).unwrap_or_else(|errors| {
            for error in errors {
                self.complain("patterns", Some(&error.id), complaint(error.problem, error.remedy));
            }
            PatternSet::default()
        })
    }

    fn file(&mut self, file: &str, text: &str) {
        let set = match PolicySet::from_str(text) {
            Ok(set) => set,
            Err(error) => {
                let causes: Vec<String> = error.iter().map(ToString::to_string).collect();
                let detailed = DetailedError::from(&error);
                let line = detailed.source_locations.first().map_or(1, |label| line_of(text, label.loc.start));
                let problem = format!("line {line} cannot be read: {}", causes.join(", "));
                let unread = complaint(problem, "correct the Cedar syntax");
                return self.complain(file, None, unread);
            }
        };
        for template in set.templates() {
            let name = template.annotation("id").unwrap_or("without an id").to_owned();
            let slots = complaint("templates with slots are not supported", "write the entity in place of the slot");
            self.complain(file, Some(&name), slots);
        }
        // Cedar numbers policies by their place in the file; a set gives them in any order.
        let mut policies: Vec<&Policy> = set.policies().collect();
        policies.sort_by_key(|policy| place(policy));
        for policy in policies {
            self.policy(file, policy);
        }
    }

    fn rego(&mut self) -> Option<Rego> {
        let all = self.source.policies.iter().filter(|(file, _)| is_rego(file));
        let files: Vec<(&str, &str)> = all.map(|(file, text)| (file.as_str(), text.as_str())).collect();
        match Rego::load(&files) {
            Ok(rego) => rego,
            Err((file, complaint)) => {
                self.complain(&file, None, complaint);
                None
            }
        }
    }

    fn policy(&mut self, file: &str, policy: &Policy) {
        let annotations: BTreeMap<&str, &str> = policy.annotations().collect();
        let id = match id(&annotations) {
            Ok(id) => id,
            Err(complaint) => {
                let place = format!("number {}", place(policy).saturating_add(1));
                return self.complain(file, Some(&place), complaint);
            }
        };
        if let Some(other) = self.read_as(&id) {
            let twice = complaint(
                format!("`@id(\"{id}\")` is taken by a policy in {}", other.file),
                "give each policy an id of its own",
            );
            return self.complain(file, Some(id.as_str()), twice);
        }
        match layer(&id, policy.effect(), &annotations, self.source.humans.as_deref()) {
            Ok(layer) => {
                let policy = policy.new_id(cedar_policy::PolicyId::new(id.as_str()));
                self.places.insert(id.clone(), self.read.len());
                self.read.push(Read { file: file.to_owned(), id, rule: Rule { policy, layer } });
            }
            Err(complaint) => self.complain(file, Some(id.as_str()), complaint),
        }
    }

    fn bundle(&mut self, rego: Option<Rego>, known: &Validated) -> Option<(Bundle, Validated)> {
        let made = Schema::from_cedarschema_str(&schema_text(self.source))
            .map(|(schema, _)| schema)
            .map_err(|error| error.to_string())
            .and_then(|schema| {
                let all = entities(self.source)?;
                let entities = Entities::from_entities(all, Some(&schema)).map_err(|error| error.to_string())?;
                Ok((schema, entities))
            });
        let (schema, entities) = match made {
            Ok(made) => made,
            Err(error) => return self.internal(&error),
        };
        let policies: Vec<&Policy> = self.read.iter().map(|read| &read.rule.policy).collect();
        let (validated, findings) = match validate(self.source, (&policies, &schema), known) {
            Ok(found) => found,
            Err(error) => return self.internal(&error),
        };
        self.found(findings);
        self.literals(&entities);
        let patterns = self.patterns();
        match assembled(self.source, std::mem::take(&mut self.read), (schema, entities, patterns, rego)) {
            Ok(bundle) => Some((bundle, validated)),
            Err(error) => self.internal(&error),
        }
    }

    fn internal<T>(&mut self, error: &str) -> Option<T> {
        let cannot = complaint(
            format!("agents, targets and tools make no schema: {error}"),
            "check their names in the configuration",
        );
        self.complain("configuration", None, cannot);
        None
    }

    fn found(&mut self, findings: BTreeSet<Finding>) {
        for Finding { policy, problem, remedy } in findings {
            let file = self.file_of(&policy);
            let problem = bare(&policy, &problem);
            self.complain(&file, Some(&policy), complaint(problem, remedy));
        }
    }

    fn literals(&mut self, entities: &Entities) {
        let mut unknown = Vec::new();
        for read in &self.read {
            let named: BTreeSet<String> = read
                .rule
                .policy
                .entity_literals()
                .into_iter()
                .filter(|uid| {
                    ["Agent", "AgentGroup", "Target", "Environment"].contains(&uid.type_name().to_string().as_str())
                })
                .filter(|uid| entities.get(uid).is_none())
                .map(|uid| uid.to_string())
                .collect();
            unknown.extend(named.into_iter().map(|name| (read.file.clone(), read.id.to_string(), name)));
        }
        for (file, policy, name) in unknown {
            let remedy = "add it to the configuration, or correct the name";
            let problem = format!("it names `{name}`, which the configuration does not know");
            self.complain(&file, Some(&policy), complaint(problem, remedy));
        }
    }

    fn read_as(&self, id: &PolicyId) -> Option<&Read> {
        self.read.get(*self.places.get(id)?)
    }

    fn file_of(&self, policy: &str) -> String {
        let read = PolicyId::new(policy).ok().and_then(|id| self.read_as(&id));
        read.map_or_else(|| "policy".to_owned(), |read| read.file.clone())
    }
}

/// The bundle of what was read.
fn assembled(
    source: &PolicySource,
    read: Vec<Read>,
    (schema, entities, patterns, rego): (Schema, Entities, PatternSet, Option<Rego>),
) -> Result<Bundle, String> {
    let rules: Vec<Rule> = read.into_iter().map(|read| read.rule).collect();
    let index = Index::of(rules.iter().map(|rule| &rule.policy));
    let mut numbers = 0_u32..;
    let mut known = |kind: &str, id: &str| {
        let uid = uid(kind, id)?;
        let look = index.look(&uid, &entities);
        let number = numbers.next().ok_or("there are too many entities")?;
        Ok::<Known, String>(Known { number, uid, look })
    };
    let agents = source.agents.iter().map(|agent| Ok((agent.id.clone(), known("Agent", agent.id.as_str())?)));
    let agents = agents.collect::<Result<_, String>>()?;
    let targets = source
        .targets
        .iter()
        .map(|target| Ok((target.id.clone(), (target.environment.clone(), known("Target", target.id.as_str())?))));
    let targets = targets.collect::<Result<_, String>>()?;
    let mut tools: BTreeMap<UpstreamId, BTreeMap<ToolName, Known>> = BTreeMap::new();
    for ToolDef { upstream, tool, .. } in &source.tools {
        let known = known("Action", &format!("{upstream}/{tool}"))?;
        tools.entry(upstream.clone()).or_default().insert(tool.clone(), known);
    }
    let unbound = known("Action", UNBOUND)?;
    let mut gates = BTreeMap::new();
    let mut obligations = BTreeMap::new();
    for Rule { policy, layer } in &rules {
        match layer {
            Layer::Rule => {}
            Layer::Gate(gate) => drop(gates.insert(policy.id().to_string(), gate.clone())),
            Layer::Obligation(obligation) => drop(obligations.insert(policy.id().to_string(), obligation.clone())),
        }
    }
    let loaded = Loaded {
        rules,
        index,
        gates,
        obligations,
        schema,
        entities,
        agents,
        targets,
        tools,
        unbound,
        arguments: Types::of(source),
        patterns,
        rego,
        hash: hash(source),
        slices: Slices::default(),
        listings: Listings::default(),
        whole: OnceLock::new(),
    };
    Ok(Bundle(Arc::new(loaded)))
}

/// The line of a byte offset, counted from one.
fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count().saturating_add(1)
}

/// What validation said, without the policy's name, which stands before it already.
fn bare(policy: &str, said: &dyn std::fmt::Display) -> String {
    let said = said.to_string();
    let prefix = format!("for policy `{policy}`, ");
    said.strip_prefix(&prefix).map_or(said.clone(), str::to_owned)
}

/// The place of a policy in its file, from the name that the parser gave it.
fn place(policy: &Policy) -> u64 {
    let name = policy.id().to_string();
    name.strip_prefix("policy").and_then(|n| n.parse().ok()).unwrap_or(u64::MAX)
}

/// The hash over all that the bundle was made of. Lists begin with their length, so that none can run into the next.
fn hash(source: &PolicySource) -> Digest {
    let mut parts: Vec<String> = vec![schema_text(source)];
    parts.push(source.policies.len().to_string());
    for (file, text) in &source.policies {
        parts.extend([file.clone(), text.clone()]);
    }
    let mut agents = source.agents.clone();
    agents.sort_by(|a, b| a.id.cmp(&b.id));
    parts.push(agents.len().to_string());
    for agent in agents {
        let groups: BTreeSet<String> = agent.groups.into_iter().collect();
        parts.extend([agent.id.to_string(), groups.len().to_string()]);
        parts.extend(groups);
    }
    let mut targets = source.targets.clone();
    targets.sort_by(|a, b| a.id.cmp(&b.id));
    parts.push(targets.len().to_string());
    for target in targets {
        parts.extend([target.id.to_string(), target.environment.to_string()]);
    }
    if let Some(humans) = &source.humans {
        let humans: BTreeSet<String> = humans.iter().map(ToString::to_string).collect();
        parts.push(humans.len().to_string());
        parts.extend(humans);
    }
    parts.extend(patterns::hashed(&source.patterns));
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    Digest::of("countersign policy v1", &parts)
}
