//! SQL against real SQLite: the corpus and what a generator comes up with.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

mod cases;
mod corpus;
mod generator;
mod oracle;

use countersign_model::Effect;
use generator::Tape;
use oracle::World;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestRunner};
use proptest::{collection, prop_assert};

/// Every text of the corpus has the effect that it is filed under, and breaks no law.
#[test]
fn corpus_is_judged_as_filed_and_as_sqlite_does() {
    let mut world = World::new();
    let mut wrong = Vec::new();
    for case in cases::sql() {
        let (answer, truth, broken) = oracle::judge(&mut world, &case.text);
        let got = match &answer {
            Ok((effect, _)) => effect.as_str().to_owned(),
            Err(_) => "opaque".to_owned(),
        };
        if got != case.expected {
            wrong.push(format!("expected {}, got {answer:?}: {}", case.expected, case.text));
        }
        if let Some(law) = broken {
            wrong.push(format!("{law}: {}\n{truth:?}", case.text));
        }
        // What is filed under an effect must be something that SQLite really runs.
        if case.expected != "opaque" && !truth.prepared {
            wrong.push(format!("sqlite refuses: {}", case.text));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the generator comes up with breaks no law. `PROPTEST_CASES` asks for more.
#[test]
fn generated_texts_break_no_law() {
    let mut world = World::new();
    let (mut prepared, mut judged, mut read) = (0, 0, 0);
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(Config::default().cases.max(4_000)) });
    let world = std::cell::RefCell::new(&mut world);
    let counts = std::cell::RefCell::new((&mut prepared, &mut judged, &mut read));
    runner
        .run(&collection::vec(any::<u16>(), 0..80), |choices| {
            let text = generator::text(&mut Tape::new(&choices));
            let (answer, truth, broken) = oracle::judge(&mut world.borrow_mut(), &text);
            let mut counts = counts.borrow_mut();
            *counts.0 += usize::from(truth.prepared);
            *counts.1 += usize::from(truth.prepared && answer.is_ok());
            *counts.2 += usize::from(truth.prepared && matches!(answer, Ok((Effect::Read, _))));
            prop_assert!(broken.is_none(), "{}: {text}\n{answer:?}\n{truth:?}", broken.unwrap_or_default());
            Ok(())
        })
        .unwrap();
    println!("sqlite ran {prepared} texts, we judged {judged} of them, {read} as reads");
    // A law over nothing proves nothing.
    let enough = 4_000 / 40;
    assert!(read > enough && judged > read + enough, "{prepared} {judged} {read}");
}
