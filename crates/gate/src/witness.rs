//! Witnesses: others to whom the log's newest checkpoint is shown, and who vouch that it only ever grew.
//!
//! One task for each witness offers the newest checkpoint, off the path of acknowledgements; what comes in between is
//! left out. A call that policy obliges to be witnessed waits here, after its intent is durable and before its permit.
//! A witness that has seen a larger log or another one refuses the start (invariant 12). One that could not be asked then
//! is asked until it answers, and if it says so now, nothing begins any more before the next start, whatever another
//! witness says. How a witness is reached is a [`Courier`]'s affair: this module must not know sockets. It does not cover
//! quorums above one.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_ledger::{Ledger, ReadError};
use countersign_model::{Reason, ReasonCode};
use countersign_receipt::witness::{self, SIZE_MEDIA_TYPE};
use countersign_receipt::{Note, WitnessKey};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::open::GateError;

#[cfg(test)]
mod tests;

/// How often a quiet witness is shown the newest checkpoint, where nobody waits for it.
const LAZY: Duration = Duration::from_secs(1);
/// How long after a failure a witness is asked again, where nobody waits for it.
const RETRY: Duration = Duration::from_secs(2);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// An honest exchange takes two questions: where do you stand, and the proof from there.
const QUESTIONS_MAX: usize = 3;

/// What a courier brings back.
pub type Replied<'a> = Pin<Box<dyn Future<Output = Result<Reply, String>> + Send + 'a>>;

/// A way to one witness.
pub trait Courier: Send + Sync + 'static {
    /// Posts `body` to the witness's `add-checkpoint`. An error says why there is no answer.
    fn add_checkpoint(&self, body: String) -> Replied<'_>;
}

/// A witness's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The media type, where there is one.
    pub media_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// One witness of the configuration.
pub struct WitnessPort {
    /// Its name in the configuration.
    pub name: String,
    /// Its public key.
    pub key: WitnessKey,
    /// The way to it.
    pub courier: Arc<dyn Courier>,
}

/// The witnesses of a gate, and how long a call may wait for one of them.
#[derive(Default)]
pub struct Witnessing {
    /// All of them; none is fine as long as no policy demands one.
    pub ports: Vec<WitnessPort>,
    /// How long a call waits for a cosignature, in milliseconds.
    pub timeout_ms: u64,
}

/// Why a witness did not cosign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It has cosigned more of this log than there is.
    #[error("rollback: it has seen `{seen}` records of this log, which has only `{found}`")]
    Rollback {
        /// What it has seen.
        seen: u64,
        /// What there is.
        found: u64,
    },
    /// It has cosigned another history of this log.
    #[error("split view: it has seen another log of this name and key, up to `{size}` records")]
    SplitView {
        /// The size at which the two part at the latest.
        size: u64,
    },
    /// It forgot what it cosigned.
    #[error(
        "it was rolled back itself: it cosigned `{cosigned}` records and knows only `{knows}`; it proves nothing any more"
    )]
    Forgot {
        /// What we have its cosignature for.
        cosigned: u64,
        /// What it knows.
        knows: u64,
    },
    /// It does not know this log or its key.
    #[error(
        "it refuses this log (HTTP {status}): add the log's verifier key to it, or its `log.keys` where the key was changed"
    )]
    Unknown {
        /// The status.
        status: u16,
    },
    /// It was not reached, or its answer is none.
    #[error("{0}")]
    Unreached(String),
}

impl Trouble {
    /// Whether the log itself is not what the witness has seen: no reason to wait, and every reason to stop.
    #[must_use]
    pub const fn is_about_the_log(&self) -> bool {
        matches!(self, Self::Rollback { .. } | Self::SplitView { .. })
    }
}

/// What holds of one witness, for people and monitors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// The size that it cosigned last.
    pub cosigned: u64,
    /// Why it did not cosign the last time, if it did not.
    pub trouble: Option<Trouble>,
}

struct Port {
    name: String,
    key: WitnessKey,
    courier: Arc<dyn Courier>,
    /// Somebody waits.
    hurry: Notify,
    standing: Mutex<(u64, Option<Trouble>)>,
}

/// The running side of [`Witnessing`].
pub(crate) struct Witnesses {
    ports: Vec<Arc<Port>>,
    /// The largest size that any of them cosigned.
    newest: watch::Sender<u64>,
    /// What a witness said that has seen another log; it stays until the next start.
    contradiction: watch::Sender<Option<String>>,
    timeout: Duration,
    stop: CancellationToken,
}

