//! Pruning: from a human's order to a log that begins later, and what a process that ended in between left undone.
//!
//! In order: it is asked whether anything speaks against it, the records that would go are folded once more, the order is
//! recorded, the fold is written as the log's base, a record commits to it, and only then anything is deleted. That
//! record is the point of no return: from there on the deletion is finished, at the next start if need be. A base without
//! its record counts for nothing and is removed. It must not know how files lie on disk. It does not cover who may
//! order it, and what of the state forbids it (`kernel`).

use std::collections::BTreeMap;
use std::io;

use countersign_kernel::image::image_digest;
use countersign_kernel::{Begin, Event, Kernel};
use countersign_ledger::{Follower, Ledger, StoredRecord, VisitError};
use countersign_model::action::Point;
use countersign_model::command::Signed;
use countersign_model::id::Environment;
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest, Reason, ReasonCode, Record, Seq, TimeMs};

use crate::Gate;
use crate::admin::Carried;
use crate::snapshots::{folded, take_in};

/// Up to where somebody wants to prune.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// Below this record.
    Index(LeafIndex),
    /// As long as records are older than this many milliseconds.
    Age(u64),
}

/// What could be ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where the log begins now.
    pub begins: u64,
    /// The first record of a segment, up to which it could be pruned; or why there is none.
    pub minimum: Result<u64, String>,
}

/// What is no longer kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The first record that is kept.
    pub minimum: u64,
    /// How many records went.
    pub records: u64,
    /// The time of the newest of them.
    pub newest: TimeMs,
}

/// The records that are to go, folded.
struct Fold {
    begins: u64,
    follower: Follower,
    image: Vec<u8>,
    state: Digest,
    carried: Vec<StoredRecord>,
    newest: TimeMs,
}

