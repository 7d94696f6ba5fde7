//! One change of one fact of a question.
//!
//! A step says what it does in the words of policies. It must not know which steps are worth trying.

use std::collections::BTreeSet;

use countersign_kernel::policy::EvaluationRequest;
use countersign_model::facts::{Bound, Certainty, Effect, SqlFacts};
use countersign_model::id::{AgentId, Environment, LeaseName, TargetId, ToolName, UpstreamId};
use countersign_model::record::Recent;

/// One change. Paths are those that policies read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Another effect.
    Effect(Effect),
    /// The call is understood, with this effect.
    Understood(Effect),
    /// An item more in a set.
    With(String, String),
    /// An item less in a set.
    Without(String, String),
    /// Nothing in a set but these.
    Only(String, Vec<String>),
    /// Another number.
    Number(String, u64),
    /// Another flag.
    Flag(String, bool),
    /// An optional attribute is not there.
    Absent(String),
    /// A text of the history: the tool that was called before.
    Previous(String),
    /// Another value of an argument, as JSON: `context.args.` and the name.
    Argument(String, String),
    /// Nobody understands the call.
    Opaque,
    /// Another target.
    Target(TargetId, Environment),
    /// Another tool.
    Tool(UpstreamId, ToolName),
    /// The agent is in this group too.
    Join(String),
    /// The agent is not in this group.
    Leave(String),
    /// Another agent.
    Agent(AgentId),
}

/// A question with the changes made so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trial {
    pub(super) asked: EvaluationRequest,
    pub(super) joins: BTreeSet<String>,
    pub(super) leaves: BTreeSet<String>,
}

impl Trial {
    pub(super) fn new(asked: &EvaluationRequest) -> Self {
        Self { asked: asked.clone(), joins: BTreeSet::new(), leaves: BTreeSet::new() }
    }

    /// Whether the question must be asked of a bundle with other groups.
    pub(super) fn has_other_groups(&self) -> bool {
        !self.joins.is_empty() || !self.leaves.is_empty()
    }
}

