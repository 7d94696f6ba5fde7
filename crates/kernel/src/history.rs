//! What agents did before: read with every call, changed by every intent, live and at recovery alike.
//!
//! An agent's part outlives its sessions and runs; a run's part (the tool called last, labels of what it was shown) goes
//! with the last of its tokens. Everything is bounded: an agent's hosts and pairs of tools are forgotten oldest first, and
//! what was forgotten is new again, which is the stricter reading. Counters are dropped only when they are zero. It must not
//! know what any of it is good for.
//!
//! A live intent counts from its decision on, before it is on disk. If its record surely never got there, its steps are
//! taken back by taking the others once more from where it stood before the first that is in doubt.

#[cfg(test)]
mod tests;
mod windows;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use countersign_model::facts::{Bound, RUN_LABELS_MAX};
use countersign_model::id::{AgentId, RunId, TargetId, ToolName, UpstreamId};
use countersign_model::record::{Attempt, History, Recent};
use countersign_model::{Action, Digest, Facts, Principal, Seq, TimeMs};
use minicbor::{Decode, Encode};

pub use windows::Windows;

/// The most hosts that are remembered of one agent.
const HOSTS_MAX: usize = 512;
/// The most pairs of tools that are remembered of one agent.
const PAIRS_MAX: usize = 512;
/// The most tools on targets whose counts are remembered of one agent. Only bound tools have counts.
const COUNTS_MAX: usize = 256;
/// The most changes in a row that are told apart.
const ROW_MAX: usize = 32;
/// How long changes stand in a row, in milliseconds.
const ROW_MS: u64 = 10 * 60_000;
/// Labels that a run never loses.
const LASTING: [&str; 2] = ["private", "untrusted"];

/// A text by its hash, so that images hold no names: those may be personal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
struct Key(#[cbor(n(0), with = "minicbor::bytes")] [u8; 16]);

impl Key {
    fn of(domain: &str, parts: &[&str]) -> Self {
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(Digest::of(domain, &parts).0) {
            *to = from;
        }
        Self(short)
    }

    fn of_host(host: &str) -> Self {
        Self::of("countersign known host v1", &[host])
    }

    fn of_pair(first: &str, second: &str) -> Self {
        Self::of("countersign known pair v1", &[first, second])
    }

    fn of_tool(target: &TargetId, tool: &str) -> Self {
        Self::of("countersign counted tool v1", &[target.as_str(), tool])
    }
}

/// What one intent adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Of the record: the order.
    seq: Seq,
    /// Of the record: when it counts.
    at: TimeMs,
    who: Principal,
    target: TargetId,
    tool: String,
    is_change: bool,
    count: Option<u64>,
    hosts: Vec<Key>,
    labels: Vec<String>,
}

impl Step {
    pub(crate) fn of(attempt: &Attempt, seq: Seq, at: TimeMs) -> Self {
        let Attempt { principal, upstream, tool, target, facts, .. } = attempt;
        let bound = facts.bound.as_ref();
        Self {
            seq,
            at,
            who: principal.clone(),
            target: target.clone(),
            tool: spelled(upstream, tool),
            is_change: is_change(facts),
            count: bound.and_then(|bound| bound.count),
            hosts: hosts(bound).map(Key::of_host).collect(),
            labels: bound.map_or_else(Vec::new, |bound| bound.labels.clone()),
        }
    }
}

fn spelled(upstream: &UpstreamId, tool: &ToolName) -> String {
    format!("{upstream}/{tool}")
}

pub(crate) const fn is_change(facts: &Facts) -> bool {
    !facts.effect.is_harmless()
}

/// Where a call would send something.
fn hosts(bound: Option<&Bound>) -> impl Iterator<Item = &str> {
    let all = bound.into_iter().flat_map(|bound| bound.hosts.iter().chain(&bound.recipient_domains));
    all.map(String::as_str)
}