impl Gate {
    /// What could be ordered to reach `below`, rounded down to what can be deleted. Says nothing of whether it may.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn prunable(&self, below: Below) -> Result<Plan, Reason> {
        let gate = self.clone();
        self.blocking(move || gate.plan(below)).await
    }

    fn plan(&self, below: Below) -> Result<Plan, String> {
        let cuts = self.ledger().cuts().map_err(|error| error.to_string())?;
        let begins = self.ledger().minimum();
        let below = match below {
            Below::Index(LeafIndex(index)) => index,
            Below::Age(ms) => self.first_after(TimeMs(self.now().0.saturating_sub(ms)))?,
        };
        let later = || cuts.iter().copied().filter(|cut| *cut > begins);
        let minimum = later().filter(|cut| *cut <= below).max();
        let why = || match later().min() {
            Some(next) => format!(
                "only whole segments go, and the first one, of records {begins} to {next}, does not lie below record {below}"
            ),
            None => format!("only whole segments go, and all records from {begins} on lie in the one that is written"),
        };
        Ok(Plan { begins, minimum: minimum.ok_or_else(why) })
    }

    /// The first record that is not older than `cutoff`.
    fn first_after(&self, cutoff: TimeMs) -> Result<u64, String> {
        let mut next = self.ledger().minimum();
        for stored in self.ledger().tail(next) {
            let stored = stored.map_err(|error| error.to_string())?;
            let record = Record::from_leaf(&stored.leaf).map_err(|error| unread(stored.index, &error))?;
            if record.at >= cutoff {
                break;
            }
            next = stored.index.saturating_add(1);
        }
        Ok(next)
    }

    /// Carries an order to prune out, in a task of its own: whoever ordered it may go away.
    pub(crate) async fn prune(&self, signed: Signed, minimum: LeafIndex) -> Result<Carried, Reason> {
        let gate = self.clone();
        let task = tokio::spawn(async move { gate.prune_here(signed, minimum).await });
        task.await.unwrap_or_else(|_| Err(Reason::because(ReasonCode::Internal, "the pruning failed under way")))
    }

    async fn prune_here(&self, signed: Signed, minimum: LeafIndex) -> Result<Carried, Reason> {
        // Neither a hold nor an erasure nor a change of the key comes in the middle.
        let _turn = self.0.erasing.lock().await;
        let _key = self.0.next_key.turn.lock().await;
        let counts = self.kernel().would_count(&signed);
        let gate = self.clone();
        let fold = match counts.and_then(|()| self.is_cut(minimum)) {
            Ok(()) => self.blocking(move || gate.fold_below(minimum)).await?,
            Err(why) => Err(why),
        };
        let fold = match fold {
            Ok(fold) => fold,
            Err(why) => {
                let reason = Reason::because(ReasonCode::OrderRefused, &why);
                self.refuse(Point::Admin, None, reason.clone()).await;
                return Err(reason);
            }
        };
        let event = Event::Commanded { signed, session: None };
        let committed = self.ordered(event, |body| matches!(body, Body::Commanded(_))).await?;
        let cut = self.finish_prune(fold, LeafIndex(committed.index)).await?;
        Ok(Carried { leaf: committed.index, token: None, session: None, erased: None, pruned: Some(cut) })
    }

    async fn finish_prune(&self, fold: Fold, command: LeafIndex) -> Result<Cut, Reason> {
        let (minimum, state, newest) = (fold.follower.size(), fold.state, fold.newest);
        let cut = Cut { minimum, records: minimum.saturating_sub(fold.begins), newest };
        self.blocking(move || {
            let Fold { mut follower, image, carried, .. } = fold;
            let saved = follower.save_base(&image, &carried);
            saved.map_err(|error| {
                format!("the pruning is ordered on record at {command} and nothing was deleted: {error}")
            })
        })
        .await?;
        let event = Event::Pruned { minimum: LeafIndex(minimum), newest, command, state };
        self.ordered(event, |body| matches!(body, Body::Pruned(_))).await?;
        let gate = self.clone();
        self.blocking(move || {
            let pruned = gate.followed_past(minimum, || gate.ledger().prune(minimum));
            pruned.map_err(|error| format!("the pruning is on record, and the next start finishes it: {error}"))
        })
        .await?;
        Ok(cut)
    }

    /// Why the log cannot begin with `minimum`, besides what records and state say.
    fn is_cut(&self, minimum: LeafIndex) -> Result<(), String> {
        let LeafIndex(minimum) = minimum;
        let cuts = self.ledger().cuts().map_err(|error| error.to_string())?;
        if !cuts.contains(&minimum) {
            return Err(format!("no segment begins with record `{minimum}`; only whole segments go"));
        }
        let published = self.ledger().published();
        if published < minimum {
            return Err(format!("the public folder stands at `{published}` records; try again when it has caught up"));
        }
        let standings = self.0.witnesses.standings();
        let behind = standings.iter().find(|standing| standing.cosigned < minimum);
        behind.map_or(Ok(()), |standing| {
            Err(format!(
                "the witness `{}` has cosigned `{}` records; nothing could be proved to it from there on",
                standing.name, standing.cosigned
            ))
        })
    }

    /// Folds exactly the records below `minimum`; the inner error says why one of them must stay.
    fn fold_below(&self, minimum: LeafIndex) -> Result<Result<Fold, String>, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let settings = self.kernel().settings().clone();
        let (mut follower, base) = self.ledger().refollow().map_err(|error| said(&error))?;
        let begins = follower.size();
        let kept = base.as_ref().map_or(&[][..], |base| &base.carried);
        let find = |leaf: LeafIndex| kept.iter().find(|stored| stored.index == leaf.0);
        let mut kernel = match &base {
            None => Kernel::new(settings),
            Some(base) => {
                let mut read = |leaf| folded(self.vault(), find(leaf)?.as_record()).ok();
                Kernel::restore_base(settings, &base.state, &mut read).map_err(|error| said(&error))?
            }
        };
        let mut ages = Ages { newest: TimeMs(0), open: BTreeMap::new(), kept: None };
        let mut visit = |stored: countersign_ledger::Record<'_>| -> Result<(), VisitError> {
            let leaf = folded(self.vault(), stored)?;
            ages.take(self, leaf.leaf, &leaf.record);
            take_in(&mut kernel, leaf);
            Ok(())
        };
        follower.advance(minimum.0.saturating_sub(begins), &mut visit).map_err(|error| said(&error))?;
        if let Some(why) = ages.kept {
            return Ok(Err(why));
        }
        if follower.size() != minimum.0 {
            return Err(format!("the records below `{minimum}` end in the middle of a commit"));
        }
        let image = kernel.image().map_err(|error| said(&error))?;
        let carry = |leaf: LeafIndex| find(leaf).cloned().map_or_else(|| self.ledger().record(leaf.0), Ok);
        let pointed = Kernel::leaves_of_image(&image).map_err(|error| said(&error))?;
        let carried = pointed.into_keys().map(carry).collect::<Result<Vec<_>, _>>().map_err(|error| said(&error))?;
        let state = image_digest(&image);
        Ok(Ok(Fold { begins, follower, image, state, carried, newest: ages.newest }))
    }

    /// Does what may block on a thread where that is fine.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, Reason> {
        let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()));
        done.map_err(|why| Reason::because(ReasonCode::LedgerUnavailable, &why))
    }
}

