//! The one pipeline function: every action of every point goes through [`Gate::govern`].
//!
//! In order: is the agent flooding us with what is denied, facts, reserve, evaluate, decide, durable intent, obligations,
//! permit, effect, durable outcome, receipt. Each step's failure is a denial with a reason; none skips a step. What comes after
//! the caller went away still runs to its outcome, in a task of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use countersign_effects::secrets::cleaned;
use countersign_kernel::policy::EvaluationRequest;
use countersign_kernel::{Event, Salts};
use countersign_ledger::{AppendError, Committed, Sealer, Slot};
use countersign_model::action::Action;
use countersign_model::payload::{Commitment, OutcomePayload, Salt, UndoPayload};
use countersign_model::record::{Attempt, Evaluation, Status};
use countersign_model::unit::{Bytes, LeafIndex};
use countersign_model::verdict::Obligation;
use countersign_model::{Body, Digest, Reason, ReasonCode, Record, Seq, Verdict};
use countersign_receipt::{Receipt, ReceiptProof, Role, TlogProof};

use crate::Gate;
use crate::call::{Answer, Call, Execute, Executed};
use crate::catalog::Framed;
use crate::permit::{Minting, Permit, Terms};
use crate::policies::missing;
use crate::state::Step;

/// Why nothing is proposed or commanded for now.
pub(crate) const STALLED: &str = "a record could not be written; service returns when the disk takes it";

/// A decision on its way to the disk.
struct Decided {
    call: Seq,
    record: Record,
    pending: countersign_ledger::Pending,
    leaf: Vec<u8>,
}

impl Gate {
    /// Takes one call from proposal to receipt. The caller may go away: what was allowed is carried to its outcome.
    pub async fn govern<E: Execute>(&self, call: Call, executor: Arc<E>) -> Answer<E::Reply> {
        let gate = self.clone();
        // Boxed: a task's future is moved several times, and this one is large.
        let task = tokio::spawn(Box::pin(async move { gate.pipeline(call, executor).await }));
        // A panic inside may have come after the first byte: nobody may call that "denied".
        task.await.unwrap_or_else(|_| Answer::Ran {
            status: Status::Unknown,
            reply: None,
            note: Some("the gateway failed while the action was under way".to_owned()),
            receipt: None,
        })
    }

    async fn pipeline<E: Execute>(&self, call: Call, executor: Arc<E>) -> Answer<E::Reply> {
        let epoch = self.switch().epoch();
        if let Some(refused) = self.refuse_flood(&call) {
            return refused;
        }
        let Framed { action, subject } = match self.framed(&call) {
            Ok(framed) => framed,
            Err(reason) => return self.refuse_call(&call, reason).await,
        };
        if let Err(reason) = self.admit() {
            return unrecorded(reason);
        }
        let slot = match self.ledger().reserve() {
            Ok(slot) => slot,
            Err(error) => return self.refuse_call(&call, why_unwritten(&error)).await,
        };
        // Held until the call's last record is answered: the vault counts on it.
        let mut sealer = match self.sealer(&call.caller.principal.run, subject.as_deref()).await {
            Ok(sealer) => sealer,
            Err(reason) => return self.refuse_call(&call, reason).await,
        };
        let decided = match self.decide(&call, action, &sealer).await {
            Ok(decided) => decided,
            Err(reason) => return self.refuse_call(&call, reason).await,
        };
        let Decided { call: seq, record, pending, leaf } = decided;
        if matches!(record.body, Body::Denial(_) | Body::Waiting(_)) {
            self.0.refusals.denied(&call);
        }
        let committed = match pending.await {
            Ok(committed) => committed,
            Err(error) => {
                self.told(Event::AppendFailed { call: seq, surely_absent: is_surely_absent(&error) });
                return unrecorded(why_unwritten(&error));
            }
        };
        sealer.decided();
        self.told(Event::Appended {
            call: seq,
            leaf: LeafIndex(committed.index),
            leaf_hash: Digest(*committed.leaf_hash.as_bytes()),
        });
        let Body::Intent(attempt) = record.body else {
            return self.stopped_short(record, leaf, committed);
        };
        let intent = match self.obliged(&attempt, (committed.index, epoch), &call).await {
            Ok(Some(cosigned)) => ReceiptProof { role: Role::Intent, leaf, proof: cosigned },
            Ok(None) => proof(Role::Intent, leaf, committed),
            Err(reason) => {
                let intent = proof(Role::Intent, leaf, committed);
                return self.not_started(seq, (slot, intent, &sealer), reason).await;
            }
        };
        let terms = terms(&attempt);
        let permit = Permit::mint(Minting {
            principal: attempt.principal.clone(),
            upstream: attempt.upstream.clone(),
            credential: self.catalog().credential(&attempt.upstream),
            intent: LeafIndex(intent.proof.index),
            epoch,
            switch: self.switch().clone(),
            cancel: call.cancel.clone(),
            terms,
        });
        let begun = self.clock().monotonic_ms();
        let executed = withheld(terms, executor.execute(permit).await);
        let duration_ms = self.clock().monotonic_ms().saturating_sub(begun);
        self.settle(seq, (slot, intent, &sealer), executed, duration_ms).await
    }

