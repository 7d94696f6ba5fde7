//! Bundles: what loads, what they answer, and that errors deny.

use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::{Effect, Facts, SqlFacts};
use countersign_model::record::{Evaluation, History};
use countersign_model::verdict::Obligation;
use expect_test::{Expect, expect};

use super::{Bundle, EvaluationRequest, PolicySource};
use crate::tests::fixture;

fn with(text: &str) -> PolicySource {
    PolicySource { policies: vec![("main.cedar".to_owned(), text.to_owned())], ..fixture::source() }
}

pub(super) fn request(effect: Effect) -> EvaluationRequest {
    EvaluationRequest {
        agent: "shop".parse().unwrap(),
        depth: 0,
        point: Point::Mcp,
        upstream: "crm".parse().unwrap(),
        tool: "query".parse().unwrap(),
        target: "crm".parse().unwrap(),
        environment: "production".parse().unwrap(),
        facts: Facts::declared(effect),
        leases: vec![],
        token_expires: TimeMs(3_600_000),
        now: TimeMs(0),
        history: History::default(),
        arguments: vec![],
    }
}

fn evaluate(text: &str, change: impl FnOnce(&mut EvaluationRequest)) -> Evaluation {
    let bundle = Bundle::load(&with(text)).unwrap();
    let mut asked = request(Effect::Read);
    change(&mut asked);
    bundle.evaluate(&asked)
}

const ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

#[test]
fn a_forbid_that_overflows_denies() {
    let text = format!(
        "{ALL}@id(\"o\") forbid (principal, action, resource) when {{ context.now_ms * 9223372036854775807 > 5 }};"
    );
    let evaluation = evaluate(&text, |asked| asked.now = TimeMs(2));
    // Cedar itself says allow here: the erring forbid is skipped.
    assert!(evaluation.auto && evaluation.ceiling);
    assert_eq!(evaluation.errors.total, 1);
    assert!(evaluation.errors.items[0].contains('o'), "{:?}", evaluation.errors);
    assert_eq!(evaluate(&text, |_| {}).errors.total, 0);
}

#[test]
fn a_forbid_on_a_missing_entity_denies() {
    let text = format!(
        "{ALL}@id(\"p\") forbid (principal, action, resource) when {{ resource.environment == \"production\" }};"
    );
    let missing = evaluate(&text, |asked| asked.target = "nowhere".parse().unwrap());
    assert!(!missing.auto && !missing.ceiling);
    assert_eq!(missing.errors.items, ["the target `nowhere` is not known to the policy"]);
    let agent = evaluate(&text, |asked| asked.agent = "mallory".parse().unwrap());
    assert_eq!(agent.errors.items, ["the agent `mallory` is not known to the policy"]);
    let elsewhere = evaluate(&text, |asked| asked.environment = "staging".parse().unwrap());
    assert_eq!(elsewhere.errors.items, ["the target `crm` is in `production`, not in `staging`"]);
}

#[test]
fn a_gate_that_errs_denies_too() {
    let text = format!(
        "{ALL}@id(\"g\") @gate(\"g\") forbid (principal, action, resource) when {{ context.now_ms * 9223372036854775807 > 5 }};"
    );
    assert_eq!(evaluate(&text, |asked| asked.now = TimeMs(2)).errors.total, 1);
}

#[test]
fn numbers_that_policy_cannot_hold_deny() {
    let evaluation = evaluate(ALL, |asked| {
        asked.facts.sql = Some(SqlFacts { rows_spelled: u64::MAX, ..SqlFacts::default() });
    });
    assert!(!evaluation.auto && evaluation.errors.total == 1);
}

