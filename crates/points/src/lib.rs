//! Enforcement points: one folder a protocol, all of one shape (`mod wire adapt execute undo config`).
//!
//! A point frames hostile bytes into a [`countersign_gate::call::Call`], hands it to the pipeline through
//! [`Governor`], and carries out what a permit allows. It must not know the kernel, the ledger or another point;
//! it decides nothing. It does not cover identity, policy or records: those are behind the governor.

pub mod governor;
pub mod mcp;

pub use governor::Governor;
