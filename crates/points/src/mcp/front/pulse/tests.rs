//! Values go up whatever an upstream says between, and an upstream's own always have room.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn value(event: &[u8]) -> f64 {
    let event: Value = serde_json::from_slice(event).unwrap();
    assert_eq!((&event["method"], &event["params"]["progressToken"]), (&METHOD.into(), &"t".into()));
    event["params"]["progress"].as_f64().unwrap()
}

fn said(value: f64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":"t","progress":{value:e}}}}}"#
    )
}

fn pulse() -> Pulse {
    Pulse::new(Bytes::from_static(br#""t""#))
}

#[test]
fn there_are_so_many_and_all_are_below_zero_until_the_upstream_speaks() {
    let mut pulse = pulse();
    let values: Vec<f64> = std::iter::from_fn(|| pulse.beat()).map(|event| value(&event)).collect();
    assert_eq!(values.len(), BEATS_MAX as usize);
    assert!(values.iter().all(|value| *value < 0.0) && values.is_sorted_by(|a, b| a < b));
}

#[test]
fn what_is_no_progress_changes_nothing() {
    let mut pulse = pulse();
    for event in [
        r#"{"method":"notifications/message","params":{"data":"notifications/progress","progress":7}}"#,
        r#"{"method":"notifications/progress","params":{"progress":"7"}}"#,
        r#"{"method":"notifications/progress","params":{"progress":1e999}}"#,
        "notifications/progress",
    ] {
        pulse.heard(event.as_bytes());
    }
    assert!(value(&pulse.beat().unwrap()) < 0.0);
}

proptest! {
    #[test]
    fn all_that_a_client_hears_goes_up(steps in proptest::collection::vec((1_u32..1_000_000, 0_usize..4), 1..20)) {
        let (mut pulse, mut heard, mut theirs) = (pulse(), Vec::new(), 0.0);
        for (step, beats) in steps {
            theirs += f64::from(step) / 1_000.0;
            pulse.heard(said(theirs).as_bytes());
            heard.push(theirs);
            heard.extend((0..beats).map(|_| value(&pulse.beat().unwrap())));
        }
        prop_assert!(heard.is_sorted_by(|a, b| a < b), "{heard:?}");
    }
}