#[test]
fn layers() {
    let text = r#"
        @id("b-allow") permit (principal, action, resource);
        @id("a-allow") permit (principal, action, resource) when { context.effect == "read" };
        @id("never") forbid (principal, action, resource) when { context.effect == "spend" };
        @id("z-ask") @gate("z") forbid (principal, action, resource) when { ["write", "spend"].contains(context.effect) };
        @id("y-ask") @gate("y") @approvers("ben, ana") @quorum("2") @timeout("2h")
        forbid (principal, action, resource) when { context.effect == "write" };
    "#;
    let bundle = Bundle::load(&with(text)).unwrap();
    let show = |effect| {
        let e = bundle.evaluate(&request(effect));
        let gates: Vec<_> = e.gates.iter().map(|g| g.policy.as_str()).collect();
        format!("auto {} ceiling {} by {:?} at {gates:?}", e.auto, e.ceiling, e.determining.items)
    };
    expect![[r#"auto true ceiling true by ["a-allow", "b-allow"] at []"#]].assert_eq(&show(Effect::Read));
    expect![[r#"auto false ceiling true by ["b-allow"] at ["y-ask", "z-ask"]"#]].assert_eq(&show(Effect::Write));
    expect![[r#"auto false ceiling false by ["never"] at ["z-ask"]"#]].assert_eq(&show(Effect::Spend));
    let gate = &bundle.evaluate(&request(Effect::Write)).gates[0];
    assert_eq!((gate.name.as_str(), gate.quorum, gate.timeout_ms), ("y", 2, 7_200_000));
    assert_eq!(gate.approvers, ["ben", "ana"]);
    let plain = &bundle.evaluate(&request(Effect::Write)).gates[1];
    assert_eq!((plain.approvers.len(), plain.quorum, plain.timeout_ms), (0, 1, 900_000));
}

#[test]
fn a_tool_without_a_binding_is_unbound() {
    let text = "@id(\"bound\") permit (principal, action == Action::\"crm/query\", resource);\n\
                @id(\"rest\") permit (principal, action == Action::\"unbound\", resource) when { context.tool == \"new\" };";
    let of = |tool: &str| evaluate(text, |asked| asked.tool = tool.parse().unwrap()).determining.items;
    assert_eq!(of("query"), ["bound"]);
    assert_eq!(of("new"), ["rest"]);
    assert!(of("other").is_empty());
    let upstream = evaluate(text, |asked| asked.upstream = "other".parse().unwrap());
    assert!(upstream.determining.items.is_empty(), "a tool of the same name elsewhere is another tool");
}

#[test]
fn every_fact_is_there_for_policy() {
    let text = r#"@id("f") permit (principal in AgentGroup::"support", action in Action::"call", resource == Target::"crm") when {
        resource.environment == "production" && context.upstream == "crm" && context.tool == "query" && context.point == "sql" &&
        context.effect == "write" && context.opaque && context.sql && context.statements == 2 && context.kinds.contains("update") &&
        context.tables.containsAll(["a", "b"]) && context.functions.isEmpty() && context.has_where && context.rows_spelled == 3 &&
        context.depth == 4 && context.leases == ["l"] && context.token_minutes_left == 59 && context.now_ms == 60000 };"#;
    let evaluation = evaluate(text, |asked| {
        asked.point = Point::Sql;
        asked.facts = Facts { effect: Effect::Write, ..Facts::opaque("why") };
        asked.facts.sql = Some(SqlFacts {
            dialect: "sqlite".to_owned(),
            statements: 2,
            kinds: vec!["update".to_owned()],
            tables: vec!["a".to_owned(), "b".to_owned()],
            functions: vec![],
            has_where: true,
            rows_spelled: 3,
        });
        asked.depth = 4;
        asked.leases = vec!["l".parse().unwrap()];
        asked.now = TimeMs(60_000);
    });
    assert!(evaluation.auto, "{evaluation:?}");
    // Where there is no SQL, nothing good is said of it.
    let none = "@id(\"n\") permit (principal, action, resource) when { !context.sql && !context.has_where && context.statements == 0 };";
    assert!(evaluate(none, |_| {}).auto);
}

fn check(text: &str, expected: Expect) {
    let mut source = with(text);
    source.humans = Some(vec!["ana".parse().unwrap(), "ben".parse().unwrap()]);
    let error = Bundle::load(&source).map(|_| ()).unwrap_err();
    expected.assert_eq(&error.to_string());
}

#[test]
fn what_does_not_load_says_where_why_and_what_to_do() {
    check(
        "permit (principal, action, resource);",
        expect![[r#"main.cedar, policy `number 1`: the policy has no `@id`; give it one, such as `@id("no-drops")`"#]],
    );
    check(
        "@id(\"a b\") permit (principal, action, resource);",
        expect![
            "main.cedar, policy `number 1`: a policy id is made of printable ASCII without spaces, quotes, backslashes and commas; `a b` is not; use letters, digits and dashes"
        ],
    );
    check(
        "@id(\"a\") permit (principal, action, resource); @id(\"a\") permit (principal, action, resource);",
        expect![[
            r#"main.cedar, policy `a`: `@id("a")` is taken by a policy in main.cedar; give each policy an id of its own"#
        ]],
    );
    check(
        "// one\n// two\npermit (principal, action resource);",
        expect!["main.cedar: line 3 cannot be read: unexpected token `resource`; correct the Cedar syntax"],
    );
    check(
        "@id(\"a\") permit (principal == ?principal, action, resource);",
        expect![
            "main.cedar, policy `a`: templates with slots are not supported; write the entity in place of the slot"
        ],
    );
    check(
        "@id(\"a\") @gate(\"x\") permit (principal, action, resource);",
        expect![
            "main.cedar, policy `a`: `@gate` stands on a `permit`; a gate is a `forbid` that an approval lifts: write `permit` for what may be approved and a gated `forbid` beside it"
        ],
    );
    check(
        "@id(\"a\") @gaet(\"x\") forbid (principal, action, resource);",
        expect![
            "main.cedar, policy `a`: the annotation `@gaet` is unknown; known are @id, @gate, @approvers, @quorum, @timeout, @notify, @obligation, @value and @description"
        ],
    );
    check(
        "@id(\"a\") @effect(\"read\") forbid (principal, action, resource);",
        expect![[
            r#"main.cedar, policy `a`: the annotation `@effect` does nothing: effects are facts, not annotations; write a condition, such as `when { context.effect == "destructive" }`"#
        ]],
    );
    check(
        "@id(\"a\") @quorum(\"1\") forbid (principal, action, resource);",
        expect![[r#"main.cedar, policy `a`: `@quorum` stands without `@gate`; add `@gate("name")`, or remove it"#]],
    );
    check(
        "@id(\"a\") @gate(\"x\") @quorum(\"0\") forbid (principal, action, resource);",
        expect![[r#"main.cedar, policy `a`: `@quorum("0")` is no number above zero; write `@quorum("1")`"#]],
    );
    check(
        "@id(\"a\") @gate(\"x\") @quorum(\"3\") @approvers(\"ana,ben\") forbid (principal, action, resource);",
        expect![[
            r#"main.cedar, policy `a`: `@quorum("3")` asks for more than the 2 approvers; name more approvers, or lower the quorum"#
        ]],
    );
    check(
        "@id(\"a\") @gate(\"x\") @approvers(\"ana,,ben\") forbid (principal, action, resource);",
        expect![[
            r#"main.cedar, policy `a`: `@approvers("ana,,ben")`: a human id must not be empty; write humans with commas between"#
        ]],
    );
    check(
        "@id(\"a\") @gate(\"x\") @approvers(\"ana,ana\") forbid (principal, action, resource);",
        expect!["main.cedar, policy `a`: `@approvers` names `ana` twice; name everyone once"],
    );
    check(
        "@id(\"a\") @gate(\"x\") @approvers(\"mallory\") forbid (principal, action, resource);",
        expect![
            "main.cedar, policy `a`: `@approvers` names `mallory`, who is not in the configuration; add the human, or correct the name"
        ],
    );
    check(
        "@id(\"a\") @gate(\"\") forbid (principal, action, resource);",
        expect![[
            r#"main.cedar, policy `a`: a gate's name has 1 to 160 bytes; name what the approver decides, such as `@gate("bulk change")`"#
        ]],
    );
    check(
        "@id(\"a\") @gate(\"x\") @timeout(\"15\") forbid (principal, action, resource);",
        expect![[
            r#"main.cedar, policy `a`: `@timeout("15")` is no duration from 1s to 30d; write a number and s, m, h or d, such as `@timeout("15m")`"#
        ]],
    );
    check(
        "@id(\"a\") @gate(\"x\") @timeout(\"31d\") forbid (principal, action, resource);",
        expect![[
            r#"main.cedar, policy `a`: `@timeout("31d")` is no duration from 1s to 30d; write a number and s, m, h or d, such as `@timeout("15m")`"#
        ]],
    );
    check(
        "@id(\"a\") permit (principal, action, resource) when { context.efect == \"read\" };",
        expect![[r#"
        main.cedar, policy `a`: attribute `efect` in context for Action::"crm/purge" not found; correct it against the schema in the documentation
        main.cedar, policy `a`: attribute `efect` in context for Action::"crm/query" not found; correct it against the schema in the documentation
        main.cedar, policy `a`: attribute `efect` in context for Action::"lab/query" not found; correct it against the schema in the documentation
        main.cedar, policy `a`: attribute `efect` in context for Action::"unbound" not found; correct it against the schema in the documentation"#]],
    );
    check(
        "@id(\"a\") permit (principal, action, resource) when { context.statements == \"1\" };",
        expect![
            "main.cedar, policy `a`: the types Long and String are not compatible; correct it against the schema in the documentation"
        ],
    );
    check(
        "@id(\"a\") permit (principal, action == Action::\"crm/qurey\", resource);",
        expect![[r#"
        main.cedar, policy `a`: policy is impossible: the policy expression evaluates to false for all valid requests; a policy that cannot do what it says is refused: correct or remove it
        main.cedar, policy `a`: unable to find an applicable action given the policy scope constraints; a policy that cannot do what it says is refused: correct or remove it
        main.cedar, policy `a`: unrecognized action `Action::"crm/qurey"`; correct it against the schema in the documentation"#]],
    );
    check(
        "@id(\"a\") forbid (principal == Agent::\"shpo\", action, resource);",
        expect![[
            r#"main.cedar, policy `a`: it names `Agent::"shpo"`, which the configuration does not know; add it to the configuration, or correct the name"#
        ]],
    );
    check(
        "@id(\"a\") permit (principal, action, resource) when { false };",
        expect![
            "main.cedar, policy `a`: policy is impossible: the policy expression evaluates to false for all valid requests; a policy that cannot do what it says is refused: correct or remove it"
        ],
    );
    check(
        "@id(\"a\") forbid (principal, action, resource) when { resource == Target::\"prod\" };",
        expect![[
            r#"main.cedar, policy `a`: it names `Target::"prod"`, which the configuration does not know; add it to the configuration, or correct the name"#
        ]],
    );
}

#[test]
fn two_files_share_one_set_of_ids_and_every_problem_is_told() {
    let mut source = with(ALL);
    source.policies.push(("second.cedar".to_owned(), format!("{ALL}permit (principal, action, resource);")));
    source.tools.push(source.tools[0].clone());
    let error = Bundle::load(&source).map(|_| ()).unwrap_err();
    expect![[r#"
        configuration: the tool `crm/query` stands there twice; remove or rename one of them
        second.cedar, policy `all`: `@id("all")` is taken by a policy in main.cedar; give each policy an id of its own
        second.cedar, policy `number 2`: the policy has no `@id`; give it one, such as `@id("no-drops")`"#]]
    .assert_eq(&error.to_string());
}

#[test]
fn the_hash_is_over_everything() {
    let base = Bundle::load(&with(ALL)).unwrap().hash();
    assert_eq!(Bundle::load(&with(ALL)).unwrap().hash(), base);
    let changes: [fn(&mut PolicySource); 7] = [
        |s| s.policies[0].1.push(' '),
        |s| s.policies[0].0.push('x'),
        |s| s.agents[1].groups.push("support".to_owned()),
        |s| drop(s.agents.pop()),
        |s| s.targets[1].environment = "production".parse().unwrap(),
        |s| drop(s.tools.pop()),
        |s| s.humans = Some(vec![]),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut source = with(ALL);
        change(&mut source);
        assert_ne!(Bundle::load(&source).unwrap().hash(), base, "change {index}");
    }
    let mut reordered = with(ALL);
    reordered.agents.reverse();
    assert_eq!(Bundle::load(&reordered).unwrap().hash(), base);
}

const WITNESSED: &str = "@id(\"w\") @obligation(\"witness\") permit (principal, action, resource) when { context.effect == \"destructive\" };\n";

#[test]
fn an_obligation_adds_and_never_grants() {
    let alone = evaluate(WITNESSED, |asked| asked.facts = Facts::declared(Effect::Destructive));
    assert!(!alone.auto && !alone.ceiling, "an obligation granted: {alone:?}");
    let both = format!("{ALL}{WITNESSED}");
    let bound = evaluate(&both, |asked| asked.facts = Facts::declared(Effect::Destructive));
    assert!(bound.auto && bound.ceiling);
    assert_eq!(bound.obligations, [Obligation::Witness]);
    assert_eq!((bound.obliging.items, bound.determining.items), (vec!["w".to_owned()], vec!["all".to_owned()]));
    let free = evaluate(&both, |_| {});
    assert!(free.auto && free.obligations.is_empty() && free.obliging.total == 0);
    // Two policies that demand the same are one obligation, and both are named.
    let twice = format!("{both}{}", WITNESSED.replace("\"w\"", "\"a\""));
    let twice = evaluate(&twice, |asked| asked.facts = Facts::declared(Effect::Destructive));
    assert_eq!((twice.obligations.len(), twice.obliging.items), (1, vec!["a".to_owned(), "w".to_owned()]));
}

#[test]
fn an_obligation_that_errs_denies() {
    let text = format!(
        "{ALL}@id(\"o\") @obligation(\"witness\") permit (principal, action, resource) when {{ context.now_ms * 9223372036854775807 > 5 }};"
    );
    let evaluation = evaluate(&text, |asked| asked.now = TimeMs(2));
    assert!(evaluation.obligations.is_empty());
    assert_eq!(evaluation.errors.total, 1);
}

#[test]
fn obligations_that_are_refused() {
    let refused = |policy: &str, want: &str| {
        let error = Bundle::load(&with(&format!("{ALL}{policy}"))).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    };
    refused("@id(\"o\") @obligation(\"witness\") forbid (principal, action, resource);", "stands on a `forbid`");
    refused(
        "@id(\"o\") @obligation(\"notary\") permit (principal, action, resource);",
        "known are max_rows, timeout, witness",
    );
    refused("@id(\"o\") @obligation(\"witness\") @gate(\"g\") forbid (principal, action, resource);", "beside `@gate`");
    refused(
        "@id(\"o\") @obligation(\"witness\") @quorum(\"2\") permit (principal, action, resource);",
        "stands without `@gate`",
    );
    refused(
        "@id(\"o\") @obligation(\"witness\") permit (principal == Agent::\"nobody\", action, resource);",
        "which the configuration does not know",
    );
    refused(
        "@id(\"o\") @obligation(\"witness\") permit (principal, action, resource) when { context.nothing };",
        "nothing",
    );
}

#[cfg(not(feature = "rego"))]
#[test]
fn rego_needs_a_build_that_knows_it() {
    let mut source = with(ALL);
    source.policies.push(("team.rego".to_owned(), "package countersign".to_owned()));
    let error = Bundle::load(&source).unwrap_err().to_string();
    assert_eq!(
        error,
        "team.rego: this build knows no Rego; use a build with the feature `rego`, or remove the file from `policy:`"
    );
}
