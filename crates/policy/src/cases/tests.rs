//! Cases: what is refused, what fails, what is reached, what is noticed.

use std::collections::BTreeMap;

use countersign_effects::{ArgumentKind, Binding, Dialect};
use countersign_kernel::policy::{AgentDef, Bundle, PolicySource, TargetDef, ToolDef};
use countersign_model::Effect;
use expect_test::{Expect, expect};

use super::*;

const POLICY: &str = r#"
@id("reads") permit (principal, action in Action::"call", resource) when { context.effect == "read" };
@id("changes") permit (principal in AgentGroup::"support", action in Action::"call", resource)
  when { context.effect == "write" || context.effect == "destructive" };
@id("mail") permit (principal, action == Action::"crm/send", resource)
  unless { context.has amount_micros && context.amount_micros > 100500000 };
@id("no-drops") forbid (principal, action, resource) when { context.opaque || context.kinds.contains("drop_table") };
@id("ask") @gate("changes") @quorum("1")
forbid (principal, action, resource) when { resource.environment == "production" } unless { context.effect == "read" };
@id("seen") @obligation("witness") permit (principal, action, resource) when { context.effect == "destructive" };
"#;

fn source(policy: &str) -> PolicySource {
    let target =
        |id: &str, environment: &str| TargetDef { id: id.parse().unwrap(), environment: environment.parse().unwrap() };
    let tool = |tool: &str| ToolDef::named("crm".parse().unwrap(), tool.parse().unwrap());
    PolicySource {
        policies: vec![("main.cedar".to_owned(), policy.replace("context.has amount", "context has amount"))],
        agents: vec![
            AgentDef { id: "shop".parse().unwrap(), groups: vec!["support".to_owned()] },
            AgentDef { id: "guest".parse().unwrap(), groups: vec![] },
        ],
        targets: vec![target("crm", "production"), target("lab", "staging")],
        tools: vec![tool("query"), tool("send")],
        ..PolicySource::default()
    }
}

fn upstreams() -> BTreeMap<UpstreamId, Upstream> {
    let binding = |effect, argument: &str, kind| Binding {
        target: "crm".parse().unwrap(),
        environment: "production".parse().unwrap(),
        effect,
        arguments: [(argument.to_owned(), kind)].into(),
        subject: None,
        labels: Default::default(),
        trusted: vec![],
    };
    let tools = BTreeMap::from([
        ("query".parse().unwrap(), binding(None, "sql", ArgumentKind::Sql(Dialect::Sqlite))),
        ("send".parse().unwrap(), binding(Some(Effect::Read), "to", ArgumentKind::Plain)),
    ]);
    let crm = Upstream { target: "crm".parse().unwrap(), environment: "production".parse().unwrap(), tools };
    BTreeMap::from([("crm".parse().unwrap(), crm)])
}

