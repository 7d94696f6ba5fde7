//! Traps that policies of names fall into, each from the bytes of a call to the answer of policy.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;

use countersign_effects::binding::{Binding, facts};
use countersign_effects::json::{Limits, parse};
use countersign_kernel::policy::{AgentDef, Bundle, EvaluationRequest, PolicySource, TargetDef, ToolDef};
use countersign_model::action::Point;
use countersign_model::record::{Evaluation, History};
use countersign_model::{Effect, TimeMs};
use countersign_testkit::world::id;

fn source(policy: &str, environments: &[&str]) -> PolicySource {
    let target =
        |(at, environment): (usize, &&str)| TargetDef { id: id(&format!("t{at}")), environment: id(environment) };
    PolicySource {
        policies: vec![("traps.cedar".to_owned(), policy.to_owned())],
        agents: vec![AgentDef { id: id("coder"), groups: Vec::new() }],
        targets: environments.iter().enumerate().map(target).collect(),
        tools: vec![ToolDef { effect: Some(Effect::Write), ..ToolDef::named(id("up"), id("tool")) }],
        patterns: Vec::new(),
        humans: None,
    }
}

/// What policy says of a call of a tool whose argument `x` is of this kind.
fn asked(policy: &str, kind: &str, value: &str) -> Evaluation {
    let bundle = Bundle::load(&source(policy, &["production"])).unwrap();
    bundle.evaluate(&request(kind, value))
}

fn request(kind: &str, value: &str) -> EvaluationRequest {
    let binding = Binding {
        target: id("t0"),
        environment: id("production"),
        effect: Some(Effect::Write),
        arguments: BTreeMap::from([("x".to_owned(), kind.parse().unwrap())]),
        subject: None,
        labels: Default::default(),
        trusted: Vec::new(),
    };
    let arguments = format!("{{\"x\":{value}}}");
    let node = parse(arguments.as_bytes(), &Limits::default()).unwrap();
    EvaluationRequest {
        agent: id("coder"),
        depth: 0,
        point: Point::Mcp,
        upstream: id("up"),
        tool: id("tool"),
        target: id("t0"),
        environment: id("production"),
        facts: facts(Some(&binding), &node, arguments.as_bytes()),
        leases: Vec::new(),
        token_expires: TimeMs(2_000_000),
        now: TimeMs(1_000_000),
        history: History::default(),
        arguments: arguments.into_bytes(),
    }
}

const ALL: &str = "@id(\"all\") permit (principal, action in Action::\"call\", resource);\n";

fn is_denied(answer: &Evaluation) -> bool {
    !answer.auto && !answer.ceiling
}

fn has_erred(answer: &Evaluation) -> bool {
    answer.errors.total > 0
}

#[test]
fn an_overflow_denies_and_does_not_skip_the_forbid() {
    let policy = format!(
        "{ALL}@id(\"dear\") forbid (principal, action, resource) \
         when {{ context has amount_micros && context.amount_micros * 9223372036854775807 > 5 }};"
    );
    assert!(has_erred(&asked(&policy, "amount", "1000")));
    // Ratios come as percent, which cannot overflow whatever an agent writes.
    let policy = format!(
        "{ALL}@id(\"twice\") forbid (principal, action, resource) \
         when {{ context has percent_of_current && context.percent_of_current > 200 }};"
    );
    for value in ["9007199254740992", "3"] {
        let mut request = request("count", value);
        request.facts.bound.as_mut().unwrap().current = Some(1);
        let answer = Bundle::load(&source(&policy, &["production"])).unwrap().evaluate(&request);
        assert!(is_denied(&answer) && !has_erred(&answer), "{value}");
    }
    // What policy could not hold never becomes a fact.
    for value in ["9223372036854775808", "-4611686018427387905", "1e400"] {
        assert!(request("count", value).facts.opaque_because.is_some(), "{value}");
    }
}

