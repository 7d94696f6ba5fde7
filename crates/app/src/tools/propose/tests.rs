//! What is proposed, whole; and that no name can be more than a name in the file.

use bytes::Bytes;
use countersign_points::mcp::Survey;
use expect_test::expect;
use serde_json::{Value, json};

use super::{bindings, key, words};
use crate::tools::lock::Lock;

fn proposed(tools: &[Value]) -> String {
    let tools =
        tools.iter().map(|tool| (tool["name"].as_str().unwrap().parse().unwrap(), Bytes::from(tool.to_string())));
    let survey =
        Survey { name: String::new(), version: String::new(), instructions: String::new(), tools: tools.collect() };
    bindings(&"crm".parse().unwrap(), &Lock::of(survey))
}

fn tool(name: &str, about: &str, properties: &Value, hints: &Value) -> Value {
    let schema = json!({"type": "object", "properties": properties});
    json!({"name": name, "description": about, "inputSchema": schema, "annotations": hints})
}

#[test]
fn guesses_are_made_and_doubts_are_left_open() {
    let text = |about: &str| json!({"type": "string", "description": about});
    let spec = json!({"type": "object", "properties": {"replicas": {"type": "integer"}, "current_replicas": {"type": "integer"}}});
    let list = json!({"type": "array", "items": {"type": "string"}});
    let tools = [
        tool(
            "look",
            "Finds\n things.",
            &json!({"id": text("whose"), "limit": {"type": "integer"}}),
            &json!({"readOnlyHint": true}),
        ),
        tool(
            "query",
            "Asks the SQLite database.",
            &json!({"query": text("the SQL"), "timeout": {}}),
            &json!({"readOnlyHint": true}),
        ),
        tool("ask", "Runs SQL.", &json!({"query": text("")}), &json!({})),
        tool(
            "rm",
            "Removes.",
            &json!({"filePath": text(""), "force": {"type": "boolean"}}),
            &json!({"destructiveHint": true}),
        ),
        tool(
            "send",
            "",
            &json!({"to": list, "callback": {"type": "string", "format": "uri"}, "amount_cents": {"type": "integer"}}),
            &json!({}),
        ),
        tool("scale", "", &json!({"spec": spec, "no": text("")}), &json!({})),
    ];
    let text = proposed(&tools);
    expect![[r##"
        # Proposed by `countersign tools bind crm` from what the server says of its tools. It holds once you have read and
        # completed it, written `bindings: tools/crm.yaml` on the upstream, and run `countersign policy activate`.
        # A call with an argument that is not declared is opaque, the worst case. Lines behind a # are yours to complete.
        upstream: crm
        tools:
          # Runs SQL.
          ask:
            effect: opaque  # choose one of read, write, outbound, spend, spawn, destructive
            # arguments:
              # query: plain  # SQL? write its dialect, such as sql.sqlite; not described
          # Finds things.
          look:
            effect: opaque  # the server says read-only; that is a claim: choose one of read, write, outbound, spend, spawn, destructive
            # arguments:
              # id: plain  # string; whose
              # limit: plain  # integer; not described
          # Asks the SQLite database.
          query:
            # the effect is judged by what the argument says; `effect: …` would be the least that it does
            arguments:
              query: sql.sqlite  # SQL, by its description
              # timeout: plain  # any type; not described
          # Removes.
          rm:
            effect: destructive  # the server says so
            arguments:
              filePath: path  # by its name
              # force: plain  # boolean; not described
          scale:
            effect: opaque  # choose one of read, write, outbound, spend, spawn, destructive
            arguments:
              spec.replicas: count  # by its name
              spec.current_replicas: current  # by its name
              # "no": plain  # string; not described
          send:
            effect: opaque  # choose one of read, write, outbound, spend, spawn, destructive
            arguments:
              to: recipient  # by its name
              callback: host  # by its format
              amount_cents: amount.minor  # by its name
    "##]].assert_eq(&text);
}

/// Whatever the server calls things, the file reads back as the tools and places that were meant.
#[test]
fn a_proposal_is_read_back() {
    let odd = "a: {b}\n- \"c\" # \u{85}\u{2028}é\u{1f600}.\\";
    let property =
        json!({odd: {"type": "string", "format": "uri"}, "yes": {"type": "integer"}, "count": {"type": "integer"}});
    let text = proposed(&[tool("true", "x\u{2028}tools: {}\r\u{85}y", &property, &json!({}))]);
    let read: Value = serde_saphyr::from_str(&text).unwrap();
    let place = odd.replace('\\', "\\\\").replace('.', "\\.");
    assert_eq!(
        read,
        json!({"upstream": "crm", "tools": {"true": {"effect": "opaque", "arguments": {place: "host", "count": "count"}}}}),
        "{text}"
    );
    assert_eq!(proposed(&[]).lines().last(), Some("tools: {}"));
}

#[test]
fn names_are_taken_apart() {
    assert_eq!(words("maxRows_per-call"), ["max", "rows", "per", "call"]);
    assert_eq!(words("SQL"), ["sql"]);
    assert_eq!([key("a-b"), key("No"), key("1"), key("")], ["a-b", "\"No\"", "\"1\"", "\"\""]);
}
