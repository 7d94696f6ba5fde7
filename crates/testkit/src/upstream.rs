//! An upstream in memory that does what the script says: answers, fails, is slow, loses its reply, or misbehaves.
//!
//! It keeps every effect with its bytes, its time and the intent that allowed it, and every single write, so that a
//! test can say what reached the world and when the last byte did. A [`ScriptedCall`] is to it what a point's executor
//! is to a real one: it takes the permit and begins right before the first byte. It must not know what was decided.
//! It does not cover any protocol.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_gate::call::{Execute, Executed};
use countersign_gate::permit::{Cut, Permit};
use countersign_model::record::Status;
use countersign_model::unit::{LeafIndex, Rows};
use tokio::sync::watch;

use crate::disk::FakeDisk;

/// How long a misbehaving upstream waits between two writes.
const DRIP: Duration = Duration::from_millis(1);
/// How long after the stop [`Script::WriteAfterStop`] writes again.
const LATE: Duration = Duration::from_millis(30);

/// What the upstream does with a call.
#[derive(Clone, Debug)]
pub enum Script {
    /// Carries it out and answers.
    Answer,
    /// Carries it out and answers with an error.
    Fail,
    /// Carries it out and answers with an error that quotes what was asked for.
    Quote,
    /// Carries it out and answers with a question.
    Ask,
    /// Carries it out; the answer is lost.
    LoseReply,
    /// Writes half, then waits until it is released or stopped.
    Slow,
    /// Writes a byte every millisecond, whoever tells it to stop, until its transport is cut.
    Stubborn,
    /// A bug: says that it ended when it is stopped, and writes once more.
    WriteAfterStop,
    /// Carries it out, and then the process of the gateway ends.
    Crash(FakeDisk),
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The leaf of the intent that its permit named.
    pub intent: LeafIndex,
    /// What was asked for: the raw arguments.
    pub bytes: Vec<u8>,
    /// When its first byte was written.
    pub begun: Instant,
}

/// One write to the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The leaf of the intent.
    pub intent: LeafIndex,
    /// How many bytes.
    pub count: u64,
    /// When.
    pub at: Instant,
}

struct State {
    script: Script,
    effects: Vec<Effect>,
    writes: Vec<Write>,
}

/// The upstream; clones are the same one.
#[derive(Clone)]
pub struct ScriptedUpstream {
    state: Arc<Mutex<State>>,
    released: watch::Sender<bool>,
}

impl Default for ScriptedUpstream {
    fn default() -> Self {
        let state = State { script: Script::Answer, effects: Vec::new(), writes: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)), released: watch::Sender::new(false) }
    }
}

impl ScriptedUpstream {
    /// An upstream that answers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What it does with calls from now on.
    pub fn plays(&self, script: Script) {
        self.lock().script = script;
        self.released.send_replace(false);
    }

    /// Lets slow calls go on.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    /// Every effect so far, in the order in which they began.
    #[must_use]
    pub fn effects(&self) -> Vec<Effect> {
        self.lock().effects.clone()
    }

    /// Every write so far.
    #[must_use]
    pub fn writes(&self) -> Vec<Write> {
        self.lock().writes.clone()
    }

