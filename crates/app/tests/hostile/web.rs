//! Servers on HTTP that play foul: what comes back never ends, is not for whoever asked, or sends the gateway elsewhere.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use countersign_model::Body;
use countersign_model::record::Status;
use serde_json::Value;

use super::support::agent::{Agent, End};
use super::support::log::Entry;
use super::support::{Installation, POLICY, Setup, python};

/// `web.py`; it ends with its handle.
struct Served {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Served {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/web.py");
        let mut child = Command::new(python()).arg(script).arg(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap(), folder }
    }

    fn file(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// An installation with an upstream for each way of playing foul, which gives up on a call after two seconds and has a
    /// credential for each.
    fn installed(&self, hows: &[&str]) -> Installation {
        let at = Installation::new(&Setup { policy: POLICY.to_owned(), ..Setup::lab() });
        at.write("upstream.key", "Bearer upstream-secret");
        std::fs::set_permissions(at.path("upstream.key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let upstream = |how: &&str| {
            format!(
                "  - id: {how}\n    target: lab\n    environment: production\n    url: http://127.0.0.1:{}/{how}/mcp\n    \
                 era: legacy\n    credential: {{ header: Authorization, from: 'file:upstream.key' }}\n    \
                 tools: {{ put: {{ effect: outbound, arguments: {{ id: plain }} }} }}\n",
                self.port
            )
        };
        let upstreams: String = hows.iter().map(upstream).collect();
        let text = at.read("countersign.yaml");
        let (head, rest) = text.split_once("upstreams:\n").unwrap();
        let (_, tail) = rest.split_once("budgets:").unwrap();
        at.write("countersign.yaml", &format!("{head}upstreams:\n{upstreams}budgets:{tail}call_timeout: 2s\n"));
        at.owner(&["policy", "activate"]);
        at
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How calls of an upstream ended, in order.
fn outcomes(records: &[Entry], upstream: &str) -> Vec<Status> {
    let mut own = Vec::new();
    let mut found = Vec::new();
    for entry in records {
        match &entry.record.body {
            Body::Intent(intent) if intent.upstream.as_str() == upstream => own.push(entry.index),
            Body::Outcome(outcome) if own.contains(&outcome.intent.0) => found.push(outcome.status),
            _ => {}
        }
    }
    found
}

/// First calls, all at once, and honest ones after them.
async fn answered(hows: &[&'static str]) -> (Served, Vec<(&'static str, End, Vec<Status>)>) {
    let served = Served::new();
    let at = served.installed(hows);
    let gateway = at.up().await;
    let mut calling = Vec::new();
    for how in hows {
        // Where there is one upstream alone, it is `/mcp/UPSTREAM` all the same.
        let (url, token) = (format!("{}/{how}", gateway.url), at.token());
        calling.push(tokio::spawn(async move {
            let first = Agent::connect(&url, &token).await.call("put", "one").await.end;
            // Each client has a session of its own, so another one is not held up by what became of the first.
            let second = Agent::connect(&url, &token).await.call("put", "two").await.end;
            (first, second)
        }));
    }
    let mut ends = Vec::new();
    for (how, calling) in hows.iter().zip(calling) {
        let (first, second) = calling.await.unwrap();
        assert_eq!(second, End::Ran("done".to_owned()), "{how}");
        ends.push((*how, first));
    }
    gateway.stop().await;
    let records = at.records();
    let all = ends.into_iter().map(|(how, first)| (how, first, outcomes(&records, how)));
    (served, all.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_to_this_call_leaves_it_unknown() {
    let hows = [
        "never-answers",
        "never-ends",
        "drips",
        "swells",
        "other-id",
        "word-for-id",
        "no-answer",
        "not-json",
        "lies-of-kind",
        "breaks-off",
        "many-headers",
    ];
    let (served, ends) = answered(&hows).await;
    for (how, first, outcomes) in ends {
        assert_eq!(first, End::Failed("unknown".to_owned()), "{how}");
        assert_eq!(outcomes, [Status::Unknown, Status::Done], "{how}");
        let calls = served.file("effects").iter().filter(|line| line.starts_with(&format!("{how} "))).count();
        assert_eq!(calls, 2, "{how}: a call is made once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sent_elsewhere_with_a_credential() {
    let (served, ends) = answered(&["redirects", "says-unauthorized"]).await;
    for (how, first, outcomes) in ends {
        assert_eq!(first, End::Failed("failed".to_owned()), "{how}");
        assert_eq!(outcomes, [Status::Failed, Status::Done], "{how}");
    }
    assert_eq!(served.file("strays"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_once_and_for_its_own_call() {
    let (_served, ends) = answered(&["answers-twice", "answers-for-others", "answers-after"]).await;
    for (how, first, outcomes) in ends {
        assert_eq!(first, End::Ran("done".to_owned()), "{how}");
        assert_eq!(outcomes, [Status::Done; 2], "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_is_another_one_in_every_listing_is_neither_shown_nor_called_anew() {
    let served = Served::new();
    let at = served.installed(&["lists-otherwise"]);
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("put", "one").await.end, End::Ran("done".to_owned()));
    let raw = agent.client.request("tools/list", None).await.unwrap();
    let listed: Value = serde_json::from_slice(raw.bytes()).unwrap();
    assert!(!listed.to_string().contains("Puts it, version"), "what is not what ran is not shown: {listed}");
    assert_eq!(agent.call("put", "two").await.denied(), "tool_changed");
    gateway.stop().await;
    assert_eq!(served.file("effects"), ["lists-otherwise one"]);
    assert!(at.records().iter().any(|entry| entry.reason() == "tool_changed"));
}
