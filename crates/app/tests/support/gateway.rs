//! A gateway: `countersign up` as a child process that ends with its handle.

use std::fs::OpenOptions;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use super::{Installation, PROGRAM};

const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);

/// A running gateway; dropping it kills it.
pub(crate) struct Gateway {
    child: Child,
    /// What it printed when it was up.
    pub(crate) said: Value,
    /// Where agents connect.
    pub(crate) url: String,
    _stdout: BufReader<ChildStdout>,
}

/// How a start failed.
#[derive(Debug)]
pub(crate) struct NotUp {
    /// The exit code; -1 for a signal.
    pub(crate) code: i32,
    /// The `error` that it printed.
    pub(crate) error: String,
}

impl Installation {
    /// Starts a gateway and waits until it serves.
    pub(crate) async fn up(&self) -> Gateway {
        self.try_up().await.unwrap_or_else(|not| panic!("the gateway is not up: {not:?}"))
    }

    /// Starts a gateway that may refuse to serve. What it says on standard error goes to `gateway.err`.
    pub(crate) async fn try_up(&self) -> Result<Gateway, NotUp> {
        let errors = OpenOptions::new().create(true).append(true).open(self.path("gateway.err")).unwrap();
        let mut child = Command::new(PROGRAM)
            .args(["--json", "up", "--config"])
            .arg(self.path("countersign.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        tokio::time::timeout(START, stdout.read_line(&mut line)).await.unwrap().unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(url) = said["url"].as_str() {
            return Ok(Gateway { url: url.to_owned(), said, child, _stdout: stdout });
        }
        stdout.read_to_string(&mut line).await.unwrap();
        let status = tokio::time::timeout(STOP, child.wait()).await.unwrap().unwrap();
        let error = said["error"].as_str().map_or(line.clone(), str::to_owned);
        Err(NotUp { code: status.code().unwrap_or(-1), error })
    }
}

impl Gateway {
    /// Kills it as a power cut would.
    pub(crate) async fn crash(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Stops it in an orderly way.
    pub(crate) async fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = tokio::time::timeout(STOP, self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "the gateway ended with {status}");
    }
}

const _: () = {
    let _ = (Installation::up, Installation::try_up, Gateway::crash, Gateway::stop);
    let _ = |gateway: Gateway, not: NotUp| (gateway.said, not.code, not.error);
};
