//! What every request must show before its body is looked at: host, origin, token, kinds of content, revision.
//!
//! A header that comes twice is refused: two readers could take different ones. It must not know sessions.

use countersign_model::{Reason, ReasonCode};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::{StatusCode, Uri};

use super::refusal::Refusal;
use crate::mcp::config::FrontConfig;
use crate::mcp::wire::headers::{METHOD, Mirrors, NAME, PARAM, VERSION};

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The one value of a header.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refusal::malformed(None, &format!("the header `{name}` comes more than once")));
    }
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(Refusal::malformed(None, &format!("the header `{name}` is not plain text"))),
    }
}

/// Refuses hosts that are not ours and origins that are not let in: a web page must not reach this port by a name of
/// its own (DNS rebinding).
pub(crate) fn place(config: &FrontConfig, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let forbidden = |detail: String| Refusal::http(StatusCode::FORBIDDEN, ReasonCode::Malformed, &detail);
    let host = single(headers, &HOST)?.ok_or_else(|| Refusal::malformed(None, "the header `host` is missing"))?;
    for authority in [Some(host), uri.authority().map(|authority| authority.as_str())].into_iter().flatten() {
        let name = bare_host(authority).to_ascii_lowercase();
        if !LOOPBACK.contains(&name.as_str()) && !config.hosts.contains(&name) {
            let shown: String = name.escape_default().take(80).collect();
            return Err(forbidden(format!("`{shown}` is not a host of this gateway")));
        }
    }
    match single(headers, &ORIGIN)? {
        Some(origin) if !config.origins.contains(&origin.to_ascii_lowercase()) => {
            let shown: String = origin.escape_default().take(80).collect();
            Err(forbidden(format!("origin `{shown}` is not let in")))
        }
        _ => Ok(()),
    }
}

fn bare_host(authority: &str) -> &str {
    if authority.starts_with('[') {
        let end = authority.find(']').map_or(authority.len(), |at| at.saturating_add(1));
        return authority.get(..end).unwrap_or(authority);
    }
    authority.split(':').next().unwrap_or(authority)
}

/// The bearer token.
pub(crate) fn token(headers: &HeaderMap) -> Result<&str, Refusal> {
    let missing =
        |presented, detail| Refusal::unauthorized(presented, Reason::because(ReasonCode::TokenInvalid, detail));
    let value = single(headers, &AUTHORIZATION)?.ok_or_else(|| missing(false, "no token was sent"))?;
    let (scheme, token) = value.split_once(' ').ok_or_else(|| missing(true, "the header is not `Bearer <token>`"))?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(missing(true, "the header is not `Bearer <token>`"));
    }
    Ok(token)
}

/// Refuses a body that does not say that it is JSON.
pub(crate) fn content_is_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = single(headers, &CONTENT_TYPE)?.unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "the header `content-type` must be `application/json`";
    Err(Refusal::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, ReasonCode::Malformed, detail))
}

/// What a client takes as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepts {
    pub(crate) json: bool,
    pub(crate) events: bool,
    /// Whether it names events before JSON.
    pub(crate) events_first: bool,
}

/// Reads `Accept`; without one, anything is taken.
pub(crate) fn accepts(headers: &HeaderMap) -> Accepts {
    let mut found = Accepts { json: false, events: false, events_first: false };
    let mut any = false;
    for value in headers.get_all(ACCEPT) {
        for kind in value.to_str().unwrap_or_default().split(',') {
            any = true;
            let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            found.json |= matches!(essence.as_str(), "application/json" | "application/*" | "*/*");
            found.events |= matches!(essence.as_str(), "text/event-stream" | "text/*" | "*/*");
            found.events_first |= found.events && !found.json;
        }
    }
    if any { found } else { Accepts { json: true, events: true, events_first: false } }
}

/// Refuses an answer that the client would not take.
pub(crate) fn acceptable(enough: bool, detail: &str) -> Result<(), Refusal> {
    if enough {
        return Ok(());
    }
    Err(Refusal::http(StatusCode::NOT_ACCEPTABLE, ReasonCode::Malformed, detail))
}

/// The headers of a request that mirror its body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mirroring {
    version: Option<String>,
    method: Option<String>,
    name: Option<String>,
    params: Vec<(String, String)>,
    /// What is wrong with them, whatever the body says.
    wrong: Option<String>,
}

impl Mirroring {
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let mut read = Self::default();
        for name in headers.keys().filter(|name| name.as_str().starts_with("mcp-")) {
            let key = name.as_str();
            if ![VERSION, METHOD, NAME].contains(&key) && !key.starts_with(PARAM) {
                continue;
            }
            let mut values = headers.get_all(name).iter();
            let value = match (values.next().map(|value| value.to_str()), values.next()) {
                (Some(Ok(value)), None) => value.trim_matches([' ', '\t']).to_owned(),
                (_, None) => {
                    read.wrong = Some(format!("the header `{key}` is not plain text"));
                    continue;
                }
                (_, Some(_)) => {
                    read.wrong = Some(format!("the header `{key}` comes more than once"));
                    continue;
                }
            };
            match key {
                VERSION => read.version = Some(value),
                METHOD => read.method = Some(value),
                NAME => read.name = Some(value),
                _ => read.params.push((key.to_owned(), value)),
            }
        }
        read
    }

    /// What is wrong with the headers, whatever the body says.
    pub(crate) fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    pub(crate) fn mirrors(&self) -> Mirrors<'_> {
        Mirrors {
            version: self.version.as_deref(),
            method: self.method.as_deref(),
            name: self.name.as_deref(),
            params: self.params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        }
    }
}