    /// The action that a call stands for, with what the policy in force finds in its texts.
    fn framed(&self, call: &Call) -> Result<Framed, Reason> {
        let missing = || Reason::because(ReasonCode::Internal, "the policy in force is not loaded");
        let policy = self.policy().ok_or_else(missing)?;
        self.catalog().action(call, &self.0.digest_key, policy.as_ref())
    }

    /// Refuses every call where its refusal could not or must not come on record.
    fn admit(&self) -> Result<(), Reason> {
        if self.0.stalled.is_any() {
            return Err(Reason::because(ReasonCode::LedgerUnavailable, STALLED));
        }
        // A log that is known to be set back or forked must not grow by new calls.
        self.0.witnesses.admit()
    }

    /// Sees to it that what the verdict demands before the effect holds. A cosigned proof of the intent comes back where
    /// there is one; nothing comes back where a kill or the caller ended the wait, for then the permit refuses to begin.
    async fn obliged(
        &self,
        attempt: &Attempt,
        (leaf, epoch): (u64, u64),
        call: &Call,
    ) -> Result<Option<TlogProof>, Reason> {
        // A witness may have spoken since the call came in.
        self.0.witnesses.admit()?;
        let Verdict::Modify { obligations } = &attempt.verdict else {
            return Ok(None);
        };
        if let Some(word) = obligations.iter().find_map(unenforced) {
            return Err(Reason::because(
                ReasonCode::Unsupported,
                &format!("the obligation `{word}` cannot be enforced here"),
            ));
        }
        if !obligations.contains(&Obligation::Witness) {
            return Ok(None);
        }
        let witnessed = tokio::select! {
            biased;
            () = self.switch().killed(&attempt.principal, epoch) => return Ok(None),
            () = call.cancel.cancelled() => return Ok(None),
            witnessed = self.0.witnesses.witnessed(leaf) => witnessed,
        };
        witnessed?;
        // The cosignature is there; a proof that cannot be made now is only not in this receipt.
        Ok(self.ledger().prove_cosigned(leaf).ok().flatten())
    }

    /// Records that nothing began, gives back what was held, and denies.
    async fn not_started<R>(&self, call: Seq, recorded: (Slot, ReceiptProof, &Sealer), reason: Reason) -> Answer<R> {
        let note = reason.detail.clone().unwrap_or_else(|| reason.code.sentence().to_owned());
        let executed: Executed<R> = Executed {
            status: Status::NotStarted,
            result: Vec::new(),
            rows: None,
            bytes_sent: 0,
            cost_microusd: None,
            undo: None,
            note: Some(note),
            redacted: false,
            reply: None,
        };
        match self.settle(call, recorded, executed, 0).await {
            Answer::Ran { receipt, .. } => Answer::Denied { reasons: vec![reason], receipt },
            other => other,
        }
    }

    /// Reserve, evaluate outside the lock, decide; the record is enqueued under the lock, in the kernel's order.
    async fn decide(&self, call: &Call, action: Action, sealer: &Sealer) -> Result<Decided, Reason> {
        let mut salts = self.salts()?;
        if let Some(salt) = self.continued_salt(call) {
            salts.digest = salt;
        }
        let proposed = Event::Proposed { caller: call.caller.clone(), action: Box::new(action), salts };
        let Step { mut evaluate, mut decision, others, .. } = self.step_sealing(proposed, Some(sealer));
        // What ran out of time was swept by the same step. Before anybody is answered: nothing more may be proposed if it
        // could not be written.
        self.stand_by(others).await;
        // Once, and once more for each change of policy that comes in between.
        while let Some((seq, policy, request)) = evaluate {
            let evaluation = self.evaluate(policy, request).await;
            let step = self.step_sealing(Event::Evaluated { call: seq, evaluation }, Some(sealer));
            self.stand_by(step.others).await;
            (evaluate, decision) = (step.evaluate, step.decision);
        }
        let (call, record, leaf, pending) =
            decision.ok_or_else(|| Reason::because(ReasonCode::Internal, "the kernel gave no decision"))?;
        Ok(Decided { call, record, pending, leaf })
    }