impl Witnesses {
    pub(crate) fn new(witnessing: Witnessing, ledger: &Ledger) -> Self {
        let earlier = ledger.cosigned().map(|cosigned| (cosigned.head.size, Note::parse(&cosigned.note).ok()));
        let ports = witnessing.ports.into_iter().map(|WitnessPort { name, key, courier }| {
            let known = earlier.as_ref().and_then(|(size, note)| note.as_ref().map(|note| (*size, note)));
            let cosigned = known.filter(|(_, note)| key.verify(note).is_ok()).map_or(0, |(size, _)| size);
            let standing = Mutex::new((cosigned, None));
            Arc::new(Port { name, key, courier, hurry: Notify::new(), standing })
        });
        let ports: Vec<_> = ports.collect();
        let newest = ports.iter().map(|port| port.cosigned()).max().unwrap_or(0);
        Self {
            ports,
            newest: watch::Sender::new(newest),
            contradiction: watch::Sender::new(None),
            timeout: Duration::from_millis(witnessing.timeout_ms),
            stop: CancellationToken::new(),
        }
    }

    /// Asks every witness before anything is recorded: one that has seen more, or something else, refuses the start.
    pub(crate) fn check(&self, ledger: &Ledger) -> Result<(), GateError> {
        if self.ports.is_empty() {
            return Ok(());
        }
        let runtime = tokio::runtime::Handle::current();
        for port in &self.ports {
            match runtime.block_on(port.offer(ledger)) {
                Ok(size) => self.cosigned(size),
                Err(trouble) if trouble.is_about_the_log() => {
                    return Err(GateError::Witness { name: port.name.clone(), trouble });
                }
                Err(trouble) => {
                    tracing::warn!(witness = port.name, %trouble, "the witness was not asked about this log")
                }
            }
        }
        Ok(())
    }

    /// Starts offering. Needs a runtime where there is a witness.
    pub(crate) fn start(self: &Arc<Self>, ledger: &Ledger) {
        for port in &self.ports {
            let (witnesses, port, ledger) = (Arc::clone(self), Arc::clone(port), ledger.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = witnesses.stop.cancelled() => {}
                    () = witnesses.contradicted() => {}
                    () = witnesses.serve(&port, &ledger) => {}
                }
            });
        }
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    async fn serve(&self, port: &Port, ledger: &Ledger) {
        let mut sizes = ledger.sizes();
        loop {
            let before = port.trouble();
            if before.is_none() {
                while port.cosigned() >= *sizes.borrow_and_update() {
                    if sizes.changed().await.is_err() {
                        return;
                    }
                }
            }
            port.hurried(if before.is_none() { LAZY } else { RETRY }).await;
            match port.offer(ledger).await {
                Ok(size) => self.cosigned(size),
                Err(trouble) if trouble.is_about_the_log() => return self.contradict(port, &trouble),
                Err(trouble) if before.as_ref() == Some(&trouble) => {}
                Err(trouble) => tracing::warn!(witness = port.name, %trouble, "not cosigned"),
            }
        }
    }

    /// From now on nothing begins, and no witness is asked to vouch for this log.
    fn contradict(&self, port: &Port, trouble: &Trouble) {
        let name = &port.name;
        tracing::error!(witness = name, %trouble, "a witness has seen another log: no call runs until the next start");
        self.contradiction.send_if_modified(|said| {
            let is_first = said.is_none();
            if is_first {
                *said = Some(format!("witness `{name}`: {trouble}"));
            }
            is_first
        });
    }

    /// What a witness said that has seen another log than this one, since the start.
    pub(crate) fn contradiction(&self) -> Option<String> {
        self.contradiction.borrow().clone()
    }

    /// Resolves when a witness has seen another log than this one.
    async fn contradicted(&self) {
        // The sender is ours: it cannot be gone.
        let _ = self.contradiction.subscribe().wait_for(Option::is_some).await;
    }

    /// Whether anything may begin on this log, as far as witnesses go.
    ///
    /// # Errors
    /// The reason to deny.
    pub(crate) fn admit(&self) -> Result<(), Reason> {
        match self.contradiction() {
            Some(why) => Err(Reason::because(ReasonCode::LogContradicted, &why)),
            None => Ok(()),
        }
    }

    fn cosigned(&self, size: u64) {
        self.newest.send_if_modified(|newest| {
            let grows = size > *newest;
            *newest = size.max(*newest);
            grows
        });
    }

    /// Resolves once a witness has cosigned a tree with the record at `leaf` in it, and none has seen another log.
    ///
    /// # Errors
    /// Why none did in time, naming every witness, or what one of them has seen.
    pub(crate) async fn witnessed(&self, leaf: u64) -> Result<(), Reason> {
        let unavailable = |why: &str| Reason::because(ReasonCode::WitnessUnavailable, why);
        if self.ports.is_empty() {
            return Err(unavailable("no witness is configured"));
        }
        let mut newest = self.newest.subscribe();
        self.ports.iter().for_each(|port| port.hurry.notify_one());
        let came = newest.wait_for(|size| *size > leaf);
        let came = tokio::select! {
            () = self.contradicted() => return self.admit(),
            came = tokio::time::timeout(self.timeout, came) => matches!(came, Ok(Ok(_))),
        };
        if came {
            return self.admit();
        }
        let standings = self.standings().into_iter().map(|Standing { name, trouble, .. }| {
            format!("{name}: {}", trouble.map_or_else(|| "no answer yet".to_owned(), |t| t.to_string()))
        });
        let said = standings.collect::<Vec<_>>().join("; ");
        Err(unavailable(&format!("not cosigned within {} ms: {said}", self.timeout.as_millis())))
    }

    pub(crate) fn standings(&self) -> Vec<Standing> {
        let ports = self.ports.iter();
        ports
            .map(|port| Standing { name: port.name.clone(), cosigned: port.cosigned(), trouble: port.trouble() })
            .collect()
    }
}

