//! The kill switch against a running gateway: after its acknowledgement no byte goes upstream, and it stays so.
//!
//! The upstreams note the time of every byte. What was in a pipe at the acknowledgement had left the gateway before:
//! it is counted then and allowed for. Nothing here asserts how fast a kill is; `bench` measures that.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use countersign_model::Body;
use countersign_model::record::{KillScope, Status};
use countersign_points::mcp::client::ClientError;
use serde_json::{Value, json};
use support::agent::{Agent, End, Seen};
use support::human::Human;
use support::web::Web;
use support::{Installation, OWNER, Ran, Setup, until};
use tokio::task::JoinHandle;

/// Calls in flight, over connections of at most [`EACH`].
const CALLS: usize = 200;
const EACH: usize = 40;
/// How long nothing may come after an acknowledgement.
const QUIET: Duration = Duration::from_millis(500);
const HOUR_MS: u64 = 3_600_000;

/// Calls under way.
struct Held(Vec<JoinHandle<Result<Seen, ClientError>>>);

impl Held {
    /// Has `count` calls that are never answered under way, each with an id of its own.
    async fn start(url: &str, token: &str, (name, count): (&str, usize)) -> Self {
        let mut calls = Vec::new();
        let mut agent = Arc::new(Agent::connect(url, token).await);
        for number in 0..count {
            if number % EACH == EACH - 1 {
                agent = Arc::new(Agent::connect(url, token).await);
            }
            let (agent, id) = (agent.clone(), format!("{name}-{number}"));
            calls.push(tokio::spawn(async move { agent.try_call("hold", &id).await }));
        }
        Self(calls)
    }

    /// How the calls ended: every one of them must have.
    async fn ended(self) -> Vec<End> {
        let mut ends = Vec::new();
        for call in self.0 {
            let seen = tokio::time::timeout(Duration::from_secs(30), call).await.unwrap().unwrap().unwrap();
            ends.push(seen.end);
        }
        ends
    }

    /// How many calls got no answer because the gateway went away.
    async fn lost(self) -> usize {
        let mut lost = 0;
        for call in self.0 {
            lost += usize::from(call.await.unwrap().is_err());
        }
        lost
    }
}

fn unknown() -> End {
    End::Failed("unknown".to_owned())
}

fn done() -> End {
    End::Ran("done".to_owned())
}

/// Agents that do not stop calling, whatever they are told.
struct Stubborn {
    stop: Arc<AtomicBool>,
    calls: Vec<JoinHandle<Vec<(Instant, String, End)>>>,
}

impl Stubborn {
    async fn start(url: &str, token: &str, tool: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut calls = Vec::new();
        for name in 0..4 {
            let (agent, stop) = (Agent::connect(url, token).await, stop.clone());
            calls.push(tokio::spawn(async move {
                let mut answers = Vec::new();
                for turn in 0_u32.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let (begun, id) = (Instant::now(), format!("stubborn-{name}-{turn}-"));
                    answers.push((begun, id.clone(), agent.call(tool, &id).await.end));
                }
                answers
            }));
        }
        Self { stop, calls }
    }

    /// What they asked for after `acknowledged`; all of it must have been denied as killed, or unasked as a flood.
    async fn refused_since(self, acknowledged: Instant) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut late = Vec::new();
        for calls in self.calls {
            for (begun, id, end) in calls.await.unwrap() {
                if begun > acknowledged {
                    let is_refused =
                        ["killed", "too_many_denials"].map(|code| End::Denied(code.to_owned())).contains(&end);
                    assert!(is_refused, "{id}: {end:?}");
                    late.push(id);
                }
            }
        }
        assert!(!late.is_empty(), "nobody called after the acknowledgement");
        late
    }
}

/// Runs the command line off the runtime's threads.
async fn command(at: &Arc<Installation>, args: &'static [&'static str]) -> Ran {
    let at = at.clone();
    tokio::task::spawn_blocking(move || at.run(args)).await.unwrap()
}

/// The bytes that the pipe to the upstream holds.
fn in_the_pipe(at: &Installation) -> u64 {
    let pid = at.read("world/pids").lines().last().unwrap().to_owned();
    rustix::io::ioctl_fionread(File::open(format!("/proc/{pid}/fd/0")).unwrap()).unwrap()
}