    /// How many bytes were written so far.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.lock().writes.iter().map(|write| write.count).sum()
    }

    /// How many effects asked for exactly this.
    #[must_use]
    pub fn count_of(&self, bytes: &[u8]) -> usize {
        self.lock().effects.iter().filter(|effect| effect.bytes == bytes).count()
    }

    /// A call of this upstream that waits for its permit.
    #[must_use]
    pub fn call(&self, bytes: &[u8]) -> ScriptedCall {
        ScriptedCall { upstream: self.clone(), bytes: bytes.to_vec(), redacts: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection: what it is given after it was cut goes nowhere.
#[derive(Clone)]
struct Transport {
    upstream: ScriptedUpstream,
    intent: LeafIndex,
    cut: Arc<AtomicBool>,
}

impl Transport {
    /// Writes; gives the bytes that left. The cut is checked under the lock that the write is made under.
    fn write(&self, count: usize) -> u64 {
        let mut state = self.upstream.lock();
        if count == 0 || self.cut.load(Ordering::SeqCst) {
            return 0;
        }
        let count = count as u64;
        state.writes.push(Write { intent: self.intent, count, at: Instant::now() });
        count
    }

    fn cutter(&self) -> Cut {
        let (upstream, cut) = (self.upstream.clone(), self.cut.clone());
        Arc::new(move || {
            let _no_write_under_way = upstream.lock();
            cut.store(true, Ordering::SeqCst);
        })
    }
}

/// One call, as a point's executor would hold it.
pub struct ScriptedCall {
    upstream: ScriptedUpstream,
    bytes: Vec<u8>,
    redacts: bool,
}

impl ScriptedCall {
    /// The same by a point that says that it redacts replies.
    #[must_use]
    pub fn redacting(self) -> Self {
        Self { redacts: true, ..self }
    }
}

impl Execute for ScriptedCall {
    type Reply = Vec<u8>;

    async fn execute(&self, permit: Permit) -> Executed<Vec<u8>> {
        let upstream = &self.upstream;
        let script = upstream.lock().script.clone();
        let transport = Transport { upstream: upstream.clone(), intent: permit.intent(), cut: Arc::default() };
        let (intent, permit_redacts) = (permit.intent(), permit.redacts());
        let effect = match permit.begin(transport.cutter()) {
            Ok(effect) => effect,
            Err(stop) => return ended(Status::NotStarted, 0, Some(stop.as_str())),
        };
        let half = self.bytes.len().div_ceil(2);
        let mut sent = transport.write(half);
        upstream.lock().effects.push(Effect { intent, bytes: self.bytes.clone(), begun: Instant::now() });
        let rest = self.bytes.len().saturating_sub(half);
        match script {
            Script::Slow => {
                let mut released = upstream.released.subscribe();
                tokio::select! {
                    stop = effect.stopped() => return ended(Status::Unknown, sent, Some(stop.as_str())),
                    _ = released.wait_for(|released| *released) => {}
                }
            }
            Script::Stubborn => loop {
                tokio::time::sleep(DRIP).await;
                match transport.write(1) {
                    0 => return ended(Status::Unknown, sent, Some("the transport was cut")),
                    more => sent = sent.saturating_add(more),
                }
            },
            Script::WriteAfterStop => {
                let stop = effect.stopped().await;
                drop(effect);
                tokio::time::sleep(LATE).await;
                sent = sent.saturating_add(transport.write(rest));
                return ended(Status::Unknown, sent, Some(stop.as_str()));
            }
            Script::Answer | Script::Fail | Script::Quote | Script::Ask | Script::LoseReply | Script::Crash(_) => {}
        }
        sent = sent.saturating_add(transport.write(rest));
        match script {
            Script::Fail => ended(Status::Failed, sent, Some("the upstream answered with an error")),
            Script::Quote => ended(Status::Failed, sent, Some(&String::from_utf8_lossy(&self.bytes))),
            Script::Ask => Executed { status: Status::InputRequired, ..done(sent) },
            Script::LoseReply => ended(Status::Unknown, sent, Some("the connection ended before the answer")),
            Script::Crash(disk) => {
                disk.crash();
                done(sent)
            }
            _ => Executed { redacted: self.redacts && permit_redacts, ..done(sent) },
        }
    }
}

fn done(sent: u64) -> Executed<Vec<u8>> {
    Executed {
        result: b"done".to_vec(),
        rows: Some(Rows(1)),
        reply: Some(b"done".to_vec()),
        ..ended(Status::Done, sent, None)
    }
}

fn ended(status: Status, bytes_sent: u64, note: Option<&str>) -> Executed<Vec<u8>> {
    Executed {
        status,
        result: Vec::new(),
        rows: None,
        bytes_sent,
        note: note.map(str::to_owned),
        cost_microusd: None,
        undo: None,
        redacted: false,
        reply: None,
    }
}
