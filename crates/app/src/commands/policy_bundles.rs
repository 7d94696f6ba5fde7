//! `policy bundles`: the policies that come with Countersign.

use anyhow::Result;
use countersign_policy::bundles;
use serde_json::json;

use crate::cli::Bundles;
use crate::context::Context;
use crate::terminal::{Exit, FAINT, STRONG, usage};

/// Runs the command.
pub(crate) fn run(asked: &Bundles, context: &Context) -> Result<Exit> {
    match asked {
        Bundles::List => {
            let all = bundles::ALL.iter().map(|bundle| json!({"name": bundle.name, "title": bundle.title}));
            let value = json!({ "bundles": all.collect::<Vec<_>>() });
            let lines = bundles::ALL.iter().map(|b| format!("{STRONG}{:<16}{STRONG:#} {}\n", b.name, b.title));
            let how = format!("{FAINT}turn one on in countersign.yaml: `policy: [bundle:NAME, policy.yaml]`{FAINT:#}");
            context.out.result(&value, &format!("{}{how}", lines.collect::<String>()));
        }
        Bundles::Show { name } => {
            let bundle = bundles::find(name).map_err(|error| usage(error.to_string()))?;
            let value = json!({
                "name": bundle.name, "title": bundle.title, "readme": bundle.readme, "policy": bundle.policy,
                "cases": bundle.cases,
            });
            context.out.result(&value, &format!("{}\n{}", bundle.readme, bundle.policy));
        }
    }
    Ok(Exit::Done)
}
