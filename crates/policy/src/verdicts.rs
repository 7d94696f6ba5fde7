//! Verdicts compared: which lets more run, and whether two ask for the same.
//!
//! It must not know where a verdict comes from.

use countersign_model::verdict::{Gate, Verdict};

/// How much a verdict lets run: nothing, what a human consents to, what obligations hold for, all.
pub(crate) const fn rank(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Deny | Verdict::Defer { .. } => 0,
        Verdict::RequireApproval { .. } => 1,
        Verdict::Modify { .. } => 2,
        Verdict::Allow => 3,
    }
}

/// Whether something runs without a human.
pub(crate) const fn runs(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Allow | Verdict::Modify { .. })
}

/// What a verdict asks for, sorted. The words of a gate and whom it tells ask for nothing.
pub(crate) fn asks(verdict: &Verdict) -> (u8, Vec<String>) {
    let mut what: Vec<String> = match verdict {
        Verdict::RequireApproval { gates } => gates.iter().map(asked_at).collect(),
        Verdict::Modify { obligations } => obligations.iter().map(|obligation| format!("{obligation:?}")).collect(),
        _ => Vec::new(),
    };
    what.sort();
    (rank(verdict), what)
}

fn asked_at(gate: &Gate) -> String {
    let mut approvers = gate.approvers.clone();
    approvers.sort();
    format!("{} {approvers:?} {} {}", gate.policy, gate.quorum, gate.timeout_ms)
}
