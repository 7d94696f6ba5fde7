//! How an upstream is reached, and in which era it is spoken to, checked. It must not know what an upstream says.

use anyhow::{Context as _, Result, bail};
use countersign_model::id::UpstreamId;
use countersign_points::mcp::config::{EraChoice, QuestionKind, Url};

use super::{Transport, raw};

/// How an upstream is reached.
#[derive(Clone, Debug)]
pub(crate) struct Reach {
    /// The way there.
    pub(crate) transport: Transport,
    /// In which era it is spoken to.
    pub(crate) era: EraChoice,
    /// What a process may ask the clients that share it.
    pub(crate) questions: Vec<QuestionKind>,
}

/// Checks what `upstreams` says of one. The keys that it reads are taken out of `raw`.
pub(super) fn checked(raw: &mut raw::Upstream, id: &UpstreamId) -> Result<Reach> {
    let transport = transport(raw, id)?;
    let era = era(raw.era.as_deref(), &transport, id)?;
    let questions = std::mem::take(&mut raw.questions);
    if !questions.is_empty() && !matches!(transport, Transport::Stdio { .. }) {
        bail!(
            "`questions` of upstream `{id}` is for a `command`; over HTTP each client says itself what it can answer"
        );
    }
    let questions = questions.iter().map(|word| question(word)).collect::<Result<_>>();
    let questions = questions.with_context(|| format!("in upstream `{id}`"))?;
    Ok(Reach { transport, era, questions })
}

fn transport(raw: &mut raw::Upstream, id: &UpstreamId) -> Result<Transport> {
    let is_sse = match raw.transport.as_deref() {
        None | Some("http") => false,
        Some("sse") => true,
        Some(other) => bail!("`transport: {other}` of upstream `{id}` is not known; write `http` or `sse`"),
    };
    match (raw.command.take(), raw.url.take()) {
        (Some(_), None) if raw.transport.is_some() => {
            bail!("upstream `{id}` has a `command` and a `transport`; `transport` is for a `url`")
        }
        (Some(command), None) if !command.is_empty() => {
            Ok(Transport::Stdio { command, env: std::mem::take(&mut raw.env) })
        }
        (None, Some(url)) if raw.env.is_empty() => {
            Url::new(&url).with_context(|| format!("in `url` of upstream `{id}`"))?;
            Ok(if is_sse { Transport::Sse { url } } else { Transport::Http { url } })
        }
        (None, Some(_)) => bail!("upstream `{id}` has a `url` and an `env`; `env` is for a `command`"),
        _ => bail!("upstream `{id}` needs either a `command` (program and arguments) or a `url`"),
    }
}

fn era(word: Option<&str>, transport: &Transport, id: &UpstreamId) -> Result<EraChoice> {
    match (word, transport) {
        (None, Transport::Http { .. } | Transport::Stdio { .. }) => Ok(EraChoice::Auto),
        (None, Transport::Sse { .. }) | (Some("legacy"), _) => Ok(EraChoice::Legacy),
        (Some(word), Transport::Sse { .. }) => {
            bail!("upstream `{id}` has `transport: sse` and `era: {word}`; that transport is of the legacy era")
        }
        (Some("auto"), _) => Ok(EraChoice::Auto),
        (Some("modern"), _) => Ok(EraChoice::Modern),
        (Some(other), _) => bail!("`era: {other}` of upstream `{id}` is no era; write `auto`, `legacy` or `modern`"),
    }
}

fn question(word: &str) -> Result<QuestionKind> {
    match word {
        "sampling" => Ok(QuestionKind::Sampling),
        "elicitation" => Ok(QuestionKind::Elicitation),
        "roots" => Ok(QuestionKind::Roots),
        other => bail!("`{other}` is no question of a server; `questions` lists `sampling`, `elicitation` and `roots`"),
    }
}