#[test]
fn an_entity_that_is_not_there_denies() {
    let bundle = Bundle::load(&source(ALL, &["production"])).unwrap();
    assert!(bundle.evaluate(&request("plain", "1")).auto);
    for change in [
        |request: &mut EvaluationRequest| request.agent = id("Coder"),
        |request: &mut EvaluationRequest| request.target = id("T0"),
        |request: &mut EvaluationRequest| request.environment = id("Production"),
    ] {
        let mut request = request("plain", "1");
        change(&mut request);
        let answer = bundle.evaluate(&request);
        assert!(has_erred(&answer) && !answer.auto, "{request:?}");
    }
    let unknown = format!("{ALL}@id(\"x\") forbid (principal, action, resource in Environment::\"prod\");");
    assert!(Bundle::load(&source(&unknown, &["production"])).is_err(), "such a forbid would never hold");
}

#[test]
fn production_has_one_spelling() {
    for other in ["Production", "PRODUCTION", "pr0duction", "product1on", "produc-tion"] {
        let error = Bundle::load(&source(ALL, &["production", other])).unwrap_err().to_string();
        assert!(error.contains("look alike"), "{other}: {error}");
    }
    assert!(Bundle::load(&source(ALL, &["production", "staging"])).is_ok());
}

const NO_METADATA: &str = "@id(\"metadata\") forbid (principal, action, resource) \
     when { context.opaque || context.hosts.contains(\"169.254.169.254\") || context.hosts.contains(\"evil.example\") };";

#[test]
fn one_address_is_forbidden_in_every_spelling() {
    let policy = format!("{ALL}{NO_METADATA}");
    for text in [
        "http://169.254.169.254/latest",
        "http://[::ffff:169.254.169.254]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[::a9fe:a9fe]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://169.254.43518/",
        "http://0251.0376.0251.0376/",
        "http://169.254.169.254./",
        "http://good.example@169.254.169.254/",
        "http://169.254.169.254\\\\@good.example/",
        "https://EVIL.example/",
        "https://evil.example.:443/",
        "https://ev\u{456}l.example/",
        "https://evil%2eexample/",
    ] {
        assert!(is_denied(&asked(&policy, "host", &format!("\"{text}\""))), "{text}");
    }
    assert!(asked(&policy, "host", "\"https://good.example/evil.example\"").auto);
}

#[test]
fn the_address_counts_and_not_the_name_before_it() {
    let policy = "@id(\"ours\") permit (principal, action in Action::\"call\", resource) \
         when { !context.opaque && [\"good.example\"].containsAll(context.recipient_domains) };";
    let allowed = |text: &str| asked(policy, "recipient", &serde_json::json!(text).to_string()).auto;
    assert!(allowed("Ana <ana@GOOD.example>"));
    for text in [
        "\"ana@good.example\" <x@evil.example>",
        "ana@good.example, x@evil.example",
        "ana@good.example;x@evil.example",
        "ana@good.example\nBcc: x@evil.example",
        "x%evil.example@good.example",
        "ana@g\u{43e}od.example",
        "ana@good.example.evil.example",
    ] {
        assert!(!allowed(text), "{text:?}");
    }
}

#[test]
fn a_program_is_forbidden_however_it_is_reached() {
    let policy = format!(
        "{ALL}@id(\"rm\") forbid (principal, action, resource) when {{ context.opaque || context.programs.contains(\"rm\") }};"
    );
    let denied = |text: &str| is_denied(&asked(&policy, "shell", &serde_json::json!(text).to_string()));
    for text in [
        "rm x",
        "/bin/rm x",
        "sudo rm x",
        "env rm x",
        "ls; rm x",
        "ls|xargs rm",
        "r''m x",
        "r\\m x",
        "$(echo rm) x",
        "sh -c 'rm x'",
        "timeout 5 nice -n 3 rm x",
        "true && rm x",
        "RM=1 rm x",
        "find . -exec rm {} +",
        "eval rm x",
        "./rm x",
        "r* x",
        "r\u{43c} x",
    ] {
        assert!(denied(text), "{text}");
    }
    assert!(!denied("ls -l 'rm x'"));
}