/// How old records are, and whether one of them must stay.
struct Ages {
    newest: TimeMs,
    /// Where calls belong whose outcome was not read yet.
    open: BTreeMap<Seq, Environment>,
    kept: Option<String>,
}

impl Ages {
    fn take(&mut self, gate: &Gate, leaf: LeafIndex, record: &Record) {
        self.newest = self.newest.max(record.at);
        let of_call = record.body.attempt().map(|attempt| attempt.environment.clone());
        let environment = match &record.body {
            Body::Outcome(outcome) => self.open.remove(&outcome.action),
            _ => of_call,
        };
        if self.kept.is_none() {
            let why = gate.retention().forbids_pruning(environment.as_ref(), record.at, gate.now());
            self.kept = why.map(|why| format!("record `{leaf}` must be kept: {why}"));
        }
        if let (Body::Intent(attempt), Some(environment)) = (&record.body, environment) {
            self.open.insert(attempt.reserved_at, environment);
        }
    }
}

fn unread(index: u64, error: &dyn std::fmt::Display) -> String {
    format!("record `{index}`: {error}")
}

/// What a start has to do so that the log begins where its records say.
pub(crate) enum Pruning {
    /// Delete what lies before this record, if anything does.
    Finish(u64),
    /// Remove bases that no record commits to; what the log begins with stays.
    Forget(Option<u64>),
}

impl Pruning {
    /// What a process that ended left behind.
    ///
    /// # Errors
    /// Where records are gone that no record says were pruned, or what they were pruned to is not what is there.
    pub(crate) fn left(kernel: &Kernel, ledger: &Ledger) -> Result<Self, String> {
        let first = ledger.cuts().map_err(|error| error.to_string())?.first().copied().unwrap_or(0);
        let Some(Begin { minimum: LeafIndex(minimum), state }) = kernel.pruned() else {
            return match first {
                0 => Ok(Self::Forget(None)),
                _ => Err(format!("the log begins with record `{first}`, and no record of it says that it was pruned")),
            };
        };
        let wrong = match ledger.base_at(minimum) {
            Ok(base) if image_digest(&base.state) == state && first <= minimum => return Ok(Self::Finish(minimum)),
            Ok(_) if first > minimum => format!("the log begins with record `{first}`"),
            Ok(_) => "it is not the one that the record commits to".to_owned(),
            Err(why) => why,
        };
        if first >= minimum {
            return Err(format!(
                "the log was pruned to begin with record `{minimum}`, and its base does not hold: {wrong}"
            ));
        }
        tracing::error!(
            minimum,
            reason = wrong,
            "the log was to be pruned; nothing is deleted, its base does not hold"
        );
        Ok(Self::Forget((first > 0).then_some(first)))
    }

    pub(crate) fn finish(&self, ledger: &Ledger) -> io::Result<()> {
        match self {
            Self::Finish(minimum) => ledger.prune(*minimum),
            Self::Forget(kept) => ledger.forget_bases(*kept),
        }
    }
}
