//! What counts as wider, which rule did it, and what is left open.

use countersign_kernel::policy::{AgentDef, Bundle, PatternDef, PatternKind, PolicySource, ToolDef};
use countersign_model::Effect;
use expect_test::{Expect, expect};

use super::fixture::{POLICY, source};
use super::solver;
use crate::{Difference, Limits, Prover, Side, Solver, diff};

const TWO_EYES: &str = r#"@id("two-eyes") @gate("two humans") @quorum("2") @timeout("10m")
forbid (principal, action == Action::"crm/purge", resource);"#;

fn compared(old: &PolicySource, new: &PolicySource, prover: &Prover) -> Difference {
    let load = |source: &PolicySource| {
        // Rego needs a feature of the kernel that this crate does without; the comparison looks at its source alone.
        let mut cedar = source.clone();
        cedar.policies.retain(|(file, _)| !file.ends_with(".rego"));
        Bundle::load(&cedar).unwrap_or_else(|error| panic!("{error}"))
    };
    let (before, after) = (load(old), load(new));
    let (old, new) = (Side { bundle: &before, source: old }, Side { bundle: &after, source: new });
    diff(old, new, prover, (&|_| (), &|| ())).unwrap()
}

fn lines(difference: &Difference) -> String {
    let widening = |w: &crate::Widening| {
        format!("{}: {} ({}) +{}", w.kind.as_str(), w.example.words(), w.because.join("; "), w.more)
    };
    let open = difference.open.iter().map(|why| format!("open: {why}"));
    let all: Vec<String> = difference.widenings.iter().map(widening).chain(open).collect();
    if all.is_empty() { "not wider".to_owned() } else { all.join("\n") }
}

/// From POLICY, and a change of its source, to what is said of it.
fn check(change: impl FnOnce(&mut PolicySource), expected: Expect) {
    let old = source(POLICY);
    let mut new = old.clone();
    change(&mut new);
    expected.assert_eq(&lines(&compared(&old, &new, &Prover::new(solver()))));
}

fn add(rule: &str) -> impl FnOnce(&mut PolicySource) {
    let rule = format!("{rule}\n");
    move |source| source.policies[0].1.push_str(&rule)
}

fn swap(from: &str, to: &str) -> impl FnOnce(&mut PolicySource) {
    assert!(POLICY.contains(from), "{from}");
    let text = POLICY.replace(from, to);
    move |source| source.policies[0].1 = text
}

#[test]
fn what_is_the_same_needs_no_question() {
    let same = source(POLICY);
    let difference = compared(&same, &same, &Prover::new(solver()));
    assert!(difference.is_not_wider());
    assert_eq!((difference.questions, difference.compared), (0, 2));
}

