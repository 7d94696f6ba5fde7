//! Real child processes: a clean environment, restart after death, and no survivor in the group.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign_model::record::Status;
use tokio_util::sync::CancellationToken;

use crate::mcp::config::{UpstreamConfig, UpstreamLimits};
use crate::mcp::execute::testing::server::until;
use crate::mcp::execute::testing::{TestLeave, action, id};
use crate::mcp::execute::{Executor, Upstream};
use crate::mcp::guard::{Guard, UpstreamState};
use crate::mcp::wire::Era;

/// Answers by counting, as our ids do; leaves a grandchild behind; dies when asked to.
const SERVER: &str = r#"
sleep 1000 & echo $! > "$PIDS/child.$$"
echo "a line for the log" >&2
n=0
while read -r line; do
  case "$line" in
    *'"id":'*) n=$((n+1)) ;;
  esac
  case "$line" in
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$n',"result":{"protocolVersion":"2024-11-05","capabilities":{"tools":{}},"serverInfo":{}}}' ;;
    *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'$n',"result":{"tools":[{"name":"env"}]}}' ;;
    *'"die"'*) exit 1 ;;
    *'"long"'*) head -c 300000 /dev/zero | tr '\\0' x ;;
    *'"silent"'*) ;;
    *'"tools/call"'*) echo '{"jsonrpc":"2.0","id":'$n',"result":{"env":"'$(env | cut -d= -f1 | sort | tr '\n' ' ')'"}}' ;;
  esac
done
"#;

async fn upstream(pids: &Path) -> Upstream {
    let env = vec![("PIDS".to_owned(), pids.display().to_string())];
    let args = vec!["-c".to_owned(), SERVER.to_owned()];
    let config = UpstreamConfig::stdio(id(), "/bin/sh", args, env, Some(pids.to_owned())).unwrap();
    let limits = UpstreamLimits { backoff_min: Duration::from_millis(10), ..UpstreamLimits::default() };
    Upstream::connect(config.with_limits(limits)).await.unwrap()
}

fn leave() -> TestLeave {
    TestLeave::new(CancellationToken::new())
}

