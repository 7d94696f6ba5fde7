//! What the tests of the whole program share: installations, gateways as child processes, agents and humans.
//!
//! Everything runs the real binary in a folder of its own. Nothing here asserts what a test is about.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

pub(crate) mod admin;
pub(crate) mod agent;
pub(crate) mod forge;
pub(crate) mod gateway;
pub(crate) mod human;
pub(crate) mod log;
pub(crate) mod pty;
pub(crate) mod web;
pub(crate) mod witness;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_countersign");
/// The human of every installation, and the passphrase of the key.
pub(crate) const OWNER: &str = "owner";
/// What opens the owner's key.
pub(crate) const PASSPHRASE: &str = "correct horse battery";
/// The agent for whom every installation has a token from the start.
pub(crate) const AGENT: &str = "alpha";

/// Permits every tool; `change` waits for a human.
pub(crate) const POLICY: &str = r#"
@id("everything-is-possible")
permit (principal, action in Action::"call", resource);

@id("changes-need-consent")
@gate("changes need a human's consent")
@quorum("1")
@timeout("30m")
forbid (principal, action in Action::"call", resource)
when { context.tool == "change" };
"#;
/// Bindings of the tools of `upstream.py`.
pub(crate) const TOOLS: &str = r#"{
  put: { effect: outbound, arguments: { id: plain, text: plain } },
  look: { effect: read, arguments: { id: plain, text: plain } },
  change: { effect: write, arguments: { id: plain, text: plain } },
  hold: { effect: outbound, arguments: { id: plain, text: plain } } }"#;

/// What an installation is to be.
pub(crate) struct Setup {
    /// `command: [...]` or `url: ...`, and whatever else stands in an upstream's entry, as YAML in flow style.
    pub(crate) upstream: String,
    /// Its tools, as YAML in flow style.
    pub(crate) tools: String,
    /// Cedar.
    pub(crate) policy: String,
    /// Budgets, each as YAML in flow style: `{ scope: run, calls: 8 }`.
    pub(crate) budgets: Vec<String>,
    /// Agents besides [`AGENT`].
    pub(crate) agents: Vec<String>,
}

impl Setup {
    /// In front of `upstream.py`, which keeps its effects in the folder `world` of the installation.
    pub(crate) fn lab() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/upstream.py");
        Self::command(&[&python(), &script.display().to_string(), "world"])
    }

    /// In front of a child process; relative arguments start at the installation's folder.
    pub(crate) fn command(command: &[&str]) -> Self {
        Self::upstream(format!("command: {}", serde_json::to_string(command).unwrap()))
    }

    /// In front of a server.
    pub(crate) fn url(url: &str) -> Self {
        Self::upstream(format!("url: {}", Value::from(url)))
    }

    fn upstream(upstream: String) -> Self {
        Self { upstream, tools: TOOLS.to_owned(), policy: POLICY.to_owned(), budgets: Vec::new(), agents: Vec::new() }
    }
}

