//! Another policy on a running gateway: a human's signature puts it in force, and nothing else does.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use countersign_points::mcp::client::Raw;
use serde_json::{Value, json};
use support::agent::{Agent, End};
use support::{AGENT, Installation, PASSPHRASE, POLICY, Setup};

const PASS: [(&str, &str); 1] = [("passphrase for owner's key: ", PASSPHRASE)];

/// The tools that the agent is shown.
async fn listed(agent: &Agent) -> Vec<String> {
    let Raw::Result(raw) = agent.client.request("tools/list", None).await.unwrap() else { panic!("no list") };
    let value: Value = serde_json::from_slice(&raw).unwrap();
    value["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

fn without_put() -> String {
    format!("{POLICY}\n@id(\"no-put\") forbid (principal, action == Action::\"lab/put\", resource);\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_policy_is_in_force_without_a_restart() {
    let at = Installation::new(&Setup::lab());
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.issue(AGENT, None)).await;
    assert_eq!(agent.call("put", "before").await.end, End::Ran("done".to_owned()));
    assert!(listed(&agent).await.contains(&"put".to_owned()));

    // Files alone change nothing, signed for or not.
    at.write("policy.cedar", &without_put());
    assert_eq!(agent.call("put", "unsigned").await.end, End::Ran("done".to_owned()));
    at.write("policy.cedar", "permit (principal, action resource);");
    let broken = at.at_terminal(&["policy", "activate"], &PASS);
    assert_eq!(broken.code, 2, "{broken:?}");
    assert!(broken.error().contains("line 1 cannot be read"), "{broken:?}");
    assert_eq!(agent.call("put", "broken").await.end, End::Ran("done".to_owned()));

    at.write("policy.cedar", &without_put());
    let accepted = at.owner(&["policy", "activate"]);
    assert_eq!((&accepted["in_force"], &accepted["serial"]), (&json!(true), &json!(3)));
    assert_eq!(agent.call("put", "after").await.end, End::Denied("policy_forbid".to_owned()));
    let tools = listed(&agent).await;
    assert!(!tools.contains(&"put".to_owned()) && tools.contains(&"look".to_owned()), "{tools:?}");
    gateway.stop().await;

    // The next start needs no other acceptance, and reads what passed validation from the list.
    assert!(at.path("policy.validated").exists());
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("put", "again").await.end, End::Denied("policy_forbid".to_owned()));
    gateway.stop().await;
    let replayed = at.run(&["replay"]);
    assert_eq!(replayed.code, 0, "{replayed:?}");
    let report = replayed.json();
    // Two orders under the first configuration, and the three calls before the change.
    assert_eq!((&report["differs"], &report["outdated"]), (&json!(0), &json!(5)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_waits_for_a_restart() {
    let at = Installation::new(&Setup::lab());
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.issue(AGENT, None)).await;
    at.write("policy.cedar", &without_put());
    let text = at.read("countersign.yaml");
    at.write("countersign.yaml", &format!("{text}# a word\n"));
    let accepted = at.owner(&["policy", "activate"]);
    assert_eq!(accepted["in_force"], json!(false), "{accepted}");
    assert_eq!(agent.call("put", "before").await.end, End::Ran("done".to_owned()));
    gateway.stop().await;
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("put", "after").await.end, End::Denied("policy_forbid".to_owned()));
    gateway.stop().await;
}
