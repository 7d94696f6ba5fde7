//! The gateway of the comparison: a throw-away installation that permits all that the suite does, and `countersign up`.
//!
//! It is made as a person would make it, with `init` and `policy activate` at a terminal. Each start gets a copy, for a
//! gateway remembers which definition of a tool it saw first, and scenarios reuse names. It must not know the scenarios.

use super::processes::{free_port, said_url};
use crate::shell;
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const AGENT: &str = "suite";
/// Of a key that opens nothing and is thrown away with its folder.
const PASSPHRASE: &str = "throw-away passphrase";
const POLICY: &str = "@id(\"the-suite-may-do-anything\")\npermit (principal, action in Action::\"call\", resource);\n";
/// Methods and what they do, bound as tools are. Tools of the suite stay unbound: opaque, and permitted all the same.
const TOOLS: &str = r#"{ "resources/read": { effect: read }, "resources/subscribe": { effect: read },
  "prompts/get": { effect: read }, "completion/complete": { effect: read }, "tasks/update": { effect: write },
  "sampling/createMessage": { effect: outbound }, "elicitation/create": { effect: outbound }, "roots/list": { effect: read },
  "skills/list": { effect: read }, "skills/get": { effect: read }, "resources/directory/read": { effect: read } }"#;
/// An extension that the gateway knows nothing of, let through as an operator would: by its methods and its name.
const EXTENSION: &str =
    "methods: [skills/list, skills/get, resources/directory/read]\nextensions: [io.modelcontextprotocol/skills]\n";

/// An installation that nobody runs in; it is copied.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Installation {
    program: PathBuf,
    folder: PathBuf,
    /// Where its upstream is expected, on loopback, under `/mcp`.
    pub(super) upstream: u16,
    /// Where the suite connects, on loopback: the one origin that the gateway lets in, as an operator would list it.
    pub(super) front: u16,
}

impl Installation {
    /// Makes it in `folder`; the fixture as a `child` replaces the upstream at a port.
    pub(super) fn make(program: &Path, folder: &Path, child: Option<&Path>) -> Result<Self> {
        // Held until the other is chosen, so that the two differ.
        let held = std::net::TcpListener::bind(("127.0.0.1", free_port()?))?;
        let (upstream, front) = (held.local_addr()?.port(), free_port()?);
        let made = Self { program: program.to_owned(), folder: folder.to_owned(), upstream, front };
        let root = folder.to_str().context("the build's folder is not UTF-8")?;
        made.at_terminal(&["init", root, "--agent", AGENT], 2)?;
        let config = folder.join("countersign.yaml");
        let written = fs::read_to_string(&config).context("`init` wrote no configuration")?;
        let origin = written.lines().find(|line| line.starts_with("origin: ")).context("there is no origin")?;
        fs::write(&config, made.configuration(origin, child)?)?;
        fs::write(folder.join("policy.cedar"), POLICY)?;
        made.activate(&config)?;
        Ok(made)
    }

    fn configuration(&self, origin: &str, child: Option<&Path>) -> Result<String> {
        let upstream = match child {
            Some(fixture) => {
                let words = [fixture.to_str().context("the build's folder is not UTF-8")?, "server", "--stdio"];
                format!("command: {}", serde_json::to_string(&words)?)
            }
            None => format!("url: http://127.0.0.1:{}/mcp", self.upstream),
        };
        Ok(format!(
            "version: 1\ntenant: default\n{origin}\nlisten: 127.0.0.1:0\norigins: [\"http://127.0.0.1:{}\"]\n{EXTENSION}policy: [policy.cedar]\n\
             agents:\n  - {{ id: {AGENT}, groups: [agents] }}\n\
             upstreams:\n  - id: suite\n    target: suite\n    environment: production\n    \
             {upstream}\n    tools: {}\nbudgets: []\n",
            self.front,
            TOOLS.replace('\n', " "),
        ))
    }

    /// The human accepts it, and what it makes wider than the template of `init`.
    fn activate(&self, config: &Path) -> Result<()> {
        let config = format!("--config={}", config.display());
        let asked = Command::new("setsid")
            .arg("--wait")
            .arg(&self.program)
            .args(["--json", &config, "policy", "activate"])
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&asked.stdout);
        let digest = said.split("--accept-wider ").nth(1).map(|rest| rest.chars().take(64).collect::<String>());
        let wider: Vec<&str> = digest.iter().flat_map(|digest| ["--accept-wider", digest]).collect();
        self.at_terminal(&[&[config.as_str(), "policy", "activate"], wider.as_slice()].concat(), 1)
    }

    /// Runs the program at a terminal, where the passphrase is typed `times`.
    fn at_terminal(&self, args: &[&str], times: usize) -> Result<()> {
        let program = self.program.to_str().context("the build's folder is not UTF-8")?;
        let line = [&[program, "--json"], args].concat().iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        let child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.context("a terminal is made by `script` of util-linux, which cannot be started")?;
        if let Some(keyboard) = &mut child.stdin {
            keyboard.write_all(format!("{PASSPHRASE}\n").repeat(times).as_bytes())?;
        }
        let ended = child.wait_with_output()?;
        if !ended.status.success() {
            bail!("`{line}` ended with {}: {}", ended.status, String::from_utf8_lossy(&ended.stdout).trim());
        }
        Ok(())
    }

    /// Starts a gateway on a copy in `folder`, hands `during` its URL and the file with the token, and ends it.
    pub(super) fn up<T>(&self, folder: &Path, during: impl FnOnce(&str, &Path) -> Result<T>) -> Result<T> {
        shell::run(Command::new("cp").arg("-a").arg(&self.folder).arg(folder))?;
        let errors = File::create(folder.join("gateway.err"))?;
        let mut gateway = Command::new(&self.program)
            .args(["--json", "up", "--config"])
            .arg(folder.join("countersign.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("cannot start the gateway")?;
        let done = said_url(&mut gateway)
            .with_context(|| format!("the gateway is not up; see `{}`", folder.join("gateway.err").display()))
            .and_then(|url| during(&url, &folder.join("tokens").join(format!("{AGENT}.token"))));
        // Whatever came of it; a gateway can be ended at any time.
        let _ = gateway.kill();
        let _ = gateway.wait();
        done
    }
}

/// One word for the shell.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
