//! `policy schema`: the JSON Schema of a kind of YAML file, for editors.

use anyhow::Result;

use crate::context::Context;
use crate::terminal::{Exit, usage};

/// Runs the command. A schema is JSON, with `--json` and without.
pub(crate) fn run(kind: &str, context: &Context) -> Result<Exit> {
    let text = countersign_policy::schemas::find(kind).map_err(|error| usage(error.to_string()))?;
    let value: serde_json::Value = serde_json::from_str(text)?;
    context.out.result(&value, text);
    Ok(Exit::Done)
}
