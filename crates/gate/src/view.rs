//! What humans read: pending proposals, records, receipts, state. Nothing here changes anything.

use countersign_kernel::Hold;
use countersign_model::id::{HoldName, TicketId, ToolName, UpstreamId};
use countersign_model::payload::ActionPayload;
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest, Record, TimeMs};
use countersign_receipt::{CoseReceipt, Receipt, ReceiptProof, Role};

use crate::Gate;
use crate::sealing::payload_of;
use crate::witness::Standing;

/// One record with what lies beside it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its index.
    pub index: u64,
    /// Its leaf.
    pub leaf: Vec<u8>,
    /// The leaf, read.
    pub record: Record,
    /// What the leaf commits to, where it has not been erased.
    pub payload: Option<ActionPayload>,
}

/// One parked action.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Its ticket.
    pub ticket: TicketId,
    /// When it lapses.
    pub expires: TimeMs,
    /// Its proposal: what consent signs.
    pub proposal: Stored,
}

/// Why something cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The log cannot give it.
    #[error("{0}")]
    Read(String),
    /// Nothing waits under this ticket.
    #[error("nothing waits under ticket `{0}`; `approvals list` shows what does")]
    NoTicket(TicketId),
    /// The record is no decision, so it has no receipt.
    #[error("record `{index}` is a `{kind}`, not the decision of a call; `log tail` shows which are")]
    NoReceipt {
        /// Its index.
        index: u64,
        /// Its kind.
        kind: &'static str,
    },
}