    /// Asks the policy engine within a bound: a late answer is a denial. One that might hang has a thread of its own; for
    /// one that cannot, a thread costs more than the answer.
    async fn evaluate(&self, policy: Digest, request: EvaluationRequest) -> Evaluation {
        let Some(policy) = self.0.policies.of(&policy) else {
            return missing(&policy);
        };
        let late = || Evaluation { timed_out: true, ..Evaluation::unanswered([]) };
        let failed = || Evaluation::unanswered(["the policy engine failed".to_owned()]);
        if policy.is_bounded() {
            let begun = self.clock().monotonic_ms();
            let answered = catch_unwind(AssertUnwindSafe(|| policy.evaluate(&request)));
            let took_ms = self.clock().monotonic_ms().saturating_sub(begun);
            return if took_ms > self.evaluation_ms() { late() } else { answered.unwrap_or_else(|_| failed()) };
        }
        let task = tokio::task::spawn_blocking(move || policy.evaluate(&request));
        match tokio::time::timeout(Duration::from_millis(self.evaluation_ms()), task).await {
            Ok(answered) => answered.unwrap_or_else(|_| failed()),
            Err(_) => late(),
        }
    }

    /// The answer to a call whose record is no intent.
    fn stopped_short<R>(&self, record: Record, leaf: Vec<u8>, committed: Committed) -> Answer<R> {
        let receipt = self.receipt(vec![proof(Role::Decision, leaf, committed)]);
        match record.body {
            Body::Proposal(proposal) => Answer::Parked {
                gates: gate_names(&proposal.attempt),
                ticket: match proposal.attempt.ticket {
                    Some(ticket) => ticket,
                    None => return denied(ReasonCode::Internal, Some(receipt)),
                },
                expires: proposal.expires,
                repeated: false,
                receipt,
            },
            Body::Waiting(attempt) => match attempt.ticket.clone() {
                Some(ticket) => Answer::Parked {
                    gates: gate_names(&attempt),
                    expires: self.proposal_expires(&ticket),
                    ticket,
                    repeated: true,
                    receipt,
                },
                None => denied(ReasonCode::Internal, Some(receipt)),
            },
            Body::Denial(attempt) => Answer::Denied { reasons: attempt.reasons, receipt: Some(receipt) },
            _ => denied(ReasonCode::Internal, Some(receipt)),
        }
    }

    /// Records how it ended, settles the reservation, and makes the receipt.
    async fn settle<R>(
        &self,
        call: Seq,
        (slot, intent, sealer): (Slot, ReceiptProof, &Sealer),
        executed: Executed<R>,
        duration_ms: u64,
    ) -> Answer<R> {
        let salt = self.entropy().bytes().map(Salt);
        let result =
            salt.as_ref().filter(|_| !executed.result.is_empty()).map(|salt| Commitment::to(salt, &executed.result));
        // Without randomness a handle is not committed to, and so not kept: an unsalted one could be guessed.
        let undo = executed.undo.and_then(|handle| Some(UndoPayload { salt: Salt(self.entropy().bytes()?), handle }));
        let committed = undo.as_ref().map(|undo| Commitment::to(&undo.salt, &undo.handle));
        let payload = salt.map(|result_salt| OutcomePayload { result_salt, undo });
        let step = self.step_outcome(
            Event::Ended {
                call,
                status: executed.status,
                result,
                rows: executed.rows,
                bytes_sent: Bytes(executed.bytes_sent),
                duration_ms,
                // It may quote the upstream, which may quote the arguments.
                note: executed.note.as_deref().map(|note| cleaned(note).into_owned()),
                cost_microusd: executed.cost_microusd,
                undo: committed,
            },
            slot,
            (payload.as_ref(), sealer),
        );
        let receipt = match step {
            Some((leaf, pending)) => match pending.await {
                Ok(committed) => Some(self.receipt(vec![intent, proof(Role::Outcome, leaf, committed)])),
                // It has happened and is not on record, for nobody signs: it is written as soon as somebody does.
                Err(AppendError::Signer(_)) => {
                    self.0.stalled.hold(leaf);
                    None
                }
                Err(_) => None,
            },
            None => None,
        };
        Answer::Ran { status: executed.status, reply: executed.reply, note: executed.note, receipt }
    }

