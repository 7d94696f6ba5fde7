//! The process model, broken at every single step of I/O of one action.

use countersign_gate::call::Answer;
use countersign_model::record::Status;
use countersign_testkit::disk::Fault;
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
