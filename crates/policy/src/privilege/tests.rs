//! Granted against used, findings, narrowed policies that never widen, and policies learned from the record.

use std::collections::BTreeSet;

use countersign_kernel::by_policy_alone;
use countersign_kernel::policy::{AgentDef, Bundle, EvaluationRequest, PolicySource, TargetDef, ToolDef};
use countersign_model::command::{Command, Deed, Signed};
use countersign_model::facts::{Effect, Facts};
use countersign_model::record::{Attempt, Commanded, Consent};
use countersign_model::unit::LeafIndex;
use countersign_model::verdict::Verdict;
use countersign_model::{Body, Digest, TimeMs};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::{
    Credential, Limits, Place, Seen, Surroundings, Tokens, Used, diff, findings, granted, suggested, tightened,
};
use crate::rules::{Original, Rules};
use crate::sample::{POLICY, attempt, decided, id, source, sql};
use crate::verdicts::rank;

const DAY_MS: u64 = 86_400_000;

/// What can be called in `source`: each tool in production, `query` in staging too by another upstream.
fn places() -> Vec<Place> {
    let place = |upstream: &str, tool: Option<&str>, target: &str, environment: &str, effect| Place {
        upstream: id(upstream),
        tool: tool.map(id),
        target: id(target),
        environment: id(environment),
        effect,
        is_parsed: tool == Some("query"),
    };
    vec![
        place("db", Some("query"), "crm", "production", None),
        place("db", Some("search"), "crm", "production", Some(Effect::Read)),
        place("db", Some("purge"), "crm", "production", Some(Effect::Destructive)),
        place("db", None, "crm-test", "staging", None),
    ]
}

/// A bundle with its rules and what was used under it.
struct World {
    source: PolicySource,
    bundle: Bundle,
    rules: Rules,
}

impl World {
    fn new(policy: &str) -> Self {
        let source = source(policy);
        Self { bundle: Bundle::load(&source).unwrap(), rules: Rules::read(&source.policies).unwrap(), source }
    }

    /// Decides each attempt under the policy and gives what was used.
    fn used(&self, attempts: Vec<(u64, Attempt)>) -> Used<'_> {
        let mut used = Used::new(&self.bundle, &self.rules, &places());
        for (at, attempt) in attempts {
            self.take(&mut used, at, &decided(&self.bundle, attempt));
        }
        used
    }

    fn take<'a>(&'a self, used: &mut Used<'a>, at: u64, body: &Body) {
        let asked = body.attempt().map(|attempt| EvaluationRequest::from_attempt(attempt, b"{}"));
        used.take(&Seen { leaf: LeafIndex(at), at: TimeMs(at), body, asked: asked.as_ref() });
    }

    fn parts(&self) -> (&PolicySource, &Bundle, &Rules) {
        (&self.source, &self.bundle, &self.rules)
    }
}

fn on(mut attempt: Attempt, tool: &str, target: &str, environment: &str) -> Attempt {
    (attempt.tool, attempt.target, attempt.environment) = (id(tool), id(target), id(environment));
    attempt
}

fn read(agent: &str) -> Attempt {
    attempt(agent, sql(Effect::Read, "select", "customers"))
}

fn write(agent: &str) -> Attempt {
    attempt(agent, sql(Effect::Write, "update", "orders"))
}