/// The bytes that the upstream read after `ns` on the wall clock.
fn read_since(at: &Installation, ns: u128) -> u64 {
    let log = at.read("world/reads");
    let reads = log.lines().map(|line| line.split_once(' ').unwrap());
    reads.filter(|(time, _)| time.parse::<u128>().unwrap() > ns).map(|(_, bytes)| bytes.parse::<u64>().unwrap()).sum()
}

fn wall_ns() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_no_byte_goes_down_the_pipe() {
    let at = Arc::new(Installation::new(&Setup::lab()));
    at.write("world/reads", "");
    let gateway = at.up().await;
    let calls = Held::start(&gateway.url, &at.token(), ("held", CALLS)).await;
    until("200 calls are in flight", &mut || at.effects().len() == CALLS);
    let stubborn = Stubborn::start(&gateway.url, &at.token(), "put").await;
    until("others call too", &mut || at.effects().len() > CALLS);

    let killed = command(&at, &["kill", "--all"]).await;
    let (acknowledged, ns, left) = (Instant::now(), wall_ns(), in_the_pipe(&at));
    assert_eq!(killed.code, 0, "{killed:?}");
    let ack = killed.json();
    assert!(ack["cancelled"].as_u64().unwrap() >= CALLS as u64, "{ack}");
    assert_eq!((&ack["killed"], &ack["saved"], &ack["recorded"]), (&json!("all"), &json!(true), &json!(true)));

    tokio::time::sleep(QUIET).await;
    let came = read_since(&at, ns);
    assert!(came <= left, "{came} bytes came after the acknowledgement, {left} were in the pipe");
    let late = stubborn.refused_since(acknowledged).await;
    let bytes = String::from_utf8(std::fs::read(at.path("world/bytes")).unwrap()).unwrap();
    assert!(
        !late.iter().any(|id| bytes.contains(id.as_str())),
        "a call after the acknowledgement reached the upstream"
    );
    assert_eq!(calls.ended().await, vec![unknown(); CALLS]);
    println!("{} calls came after the acknowledgement: {ack}", late.len());

    let gateway = holds_over_restarts(&at, gateway).await;
    gateway.stop().await;
    recorded(&at);
}

/// A crash, a start, a resume that nobody signs, and one that the owner does.
async fn holds_over_restarts(at: &Arc<Installation>, gateway: support::gateway::Gateway) -> support::gateway::Gateway {
    gateway.crash().await;
    let gateway = at.up().await;
    assert_eq!(gateway.said["killed"], json!(["all"]));
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    let before = at.effects().len();
    assert_eq!(agent.call("look", "killed").await.denied(), "killed");

    let unsigned = command(at, &["resume", "--all"]).await;
    assert_eq!(unsigned.code, 1, "{unsigned:?}");
    assert!(unsigned.error().contains("terminal"), "{}", unsigned.error());
    let wrong = at.at_terminal(&["resume", "--all"], &[("passphrase for owner's key: ", "not the passphrase")]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.error().contains("does not open"), "{}", wrong.error());
    let other =
        at.at_terminal(&["resume", "--agent", "alpha"], &[("passphrase for owner's key: ", support::PASSPHRASE)]);
    assert_eq!(other.code, 3, "{other:?}");
    assert_eq!(agent.call("look", "killed").await.denied(), "killed");
    assert_eq!(at.effects().len(), before);

    at.owner(&["resume", "--all"]);
    assert_eq!(agent.call("look", "resumed").await.end, done());
    gateway
}

