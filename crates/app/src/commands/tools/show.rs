//! A comparison as people and programs see it: a block for each tool, and what looks wrong in what is new.
//!
//! Text of an upstream is shown with everything that a terminal would obey as escapes.

use std::collections::BTreeSet;

use countersign_effects::names::neighbour::{Mentions, Neighbour};
use countersign_effects::names::{self, Flag};
use countersign_model::id::{ToolName, UpstreamId};
use countersign_model::preview::visible;
use serde_json::{Value, json};

use super::compared;
use crate::config::{Config, Upstream};
use crate::terminal::{BAD, FAINT, GOOD, STRONG, WAIT};
use crate::tools::compare::{self, Change, Compared, State};
use crate::tools::lock::{Definition, Lock};
use crate::tools::suspect;

/// What differs of one upstream.
pub(super) struct Shown<'a> {
    upstream: &'a Upstream,
    has_list: bool,
    server: Vec<Change>,
    /// Every tool of either side.
    pub(super) tools: Vec<Judged>,
    /// What looks wrong in what the server says of itself.
    remarks: Vec<String>,
}

/// A tool with what looks wrong in it.
pub(super) struct Judged {
    /// How it stands.
    pub(super) compared: Compared,
    description: Option<String>,
    remarks: Vec<String>,
    /// The signs for which it is held back until it is accepted.
    flags: Vec<Flag>,
}

/// The other upstreams, with the tools that are bound or accepted; the gateway knows what they list besides.
pub(super) fn neighbours(config: &Config, of: &UpstreamId) -> Vec<Neighbour> {
    let others = config.upstreams.iter().filter(|upstream| upstream.id != *of);
    let all = others.map(|upstream| {
        let accepted = super::accepted(&config.folder, &upstream.id).ok().flatten();
        let accepted = accepted.map(|lock| lock.tools.into_keys().collect::<Vec<_>>()).unwrap_or_default();
        let tools: BTreeSet<&ToolName> = upstream.tools.keys().chain(&accepted).collect();
        Neighbour::new(upstream.id.as_str(), tools.into_iter().map(ToolName::as_str))
    });
    all.collect()
}

impl<'a> Shown<'a> {
    /// What differs between the list and what is said now.
    pub(super) fn of(upstream: &'a Upstream, before: Option<&Lock>, now: &Lock, neighbours: &[Neighbour]) -> Self {
        let judged = compared(before, now).into_iter().map(|compared| {
            let definition = now.tools.get(&compared.tool).filter(|_| compared.state != State::Accepted);
            let old = before.and_then(|lock| lock.tools.get(&compared.tool));
            Judged {
                flags: definition.map(|definition| flags(&compared.tool, definition, neighbours)).unwrap_or_default(),
                description: definition.and_then(|definition| definition.text("description")),
                remarks: definition
                    .map(|definition| remarks(&compared.tool, definition, old, neighbours))
                    .unwrap_or_default(),
                compared,
            }
        });
        let server = before.map(|before| compare::server(before, now)).unwrap_or_default();
        let is_new = before.is_none_or(|before| before.server.instructions != now.server.instructions);
        let remarks = if is_new { suspect::in_text(&now.server.instructions) } else { Vec::new() };
        Self { upstream, has_list: before.is_some(), server, tools: judged.collect(), remarks }
    }

    /// Whether anything is not what was accepted.
    pub(super) fn differs(&self) -> bool {
        !self.has_list
            || !self.server.is_empty()
            || self.tools.iter().any(|tool| tool.compared.state != State::Accepted)
    }

    pub(super) fn json(&self) -> Value {
        let change = |change: &Change| json!({"pointer": change.pointer, "was": parsed(change.was.as_ref()), "now": parsed(change.now.as_ref())});
        let tools: Vec<Value> = self
            .tools
            .iter()
            .map(|tool| {
                json!({
                    "tool": tool.compared.tool.as_str(), "state": tool.compared.state.as_str(),
                    "changes": tool.compared.changes.iter().map(change).collect::<Vec<_>>(), "remarks": tool.remarks,
                    "flags": tool.flags.iter().map(|flag| flag.sign.as_str()).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({
            "upstream": self.upstream.id.as_str(), "has_list": self.has_list, "differs": self.differs(),
            "server": self.server.iter().map(change).collect::<Vec<_>>(), "server_remarks": self.remarks, "tools": tools,
        })
    }

    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        if !self.has_list {
            lines.push(format!(
                "{WAIT}no list{WAIT:#}: nothing of `{}` was accepted; the first definition of a tool that runs is the one that counts",
                self.upstream.id
            ));
        }
        for change in &self.server {
            lines.push(format!("{STRONG}server{STRONG:#} {}", visible(&change.pointer)));
            lines.extend(change.lines().iter().map(|line| format!("    {}", visible(line))));
        }
        lines.extend(self.remarks.iter().map(|remark| format!("    {BAD}!{BAD:#} instructions: {remark}")));
        let same = self.tools.iter().filter(|tool| tool.compared.state == State::Accepted).count();
        for tool in self.tools.iter().filter(|tool| tool.compared.state != State::Accepted) {
            lines.extend(tool.lines());
        }
        lines.push(format!("{FAINT}{same} of {} tools are as they were accepted{FAINT:#}", self.tools.len()));
        lines.join("\n")
    }
}

impl Judged {
    fn lines(&self) -> Vec<String> {
        let Compared { tool, state, changes } = &self.compared;
        let style = match state {
            State::Accepted | State::New => GOOD,
            State::Changed => WAIT,
            State::Gone => BAD,
        };
        let held = if self.flags.is_empty() { String::new() } else { format!(" {BAD}held back until accepted{BAD:#}") };
        let mut lines = vec![format!("{style}{}{style:#} {STRONG}{tool}{STRONG:#}{held}", state.as_str())];
        if let Some(text) = self.description.as_ref().filter(|_| *state == State::New) {
            lines.push(format!("    {}", visible(text)));
        }
        for change in changes {
            lines.push(format!("    {FAINT}{}{FAINT:#}", visible(&change.pointer)));
            lines.extend(change.lines().iter().map(|line| format!("        {}", visible(line))));
        }
        lines.extend(self.remarks.iter().map(|remark| format!("    {BAD}!{BAD:#} {}", visible(remark))));
        lines
    }
}

/// What looks wrong in what is new of a tool.
fn remarks(tool: &ToolName, now: &Definition, old: Option<&Definition>, neighbours: &[Neighbour]) -> Vec<String> {
    let of = |definition: &Definition| {
        let mut all = definition.node().map(|node| suspect::remarks(&node)).unwrap_or_default();
        all.extend(shadow(tool, definition, neighbours).map(|flag| flag.to_string()));
        all
    };
    let known: BTreeSet<String> = old.map(of).unwrap_or_default().into_iter().collect();
    of(now).into_iter().filter(|remark| !known.contains(remark)).collect()
}

/// What holds a tool back: what looks wrong in its definition, by itself and beside the tools of others.
pub(super) fn flags(tool: &ToolName, definition: &Definition, neighbours: &[Neighbour]) -> Vec<Flag> {
    let own = definition.node().map(|node| names::of_tool(&node)).unwrap_or_default();
    own.into_iter().chain(shadow(tool, definition, neighbours)).collect()
}

fn shadow(tool: &ToolName, definition: &Definition, neighbours: &[Neighbour]) -> Option<Flag> {
    let mentions = definition.node().map(|node| Mentions::of(&node)).unwrap_or_default();
    neighbours.iter().find_map(|other| other.shadowed(tool.as_str(), &mentions))
}

fn parsed(value: Option<&String>) -> Value {
    value.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}
