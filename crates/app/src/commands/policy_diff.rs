//! `policy diff`: whether one policy lets more through than another, and what a human consents to who accepts that.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use countersign_kernel::BudgetRule;
use countersign_kernel::policy::{Bundle, PolicySource};
use countersign_model::Digest;
use countersign_model::preview::visible;
use countersign_prove::{Difference, Prover, Side, Widening, diff};
use serde_json::{Value, json};

use super::policy_prove::{bar, on_large_stack, prover};
use crate::cli::Diff;
use crate::compose::source;
use crate::config::Config;
use crate::context::Context;
use crate::policies::{Policies, drawn, is_yaml, raised};
use crate::sources;
use crate::terminal::{BAD, Exit, GOOD, WAIT, usage};

/// A policy with what it was made of.
pub(crate) struct Loaded {
    pub(crate) source: PolicySource,
    pub(crate) bundle: Bundle,
    /// The budgets of its files; nothing where they are not known.
    pub(crate) budgets: Option<Vec<BudgetRule>>,
}

impl From<sources::Source> for Loaded {
    fn from(sources::Source { source, bundle, budgets }: sources::Source) -> Self {
        Self { source, bundle, budgets }
    }
}

/// Runs the command.
pub(crate) async fn run(command: Diff, context: &Context) -> Result<Exit> {
    let prover = prover(&command.solving)?;
    let old = named(&command.old, context).await?;
    let new = match &command.new {
        Some(new) => named(new, context).await?,
        None => {
            let (config, bundle) = super::policy::load(&context.layout)?;
            loaded(&config, bundle)?
        }
    };
    let hashes = (old.bundle.hash(), new.bundle.hash());
    let difference = compare(old, new, prover, !context.out.json).await?;
    let value = json(&difference, hashes);
    context.out.result(&value, &text(&difference));
    Ok(match (difference.widenings.is_empty(), difference.open.is_empty()) {
        (false, _) => Exit::Failed,
        (true, false) => Exit::Unverified,
        (true, true) => Exit::Done,
    })
}

/// Compares two policies, on a thread of its own.
pub(crate) async fn compare(old: Loaded, new: Loaded, prover: Prover, shown: bool) -> Result<Difference> {
    let bar = bar(shown);
    let counter = bar.clone();
    let raised = raised(old.budgets.as_deref(), new.budgets.as_deref());
    let difference = on_large_stack(move || {
        let old = Side { bundle: &old.bundle, source: &old.source };
        let new = Side { bundle: &new.bundle, source: &new.source };
        let begin = |all: usize| bar.set_length(u64::try_from(all).unwrap_or(u64::MAX));
        diff(old, new, &prover, (&begin, &|| bar.inc(1)))
    })
    .await?;
    counter.finish_and_clear();
    let mut difference = difference.map_err(anyhow::Error::msg)?;
    difference.open.extend(raised);
    Ok(difference)
}

/// The policy that is meant: `active`, the hash of an accepted one, a configuration or its folder, or a policy file.
async fn named(name: &str, context: &Context) -> Result<Loaded> {
    let of_hash = |hash: Digest| {
        let kept = sources::load(&context.layout, hash).map_err(|error| usage(format!("{error:#}")))?;
        Ok(Loaded::from(kept))
    };
    if name == "active" {
        let accepted = super::policy::recorded(context).await?;
        let recorded = accepted.ok_or_else(|| usage("no policy was accepted yet, so none is active"))?;
        return of_hash(recorded.accepted.policy);
    }
    if let Some(hash) = digest(name) {
        return of_hash(hash);
    }
    let path = Path::new(name);
    let load = |path: &Path| Config::load(path).map_err(|error| usage(format!("{error:#}")));
    let (source, budgets) = if is_policy(path)? {
        let config = load(&context.layout.config())?;
        let policies = Policies::read(&[name.to_owned()], Path::new(""), &config.known());
        let Policies { texts, patterns, budgets, .. } = policies.map_err(|error| usage(drawn(&error)))?;
        (PolicySource { policies: texts, patterns, ..source(&config)? }, budgets)
    } else {
        let config = load(&if path.is_dir() { path.join("countersign.yaml") } else { path.to_owned() })?;
        (source(&config)?, config.policies.budgets)
    };
    let bundle = Bundle::load(&source).map_err(|error| usage(format!("in `{name}`: {error}")))?;
    Ok(Loaded { source, bundle, budgets: Some(budgets) })
}

