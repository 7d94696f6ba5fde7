//! Any bytes as the arguments of a tool with an argument of every kind: the laws of `crates/effects/tests/second`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/effects/tests/second/mod.rs"]
mod second;

fuzz_target!(|bytes: &[u8]| {
    if let Some(broken) = second::broken(bytes) {
        panic!("{broken}");
    }
});
