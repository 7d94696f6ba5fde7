//! `token attenuate` and `token show`: what the holder of a token can do with it, without the gateway and any secret.
//!
//! Both need the public key of tokens alone. It must not know who was revoked: only the gateway does.

use std::path::Path;

use anyhow::Result;
use countersign_kernel::identity::{self, DEPTH_MAX, Narrowing, TokenError};
use countersign_model::{Digest, Narrowed, TimeMs};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::cli::Attenuate;
use crate::config::duration_ms;
use crate::context::{Context, wall, when};
use crate::keys::{random, write_new};
use crate::terminal::{BAD, Exit, FAINT, GOOD, denied, usage};
use crate::token_file;

/// `token attenuate`.
pub(crate) fn attenuate(asked: &Attenuate, context: &Context) -> Result<Exit> {
    let narrowing = narrowing(asked)?;
    let key = token_file::public(asked.key.as_deref().unwrap_or(&context.layout.token_public()))?;
    let token = token_file::read(&asked.file)?;
    let narrowed = identity::attenuate(&key, &token, &narrowing, &random()?).map_err(|error| refused(&error))?;
    let read = identity::read(&key, &narrowed)?;
    write_new(&asked.out, narrowed.as_bytes())?;
    let (depth, expires) = (read.caller.principal.depth, read.caller.expires);
    let mut value = described(&read);
    if let Some(members) = value.as_object_mut() {
        members.insert("file".to_owned(), json!(asked.out));
    }
    context.out.result(
        &value,
        &format!(
            "{GOOD}written{GOOD:#} to {}: depth {depth} of {DEPTH_MAX}, until {}",
            asked.out.display(),
            when(expires.0)
        ),
    );
    Ok(Exit::Done)
}

fn narrowing(asked: &Attenuate) -> Result<Narrowing> {
    let until = match (&asked.duration, &asked.until) {
        (Some(duration), _) => {
            let ms = duration_ms(duration).map_err(|error| usage(error.to_string()))?;
            Some(wall().saturating_add_ms(ms))
        }
        (None, Some(time)) => Some(read_time(time)?),
        (None, None) => None,
    };
    let wrong = |error: countersign_model::IdError| usage(error.to_string());
    let narrowing = Narrowing {
        until,
        tools: asked.tools.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(wrong)?,
        upstreams: asked.upstreams.iter().map(|name| name.parse()).collect::<Result<_, _>>().map_err(wrong)?,
        read_only: asked.read_only,
    };
    if narrowing == Narrowing::default() {
        return Err(usage("say how to narrow it: --for, --until, --tool, --upstream or --read-only"));
    }
    Ok(narrowing)
}

fn read_time(text: &str) -> Result<TimeMs> {
    let explain =
        || usage(format!("`{}` is no time after 1970 in UTC, such as `2026-12-24T18:00:00Z`", text.escape_debug()));
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| explain())?;
    let seconds = u64::try_from(time.unix_timestamp()).map_err(|_| explain())?;
    seconds.checked_mul(1_000).map(TimeMs).ok_or_else(explain)
}

fn refused(error: &TokenError) -> anyhow::Error {
    match error {
        TokenError::TooDeep(_) => denied(format!(
            "this token was narrowed {DEPTH_MAX} times already, and no token is any deeper; narrow one that it was made from"
        )),
        TokenError::Oversize(_) => denied(format!("{error}; narrow to fewer names")),
        _ => usage(error.to_string()),
    }
}

/// `token show`.
pub(crate) fn show(file: &Path, key: Option<&Path>, context: &Context) -> Result<Exit> {
    let key = token_file::public(key.unwrap_or(&context.layout.token_public()))?;
    let token = token_file::read(file)?;
    let read = identity::read(&key, &token).map_err(|error| usage(error.to_string()))?;
    context.out.result(&described(&read), &text(&read));
    Ok(Exit::Done)
}

fn described(read: &identity::Token) -> Value {
    let (principal, narrowed) = (&read.caller.principal, read.caller.narrowed.clone().unwrap_or_default());
    let ids: Vec<String> = read.revocation_ids.iter().map(|id| token_file::hex(id)).collect();
    json!({
        "tenant": principal.tenant.as_str(), "agent": principal.agent.as_str(), "session": principal.session.as_str(),
        "run": principal.run.as_str(), "depth": principal.depth, "depth_max": DEPTH_MAX,
        "expires_ms": read.caller.expires.0, "expired": read.caller.expires <= wall(),
        "tools": narrowed.tools.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "upstreams": narrowed.upstreams.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "read_only": narrowed.read_only, "revocation_ids": ids,
    })
}

fn text(read: &identity::Token) -> String {
    let (principal, expires) = (&read.caller.principal, read.caller.expires);
    let ended = if expires <= wall() { format!(" {BAD}(over){BAD:#}") } else { String::new() };
    let mut lines = vec![
        format!(
            "agent {} of {}, session {}, run {}",
            principal.agent, principal.tenant, principal.session, principal.run
        ),
        format!("depth {} of {DEPTH_MAX}, until {}{ended}", principal.depth, when(expires.0)),
    ];
    lines.extend(read.caller.narrowed.iter().flat_map(restrictions));
    for (place, id) in read.revocation_ids.iter().enumerate() {
        let what = if place == 0 { "as issued: revoke the session".to_owned() } else { format!("narrowing {place}") };
        lines.push(format!("{FAINT}{what}{FAINT:#} {}", token_file::hex(id)));
    }
    lines.join("\n")
}

fn restrictions(narrowed: &Narrowed) -> Vec<String> {
    let names = |what: &str, names: Vec<String>| match names.as_slice() {
        [] => format!("no {what} at all"),
        names => format!("only {what}: {}", names.join(", ")),
    };
    let tools = narrowed.tools.as_ref().map(|all| names("tools", all.iter().map(ToString::to_string).collect()));
    let upstreams =
        narrowed.upstreams.as_ref().map(|all| names("upstreams", all.iter().map(ToString::to_string).collect()));
    let reads = narrowed.read_only.then(|| "only reads".to_owned());
    [tools, upstreams, reads].into_iter().flatten().collect()
}

/// The block that a revocation id names.
pub(super) fn block(id: &str) -> Result<Digest> {
    let bytes = token_file::unhex(id.trim()).filter(|bytes| bytes.len() == 64);
    let bytes = bytes.ok_or_else(|| {
        usage("a revocation id has 128 hexadecimal digits; `countersign token show FILE` prints those of a token")
    })?;
    Ok(identity::block_id(&bytes))
}