/// What is remembered up to a number, oldest out first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
struct Known(#[n(0)] BTreeMap<Key, Seq>);

impl Known {
    fn has(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    fn note(&mut self, key: Key, seq: Seq, max: usize) {
        self.0.insert(key, seq);
        if self.0.len() > max
            && let Some(oldest) = self.0.iter().min_by_key(|(key, seq)| (**seq, **key)).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
    }
}

/// Changes of one tool on one target that said a count.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Counts {
    /// The last one's.
    #[n(0)]
    count: u64,
    /// When each of the last changes was, up to [`ROW_MAX`], each larger than the one before; the last one is the last.
    #[n(1)]
    row: VecDeque<TimeMs>,
    #[n(2)]
    last: Seq,
}

/// What is remembered of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Past {
    #[n(0)]
    hosts: Known,
    #[n(1)]
    pairs: Known,
    #[n(2)]
    targets: BTreeMap<TargetId, OnTarget>,
    #[n(3)]
    counts: BTreeMap<Key, Counts>,
}

/// Calls of one agent on one target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct OnTarget {
    #[n(0)]
    calls: Windows,
    #[n(1)]
    changes: Windows,
}

/// What is remembered of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct RunPast {
    #[n(0)]
    previous: Option<String>,
    #[n(1)]
    labels: BTreeSet<String>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histories {
    agents: BTreeMap<AgentId, Past>,
    runs: BTreeMap<RunId, RunPast>,
    unsure: Unsure,
}

/// Steps of live intents that are not known to be on disk, and how agents and runs stood before the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unsure {
    steps: VecDeque<(Seq, Step, bool)>,
    agents: BTreeMap<AgentId, Past>,
    runs: BTreeMap<RunId, RunPast>,
}

/// Histories as an image has them.
#[derive(Encode, Decode)]
#[cbor(map)]
pub(crate) struct HistoriesImage {
    #[n(0)]
    agents: BTreeMap<AgentId, Past>,
    #[n(1)]
    runs: BTreeMap<RunId, RunPast>,
}

impl Histories {
    pub(crate) fn image(&self) -> HistoriesImage {
        HistoriesImage { agents: self.agents.clone(), runs: self.runs.clone() }
    }

    pub(crate) fn restore(image: HistoriesImage) -> Self {
        Self { agents: image.agents, runs: image.runs, unsure: Unsure::default() }
    }

    /// Takes the step of an intent that is on disk.
    pub(crate) fn take(&mut self, step: &Step) {
        agent(&mut self.agents, step, &self.runs);
        run(&mut self.runs, step);
    }

    /// Takes the step of the intent of `call`, which may yet fail to be written.
    pub(crate) fn take_unsure(&mut self, call: Seq, step: Step) {
        let (agent, run) = (&step.who.agent, &step.who.run);
        let Unsure { agents, runs, steps } = &mut self.unsure;
        agents.entry(agent.clone()).or_insert_with(|| self.agents.get(agent).cloned().unwrap_or_default());
        runs.entry(run.clone()).or_insert_with(|| self.runs.get(run).cloned().unwrap_or_default());
        steps.push_back((call, step.clone(), false));
        self.take(&step);
    }

    /// The intent of `call` is on disk, or nobody will ever know.
    pub(crate) fn settled(&mut self, call: Seq) {
        let Unsure { agents, runs, steps } = &mut self.unsure;
        if let Some((_, _, is_settled)) = steps.iter_mut().find(|(of, _, _)| *of == call) {
            *is_settled = true;
        }
        while let Some((_, step, _)) = steps.front().filter(|(_, _, is_settled)| *is_settled) {
            agent(agents, step, runs);
            run(runs, step);
            steps.pop_front();
        }
        if steps.is_empty() {
            self.unsure = Unsure::default();
        }
    }

    /// The intent of `call` surely never was on disk.
    pub(crate) fn undo(&mut self, call: Seq) {
        let Some(at) = self.unsure.steps.iter().position(|(of, _, _)| *of == call) else { return };
        self.unsure.steps.remove(at);
        // Pairs of the agent follow from what its runs called last, so all that was unsure is taken again.
        self.agents.extend(self.unsure.agents.clone());
        self.runs.extend(self.unsure.runs.clone());
        let steps: Vec<Step> = self.unsure.steps.iter().map(|(_, step, _)| step.clone()).collect();
        steps.iter().for_each(|step| self.take(step));
        // What no step has touched does not exist.
        self.agents.retain(|_, past| *past != Past::default());
        self.runs.retain(|_, past| *past != RunPast::default());
        self.settled(call);
    }