/// The kill is on record with its scope, and every call that it cut off as unknown.
fn recorded(at: &Installation) {
    let records = at.records();
    let kills: Vec<_> = records
        .iter()
        .filter_map(|entry| match &entry.record.body {
            Body::Killed(killed) => Some((killed.scope.clone(), killed.cancelled)),
            _ => None,
        })
        .collect();
    assert_eq!(kills.len(), 1, "{kills:?}");
    assert_eq!(kills[0].0, KillScope::All);
    assert!(kills[0].1 >= CALLS as u64, "{kills:?}");
    let unknown = records
        .iter()
        .filter(|entry| matches!(&entry.record.body, Body::Outcome(outcome) if outcome.status == Status::Unknown));
    assert!(unknown.count() >= CALLS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_of_one_agent_or_one_run_leaves_the_others_alone() {
    let mut setup = Setup::lab();
    setup.agents.push("beta".to_owned());
    let at = Arc::new(Installation::new(&setup));
    let human = Human::owner(&at);
    let gateway = at.up().await;
    let day = human.issue(&at, "alpha", Some("day"), HOUR_MS);
    let night = human.issue(&at, "alpha", Some("night"), HOUR_MS);
    let beta = human.issue(&at, "beta", None, HOUR_MS);
    let of_day = Held::start(&gateway.url, &day, ("day", 10)).await;
    let of_night = Held::start(&gateway.url, &night, ("night", 10)).await;
    let of_beta = Held::start(&gateway.url, &beta, ("beta", 10)).await;
    until("30 calls are in flight", &mut || at.effects().len() == 30);

    let killed = command(&at, &["kill", "--run", "night"]).await;
    assert_eq!((killed.code, &killed.json()["cancelled"]), (0, &json!(10)), "{killed:?}");
    assert_eq!(of_night.ended().await, vec![unknown(); 10]);
    assert_eq!(at.get("/status")["in_flight"], 20);
    let killed = command(&at, &["kill", "--agent", "beta"]).await;
    assert_eq!((killed.code, &killed.json()["cancelled"]), (0, &json!(10)), "{killed:?}");
    assert_eq!(of_beta.ended().await, vec![unknown(); 10]);
    assert_eq!(at.get("/status")["in_flight"], 10);

    assert_eq!(answers(&gateway.url, &[&day, &night, &beta]).await, ["done", "killed", "killed"]);
    gateway.crash().await;
    assert_eq!(of_day.lost().await, 10);
    let gateway = at.up().await;
    assert_eq!(gateway.said["killed"], json!(["agent beta", "run night"]));
    assert_eq!(answers(&gateway.url, &[&day, &night, &beta]).await, ["done", "killed", "killed"]);
    assert_ne!(command(&at, &["resume", "--run", "night"]).await.code, 0);
    at.owner(&["resume", "--run", "night"]);
    assert_eq!(answers(&gateway.url, &[&day, &night, &beta]).await, ["done", "done", "killed"]);
    at.owner(&["resume", "--agent", "beta"]);
    assert_eq!(answers(&gateway.url, &[&day, &night, &beta]).await, ["done", "done", "done"]);
    gateway.stop().await;
}

/// What each token's call comes to: `done` or the reason code.
async fn answers(url: &str, tokens: &[&String]) -> Vec<String> {
    let mut answers = Vec::new();
    for token in tokens {
        answers.push(match Agent::connect(url, token).await.call("put", "one").await.end {
            End::Ran(text) | End::Denied(text) | End::Parked(text) | End::Failed(text) => text,
        });
    }
    answers
}

/// An upstream that reads nothing: the pipe is full and a line half written. The kill cuts it off.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_cuts_off_an_upstream_that_takes_nothing_in() {
    let at = Arc::new(Installation::new(&Setup::lab()));
    at.write("world/reads", "");
    let gateway = at.up().await;
    at.write("world/deaf", "");
    let agent = Arc::new(Agent::connect(&gateway.url, &at.token()).await);
    let text = "x".repeat(100_000);
    let calls = (0..4).map(|number| {
        let arguments = json!({"id": format!("deaf-{number}"), "text": text}).to_string();
        let agent = agent.clone();
        tokio::spawn(async move { agent.client.call_tool("put", &arguments).await.map(|raw| Seen::of(&raw)) })
    });
    let calls = Held(calls.collect());
    // It may have been reading when it went deaf: what it then took in is less than one line.
    until("the pipe is full", &mut || in_the_pipe(&at) > 50_000 && at.get("/status")["in_flight"] != 0);

    let killed = command(&at, &["kill", "--all"]).await;
    let read = std::fs::read(at.path("world/bytes")).unwrap().len();
    assert_eq!(killed.code, 0, "{killed:?}");
    std::fs::remove_file(at.path("world/deaf")).unwrap();
    tokio::time::sleep(QUIET).await;
    // A new process may have been greeted since; nothing else may have come.
    let bytes = std::fs::read(at.path("world/bytes")).unwrap();
    let came = String::from_utf8_lossy(&bytes[read..]).into_owned();
    assert!(!came.contains("tools/call") && !came.contains("xxx"), "came after the acknowledgement: {came}");
    for end in calls.ended().await {
        assert!(matches!(&end, End::Failed(word) if word == "unknown" || word == "not_started"), "{end:?}");
    }
    assert!(at.effects().is_empty(), "{:?}", at.effects());
    at.owner(&["resume", "--all"]);
    until("the upstream is up again", &mut || at.read("world/pids").lines().count() > 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_nothing_goes_over_http() {
    let web = Web::start().await;
    let at = Arc::new(Installation::new(&Setup::url(&web.url)));
    let gateway = at.up().await;
    let calls = Held::start(&gateway.url, &at.token(), ("held", CALLS)).await;
    until("200 calls are in flight", &mut || web.noted(|noted| noted.holding) == CALLS);

    let killed = command(&at, &["kill", "--all"]).await;
    let acknowledged = Instant::now();
    let stubborn = Stubborn::start(&gateway.url, &at.token(), "put").await;
    assert_eq!((killed.code, &killed.json()["cancelled"]), (0, &json!(CALLS)), "{killed:?}");
    tokio::time::sleep(QUIET).await;
    let late = stubborn.refused_since(acknowledged).await;
    web.noted(|noted| {
        assert_eq!(noted.holding, 0, "sockets of calls are open");
        assert_eq!(noted.calls.len(), CALLS);
        assert!(!noted.calls.iter().any(|id| late.contains(id)));
        let after: Vec<_> = noted
            .reads
            .iter()
            .filter(|read| read.at > acknowledged)
            .map(|read| String::from_utf8_lossy(&read.bytes).into_owned())
            .filter(|text| !is_greeting(text))
            .collect();
        assert_eq!(after, Vec::<String>::new(), "came after the acknowledgement");
    });
    assert_eq!(calls.ended().await, vec![unknown(); CALLS]);
    let gateway = held_over_http_after_a_restart(&at, gateway, &web).await;
    gateway.stop().await;
}

/// Each session of a client greets the upstream, and says good-bye: exchanges, no actions.
fn is_greeting(text: &str) -> bool {
    let greets = ["\"method\":\"initialize\"", "\"method\":\"notifications/initialized\""];
    text.starts_with("GET /mcp") || text.starts_with("DELETE /mcp") || greets.iter().any(|part| text.contains(part))
}

async fn held_over_http_after_a_restart(
    at: &Arc<Installation>,
    gateway: support::gateway::Gateway,
    web: &Web,
) -> support::gateway::Gateway {
    gateway.stop().await;
    let gateway = at.up().await;
    assert_eq!(gateway.said["killed"], json!(["all"]));
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("put", "killed").await.denied(), "killed");
    at.owner(&["resume", "--all"]);
    let call = Held::start(&gateway.url, &at.token(), ("resumed", 1)).await;
    until("a call goes through again", &mut || web.noted(|noted| noted.calls.contains(&"resumed-0".to_owned())));
    assert_eq!(command(at, &["kill", "--all"]).await.json()["cancelled"], 1);
    assert_eq!(call.ended().await, [unknown()]);
    gateway
}

/// A kill where no gateway runs holds from the next start, and is lifted there like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_without_a_gateway_holds_from_its_start() {
    let at = Arc::new(Installation::new(&Setup::lab()));
    // Its sockets are left behind, and nobody is there to answer.
    at.up().await.crash().await;
    assert!(at.path("kill.sock").exists());
    let killed = command(&at, &["kill", "--agent", "alpha"]).await;
    assert_eq!((killed.code, &killed.json()["running"]), (0, &Value::Bool(false)), "{killed:?}");
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("put", "one").await.denied(), "killed");
    let resumed = at.owner(&["resume", "--agent", "alpha", "--as", OWNER]);
    assert!(resumed["leaf"].is_u64(), "{resumed}");
    assert_eq!(agent.call("put", "two").await.end, done());
    gateway.stop().await;
    assert_eq!(at.effects(), ["put two"]);
}
