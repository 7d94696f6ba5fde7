//! `tools list`: the registry of what is in use: upstreams and how they do, tools, who may call them, and when they were.

use std::collections::BTreeMap;

use anyhow::Result;
use countersign_effects::names::Flag;
use countersign_index::{Filter, Index};
use countersign_kernel::policy::Bundle;
use countersign_kernel::policy::arguments::ArgumentTypes;

use countersign_model::id::{ToolName, UpstreamId};
use serde_json::{Value, json};

use super::{accepted, asked, bare, compared, show};
use crate::compose;
use crate::config::{ALGORITHM, Config, Guards, Transport, Upstream};
use crate::context::{Context, when};
use crate::guards;
use crate::terminal::{BAD, Exit, FAINT, GOOD, STRONG, WAIT};
use crate::token_file::hex;
use crate::tools::compare::{Compared, State};
use crate::tools::lock::{Lock, Server};

/// Runs the command.
pub(super) async fn list(offline: bool, context: &Context) -> Result<Exit> {
    // The whole configuration, so that bindings count; a wrong one is named, as everywhere.
    let config = Config::load(&context.layout.config()).or_else(|_| bare(context))?;
    let known = Known {
        config: &config,
        bundle: compose::bundle(&config).ok(),
        index: crate::commands::query::open(context).ok(),
        states: guards::states(&context.layout),
    };
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    for upstream in &config.upstreams {
        let shown = Shown::of(&known, upstream, offline).await?;
        values.push(shown.json());
        lines.extend(shown.lines());
    }
    context.out.result(&json!({"upstreams": values}), &lines.join("\n"));
    Ok(Exit::Done)
}

/// What is known besides what upstreams say.
struct Known<'a> {
    config: &'a Config,
    /// The policy, where it loads.
    bundle: Option<Bundle>,
    /// The record, where there is one.
    index: Option<Index>,
    /// What a running gateway told of its upstreams.
    states: BTreeMap<String, Value>,
}

/// One upstream.
struct Shown<'a> {
    upstream: &'a Upstream,
    state: Option<Value>,
    has_list: bool,
    unreached: Option<String>,
    server: Server,
    rows: Vec<Row>,
}

impl<'a> Shown<'a> {
    async fn of(known: &Known<'_>, upstream: &'a Upstream, offline: bool) -> Result<Self> {
        let before = accepted(&known.config.folder, &upstream.id)?;
        let (now, unreached) = match offline {
            true => (None, None),
            false => match asked(known.config, upstream).await {
                Ok(now) => (Some(now), None),
                Err(error) => (None, Some(format!("{error:#}"))),
            },
        };
        let server = now.as_ref().or(before.as_ref()).map(|lock| lock.server.clone()).unwrap_or_default();
        let rows = known.rows(upstream, before.as_ref(), now.as_ref());
        let state = known.states.get(upstream.id.as_str()).cloned();
        Ok(Self { upstream, state, has_list: before.is_some(), unreached, server, rows })
    }

