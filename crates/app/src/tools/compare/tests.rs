//! What a person is shown of a change.

use bytes::Bytes;
use countersign_points::mcp::Survey;
use expect_test::{Expect, expect};

use super::{server, tools};
use crate::tools::lock::Lock;

fn lock(version: &str, tools: &[(&str, &str)]) -> Lock {
    let tools = tools.iter().map(|(name, raw)| (name.parse().unwrap(), Bytes::copy_from_slice(raw.as_bytes())));
    let instructions = format!("Use {version} with care.");
    Lock::of(Survey { name: "srv".to_owned(), version: version.to_owned(), instructions, tools: tools.collect() })
}

fn check(was: &[(&str, &str)], now: &[(&str, &str)], expected: Expect) {
    let lines: Vec<String> = tools(&lock("1", was), &lock("1", now))
        .into_iter()
        .flat_map(|tool| {
            let head = format!("{} {}", tool.tool, tool.state.as_str());
            let changes =
                tool.changes.into_iter().map(|change| format!("  {}: {}", change.pointer, change.lines().join(" ")));
            std::iter::once(head).chain(changes)
        })
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn each_kind_of_change_is_named_where_it_is() {
    check(
        &[("a", r#"{"name":"a"}"#), ("b", r#"{"name":"b"}"#)],
        &[("b", r#"{"name":"b"}"#), ("c", r#"{"name":"c"}"#)],
        expect!["a gone\nb accepted\nc new"],
    );
    check(
        &[(
            "a",
            r#"{"name":"a","description":"Adds two numbers.","inputSchema":{"required":["x"],"properties":{"x":{"type":"integer"}}}}"#,
        )],
        &[(
            "a",
            r#"{"name":"a","description":"Adds two large numbers.","inputSchema":{"required":["x","y"],"properties":{"x":{"type":"number"},"a/b":{}}},"annotations":{"readOnlyHint":true}}"#,
        )],
        expect![[r#"
            a changed
              /annotations: + {"readOnlyHint":true}
              /description: Adds two {+large +}numbers.
              /inputSchema/properties/a~1b: + {}
              /inputSchema/properties/x/type: - "integer" + "number"
              /inputSchema/required/1: + "y""#]],
    );
    check(
        &[("a", r#"{"name":"a","x":1}"#)],
        &[("a", r#"{"x":1,"name":"a"}"#)],
        expect![[r#"
            a changed
              : [-the-]{+in another order, or with other white space+} [-same-]{+or+} [-values-]{+escapes+}"#]],
    );
}

#[test]
fn the_server_itself_is_compared() {
    let changes = server(&lock("1", &[]), &lock("2", &[]));
    let lines: Vec<_> =
        changes.iter().map(|change| format!("{} {}", change.pointer, change.lines().join(" "))).collect();
    assert_eq!(lines, ["/version - \"1\" + \"2\"", "/instructions Use [-1-]{+2+} with care."]);
}

#[test]
fn a_flood_of_changes_is_cut() {
    let many = |value: u8| {
        let members: Vec<String> = (0..500).map(|n| format!("\"m{n}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let compared = tools(&lock("1", &[("a", &many(1))]), &lock("1", &[("a", &many(2))]));
    assert_eq!(compared[0].changes.len(), super::CHANGES_MAX + 1);
}
