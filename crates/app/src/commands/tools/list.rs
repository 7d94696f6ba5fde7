//! `tools list`: every tool of every upstream, with what the gateway knows of it.

use anyhow::Result;
use countersign_kernel::policy::arguments::ArgumentTypes;
use countersign_model::id::ToolName;
use serde_json::{Value, json};

use super::{accepted, asked, bare, compared};
use crate::config::{Config, Upstream};
use crate::context::Context;
use crate::terminal::{BAD, Exit, FAINT, STRONG};
use crate::tools::compare::{Compared, State};
use crate::tools::lock::Lock;

/// Runs the command.
pub(super) async fn list(offline: bool, context: &Context) -> Result<Exit> {
    // The whole configuration, so that bindings count; a wrong one is named, as everywhere.
    let config = Config::load(&context.layout.config()).or_else(|_| bare(context))?;
    let (mut values, mut lines) = (Vec::new(), Vec::new());
    for upstream in &config.upstreams {
        let before = accepted(&config.folder, &upstream.id)?;
        let (now, unreached) = match offline {
            true => (None, None),
            false => match asked(&config, upstream).await {
                Ok(now) => (Some(now), None),
                Err(error) => (None, Some(format!("{error:#}"))),
            },
        };
        let rows = rows(upstream, before.as_ref(), now.as_ref());
        lines.push(format!("{STRONG}{}{STRONG:#}", upstream.id));
        lines.extend(unreached.iter().map(|error| format!("  {BAD}!{BAD:#} {error}")));
        lines.extend(rows.iter().flat_map(Row::lines));
        values.push(json!({
            "upstream": upstream.id.as_str(), "has_list": before.is_some(), "error": unreached,
            "tools": rows.iter().map(Row::json).collect::<Vec<_>>(),
        }));
    }
    context.out.result(&json!({"upstreams": values}), &lines.join("\n"));
    Ok(Exit::Done)
}

/// One tool.
struct Row {
    tool: ToolName,
    effect: &'static str,
    bound: bool,
    state: &'static str,
    types: ArgumentTypes,
}

fn rows(upstream: &Upstream, before: Option<&Lock>, now: Option<&Lock>) -> Vec<Row> {
    let none = Lock { server: Default::default(), tools: Default::default() };
    let there = now.or(before).unwrap_or(&none);
    let mut rows: Vec<Row> = compared(before, there)
        .into_iter()
        .map(|Compared { tool, state, .. }| {
            let state = match state {
                State::New if before.is_none() => "first use",
                state => state.as_str(),
            };
            row(upstream, before, tool, state)
        })
        .collect();
    let unlisted = upstream.tools.keys().filter(|tool| !there.tools.contains_key(*tool)).cloned();
    let unlisted: Vec<ToolName> = unlisted.filter(|tool| rows.iter().all(|row| row.tool != *tool)).collect();
    let state = if now.is_some() { "not listed" } else { "not asked" };
    rows.extend(unlisted.into_iter().map(|tool| row(upstream, before, tool, state)));
    rows
}

fn row(upstream: &Upstream, before: Option<&Lock>, tool: ToolName, state: &'static str) -> Row {
    let binding = upstream.tools.get(&tool);
    let schema = before.and_then(|lock| lock.tools.get(&tool)).and_then(|tool| tool.member("inputSchema"));
    // Only bound tools have an action of their own, and only what was accepted is typed.
    let schema = schema.filter(|_| binding.is_some());
    let effect = match binding {
        None => "opaque",
        Some(binding) => binding.effect.map_or("by its arguments", |effect| effect.as_str()),
    };
    let types = schema.and_then(|schema| ArgumentTypes::read(&schema).ok()).unwrap_or_default();
    Row { bound: binding.is_some(), tool, effect, state, types }
}

impl Row {
    fn json(&self) -> Value {
        let args = self.types.shown();
        let args: Vec<Value> =
            args.iter().map(|arg| json!({"path": arg.path, "type": arg.kind, "required": arg.required})).collect();
        let left_out = self.types.left_out().iter().map(|left| json!({"path": left.path, "why": left.why}));
        json!({
            "tool": self.tool.as_str(), "effect": self.effect, "bound": self.bound, "state": self.state,
            "args": args, "left_out": left_out.collect::<Vec<_>>(),
        })
    }

    fn lines(&self) -> Vec<String> {
        let bound = if self.bound { "bound" } else { "opaque" };
        let mut lines = vec![format!("  {}  {FAINT}{bound}, {}, {}{FAINT:#}", self.tool, self.effect, self.state)];
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
