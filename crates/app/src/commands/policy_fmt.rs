//! `policy fmt`: policy files in one layout. What a file means is never changed.

use anyhow::{Context as _, Result};
use countersign_policy::yaml::fmt;
use serde_json::json;

use crate::cli::Fmt;
use crate::context::Context;
use crate::policies::{drawn, is_yaml};
use crate::terminal::{Exit, usage};

/// Runs the command.
pub(crate) fn run(asked: &Fmt, context: &Context) -> Result<Exit> {
    let mut differing = Vec::new();
    for path in &asked.files {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{name}`"))?;
        let laid_out = laid_out(&name, &text)?;
        if laid_out == text {
            continue;
        }
        if !asked.check {
            replace(path, &laid_out).with_context(|| format!("cannot write `{name}`"))?;
        }
        differing.push(name);
    }
    let value = json!({"files": asked.files.len(), "differing": differing, "written": !asked.check});
    let verb = if asked.check { "not laid out" } else { "laid out" };
    let lines: Vec<String> = differing.iter().map(|name| format!("{verb}: {name}")).collect();
    context.out.result(&value, &lines.join("\n"));
    Ok(if asked.check && !differing.is_empty() { Exit::Failed } else { Exit::Done })
}

fn laid_out(name: &str, text: &str) -> Result<String> {
    if is_yaml(name) {
        return fmt::yaml(name, text).map_err(|problems| usage(drawn(&problems.into())));
    }
    if !name.ends_with(".cedar") {
        return Err(usage(format!("`{name}` is neither `.cedar` nor `.yaml`")));
    }
    fmt::cedar(text).map_err(|error| usage(format!("`{name}` cannot be laid out: {error}")))
}

/// Replaces a file at once, so that a crash leaves the old one or the new one.
fn replace(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = std::path::PathBuf::from(aside);
    let permissions = std::fs::metadata(path)?.permissions();
    std::fs::write(&aside, text)?;
    std::fs::set_permissions(&aside, permissions)?;
    std::fs::rename(&aside, path)
}
