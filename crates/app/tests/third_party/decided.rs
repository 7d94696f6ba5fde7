//! What the gateway says itself, as the official SDK shows it: a denial, a call that waits, the end of a budget.
//!
//! The call that waits is spelled by one Python process and redeemed by another. Not covered: what a model makes of it.

use serde_json::Value;

use crate::lab::{Lab, Peer, Transcript, World};
use crate::support::{Installation, Setup};

const POLICY: &str = r#"
@id("everything-is-possible")
permit (principal, action in Action::"call", resource);

@id("no-secrets")
forbid (principal, action in Action::"call", resource)
when { context.tool == "get-env" };

@id("some-need-consent")
@gate("this needs a human's consent")
@quorum("1")
@timeout("30m")
forbid (principal, action in Action::"call", resource)
when { context.tool == "get-sum" || context.tool == "get-structured-content" };
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_sdk_shows_denials_tickets_and_budgets() {
    let Some(lab) = Lab::find() else { return };
    let mut world = World::everything(&lab);
    let command: Vec<&str> = world.command.iter().map(String::as_str).collect();
    let at = Installation::new(&Setup {
        tools: "{}".to_owned(),
        policy: POLICY.to_owned(),
        budgets: vec!["{ scope: run, calls: 3 }".to_owned()],
        ..Setup::command(&command)
    });
    let gateway = at.up().await;
    let peer = Peer::Http { url: gateway.url.clone(), token: at.token() };
    world.script = "ask";
    let asked = lab.drive(&world, &peer);
    let [env, sum, city, unknown] = results(&asked);
    denied(&env, "policy_forbid", "free");
    let sum_ticket = pending(&sum, "free");
    let city_ticket = pending(&city, "declared");
    denied(&unknown, "unknown_tool", "free");
    at.approve(&sum_ticket);
    at.approve(&city_ticket);

    world.script = "ask_again";
    let again = lab.drive(&world, &peer);
    let [sum, city, sum_anew, city_anew, echo, echo_over, image_over] = results(&again);
    ran(&sum);
    ran(&city);
    assert_ne!(pending(&sum_anew, "free"), sum_ticket, "a consent is good for one call");
    assert_ne!(pending(&city_anew, "declared"), city_ticket, "a consent is good for one call");
    ran(&echo);
    denied(&echo_over, "budget_exhausted", "free");
    denied(&image_over, "budget_exhausted", "free");
    gateway.stop().await;
    assert_eq!(at.run(&["log", "verify"]).code, 0);
    let kinds: Vec<_> = at.records().iter().map(|entry| entry.record.body.kind()).collect();
    let count = |kind: &str| kinds.iter().filter(|found| **found == kind).count();
    let counted = ["intent", "outcome", "denial", "refused", "proposal", "consent"].map(count);
    assert_eq!(counted, [3, 3, 3, 1, 4, 2], "{kinds:?}");
}

/// What `CallToolResult` held, for each call.
fn results<const N: usize>(run: &Transcript) -> [Value; N] {
    let results: Vec<Value> = run.calls.iter().map(|call| call["result"].clone()).collect();
    results.try_into().unwrap_or_else(|wrong| panic!("{wrong:?} of {:?}", run.calls))
}

fn text(result: &Value) -> &str {
    assert_eq!(result["content"].as_array().map(Vec::len), Some(1), "{result}");
    result["content"][0]["text"].as_str().unwrap()
}

/// The verdict in `_meta`; where the tool declares no schema of its output, also as structured content.
fn verdict<'a>(result: &'a Value, schema: &str) -> &'a Value {
    let verdict = &result["_meta"]["countersign/verdict"];
    let shown = result.get("structuredContent").map(|content| &content["countersign"]);
    assert_eq!(shown, (schema == "free").then_some(verdict), "{result}");
    assert!(result["_meta"]["countersign/receipt"].is_object(), "{result}");
    verdict
}

fn denied(result: &Value, code: &str, schema: &str) {
    let verdict = verdict(result, schema);
    assert_eq!((&verdict["verdict"], &verdict["reasons"][0]["code"]), (&"deny".into(), &code.into()), "{result}");
    assert_eq!(result["isError"], true);
    assert!(text(result).starts_with("Denied by Countersign; nothing has happened. "), "{result}");
}

/// The SDK throws an answer away that does not fit a declared schema, unless it is an error.
fn pending(result: &Value, schema: &str) -> String {
    let verdict = verdict(result, schema);
    assert_eq!(verdict["verdict"], "pending", "{result}");
    assert_eq!(result["isError"], schema == "declared", "{result}");
    let ticket = verdict["ticket"].as_str().unwrap();
    assert!(text(result).contains(ticket) && text(result).starts_with("Not run yet: "), "{result}");
    ticket.to_owned()
}

fn ran(result: &Value) {
    assert_eq!(result["isError"], false, "{result}");
    assert!(result["_meta"]["countersign/verdict"].is_null(), "{result}");
    assert!(result["_meta"]["countersign/receipt"].is_object(), "{result}");
}
