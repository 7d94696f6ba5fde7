//! `log monitor` and `log evidence`: what two parties saw of one log, and the proof where both cannot be true.
//!
//! A view is a signed checkpoint, with tiles where it is a folder or a URL of them. The tiles of the larger view must
//! show the way to it from the smaller one. What was fetched decides nothing by itself: everything is checked against
//! roots that the log signed. It does not cover reading entries.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use countersign_ledger::tiles::TileReader;
use countersign_receipt::monitor::{Compared, Evidence, Misbehaviour, Walked, compare, walk};
use countersign_receipt::{Checkpoint, Receipt, VerifierKey};
use hyper::Method;
use serde_json::json;
use tokio::runtime::Runtime;

use super::log::{log_key, read_key};
use crate::context::Context;
use crate::terminal::{Exit, GOOD, unverified, usage};
use crate::web::{Client, Url};

/// A log acknowledges before it publishes: how often a view that lags is fetched again before it is called a rollback.
const LAG_TRIES: u32 = 20;
const LAG_PAUSE: Duration = Duration::from_millis(250);

/// What was asked.
pub(super) struct Asked {
    pub(super) a: String,
    pub(super) b: String,
    pub(super) key: Option<String>,
    pub(super) in_order: bool,
    pub(super) evidence: PathBuf,
}

/// Where a view comes from.
enum Source {
    File(PathBuf),
    Folder(PathBuf),
    Web(Runtime, Box<Client>),
}

/// What one party saw.
struct View {
    note: String,
    checkpoint: Checkpoint,
}

/// What came of it.
enum Found {
    Consistent,
    Misbehaved(Box<Evidence>),
}

/// Runs `log monitor`.
pub(super) fn run(asked: &Asked, context: &Context) -> Result<Exit> {
    let key = log_key(asked.key.as_deref(), context)?;
    let (first, second) = (Source::open(&asked.a)?, Source::open(&asked.b)?);
    let a = first.view(&key).with_context(|| format!("in `{}`", asked.a))?;
    let mut b = second.view(&key).with_context(|| format!("in `{}`", asked.b))?;
    let in_order = asked.in_order || matches!((&first, &second), (Source::File(_), Source::Web(..)));
    for _ in 0..LAG_TRIES {
        if !in_order || b.checkpoint.size >= a.checkpoint.size || matches!(second, Source::File(_)) {
            break;
        }
        std::thread::sleep(LAG_PAUSE);
        b = second.view(&key)?;
    }
    let found = judged(&key, (&first, &a), (&second, &b), in_order)?;
    let sizes = json!({"a": a.checkpoint.size, "b": b.checkpoint.size});
    let Found::Misbehaved(evidence) = found else {
        context.out.result(
            &json!({"found": "consistent", "log": key.name(), "sizes": sizes}),
            &format!(
                "{GOOD}consistent{GOOD:#}: {} records and {} records of log {}",
                a.checkpoint.size,
                b.checkpoint.size,
                key.name()
            ),
        );
        return Ok(Exit::Done);
    };
    let shows = evidence.verify()?;
    std::fs::write(&asked.evidence, evidence.to_json()?)
        .with_context(|| format!("cannot write the evidence to `{}`", asked.evidence.display()))?;
    Err(unverified(format!(
        "{}: log `{}` signed {} records ({}) and {} records ({}), which cannot both be true; evidence is in `{}`, and \
         anyone can check it with `countersign log evidence`",
        shows.as_str(),
        key.name(),
        a.checkpoint.size,
        a.checkpoint.root,
        b.checkpoint.size,
        b.checkpoint.root,
        asked.evidence.display()
    )))
}

