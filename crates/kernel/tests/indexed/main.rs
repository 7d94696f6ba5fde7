//! What the index answers is what every policy together answers, and that is what a tiny reference evaluator answers.
//!
//! 20,000 random pairs of a set of policies and a request; `COUNTERSIGN_POLICY_PAIRS` says another number, as
//! `cargo xtask audit --policy` does. A set that fails is made smaller before it is shown.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod generate;
mod model;
mod reference;

use std::collections::BTreeMap;

use countersign_kernel::policy::Bundle;
use countersign_model::record::Evaluation;
use countersign_model::verdict::Obligation;

use generate::{Random, asked, rules, world};
use model::{Rule, World};
use reference::{Answer, Asked, answer};

const PAIRS: u64 = 20_000;
/// Requests that each set of policies is asked.
const REQUESTS: u64 = 160;

/// What was seen, so that a generator which misses something fails.
#[derive(Default)]
struct Seen(BTreeMap<&'static str, u64>);

impl Seen {
    fn note(&mut self, what: &'static str, is: bool) {
        *self.0.entry(what).or_default() += u64::from(is);
    }

    fn of(&mut self, found: &Answer) {
        self.note("allowed", found.auto && found.errors == 0);
        self.note("parked", found.ceiling && !found.auto && found.errors == 0);
        self.note("forbidden", !found.ceiling && !found.determining.is_empty());
        self.note("not permitted", !found.ceiling && found.determining.is_empty());
        self.note("errors", found.errors > 0);
        self.note("errors that Cedar would allow", found.errors > 0 && found.auto);
        self.note("obliged", !found.rows.is_empty());
        self.note("never", !found.may_ever);
        self.note("may", found.may_ever);
    }

    fn check(&self, pairs: u64) {
        for (what, seen) in &self.0 {
            assert!(seen * 100 >= pairs, "only {seen} of {pairs} pairs were {what}: the generator misses it");
        }
    }
}

fn expected(evaluation: &Evaluation, may_ever: bool) -> Answer {
    let rows = evaluation.obligations.iter().map(|obligation| match obligation {
        Obligation::MaxRows { rows } => *rows,
        other => panic!("{other:?}"),
    });
    // Ids in a bounded list are cut off; no generated list is that long.
    assert_eq!(evaluation.determining.total, evaluation.determining.items.len() as u64);
    assert_eq!(evaluation.obliging.total, evaluation.obliging.items.len() as u64);
    Answer {
        ceiling: evaluation.ceiling,
        auto: evaluation.auto,
        determining: evaluation.determining.items.iter().cloned().collect(),
        gates: evaluation.gates.iter().map(|gate| gate.policy.to_string()).collect(),
        errors: evaluation.errors.total,
        rows: rows.collect(),
        obliging: evaluation.obliging.items.iter().cloned().collect(),
        may_ever,
    }
}

/// What is wrong with the answers to one request, if anything is.
fn wrong(bundle: &Bundle, world: &World, rules: &[Rule], asked: &Asked) -> Option<String> {
    let request = &asked.request;
    let sliced = bundle.evaluate(request);
    let whole = bundle.evaluate_unsliced(request);
    if sliced != whole {
        return Some(format!("sliced {sliced:?}\nwhole  {whole:?}"));
    }
    let may_ever = bundle.may_ever(&request.agent, (&request.upstream, &request.tool), &request.target);
    let (found, reference) = (expected(&sliced, may_ever), answer(world, rules, asked));
    (found != reference).then(|| format!("engine    {found:?}\nreference {reference:?}"))
}

/// Drops rule after rule as long as something stays wrong.
fn shrunk(world: &World, mut rules: Vec<Rule>, asked: &Asked) -> String {
    let bundle = |rules: &[Rule]| Bundle::load(&world.source(rules)).unwrap();
    let mut place = 0;
    while place < rules.len() {
        let mut fewer = rules.clone();
        fewer.remove(place);
        match wrong(&bundle(&fewer), world, &fewer, asked) {
            Some(_) => rules = fewer,
            None => place += 1,
        }
    }
    let why =
        wrong(&bundle(&rules), world, &rules, asked).unwrap_or_else(|| "it depends on what is asked before".to_owned());
    format!("{why}\n{}\nin {world:?}\nasked {:?}", world.source(&rules).policies[0].1, asked.request)
}

fn unknown_is_an_error(bundle: &Bundle, asked: &Asked) {
    let mut request = asked.request.clone();
    request.agent = "stranger".parse().unwrap();
    let mut elsewhere = asked.request.clone();
    elsewhere.target = "nowhere".parse().unwrap();
    let mut moved = asked.request.clone();
    moved.environment = "e9".parse().unwrap();
    for request in [request, elsewhere, moved] {
        let found = bundle.evaluate(&request);
        assert!(!found.auto && !found.ceiling && found.errors.total == 1, "{found:?}");
        assert_eq!(found, bundle.evaluate_unsliced(&request));
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever runs it says how long")]
fn the_index_answers_what_all_policies_answer_and_what_the_reference_answers() {
    let pairs = std::env::var("COUNTERSIGN_POLICY_PAIRS").map_or(PAIRS, |text| text.parse().unwrap());
    let mut seen = Seen::default();
    for seed in 0..pairs.div_ceil(REQUESTS) {
        let mut random = Random(seed);
        let world = world(&mut random);
        let rules = rules(&mut random, &world);
        let bundle = match Bundle::load(&world.source(&rules)) {
            Ok(bundle) => bundle,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        for number in 0..REQUESTS {
            let asked = asked(&mut random, &world);
            if wrong(&bundle, &world, &rules, &asked).is_some() {
                panic!("seed {seed}, request {number}: {}", shrunk(&world, rules, &asked));
            }
            seen.of(&answer(&world, &rules, &asked));
            if number == 0 {
                unknown_is_an_error(&bundle, &asked);
            }
        }
    }
    seen.check(pairs);
}