#[test]
fn what_is_narrower_is_proven_so() {
    check(add(r#"@id("f") forbid (principal, action, resource) when { context.depth > 3 };"#), expect!["not wider"]);
    check(swap(r#"["write", "destructive", "spend"]"#, r#"["write"]"#), expect!["not wider"]);
    check(swap(r#"@timeout("15m")"#, r#"@timeout("5m")"#), expect!["not wider"]);
    check(swap(r#"@approvers("ana,ben")"#, r#"@approvers("ana")"#), expect!["not wider"]);
    check(swap(r#"@quorum("2")"#, r#"@quorum("3")"#), expect!["not wider"]);
    // The same in other words.
    check(swap(r#"context.effect == "read""#, r#"["read"].contains(context.effect)"#), expect!["not wider"]);
    let mut before = source(POLICY);
    before.agents[1].groups.push("support".to_owned());
    assert_eq!(lines(&compared(&before, &source(POLICY), &Prover::new(solver()))), "not wider");
}

#[test]
fn what_is_wider_comes_with_a_call_and_the_rule() {
    check(
        add(r#"@id("p") permit (principal, action, resource) when { context.effect == "outbound" };"#),
        expect![[r#"
            runs: an agent in `support` calls `crm/query` (or one of 2 more that the same rules see) on a target in `production`, with effect = "outbound" (rule `p` is new) +0
            possible: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "outbound" (rule `p` is new) +0"#]],
    );
    check(
        swap(r#""write", "destructive", "spend""#, r#""write", "destructive", "spend", "spawn""#),
        expect![[r#"
        runs: an agent in `support` calls `crm/query` (or one of 2 more that the same rules see) on a target in `production`, with effect = "spawn" (rule `changes` changed) +0
        possible: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "spawn" (rule `changes` changed) +0"#]],
    );
    check(
        swap(r#"context.opaque || "#, ""),
        expect![[r#"
        runs: an agent in no group calls `crm/query` (or one of 2 more that the same rules see) on a target in `production`, with effect = "read", kinds = [], opaque = true (rule `no-drops` changed) +0
        possible: an agent in no group calls `crm/purge` on a target in `production`, with effect = "read", kinds = [], opaque = true (rule `no-drops` changed) +0"#]],
    );
    check(
        swap(r#"@id("no-spend") forbid (principal, action, resource) when { context.effect == "spend" };"#, ""),
        expect![[r#"
            runs: an agent in `support` calls `crm/query` (or one of 2 more that the same rules see) on a target in `production`, with effect = "spend" (rule `no-spend` is gone) +0
            possible: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "spend" (rule `no-spend` is gone) +0"#]],
    );
}

#[test]
fn gates_that_are_weaker() {
    check(
        swap(r#"@timeout("15m")"#, r#"@timeout("16m")"#),
        expect![[
            r#"gate: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "destructive" (rule `deletes` changed) +1"#
        ]],
    );
    check(
        swap(r#"@approvers("ana,ben")"#, r#"@approvers("ana,ben,eve")"#),
        expect![[
            r#"gate: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "destructive" (rule `deletes` changed) +1"#
        ]],
    );
    check(
        swap(r#"@approvers("ana,ben") "#, ""),
        expect![[
            r#"gate: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "destructive" (rule `deletes` changed) +1"#
        ]],
    );
    check(
        swap(r#"@quorum("2")"#, r#"@quorum("1")"#),
        expect![[
            r#"gate: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "read" (rule `two-eyes` changed) +0"#
        ]],
    );
    check(
        swap(TWO_EYES, ""),
        expect![[
            r#"runs: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "read" (rule `two-eyes` is gone) +0"#
        ]],
    );
    // Where it fires is less.
    check(
        swap(r#"context.effect == "destructive" };"#, r#"context.effect == "destructive" && context.depth == 0 };"#),
        expect![[r#"
            runs: an agent in `support` calls `crm/query` (or one of 2 more that the same rules see) on a target in `production`, with effect = "destructive" (rule `deletes` changed) +0
            gate: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "destructive" (rule `deletes` changed) +0"#]],
    );
}

#[test]
fn obligations_that_went() {
    check(
        swap(r#"["outbound", "destructive"]"#, r#"["outbound"]"#),
        expect![[
            r#"obligation: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "destructive" (rule `witnessed` changed) +1"#
        ]],
    );
    let rows = |rows: &str| {
        format!(
            "{POLICY}@id(\"rows\") @obligation(\"max_rows\") @value(\"{rows}\") permit (principal, action, resource);"
        )
    };
    let prover = Prover::new(solver());
    let compared = |old: &str, new: &str| lines(&compared(&source(&rows(old)), &source(&rows(new)), &prover));
    assert_eq!(compared("100", "10"), "not wider");
    expect![[r#"obligation: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "read" (rule `rows` changed) +1"#]].assert_eq(&compared("10", "100"));
}

#[test]
fn agents_targets_and_tools() {
    check(
        |source| source.agents[1].groups.push("support".to_owned()),
        expect![[r#"
        runs: agent `guest` (in `support`) calls `crm/query` (or one of 2 more that the same rules see) on a target in `production`, with effect = "read" (`guest` was in no group and is in support) +0
        possible: agent `guest` (in `support`) calls `crm/purge` on a target in `production`, with effect = "read" (`guest` was in no group and is in support) +0"#]],
    );
    check(
        |source| source.agents.push(AgentDef { id: "eve".parse().unwrap(), groups: vec![] }),
        expect![[r#"
        runs: agent `eve` (in no group) calls `crm/query` (or one of 2 more that the same rules see) on a target in `production`, with effect = "read" (`eve` is new, in no group) +0
        possible: agent `eve` (in no group) calls `crm/purge` on a target in `production`, with effect = "read" (`eve` is new, in no group) +0"#]],
    );
    check(|source| source.targets[1].environment = "production".parse().unwrap(), expect!["not wider"]);
    let mut before = source(POLICY);
    before.targets[1].environment = "production".parse().unwrap();
    expect![[r#"
        runs: an agent in `support` calls `crm/query` (or one of 2 more that the same rules see) on target `lab` in `staging`, with effect = "destructive" (`lab` was in production and is in staging) +0
        gate: an agent in `support` calls `crm/purge` on target `lab` in `staging`, with effect = "destructive" (`lab` was in production and is in staging) +0"#]].assert_eq(&lines(&compared(&before, &source(POLICY), &Prover::new(solver()))));
    check(
        |source| source.tools.push(ToolDef::named("crm".parse().unwrap(), "new".parse().unwrap())),
        expect![[
            r#"runs: an agent in `support` calls `crm/new` on a target in `production`, with effect = "read" (the tool is new) +0"#
        ]],
    );
    let without = swap(TWO_EYES, "");
    check(
        |source| {
            without(source);
            source.tools.remove(1);
        },
        expect![[
            r#"runs: an agent in `support` calls `crm/purge` on a target in `production`, with effect = "read" (rule `two-eyes` is gone) +0"#
        ]],
    );
    check(|source| drop(source.tools.remove(2)), expect!["not wider"]);
}

#[test]
fn what_cannot_be_proven_is_said() {
    let old = source(&format!(
        "{POLICY}@id(\"o\") forbid (principal, action, resource) when {{ context has count && context.count * 2 < 0 }};"
    ));
    let difference = compared(&old, &source(POLICY), &Prover::new(solver()));
    expect!["open: rule `o` of the old policy can err: what it denied by that is not known to be denied still"]
        .assert_eq(&lines(&difference));
    let mut new = source(POLICY);
    swap(r#"["write", "destructive", "spend"]"#, r#"["write"]"#)(&mut new);
    let none = Solver::find(Some("/bin/true".as_ref()), Limits::default()).unwrap();
    let difference = compared(&source(POLICY), &new, &Prover::new(none));
    assert!(difference.widenings.is_empty() && !difference.is_not_wider());
}

/// What is said of a change from `old`, whose rules stay as they are.
fn stays(old: &PolicySource, change: impl FnOnce(&mut PolicySource), expected: Expect) {
    let mut new = old.clone();
    change(&mut new);
    expected.assert_eq(&lines(&compared(old, &new, &Prover::new(solver()))));
}

#[test]
fn rego_that_changed_is_not_compared() {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let mut old = source(POLICY);
    stays(&old, |new| new.policies.push(file("a.rego", "package countersign")), expect!["not wider"]);
    old.policies.push(file("a.rego", "package countersign\ndeny contains \"no\""));
    stays(&old, |_| (), expect!["not wider"]);
    let changed = || expect!["open: Rego changed (`a.rego`): what it denies cannot be compared"];
    stays(&old, |new| drop(new.policies.pop()), changed());
    stays(&old, |new| new.policies[1].1.push_str(" if false"), changed());
    stays(
        &old,
        |new| new.policies.push(file("b.rego", "package countersign")),
        expect!["open: Rego changed (`b.rego`): what it denies cannot be compared"],
    );
}

#[test]
fn patterns_that_come_change_or_go_are_not_compared() {
    let pattern = |text: &str| PatternDef {
        id: "safe".parse().unwrap(),
        kind: PatternKind::Exact,
        text: text.to_owned(),
        argument: None,
    };
    // The permit waits for a pattern of this name.
    let waits = format!(
        "{POLICY}@id(\"w\") permit (principal, action, resource) when {{ context.matched.contains(\"safe\") }};"
    );
    let without = source(&waits);
    stays(
        &without,
        |new| new.patterns.push(pattern("x")),
        expect!["open: the pattern `safe` is new: what it matches cannot be compared"],
    );
    let mut with = without.clone();
    with.patterns.push(pattern("x"));
    stays(&with, |_| (), expect!["not wider"]);
    let changed = || expect!["open: the pattern `safe` changed or went: what it matches cannot be compared"];
    stays(&with, |new| new.patterns[0] = pattern("y"), changed());
    stays(&with, |new| new.patterns.clear(), changed());
}

#[test]
fn tools_that_declare_something_else_are_not_compared() {
    let schema = |kind: &str| Some(format!(r#"{{"type":"object","properties":{{"id":{{"type":"{kind}"}}}}}}"#));
    let mut old = source(POLICY);
    old.tools[0].input_schema = schema("string");
    old.tools[1].effect = Some(Effect::Destructive);
    stays(&old, |_| (), expect!["not wider"]);
    stays(
        &old,
        |new| new.tools[0].input_schema = schema("integer"),
        expect![
            "open: the schema of arguments of `crm/query` changed: what policy reads of its calls is not the same and cannot be compared"
        ],
    );
    stays(
        &old,
        |new| new.tools[1].effect = Some(Effect::Read),
        expect![
            "open: the declared effect of `crm/purge` changed: what policy reads of its calls is not the same and cannot be compared"
        ],
    );
    stays(
        &old,
        |new| {
            new.tools[0].input_schema = None;
            new.tools[0].effect = Some(Effect::Read);
        },
        expect![
            "open: the declared effect and the schema of arguments of `crm/query` changed: what policy reads of its calls is not the same and cannot be compared"
        ],
    );
}
