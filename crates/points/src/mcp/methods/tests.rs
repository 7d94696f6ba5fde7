//! The list against the methods of the published schemas: one that is forgotten, or reviewed wrongly, shows here.

use std::collections::BTreeSet;

use super::{Exchange, From, Kind, METHODS, Method, Place, TOOLS_CALL, as_tool, is_reserved};
use crate::mcp::wire::Era;

/// Every `method` of the schemas 2024-11-05 to 2025-11-25.
const LEGACY: [&str; 31] = [
    "completion/complete",
    "elicitation/create",
    "initialize",
    "logging/setLevel",
    "notifications/cancelled",
    "notifications/elicitation/complete",
    "notifications/initialized",
    "notifications/message",
    "notifications/progress",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/roots/list_changed",
    "notifications/tasks/status",
    "notifications/tools/list_changed",
    "ping",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "roots/list",
    "sampling/createMessage",
    "tasks/cancel",
    "tasks/get",
    "tasks/list",
    "tasks/result",
    "tools/call",
    "tools/list",
];

/// Every `method` of the schema 2026-07-28, and of the extension `io.modelcontextprotocol/tasks`.
const MODERN: [&str; 25] = [
    "completion/complete",
    "elicitation/create",
    "notifications/cancelled",
    "notifications/message",
    "notifications/progress",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/subscriptions/acknowledged",
    "notifications/tasks",
    "notifications/tools/list_changed",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/templates/list",
    "roots/list",
    "sampling/createMessage",
    "server/discover",
    "subscriptions/listen",
    "tasks/cancel",
    "tasks/get",
    "tasks/update",
    "tools/call",
    "tools/list",
];

fn names(is_of: impl Fn(&Method) -> bool) -> BTreeSet<&'static str> {
    METHODS.iter().filter(|method| is_of(method)).map(|method| method.name).collect()
}

#[test]
fn every_method_of_the_schemas_is_on_the_list_and_no_other() {
    assert_eq!(names(|method| method.legacy), LEGACY.into());
    assert_eq!(names(|method| method.modern), MODERN.into());
    assert_eq!(names(|_| true).len(), METHODS.len(), "a name comes twice");
}

#[test]
fn what_passes_without_a_decision_is_the_reviewed_list() {
    let passes = names(|method| method.from == From::Client && matches!(method.kind, Kind::Exchange(_)));
    let reviewed = [
        "initialize",
        "logging/setLevel",
        "ping",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/unsubscribe",
        "server/discover",
        "subscriptions/listen",
        "tasks/cancel",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "tools/list",
    ];
    assert_eq!(passes, reviewed.into(), "a new exchange reaches the upstream without a decision: review it");
    let forwarded = names(|method| method.kind == Kind::Exchange(Exchange::Forwarded));
    assert_eq!(forwarded, ["notifications/roots/list_changed"].into());
    let questions = names(|method| method.kind == Kind::Question);
    assert_eq!(questions, ["elicitation/create", "roots/list", "sampling/createMessage"].into());
}

#[test]
fn an_action_says_which_upstream_it_is_for() {
    for method in METHODS.iter().filter(|method| method.kind == Kind::Action) {
        assert!(!matches!(method.place, Place::Here | Place::All | Place::Cursor), "{}", method.name);
    }
}

#[test]
fn a_client_asks_what_its_era_has() {
    for (name, legacy, modern) in [
        ("tools/call", true, true),
        ("ping", true, false),
        ("initialize", true, false),
        ("resources/subscribe", true, false),
        ("logging/setLevel", true, false),
        ("server/discover", false, true),
        ("tasks/update", false, true),
        // Questions and notifications are no requests of a client.
        ("sampling/createMessage", false, false),
        ("notifications/message", false, false),
        ("tools/CALL", false, false),
        ("unknown/method", false, false),
    ] {
        assert_eq!(Method::asked(name, Era::Legacy).is_some(), legacy, "{name}");
        assert_eq!(Method::asked(name, Era::Modern).is_some(), modern, "{name}");
    }
    assert!(Method::question("tools/call").is_none() && Method::question("tasks/get").is_none());
}

#[test]
fn a_method_is_on_record_under_its_name_and_no_tool_takes_it() {
    let (tool, manifest) = as_tool("resources/read").unwrap();
    assert_eq!(tool.as_str(), "resources/read");
    assert!(countersign_model::method::is_manifest(&tool, &manifest));
    let actions = names(|method| matches!(method.kind, Kind::Action | Kind::Question) && method.name != TOOLS_CALL);
    assert_eq!(
        actions,
        countersign_model::method::names().collect(),
        "what is judged as a method is what passes as one"
    );
    assert!(as_tool("no name").is_none());
    assert!(is_reserved("resources/read") && is_reserved(TOOLS_CALL) && !is_reserved("read"));
}