    fn json(&self) -> Value {
        let Guards { program, files, limits } = &self.upstream.guards;
        let pinned: BTreeMap<String, String> =
            files.iter().map(|(file, pin)| (file.display().to_string(), format!("{ALGORITHM}{}", hex(pin)))).collect();
        json!({
            "upstream": self.upstream.id.as_str(),
            "transport": match self.upstream.reach.transport { Transport::Stdio { .. } => "stdio", _ => "http" },
            "gateway": self.state, "has_list": self.has_list, "error": self.unreached,
            "server": {"name": self.server.name, "version": self.server.version},
            "pin": program.as_ref().map(|pin| format!("{ALGORITHM}{}", hex(pin))), "pin_files": pinned,
            "limits": limits.words().into_iter().map(|(word, value)| (word.trim_start_matches('-').to_owned(), json!(value))).collect::<serde_json::Map<_, _>>(),
            "tools": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }

    fn lines(&self) -> Vec<String> {
        let Self { upstream, state, server, unreached, .. } = self;
        let said = |name: &str| state.as_ref().and_then(|state| state.get(name)).and_then(Value::as_str);
        let word = said("state").unwrap_or("no gateway runs");
        let style = match word {
            "up" => GOOD,
            "given_up" | "refused" => BAD,
            _ => WAIT,
        };
        let what = [server.name.as_str(), server.version.as_str()].join(" ");
        let pinned = match upstream.guards.program.is_some() || !upstream.guards.files.is_empty() {
            true => ", pinned",
            false => "",
        };
        let named = countersign_model::preview::visible(what.trim());
        let mut lines =
            vec![format!("{STRONG}{}{STRONG:#}  {style}{word}{style:#}  {FAINT}{named}{pinned}{FAINT:#}", upstream.id)];
        lines.extend(said("why").map(|why| format!("  {BAD}!{BAD:#} {}", countersign_model::preview::visible(why))));
        lines.extend(
            unreached.iter().map(|error| format!("  {BAD}!{BAD:#} {}", countersign_model::preview::visible(error))),
        );
        lines.extend(self.rows.iter().flat_map(Row::lines));
        lines
    }
}

/// One tool.
struct Row {
    tool: ToolName,
    effect: &'static str,
    bound: bool,
    state: &'static str,
    types: ArgumentTypes,
    flags: Vec<Flag>,
    /// Who may ever call it, where the policy loads: groups whose every agent may, then agents.
    callers: Option<Vec<String>>,
    /// When it ran last, and for whom.
    last: Option<(u64, String)>,
}

impl Known<'_> {
    fn rows(&self, upstream: &Upstream, before: Option<&Lock>, now: Option<&Lock>) -> Vec<Row> {
        let none = Lock { server: Server::default(), tools: BTreeMap::new() };
        let there = now.or(before).unwrap_or(&none);
        let neighbours = show::neighbours(self.config, &upstream.id);
        let mut rows: Vec<Row> = compared(before, there)
            .into_iter()
            .map(|Compared { tool, state, .. }| {
                let state = match state {
                    State::New if before.is_none() => "first use",
                    state => state.as_str(),
                };
                let definition = there.tools.get(&tool);
                let flags =
                    definition.map(|definition| show::flags(&tool, definition, &neighbours)).unwrap_or_default();
                Row { flags, ..self.row(upstream, before, tool, state) }
            })
            .collect();
        let unlisted = upstream.tools.keys().filter(|tool| !there.tools.contains_key(*tool)).cloned();
        let unlisted: Vec<ToolName> = unlisted.filter(|tool| rows.iter().all(|row| row.tool != *tool)).collect();
        let state = if now.is_some() { "not listed" } else { "not asked" };
        rows.extend(unlisted.into_iter().map(|tool| self.row(upstream, before, tool, state)));
        rows
    }

    fn row(&self, upstream: &Upstream, before: Option<&Lock>, tool: ToolName, state: &'static str) -> Row {
        let binding = upstream.tools.get(&tool);
        let schema = before.and_then(|lock| lock.tools.get(&tool)).and_then(|tool| tool.member("inputSchema"));
        // Only bound tools have an action of their own, and only what was accepted is typed.
        let schema = schema.filter(|_| binding.is_some());
        let effect = match binding {
            None => "opaque",
            Some(binding) => binding.effect.map_or("by its arguments", |effect| effect.as_str()),
        };
        let types = schema.and_then(|schema| ArgumentTypes::read(&schema).ok()).unwrap_or_default();
        let callers = self.callers(upstream, &tool);
        let last = self.last(&upstream.id, &tool);
        Row { bound: binding.is_some(), tool, effect, state, types, flags: Vec::new(), callers, last }
    }

    /// Who may ever call a tool, whatever its arguments.
    fn callers(&self, upstream: &Upstream, tool: &ToolName) -> Option<Vec<String>> {
        let bundle = self.bundle.as_ref()?;
        let target = upstream.tools.get(tool).map_or(&upstream.target, |binding| &binding.target);
        let agents = &self.config.agents;
        let may: Vec<_> = agents.keys().filter(|agent| bundle.may_ever(agent, (&upstream.id, tool), target)).collect();
        let mut groups: BTreeMap<&String, bool> = BTreeMap::new();
        for (agent, of) in agents {
            for group in of {
                *groups.entry(group).or_insert(true) &= may.contains(&agent);
            }
        }
        let whole = |group: &String| groups.get(group) == Some(&true);
        let alone = may.iter().filter(|agent| !agents.get(**agent).is_some_and(|of| of.iter().any(whole)));
        let named = groups.keys().filter(|group| whole(group)).map(|group| format!("group {group}"));
        Some(named.chain(alone.map(ToString::to_string)).collect())
    }

    fn last(&self, upstream: &UpstreamId, tool: &ToolName) -> Option<(u64, String)> {
        let filter = Filter {
            kinds: vec!["intent"],
            upstream: Some(upstream.to_string()),
            tool: Some(tool.to_string()),
            ..Filter::default()
        };
        let answer = self.index.as_ref()?.query(&filter, 1).ok()?;
        let row = answer.rows.into_iter().next()?;
        Some((row.at_ms, row.agent.unwrap_or_default()))
    }
}

impl Row {
    /// Whether a call of it is denied for what looks wrong in it.
    fn is_held(&self) -> bool {
        !self.flags.is_empty() && self.state != State::Accepted.as_str()
    }

