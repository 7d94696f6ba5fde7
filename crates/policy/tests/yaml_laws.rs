//! Laws of the YAML front end: what is compiled answers as the rules say, and nothing that was not understood runs.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "what cannot be set up fails the test")]

use countersign_kernel::policy::{AgentDef, Bundle, EvaluationRequest, PolicySource, TargetDef, ToolDef};
use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::{Bound, Certainty, Effect, Facts, SqlFacts};
use countersign_model::record::{History, Recent};
use countersign_policy::yaml::{Known, compile};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const TABLES: [&str; 3] = ["a", "b", "c"];
const EFFECTS: [&str; 3] = ["read", "write", "opaque"];

/// A rule, as little as is needed to say what it means.
#[derive(Clone, Debug)]
struct Rule {
    agent: Option<usize>,
    place: Option<usize>,
    effects: Option<Vec<usize>>,
    when: Vec<Fact>,
    unless: Vec<Fact>,
    then: &'static str,
}

#[derive(Clone, Debug)]
enum Fact {
    Tables(&'static str, Vec<usize>),
    Amount(&'static str, i64),
    Changes(u64),
    Labels(Vec<usize>),
    Lease,
    HasWhere(bool),
    Recipients(u64),
}

/// A call.
#[derive(Clone, Debug)]
struct Call {
    agent: usize,
    place: usize,
    /// Nothing where it was not understood.
    understood: Option<Understood>,
    changes: u64,
    labels: Vec<usize>,
    lease: bool,
}

#[derive(Clone, Debug)]
struct Understood {
    writes: bool,
    tables: Vec<usize>,
    amount: Option<u64>,
    has_where: bool,
    recipients: u64,
}

const AGENTS: [&str; 2] = ["ann", "bob"];
const PLACES: [&str; 2] = ["production", "staging"];
const LABELS: [&str; 2] = ["private", "untrusted"];

impl Rule {
    fn spelled(&self, id: usize) -> Value {
        let mut rule = Map::new();
        rule.insert("id".to_owned(), json!(format!("r{id}")));
        rule.insert("then".to_owned(), json!(self.then));
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                rule.insert(key.to_owned(), value);
            }
        };
        put("agents", self.agent.map(|agent| json!([AGENTS[agent]])));
        put("environments", self.place.map(|place| json!([PLACES[place]])));
        put("effects", self.effects.as_ref().map(|all| json!(all.iter().map(|e| EFFECTS[*e]).collect::<Vec<_>>())));
        for (key, facts) in [("when", &self.when), ("unless", &self.unless)] {
            put(key, (!facts.is_empty()).then(|| Value::Object(facts.iter().map(Fact::spelled).collect())));
        }
        Value::Object(rule)
    }

    fn admits_opaque(&self) -> bool {
        self.effects.as_ref().is_some_and(|effects| effects.contains(&2))
    }

    /// Whether its permit or its forbid holds.
    fn holds(&self, call: &Call, permit: bool) -> bool {
        let scope =
            self.agent.is_none_or(|agent| agent == call.agent) && self.place.is_none_or(|place| place == call.place);
        let effect = self.effects.as_ref().is_none_or(|effects| match &call.understood {
            Some(known) => effects.contains(&usize::from(known.writes)),
            None => effects.contains(&2) || !permit,
        });
        // What a permit asks of the understood part is never granted on nothing.
        let guard = !permit || self.admits_opaque() || call.understood.is_some();
        let all = |facts: &[Fact], unknown: bool| facts.iter().all(|fact| fact.truth(call, unknown).unwrap_or(unknown));
        let exempt = !self.unless.is_empty() && all(&self.unless, permit);
        scope && effect && guard && all(&self.when, !permit) && !exempt
    }
}

impl Fact {
    fn spelled(&self) -> (String, Value) {
        let names = |all: &[usize], from: &[&str]| all.iter().map(|i| from[*i].to_owned()).collect::<Vec<_>>();
        let (key, value) = match self {
            Self::Tables("", all) => ("tables", json!(names(all, &TABLES))),
            Self::Tables(test, all) => ("tables", json!({ *test: names(all, &TABLES) })),
            Self::Amount(operator, units) => ("amount", json!(format!("{operator} {units}"))),
            Self::Changes(more) => ("changes", json!(format!("> {more} in 10m"))),
            Self::Labels(all) => ("run_labels", json!(names(all, &LABELS))),
            Self::Lease => ("lease", json!("surgery")),
            Self::HasWhere(wanted) => ("has_where", json!(wanted)),
            Self::Recipients(more) => ("recipients", json!(format!(">= {more}"))),
        };
        (key.to_owned(), value)
    }