fn executor(upstream: &Upstream, tool: &str) -> Executor {
    action(upstream, format!(r#"{{"name":"{tool}"}}"#).into(), None)
}

fn grandchildren(pids: &Path) -> Vec<String> {
    let files = std::fs::read_dir(pids).unwrap();
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap().trim().to_owned()).collect()
}

/// Whether a process is gone, or waits for an idle init to collect it.
fn is_dead(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

async fn dies(pid: &str) {
    for _ in 0..500 {
        if is_dead(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} lives on");
}

#[tokio::test]
async fn a_child_sees_configured_variables_only_and_dies_with_its_group() {
    let pids = tempfile::tempdir().unwrap();
    let upstream = upstream(pids.path()).await;
    assert_eq!(upstream.hello(Era::Legacy).unwrap().version(), "2024-11-05");
    let done = executor(&upstream, "env").carry_out(leave()).await;
    let result = String::from_utf8(done.result).unwrap();
    let names: Vec<&str> = result.trim_start_matches("{\"env\":\"").trim_end_matches(" \"}").split(' ').collect();
    assert!(names.iter().all(|name| ["PATH", "PIDS", "PWD", "_", "SHLVL", "OLDPWD"].contains(name)), "{names:?}");
    let child = grandchildren(pids.path()).remove(0);
    assert!(!is_dead(&child));
    upstream.close().await;
    dies(&child).await;
}

#[tokio::test]
async fn a_dead_child_is_started_again_and_its_call_is_unknown() {
    let pids = tempfile::tempdir().unwrap();
    let upstream = upstream(pids.path()).await;
    let first = grandchildren(pids.path()).remove(0);
    let lost = executor(&upstream, "die").carry_out(leave()).await;
    assert_eq!((lost.status, lost.reply.is_none()), (Status::Unknown, true));
    dies(&first).await;
    for _ in 0..500 {
        let again = executor(&upstream, "env").carry_out(leave()).await;
        if again.status == Status::Done {
            assert_eq!(grandchildren(pids.path()).len(), 2);
            upstream.close().await;
            return;
        }
        assert_eq!(again.status, Status::NotStarted);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the child was not started again");
}

#[tokio::test]
async fn a_cut_kills_the_group() {
    let pids = tempfile::tempdir().unwrap();
    let upstream = upstream(pids.path()).await;
    let leave = leave();
    let calling = tokio::spawn({
        let (executor, leave) = (executor(&upstream, "silent"), leave.clone());
        async move { executor.carry_out(leave).await }
    });
    while !leave.has_begun() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let child = grandchildren(pids.path()).remove(0);
    leave.cut_now();
    assert_eq!(calling.await.unwrap().status, Status::Unknown);
    dies(&child).await;
    upstream.close().await;
}

#[tokio::test]
async fn a_child_that_cannot_live_is_left_alone_and_one_that_was_exchanged_is_not_started() {
    let states = Arc::new(Mutex::new(Vec::new()));
    let (told, is_bad) = (Arc::clone(&states), Arc::new(AtomicBool::new(false)));
    let pids = tempfile::tempdir().unwrap();
    let asked = Arc::clone(&is_bad);
    let guard =
        Guard {
            check: Some(Arc::new(move || {
                if asked.load(Ordering::Relaxed) { Err("another program".to_owned()) } else { Ok(()) }
            })),
            ear: Some(Arc::new(move |state: UpstreamState| told.lock().unwrap().push(state))),
            launcher: None,
        };
    // Alive once; whoever is started later finds the mark and dies at once.
    let script = format!("test -e mark && exit 3\n{SERVER}");
    let env = vec![("PIDS".to_owned(), pids.path().display().to_string())];
    let config =
        UpstreamConfig::stdio(id(), "/bin/sh", vec!["-c".to_owned(), script], env, Some(pids.path().to_owned()));
    let limits = UpstreamLimits { backoff_min: Duration::from_millis(1), failures_max: 4, ..UpstreamLimits::default() };
    let upstream = Upstream::connect(config.unwrap().with_limits(limits).with_guard(guard)).await.unwrap();
    is_bad.store(true, Ordering::Relaxed);
    std::fs::write(pids.path().join("mark"), "").unwrap();
    executor(&upstream, "die").carry_out(leave()).await;
    let until_told = async |wanted: &str| {
        for _ in 0..1_000 {
            if states.lock().unwrap().last().is_some_and(|state| state.as_str() == wanted) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("never {wanted}: {:?}", states.lock().unwrap());
    };
    until_told("refused").await;
    is_bad.store(false, Ordering::Relaxed);
    until_told("given_up").await;
    let words: Vec<&str> = states.lock().unwrap().iter().map(UpstreamState::as_str).collect();
    assert_eq!(words.first(), Some(&"up"));
    let downs = words.iter().filter(|word| **word == "down").count();
    assert_eq!(downs, 4, "the one that a call ended, which does not count, and three that did not live: {words:?}");
    let late = executor(&upstream, "env").carry_out(leave()).await;
    assert_eq!(late.status, Status::NotStarted);
    upstream.close().await;
}

/// What one client makes a process do takes it from the others for a moment, never for good.
#[tokio::test]
async fn what_clients_bring_about_is_no_failure_of_the_process() {
    for tool in ["long", "die"] {
        let pids = tempfile::tempdir().unwrap();
        let env = vec![("PIDS".to_owned(), pids.path().display().to_string())];
        let args = vec!["-c".to_owned(), SERVER.to_owned()];
        let config = UpstreamConfig::stdio(id(), "/bin/sh", args, env, Some(pids.path().to_owned())).unwrap();
        let limits = UpstreamLimits {
            backoff_min: Duration::from_millis(1),
            failures_max: 2,
            line_bytes_max: 100_000,
            ..UpstreamLimits::default()
        };
        let upstream = Upstream::connect(config.with_limits(limits)).await.unwrap();
        for round in 0..4 {
            until(|| upstream.eras().legacy, &format!("{tool} {round}")).await;
            assert_eq!(executor(&upstream, tool).carry_out(leave()).await.status, Status::Unknown, "{tool}");
            until(|| !upstream.eras().legacy, &format!("the end after {tool}")).await;
        }
        until(|| upstream.eras().legacy, "the process").await;
        assert_eq!(executor(&upstream, "env").carry_out(leave()).await.status, Status::Done);
        upstream.close().await;
    }
}