    fn salts(&self) -> Result<Salts, Reason> {
        let bytes =
            || self.entropy().bytes().ok_or_else(|| Reason::because(ReasonCode::Internal, "no randomness to be had"));
        Ok(Salts { digest: Salt(bytes()?), arguments: Salt(bytes()?), nonce: Digest(bytes()?) })
    }

    pub(crate) fn receipt(&self, proofs: Vec<ReceiptProof>) -> Receipt {
        Receipt { log: self.ledger().verifier_key().name().to_owned(), proofs }
    }
}

/// The word of an obligation that no point of this version can keep. A call under it never begins.
#[must_use]
pub const fn unenforced(obligation: &Obligation) -> Option<&'static str> {
    match obligation {
        Obligation::MaxRows { .. } => Some("max_rows"),
        Obligation::Undo => Some("undo"),
        Obligation::Sandbox => Some("sandbox"),
        // Telling somebody holds nothing up: that it is owed stands in the record.
        Obligation::Timeout { .. } | Obligation::Witness | Obligation::Redact | Obligation::Notify { .. } => None,
    }
}

/// What the effect of an intent is under. Of several times the shortest counts; it begins now.
fn terms(attempt: &Attempt) -> Terms {
    let Verdict::Modify { obligations } = &attempt.verdict else {
        return Terms::default();
    };
    let limits = obligations.iter().filter_map(|obligation| match obligation {
        Obligation::Timeout { ms } => Some(Duration::from_millis(*ms)),
        _ => None,
    });
    // A time that no clock can hold is no limit of this process; the point has one of its own.
    let deadline = limits.min().and_then(|limit| tokio::time::Instant::now().checked_add(limit));
    Terms { deadline, redacts: obligations.contains(&Obligation::Redact) }
}

/// A reply that should have been redacted, and of which nobody says that it was, goes to nobody.
fn withheld<R>(terms: Terms, executed: Executed<R>) -> Executed<R> {
    if !terms.redacts {
        return executed;
    }
    if !executed.redacted && executed.reply.is_some() {
        let note = Some("the reply could not be redacted, so it is withheld".to_owned());
        return Executed { reply: None, note, ..executed };
    }
    // A note may quote what the reply may not.
    Executed { note: executed.note.as_deref().map(|note| cleaned(note).into_owned()), ..executed }
}

fn proof(role: Role, leaf: Vec<u8>, committed: Committed) -> ReceiptProof {
    ReceiptProof { role, leaf, proof: committed.proof }
}

fn gate_names(attempt: &Attempt) -> Vec<String> {
    match &attempt.verdict {
        countersign_model::Verdict::RequireApproval { gates } => gates.iter().map(|gate| gate.name.clone()).collect(),
        _ => Vec::new(),
    }
}

fn denied<R>(code: ReasonCode, receipt: Option<Receipt>) -> Answer<R> {
    Answer::Denied { reasons: vec![Reason::plain(code)], receipt }
}

fn unrecorded<R>(reason: Reason) -> Answer<R> {
    Answer::Denied { reasons: vec![reason], receipt: None }
}

/// Whether the ledger refused the record before it touched the disk.
const fn is_surely_absent(error: &AppendError) -> bool {
    use AppendError::{DiskFull, Overloaded, ReadOnly, Signer, Size};
    matches!(error, Overloaded { .. } | DiskFull { .. } | ReadOnly { .. } | Size { .. } | Signer(_))
}

/// Why nothing could be recorded, as a reason.
pub(crate) fn why_unwritten(error: &AppendError) -> Reason {
    let code = match error {
        AppendError::Overloaded { .. } => ReasonCode::Overloaded,
        AppendError::DiskFull { .. } => ReasonCode::DiskFull,
        AppendError::Size { .. } => ReasonCode::RecordTooLong,
        AppendError::Signer(_) => ReasonCode::SignerUnavailable,
        _ => ReasonCode::LedgerUnavailable,
    };
    Reason::because(code, &error.to_string())
}
