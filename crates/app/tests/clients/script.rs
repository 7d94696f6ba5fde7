//! A client's script as a child process that is told what to call, and says what it was shown.
//!
//! It must not know what a call means. Scripts see no environment but what is named here.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::world::Call;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
/// How long a script may take to answer; importing a library is the longest of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What runs a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// Python with `mcp` 1.x.
    Mcp1,
    /// Python with `mcp` 2.x.
    Mcp2,
    /// Node with the packages of the lab.
    Node,
}

/// One client.
pub(crate) struct Script {
    pub(crate) runtime: Runtime,
    /// Below `clients`.
    pub(crate) file: &'static str,
}

/// Where the clients are installed.
pub(crate) struct Lab {
    folder: PathBuf,
}

impl Lab {
    /// The lab; `None` only where somebody said that it may be left out.
    pub(crate) fn find() -> Option<Self> {
        if let Some(folder) = std::env::var_os("COUNTERSIGN_LAB").filter(|folder| !folder.is_empty()) {
            let lab = Self { folder: folder.into() };
            assert!(
                lab.program("python-sdk-2").is_file(),
                "no lab in `{}`: run `cargo xtask lab`",
                lab.folder.display()
            );
            return Some(lab);
        }
        if std::env::var_os("COUNTERSIGN_WITHOUT_LAB").is_some_and(|set| set == "1") {
            println!("SKIPPED: there is no lab, and COUNTERSIGN_WITHOUT_LAB=1 says that this is meant");
            return None;
        }
        panic!(
            "COUNTERSIGN_LAB is not set: run `cargo xtask lab` and set what it prints, or set COUNTERSIGN_WITHOUT_LAB=1 \
             to leave these tests out"
        );
    }

    /// One of the lab's programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// Starts a client towards the gateway at `url`.
    pub(crate) fn start(&self, script: &Script, url: &str, token: &str) -> Client {
        let home = tempfile::tempdir().unwrap();
        let (program, file) = match script.runtime {
            Runtime::Mcp1 => ("python-sdk", Path::new(SCRIPTS).join(script.file)),
            Runtime::Mcp2 => ("python-sdk-2", Path::new(SCRIPTS).join(script.file)),
            Runtime::Node => ("node", self.beside_packages(home.path(), script.file)),
        };
        let path = std::env::var_os("PATH").unwrap();
        let path = std::iter::once(self.folder.join("bin")).chain(std::env::split_paths(&path));
        let mut child = Command::new(self.program(program))
            .arg(file)
            .args([url, token.trim()])
            .env_clear()
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("HOME", home.path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = lines(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let complaints = std::thread::spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        });
        Client { child, said, complaints: Some(complaints), _home: home }
    }

    /// Node finds packages by where a script lies: copies of the scripts, with the lab's packages beside them.
    fn beside_packages(&self, folder: &Path, file: &str) -> PathBuf {
        for name in [file, "dialogue.mjs"] {
            std::fs::copy(Path::new(SCRIPTS).join(name), folder.join(name)).unwrap();
        }
        let packages = self.folder.join("npm/node_modules");
        std::os::unix::fs::symlink(packages, folder.join("node_modules")).unwrap();
        folder.join(file)
    }
}

fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            if send.send(line.unwrap()).is_err() {
                return;
            }
        }
    });
    receive
}

/// What a call showed.
#[derive(Debug)]
pub(crate) struct Shown {
    /// What a program, or the model behind it, gets to read.
    pub(crate) text: String,
    /// Whether the client marks it as an error; `None` where it has no mark.
    pub(crate) failed: Option<bool>,
}

/// A running client.
pub(crate) struct Client {
    child: Child,
    said: Receiver<String>,
    complaints: Option<std::thread::JoinHandle<String>>,
    _home: TempDir,
}

impl Client {
    /// The names of the tools that it was shown.
    pub(crate) fn listed(&mut self) -> Vec<String> {
        let said = self.next("listed");
        serde_json::from_value(said["tools"].clone()).unwrap()
    }

    /// Has it make one call.
    pub(crate) fn call(&mut self, call: &Call) -> Shown {
        self.tell(&json!({"tool": call.tool, "arguments": call.arguments}));
        let said = self.next("called");
        Shown { text: said["text"].as_str().unwrap().to_owned(), failed: said["failed"].as_bool() }
    }

    /// Has it end, which it must do well.
    pub(crate) fn finish(mut self) {
        self.tell(&json!({"end": true}));
        self.next("finished");
        let ended = self.child.wait().unwrap();
        let complaints = self.complaints.take().unwrap().join().unwrap();
        assert!(ended.success(), "{ended}: {complaints}");
        println!("what the client said on the side:\n{complaints}");
    }

    fn tell(&mut self, line: &Value) {
        // A client that is gone says why on standard error, and `next` shows it.
        let _ = writeln!(self.child.stdin.as_mut().unwrap(), "{line}");
    }

    fn next(&mut self, step: &str) -> Value {
        let Ok(line) = self.said.recv_timeout(PATIENCE) else {
            let _ = self.child.kill();
            let complaints = self.complaints.take().unwrap().join().unwrap();
            panic!("`{step}` did not come: {complaints}");
        };
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not one of ours: {line}"));
        assert_eq!(said["step"], step, "{line}");
        said
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
