//! What we say of a text against what real SQLite does with it: the laws of `crates/effects/tests/oracle`.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/effects/tests/oracle/mod.rs"]
mod oracle;

thread_local! {
    static WORLD: RefCell<oracle::World> = RefCell::new(oracle::World::new());
}

fuzz_target!(|text: &str| {
    WORLD.with_borrow_mut(|world| {
        let (answer, truth, broken) = oracle::judge(world, text);
        assert!(broken.is_none(), "{broken:?}\n{answer:?}\n{truth:?}");
    });
});
