use super::*;

fn of(conditions: &[&str]) -> Reads {
    let policies: Vec<Policy> = conditions
        .iter()
        .map(|condition| Policy::parse(None, format!("permit (principal, action, resource) {condition};")).unwrap())
        .collect();
    Reads::of(policies.iter())
}

fn named(names: &[&str]) -> Reads {
    Reads::Named(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn what_is_named_is_read_and_nothing_else() {
    let cases: [(&[&str], &[&str]); 8] = [
        (&[], &[]),
        (&["", "when { resource.environment == \"context.tool\" }"], &[]),
        (&["when { context.tool == \"a\" && context.opaque }"], &["tool", "opaque"]),
        (&["when { context[\"tool\"] == \"a\" }", "unless { context.sql }"], &["tool", "sql"]),
        (&["when { context has count && context.count > 3 }"], &["count"]),
        (&["when { context has args.where.id }"], &["args"]),
        (
            &["when { context.calls.minute > 3 || context.hosts.containsAny([\"a\", context.tool]) }"],
            &["calls", "hosts", "tool"],
        ),
        (&["when { {\"context\": 1}.context == 1 && context.tool like \"context*\" }"], &["tool"]),
    ];
    for (conditions, names) in cases {
        assert_eq!(of(conditions), named(names), "{conditions:?}");
    }
}

#[test]
fn any_other_use_of_the_context_reads_all_of_it() {
    let cases = [
        "when { context == context }",
        "when { context.sql && {\"whole\": context} == {\"whole\": context} }",
        "when { [context.tool].contains(\"a\") && [context].isEmpty() }",
        "when { (if context.sql then context else {\"opaque\": true}).opaque }",
    ];
    for condition in cases {
        assert_eq!(of(&["when { context.tool == \"a\" }", condition]), Reads::All, "{condition}");
    }
    assert!(Reads::All.has("tool") && named(&["tool"]).has("tool") && !named(&["tool"]).has("sql"));
}
