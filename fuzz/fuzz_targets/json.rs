//! Whatever our JSON accepts, `serde_json` accepts too, and its canonical form is its own.
//! Not covered here: that the values are the same (`crates/effects/tests/json.rs`).
#![no_main]

use countersign_effects::json::{Limits, canonical, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(node) = parse(bytes, &Limits::default()) else {
        return;
    };
    if let Err(error) = serde_json::from_slice::<serde_json::Value>(bytes) {
        assert!(error.to_string().contains("number out of range"), "{error}");
    }
    let once = canonical(&node, bytes);
    let again = parse(&once, &Limits::default()).expect("the canonical form is json");
    assert_eq!(once, canonical(&again, &once));
});
