//! What humans do: consent, commands with a signature, and the recording of kills.
//!
//! The admin plane hands in what it received; the socket it came over proves nothing. The kernel
//! verifies every signature. A command carries a challenge given out here, once, so that no
//! signature can be used twice. Effects outside the kernel follow only after the record is durable.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use countersign_kernel::Event;
use countersign_kernel::identity::issue;
use countersign_ledger::Committed;
use countersign_model::action::Point;
use countersign_model::command::{Deed, Signed};
use countersign_model::id::{HumanId, SessionId, TicketId};
use countersign_model::{Body, Digest, Principal, Reason, ReasonCode, TimeMs};

use crate::Gate;
use crate::clock::nonce;
use crate::erase::Destroyed;
use crate::kill::{KillAck, KillFileError};
use crate::pipeline::{STALLED, why_unwritten};
use crate::prune::Cut;
use crate::state::Recording;

/// How long a challenge is good for.
const CHALLENGE_MS: u64 = 120_000;
/// Challenges open at a time; the oldest is forgotten beyond.
const CHALLENGES_MAX: usize = 256;

#[derive(Default)]
pub(crate) struct Challenges {
    open: Mutex<BTreeMap<Digest, TimeMs>>,
}

impl Challenges {
    fn give(&self, challenge: Digest, expires: TimeMs) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= CHALLENGES_MAX
            && let Some(oldest) = open.iter().min_by_key(|(_, end)| **end).map(|(key, _)| *key)
        {
            open.remove(&oldest);
        }
        open.insert(challenge, expires);
    }

    /// Uses a challenge up.
    fn take(&self, challenge: &Digest, now: TimeMs) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(challenge).is_some_and(|expires| now < expires)
    }
}

/// What came of a command.
#[derive(Debug)]
pub struct Carried {
    /// The leaf of its record.
    pub leaf: u64,
    /// The token, where one was issued: it is nowhere else.
    pub token: Option<String>,
    /// Its session id.
    pub session: Option<SessionId>,
    /// What was destroyed, where it was to erase.
    pub erased: Option<Destroyed>,
    /// What is no longer kept, where it was to prune.
    pub pruned: Option<Cut>,
}

impl Gate {
    /// A challenge for one command.
    #[must_use]
    pub fn challenge(&self) -> Option<Digest> {
        let challenge = nonce(self.entropy())?;
        let expires = self.now().saturating_add_ms(CHALLENGE_MS);
        self.0.challenges.give(challenge, expires);
        Some(challenge)
    }

    /// A human's answer to a proposal. Returns the leaf of its record.
    ///
    /// # Errors
    /// Why it does not count.
    pub async fn consent(
        &self,
        ticket: TicketId,
        human: HumanId,
        approved: bool,
        signature: Vec<u8>,
    ) -> Result<u64, Reason> {
        self.0.witnesses.admit()?;
        if approved && let Some(reason) = self.unreadable(&ticket) {
            self.refuse(Point::Admin, None, reason.clone()).await;
            return Err(reason);
        }
        let event = Event::Consented { ticket, human, approved, signature };
        let committed = self.ordered(event, |body| matches!(body, Body::Consent(_))).await?;
        Ok(committed.index)
    }

    /// Why nobody can have seen what waits under `ticket`: it is not readable any more, whatever memory holds.
    fn unreadable(&self, ticket: &TicketId) -> Option<Reason> {
        let leaf = self.kernel().proposal(ticket)?.leaf?;
        let why = match self.stored(leaf.0) {
            Ok(stored) if stored.payload.is_some() => return None,
            Ok(_) => format!("the payload of `{ticket}` is erased: nobody can be shown what it was"),
            Err(error) => error.to_string(),
        };
        Some(Reason::because(ReasonCode::OrderRefused, &why))
    }