#[test]
fn what_is_granted_is_what_a_permit_could_allow() {
    let world = World::new(POLICY);
    let shown: Vec<String> = granted(world.parts(), &places())
        .iter()
        .map(|grant| {
            let gate = if grant.is_gated { ", gated" } else { "" };
            let effects: Vec<&str> = grant.effects.iter().map(|effect| effect.as_str()).collect();
            let (name, permits) = (grant.place.name(), grant.permits.join(", "));
            format!("{} {name} by {permits}: {}{gate}\n", grant.agent, effects.join(", "))
        })
        .collect();
    expect![[r#"
        coder db/query by reads-run: read
        coder db/search by reads-run: read
        ops db/query by reads-run, changes-are-possible: read, write, destructive, gated
        ops db/search by reads-run: read
        ops db/purge by changes-are-possible: destructive, gated
    "#]]
    .assert_eq(&shown.concat());
}

#[test]
fn a_forbid_that_reads_no_facts_takes_a_grant_away_and_a_name_of_a_tool_counts_only_where_it_is_known() {
    let policy = r#"
        @id("all") permit (principal, action, resource);
        @id("not-there") forbid (principal == Agent::"ops", action, resource in Environment::"production");
        @id("but-one") forbid (principal, action, resource) unless { context.tool == "search" || context.tool == "new" };
        @id("facts") forbid (principal, action, resource) when { context.opaque };"#;
    let world = World::new(policy);
    let names: Vec<String> = granted(world.parts(), &places())
        .iter()
        .map(|grant| format!("{} {}", grant.agent, grant.place.name()))
        .collect();
    assert_eq!(names, ["coder db/search", "coder db/(unbound)", "ops db/(unbound)"]);
    // A permit for a tool that is bound says nothing of those that are not; one for a name like theirs does.
    let unbound = |condition: &str| {
        let world = World::new(&format!("@id(\"one\") permit (principal, action, resource) when {{ {condition} }};"));
        granted(world.parts(), &places()).iter().any(|grant| grant.place.tool.is_none())
    };
    assert!(!unbound("context.tool == \"search\""));
    assert!(unbound("context.tool == \"mystery\"") && unbound("context.tool like \"s*\""));
    assert!(unbound("context.tool == \"search\" || context.opaque"));
}

fn check_tight(world: &World, used: &Used<'_>, expected: Expect) {
    let tight = tightened(world.parts(), used, (&places(), None)).unwrap();
    assert!(tight.kept.is_empty(), "{:?}", tight.kept);
    let how: Vec<String> =
        tight.changes.iter().map(|change| format!("{}: {}\n", change.rule, change.how.join("; "))).collect();
    let text = format!("{}{}", how.concat(), diff((&world.source, &world.rules), &tight.source));
    expected.assert_eq(&text.lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>());
}

#[test]
fn permits_are_narrowed_to_what_was_used() {
    let world = World::new(POLICY);
    let used =
        world.used(vec![(1, read("coder")), (2, on(read("coder"), "search", "crm", "production")), (3, write("ops"))]);
    check_tight(
        &world,
        &used,
        expect![[r#"
            reads-run: principal == Agent::"coder"
            changes-are-possible: action == Action::"db/query"
            --- a/main.cedar
            +++ b/main.cedar
            @@ -1,10 +1,18 @@
 
             @id("reads-run")
            -permit (principal, action in Action::"call", resource)
            +permit (
            +  principal == Agent::"coder",
            +  action in Action::"call",
            +  resource
            +)
             when { context.effect == "read" };
 
             @id("changes-are-possible")
            -permit (principal in AgentGroup::"writers", action in Action::"call", resource)
            +permit (
            +  principal in AgentGroup::"writers",
            +  action == Action::"db/query",
            +  resource
            +)
             when { ["write", "destructive"].contains(context.effect) };
 
             @id("never-drop")
        "#]],
    );
}

#[test]
fn an_unused_permit_is_removed_and_what_uses_all_stays() {
    let policy = "// kept\n@id(\"a\")\npermit (principal, action == Action::\"db/query\", resource);\n\n// gone\n@id(\"b\") \
                  permit (principal, action == Action::\"db/purge\", resource);\n@id(\"c\") forbid (principal, action, resource) \
                  when { context.opaque };\n";
    let world = World::new(policy);
    let used = world.used(vec![(1, read("coder")), (2, read("ops"))]);
    check_tight(
        &world,
        &used,
        expect![[r#"
            b: removed: it allowed nothing in the period
            --- a/main.cedar
            +++ b/main.cedar
            @@ -3,5 +3,4 @@
             permit (principal, action == Action::"db/query", resource);
 
             // gone
            -@id("b") permit (principal, action == Action::"db/purge", resource);
             @id("c") forbid (principal, action, resource) when { context.opaque };
        "#]],
    );
}

#[test]
fn what_was_compiled_is_narrowed_in_cedar_beside_it() {
    let mut world = World::new("@id(\"a\") permit (principal, action, resource);\n");
    world.rules.written_as("main.cedar", &|id| Some(Original { lines: (7, 8), text: format!("- id: {id}") }));
    assert_eq!((world.rules.all[0].lines, world.rules.all[0].text.as_str()), ((7, 8), "- id: a"));
    let used = world.used(vec![(1, read("coder"))]);
    let tight = tightened(world.parts(), &used, (&places(), None)).unwrap();
    let text = diff((&world.source, &world.rules), &tight.source);
    assert!(text.starts_with("--- /dev/null\n+++ b/main.cedar.cedar\n@@ -0,0 "), "{text}");
    assert!(!text.contains("- id"), "{text}");
}

#[test]
fn with_one_agent_only_what_is_its_alone_is_narrowed() {
    let world = World::new(POLICY);
    let used = world.used(vec![(1, read("coder"))]);
    let of = |agent: &str| {
        let agent = id(agent);
        let tight = tightened(world.parts(), &used, (&places(), Some(&agent))).unwrap();
        tight.changes.iter().map(|change| change.rule.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("ops"), ["changes-are-possible"]);
    assert!(of("coder").is_empty(), "every permit of the coder is somebody else's too");
}

#[test]
fn findings_are_listed_by_severity() {
    let world = World::new(&format!(
        "{POLICY}@id(\"old\") permit (principal == Agent::\"coder\", action, resource) when {{ context.effect == \"spend\" }};"
    ));
    let now = TimeMs(400 * DAY_MS);
    let mut used = world.used(vec![(390 * DAY_MS, read("coder"))]);
    for number in 0..5_u64 {
        let mut parked = write("ops");
        parked.ticket = Some(id(&format!("t-{number}")));
        let body = decided(&world.bundle, parked);
        world.take(&mut used, 300 * DAY_MS, &body);
        world.take(&mut used, 301 * DAY_MS, &consent(number, true));
    }
    let mut tokens = Tokens::default();
    let issue = |ttl_ms| Deed::IssueToken { agent: id("ops"), run: None, ttl_ms };
    for (session, ttl) in
        [("s-short", DAY_MS), ("s-long", 30 * DAY_MS), ("s-ever", 4_000 * DAY_MS), ("s-gone", 4_000 * DAY_MS)]
    {
        tokens.take(TimeMs(399 * DAY_MS), &order(issue(ttl), Some(session)), TimeMs(0));
    }
    tokens.take(now, &order(Deed::RevokeToken { session: id("s-gone") }, None), TimeMs(0));
    for _ in 0..3 {
        let lease = Deed::Lease { session: id("s-short"), name: id("deploy"), until: now };
        tokens.take(now, &order(lease, None), TimeMs(0));
    }
    let grants = granted(world.parts(), &places());
    let credential = |name: &str, of: &[&str]| Credential {
        name: name.to_owned(),
        environments: of.iter().map(|name| id(name)).collect(),
    };
    let credentials = [credential("upstream `db`", &["production", "staging"])];
    let around = Surroundings { grants: &grants, tokens: &tokens, credentials: &credentials, agent: None };
    let limits = Limits::usual(now, 30);
    let shown: String = findings(&world.rules, &used, &around, &limits)
        .iter()
        .map(|finding| format!("{} {}: {}\n", finding.severity.as_str(), finding.kind, finding.says))
        .collect();
    expect![[r#"
        high credential_in_environments: one credential of upstream `db` opens production and staging
        high grant_unused: ops may call db/purge on crm, which was never used in the period
        high grant_unused: ops may call db/query on crm, which was not used for 100 days
        high token_long: a token of ops is good for 4000 days
        medium credential_without_expiry: the credential of upstream `db` has no expiry that is known here
        medium gate_always_approved: all 5 answers at gate production-changes were yes
        medium lease_renewed: the right `deploy` was lent to ops 3 times
        medium token_long: a token of ops is good for 30 days
        low grant_unused: coder may call db/search on crm, which was never used in the period
        low grant_unused: ops may call db/search on crm, which was never used in the period
        low rule_never_fired: the forbid never-drop (main.cedar:10) held for no call in the period
        low rule_never_fired: the permit old (main.cedar:21) allowed nothing in the period
    "#]]
    .assert_eq(&shown);
    // One refusal, and the gate is no habit.
    world.take(
        &mut used,
        302 * DAY_MS,
        &decided(&world.bundle, {
            let mut parked = write("ops");
            parked.ticket = Some(id("t-9"));
            parked
        }),
    );
    world.take(&mut used, 303 * DAY_MS, &consent(9, false));
    let kinds = |around: &Surroundings<'_>| -> BTreeSet<&'static str> {
        findings(&world.rules, &used, around, &limits).iter().map(|finding| finding.kind).collect()
    };
    assert!(!kinds(&around).contains("gate_always_approved"));
    let coder = id("coder");
    let of_one = Surroundings { agent: Some(&coder), ..around };
    assert!(!kinds(&of_one).contains("token_long") && kinds(&of_one).contains("grant_unused"));
}

#[test]
fn who_changes_things_in_production_and_elsewhere_is_named() {
    let subjects = |policy: &str| -> Vec<String> {
        let world = World::new(policy);
        let grants = granted(world.parts(), &places());
        let tokens = Tokens::default();
        let around = Surroundings { grants: &grants, tokens: &tokens, credentials: &[], agent: None };
        let all = findings(&world.rules, &world.used(vec![]), &around, &Limits::usual(TimeMs(DAY_MS), 30));
        all.into_iter().filter(|found| found.kind == "agent_in_environments").map(|found| found.subject).collect()
    };
    assert_eq!(subjects("@id(\"all\") permit (principal, action, resource);"), ["coder", "ops"]);
    let forbidden = "@id(\"all\") permit (principal, action, resource);
        @id(\"apart\") forbid (principal == Agent::\"ops\", action, resource in Environment::\"staging\");";
    assert_eq!(subjects(forbidden), ["coder"]);
    assert!(
        subjects("@id(\"reads\") permit (principal, action, resource) when { context.effect == \"read\" };").is_empty()
    );
}

fn order(deed: Deed, session: Option<&str>) -> Commanded {
    let command = Command { log: "log".to_owned(), human: id("ana"), challenge: Digest([0; 32]), deed };
    Commanded { signed: Signed { command, signature: vec![0; 64] }, session: session.map(id) }
}

fn consent(number: u64, approved: bool) -> Body {
    Body::Consent(Consent {
        ticket: id(&format!("t-{number}")),
        proposal: Digest([5; 32]),
        leaf: LeafIndex(number),
        human: id("ana"),
        approved,
        signature: vec![6; 64],
        grant_expires: approved.then_some(TimeMs(u64::MAX)),
        key: [0; 32],
    })
}

#[test]
fn a_policy_is_learned_and_what_is_dangerous_is_gated() {
    let world = World::new("@id(\"all\") permit (principal, action, resource);");
    let purge = on(attempt("ops", Facts::declared(Effect::Destructive)), "purge", "crm", "production");
    let odd = on(attempt("ops", Facts::opaque("no binding")), "mystery", "crm-test", "staging");
    let used = world.used(vec![
        (1, read("coder")),
        (2, read("coder")),
        (3, write("coder")),
        (4, purge.clone()),
        (5, odd.clone()),
    ]);
    let learned = suggested(&world.source, &used, (&places(), None)).unwrap();
    assert_eq!((learned.permits, learned.gated), (1, 2));
    expect![[r#"
        // Learned from the record. Read every rule before you accept it: that something was done does not
        // make it right.

        // 2 ran as read in production; 0 waited for approval, 0 were denied
        // 1 ran as write in production; 0 waited for approval, 0 were denied
        @id("coder-db/query-crm")
        permit (
          principal == Agent::"coder",
          action == Action::"db/query",
          resource == Target::"crm"
        )
        when
        {
          ["read", "write"].contains(context.effect) &&
          (!context.opaque) &&
          context.sql &&
          ["customers", "orders"].containsAll(context.tables)
        };

        // 1 ran as opaque in staging; 0 waited for approval, 0 were denied
        @id("ops-db/mystery-crm-test-gated")
        permit (
          principal == Agent::"ops",
          action == Action::"unbound",
          resource == Target::"crm-test"
        )
        when { (context.upstream == "db") && (context.tool == "mystery") && (context.effect == "opaque") };

        // 1 ran as destructive in production; 0 waited for approval, 0 were denied
        @id("ops-db/purge-crm-gated")
        permit (
          principal == Agent::"ops",
          action == Action::"db/purge",
          resource == Target::"crm"
        )
        when { context.effect == "destructive" };

        // Whatever is more than a read or a write, or is not understood, waits for a human.
        @id("learned-gate")
        @gate("more than a read or a write")
        forbid (
          principal,
          action in Action::"call",
          resource
        )
        unless { ["read", "write"].contains(context.effect) && (!context.opaque) };
    "#]]
    .assert_eq(&learned.text);
    let verdict = |attempt: &Attempt| {
        by_policy_alone(&learned.bundle.evaluate(&EvaluationRequest::from_attempt(attempt, b"{}"))).0.as_str()
    };
    assert_eq!(
        (verdict(&read("coder")), verdict(&purge), verdict(&odd)),
        ("allow", "require_approval", "require_approval")
    );
    let elsewhere = attempt("coder", sql(Effect::Read, "select", "secrets"));
    assert_eq!((verdict(&elsewhere), verdict(&read("ops"))), ("deny", "deny"), "what was not done is not learned");
    assert!(suggested(&world.source, &world.used(vec![]), (&places(), None)).unwrap_err().contains("nothing ran"));
    let ops = id("ops");
    assert_eq!(suggested(&world.source, &used, (&places(), Some(&ops))).unwrap().permits, 0);
}

/// Three agents in two groups, three targets in two environments, three tools.
fn wide(policy: &str) -> PolicySource {
    let agent = |name: &str, groups: &[&str]| AgentDef {
        id: id(name),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
    };
    let target = |name: &str, environment: &str| TargetDef { id: id(name), environment: id(environment) };
    let tool = |name: &str, effect| ToolDef { effect, ..ToolDef::named(id("db"), id(name)) };
    PolicySource {
        policies: vec![("main.cedar".to_owned(), policy.to_owned())],
        agents: vec![agent("a", &["x"]), agent("b", &["x", "y"]), agent("c", &["y"])],
        targets: vec![target("p", "production"), target("q", "production"), target("s", "staging")],
        tools: vec![tool("query", None), tool("search", Some(Effect::Read)), tool("purge", Some(Effect::Destructive))],
        ..PolicySource::default()
    }
}

fn wide_places() -> Vec<Place> {
    let place = |tool: Option<&str>, target: &str, environment: &str, effect| Place {
        upstream: id("db"),
        tool: tool.map(id),
        target: id(target),
        environment: id(environment),
        effect,
        is_parsed: tool == Some("query"),
    };
    vec![
        place(Some("query"), "p", "production", None),
        place(Some("search"), "q", "production", Some(Effect::Read)),
        place(Some("purge"), "s", "staging", Some(Effect::Destructive)),
        place(None, "p", "production", None),
    ]
}

fn scope() -> impl Strategy<Value = String> {
    let principal = prop::sample::select(vec![
        "principal",
        "principal == Agent::\"a\"",
        "principal in AgentGroup::\"x\"",
        "principal in AgentGroup::\"y\"",
    ]);
    let action = prop::sample::select(vec![
        "action",
        "action in Action::\"call\"",
        "action == Action::\"db/query\"",
        "action in Action::\"declared/read\"",
        "action in [Action::\"db/search\", Action::\"unbound\"]",
    ]);
    let resource =
        prop::sample::select(vec!["resource", "resource == Target::\"p\"", "resource in Environment::\"production\""]);
    (principal, action, resource)
        .prop_map(|(principal, action, resource)| format!("({principal}, {action}, {resource})"))
}

fn policies() -> impl Strategy<Value = String> {
    let condition = prop::sample::select(vec![
        "",
        "when { context.effect == \"read\" }",
        "unless { context.opaque }",
        "when { resource.environment == \"production\" }",
        "unless { context.tool == \"query\" }",
        "when { principal in [Agent::\"a\", Agent::\"c\"] }",
    ]);
    let head = prop::sample::select(vec![
        "permit",
        "permit",
        "permit",
        "forbid",
        "@gate(\"g\") forbid",
        "@obligation(\"witness\") permit",
    ]);
    prop::collection::vec((head, scope(), condition), 1..6).prop_map(|rules| {
        let rule = |(number, (head, scope, condition)): (usize, (&str, String, &str))| {
            format!("@id(\"r{number}\") {head} {scope} {condition};\n")
        };
        rules.into_iter().enumerate().map(rule).collect()
    })
}

fn call() -> impl Strategy<Value = Attempt> {
    let agent = prop::sample::select(vec!["a", "b", "c"]);
    let tool = prop::sample::select(vec!["query", "search", "purge", "other"]);
    let place = prop::sample::select(vec![("p", "production"), ("q", "production"), ("s", "staging")]);
    let facts = prop::sample::select(vec![
        Facts::opaque("why"),
        sql(Effect::Read, "select", "t"),
        sql(Effect::Write, "update", "t"),
        Facts::declared(Effect::Destructive),
    ]);
    (agent, tool, place, facts).prop_map(|(agent, tool, (target, environment), facts)| {
        // What a call does is at least what its binding says, and nobody knows it where there is none.
        let facts = match tool {
            _ if facts.effect == Effect::Opaque => facts,
            "search" => Facts::declared(Effect::Read),
            "purge" => Facts::declared(Effect::Destructive),
            "other" => Facts::opaque("no binding"),
            _ => facts,
        };
        on(attempt(agent, facts), tool, target, environment)
    })
}

fn verdict(bundle: &Bundle, attempt: &Attempt) -> Verdict {
    by_policy_alone(&bundle.evaluate(&EvaluationRequest::from_attempt(attempt, b"{}"))).0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 12 } else { 5_000 }))]

    /// A narrowed policy never lets run, or park, what the old one did not; and what was used still is what it was.
    #[test]
    fn a_narrowed_policy_never_widens(
        policy in policies(), used in prop::collection::vec(call(), 0..6), asked in prop::collection::vec(call(), 20),
    ) {
        let source = wide(&policy);
        // What validation refuses is no policy to narrow.
        let Ok(bundle) = Bundle::load(&source) else { return Ok(()) };
        let rules = Rules::read(&source.policies).unwrap();
        let mut seen = Used::new(&bundle, &rules, &wide_places());
        for attempt in &used {
            let asked = EvaluationRequest::from_attempt(attempt, b"{}");
            let body = decided(&bundle, attempt.clone());
            seen.take(&Seen { leaf: LeafIndex(0), at: TimeMs(1), body: &body, asked: Some(&asked) });
        }
        let tight = tightened((&source, &bundle, &rules), &seen, (&wide_places(), None)).unwrap();
        for attempt in asked.iter().chain(&used) {
            let (before, after) = (verdict(&bundle, attempt), verdict(&tight.bundle, attempt));
            prop_assert!(rank(&after) <= rank(&before), "{policy} to {:?}: {attempt:?}", tight.source.policies);
        }
        let is_place = |attempt: &&Attempt| {
            let bound = ["query", "search", "purge"].contains(&attempt.tool.as_str());
            wide_places().iter().any(|place| {
                place.target == attempt.target && place.tool.as_ref().map_or(!bound, |tool| *tool == attempt.tool)
            })
        };
        for attempt in used.iter().filter(is_place) {
            let (before, after) = (verdict(&bundle, attempt), verdict(&tight.bundle, attempt));
            prop_assert_eq!(after, before, "{} to {:?}", policy, tight.source.policies);
        }
    }
}
