//! What is proven, refuted and left open, with the real solver and with solvers that cannot be trusted.

mod fixture;
mod hostile;
mod wider;
mod world;

use expect_test::{Expect, expect};

use crate::{Limits, PropertyFile, Prover, Report, Solver, Verdict, prove};
use fixture::{POLICY, loaded};

fn solver() -> Solver {
    Solver::find(None, Limits { time_ms: 60_000, ..Limits::default() }).unwrap()
}

fn report(policy: &str, properties: &str) -> Report {
    let (source, bundle) = loaded(policy);
    let file: PropertyFile = serde_json::from_str(properties).unwrap();
    prove((&bundle, &source), &file.properties, &Prover::new(solver()), (&|_| (), &|| ())).unwrap()
}

fn lines(report: &Report) -> String {
    let line = |finding: &crate::Finding| {
        let what = match &finding.verdict {
            Verdict::Proven => "proven".to_owned(),
            Verdict::Refuted(counterexample) => {
                format!("refuted by {} ({})", counterexample.words(), counterexample.rules.join(", "))
            }
            Verdict::Absent(why) => format!("refuted: {why}"),
            Verdict::NotProven(why) => format!("not proven: {}", why.join("; ")),
        };
        format!("{} {}: {what}", finding.kind, finding.id)
    };
    report.findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

const NONE: &str = r#"{"properties": []}"#;

fn check(policy: &str, properties: &str, expected: Expect) {
    expected.assert_eq(&lines(&report(policy, properties)));
}

fn property(policy: &str, property: &str, expected: Expect) {
    let file = format!(r#"{{"properties": [{{"id": "p", "text": "t", {property}}}]}}"#);
    let report = report(policy, &file);
    let only = Report { findings: report.findings.into_iter().filter(|f| f.kind == "property").collect(), ..report };
    expected.assert_eq(&lines(&only));
}

#[test]
fn a_sound_policy_is_proven() {
    check(
        POLICY,
        NONE,
        expect![[r#"
        errors changes: proven
        errors deletes: proven
        errors no-drops: proven
        errors no-spend: proven
        errors reads: proven
        errors two-eyes: proven
        errors witnessed: proven
        layers layers: proven
        obligation witnessed: proven"#]],
    );
}

#[test]
fn a_rule_that_can_err_is_refuted() {
    check(
        r#"@id("all") permit (principal, action, resource);
        @id("o") forbid (principal, action, resource) when { context has count && context.count * 2 > 5 };"#,
        NONE,
        expect![[r#"
            errors all: proven
            errors o: refuted by an agent in no group calls `crm/purge` (or one of 3 more that the same rules see) on a target in `production`, with count = 4611686018427387904 (o)
            layers layers: proven"#]],
    );
}

#[test]
fn a_number_that_cannot_be_negative_does_not_err() {
    // Only below zero would it overflow.
    check(
        r#"@id("o") permit (principal, action, resource) when { context.statements - 9223372036854775807 < 0 };"#,
        NONE,
        expect![[r#"
            errors o: proven
            layers layers: proven"#]],
    );
}

#[test]
fn an_obligation_that_never_applies_is_refuted() {
    check(
        r#"@id("reads") permit (principal, action, resource) when { context.effect == "read" };
        @id("w") @obligation("witness") permit (principal, action, resource) when { context.effect == "spend" };"#,
        NONE,
        expect![[r#"
            errors reads: proven
            errors w: proven
            layers layers: proven
            obligation w: refuted: it applies to no call that can run: correct or remove it"#]],
    );
}

#[test]
fn properties() {
    let drops = r#""never": {"agents_outside": ["support"], "environments": ["production"], "when": {"kinds": ["drop_table"]}}"#;
    property(POLICY, drops, expect!["property p: proven"]);
    let careless = format!(
        r#"{} @id("oops") permit (principal, action == Action::"crm/query", resource);"#,
        POLICY.replace("\"drop_table\"", "\"drop\"")
    );
    property(
        &careless,
        drops,
        expect![[
            r#"property p: refuted by an agent in no group calls `crm/query` on a target in `production`, with kinds = ["drop_table"] (oops)"#
        ]],
    );
    let deletes = r#"{"effects": ["destructive"], "environments": ["production"]}"#;
    property(
        POLICY,
        &format!(r#""never": {deletes}"#),
        expect![[
            r#"property p: refuted by an agent in `support` calls `crm/purge` on a target in `production`, with effect = "destructive" (changes)"#
        ]],
    );
    property(POLICY, &format!(r#""never": {deletes}, "verdict": "allow""#), expect!["property p: proven"]);
    property(POLICY, &format!(r#""only_with_approval": {deletes}"#), expect!["property p: proven"]);
    property(
        POLICY,
        &format!(r#""only_with_approval": {deletes}, "approvers": ["ana", "ben"]"#),
        expect!["property p: proven"],
    );
    property(
        POLICY,
        &format!(r#""only_with_approval": {deletes}, "quorum": 2"#),
        expect![[
            r#"property p: refuted by an agent in `support` calls `crm/query` (or one of 2 more that the same rules see) on a target in `production`, with effect = "destructive" (changes)"#
        ]],
    );
    property(POLICY, &format!(r#""always_witnessed": {deletes}"#), expect!["property p: proven"]);
    property(
        POLICY,
        r#""always_witnessed": {"environments": ["production"]}"#,
        expect![[
            r#"property p: refuted by an agent in `support` calls `crm/purge` on a target in `production`, with effect = "read" (reads)"#
        ]],
    );
    property(
        POLICY,
        r#""obligation": {"redact": {"effects": ["read"]}}"#,
        expect![[
            r#"property p: refuted by an agent in `support` calls `crm/purge` on a target in `production`, with effect = "read" (reads)"#
        ]],
    );
    property(POLICY, r#""always_denied": {"effects": ["spend"]}"#, expect!["property p: proven"]);
    property(
        POLICY,
        r#""always_denied": {"effects": ["read"], "upstreams": ["lab"]}"#,
        expect![[
            r#"property p: refuted by an agent in no group calls `lab/query` on a target in `production`, with effect = "read" (reads)"#
        ]],
    );
}

#[test]
fn a_property_of_no_call_proves_nothing() {
    property(
        POLICY,
        r#""never": {"agents_in": ["support"], "agents_outside": ["support"]}"#,
        expect!["property p: refuted: no call is in its scope, so it says nothing: correct the scope"],
    );
}

#[test]
fn properties_that_are_refused() {
    let (source, bundle) = loaded(POLICY);
    let refused = |property: &str| {
        let spelled = format!(r#"{{"id": "p", "text": "t", {property}}}"#);
        let property: crate::Property = serde_json::from_str(&spelled).unwrap();
        property.checked(&bundle, &source).map(|_| ()).unwrap_err()
    };
    let check = |property: &str, expected: Expect| expected.assert_eq(&refused(property));
    check(
        r#""never": {"environments": ["prodution"]}"#,
        expect!["the environment `prodution` is not known (did you mean `production`?)"],
    );
    check(
        r#""never": {"agents_outside": ["suport"]}"#,
        expect!["the group `suport` is not known (did you mean `support`?)"],
    );
    check(r#""never": {"agents": []}"#, expect!["an empty list of agents means no call; leave it out to mean any"]);
    check(r#""never": {"tools": ["crm/drop"]}"#, expect!["the tool `crm/drop` is not known"]);
    check(
        r#""verdict": "allow""#,
        expect!["write exactly one of never, only_with_approval, always_denied, always_witnessed, obligation"],
    );
    check(
        r#""never": {}, "always_denied": {}"#,
        expect!["write exactly one of never, only_with_approval, always_denied, always_witnessed, obligation"],
    );
    check(r#""always_denied": {}, "verdict": "allow""#, expect!["`verdict` belongs to `never`"]);
    check(r#""never": {}, "quorum": 2"#, expect!["`quorum` and `approvers` belong to `only_with_approval`"]);
    check(
        r#""obligation": {"notary": {}}"#,
        expect![
            "`notary` is no obligation (did you mean `notify`?); known are max_rows, timeout, witness, redact, undo, sandbox, notify"
        ],
    );
    check(
        r#""never": {"when": {"amount_over": "1e3"}}"#,
        expect![[r#"`amount_over: 1e3` is no amount; write a decimal text, such as "100.50""#]],
    );
}
