//! A witness: `countersign witness` as a child process that ends with its handle, in a folder that stays.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{Installation, PROGRAM, Setup};

const START: Duration = Duration::from_secs(60);

/// Where a witness lies, running or not. Its address stays the same, so that it can come back.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    listen: String,
}

/// A running witness; dropping it kills it.
pub(crate) struct Witness {
    child: Child,
    /// What it printed when it was up.
    pub(crate) said: Value,
}

impl Place {
    /// Takes a free port and a folder; nothing runs yet.
    pub(crate) fn new() -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap().to_string();
        Self { folder: tempfile::tempdir().unwrap(), listen }
    }

    /// The witness's folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("witness")
    }

    /// Where it takes submissions.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Starts it for the log of an installation and waits until it serves.
    pub(crate) async fn up(&self, of: &Installation) -> Witness {
        self.up_for(&of.path("ledger/log.vkey")).await
    }

    /// Starts it for the log with this key.
    pub(crate) async fn up_for(&self, key: &Path) -> Witness {
        let mut child = Command::new(PROGRAM)
            .args(["--json", "witness", "--listen", &self.listen, "--name", "witness.test/w1", "--dir"])
            .arg(self.path())
            .arg("--log")
            .arg(key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        tokio::time::timeout(START, stdout.read_line(&mut line)).await.unwrap().unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        assert!(said["key"].is_string(), "no witness: {line}");
        Witness { child, said }
    }
}

impl Witness {
    /// Its key.
    pub(crate) fn key(&self) -> String {
        self.said["key"].as_str().unwrap().to_owned()
    }

    /// Kills it.
    pub(crate) async fn down(mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Names a witness in the configuration and has the owner accept it.
pub(crate) fn configure(at: &Installation, setup: &Setup, (url, key): (&str, &str), timeout: &str) {
    at.configure(setup);
    let text = at.read("countersign.yaml");
    let witnesses = format!("witnesses: [{{ name: w1, url: '{url}', key: '{key}' }}]\nwitness_timeout: {timeout}\n");
    at.write("countersign.yaml", &(text + &witnesses));
    at.owner(&["policy", "activate"]);
}

const _: () = {
    let _ = (Place::new, Place::path, Place::url, Place::up, Place::up_for, Witness::key, Witness::down, configure);
};
