//! Explanations: deciding rules, facts that mattered, rules that almost held, and changes that hold what they say.

use countersign_kernel::by_policy_alone;
use countersign_kernel::policy::{Bundle, EvaluationRequest};
use countersign_model::facts::{Bound, Effect, Facts};
use countersign_model::record::{History, Recent};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::step::Trial;
use super::{Explainer, Explanation};
use crate::cases::{Setting, Upstream};
use crate::rules::Rules;
use crate::sample::{POLICY, id, question, source, sql};

fn explained<T>(policy: &str, asked: &EvaluationRequest, look: impl FnOnce(&Explanation<'_>) -> T) -> T {
    let source = source(policy);
    let (bundle, rules) = (Bundle::load(&source).unwrap(), Rules::read(&source.policies).unwrap());
    look(&Explainer { source: &source, bundle: &bundle, rules: &rules }.explain(asked))
}

fn shown(explanation: &Explanation<'_>) -> String {
    let Explanation { verdict, reason, deciding, overruled, facts, almost, search } = explanation;
    let ids = |rules: &[&crate::rules::Rule]| rules.iter().map(|rule| rule.id.clone()).collect::<Vec<_>>().join(", ");
    let mut text = format!("{} ({}) by [{}]", verdict.as_str(), reason.code.as_str(), ids(deciding));
    text += &format!(", overruled [{}]\n", ids(overruled));
    facts.iter().for_each(|(path, value)| text += &format!("  {path} = {value}\n"));
    almost.iter().for_each(|near| text += &format!("  almost {}: {}\n", near.rule.id, near.missing.join(" and ")));
    for other in &search.found {
        let words: Vec<_> = other.steps.iter().map(super::Step::words).collect();
        text += &format!("  if {}: {}\n", words.join(" and "), other.verdict.as_str());
    }
    search.dropped.iter().for_each(|drop| text += &format!("  without {}: {}\n", drop.rule, drop.verdict.as_str()));
    text
}

fn check(policy: &str, asked: &EvaluationRequest, expected: Expect) {
    expected.assert_eq(&explained(policy, asked, shown));
}

#[test]
fn what_is_parked_says_what_would_run() {
    check(
        POLICY,
        &question("ops", sql(Effect::Write, "update", "customers")),
        expect![[r#"
            require_approval (approval_required) by [changes-are-possible, production-changes], overruled []
              action = "db/query"
              context.effect = "write"
              principal = Agent::"ops"
              resource.environment = "production"
              almost never-drop: context.opaque || context.kinds.contains("drop_table")
              if context.effect is "read": allow
              if the target is `crm-test` in `staging`: allow
              if context.effect is "outbound": deny
              if context.kinds also holds "drop_table": deny
              if the call is opaque: deny
              without changes-are-possible: deny
              without production-changes: allow
        "#]],
    );
}

#[test]
fn what_is_forbidden_names_the_rule_and_what_it_read() {
    check(
        POLICY,
        &question("ops", sql(Effect::Destructive, "drop_table", "customers")),
        expect![[r#"
            deny (policy_forbid) by [never-drop], overruled [changes-are-possible, production-changes]
              action = "db/query"
              context.kinds = ["drop_table"]
              context.opaque = false
              if context.kinds does not hold "drop_table": require_approval
              without never-drop: require_approval
        "#]],
    );
    check(
        POLICY,
        &question("coder", Facts::opaque("no binding")),
        expect![[r#"
            deny (policy_forbid) by [never-drop], overruled [production-changes]
              action = "db/query"
              context.kinds = []
              context.opaque = true
              if the call is understood, as a `read`: allow
              without never-drop: deny
        "#]],
    );
}

#[test]
fn what_no_rule_permits_names_the_nearest_rules() {
    check(
        POLICY,
        &question("coder", sql(Effect::Write, "update", "customers")),
        expect![[r#"
        deny (no_permit) by [], overruled [production-changes]
          context.effect = "write"
          principal = Agent::"coder"
          almost reads-run: context.effect == "read"
          almost changes-are-possible: principal in AgentGroup::"writers"
          if context.effect is "read": allow
          if the agent is in the group `writers`: require_approval
    "#]],
    );
}

#[test]
fn what_runs_says_what_would_stop_it() {
    check(
        POLICY,
        &question("coder", sql(Effect::Read, "select", "customers")),
        expect![[r#"
        allow (policy_permit) by [reads-run], overruled []
          action = "db/query"
          context.effect = "read"
          almost never-drop: context.opaque || context.kinds.contains("drop_table")
          almost production-changes: !(context.effect == "read")
          if context.effect is "write": deny
          if context.kinds also holds "drop_table": deny
          if the call is opaque: deny
          without reads-run: deny
    "#]],
    );
}

#[test]
fn thresholds_are_crossed_by_one() {
    let policy = r#"
        @id("few") permit (principal, action, resource) when { context has count && context.count <= 10 };
        @id("calm") forbid (principal, action, resource) when { context.calls.minute >= 5 };"#;
    let mut asked = question("coder", Facts::declared(Effect::Write));
    asked.facts.bound = Some(Bound { count: Some(40), ..Bound::default() });
    check(
        policy,
        &asked,
        expect![[r#"
            deny (no_permit) by [], overruled []
              context.count = 40
              almost few: context.count <= 10
              if context.count is 10: allow
        "#]],
    );
    asked.facts.bound = Some(Bound { count: Some(4), ..Bound::default() });
    asked.history = History { calls: Recent { minute: 7, ..Recent::default() }, ..History::default() };
    check(
        policy,
        &asked,
        expect![[r#"
        deny (policy_forbid) by [calm], overruled [few]
          context.calls.minute = 7
          if context.calls.minute is 4: allow
          without calm: allow
    "#]],
    );
    asked.facts.bound = None;
    check(
        policy,
        &asked,
        expect![[r#"
            deny (policy_forbid) by [calm], overruled []
              context.calls.minute = 7
              if context.calls.minute is 4 and context.count is 9: allow
              without calm: deny
        "#]],
    );
}

#[test]
fn sets_leases_and_labels() {
    let policy = r#"
        @id("small") permit (principal, action, resource) when { ["a", "b"].containsAll(context.tables) && context.sql };
        @id("leased") forbid (principal, action, resource) unless { context.leases.contains("deploy") };"#;
    let asked = question("coder", sql(Effect::Read, "select", "customers"));
    check(
        policy,
        &asked,
        expect![[r#"
            deny (policy_forbid) by [leased], overruled []
              context.leases = []
              if context.leases also holds "deploy" and context.tables holds "a", "b" alone: allow
              without leased: deny
        "#]],
    );
}

#[test]
fn a_question_that_cannot_be_asked_is_denied_and_explained() {
    let asked = question("mallory", Facts::declared(Effect::Read));
    check(
        POLICY,
        &asked,
        expect![[r#"
        deny (policy_error) by [], overruled []
    "#]],
    );
}

/// What an action in words comes to, or what is wrong with it.
fn read(words: &[&str]) -> Result<EvaluationRequest, String> {
    setting(|setting| super::action::of_pairs(words.iter().copied(), setting))
}

fn setting<T>(look: impl FnOnce(&Setting<'_>) -> T) -> T {
    let source = source(POLICY);
    let bundle = Bundle::load(&source).unwrap();
    let upstream =
        Upstream { target: id("crm"), environment: id("production"), tools: std::collections::BTreeMap::new() };
    let upstreams = [(id("db"), upstream)].into();
    look(&Setting { bundle: &bundle, source: &source, upstreams: &upstreams })
}

#[test]
fn an_action_is_given_in_words_or_in_a_file() {
    let words = ["agent=ops", "tool=query", "sql=drop table customers", "calls.minute=3", "leases=b,a", "args.q=1"];
    let asked = read(&words).unwrap();
    assert_eq!(asked.facts.effect, Effect::Destructive);
    assert_eq!((asked.history.calls.minute, asked.leases.len(), asked.arguments.as_slice()), (3, 2, &b"{\"q\":1}"[..]));
    let file = "action: {agent: ops, tool: db/query}\nfacts: {sql: drop table customers}\n";
    let of_file = |text: &str| setting(|setting| super::action::of_file("a.yaml", text, setting));
    assert_eq!(of_file(file).unwrap().facts, asked.facts);
    assert_eq!(of_file(&format!("name: n\n{file}expect: {{verdict: allow}}\n")).unwrap().facts, asked.facts);
    let wrong = |problem: Result<EvaluationRequest, String>, words: &[&str]| {
        let problem = problem.unwrap_err();
        words.iter().for_each(|word| assert!(problem.contains(word), "`{word}` is not in: {problem}"));
    };
    wrong(read(&["agent=ops", "tool=query", "statemens=a"]), &["`statemens`", "is no key"]);
    wrong(read(&["agent=opps", "tool=query"]), &["`opps`", "ops"]);
    wrong(read(&["ops"]), &["KEY=VALUE"]);
    wrong(read(&["agent=ops"]), &["tool"]);
    wrong(of_file("cases: []\n"), &["give one of them"]);
    wrong(of_file("[1]"), &["mapping"]);
    wrong(of_file("action: {agent: ops, tool: db/query}\nfact: {}\n"), &["`fact`"]);
}

fn facts() -> impl Strategy<Value = Facts> {
    let kinds = prop::sample::select(vec!["select", "update", "drop_table"]);
    let effects = prop::sample::select(Effect::ALL.to_vec());
    (effects, kinds, any::<bool>()).prop_map(
        |(effect, kind, opaque)| {
            if opaque { Facts::opaque("why") } else { sql(effect, kind, "customers") }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 8 } else { 500 }))]

    /// Every change that is reported really gives the verdict that it is said to give, and it is another one.
    #[test]
    fn what_is_reported_was_confirmed(agent in prop::sample::select(vec!["coder", "ops"]), facts in facts()) {
        let asked = question(agent, facts);
        let source = source(POLICY);
        let bundle = Bundle::load(&source).unwrap();
        let before = by_policy_alone(&bundle.evaluate(&asked)).0;
        explained(POLICY, &asked, |explanation| {
            assert_eq!(explanation.verdict, before);
            assert!(!explanation.search.found.is_empty(), "{asked:?}");
            for other in &explanation.search.found {
                let mut trial = Trial::new(&asked);
                other.steps.iter().for_each(|step| step.apply(&mut trial));
                assert_ne!(other.verdict, before);
                let mut source = source.clone();
                for agent in source.agents.iter_mut().filter(|agent| agent.id == asked.agent) {
                    agent.groups.retain(|group| !trial.leaves.contains(group));
                    agent.groups.extend(trial.joins.iter().cloned());
                }
                let again = Bundle::load(&source).unwrap().evaluate(&trial.asked);
                assert_eq!(by_policy_alone(&again).0, other.verdict.clone());
            }
        });
    }
}
