//! The lab: where the servers and the client lie, what each server stands before, and what a client received.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use countersign_effects::json;
use serde_json::{Value, json};
use tempfile::TempDir;

const DATE: &str = "981173106 +0000";

/// The servers and the client, installed by `cargo xtask lab`.
pub(crate) struct Lab {
    folder: PathBuf,
}

impl Lab {
    /// The lab; `None` only where somebody said that it may be left out.
    pub(crate) fn find() -> Option<Self> {
        if let Some(folder) = std::env::var_os("COUNTERSIGN_LAB").filter(|folder| !folder.is_empty()) {
            let lab = Self { folder: folder.into() };
            assert!(
                Path::new(&lab.program("python-sdk")).is_file(),
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
    pub(crate) fn program(&self, name: &str) -> String {
        self.folder.join("bin").join(name).display().to_string()
    }

    /// Makes the world anew and runs its script against `peer`.
    pub(crate) fn drive(&self, world: &World, peer: &Peer) -> Transcript {
        world.make();
        self.drive_made(world, peer)
    }

    /// Runs the script of `world`, as it stands, against `peer`.
    pub(crate) fn drive_made(&self, world: &World, peer: &Peer) -> Transcript {
        let aside = tempfile::tempdir().unwrap();
        let (plan, out) = (aside.path().join("plan.json"), aside.path().join("out.json"));
        let how = match peer {
            Peer::Stdio { cwd } => ("stdio", json!({"command": world.command, "env": world.env, "cwd": cwd})),
            Peer::Http { url, token } => ("http", json!({"url": url, "token": token.trim()})),
        };
        let (folder, beside) = (world.folder(), super::BESIDE);
        let newer = world.sdk == Sdk::Two;
        let text = json!({
            "script": world.script, "out": out, "folder": folder, "beside": beside, "newer": newer, how.0: how.1,
        });
        std::fs::write(&plan, text.to_string()).unwrap();
        let (python, client) = match world.sdk {
            Sdk::One => ("python-sdk", "client.py"),
            Sdk::Two => ("python-sdk-2", "client_2.py"),
        };
        let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/third_party").join(client);
        // The SDK hands some variables on to servers; the gateway hands on `PATH` and what its configuration names.
        let ended = Command::new(self.program(python))
            .arg(client)
            .arg(plan)
            .env_clear()
            .env("PATH", path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        serde_json::from_slice(&std::fs::read(out).unwrap()).unwrap()
    }

    /// Starts server-everything as a server over HTTP.
    pub(crate) fn serve_everything(&self) -> Served {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Command::new(self.program("mcp-server-everything"))
            .arg("streamableHttp")
            .env_clear()
            .env("PATH", path())
            .env("PORT", address.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let served = Served { child, url: format!("http://{address}/mcp") };
        super::support::until("the server listens", &mut || std::net::TcpStream::connect(address).is_ok());
        served
    }
}

fn path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap()
}

/// A server of its own; it ends with its handle.
pub(crate) struct Served {
    child: Child,
    /// Where it listens.
    pub(crate) url: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whom the client talks to.
pub(crate) enum Peer {
    /// The server of the world, as a child process of the client.
    Stdio {
        /// The child's folder.
        cwd: PathBuf,
    },
    /// Whoever listens there.
    Http {
        /// Where.
        url: String,
        /// The bearer token.
        token: String,
    },
}

/// A major of the official client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sdk {
    /// It knows the older revisions.
    One,
    /// It knows all of them.
    Two,
}

/// A script, its server, and the folder that both see. The folder is made anew at the same path for each run.
pub(crate) struct World {
    /// The function in `scripts.py`.
    pub(crate) script: &'static str,
    /// The server.
    pub(crate) command: Vec<String>,
    /// Its environment besides `PATH`.
    pub(crate) env: BTreeMap<&'static str, String>,
    /// The client.
    sdk: Sdk,
    /// In which era the gateway speaks to it; its own choice where none is named.
    pub(crate) era: Option<&'static str>,
    fill: fn(&Path),
    place: TempDir,
}

impl World {
    /// `server-everything`, which needs no folder.
    pub(crate) fn everything(lab: &Lab) -> Self {
        Self::new("everything", |_| {}, |_| vec![lab.program("mcp-server-everything"), "stdio".to_owned()])
    }

    /// `server-filesystem` before a folder with two files.
    pub(crate) fn filesystem(lab: &Lab) -> Self {
        let fill = |folder: &Path| {
            std::fs::create_dir(folder.join("seed")).unwrap();
            std::fs::write(folder.join("seed/data.json"), "{\"a\": [1, 2]}\r\n").unwrap();
            std::fs::write(folder.join("seed/dot.png"), b"\x89PNG\r\n\x1a\n\x00\xff").unwrap();
        };
        Self::new("filesystem", fill, |folder| vec![lab.program("mcp-server-filesystem"), folder])
    }

    /// `mcp-server-git` before a repository with one commit, one change and one new file.
    pub(crate) fn git(lab: &Lab) -> Self {
        let fill = |folder: &Path| {
            git(folder, &["init", "--quiet", "--initial-branch=main"]);
            git(folder, &["config", "user.name", "A U Thor"]);
            git(folder, &["config", "user.email", "author@example.org"]);
            std::fs::write(folder.join("changed.txt"), "one\n").unwrap();
            git(folder, &["add", "."]);
            git(folder, &["commit", "--quiet", "--message", "first: é"]);
            std::fs::write(folder.join("changed.txt"), "one\n\"two\"\t\u{2028}\n").unwrap();
            std::fs::write(folder.join("new.txt"), "new\n").unwrap();
        };
        let command = |folder| vec![lab.program("mcp-server-git"), "--repository".to_owned(), folder];
        let mut world = Self::new("git", fill, command);
        world.env = ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"].map(|name| (name, DATE.to_owned())).into();
        world
    }

    /// `server-memory`, which keeps its graph in a file.
    pub(crate) fn memory(lab: &Lab) -> Self {
        let mut world = Self::new("memory", |_| {}, |_| vec![lab.program("mcp-server-memory")]);
        let file = world.folder().join("memory.jsonl").display().to_string();
        world.env = [("MEMORY_FILE_PATH", file)].into();
        world
    }

    /// `server-sequential-thinking`, which keeps what it was told for as long as it runs.
    pub(crate) fn sequential_thinking(lab: &Lab) -> Self {
        Self::new("sequential_thinking", |_| {}, |_| vec![lab.program("mcp-server-sequential-thinking")])
    }

    /// `mcp-server-time`; its descriptions name the zone of the machine, unless they are told another.
    pub(crate) fn time(lab: &Lab) -> Self {
        Self::new("time", |_| {}, |_| vec![lab.program("mcp-server-time"), "--local-timezone=Etc/UTC".to_owned()])
    }

    /// `mcp-server-sqlite` before a database that is not there yet.
    pub(crate) fn sqlite(lab: &Lab) -> Self {
        let server = lab.program("mcp-server-sqlite");
        Self::new("sqlite", |_| {}, |folder| vec![server, "--db-path".to_owned(), format!("{folder}/crew.sqlite")])
    }

    /// `server-postgres` before a database.
    pub(crate) fn postgres(lab: &Lab, database: &str) -> Self {
        Self::new("postgres", |_| {}, |_| vec![lab.program("mcp-server-postgres"), database.to_owned()])
    }

    /// The same, spoken to in this era and no other.
    pub(crate) fn in_era(self, era: &'static str) -> Self {
        Self { era: Some(era), ..self }
    }

    /// Whether client and server speak different eras.
    pub(crate) fn is_across(&self) -> bool {
        self.era == Some("modern") && self.sdk == Sdk::One
    }

    /// The same, driven by the client of both eras.
    pub(crate) fn of_both_eras(self) -> Self {
        Self { sdk: Sdk::Two, ..self }
    }

    fn new(script: &'static str, fill: fn(&Path), command: impl FnOnce(String) -> Vec<String>) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut world =
            Self { script, command: Vec::new(), env: BTreeMap::new(), sdk: Sdk::One, era: None, fill, place };
        world.command = command(world.folder().display().to_string());
        world
    }

    fn folder(&self) -> PathBuf {
        self.place.path().canonicalize().unwrap().join("world")
    }

    /// Makes the folder as it was before.
    pub(crate) fn make(&self) {
        let folder = self.folder();
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        (self.fill)(&folder);
    }
}

fn git(folder: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    command.current_dir(folder).args(args).env_clear().env("PATH", path());
    let done = command.env("GIT_AUTHOR_DATE", DATE).env("GIT_COMMITTER_DATE", DATE).status().unwrap();
    assert!(done.success(), "git {args:?}");
}

/// What `client.py` wrote.
#[derive(serde::Deserialize)]
pub(crate) struct Transcript {
    /// Every message, as it came.
    received: Vec<String>,
    /// Every call: `id`, `tool`, `arguments`, `status`, and what the SDK made of the answer.
    pub(crate) calls: Vec<Value>,
    /// What callbacks for progress were told.
    pub(crate) progress: Vec<Value>,
    /// The tools.
    pub(crate) listed: Vec<String>,
    /// Pings that were answered.
    pub(crate) pings: u64,
}

impl Transcript {
    /// Responses and progress, by the request that they belong to, in the order in which they came.
    pub(crate) fn by_request(&self) -> BTreeMap<u64, Vec<String>> {
        let mut sorted: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for text in &self.received {
            if let Ok(id) = belongs_to(text) {
                sorted.entry(id).or_default().push(text.clone());
            }
        }
        sorted
    }

    /// Methods of the messages that belong to no request.
    pub(crate) fn others(&self) -> Vec<String> {
        self.received.iter().filter_map(|text| belongs_to(text).err()).collect()
    }

    /// The request that opened the session.
    pub(crate) fn opening(&self) -> Option<u64> {
        self.by_request().into_keys().next()
    }

    /// The call with this id.
    pub(crate) fn call(&self, id: u64) -> Option<&Value> {
        self.calls.iter().find(|call| call["id"] == id)
    }

    /// How many calls the server answered with an error of the protocol.
    pub(crate) fn errors(&self) -> usize {
        self.calls.iter().filter(|call| call["status"] == "failed" && !call["error"].is_null()).count()
    }

    /// What was asked: id and tool.
    pub(crate) fn asked(&self) -> Vec<(u64, &str)> {
        self.calls.iter().map(|call| (call["id"].as_u64().unwrap(), call["tool"].as_str().unwrap())).collect()
    }

    /// What was sent: tool, arguments and how it ended for the client.
    pub(crate) fn sent(&self) -> Vec<(String, String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let calls = self.calls.iter();
        calls.map(|call| (text(&call["tool"]), canonical(&call["arguments"]), text(&call["status"]))).collect()
    }
}

/// One spelling of a value, whatever the order of its members.
pub(crate) fn canonical(value: &Value) -> String {
    let text = value.to_string();
    let node = json::parse(text.as_bytes(), &json::Limits::default()).unwrap();
    String::from_utf8(json::canonical(&node, text.as_bytes())).unwrap()
}

/// The request of a message, or the message's method.
fn belongs_to(text: &str) -> Result<u64, String> {
    let message: Value = serde_json::from_str(text).unwrap();
    let id = match message["method"].as_str() {
        None => &message["id"],
        Some("notifications/progress") => &message["params"]["progressToken"],
        Some(other) => return Err(other.to_owned()),
    };
    Ok(id.as_u64().unwrap_or_else(|| panic!("not one of the client's ids: {text}")))
}
