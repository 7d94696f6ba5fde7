//! The gateway of the demo: this binary with `up`, as a child process of its own.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::json::at;
use crate::layout::Layout;

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(20);

/// A running gateway; it ends with the demo.
pub(crate) struct Gateway {
    child: Child,
    /// Where agents connect.
    pub(crate) url: String,
}

impl Gateway {
    /// Starts it and waits until it answers.
    pub(crate) async fn start(layout: &Layout) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--json", "up", "--config"])
            .arg(layout.config())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the gateway")?;
        let out = child.stdout.take().context("the gateway has no output")?;
        let mut lines = BufReader::new(out).lines();
        let line = tokio::time::timeout(START, lines.next_line())
            .await
            .context("the gateway did not come up within 30 s")??
            .context("the gateway ended before it was up")?;
        let said: serde_json::Value = serde_json::from_str(&line)?;
        let Some(url) = at(&said, "/url").as_str() else {
            bail!("the gateway did not come up: {line}");
        };
        Ok(Self { url: url.to_owned(), child })
    }

    /// Stops it in an orderly way.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM)?;
        }
        let status =
            tokio::time::timeout(STOP, self.child.wait()).await.context("the gateway did not stop within 20 s")??;
        if !status.success() {
            bail!("the gateway ended with {status}");
        }
        Ok(())
    }
}
