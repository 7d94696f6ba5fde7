//! `tools`: what upstreams offer, what changed of it since a human looked, and what a human accepts of it.
//!
//! Upstreams are asked as the gateway would ask them, with handshake and listing and nothing else. What is written here
//! counts after `policy activate`. It must not know how a call is decided.

mod bind;
mod list;
mod show;

use std::path::Path;

use anyhow::{Context as _, Result};
use countersign_model::id::{ToolName, UpstreamId};
use countersign_points::mcp::survey;
use serde_json::json;

use crate::cli::Tools;
use crate::config::{Config, Upstream};
use crate::context::Context;
use crate::terminal::{Exit, FAINT, confirm, usage};
use crate::tools::compare::{self, State};
use crate::tools::lock::{self, Lock};

/// Runs the command.
pub(crate) async fn run(command: Tools, context: &Context) -> Result<Exit> {
    match command {
        Tools::List { offline } => list::list(offline, context).await,
        Tools::Diff { upstream } => diff(&upstream, context).await,
        Tools::Accept { upstream, tools, yes } => accept(&upstream, &tools, yes, context).await,
        Tools::Bind { upstream } => bind::bind(&upstream, context).await,
    }
}

/// The configuration without what these commands write, which may be missing or wrong.
fn bare(context: &Context) -> Result<Config> {
    Config::load_bare(&context.layout.config()).map_err(|error| usage(format!("{error:#}")))
}

/// The upstream of that name.
fn named<'a>(config: &'a Config, name: &str) -> Result<&'a Upstream> {
    config.upstreams.iter().find(|upstream| upstream.id.as_str() == name).ok_or_else(|| {
        let known: Vec<String> = config.upstreams.iter().map(|upstream| format!("`{}`", upstream.id)).collect();
        usage(format!("`{}` is no upstream of the configuration; there is {}", name.escape_debug(), known.join(", ")))
    })
}

/// What the upstream says now.
async fn asked(config: &Config, upstream: &Upstream) -> Result<Lock> {
    let survey = survey(super::up::upstream(config, upstream, None)?).await;
    Ok(Lock::of(survey.map_err(|error| super::up::not_reached(upstream, &error))?))
}

/// What was accepted of it; nothing where there is no list.
fn accepted(folder: &Path, upstream: &UpstreamId) -> Result<Option<Lock>> {
    Ok(Lock::load(folder, upstream)?.map(|(lock, _)| lock))
}

async fn diff(name: &str, context: &Context) -> Result<Exit> {
    let config = bare(context)?;
    let upstream = named(&config, name)?;
    let before = accepted(&config.folder, &upstream.id)?;
    let now = asked(&config, upstream).await?;
    let shown = show::Shown::of(upstream, before.as_ref(), &now, &show::neighbours(&config, &upstream.id));
    context.out.result(&shown.json(), &shown.text());
    Ok(if shown.differs() { Exit::Failed } else { Exit::Done })
}

async fn accept(name: &str, only: &[String], yes: bool, context: &Context) -> Result<Exit> {
    let config = bare(context)?;
    let upstream = named(&config, name)?;
    let path = lock::path(&config.folder, &upstream.id).ok_or_else(|| {
        usage(format!(
            "the id `{name}` cannot name a file; give the upstream an id without `/` that starts with no dot"
        ))
    })?;
    // A list that is damaged is replaced; what it held cannot be told.
    let before = accepted(&config.folder, &upstream.id).unwrap_or_default();
    let now = asked(&config, upstream).await?;
    let next = chosen(before.as_ref(), &now, only)?;
    let text = next.write(&upstream.id)?;
    if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
        context.out.result(
            &json!({"accepted": 0, "path": path, "changed": false}),
            &format!("nothing to accept: `{}` says this already", path.display()),
        );
        return Ok(Exit::Done);
    }
    let shown = show::Shown::of(upstream, before.as_ref(), &next, &show::neighbours(&config, &upstream.id));
    if !context.out.json {
        context.out.result(&json!({}), &shown.text());
    }
    if !yes && !confirm(&format!("accept {} of `{name}`? [y/N] ", count(&shown)))? {
        return Err(usage("nothing was accepted"));
    }
    replace(&path, &text)?;
    let count = shown.tools.iter().filter(|tool| tool.compared.state != State::Accepted).count();
    let mut value = shown.json();
    if let Some(members) = value.as_object_mut() {
        members.insert("accepted".to_owned(), json!(count));
        members.insert("changed".to_owned(), json!(true));
        members.insert("path".to_owned(), json!(path));
    }
    let note = format!(
        "written to `{}`\n{FAINT}it counts once a human has run `countersign policy activate` and the gateway was restarted{FAINT:#}",
        path.display()
    );
    context.out.result(&value, &note);
    Ok(Exit::Done)
}

fn count(shown: &show::Shown<'_>) -> String {
    match shown.tools.iter().filter(|tool| tool.compared.state != State::Accepted).count() {
        1 => "this change".to_owned(),
        many => format!("these {many} changes"),
    }
}

/// What the list is to be: all that the upstream says now, or the named tools only and the rest as it was.
fn chosen(before: Option<&Lock>, now: &Lock, only: &[String]) -> Result<Lock> {
    if only.is_empty() {
        return Ok(now.clone());
    }
    let mut next =
        Lock { server: now.server.clone(), tools: before.map(|lock| lock.tools.clone()).unwrap_or_default() };
    for name in only {
        let tool = ToolName::new(name).map_err(|error| usage(error.to_string()))?;
        match now.tools.get(&tool) {
            Some(definition) => next.tools.insert(tool, definition.clone()),
            None => next.tools.remove(&tool).map(Some).ok_or_else(|| {
                usage(format!(
                    "the upstream lists no tool `{tool}`, and none is accepted; see `countersign tools list`"
                ))
            })?,
        };
    }
    Ok(next)
}

/// Replaces a file whole.
fn replace(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    let aside = path.with_extension("new");
    std::fs::write(&aside, text).with_context(|| format!("cannot write `{}`", aside.display()))?;
    std::fs::rename(&aside, path).with_context(|| format!("cannot replace `{}`", path.display()))
}

/// How the tools of an upstream stand against its list; all are new where there is none.
fn compared(before: Option<&Lock>, now: &Lock) -> Vec<compare::Compared> {
    let none = Lock { server: now.server.clone(), tools: Default::default() };
    compare::tools(before.unwrap_or(&none), now)
}
