//! Loading a bundle, and asking it.
//!
//! A bundle is refused whole with every problem that was found: file, policy, what is wrong, what to do. What
//! loads is validated strictly against our schema; what validation cannot see (an entity that the policy names and the
//! configuration does not know) is an error too, for such a `forbid` would never fire.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Authorizer, Decision, Entities, Policy, PolicySet, Schema, ValidationMode, Validator};
use countersign_model::encoding::Bounded;
use countersign_model::id::{AgentId, Environment, PolicyId, TargetId, ToolName, UpstreamId};
use countersign_model::record::Evaluation;
use countersign_model::verdict::{GATES_MAX, Gate, OBLIGATIONS_MAX, Obligation};
use countersign_model::{Digest, Reason};

use super::annotation::{Complaint, Layer, complaint, id, layer};
use super::schema::{UNBOUND, entities, request, schema_text};
use super::{EvaluationRequest, PolicySource};

/// A loaded policy: immutable, and asked from many threads.
#[derive(Clone, Debug)]
pub struct Bundle {
    ceiling: PolicySet,
    auto: PolicySet,
    gates: BTreeMap<String, Gate>,
    /// O: asked beside the others, and never for whether something may run.
    obliging: PolicySet,
    obligations: BTreeMap<String, Obligation>,
    schema: Schema,
    entities: Entities,
    agents: BTreeSet<AgentId>,
    targets: BTreeMap<TargetId, Environment>,
    tools: BTreeSet<(UpstreamId, ToolName)>,
    hash: Digest,
}

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
    policy: Policy,
    layer: Layer,
}

/// The sets that a bundle asks, while they are filled.
#[derive(Default)]
struct Sets {
    ceiling: PolicySet,
    auto: PolicySet,
    gates: BTreeMap<String, Gate>,
    obliging: PolicySet,
    obligations: BTreeMap<String, Obligation>,
}

impl Sets {
    fn add(&mut self, read: &Read) -> Result<(), String> {
        let policy = || read.policy.clone();
        let failed = |error: cedar_policy::PolicySetError| error.to_string();
        match &read.layer {
            Layer::Obligation(obligation) => {
                self.obligations.insert(read.id.to_string(), obligation.clone());
                return self.obliging.add(policy()).map_err(failed);
            }
            Layer::Gate(gate) => {
                self.gates.insert(read.id.to_string(), gate.clone());
            }
            Layer::Rule => self.ceiling.add(policy()).map_err(failed)?,
        }
        self.auto.add(policy()).map_err(failed)
    }
}

struct Loading<'a> {
    source: &'a PolicySource,
    read: Vec<Read>,
    problems: Vec<PolicyProblem>,
}

impl Bundle {
    /// Loads a bundle.
    ///
    /// # Errors
    /// Every problem that was found.
    pub fn load(source: &PolicySource) -> Result<Self, PolicyLoadError> {
        let mut loading = Loading { source, read: Vec::new(), problems: Vec::new() };
        loading.configuration();
        for (file, text) in &source.policies {
            loading.file(file, text);
        }
        let bundle = loading.bundle();
        match bundle {
            Some(bundle) if loading.problems.is_empty() => Ok(bundle),
            _ => Err(PolicyLoadError { problems: loading.problems }),
        }
    }

    /// Hash over everything that the bundle was made of.
    #[must_use]
    pub const fn hash(&self) -> Digest {
        self.hash
    }

    /// The ids of the policies that demand `obligation`, in order.
    pub fn demanding<'a>(&'a self, obligation: &'a Obligation) -> impl Iterator<Item = &'a str> {
        self.obligations.iter().filter(move |(_, demanded)| *demanded == obligation).map(|(id, _)| id.as_str())
    }

    /// Answers one question. A pure function of the request and the bundle.
    #[must_use]
    pub fn evaluate(&self, asked: &EvaluationRequest) -> Evaluation {
        match self.answer(asked) {
            Ok(evaluation) => evaluation,
            Err(error) => Evaluation {
                ceiling: false,
                auto: false,
                determining: Bounded::default(),
                gates: Vec::new(),
                errors: Bounded::new([error]),
                timed_out: false,
                obligations: Vec::new(),
                obliging: Bounded::default(),
            },
        }
    }

    fn answer(&self, asked: &EvaluationRequest) -> Result<Evaluation, String> {
        if !self.agents.contains(&asked.agent) {
            return Err(format!("the agent `{}` is not known to the policy", asked.agent));
        }
        match self.targets.get(&asked.target) {
            None => return Err(format!("the target `{}` is not known to the policy", asked.target)),
            Some(environment) if *environment != asked.environment => {
                return Err(format!(
                    "the target `{}` is in `{environment}`, not in `{}`",
                    asked.target, asked.environment
                ));
            }
            Some(_) => {}
        }
        let tool = (asked.upstream.clone(), asked.tool.clone());
        let action = if self.tools.contains(&tool) { format!("{}/{}", tool.0, tool.1) } else { UNBOUND.to_owned() };
        let request = request(asked, &action, &self.schema)?;
        let authorizer = Authorizer::new();
        let auto = Answer::of(authorizer.is_authorized(&request, &self.auto, &self.entities));
        // What `auto` allows no forbid of either layer touched, so `ceiling` gives the same answer for the same reasons.
        let ceiling = if auto.allows {
            auto.clone()
        } else {
            Answer::of(authorizer.is_authorized(&request, &self.ceiling, &self.entities))
        };
        let gates: Vec<Gate> = auto.reasons.iter().filter_map(|id| self.gates.get(id)).cloned().collect();
        let obliging = Answer::of(authorizer.is_authorized(&request, &self.obliging, &self.entities));
        let obligations: BTreeSet<Obligation> =
            obliging.reasons.iter().filter_map(|id| self.obligations.get(id)).cloned().collect();
        // An obligation that errs might have been the one that matters.
        let errors = [&auto, &ceiling, &obliging].into_iter().flat_map(|answer| answer.errors.iter().cloned());
        let mut errors: BTreeSet<String> = errors.collect();
        if obligations.len() > OBLIGATIONS_MAX {
            errors.insert(format!("more than {OBLIGATIONS_MAX} obligations fired"));
        }
        if gates.len() > GATES_MAX {
            errors.insert(format!("{} gates fired; at most {GATES_MAX} can be joined", gates.len()));
        }
        Ok(Evaluation {
            ceiling: ceiling.allows,
            auto: auto.allows,
            determining: Bounded::new(ceiling.reasons),
            gates: gates.into_iter().take(GATES_MAX).collect(),
            errors: Bounded::new(errors),
            timed_out: false,
            obligations: obligations.into_iter().take(OBLIGATIONS_MAX).collect(),
            obliging: Bounded::new(obliging.reasons),
        })
    }
}

