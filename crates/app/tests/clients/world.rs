//! What stands behind the gateway: one upstream, and three calls to it of which one is denied and one waits.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::script::Lab;
use crate::support::Setup;

/// One call.
pub(crate) struct Call {
    pub(crate) tool: &'static str,
    pub(crate) arguments: Value,
    /// Stands in the upstream's answer.
    pub(crate) answer: &'static str,
    /// Whether the tool declares a schema of its output.
    pub(crate) schema: bool,
}

/// Counts the effects of the gated call; what was denied must not have happened either.
type Effects = fn(&Path) -> usize;

/// An upstream, its calls, and the effects that they have.
pub(crate) struct World {
    command: Vec<String>,
    env: Value,
    tools: &'static str,
    pub(crate) allowed: Call,
    pub(crate) denied: Call,
    pub(crate) gated: Call,
    effects: Effects,
    folder: TempDir,
}

impl World {
    /// `server-memory`, which speaks the older era and declares a schema of each tool's output.
    pub(crate) fn memory(lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.jsonl");
        let entity = |name| json!({"name": name, "entityType": "person", "observations": []});
        std::fs::write(
            &file,
            json!({"type": "entity", "name": "Bob", "entityType": "person", "observations": []}).to_string(),
        )
        .unwrap();
        let call = |tool, arguments, answer| Call { tool, arguments, answer, schema: true };
        Self {
            command: vec![lab.program("mcp-server-memory").display().to_string()],
            env: json!({ "MEMORY_FILE_PATH": file }),
            tools: "{ read_graph: { effect: read, arguments: {} } }",
            allowed: call("read_graph", json!({}), "Bob"),
            denied: call("delete_entities", json!({"entityNames": ["Bob"]}), ""),
            gated: call("create_entities", json!({"entities": [entity("Ada \u{2028} é")]}), "Ada \u{2028} é"),
            effects: |folder| {
                let graph = std::fs::read_to_string(folder.join("memory.jsonl")).unwrap();
                assert!(graph.contains("Bob"), "it was not deleted");
                graph.matches("Ada").count()
            },
            folder,
        }
    }

    /// The server of Git, which speaks both eras, before a repository with one commit and one staged change.
    pub(crate) fn git(lab: &Lab) -> Self {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        git(folder, &["init", "--quiet", "--initial-branch=main"]);
        git(folder, &["config", "user.name", "A U Thor"]);
        git(folder, &["config", "user.email", "author@example.org"]);
        git(folder, &["commit", "--quiet", "--allow-empty", "--message", "first"]);
        std::fs::write(folder.join("new.txt"), "new\n").unwrap();
        git(folder, &["add", "."]);
        let path = folder.display().to_string();
        let call = |tool, arguments: Value, answer| {
            let mut arguments = arguments;
            arguments["repo_path"] = path.as_str().into();
            Call { tool, arguments, answer, schema: false }
        };
        Self {
            command: [&lab.program("mcp-server-git").display().to_string(), "--repository", &path]
                .map(str::to_owned)
                .into(),
            env: json!({}),
            tools: "{ git_status: { effect: read, arguments: { repo_path: plain } } }",
            allowed: call("git_status", json!({}), "new.txt"),
            denied: call("git_reset", json!({}), ""),
            gated: call("git_commit", json!({"message": "second: é"}), "committed"),
            effects: |folder| {
                let commits: usize = git(folder, &["rev-list", "--count", "HEAD"]).trim().parse().unwrap();
                if commits == 1 {
                    assert_eq!(git(folder, &["diff", "--cached", "--name-only"]), "new.txt\n", "it was not reset");
                }
                commits - 1
            },
            folder: place,
        }
    }

    /// What the installation stands before.
    pub(crate) fn setup(&self) -> Setup {
        let command: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let mut setup = Setup::command(&command);
        setup.upstream = format!("{}\n    env: {}", setup.upstream, self.env);
        Setup { tools: self.tools.to_owned(), policy: self.policy(), ..setup }
    }

    /// Everything is possible; one tool is denied when it is called, and one waits for a human.
    fn policy(&self) -> String {
        format!(
            r#"
@id("everything-is-possible")
permit (principal, action in Action::"call", resource);

@id("not-this")
forbid (principal, action in Action::"call", resource)
when {{ context.tool == "{}" }};

@id("changes-need-consent")
@gate("changes need a human's consent")
@quorum("1")
@timeout("30m")
forbid (principal, action in Action::"call", resource)
when {{ context.tool == "{}" }};
"#,
            self.denied.tool, self.gated.tool
        )
    }

    /// How often the gated call took effect.
    pub(crate) fn effects(&self) -> usize {
        (self.effects)(self.folder.path())
    }
}

fn git(folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}
