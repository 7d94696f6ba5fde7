//! The question that a case asks: what it states, over what the bindings say, over nothing.
//!
//! Arguments go through the same parsers as a call's do. What a case states of facts wins over what follows from its
//! arguments, so that a rule can be tested on facts that are hard to spell.

use countersign_effects::json::{self, Limits};
use countersign_effects::{Binding, facts, sql};
use countersign_kernel::policy::EvaluationRequest;
use countersign_model::action::Point;
use countersign_model::facts::Bound;
use countersign_model::id::{AgentId, Environment, LeaseName, TargetId, ToolName, UpstreamId};
use countersign_model::record::{History, Recent};
use countersign_model::unit::micros;
use countersign_model::{Effect, Facts, SqlFacts, TimeMs};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Setting, Upstream, raw, unknown};

/// When a case happens that does not say: 2026-01-01, noon, UTC.
const NOON: TimeMs = TimeMs(1_767_268_800_000);
const TOKEN_MINUTES: u64 = 12 * 60;

/// The question of a case.
pub(super) fn asked(case: &raw::Case, setting: &Setting<'_>) -> Result<EvaluationRequest, String> {
    let action = &case.action;
    let (upstream, tool) = tool(action, setting)?;
    let declared = setting.upstreams.get(&upstream);
    let binding = declared.and_then(|declared| declared.tools.get(&tool));
    let (target, environment) = place(action, declared, binding, setting)?;
    let (known, arguments) = known(case, binding)?;
    let now = action.now.as_deref().map_or(Ok(NOON), instant)?;
    let token_ms = action.token_minutes_left.unwrap_or(TOKEN_MINUTES).checked_mul(60_000);
    let mut leases =
        action.leases.iter().map(|name| LeaseName::new(name)).collect::<Result<Vec<_>, _>>().map_err(text)?;
    leases.sort();
    Ok(EvaluationRequest {
        agent: agent(&action.agent, setting)?,
        depth: action.depth,
        point: Point::Mcp,
        upstream,
        tool,
        target,
        environment,
        facts: known,
        leases,
        token_expires: TimeMs(token_ms.and_then(|ms| now.0.checked_add(ms)).ok_or("`token_minutes_left` is too many")?),
        now,
        history: case.history.as_ref().map_or_else(History::default, history),
        arguments,
    })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn agent(name: &str, setting: &Setting<'_>) -> Result<AgentId, String> {
    let known = || setting.source.agents.iter().map(|agent| agent.id.as_str());
    if known().all(|id| id != name) {
        return Err(unknown("agent", name, known()));
    }
    AgentId::new(name).map_err(text)
}

fn tool(action: &raw::Action, setting: &Setting<'_>) -> Result<(UpstreamId, ToolName), String> {
    let (upstream, tool) = action.tool.split_once('/').ok_or_else(|| {
        format!("`tool: {}` names no upstream; write UPSTREAM/TOOL, such as `tools/query`", action.tool)
    })?;
    let bound: Vec<String> = setting.source.tools.iter().map(|def| format!("{}/{}", def.upstream, def.tool)).collect();
    let is_bound = bound.contains(&action.tool);
    if action.unbound == is_bound {
        return Err(if is_bound {
            format!("the tool `{}` has a binding; remove `unbound`", action.tool)
        } else {
            let known = unknown("tool", &action.tool, bound.iter().map(String::as_str));
            format!("{known}, or say `unbound: true` where the case is about a tool without a binding")
        });
    }
    let id = UpstreamId::new(upstream).map_err(text)?;
    if !setting.upstreams.contains_key(&id) {
        return Err(unknown("upstream", upstream, setting.upstreams.keys().map(UpstreamId::as_str)));
    }
    Ok((id, ToolName::new(tool).map_err(text)?))
}

/// Target and environment: of the case, of the binding, of the upstream.
fn place(
    action: &raw::Action,
    declared: Option<&Upstream>,
    binding: Option<&Binding>,
    setting: &Setting<'_>,
) -> Result<(TargetId, Environment), String> {
    let target = match (&action.target, binding, declared) {
        (Some(name), ..) => TargetId::new(name).map_err(text)?,
        (None, Some(binding), _) => binding.target.clone(),
        (None, None, Some(upstream)) => upstream.target.clone(),
        (None, None, None) => return Err("no target is known; say `target`".to_owned()),
    };
    let targets = || setting.source.targets.iter();
    let def = targets()
        .find(|def| def.id == target)
        .ok_or_else(|| unknown("target", target.as_str(), targets().map(|def| def.id.as_str())))?;
    match &action.environment {
        Some(said) if said != def.environment.as_str() => {
            Err(format!("the target `{target}` is in `{}`, not in `{said}`; correct one of the two", def.environment))
        }
        _ => Ok((target, def.environment.clone())),
    }
}

/// The facts, and the canonical arguments.
fn known(case: &raw::Case, binding: Option<&Binding>) -> Result<(Facts, Vec<u8>), String> {
    let none = raw::Facts::default();
    let said = case.facts.as_ref().unwrap_or(&none);
    let mut arguments = Vec::new();
    let mut known = None;
    if let Some(value) = &case.arguments {
        let spelled = value.to_string().into_bytes();
        let node = json::parse(&spelled, &Limits::default()).map_err(text)?;
        arguments = json::canonical(&node, &spelled);
        known = Some(facts(binding, &node, &spelled));
    }
    if let Some(query) = &said.sql {
        known = Some(of_sql(query, binding));
    }
    let declared = binding.and_then(|binding| binding.effect);
    let effect = case.action.effect.as_deref().map(str::parse::<Effect>).transpose().map_err(text)?;
    let mut known = match (known, effect.or(declared)) {
        (Some(known), _) => known,
        (None, Some(effect)) => Facts::declared(effect),
        (None, None) => Facts::opaque("the case says neither arguments, nor SQL, nor an effect"),
    };
    if said.opaque {
        known = Facts::opaque("the case says so");
    }
    if let Some(effect) = effect {
        known.effect = effect;
    }
    stated(said, &mut known)?;
    Ok((known, arguments))
}

/// The facts of a SQL text, in the one dialect that is understood.
fn of_sql(query: &str, binding: Option<&Binding>) -> Facts {
    let least = binding.and_then(|binding| binding.effect);
    match sql::sqlite(query) {
        Ok((effect, sql)) => {
            Facts { sql: Some(sql), ..Facts::declared(least.map_or(effect, |least| least.max(effect))) }
        }
        Err(opaque) => Facts::opaque(&opaque.because),
    }
}

/// Writes what the case states over what is known.
fn stated(said: &raw::Facts, known: &mut Facts) -> Result<(), String> {
    let names_sql = [&said.kinds, &said.tables, &said.functions].iter().any(|list| list.is_some());
    if names_sql || said.has_where.is_some() || said.rows_spelled.is_some() {
        let plain = || SqlFacts { dialect: "sqlite".to_owned(), statements: 1, has_where: true, ..SqlFacts::default() };
        let sql = known.sql.get_or_insert_with(plain);
        list(said.kinds.as_deref(), &mut sql.kinds);
        list(said.tables.as_deref(), &mut sql.tables);
        list(said.functions.as_deref(), &mut sql.functions);
        sql.has_where = said.has_where.unwrap_or(sql.has_where);
        sql.rows_spelled = said.rows_spelled.unwrap_or(sql.rows_spelled);
    }
    let mut bound = known.bound.clone().unwrap_or_default();
    list(said.hosts.as_deref(), &mut bound.hosts);
    list(said.paths.as_deref(), &mut bound.paths);
    list(said.recipient_domains.as_deref(), &mut bound.recipient_domains);
    list(said.programs.as_deref(), &mut bound.programs);
    list(said.matched.as_deref(), &mut bound.matched);
    list(said.labels.as_deref(), &mut bound.labels);
    bound.recipients = said.recipients.unwrap_or(bound.recipients);
    bound.count = said.count.or(bound.count);
    bound.current = said.current.or(bound.current);
    if let Some(amount) = &said.amount {
        bound.amount_micros = Some(self::amount(amount)?);
    }
    if bound != Bound::default() {
        known.bound = Some(bound);
    }
    Ok(())
}

/// A stated list, in the order that facts have.
fn list(said: Option<&[String]>, into: &mut Vec<String>) {
    if let Some(said) = said {
        *into = sorted(said);
    }
}

fn sorted(said: &[String]) -> Vec<String> {
    let mut all = said.to_vec();
    all.sort();
    all.dedup();
    all
}

fn history(said: &raw::History) -> History {
    let recent = |said: &raw::Recent| Recent {
        minute: said.minute,
        ten_minutes: said.ten_minutes,
        hour: said.hour,
        day: said.day,
    };
    History {
        new_hosts: sorted(&said.new_hosts),
        previous: said.previous.clone(),
        new_pair: said.new_pair,
        calls: recent(&said.calls),
        changes: recent(&said.changes),
        growing: said.growing,
        previous_count: said.previous_count,
        lease_minutes: said.lease_minutes,
        labels: sorted(&said.labels),
    }
}

fn amount(amount: &str) -> Result<u64, String> {
    micros(amount).ok_or_else(|| {
        format!("`amount: {amount}` is no amount; write digits, and up to six after a dot, such as `100.50`")
    })
}

/// RFC 3339, or milliseconds since 1970.
fn instant(said: &str) -> Result<TimeMs, String> {
    if let Ok(ms) = said.parse::<u64>() {
        return Ok(TimeMs(ms));
    }
    OffsetDateTime::parse(said, &Rfc3339)
        .ok()
        .and_then(|time| u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok())
        .map(TimeMs)
        .ok_or_else(|| format!("`now: {said}` is no time; write RFC 3339, such as `2026-11-21T03:00:00Z`"))
}