    /// The run's every token has ended.
    pub(crate) fn forget_run(&mut self, run: &RunId) {
        self.runs.remove(run);
        self.unsure.runs.remove(run);
        if !self.unsure.steps.iter().any(|(_, step, _)| step.who.run == *run) {
            return;
        }
        self.unsure.runs.insert(run.clone(), RunPast::default());
    }

    /// What `action` is told of the past. Leases and calls that are being decided are not known here.
    pub(crate) fn read(&self, action: &Action, now: TimeMs) -> History {
        let Action { principal, upstream, tool, target, facts, .. } = action;
        let (none, no_run) = (Past::default(), RunPast::default());
        let past = self.agents.get(&principal.agent).unwrap_or(&none);
        let run = self.runs.get(&principal.run).unwrap_or(&no_run);
        let tool = spelled(upstream, tool);
        let bound = facts.bound.as_ref();
        let new_hosts: BTreeSet<&str> = hosts(bound).filter(|host| !past.hosts.has(&Key::of_host(host))).collect();
        let on_target = past.targets.get(target);
        let recent =
            |of: fn(&OnTarget) -> &Windows| on_target.map_or_else(Recent::default, |known| of(known).read(now));
        let counts = past.counts.get(&Key::of_tool(target, &tool));
        let count = bound.and_then(|bound| bound.count).filter(|_| is_change(facts));
        History {
            new_hosts: new_hosts.into_iter().map(str::to_owned).collect(),
            new_pair: run.previous.as_ref().is_some_and(|last| !past.pairs.has(&Key::of_pair(last, &tool))),
            previous: run.previous.clone(),
            calls: recent(|known| &known.calls),
            changes: recent(|known| &known.changes),
            growing: counts.zip(count).map_or(0, |(counts, count)| counts.growing(count, now)),
            previous_count: counts.map(|counts| counts.count),
            lease_minutes: None,
            labels: run.labels.iter().cloned().collect(),
        }
    }
}

/// The agent's part of a step. `runs` stand as before it.
fn agent(agents: &mut BTreeMap<AgentId, Past>, step: &Step, runs: &BTreeMap<RunId, RunPast>) {
    let past = agents.entry(step.who.agent.clone()).or_default();
    for host in &step.hosts {
        past.hosts.note(*host, step.seq, HOSTS_MAX);
    }
    if let Some(last) = runs.get(&step.who.run).and_then(|run| run.previous.as_ref()) {
        past.pairs.note(Key::of_pair(last, &step.tool), step.seq, PAIRS_MAX);
    }
    past.targets.retain(|_, known| !known.calls.is_over(step.at));
    let known = past.targets.entry(step.target.clone()).or_default();
    known.calls.add(step.at);
    if step.is_change {
        known.changes.add(step.at);
        if let Some(count) = step.count {
            past.change(step, count);
        }
    }
}

/// The run's part of a step.
fn run(runs: &mut BTreeMap<RunId, RunPast>, step: &Step) {
    let past = runs.entry(step.who.run.clone()).or_default();
    past.previous = Some(step.tool.clone());
    past.labels.extend(step.labels.iter().cloned());
    while past.labels.len() > RUN_LABELS_MAX {
        let last = past.labels.iter().rev().find(|label| !LASTING.contains(&label.as_str())).cloned();
        let Some(last) = last else { return };
        past.labels.remove(&last);
    }
}

impl Past {
    fn change(&mut self, step: &Step, count: u64) {
        let key = Key::of_tool(&step.target, &step.tool);
        let known = self.counts.entry(key).or_insert(Counts { count, row: VecDeque::new(), last: step.seq });
        if count <= known.count {
            known.row.clear();
        }
        known.row.push_back(step.at);
        if known.row.len() > ROW_MAX {
            known.row.pop_front();
        }
        (known.count, known.last) = (count, step.seq);
        if self.counts.len() > COUNTS_MAX
            && let Some(oldest) = self.counts.iter().min_by_key(|(key, c)| (c.last, **key)).map(|(key, _)| *key)
        {
            self.counts.remove(&oldest);
        }
    }
}

impl Counts {
    /// How many changes would stand in a row with one to `count` now; zero where that is not larger.
    fn growing(&self, count: u64, now: TimeMs) -> u64 {
        let recent = self.row.iter().filter(|at| now.since_ms(**at) <= ROW_MS).count();
        if count > self.count && recent > 0 { (recent as u64).saturating_add(1) } else { 0 }
    }
}