impl Port {
    fn cosigned(&self) -> u64 {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn trouble(&self) -> Option<Trouble> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    async fn hurried(&self, at_most: Duration) {
        // Whether somebody is in a hurry or the time is over: either way it is time.
        let _ = tokio::time::timeout(at_most, self.hurry.notified()).await;
    }

    /// Shows the newest checkpoint; the size that was cosigned.
    async fn offer(&self, ledger: &Ledger) -> Result<u64, Trouble> {
        let offered = self.exchange(ledger).await;
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match &offered {
            Ok(size) => *standing = (*size, None),
            Err(trouble) => standing.1 = Some(trouble.clone()),
        }
        offered
    }

    async fn exchange(&self, ledger: &Ledger) -> Result<u64, Trouble> {
        let mut old = self.cosigned();
        for _ in 0..QUESTIONS_MAX {
            let proof = ledger.consistency(old).map_err(|error| match error {
                ReadError::OutOfRange { index, size } => Trouble::Rollback { seen: index, found: size },
                other => Trouble::Unreached(other.to_string()),
            })?;
            let body = witness::submission(old, &proof.path, &proof.checkpoint);
            let reply = tokio::time::timeout(ANSWER, self.courier.add_checkpoint(body)).await;
            let reply = reply
                .unwrap_or_else(|_| Err(format!("no answer within {} s", ANSWER.as_secs())))
                .map_err(Trouble::Unreached)?;
            match reply.status {
                200 => return self.accept(ledger, &proof, &reply),
                409 => old = self.elsewhere(ledger, old, &reply)?,
                // Our proof was checked here against our own tree: it is the tree that differs.
                422 => return Err(Trouble::SplitView { size: old }),
                status @ (403 | 404) => return Err(Trouble::Unknown { status }),
                status => return Err(Trouble::Unreached(format!("it answered with HTTP status {status}"))),
            }
        }
        Err(Trouble::Unreached("it names another size each time that it is asked".to_owned()))
    }

    fn accept(&self, ledger: &Ledger, proof: &countersign_ledger::Consistency, reply: &Reply) -> Result<u64, Trouble> {
        let wrong = |why: String| Trouble::Unreached(format!("its answer is no cosignature: {why}"));
        let note = Note::parse(&proof.checkpoint).map_err(|error| wrong(error.to_string()))?;
        let answer = std::str::from_utf8(&reply.body).map_err(|error| wrong(error.to_string()))?;
        let cosigned = self.key.accept(note.text(), answer).map_err(|error| wrong(error.to_string()))?;
        ledger.keep_cosignature(&proof.checkpoint, &cosigned.line);
        Ok(proof.new.size)
    }

    /// Where the witness stands, if that can be true.
    fn elsewhere(&self, ledger: &Ledger, old: u64, reply: &Reply) -> Result<u64, Trouble> {
        let is_size = reply.media_type.as_deref().is_some_and(|found| found.starts_with(SIZE_MEDIA_TYPE));
        let text = std::str::from_utf8(&reply.body).unwrap_or_default();
        let size = text.strip_suffix('\n').and_then(|text| text.parse::<u64>().ok()).filter(|_| is_size);
        let found = ledger.head().size;
        match size {
            // It agrees on the size and not on the tree.
            Some(size) if size == old => Err(Trouble::SplitView { size }),
            Some(size) if size > found => Err(Trouble::Rollback { seen: size, found }),
            Some(size) if size < self.cosigned() => {
                let trouble = Trouble::Forgot { cosigned: self.cosigned(), knows: size };
                tracing::error!(witness = self.name, %trouble, "a witness forgot");
                Err(trouble)
            }
            Some(size) => Ok(size),
            None => Err(Trouble::Unreached("it answered a conflict without a size".to_owned())),
        }
    }
}