    fn json(&self) -> Value {
        let args = self.types.shown();
        let args: Vec<Value> =
            args.iter().map(|arg| json!({"path": arg.path, "type": arg.kind, "required": arg.required})).collect();
        let left_out = self.types.left_out().iter().map(|left| json!({"path": left.path, "why": left.why}));
        let flag = |flag: &Flag| json!({"sign": flag.sign.as_str(), "place": flag.place, "what": flag.what});
        json!({
            "tool": self.tool.as_str(), "effect": self.effect, "bound": self.bound, "state": self.state,
            "flags": self.flags.iter().map(flag).collect::<Vec<_>>(), "held_back": self.is_held(),
            "callers": self.callers,
            "last_use": self.last.as_ref().map(|(at, agent)| json!({"at_ms": at, "agent": agent})),
            "args": args, "left_out": left_out.collect::<Vec<_>>(),
        })
    }

    fn lines(&self) -> Vec<String> {
        let bound = if self.bound { "bound" } else { "opaque" };
        let held = if self.is_held() { format!("  {BAD}held back{BAD:#}") } else { String::new() };
        let mut lines =
            vec![format!("  {}  {FAINT}{bound}, {}, {}{FAINT:#}{held}", self.tool, self.effect, self.state)];
        lines.extend(self.flags.iter().map(|flag| format!("      {BAD}!{BAD:#} {flag}")));
        let callers = self.callers.as_ref().map(|callers| match callers.as_slice() {
            [] => "nobody may call it".to_owned(),
            callers => format!("callers: {}", callers.join(", ")),
        });
        let last = match &self.last {
            Some((at, agent)) => format!("last run {} by {agent}", when(*at)),
            None => "never ran".to_owned(),
        };
        let about: Vec<String> = callers.into_iter().chain([last]).collect();
        lines.push(format!("      {FAINT}{}{FAINT:#}", about.join("; ")));
        for arg in self.types.shown() {
            let mark = if arg.required { "" } else { "?" };
            lines.push(format!("      args{}{mark}: {}", dotted(&arg.path), arg.kind));
        }
        for left in self.types.left_out() {
            lines.push(format!("      {FAINT}not seen: {}: {}{FAINT:#}", left.path.escape_debug(), left.why));
        }
        lines
    }
}

/// A JSON pointer as a policy would write it, where its names are plain.
fn dotted(path: &str) -> String {
    let parts = path.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    parts.map(|part| if plain(&part) { format!(".{part}") } else { format!("[\"{}\"]", part.escape_debug()) }).collect()
}
