//! Parked actions and the consents to them.
//!
//! Both are folds of records. An action is shown and hashed again from its record and payload, so what a
//! human sees is what was recorded. Signatures are checked in `consent`, redemption is judged in `judge`.

use std::collections::BTreeSet;

use countersign_model::id::{HumanId, PolicyId, TicketId};
use countersign_model::payload::ActionPayload;
use countersign_model::record::{GrantReading, Proposal};
use countersign_model::unit::LeafIndex;
use countersign_model::verdict::Gate;
use countersign_model::{Action, Digest, TimeMs, Verdict};

use crate::continuation::sameness;

/// A proposal that waits for consent, or that was consented to and waits for its retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Its ticket.
    pub ticket: TicketId,
    /// The record.
    pub proposal: Proposal,
    /// What the record commits to: digest, arguments.
    pub payload: ActionPayload,
    /// When it lapses: the proposal, or once consent is given, the grant.
    pub expires: TimeMs,
    /// Its leaf; absent until it is durable, and until then nobody can consent.
    pub leaf: Option<LeafIndex>,
    /// Its RFC 6962 leaf hash, known with the leaf: what consent signs.
    pub leaf_hash: Option<Digest>,
    /// Who has consented so far.
    pub consents: BTreeSet<HumanId>,
    /// Whether they are enough: then it is a grant, which the identical retry redeems.
    pub(crate) is_granted: bool,
}

/// A refusal that still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RefusedAs {
    /// The ticket of the proposal that was refused.
    pub(crate) ticket: TicketId,
    pub(crate) human: HumanId,
    pub(crate) expires: TimeMs,
    /// The proposal that was refused.
    pub(crate) leaf: LeafIndex,
    pub(crate) leaf_hash: Digest,
}

impl Parked {
    /// The gates that it waits at.
    #[must_use]
    pub fn gates(&self) -> &[Gate] {
        match &self.proposal.attempt.verdict {
            Verdict::RequireApproval { gates } => gates,
            _ => &[],
        }
    }

    /// Whether consent was given and waits to be redeemed.
    #[must_use]
    pub const fn granted(&self) -> bool {
        self.is_granted
    }

    /// The action, as it was proposed.
    #[must_use]
    pub fn action(&self) -> Action {
        self.payload.action(&self.proposal.attempt)
    }

    /// The call that it goes on with, and with which answers.
    pub(crate) fn goes_on(&self) -> Option<(LeafIndex, Digest)> {
        sameness(&self.proposal.attempt, &self.payload)
    }

    /// What a decision reads of a grant.
    pub(crate) fn reading(&self) -> GrantReading {
        let gates: BTreeSet<PolicyId> = self.gates().iter().map(|gate| gate.policy.clone()).collect();
        GrantReading {
            ticket: self.ticket.clone(),
            humans: self.consents.iter().cloned().collect(),
            expires: self.expires,
            gates: gates.into_iter().collect(),
        }
    }
}

/// Whether `human` may pass `gate`.
pub(crate) fn may_pass(gate: &Gate, human: &HumanId) -> bool {
    gate.approvers.is_empty() || gate.approvers.iter().any(|name| name == human.as_str())
}

/// Whether `humans` are enough for `gate`. A quorum of zero asks for one all the same.
pub(crate) fn passes<'a>(gate: &Gate, humans: impl Iterator<Item = &'a HumanId>) -> bool {
    let count = humans.filter(|human| may_pass(gate, human)).count();
    u32::try_from(count).unwrap_or(u32::MAX) >= gate.quorum.max(1)
}