/// Gives `body` the setting of `policy`.
fn under<T>(policy: &str, body: impl FnOnce(&Setting<'_>) -> T) -> T {
    let (source, upstreams) = (source(policy), upstreams());
    let bundle = Bundle::load(&source).unwrap_or_else(|error| panic!("{error}"));
    body(&Setting { bundle: &bundle, source: &source, upstreams: &upstreams })
}

/// Every case of the file that is not as it expects, with what differs.
fn failures(text: &str) -> String {
    under(POLICY, |setting| {
        let cases = parse("t.yaml", text, setting).unwrap_or_else(|error| panic!("{error}"));
        let failed = run(&cases, setting).into_iter().filter(|ran| !ran.differences.is_empty());
        failed.map(|ran| format!("{}: {}", ran.case.name, ran.differences.join("; "))).collect::<Vec<_>>().join("\n")
    })
}

#[test]
fn what_is_as_expected_passes() {
    let text = r#"
cases:
  - name: a read runs
    action: { agent: guest, tool: crm/query }
    facts: { sql: "SELECT name FROM customers" }
    expect: { verdict: allow, policies: [reads], gates: [], obligations: [] }
  - name: the arguments are parsed as a call's are
    action: { agent: shop, tool: crm/query }
    arguments: { sql: "DELETE FROM customers WHERE id = 1" }
    expect: { verdict: require_approval, policies: [changes], gates: [ask], obligations: [witness] }
  - name: staging does not ask
    action: { agent: shop, tool: crm/query, target: lab, environment: staging }
    facts: { sql: "DELETE FROM customers WHERE id = 1" }
    expect: { verdict: allow, gates: [], obligations: [witness] }
  - name: a guest changes nothing
    action: { agent: guest, tool: crm/query }
    facts: { sql: "DELETE FROM customers WHERE id = 1" }
    expect: { verdict: deny }
  - name: what is not understood is denied
    action: { agent: shop, tool: crm/query }
    facts: { sql: "DROP TABLE a; DROP TABLE b" }
    expect: { verdict: deny, policies: [no-drops] }
  - name: and so is a tool without a binding
    action: { agent: shop, tool: crm/new, unbound: true }
    expect: { verdict: deny, policies: [no-drops] }
  - name: a sum
    action: { agent: shop, tool: crm/send, effect: outbound, target: lab }
    facts: { amount: "100.50" }
    expect: { verdict: allow, policies: [mail] }
  - name: a larger sum
    action: { agent: shop, tool: crm/send, effect: outbound, target: lab }
    facts: { amount: "100.500001" }
    expect: { verdict: deny }
  - name: a number that policy cannot hold
    action: { agent: shop, tool: crm/send }
    facts: { count: 18446744073709551615 }
    expect: { error: true }
"#;
    assert_eq!(failures(text), "");
}

#[test]
fn what_is_not_as_expected_says_what_differs() {
    let text = r#"
cases:
  - name: one
    action: { agent: shop, tool: crm/query }
    facts: { sql: "DELETE FROM customers" }
    expect: { verdict: allow, policies: [reads], gates: [], obligations: [{max_rows: 10}] }
  - name: two
    action: { agent: shop, tool: crm/send }
    facts: { count: 18446744073709551615 }
    expect: { verdict: deny }
  - name: three
    action: { agent: shop, tool: crm/send }
    expect: { error: true }
"#;
    expect![[r#"
        one: expected allow, got require_approval; not among the determining rules: reads; expected the gates none, got ask; expected the obligations max_rows 10, got witness
        two: evaluation erred: `count` is 18446744073709551615, which is more than policy can hold
        three: expected an error, got none"#]]
    .assert_eq(&failures(text));
}

fn refused(text: &str, expected: Expect) {
    under(POLICY, |setting| {
        let error = parse("t.yaml", text, setting).map(|_| ()).unwrap_err();
        expected.assert_eq(&error.to_string());
    });
}

#[test]
fn what_cannot_be_understood_is_no_pass() {
    let case = |action: &str, expect: &str| {
        format!("cases:\n  - name: x\n    action: {{ {action} }}\n    expect: {{ {expect} }}\n")
    };
    refused(
        "cases: []",
        expect!["t.yaml: `cases` is empty, so nothing would be tested; add a case, or remove the file"],
    );
    refused("", expect!["t.yaml:1: unexpected end of input at line 1, column 1"]);
    refused(
        &case("agent: shop, tool: crm/query", "verdit: allow"),
        expect![
            "t.yaml:4: `verdit` is no key here (did you mean `verdict`?); known are verdict, policies, gates, obligations, error"
        ],
    );
    refused(
        &case("agent: shop, tool: crm/query", "verdict: alow"),
        expect!["t.yaml:4: `alow` is no word here (did you mean `allow`?); known are allow, require_approval, deny"],
    );
    refused(
        &case("agent: shop, tool: crm/query", "policies: [reads]"),
        expect!["t.yaml:2: in case `x`: `expect` says no `verdict`; write allow, require_approval or deny"],
    );
    refused(
        &case("agent: shop, tool: crm/qury", "verdict: allow"),
        expect![
            "t.yaml:2: in case `x`: the tool `crm/qury` is not known (did you mean `crm/query`?); correct the name, or add it to the configuration, or say `unbound: true` where the case is about a tool without a binding"
        ],
    );
    refused(
        &case("agent: shop, tool: query", "verdict: allow"),
        expect!["t.yaml:2: in case `x`: `tool: query` names no upstream; write UPSTREAM/TOOL, such as `tools/query`"],
    );
    refused(
        &case("agent: shop, tool: cm/query, unbound: true", "verdict: allow"),
        expect![
            "t.yaml:2: in case `x`: the upstream `cm` is not known (did you mean `crm`?); correct the name, or add it to the configuration"
        ],
    );
    refused(
        &case("agent: shop, tool: crm/query, unbound: true", "verdict: allow"),
        expect!["t.yaml:2: in case `x`: the tool `crm/query` has a binding; remove `unbound`"],
    );
    refused(
        &case("agent: shp, tool: crm/query", "verdict: allow"),
        expect![
            "t.yaml:2: in case `x`: the agent `shp` is not known (did you mean `shop`?); correct the name, or add it to the configuration"
        ],
    );
    refused(
        &case("agent: shop, tool: crm/query, target: lap", "verdict: allow"),
        expect![
            "t.yaml:2: in case `x`: the target `lap` is not known (did you mean `lab`?); correct the name, or add it to the configuration"
        ],
    );
    refused(
        &case("agent: shop, tool: crm/query, environment: staging", "verdict: allow"),
        expect!["t.yaml:2: in case `x`: the target `crm` is in `production`, not in `staging`; correct one of the two"],
    );
    refused(
        &case("agent: shop, tool: crm/query", "verdict: allow, policies: [read]"),
        expect!["t.yaml:2: in case `x`: no rule of that kind has the id `read` (did you mean `reads`?)"],
    );
    refused(
        &case("agent: shop, tool: crm/query", "verdict: allow, gates: [reads]"),
        expect!["t.yaml:2: in case `x`: no rule of that kind has the id `reads`"],
    );
    refused(
        &case("agent: shop, tool: crm/query", "verdict: allow, obligations: [witnes]"),
        expect![
            "t.yaml:2: in case `x`: `witnes` is no obligation (did you mean `witness`?); write witness, redact, undo, sandbox, `{max_rows: 100}`, `{timeout: 30s}` or `{notify: ops}`"
        ],
    );
    refused(
        &case("agent: shop, tool: crm/query", "verdict: allow, error: true"),
        expect!["t.yaml:2: in case `x`: an error denies; expect `verdict: deny`, or remove `error`"],
    );
    refused(
        &case("agent: shop, tool: crm/query, now: noon", "verdict: allow"),
        expect!["t.yaml:2: in case `x`: `now: noon` is no time; write RFC 3339, such as `2026-11-21T03:00:00Z`"],
    );
}

#[test]
fn amounts() {
    let check = |text, expected: Option<u64>| assert_eq!(countersign_model::unit::micros(text), expected, "{text}");
    check("0", Some(0));
    check("100.50", Some(100_500_000));
    check("0.000001", Some(1));
    check("18446744073709.551615", Some(u64::MAX));
    check("18446744073709.551616", None);
    for wrong in ["", ".5", "5.", "1e3", "-1", "1,50", "0.0000001", "+1", " 1"] {
        check(wrong, None);
    }
}

const TWO: &str = r#"
cases:
  - name: a read runs
    action: { agent: guest, tool: crm/query }
    facts: { sql: "SELECT name FROM customers" }
    expect: { verdict: allow }
  - name: a change asks
    action: { agent: shop, tool: crm/query }
    facts: { sql: "DELETE FROM customers WHERE id = 1" }
    expect: { verdict: require_approval, gates: [ask] }
"#;

#[test]
fn coverage_names_what_no_case_reaches() {
    under(POLICY, |setting| {
        let cases = parse("t.yaml", TWO, setting).unwrap();
        let coverage = coverage(&run(&cases, setting), setting).unwrap();
        let unreached: Vec<_> = coverage.unreached().map(|reach| (reach.rule.as_str(), reach.place.line)).collect();
        assert_eq!(unreached, [("mail", 5), ("no-drops", 7)]);
        assert_eq!((coverage.percent(), coverage.one_way().count()), (66, 0));
        let one = coverage_of_first(setting);
        assert_eq!(one, ["reads"], "it holds in every case that it sees");
    });
}

fn coverage_of_first(setting: &Setting<'_>) -> Vec<String> {
    let cases = parse("t.yaml", TWO, setting).unwrap();
    let coverage = coverage(&run(&cases[..1], setting), setting).unwrap();
    coverage.one_way().map(|reach| reach.rule.clone()).collect()
}

#[test]
fn mutants_that_nobody_notices_survive() {
    under(POLICY, |setting| {
        let cases = parse("t.yaml", TWO, setting).unwrap();
        let mut seen = 0;
        let mutation = mutate(&cases, setting, || seen += 1).unwrap();
        let survivors: Vec<_> = mutation.survivors.iter().map(|m| format!("{} {}", m.rule, m.change)).collect();
        expect![[r#"
            changes any principal
            mail dropped
            mail permit and forbid exchanged
            mail condition 1 turned round
            no-drops dropped
            no-drops permit and forbid exchanged
            seen dropped
            seen condition 1 turned round"#]]
        .assert_eq(&survivors.join("\n"));
        assert_eq!((seen, mutation.tally.rules, mutation.noticed), (6, 6, 11));
    });
}

#[test]
fn a_file_that_fails_is_not_mutated() {
    under(POLICY, |setting| {
        let text = TWO.replace("require_approval", "allow");
        let cases = parse("t.yaml", &text, setting).unwrap();
        let error = mutate(&cases, setting, || ()).unwrap_err();
        assert!(error.contains("case `a change asks` fails already"), "{error}");
    });
}

#[test]
fn places_of_rules() {
    let source = PolicySource {
        policies: vec![
            ("a.cedar".to_owned(), "// @id(\"x\n\n@id(\"xy\")\n".to_owned()),
            ("b.yaml".to_owned(), "rules:\n  - id: x-y\n  - id: x\n".to_owned()),
        ],
        ..PolicySource::default()
    };
    let check = |id: &str, file: &str, line| {
        assert_eq!(Place::of(id, &source), Place { file: file.to_owned(), line }, "{id}");
    };
    check("xy", "a.cedar", 3);
    check("x", "b.yaml", 3);
    check("x-y", "b.yaml", 2);
    check("z", "", 0);
}