impl Step {
    /// What it does, for people: `context.effect is "read"`.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Effect(effect) => format!("context.effect is \"{}\"", effect.as_str()),
            Self::Understood(effect) => format!("the call is understood, as a `{}`", effect.as_str()),
            Self::With(path, item) => format!("{path} also holds \"{item}\""),
            Self::Without(path, item) => format!("{path} does not hold \"{item}\""),
            Self::Only(path, items) if items.is_empty() => format!("{path} is empty"),
            Self::Only(path, items) => {
                let items: Vec<_> = items.iter().map(|item| format!("\"{item}\"")).collect();
                format!("{path} holds {} alone", items.join(", "))
            }
            Self::Number(path, number) => format!("{path} is {number}"),
            Self::Flag(path, flag) => format!("{path} is {flag}"),
            Self::Absent(path) => format!("{path} is absent"),
            Self::Previous(tool) => format!("context.previous_tool is \"{tool}\""),
            Self::Argument(path, value) => format!("{path} is {value}"),
            Self::Opaque => "the call is opaque".to_owned(),
            Self::Target(target, environment) => format!("the target is `{target}` in `{environment}`"),
            Self::Tool(upstream, tool) => format!("the tool is `{upstream}/{tool}`"),
            Self::Join(group) => format!("the agent is in the group `{group}`"),
            Self::Leave(group) => format!("the agent is not in the group `{group}`"),
            Self::Agent(agent) => format!("the agent is `{agent}`"),
        }
    }

    /// What it changes, without what it changes it to where one is as good as another.
    pub(super) fn subject(&self) -> String {
        match self {
            Self::Effect(_) | Self::Understood(_) => "effect".to_owned(),
            Self::Number(path, _) | Self::Argument(path, _) => path.clone(),
            Self::Tool(..) => "tool".to_owned(),
            Self::Agent(_) => "agent".to_owned(),
            other => other.words(),
        }
    }

    /// The order in which steps are tried: facts of the call, where it acts, who acts.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::Effect(_) => 0,
            Self::Understood(_) => 1,
            Self::With(..) | Self::Without(..) | Self::Only(..) => 2,
            Self::Number(..) => 3,
            Self::Flag(..) | Self::Absent(_) | Self::Previous(_) => 4,
            Self::Argument(..) => 5,
            Self::Opaque => 6,
            Self::Target(..) => 7,
            Self::Tool(..) => 8,
            Self::Join(_) | Self::Leave(_) => 9,
            Self::Agent(_) => 10,
        }
    }

    /// Makes the change; does nothing where it means nothing.
    pub(super) fn apply(&self, trial: &mut Trial) {
        let asked = &mut trial.asked;
        match self {
            Self::Effect(effect) => asked.facts.effect = *effect,
            Self::Understood(effect) => {
                asked.facts.effect = *effect;
                asked.facts.certainty = Certainty::Exact;
            }
            Self::Opaque => {
                asked.facts.effect = Effect::Opaque;
                asked.facts.certainty = Certainty::Opaque;
            }
            Self::With(path, item) => edit(asked, path, &mut |items| items.push(item.clone())),
            Self::Without(path, item) => edit(asked, path, &mut |items| items.retain(|other| other != item)),
            Self::Only(path, only) => edit(asked, path, &mut |items| items.retain(|item| only.contains(item))),
            Self::Number(path, number) => set_number(asked, path, *number),
            Self::Flag(path, flag) => set_flag(asked, path, *flag),
            Self::Absent(path) => clear(asked, path),
            Self::Previous(tool) => asked.history.previous = Some(tool.clone()),
            Self::Argument(path, value) => set_argument(asked, path, value),
            Self::Target(target, environment) => {
                (asked.target, asked.environment) = (target.clone(), environment.clone());
            }
            Self::Tool(upstream, tool) => (asked.upstream, asked.tool) = (upstream.clone(), tool.clone()),
            Self::Agent(agent) => asked.agent = agent.clone(),
            Self::Join(group) => drop(trial.joins.insert(group.clone())),
            Self::Leave(group) => drop(trial.leaves.insert(group.clone())),
        }
    }
}

/// Changes a set, and puts it in the order that facts have.
fn edit(asked: &mut EvaluationRequest, path: &str, change: &mut dyn FnMut(&mut Vec<String>)) {
    if path == "context.leases" {
        let mut names: Vec<String> = asked.leases.iter().map(ToString::to_string).collect();
        change(&mut names);
        names.sort();
        names.dedup();
        asked.leases = names.iter().filter_map(|name| LeaseName::new(name).ok()).collect();
        return;
    }
    if let Some(items) = list(asked, path) {
        change(items);
        items.sort();
        items.dedup();
    }
}

fn list<'a>(asked: &'a mut EvaluationRequest, path: &str) -> Option<&'a mut Vec<String>> {
    let facts = &mut asked.facts;
    match path.strip_prefix("context.")? {
        "kinds" => Some(&mut facts.sql.get_or_insert_with(SqlFacts::default).kinds),
        "tables" => Some(&mut facts.sql.get_or_insert_with(SqlFacts::default).tables),
        "functions" => Some(&mut facts.sql.get_or_insert_with(SqlFacts::default).functions),
        "new_hosts" => Some(&mut asked.history.new_hosts),
        "run_labels" => Some(&mut asked.history.labels),
        "hosts" => Some(&mut facts.bound.get_or_insert_with(Bound::default).hosts),
        "paths" => Some(&mut facts.bound.get_or_insert_with(Bound::default).paths),
        "recipient_domains" => Some(&mut facts.bound.get_or_insert_with(Bound::default).recipient_domains),
        "programs" => Some(&mut facts.bound.get_or_insert_with(Bound::default).programs),
        "matched" => Some(&mut facts.bound.get_or_insert_with(Bound::default).matched),
        "labels" => Some(&mut facts.bound.get_or_insert_with(Bound::default).labels),
        _ => None,
    }
}

