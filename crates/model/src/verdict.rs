//! Verdicts: the five answers to a proposal, and what comes with them.
//!
//! A denial is data, not an error. This module only names the answers; `kernel` finds them.

use minicbor::{Decode, Encode};

use crate::id::PolicyId;

/// What becomes of a proposed action.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Verdict {
    /// It may run.
    #[n(0)]
    Allow,
    /// It waits until humans consent.
    #[n(1)]
    RequireApproval {
        /// The gates that fired, sorted by policy id; at most [`GATES_MAX`].
        #[n(0)]
        gates: Vec<Gate>,
    },
    /// It may not run.
    #[n(2)]
    Deny,
    /// It may run under obligations.
    #[n(3)]
    Modify {
        /// What must hold while it runs, at most [`OBLIGATIONS_MAX`].
        #[n(0)]
        obligations: Vec<Obligation>,
    },
    /// Facts are missing; nobody can approve it yet.
    #[n(4)]
    Defer {
        /// Which facts, at most [`OBLIGATIONS_MAX`].
        #[n(0)]
        missing: Vec<String>,
    },
}

/// The most gates that one verdict joins; more is a policy error, and so a denial.
pub const GATES_MAX: usize = 8;
/// The most approvers that one gate names; more is refused when the policy is loaded.
pub const APPROVERS_MAX: usize = 8;
/// The most obligations that one verdict carries.
pub const OBLIGATIONS_MAX: usize = 16;

impl Verdict {
    /// The word that records, the command line and agents see.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::RequireApproval { .. } => "require_approval",
            Self::Deny => "deny",
            Self::Modify { .. } => "modify",
            Self::Defer { .. } => "defer",
        }
    }
}

/// A rule that turns an allow into `require_approval`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct Gate {
    /// The policy that carries the gate.
    #[n(0)]
    pub policy: PolicyId,
    /// The gate's name for people, at most 160 bytes.
    #[n(1)]
    pub name: String,
    /// Humans who may consent; empty means any enrolled human.
    #[n(2)]
    pub approvers: Vec<String>,
    /// How many consents it takes.
    #[n(3)]
    pub quorum: u32,
    /// How long the proposal waits, in milliseconds.
    #[n(4)]
    pub timeout_ms: u64,
    /// Who is to be told that it waits: a channel of the operator's naming, at most 64 bytes.
    #[n(5)]
    pub notify: Option<String>,
}

/// What must hold while an allowed action runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(flat)]
pub enum Obligation {
    /// No more rows than this.
    #[n(0)]
    MaxRows {
        /// The cap.
        #[n(0)]
        rows: u64,
    },
    /// Not before a witness has cosigned the record of it.
    #[n(2)]
    Witness,
    /// Done within this time.
    #[n(1)]
    Timeout {
        /// The limit in milliseconds.
        #[n(0)]
        ms: u64,
    },
    /// Secrets in its result are replaced before the agent sees it.
    #[n(3)]
    Redact,
    /// Only where it can be undone.
    #[n(4)]
    Undo,
    /// Only in a sandbox.
    #[n(5)]
    Sandbox,
    /// Somebody is told. It holds nothing up.
    #[n(6)]
    Notify {
        /// A channel of the operator's naming, at most 64 bytes.
        #[n(0)]
        channel: String,
    },
}