/// Whether this is policy alone: a bundle, Cedar, or YAML that names no upstreams.
fn is_policy(path: &Path) -> Result<bool> {
    let name = path.to_string_lossy();
    if name.starts_with("bundle:") || path.extension().is_some_and(|extension| extension == "cedar") {
        return Ok(true);
    }
    if path.is_dir() || !is_yaml(&name) {
        return Ok(false);
    }
    let text = std::fs::read_to_string(path).map_err(|error| usage(format!("cannot read `{name}`: {error}")))?;
    Ok(!text.lines().any(|line| line.starts_with("upstreams:")))
}

/// A hash in hexadecimal.
pub(crate) fn digest(text: &str) -> Option<Digest> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (place, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Digest(bytes))
}

/// Every way in which the new policy is wider, or not known not to be, one line each: what a human consents to.
pub(crate) fn lines(difference: &Difference) -> Vec<String> {
    let widening = |widening: &Widening| {
        let because = widening.because.join("; ");
        format!("{}: {} ({because}{})", widening.kind.words(), widening.example.words(), more(widening))
    };
    let open = difference.open.iter().map(|why| format!("not proven not to be wider: {why}"));
    difference.widenings.iter().map(widening).chain(open).collect()
}

fn more(widening: &Widening) -> String {
    match widening.more {
        0 => String::new(),
        1 => "; and one more kind of calls".to_owned(),
        more => format!("; and {more} more kinds of calls"),
    }
}

/// What a human signs who consents to these lines.
pub(crate) fn consented(old: Digest, new: Digest, lines: &[String]) -> Digest {
    let hashes = [old.hex(), new.hex()];
    let parts: Vec<&[u8]> = hashes.iter().chain(lines).map(String::as_bytes).collect();
    Digest::of("countersign widening v1", &parts)
}

/// The lines of a difference for people.
pub(crate) fn text(difference: &Difference) -> String {
    let mut text = String::new();
    for widening in &difference.widenings {
        text.push_str(&format!(
            "{BAD}wider{BAD:#}       {}\n            {}\n            {}\n",
            widening.kind.words(),
            visible(&widening.example.words()),
            visible(&format!("{}{}", widening.because.join("; "), more(widening)))
        ));
    }
    for why in &difference.open {
        text.push_str(&format!("{WAIT}not proven{WAIT:#}  {}\n", visible(why)));
    }
    if difference.is_not_wider() {
        text.push_str(&format!("{GOOD}proven{GOOD:#}      nothing became wider\n"));
    }
    text.push_str(&format!(
        "{} kinds of calls compared, by {} questions in {} ms\n",
        difference.compared, difference.questions, difference.took_ms
    ));
    text
}

/// The same for programs.
pub(crate) fn json(difference: &Difference, (old, new): (Digest, Digest)) -> Value {
    let widening = |widening: &Widening| {
        json!({
            "kind": widening.kind.as_str(), "example": widening.example.json(), "words": widening.example.words(),
            "because": widening.because, "more": widening.more,
        })
    };
    json!({
        "old": old.hex(), "new": new.hex(), "wider": !difference.widenings.is_empty(),
        "proven_not_wider": difference.is_not_wider(),
        "widenings": difference.widenings.iter().map(widening).collect::<Vec<_>>(), "not_proven": difference.open,
        "compared": difference.compared, "questions": difference.questions,
        "took_ms": u64::try_from(difference.took_ms).unwrap_or(u64::MAX),
    })
}

/// Refuses what is meant as a digest and is none.
pub(crate) fn must_be_digest(text: &str) -> Result<Digest> {
    match digest(text) {
        Some(digest) => Ok(digest),
        None => {
            bail!(usage(format!("`--accept-wider {text}` is no digest; copy the 64 characters that the command shows")))
        }
    }
}

/// The policy of a configuration that was read already.
pub(crate) fn loaded(config: &Config, bundle: Bundle) -> Result<Loaded> {
    let budgets = Some(config.policies.budgets.clone());
    Ok(Loaded { source: source(config).context("in the configuration")?, bundle, budgets })
}