fn set_number(asked: &mut EvaluationRequest, path: &str, number: u64) {
    let Some(name) = path.strip_prefix("context.") else { return };
    if let Some((which, window)) = name.split_once('.') {
        let recent = match which {
            "calls" => &mut asked.history.calls,
            "changes" => &mut asked.history.changes,
            _ => return,
        };
        return set_window(recent, window, number);
    }
    let small = || u32::try_from(number).unwrap_or(u32::MAX);
    match name {
        "statements" => asked.facts.sql.get_or_insert_with(SqlFacts::default).statements = small(),
        "rows_spelled" => asked.facts.sql.get_or_insert_with(SqlFacts::default).rows_spelled = number,
        "recipients" => asked.facts.bound.get_or_insert_with(Bound::default).recipients = number,
        "amount_micros" => asked.facts.bound.get_or_insert_with(Bound::default).amount_micros = Some(number),
        "count" => asked.facts.bound.get_or_insert_with(Bound::default).count = Some(number),
        "percent_of_current" => {
            let bound = asked.facts.bound.get_or_insert_with(Bound::default);
            bound.count = bound.current.map(|current| part(current, number)).or(bound.count);
        }
        "percent_of_previous" => {
            let previous = asked.history.previous_count;
            let bound = asked.facts.bound.get_or_insert_with(Bound::default);
            bound.count = previous.map(|previous| part(previous, number)).or(bound.count);
        }
        "growing" => asked.history.growing = number,
        "lease_minutes" => asked.history.lease_minutes = Some(number),
        "depth" => asked.depth = small(),
        "token_minutes_left" => {
            asked.token_expires = asked.now.saturating_add_ms(number.saturating_mul(60_000));
        }
        "now_ms" => asked.now.0 = number,
        _ => {}
    }
}

/// As many as are `percent` hundredths of `whole`, rounded down.
fn part(whole: u64, percent: u64) -> u64 {
    let part = u128::from(whole).saturating_mul(u128::from(percent)) / 100;
    u64::try_from(part).unwrap_or(u64::MAX)
}

fn set_window(recent: &mut Recent, window: &str, number: u64) {
    match window {
        "minute" => recent.minute = number,
        "ten_minutes" => recent.ten_minutes = number,
        "hour" => recent.hour = number,
        "day" => recent.day = number,
        _ => {}
    }
}

fn set_flag(asked: &mut EvaluationRequest, path: &str, flag: bool) {
    match path {
        "context.has_where" => asked.facts.sql.get_or_insert_with(SqlFacts::default).has_where = flag,
        "context.new_pair" => asked.history.new_pair = flag,
        "context.sql" if flag => drop(asked.facts.sql.get_or_insert_with(SqlFacts::default)),
        "context.sql" => asked.facts.sql = None,
        _ => {}
    }
}

fn clear(asked: &mut EvaluationRequest, path: &str) {
    match path {
        "context.amount_micros" => drop(asked.facts.bound.as_mut().and_then(|bound| bound.amount_micros.take())),
        "context.count" => drop(asked.facts.bound.as_mut().and_then(|bound| bound.count.take())),
        "context.percent_of_current" => drop(asked.facts.bound.as_mut().and_then(|bound| bound.current.take())),
        "context.percent_of_previous" => asked.history.previous_count = None,
        "context.previous_tool" => asked.history.previous = None,
        "context.lease_minutes" => asked.history.lease_minutes = None,
        _ => {}
    }
}

/// Sets a member of the arguments, where they are an object.
fn set_argument(asked: &mut EvaluationRequest, path: &str, value: &str) {
    let Some(names) = path.strip_prefix("context.args.") else { return };
    let (Ok(mut arguments), Ok(value)) = (
        serde_json::from_slice::<serde_json::Value>(&asked.arguments),
        serde_json::from_str::<serde_json::Value>(value),
    ) else {
        return;
    };
    let mut place = &mut arguments;
    for name in names.split('.') {
        let Some(members) = place.as_object_mut() else { return };
        place = members.entry(name).or_insert(serde_json::Value::Null);
    }
    *place = value;
    asked.arguments = arguments.to_string().into_bytes();
}