    /// Nothing where it is unknown. `asks` is whether the unknown counts as true: then a bare list means any.
    fn truth(&self, call: &Call, asks: bool) -> Option<bool> {
        let known = call.understood.as_ref();
        match self {
            Self::Tables(test, listed) => {
                let named = &known?.tables;
                let any = named.iter().any(|table| listed.contains(table));
                let all = named.iter().all(|table| listed.contains(table));
                Some(match *test {
                    "any_of" => any,
                    "all_in" => !named.is_empty() && all,
                    "none_of" => !named.is_empty() && !any,
                    "outside" => !all,
                    "all_of" => listed.iter().all(|table| named.contains(table)),
                    _ if asks => any,
                    _ => !named.is_empty() && all,
                })
            }
            Self::Amount(operator, units) => {
                let amount = i64::try_from(known?.amount?).expect("small");
                let limit = units * 1_000_000;
                Some(match *operator {
                    ">" => amount > limit,
                    ">=" => amount >= limit,
                    "<" => amount < limit,
                    "<=" => amount <= limit,
                    _ => amount == limit,
                })
            }
            Self::Changes(more) => Some(call.changes > *more),
            Self::Labels(all) => Some(all.iter().all(|label| call.labels.contains(label))),
            Self::Lease => Some(call.lease),
            Self::HasWhere(wanted) => Some(known?.has_where == *wanted),
            Self::Recipients(least) => Some(known?.recipients >= *least),
        }
    }
}

impl Call {
    fn asked(&self) -> EvaluationRequest {
        let facts = self.understood.as_ref().map_or_else(
            || Facts::opaque("not understood"),
            |known| Facts {
                effect: if known.writes { Effect::Write } else { Effect::Read },
                certainty: Certainty::Exact,
                opaque_because: None,
                sql: Some(SqlFacts {
                    tables: known.tables.iter().map(|table| TABLES[*table].to_owned()).collect(),
                    has_where: known.has_where,
                    ..SqlFacts::default()
                }),
                bound: Some(Bound { amount_micros: known.amount, recipients: known.recipients, ..Bound::default() }),
            },
        );
        EvaluationRequest {
            agent: AGENTS[self.agent].parse().expect("agent"),
            depth: 0,
            point: Point::Mcp,
            upstream: "up".parse().expect("upstream"),
            tool: "call".parse().expect("tool"),
            target: PLACES[self.place].parse().expect("target"),
            environment: PLACES[self.place].parse().expect("environment"),
            facts,
            leases: if self.lease { vec!["surgery".parse().expect("lease")] } else { vec![] },
            token_expires: TimeMs(3_600_000),
            now: TimeMs(0),
            history: History {
                changes: Recent { ten_minutes: self.changes, ..Recent::default() },
                labels: self.labels.iter().map(|label| LABELS[*label].to_owned()).collect(),
                ..History::default()
            },
            arguments: vec![],
        }
    }
}

fn source() -> PolicySource {
    PolicySource {
        agents: AGENTS.iter().map(|id| AgentDef { id: id.parse().expect("agent"), groups: vec![] }).collect(),
        targets: PLACES
            .iter()
            .map(|id| TargetDef { id: id.parse().expect("target"), environment: id.parse().expect("environment") })
            .collect(),
        tools: vec![ToolDef::named("up".parse().expect("upstream"), "call".parse().expect("tool"))],
        ..PolicySource::default()
    }
}

fn some(of: usize) -> impl Strategy<Value = Vec<usize>> {
    proptest::sample::subsequence((0..of).collect::<Vec<_>>(), 1..=of)
}

fn fact() -> impl Strategy<Value = Fact> {
    let tests = prop::sample::select(vec!["", "any_of", "all_in", "none_of", "outside", "all_of"]);
    let operators = prop::sample::select(vec![">", ">=", "<", "<=", "=="]);
    prop_oneof![
        (tests, some(3)).prop_map(|(test, all)| Fact::Tables(test, all)),
        (operators, 0_i64..3).prop_map(|(operator, units)| Fact::Amount(operator, units)),
        (0_u64..3).prop_map(Fact::Changes),
        some(2).prop_map(Fact::Labels),
        Just(Fact::Lease),
        any::<bool>().prop_map(Fact::HasWhere),
        (0_u64..3).prop_map(Fact::Recipients),
    ]
}

/// No key can stand in a map twice.
fn distinct(facts: Vec<Fact>) -> Vec<Fact> {
    let mut seen = Vec::new();
    facts
        .into_iter()
        .filter(|fact| {
            !seen.contains(&fact.spelled().0) && {
                seen.push(fact.spelled().0);
                true
            }
        })
        .collect()
}

