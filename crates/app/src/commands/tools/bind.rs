//! `tools bind`: writes a proposal of bindings where there is none; where there is a file, shows what it would say.

use anyhow::{Context as _, Result};
use countersign_model::preview::visible;
use serde_json::json;
use similar::TextDiff;

use super::{asked, bare, named};
use crate::context::Context;
use crate::layout::file_name;
use crate::terminal::{Exit, FAINT};
use crate::tools::propose;

/// Runs the command.
pub(super) async fn bind(name: &str, context: &Context) -> Result<Exit> {
    let config = bare(context)?;
    let upstream = named(&config, name)?;
    let file = format!("tools/{}.yaml", file_name(upstream.id.as_str())?);
    let proposal = propose::bindings(&upstream.id, &asked(&config, upstream).await?);
    let path = config.folder.join(&file);
    match std::fs::read_to_string(&path) {
        Ok(there) => {
            let diff = TextDiff::from_lines(&there, &proposal);
            let diff = diff.unified_diff().context_radius(2).header(&file, "proposal").to_string();
            let lines: Vec<String> = diff.lines().map(visible).collect();
            let text = match lines.as_slice() {
                [] => format!("`{file}` says what would be proposed"),
                lines => format!("{}\n{FAINT}`{file}` is there and was not changed{FAINT:#}", lines.join("\n")),
            };
            context.out.result(&json!({"path": path, "written": false, "diff": diff}), &text);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            write_new(&path, &proposal)?;
            let next = format!(
                "written to `{file}`; read it, complete it, write `bindings: {file}` on upstream `{name}`, then run \
                 `countersign policy activate`"
            );
            context.out.result(&json!({"path": path, "written": true, "diff": ""}), &next);
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
    Ok(Exit::Done)
}

fn write_new(path: &std::path::Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let folder = path.parent().context("a file has a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    let cannot = || format!("cannot write `{}`", path.display());
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).with_context(cannot)?;
    file.write_all(text.as_bytes()).with_context(cannot)
}
