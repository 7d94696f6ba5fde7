//! Fakes for tests: a clock, a disk and upstreams that do what the test says, the simulator and the scenario runner.
//!
//! It must not be a dependency of anything that ships. It does not cover load and benchmarks (`xtask`).

pub mod clock;
pub mod disk;
pub mod policy;
pub mod scenario;
pub mod simulator;
pub mod softhsm;
pub mod upstream;
pub mod world;