impl Gate {
    /// Everything that waits, oldest first.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn waiting(&self) -> Result<Vec<Waiting>, ViewError> {
        let pending: Vec<_> = {
            let kernel = self.kernel();
            kernel
                .pending()
                // Consented to and not yet redeemed: nobody is asked any more.
                .filter(|parked| !parked.granted())
                .filter_map(|parked| Some((parked.leaf?.0, parked.ticket.clone(), parked.expires)))
                .collect()
        };
        let mut waiting = pending
            .into_iter()
            .map(|(leaf, ticket, expires)| Ok(Waiting { ticket, expires, proposal: self.stored(leaf)? }))
            .collect::<Result<Vec<_>, _>>()?;
        waiting.sort_by_key(|one| one.proposal.index);
        Ok(waiting)
    }

    /// What waits under `ticket`.
    ///
    /// # Errors
    /// Where nothing does, or the log cannot be read.
    pub fn waiting_under(&self, ticket: &TicketId) -> Result<Waiting, ViewError> {
        self.waiting()?
            .into_iter()
            .find(|waiting| waiting.ticket == *ticket)
            .ok_or_else(|| ViewError::NoTicket(ticket.clone()))
    }

    /// One record.
    ///
    /// # Errors
    /// Where the log has none at `index` or cannot be read.
    pub fn stored(&self, index: u64) -> Result<Stored, ViewError> {
        let stored = self.ledger().record(index).map_err(|e| ViewError::Read(e.to_string()))?;
        self.read(stored)
    }

    /// The last `count` records of those that are kept, oldest first.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn tail(&self, count: u64) -> Result<Vec<Stored>, ViewError> {
        let size = self.ledger().head().size;
        (size.saturating_sub(count).max(self.ledger().minimum())..size).map(|index| self.stored(index)).collect()
    }

    /// The receipt of the call whose intent or decision is at `index`, at the log's present size.
    ///
    /// # Errors
    /// Where there is no decision at `index`, or the log cannot be read.
    pub fn receipt_of(&self, index: u64) -> Result<Receipt, ViewError> {
        let stored = self.stored(index)?;
        let kind = stored.record.body.kind();
        let role = match stored.record.body {
            Body::Intent(_) => Role::Intent,
            Body::Denial(_) | Body::Proposal(_) | Body::Waiting(_) | Body::Refused(_) => Role::Decision,
            _ => return Err(ViewError::NoReceipt { index, kind }),
        };
        let mut proofs = vec![self.proved(role, &stored)?];
        if role == Role::Intent
            && let Some(outcome) = self.outcome_of(LeafIndex(index))?
        {
            proofs.push(self.proved(Role::Outcome, &outcome)?);
        }
        Ok(self.receipt(proofs))
    }

    /// The COSE Receipt of any one record, at the log's present size.
    ///
    /// # Errors
    /// Where the log has none at `index`, cannot be read, or its signer refuses.
    pub fn cose_receipt_of(&self, index: u64) -> Result<CoseReceipt, ViewError> {
        self.ledger().cose_receipt(index).map_err(|error| ViewError::Read(error.to_string()))
    }

    /// The outcome of the intent at `intent`, where there is one yet. Reads forward from it.
    fn outcome_of(&self, intent: LeafIndex) -> Result<Option<Stored>, ViewError> {
        for stored in self.ledger().tail(intent.0.saturating_add(1)) {
            let stored = stored.map_err(|e| ViewError::Read(e.to_string()))?;
            let stored = self.read(stored)?;
            if matches!(&stored.record.body, Body::Outcome(outcome) if outcome.intent == intent) {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }

    fn read(&self, stored: countersign_ledger::StoredRecord) -> Result<Stored, ViewError> {
        let unreadable = |why: String| ViewError::Read(format!("record `{}`: {why}", stored.index));
        let record = Record::from_leaf(&stored.leaf).map_err(|error| unreadable(error.to_string()))?;
        let payload = payload_of(self.vault(), &stored).map_err(|error| unreadable(error.to_string()))?;
        let payload = payload.and_then(|bytes| ActionPayload::decode(&bytes).ok());
        Ok(Stored { index: stored.index, payload, leaf: stored.leaf, record })
    }

    fn proved(&self, role: Role, stored: &Stored) -> Result<ReceiptProof, ViewError> {
        // A checkpoint that others vouch for is worth more than a newer one; without it the newest must do.
        let proof = match self.ledger().prove_cosigned(stored.index) {
            Ok(Some(proof)) => proof,
            _ => self.ledger().prove(stored.index).map_err(|e| ViewError::Read(e.to_string()))?,
        };
        Ok(ReceiptProof { role, leaf: stored.leaf.clone(), proof })
    }

    /// The log's origin.
    #[must_use]
    pub fn origin(&self) -> String {
        self.ledger().verifier_key().name().to_owned()
    }

    /// Which profile the start's record promises.
    #[must_use]
    pub fn profile(&self) -> String {
        self.kernel().settings().profile.clone()
    }

    /// The RFC 6962 hash of a leaf: what consent signs.
    #[must_use]
    pub fn leaf_hash(leaf: &[u8]) -> Digest {
        Digest(*countersign_receipt::merkle::leaf_hash(leaf).as_bytes())
    }

    /// Whether a tool may be called as its upstream defines it now: what may not is not to be listed either, for its text
    /// would reach an agent that nobody has looked at it for. For listings only; a call is asked about on its own.
    #[must_use]
    pub fn accepts(&self, tool: (&UpstreamId, &ToolName), manifest: Digest) -> bool {
        self.kernel().accepts(tool, manifest)
    }

    /// Whether a human accepted this very definition of a tool by name.
    #[must_use]
    pub fn is_accepted(&self, tool: (&UpstreamId, &ToolName), manifest: Digest) -> bool {
        self.kernel().is_accepted(tool, manifest)
    }

    /// The latest acceptance of configuration and policy, with its serial.
    #[must_use]
    pub fn activation(&self) -> Option<countersign_kernel::Activation> {
        self.kernel().activation()
    }

    /// Hashes of the configuration and the policy in force.
    #[must_use]
    pub fn in_force(&self) -> (Digest, Digest) {
        let kernel = self.kernel();
        (kernel.settings().configuration, kernel.policy())
    }

    /// Legal holds in force, by name.
    #[must_use]
    pub fn holds(&self) -> Vec<(HoldName, Hold)> {
        self.kernel().holds().map(|(name, hold)| (name.clone(), hold.clone())).collect()
    }

    /// Every counter of every budget.
    #[must_use]
    pub fn budgets(&self) -> Vec<countersign_model::record::BudgetReading> {
        self.kernel().budgets()
    }

    /// What holds at this moment, for people and monitors.
    #[must_use]
    pub fn status(&self) -> Status {
        let kernel = self.kernel();
        Status {
            size: self.ledger().head().size,
            failure: self.ledger().failure().map(|error| error.to_string()),
            waiting: kernel.pending().filter(|parked| !parked.granted()).count(),
            in_flight: self.switch().in_flight(),
            killed: self.switch().state().scopes.iter().map(crate::kill::plane::scope_words).collect(),
            frozen: kernel.freezes().map(|(environment, until)| (environment.to_string(), until)).collect(),
            stalled: self.0.stalled.is_any(),
            witnesses: self.0.witnesses.standings(),
            contradicted: self.0.witnesses.contradiction(),
        }
    }
}

/// What holds at one moment.
#[derive(Debug, Clone)]
pub struct Status {
    /// Records in the log.
    pub size: u64,
    /// Why the ledger stopped, if it did.
    pub failure: Option<String>,
    /// Proposals waiting.
    pub waiting: usize,
    /// Effects in flight.
    pub in_flight: usize,
    /// What is killed.
    pub killed: Vec<String>,
    /// What is frozen, and until when.
    pub frozen: Vec<(String, TimeMs)>,
    /// Whether a record waits for the disk, so that nothing is proposed.
    pub stalled: bool,
    /// What holds of each witness.
    pub witnesses: Vec<Standing>,
    /// What a witness said that has seen another log since the start: then nothing runs before the next one.
    pub contradicted: Option<String>,
}