    /// A human's signed command.
    ///
    /// # Errors
    /// Why it was refused; then nothing was changed.
    pub async fn command(&self, signed: Signed) -> Result<Carried, Reason> {
        let is_activation = matches!(signed.command.deed, Deed::Activate { .. });
        if !is_activation && !self.0.challenges.take(&signed.command.challenge, self.now()) {
            let why = "the command's challenge is unknown, used or too old; ask for a new one";
            let reason = Reason::because(ReasonCode::OrderRefused, why);
            self.refuse(Point::Admin, None, reason.clone()).await;
            return Err(reason);
        }
        // A command must not come before a record that it answers: the lift of a kill before the kill.
        self.write_stalled().await;
        if self.0.stalled.is_any() {
            return Err(Reason::because(ReasonCode::LedgerUnavailable, STALLED));
        }
        self.0.witnesses.admit()?;
        let deed = signed.command.deed.clone();
        if let Deed::Activate { configuration, policy, .. } = deed {
            return self.activate(signed, (configuration, policy)).await;
        }
        self.is_next_key(&deed).await?;
        if let Deed::Erase { scope } = deed {
            return self.erase(signed, scope).await;
        }
        if let Deed::Prune { minimum } = deed {
            return self.prune(signed, minimum).await;
        }
        // A hold comes before an erasure or a pruning or after it, never in the middle.
        let _turn = match deed {
            Deed::Hold { .. } => Some(self.0.erasing.lock().await),
            _ => None,
        };
        let session = match deed {
            Deed::IssueToken { .. } => Some(self.new_session()?),
            _ => None,
        };
        let event = Event::Commanded { signed, session: session.clone() };
        let committed = self.ordered(event, |body| matches!(body, Body::Commanded(_))).await?;
        let token = match (&deed, &session) {
            (Deed::IssueToken { .. }, Some(session)) => Some(self.mint_token(&deed, session)?),
            (Deed::RotateKey { .. }, _) => {
                self.rotate(committed.index).await?;
                None
            }
            (Deed::Resume { scope }, _) => {
                self.switch().lift(scope).map_err(|error| Reason::because(ReasonCode::Internal, &error.to_string()))?;
                None
            }
            _ => None,
        };
        Ok(Carried { leaf: committed.index, token, session, erased: None, pruned: None })
    }

    /// Records an acknowledged kill and tells the kernel. Returns whether it is on record.
    pub async fn record_kill(&self, ack: &KillAck) -> bool {
        let event = Event::Killed {
            scope: ack.scope.clone(),
            epoch: ack.epoch,
            cancelled: ack.cancelled,
            took_ms: ack.took_ms,
        };
        self.ordered(event, |body| matches!(body, Body::Killed(_))).await.is_ok()
    }

    /// Takes over kills that were written to the file while this gateway was still starting. Call it once the kill
    /// plane listens: from then on orders come over its socket.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub async fn adopt_kills(&self) -> Result<(), KillFileError> {
        let known = self.kernel().kills().clone();
        self.switch().merge(&known)?;
        let state = self.switch().state();
        for scope in state.scopes.difference(&known.scopes) {
            let epoch = state.epoch;
            self.record_kill(&KillAck { scope: scope.clone(), epoch, cancelled: 0, cut: 0, took_ms: 0, unsaved: None })
                .await;
        }
        Ok(())
    }

    /// Feeds an order to the kernel and waits until its record is durable.
    pub(crate) async fn ordered(&self, event: Event, is_ours: fn(&Body) -> bool) -> Result<Committed, Reason> {
        let step = self.step(event);
        if let Some(reason) = step.refusal {
            self.watch(step.others);
            // Somebody tried: that is on record, too.
            self.refuse(Point::Admin, None, reason.clone()).await;
            return Err(reason);
        }
        let (ours, others): (Vec<Recording>, Vec<Recording>) =
            step.others.into_iter().partition(|recording| is_ours(&recording.record.body));
        self.watch(others);
        let mut last = Err(Reason::because(ReasonCode::Internal, "the kernel recorded nothing"));
        for Recording { leaf, pending, .. } in ours {
            last = match pending.await {
                Ok(committed) => Ok(committed),
                Err(error) => {
                    self.0.stalled.hold(leaf);
                    Err(why_unwritten(&error))
                }
            };
        }
        last
    }

    fn new_session(&self) -> Result<SessionId, Reason> {
        let random =
            nonce(self.entropy()).ok_or_else(|| Reason::because(ReasonCode::Internal, "no randomness to be had"))?;
        let text = random.hex().chars().take(24).collect::<String>();
        SessionId::new(&format!("s-{text}")).map_err(|error| Reason::because(ReasonCode::Internal, &error.to_string()))
    }

    fn mint_token(&self, deed: &Deed, session: &SessionId) -> Result<String, Reason> {
        let Deed::IssueToken { agent, run, ttl_ms } = deed else {
            return Err(Reason::plain(ReasonCode::Internal));
        };
        let run = match run {
            Some(run) => run.clone(),
            None => session.as_str().parse().map_err(|_| Reason::plain(ReasonCode::Internal))?,
        };
        let principal = Principal {
            tenant: self.kernel().tenant().clone(),
            agent: agent.clone(),
            session: session.clone(),
            run,
            depth: 0,
        };
        let expires = self.now().saturating_add_ms(*ttl_ms);
        issue(&self.0.identities.key, &principal, expires)
            .map_err(|error| Reason::because(ReasonCode::Internal, &error.to_string()))
    }
}
