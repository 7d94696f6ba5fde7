//! The demo: the published database incident, against a real gateway and a real MCP server.
//!
//! In July 2025 a coding agent under a code freeze dropped a production database of 1,206
//! executives and 1,190 companies, filled it with 4,000 invented users, and said that nothing could
//! be undone. Here a scripted agent walks the same way through Countersign. The gateway is this very
//! binary as a child process; the human is made for the occasion and thrown away.

mod agent;
mod gateway;
mod script;
mod story;
pub(crate) mod upstream;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use countersign_model::id::HumanId;
use serde_json::json;

use crate::cli::Demo;
use crate::commands::init::{Plan, make};
use crate::keys::{HumanKey, private_folder, random};
use crate::layout::Layout;
use crate::terminal::{Exit, Output, usage};

const TOOLS: &str = r#"{"query": {"arguments": {"sql": "sql.sqlite"}}, "mail_merge": {"effect": "outbound", "arguments": {"letters": "plain"}}}"#;
const POLICY: (&str, &str) = ("policy.cedar", include_str!("templates/demo.cedar"));
/// Calls that one run may make.
pub(crate) const RUN_CALLS: u64 = 8;
/// The agent of the demo.
pub(crate) const AGENT: &str = "coder";

/// What the script works with.
pub(crate) struct Stage {
    /// The installation.
    pub(crate) layout: Layout,
    /// The throw-away human's key.
    pub(crate) key: HumanKey,
}

impl Stage {
    /// The customer database.
    pub(crate) fn database(&self) -> PathBuf {
        self.layout.root().join("crm.db")
    }

    /// Where the upstream notes its effects.
    pub(crate) fn effects(&self) -> PathBuf {
        self.layout.root().join("effects.log")
    }

    /// Where receipts are kept.
    pub(crate) fn receipts(&self) -> PathBuf {
        self.layout.root().join("receipts")
    }
}

/// Runs the command.
pub(crate) async fn run(demo: Demo, out: Output) -> Result<Exit> {
    let kept = demo.dir.is_some();
    let folder = match demo.dir {
        Some(dir) if dir.exists() => {
            return Err(usage(format!(
                "`{}` is there already; name a folder that is not, or remove it",
                dir.display()
            )));
        }
        Some(dir) => dir,
        None => std::env::temp_dir().join(format!("countersign-demo-{}", hex(random::<6>()?))),
    };
    private_folder(&folder)?;
    let played = play(folder.clone(), out).await;
    if !kept {
        let _ = std::fs::remove_dir_all(&folder);
    }
    let tally = played?;
    if out.json {
        out.result(&tally.json(), "");
    }
    Ok(if tally.held() { Exit::Done } else { Exit::Failed })
}

async fn play(folder: PathBuf, out: Output) -> Result<script::Tally> {
    let layout = Layout::of_config(&std::path::absolute(&folder)?.join("countersign.yaml"));
    let key = HumanKey::generate(HumanId::new("throw-away-human")?)?;
    // Nobody needs to open it again, so nobody is told.
    let phrase = hex(random::<24>()?);
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let command = [program.display().to_string(), "demo-upstream".to_owned(), "crm.db".to_owned()];
    let plan = Plan {
        upstream: ("crm", command.to_vec(), TOOLS),
        listen: "127.0.0.1:0",
        run_calls: RUN_CALLS,
        policy: POLICY,
        agent: AGENT,
    };
    let stage = Stage { layout, key };
    let stage = tokio::task::spawn_blocking(move || {
        make(&stage.layout, &plan, &stage.key, &phrase)?;
        upstream::seed(&stage.database())?;
        private_folder(&stage.receipts())?;
        anyhow::Ok(stage)
    })
    .await??;
    script::run(&stage, story::Story::new(out)).await
}

fn hex<const N: usize>(bytes: [u8; N]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl script::Tally {
    fn json(&self) -> serde_json::Value {
        json!({
            "allowed": self.allowed, "denied": self.denied, "parked": self.parked, "approved": self.approved,
            "cancelled": self.cancelled, "rows_before": self.rows_before, "rows_after": self.rows_after,
            "rows_consented": self.rows_consented, "receipts": self.receipts, "receipts_verified": self.receipts_verified,
            "kill_to_last_effect_ms": self.kill_to_last_effect_ms,
        })
    }
}
