//! The process model, broken at every single step of I/O of one action.
#![expect(clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use countersign_gate::call::Answer;
use countersign_model::record::Status;
use countersign_testkit::disk::{FakeDisk, Fault};
use countersign_testkit::simulator::{Played, STORIES, Simulator, Step, at_every_step};
use countersign_testkit::world::READ;

const SEEDS: u64 = 3;

fn from_every_image(simulator: &Simulator, played: &Played, what: &str) {
    simulator.check(played, played.disk.process_crash_image(), &format!("{what}, process"));
    for seed in 0..SEEDS {
        simulator.check(played, played.disk.crash_image(seed), &format!("{what}, power, seed {seed}"));
    }
}

#[test]
fn a_crash_before_every_operation_breaks_no_promise() {
    let simulator = Simulator::new();
    let runs = at_every_step(&simulator, Fault::Crash, |played, what| from_every_image(&simulator, played, what));
    assert!(runs > 200, "{runs} runs are too few to have been at every step");
}

#[test]
fn a_crash_in_the_middle_of_every_operation_breaks_no_promise() {
    let simulator = Simulator::new();
    at_every_step(&simulator, Fault::CrashDuring, |played, what| from_every_image(&simulator, played, what));
}

#[test]
fn an_error_at_every_operation_breaks_no_promise() {
    for fault in [Fault::Error, Fault::ErrorButDone, Fault::Full] {
        let simulator = Simulator::new();
        at_every_step(&simulator, fault, |played, what| {
            simulator.check(played, played.disk.process_crash_image(), &format!("{what}, process"));
            simulator.check(played, played.disk.crash_image(1), &format!("{what}, power, seed 1"));
        });
    }
}

/// SplitMix64: a run is its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap_or(0)
    }
}

/// A story, one or two faults somewhere in it, and one state of the disk after it: all from the seed.
fn seeded_run(simulator: &Simulator, seed: u64) {
    const STEPS: [Step; 8] =
        [Step::Read, Step::Lost, Step::Drop, Step::Change, Step::Approve, Step::Tick, Step::Ask, Step::GoOn];
    const FAULTS: [Fault; 6] =
        [Fault::Error, Fault::ErrorButDone, Fault::Torn, Fault::Full, Fault::Crash, Fault::CrashDuring];
    let mut random = Random(seed);
    let mut story: Vec<Step> = (0..1 + random.below(6)).map(|_| STEPS[random.below(STEPS.len())]).collect();
    if random.below(6) == 0 {
        story.push(Step::Kill);
    }
    let faults: Vec<_> =
        (0..1 + random.below(2)).map(|_| (random.below(30 * story.len()) as u64, FAULTS[random.below(6)])).collect();
    let what = format!("seed {seed}: {story:?}, {faults:?}");
    let plan = |disk: &FakeDisk| faults.iter().for_each(|(op, fault)| disk.fault_at(*op, *fault));
    let played = simulator.play(&what, &story, plan, |_, _| {});
    match random.below(3) {
        0 => simulator.check(&played, played.disk.process_crash_image(), &format!("{what}, process")),
        _ => simulator.check(&played, played.disk.crash_image(seed), &format!("{what}, power")),
    }
}

/// `COUNTERSIGN_SIMULATOR_RUNS` sets how many seeds are run, `COUNTERSIGN_SIMULATOR_SEED` the first.
#[test]
fn seeded_stories_with_seeded_faults_break_no_promise() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (first, runs) = (number("COUNTERSIGN_SIMULATOR_SEED", 0), number("COUNTERSIGN_SIMULATOR_RUNS", 40));
    std::thread::scope(|scope| {
        for worker in 0..2 {
            scope.spawn(move || {
                let simulator = Simulator::new();
                (first + worker..first + runs).step_by(2).for_each(|seed| seeded_run(&simulator, seed));
            });
        }
    });
}

#[test]
fn a_disk_that_fills_up_between_two_steps_breaks_no_promise_and_service_returns() {
    let simulator = Simulator::new();
    for (name, story) in STORIES {
        for from in 0..=story.len() {
            for until in from..=story.len() {
                let what = format!("{name}, full from step {from} until before step {until}");
                let played = simulator.play(
                    &what,
                    story,
                    |_| {},
                    |at, world| {
                        if at == from {
                            world.disk.set_capacity(Some(world.disk.used()));
                        }
                        if at == until {
                            world.disk.set_capacity(None);
                            world.tick();
                        }
                        if at == story.len() && !story.contains(&Step::Kill) {
                            let answer = world.call(READ);
                            assert!(matches!(answer, Answer::Ran { status: Status::Done, .. }), "{what}: {answer:?}");
                        }
                    },
                );
                from_every_image(&simulator, &played, &what);
            }
        }
    }
}
