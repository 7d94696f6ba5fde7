//! A server beside an honest one: it passes for the other, speaks of the other's tools, or carries away what came from it.

use serde_json::Value;

use super::support::agent::{Agent, End};
use super::support::{Installation, POLICY, Setup, TOOLS, python};

/// An installation in front of `upstream.py`, called `lab`, and of a server that plays foul, called `evil`.
fn installed(policies: &str) -> Installation {
    let labelled = TOOLS.replace("look: { effect: read,", "look: { effect: read, labels: [private, untrusted],");
    let at = Installation::new(&Setup { tools: labelled, policy: POLICY.to_owned(), ..Setup::lab() });
    std::fs::create_dir(at.path("evil")).unwrap();
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/server.py");
    let command = [&python(), &script.display().to_string(), "evil", "neighbour"].map(Value::from);
    let evil = format!(
        "  - id: evil\n    target: lab\n    environment: production\n    command: {}\n    \
         tools: {{ put: {{ effect: outbound, arguments: {{ id: plain }} }}, fetch: {{ effect: read, arguments: {{ id: host }} }} }}\nbudgets:",
        Value::from(command.to_vec()),
    );
    let text = at.read("countersign.yaml").replace("budgets:", &evil).replace("[policy.cedar]", policies);
    at.write("countersign.yaml", &text);
    at.owner(&["policy", "activate"]);
    at
}

fn evil(at: &Installation) -> Vec<String> {
    std::fs::read_to_string(at.path("evil/effects")).unwrap_or_default().lines().map(str::to_owned).collect()
}

async fn listed(agent: &Agent) -> Vec<String> {
    let raw = agent.client.request("tools/list", None).await.unwrap();
    let value: Value = serde_json::from_slice(raw.bytes()).unwrap();
    let mut names: Vec<String> =
        value["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn done() -> End {
    End::Ran("done".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_cannot_pass_for_its_neighbour() {
    let at = installed("[policy.cedar]");
    let gateway = at.up().await;
    let both = Agent::connect(&gateway.url, &at.token()).await;
    let alone = Agent::connect(&format!("{}/evil", gateway.url), &at.token()).await;
    assert_eq!(listed(&both).await, ["evil__fetch", "evil__put", "lab__change", "lab__hold", "lab__look", "lab__put"]);
    assert_eq!(listed(&alone).await, ["fetch", "put"]);
    for tool in ["own", "1ook", "lab__put"] {
        assert_eq!(both.call(&format!("evil__{tool}"), "x").await.denied(), "tool_flagged", "{tool}");
        assert_eq!(alone.call(tool, "x").await.denied(), "tool_flagged", "{tool}");
    }
    // Equal names are told apart by their prefixes, and go to whom they name.
    assert_eq!(both.call("evil__put", "one").await.end, done());
    assert_eq!(both.call("lab__put", "two").await.end, done());
    assert_eq!(alone.call("put", "three").await.end, done());
    for nobody in ["put", "EVIL__put", "evil_put", "lab__evil__put"] {
        let end = both.call(nobody, "x").await.end;
        assert!(matches!(&end, End::Failed(_) | End::Denied(_)), "{nobody}: {end:?}");
    }
    gateway.stop().await;
    assert_eq!(
        (evil(&at), at.effects()),
        (vec!["put one".to_owned(), "put three".to_owned()], vec!["put two".to_owned()])
    );
    let flagged = at.records().iter().filter(|entry| entry.reason() == "tool_flagged").count();
    assert_eq!(flagged, 6, "each attempt is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_gave_is_not_carried_to_another() {
    let at = installed("[\"bundle:lethal-trifecta\", policy.cedar]");
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    assert_eq!(agent.call("evil__put", "before").await.end, done());
    assert_eq!(agent.call("lab__look", "the books").await.end, done());
    // From here on the run holds private data, and text that nobody vouches for.
    let waits = agent.call("evil__put", "the books").await;
    assert!(matches!(waits.end, End::Parked(_)), "{waits:?}");
    assert_eq!(agent.call("evil__fetch", "books.attacker.example").await.denied(), "policy_forbid");
    assert_eq!(agent.call("evil__fetch", "https://attacker.example/?books").await.denied(), "policy_forbid");
    assert_eq!(agent.call("lab__look", "more").await.end, done(), "who only reads goes on");
    gateway.stop().await;
    assert_eq!(evil(&at), ["put before"], "nothing went out");
    let records = at.records();
    let refused: Vec<(&str, &str)> = records
        .iter()
        .filter(|entry| entry.reason() == "policy_forbid")
        .map(|entry| (entry.id(), entry.reason()))
        .collect();
    assert_eq!(
        refused,
        [("books.attacker.example", "policy_forbid"), ("https://attacker.example/?books", "policy_forbid")]
    );
}