fn rule() -> impl Strategy<Value = Rule> {
    let facts = || prop::collection::vec(fact(), 0..3).prop_map(distinct);
    let then = prop::sample::select(vec!["allow", "deny", "require_approval", "gate"]);
    let scope = (prop::option::of(0_usize..2), prop::option::of(0_usize..2), prop::option::of(some(3)));
    (scope, facts(), facts(), then).prop_map(|((agent, place, effects), when, unless, then)| Rule {
        agent,
        place,
        effects,
        when,
        unless,
        then,
    })
}

fn a_call() -> impl Strategy<Value = Call> {
    let understood = (
        any::<bool>(),
        prop::sample::subsequence(vec![0, 1, 2], 0..=3),
        prop::option::of(0_u64..4),
        any::<bool>(),
        0_u64..4,
    )
        .prop_map(|(writes, tables, amount, has_where, recipients)| Understood {
            writes,
            tables,
            amount: amount.map(|units| units * 1_000_000),
            has_where,
            recipients,
        });
    let labels = prop::sample::subsequence(vec![0, 1], 0..=2);
    (0_usize..2, 0_usize..2, prop::option::weighted(0.75, understood), 0_u64..4, labels, any::<bool>()).prop_map(
        |(agent, place, understood, changes, labels, lease)| Call { agent, place, understood, changes, labels, lease },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_compiled_answers_as_the_rules_say(
        rules in prop::collection::vec(rule(), 1..4),
        calls in prop::collection::vec(a_call(), 40),
    ) {
        let spelled: Vec<Value> = rules.iter().enumerate().map(|(id, rule)| rule.spelled(id)).collect();
        // JSON is YAML.
        let text = json!({ "version": 1, "rules": spelled }).to_string();
        let source = source();
        let compiled = compile("p.yaml", &text, &Known::of(&source)).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let policies = vec![(compiled.file.clone(), compiled.cedar())];
        let bundle = Bundle::load(&PolicySource { policies, ..source }).unwrap_or_else(|error| panic!("{error}\n{text}"));
        for call in calls {
            let any = |then: &[&str], permit| rules.iter().any(|rule| then.contains(&rule.then) && rule.holds(&call, permit));
            let permitted = any(&["allow", "require_approval"], true);
            let ceiling = permitted && !any(&["deny"], false);
            let auto = ceiling && !any(&["gate", "require_approval"], false);
            let evaluation = bundle.evaluate(&call.asked());
            prop_assert_eq!(evaluation.errors.total, 0, "{:?}", evaluation.errors);
            prop_assert_eq!((evaluation.auto, evaluation.ceiling), (auto, ceiling), "{:?}\n{}\n{}", call, text, compiled.cedar());
            if call.understood.is_none() && !rules.iter().any(Rule::admits_opaque) {
                prop_assert!(!evaluation.ceiling, "what was not understood may run");
            }
        }
    }

    /// Names and texts with whatever in them stay strings: nothing becomes another policy.
    #[test]
    fn nothing_breaks_out_of_a_string(text in "\\PC{1,40}", table in "[a-z\"'\\\\;{}()\u{2028}@*=&|\n]{1,20}") {
        let file = json!({ "version": 1, "rules": [
            { "id": "only", "description": text, "when": { "tables": [table], "matched": ["p"] }, "then": "gate", "gate": { "name": text } },
        ], "patterns": { "p": { "exact": text } } }).to_string();
        let source = source();
        if let Ok(compiled) = compile("p.yaml", &file, &Known::of(&source)) {
            let cedar = compiled.cedar();
            let set: cedar_policy::PolicySet = cedar.parse().unwrap_or_else(|error| panic!("{error}\n{cedar}"));
            let policies: Vec<_> = set.policies().collect();
            prop_assert_eq!(policies.len(), 1);
            prop_assert_eq!(policies[0].annotation("description"), Some(text.as_str()));
            prop_assert_eq!(policies[0].annotation("gate"), Some(text.as_str()));
            prop_assert_eq!(policies[0].effect(), cedar_policy::Effect::Forbid);
        }
    }

    /// Garbage is answered, not panicked at; and what it compiles to lets nothing run that was not understood.
    #[test]
    fn garbage_lets_nothing_run(text in "(version: 1\n)?(rules|actions):\n( {0,4}(- )?(id|then|when|pattern|action|name|effect|tools|effects|allow|deny|read|\\*|up/call|[a-z]{1,3})(: |, |\n)){0,12}") {
        let source = source();
        if let Ok(compiled) = compile("p.yaml", &text, &Known::of(&source)) {
            let policies = vec![(compiled.file.clone(), compiled.cedar())];
            if let Ok(bundle) = Bundle::load(&PolicySource { policies, patterns: compiled.patterns, ..source }) {
                let call = Call { agent: 0, place: 0, understood: None, changes: 0, labels: vec![], lease: false };
                prop_assert!(!bundle.evaluate(&call.asked()).ceiling);
            }
        }
    }
}