/// The interpreter itself: a launcher may need more than the `PATH` that an upstream gets.
pub(crate) fn python() -> String {
    let found = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

/// One installation in a folder of its own, with a human, an agent and an accepted configuration.
pub(crate) struct Installation {
    folder: TempDir,
    /// The log's origin.
    pub(crate) origin: String,
}

impl Installation {
    /// Makes it with `init` and `policy activate`, at a terminal.
    pub(crate) fn new(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Self { origin: String::new(), folder };
        let root = made.root().display().to_string();
        let asked = ["new passphrase for owner's key: ", "the same again: "].map(|prompt| (prompt, PASSPHRASE));
        let ran = pty::run(PROGRAM.as_ref(), &["--json", "init", &root, "--agent", AGENT], &asked);
        assert_eq!(ran.code, 0, "init: {ran:?}");
        let written = made.read("countersign.yaml");
        let origin = written.lines().find_map(|line| line.strip_prefix("origin: ")).unwrap().to_owned();
        let made = Self { origin, ..made };
        std::fs::create_dir(made.path("world")).unwrap();
        made.configure(setup);
        made.owner(&["policy", "activate"]);
        made
    }

    /// Writes configuration and policy; nobody has accepted them yet.
    pub(crate) fn configure(&self, setup: &Setup) {
        let agents: String = std::iter::once(AGENT)
            .chain(setup.agents.iter().map(String::as_str))
            .map(|agent| format!("  - {{ id: {agent}, groups: [agents] }}\n"))
            .collect();
        let Setup { upstream, tools, policy, budgets, .. } = setup;
        let origin = &self.origin;
        let budgets = budgets.join(", ");
        let text = format!(
            "version: 1\ntenant: default\norigin: {origin}\nlisten: 127.0.0.1:0\npolicy: [policy.cedar]\n\
             agents:\n{agents}upstreams:\n  - id: lab\n    target: lab\n    environment: production\n    {upstream}\n    \
             tools: {}\nbudgets: [{budgets}]\n",
            tools.replace('\n', " "),
        );
        self.write("countersign.yaml", &text);
        self.write("policy.cedar", policy);
    }

    /// Its folder.
    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A file in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// The text of a file in its folder.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces a file in its folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Runs `countersign --json ...` without any terminal.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(&self.with_config(args))
    }

    /// Runs `countersign --json ...` at a terminal; `answers` are typed at their prompts.
    pub(crate) fn at_terminal(&self, args: &[&str], answers: &[(&str, &str)]) -> Ran {
        pty::run(PROGRAM.as_ref(), &self.with_config(args), answers)
    }

    /// Runs `countersign --json ...` as the owner, who knows the passphrase; it must succeed.
    pub(crate) fn owner(&self, args: &[&str]) -> Value {
        let consent = if args == ["policy", "activate"] { self.wider() } else { None };
        let consent = consent.iter().flat_map(|digest| ["--accept-wider", digest]);
        let args: Vec<&str> = args.iter().copied().chain(consent).collect();
        let ran = self.at_terminal(&args, &[("passphrase for owner's key: ", PASSPHRASE)]);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran.json()
    }

    /// The digest to consent to, where the policy is wider than the one in force.
    fn wider(&self) -> Option<String> {
        let ran = self.run(&["policy", "activate"]);
        (ran.code == 3).then(|| ran.error().split("--accept-wider ").nth(1).unwrap().chars().take(64).collect())
    }

    /// The token that the first agent got from `init`.
    pub(crate) fn token(&self) -> String {
        self.read(&format!("tokens/{AGENT}.token"))
    }

    /// Has the owner issue a token; the gateway must run.
    pub(crate) fn issue(&self, agent: &str, run: Option<&str>) -> String {
        let mut args = vec!["token", "issue", agent];
        args.extend(run.iter().flat_map(|run| ["--run", run]));
        self.owner(&args)["token"].as_str().unwrap().to_owned()
    }

    /// Has the owner approve what waits under `ticket`; the gateway must run.
    pub(crate) fn approve(&self, ticket: &str) {
        self.owner(&["approvals", "approve", ticket]);
    }

    /// What `upstream.py` has done so far: `TOOL ID` each.
    pub(crate) fn effects(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("world/effects")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until no process of `upstream.py` is left, so that nothing can be added to the effects any more.
    pub(crate) fn upstreams_ended(&self) {
        let pids = self.read("world/pids");
        for pid in pids.lines() {
            until("an upstream ended", &mut || {
                let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                !state.contains("python") || state.contains(") Z ")
            });
        }
    }

    fn with_config<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let config = self.root().to_str().unwrap();
        let config: &'static str = Box::leak(format!("--config={config}/countersign.yaml").into_boxed_str());
        ["--json", config].into_iter().chain(args.iter().copied()).collect()
    }
}

/// Runs the program without any terminal: in a session of its own, with nothing to read.
pub(crate) fn run(args: &[&str]) -> Ran {
    let mut command = Command::new("setsid");
    let ended = command.arg("--wait").arg(PROGRAM).args(args).stdin(Stdio::null()).output().unwrap();
    Ran::new(ended, String::new())
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code; -1 for a signal.
    pub(crate) code: i32,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
    /// What its terminal showed, if it had one.
    pub(crate) screen: String,
}

impl Ran {
    fn new(ended: Output, screen: String) -> Self {
        Self {
            code: ended.status.code().unwrap_or(-1),
            stdout: String::from_utf8(ended.stdout).unwrap(),
            stderr: String::from_utf8(ended.stderr).unwrap(),
            screen,
        }
    }

    /// The one JSON object that it printed.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not one JSON value: {error}: {self:?}"))
    }

    /// The `error` of the object that it printed.
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no `error`: {self:?}")).to_owned()
    }
}

/// Waits for something that must come soon.
pub(crate) fn until(what: &str, came: &mut dyn FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !came() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A seeded source of numbers (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        low + (mixed ^ (mixed >> 31)) % (high - low + 1)
    }
}

/// Not every test uses every helper; naming them here keeps the rest from looking dead.
const _: () = {
    let _ = (Setup::lab, Setup::command, Setup::url, python, run, until, Dice::between);
    let _ = (Installation::new, Installation::configure, Installation::root, Installation::path, Installation::read);
    let _ = (Installation::write, Installation::run, Installation::at_terminal, Installation::owner);
    let _ = (Installation::token, Installation::issue, Installation::approve, Installation::effects);
    let _ = (Installation::upstreams_ended, Ran::json, Ran::error, OWNER);
    let _ = |ran: Ran| (ran.stderr, ran.screen);
};
