//! Rules taken apart: places, clauses, what is read, and trees that mean what they meant.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Rules, print};

fn rules(text: &str) -> Rules {
    Rules::read(&[("main.cedar".to_owned(), text.to_owned())]).unwrap()
}

fn check(text: &str, expected: Expect) {
    let mut shown = String::new();
    for rule in rules(text).all {
        shown += &format!("{} {} lines {:?}\n", rule.layer.as_str(), rule.id, rule.lines);
        for clause in &rule.clauses {
            shown += &format!("  {} <- {:?}\n", clause.text, clause.reads);
        }
    }
    expected.assert_eq(&shown);
}

#[test]
fn places_clauses_and_reads() {
    check(
        r#"
// A comment; with a semicolon and a "quote.
@id("one") // more; of them
permit (principal in AgentGroup::"g", action == Action::"crm/query", resource)
when { context.effect == "read;\"" && (context has count && context.count > 3) }
unless { context.opaque || resource.environment == "production" || !context.has_where };
@id("two") @gate("g;") forbid (principal, action in [Action::"a/b", Action::"c/d"], resource);
@id("three") @obligation("witness") permit (principal, action, resource) when { context.calls.minute > 2 };
@id("four") forbid (principal, action, resource) when { !(context.sql || context.opaque) && principal in [Agent::"a"] };
"#,
        expect![[r#"
            permit one lines (3, 6)
              principal in AgentGroup::"g" <- {"principal"}
              action == Action::"crm/query" <- {"action"}
              context.effect == "read;\"" <- {"context.effect"}
              context has count <- {"context.count"}
              context.count > 3 <- {"context.count"}
              !context.opaque <- {"context.opaque"}
              !(resource.environment == "production") <- {"resource.environment"}
              context.has_where <- {"context.has_where"}
            gate two lines (7, 7)
              action in [Action::"a/b", Action::"c/d"] <- {"action"}
            obligation three lines (8, 8)
              context.calls.minute > 2 <- {"context.calls.minute"}
            forbid four lines (9, 9)
              !context.sql <- {"context.sql"}
              !context.opaque <- {"context.opaque"}
              principal in [Agent::"a"] <- {"principal"}
        "#]],
    );
}

#[test]
fn what_is_read_is_found_below_a_path() {
    let read = rules(r#"@id("a") permit (principal, action, resource) when { context.calls.hour < 3 };"#);
    assert!(read.reads_any(&["context.calls"]) && read.reads_any(&["context.calls.hour"]));
    assert!(!read.reads_any(&["context.call", "context.changes", "principal"]));
}

#[test]
fn a_printed_policy_reads_as_it_was_written() {
    let text = "@id(\"x\") @gate(\"it's \\\"q\\\"\") forbid (principal is Agent, action, resource in Environment::\"p\") \
                when { context.count * 2 > 3 && context.tool like \"a\\**b\" && (context.sql || context.opaque && context.has_where) } \
                unless { if context.sql then context.opaque else 1 - -2 == 3 };";
    expect![[r#"
        @id("x")
        @gate("it's \"q\"")
        forbid (
          principal is Agent,
          action,
          resource in Environment::"p"
        )
        when
        {
          ((context.count * 2) > 3) &&
          (context.tool like "a\**b") &&
          (context.sql || (context.opaque && context.has_where))
        }
        unless { if context.sql then context.opaque else ((1 - -2) == 3) };
    "#]]
    .assert_eq(&print::policy(&rules(text).all[0].est).unwrap());
}

fn expression() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["effect", "tool", "opaque", "if", "a b", "count"]);
    let text = "[a-z\"\\\\*'\u{e9}\n]{0,4}";
    let leaf = prop_oneof![
        name.prop_map(|name| json!({".": {"left": {"Var": "context"}, "attr": name}})),
        text.prop_map(|text| json!({"Value": text})),
        any::<i64>().prop_map(|number| json!({"Value": number})),
        any::<bool>().prop_map(|flag| json!({"Value": flag})),
        text.prop_map(|id| json!({"Value": {"__entity": {"type": "Agent", "id": id}}})),
    ];
    leaf.prop_recursive(4, 24, 3, move |inner| {
        let binary = prop::sample::select(vec![
            "&&",
            "||",
            "==",
            "!=",
            "<",
            "<=",
            ">",
            ">=",
            "in",
            "+",
            "-",
            "*",
            "contains",
            "containsAll",
        ]);
        prop_oneof![
            (binary, inner.clone(), inner.clone()).prop_map(|(op, l, r)| super::est::binary(op, &l, &r)),
            inner.clone().prop_map(|arg| json!({"!": {"arg": arg}})),
            prop::collection::vec(inner.clone(), 0..3).prop_map(|items| json!({"Set": items})),
            (inner.clone(), text)
                .prop_map(|(left, text)| json!({"like": {"left": left, "pattern": [{"Literal": text}, "Wildcard"]}})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 100 } else { 20_000 }))]

    /// Whatever is printed reads back as the same policy: a diff that people accept is the policy that was meant.
    #[test]
    fn what_is_printed_means_the_same(body in expression(), unless in any::<bool>()) {
        let mut tree = super::everything();
        let kind = if unless { "unless" } else { "when" };
        super::est::put(&mut tree, "conditions", json!([{"kind": kind, "body": body}]));
        let Ok(policy) = super::policy_of(tree) else { return Ok(()) };
        let tree = policy.to_json().unwrap();
        let text = print::policy(&tree).unwrap();
        let again = rules(&text).all.remove(0);
        // Where Cedar's own spelling was taken, only Cedar can say that the two are the same.
        let meant = super::policy_of(tree).unwrap().to_cedar();
        let read = super::policy_of(again.est).unwrap().to_cedar();
        prop_assert_eq!(read, meant, "{}", text);
    }
}
