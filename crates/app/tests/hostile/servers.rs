//! Servers that play foul: in what they answer, in what they list, and in how they open.

use countersign_model::Body;
use countersign_model::record::Status;

use super::support::agent::{Agent, End};
use super::support::gateway::Gateway;
use super::support::{Installation, POLICY, Setup, python};

/// Reads run, and what is not bound is opaque, whatever it says of itself.
const READS_ONLY: &str = r#"
@id("reads")
permit (principal, action in Action::"call", resource)
when { context.effect == "read" };
"#;

fn setup(how: &str) -> Setup {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/server.py");
    let bound = "{ put: { effect: outbound, arguments: { id: plain } } }";
    Setup { tools: bound.to_owned(), ..Setup::command(&[&python(), &script.display().to_string(), "world", how]) }
}

/// An installation in front of a server that plays foul, which gives up on a call after two seconds.
fn installed(how: &str, policy: &str) -> Installation {
    let setup = Setup { policy: policy.to_owned(), ..setup(how) };
    let at = Installation::new(&setup);
    at.write("countersign.yaml", &format!("{}call_timeout: 2s\n", at.read("countersign.yaml")));
    at.owner(&["policy", "activate"]);
    at.write("world/once", "");
    at
}

async fn opened(how: &str, policy: &str) -> (Installation, Gateway, Agent) {
    let at = installed(how, policy);
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    (at, gateway, agent)
}

fn done() -> End {
    End::Ran("done".to_owned())
}

/// How outcomes stand in the record, in order.
fn outcomes(at: &Installation) -> Vec<Status> {
    let status = |body: &Body| match body {
        Body::Outcome(outcome) => Some(outcome.status),
        _ => None,
    };
    at.records().iter().filter_map(|entry| status(&entry.record.body)).collect()
}

/// The first call is answered foully: what the agent sees and what stands on record. The second call is honest and runs.
async fn first_is_lost(how: &str) {
    let (at, gateway, agent) = opened(how, POLICY).await;
    let first = agent.call("put", "one").await.end;
    assert_eq!(first, End::Failed("unknown".to_owned()), "{how}");

    let mut second = agent.call("put", "two").await.end;
    // A server that was killed is started again behind a back-off.
    for _ in 0..100 {
        if second != End::Failed("not_started".to_owned()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        second = agent.call("put", "two").await.end;
    }
    assert_eq!(second, done(), "{how}");
    gateway.stop().await;
    assert_eq!(at.effects(), ["put one", "put two"], "{how}");
    let outcomes = outcomes(&at);
    assert_eq!(outcomes.first(), Some(&Status::Unknown), "{how}");
    assert_eq!(outcomes.last(), Some(&Status::Done), "{how}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_believed_is_no_answer() {
    let hows = ["answers-under-another-id", "key-twice", "batch", "not-json", "result-and-error", "silent"];
    let all = hows.map(|how| tokio::spawn(first_is_lost(how)));
    for one in all {
        one.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_breaks_off_is_started_again() {
    let all = ["never-ends", "dies"].map(|how| tokio::spawn(first_is_lost(how)));
    for one in all {
        one.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_no_object_is_an_unknown_outcome() {
    let (at, gateway, agent) = opened("no-object", POLICY).await;
    assert_eq!(agent.call("put", "one").await.end, End::Failed("unknown".to_owned()));
    gateway.stop().await;
    assert_eq!(outcomes(&at), [Status::Unknown]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_says_in_our_name_is_not_passed_on() {
    let (at, gateway, agent) = opened("forges-receipt", POLICY).await;
    let raw = agent.client.call_tool("put", r#"{"id":"one"}"#).await.unwrap();
    let value: serde_json::Value = serde_json::from_slice(raw.bytes()).unwrap();
    let meta = &value["_meta"];
    assert!(meta["countersign/verdict"].is_null() && meta["countersign/unrecorded"].is_null(), "{meta}");
    at.verified(&meta["countersign/receipt"].to_string());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_reaches_a_call_that_it_is_not_for() {
    for how in ["answers-twice", "answers-ahead"] {
        let (_at, gateway, agent) = opened(how, POLICY).await;
        for id in ["one", "two", "three"] {
            assert_eq!(agent.call("put", id).await.end, done(), "{how}");
        }
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_holds_nobody_up() {
    for how in ["floods", "cries-change"] {
        let (_at, gateway, agent) = opened(how, POLICY).await;
        for id in ["one", "two"] {
            assert_eq!(agent.call("put", id).await.end, done(), "{how}");
        }
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_changes_after_it_was_used_is_not_called_again() {
    for how in ["description-changes", "schema-changes", "annotations-change"] {
        let (at, gateway, agent) = opened(how, POLICY).await;
        assert_eq!(agent.call("put", "one").await.end, done(), "{how}");
        // Nobody said that anything changed: the next listing shows it.
        let listed = agent.client.request("tools/list", None).await.unwrap();
        assert_eq!(String::from_utf8_lossy(listed.bytes()), r#"{"tools": []}"#, "{how}");
        assert_eq!(agent.call("put", "two").await.denied(), "tool_changed", "{how}");
        gateway.stop().await;
        assert_eq!(at.effects(), ["put one"], "{how}");
        assert!(at.records().iter().any(|entry| entry.reason() == "tool_changed"), "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_lies_opens_nothing() {
    let (at, gateway, agent) = opened("hint-lies", READS_ONLY).await;
    assert_eq!(agent.call("erase", "all").await.denied(), "tool_flagged");
    gateway.stop().await;
    assert_eq!(at.effects(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_understood_is_not_served() {
    for (how, why) in [
        ("lists-twice", "tool `put` is listed twice"),
        ("many-tools", "more than 10000 tools"),
        ("endless-pages", "more than 100 pages of tools"),
        ("no-such-revision", "protocol version `1999-01-01` is not supported"),
    ] {
        let at = installed(how, POLICY);
        let Err(not) = at.try_up().await else { panic!("{how}: it is up") };
        assert!(not.error.contains(why), "{how}: {}", not.error);
    }
}