fn judged(key: &VerifierKey, a: (&Source, &View), b: (&Source, &View), in_order: bool) -> Result<Found> {
    let ((_, seen_a), (_, seen_b)) = (a, b);
    let evidence = |shows, fork| {
        let (first, second) = (seen_a.note.clone(), seen_b.note.clone());
        Found::Misbehaved(Box::new(Evidence { key: key.clone(), shows, first, second, fork }))
    };
    let (head_a, head_b) = (seen_a.checkpoint.head(), seen_b.checkpoint.head());
    match compare(&head_a, &head_b) {
        Compared::Same => return Ok(Found::Consistent),
        Compared::TwoRoots => return Ok(evidence(Misbehaviour::SplitView, None)),
        Compared::Sizes => {}
    }
    let is_smaller_later = in_order && head_b.size < head_a.size;
    let ((old, _), (new, larger)) =
        if head_a.size < head_b.size { ((head_a, a), (head_b, b)) } else { ((head_b, b), (head_a, a)) };
    if matches!(larger.0, Source::File(_)) {
        if is_smaller_later {
            return Ok(evidence(Misbehaviour::Rollback, None));
        }
        anyhow::bail!(
            "the two views have {} and {} records, and the larger one has no tiles: give it as the folder or URL where \
             the log publishes them, or say `--in-order` if `--b` was seen after `--a`",
            head_a.size,
            head_b.size
        );
    }
    let tiles = TileReader::new(new.size, |path: &str| larger.0.fetch(path));
    match walk(&tiles, &old, &new).map_err(|error| anyhow::Error::new(error).context("nothing can be said"))? {
        Walked::Forks(fork) => Ok(evidence(Misbehaviour::SplitView, Some(fork))),
        Walked::Extends if is_smaller_later => Ok(evidence(Misbehaviour::Rollback, None)),
        Walked::Extends => Ok(Found::Consistent),
    }
}

/// Runs `log evidence`.
pub(super) fn check(file: &Path, key: Option<&str>, context: &Context) -> Result<Exit> {
    let text =
        std::fs::read_to_string(file).map_err(|error| usage(format!("cannot read `{}`: {error}", file.display())))?;
    let refused = |error: &dyn std::fmt::Display| unverified(format!("`{}`: {error}", file.display()));
    let evidence = Evidence::parse(&text).map_err(|error| refused(&error))?;
    if let Some(key) = key
        && read_key(key)? != evidence.key
    {
        return Err(refused(&format!("it is about `{}`, another key than the one given", evidence.key)));
    }
    let shows = evidence.verify().map_err(|error| refused(&error))?;
    context.out.result(
        &json!({"holds": true, "shows": shows, "key": evidence.key.to_string()}),
        &format!("{GOOD}holds{GOOD:#}: a {} by the log of `{}`", shows.as_str(), evidence.key),
    );
    Ok(Exit::Done)
}

impl Source {
    fn open(given: &str) -> Result<Self> {
        if given.starts_with("http://") || given.starts_with("https://") {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let url = Url::parse(given).map_err(|error| usage(format!("{error:#}")))?;
            return Ok(Self::Web(runtime, Box::new(Client::new(url)?)));
        }
        let path = PathBuf::from(given);
        match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(Self::Folder(path)),
            Ok(_) => Ok(Self::File(path)),
            Err(error) => Err(usage(format!("cannot read `{given}`: {error}"))),
        }
    }

    fn view(&self, key: &VerifierKey) -> Result<View> {
        let text = match self {
            Self::File(path) => std::fs::read_to_string(path)?,
            _ => String::from_utf8(self.fetch("checkpoint").context("there is no `checkpoint`")?)?,
        };
        let notes: Vec<String> = match self {
            // Of a receipt's checkpoints all are views; the largest says most.
            Self::File(_) if text.trim_start().starts_with('{') => {
                Receipt::parse(&text)?.proofs.into_iter().map(|proof| proof.proof.checkpoint).collect()
            }
            _ => vec![text],
        };
        let views = notes.into_iter().map(|note| {
            let checkpoint = Checkpoint::open(&note, key).map_err(|error| unverified(error.to_string()))?;
            Ok(View { note, checkpoint })
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        views.into_iter().max_by_key(|view| view.checkpoint.size).context("there is no checkpoint")
    }

    fn fetch(&self, path: &str) -> io::Result<Vec<u8>> {
        match self {
            Self::File(_) => Err(io::ErrorKind::NotFound.into()),
            Self::Folder(folder) => std::fs::read(folder.join(path)),
            Self::Web(runtime, client) => {
                let path = format!("/{path}");
                let reply = runtime
                    .block_on(client.ask(Method::GET, &path, String::new()))
                    .map_err(|error| io::Error::other(format!("{error:#}")))?;
                match reply.status {
                    200 => Ok(reply.body),
                    404 | 410 => Err(io::ErrorKind::NotFound.into()),
                    status => Err(io::Error::other(format!("`{path}`: HTTP status {status}"))),
                }
            }
        }
    }
}