/// What Cedar said, in order.
#[derive(Clone)]
struct Answer {
    allows: bool,
    reasons: BTreeSet<String>,
    errors: BTreeSet<String>,
}

impl Answer {
    fn of(response: cedar_policy::Response) -> Self {
        let diagnostics = response.diagnostics();
        Self {
            allows: response.decision() == Decision::Allow,
            reasons: diagnostics.reason().map(ToString::to_string).collect(),
            errors: diagnostics
                .errors()
                .map(|error| countersign_model::encoding::clipped(&error.to_string(), Reason::DETAIL_BYTES_MAX))
                .collect(),
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

    fn policy(&mut self, file: &str, policy: &Policy) {
        let annotations: BTreeMap<&str, &str> = policy.annotations().collect();
        let id = match id(&annotations) {
            Ok(id) => id,
            Err(complaint) => {
                let place = format!("number {}", place(policy).saturating_add(1));
                return self.complain(file, Some(&place), complaint);
            }
        };
        if let Some(other) = self.read.iter().find(|other| other.id == id) {
            let twice = complaint(
                format!("`@id(\"{id}\")` is taken by a policy in {}", other.file),
                "give each policy an id of its own",
            );
            return self.complain(file, Some(id.as_str()), twice);
        }
        match layer(&id, policy.effect(), &annotations, self.source.humans.as_deref()) {
            Ok(layer) => self.read.push(Read {
                file: file.to_owned(),
                policy: policy.new_id(cedar_policy::PolicyId::new(id.as_str())),
                id,
                layer,
            }),
            Err(complaint) => self.complain(file, Some(id.as_str()), complaint),
        }
    }

    fn bundle(&mut self) -> Option<Bundle> {
        let schema = match Schema::from_cedarschema_str(&schema_text(self.source)) {
            Ok((schema, _)) => schema,
            Err(error) => return self.internal(&error.to_string()),
        };
        let entities = entities(self.source)
            .and_then(|all| Entities::from_entities(all, Some(&schema)).map_err(|error| error.to_string()));
        let entities = match entities {
            Ok(entities) => entities,
            Err(error) => return self.internal(&error),
        };
        let mut sets = Sets::default();
        for read in &self.read {
            if let Err(error) = sets.add(read) {
                return self.internal(&error);
            }
        }
        let Sets { ceiling, auto, gates, obliging, obligations } = sets;
        self.validate(&schema, &auto);
        self.validate(&schema, &obliging);
        self.literals(&entities);
        Some(Bundle {
            ceiling,
            auto,
            gates,
            obliging,
            obligations,
            schema,
            entities,
            agents: self.source.agents.iter().map(|agent| agent.id.clone()).collect(),
            targets: self.source.targets.iter().map(|target| (target.id.clone(), target.environment.clone())).collect(),
            tools: self.source.tools.iter().map(|def| (def.upstream.clone(), def.tool.clone())).collect(),
            hash: hash(self.source),
        })
    }

    fn internal(&mut self, error: &str) -> Option<Bundle> {
        let cannot = complaint(
            format!("agents, targets and tools make no schema: {error}"),
            "check their names in the configuration",
        );
        self.complain("configuration", None, cannot);
        None
    }

    fn validate(&mut self, schema: &Schema, set: &PolicySet) {
        let result = Validator::new(schema.clone()).validate(set, ValidationMode::Strict);
        let errors = result.validation_errors().map(|error| {
            (error.policy_id().to_string(), error.to_string(), "correct it against the schema in the documentation")
        });
        let warnings = result.validation_warnings().map(|warning| {
            (
                warning.policy_id().to_string(),
                warning.to_string(),
                "a policy that cannot do what it says is refused: correct or remove it",
            )
        });
        let mut found: Vec<_> = errors.chain(warnings).collect();
        found.sort();
        for (policy, problem, remedy) in found {
            let file = self.file_of(&policy);
            let problem = bare(&policy, &problem);
            self.complain(&file, Some(&policy), complaint(problem, remedy));
        }
    }

    fn literals(&mut self, entities: &Entities) {
        let mut unknown = Vec::new();
        for read in &self.read {
            let named: BTreeSet<String> = read
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

    fn file_of(&self, policy: &str) -> String {
        let read = self.read.iter().find(|read| read.id.as_str() == policy);
        read.map_or_else(|| "policy".to_owned(), |read| read.file.clone())
    }
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
    let parts: Vec<&[u8]> = parts.iter().map(String::as_bytes).collect();
    Digest::of("countersign policy v1", &parts)
}
