//! MCP over a pair of pipes: one writer under a lock, one reader, and the kill discipline between them.
//!
//! A call takes the writer's lock first, then begins its effect, then writes: nothing stands between the epoch check
//! and the first byte. The effect lives until the answer came or the call was stopped. A kill while the line is
//! partly written kills the peer, for the pipe is corrupt; so does whoever goes away half-way. A client that cancels then
//! has its line finished first: the process is not its alone. A stop after the line sends one bounded
//! `notifications/cancelled`, before the effect is dropped, and nothing after. Late answers are dropped.
//!
//! It must not know processes: whoever opens a pipe brings the means to kill its other end. Exchanges that are not
//! actions (see `mcp`) use the same lock without an effect.

#[cfg(test)]
mod tests;

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use countersign_gate::call::Executed;
use countersign_gate::permit::Stop;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{MutexGuard, mpsc, oneshot};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::audience::Member;
use super::board::{Board, Todo};
use super::ears::Ears;
use super::leave::{InFlight, Leave};
use super::link::LinkError;
use super::outbound::{self, Halt, Outbound, Reply};
use crate::mcp::config::UpstreamLimits;
use crate::mcp::wire::line::{self, LineDecoder};
use crate::mcp::wire::{Era, notification_frame};

/// How long a stopped call may take to tell the upstream.
pub(crate) const CANCEL_NOTE: Duration = Duration::from_millis(200);
/// How long an answer of ours to an upstream's own request may take.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
const HOUSEKEEPING_QUEUE: usize = 32;
const READ_BYTES: usize = 64 * 1024;

type Writer = Pin<Box<dyn AsyncWrite + Send>>;
type Reader = Pin<Box<dyn AsyncRead + Send>>;

/// Kills the other end of a pipe; may be called from any thread, and more than once.
pub(crate) type Kill = Arc<dyn Fn() + Send + Sync>;

/// One open pair of pipes.
pub(crate) struct Pipe {
    /// Held from before an effect begins until its line is written.
    writer: tokio::sync::Mutex<Writer>,
    board: Board,
    is_modern: AtomicBool,
    kill: Kill,
    closed: CancellationToken,
    /// Whether the other end went away by itself while no client had a request in flight.
    is_faulty: AtomicBool,
    housekeeping: mpsc::Sender<Vec<u8>>,
    limits: UpstreamLimits,
}

/// Both ends of a pair of pipes, and the means to kill whoever is there.
pub(crate) struct Ends {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) kill: Kill,
}

/// A line to write, and who gets its answer.
struct Expected {
    id: u64,
    answer: oneshot::Receiver<Reply>,
    line: Vec<u8>,
}

/// When a line that is no action is given up: before its first byte, and once it is begun. One that is cut off half-way
/// ends the pipe for everybody, so an upstream that is busy gets longer to read the rest.
#[derive(Clone, Copy)]
struct Within {
    begun: Duration,
    ended: Duration,
}

/// How writing a line ended, before it was written in full or not.
enum Wrote<H> {
    All,
    Stopped(H),
    Failed(String),
}

/// A line on its way. One that is dropped half-way ends the pipe before anybody else can write: what came next would be
/// read as its end.
struct Line<'a> {
    bytes: &'a [u8],
    written: usize,
    torn: Option<DropGuard>,
    closed: &'a CancellationToken,
}

impl<'a> Line<'a> {
    const fn new(bytes: &'a [u8], closed: &'a CancellationToken) -> Self {
        Self { bytes, written: 0, torn: None, closed }
    }

    /// Writes the rest, asking before every write whether to stop; a write that is not ready has written nothing.
    async fn write<H>(&mut self, writer: &mut Writer, halt: impl Future<Output = H>) -> Wrote<H> {
        tokio::pin!(halt);
        while let Some(rest) = self.bytes.get(self.written..).filter(|rest| !rest.is_empty()) {
            let count = tokio::select! {
                biased;
                why = &mut halt => return Wrote::Stopped(why),
                () = self.closed.cancelled() => return Wrote::Failed("the upstream is gone".to_owned()),
                count = writer.write(rest) => count,
            };
            match count {
                Ok(0) => return Wrote::Failed("the upstream takes no more input".to_owned()),
                Ok(count) => self.written = self.written.saturating_add(count),
                Err(error) => return Wrote::Failed(format!("writing to the upstream failed: {error}")),
            }
            if self.written < self.bytes.len() && self.torn.is_none() {
                self.torn = Some(self.closed.clone().drop_guard());
            }
        }
        if let Some(torn) = self.torn.take() {
            torn.disarm();
        }
        Wrote::All
    }
}

/// Why a line of an effect is not written or waited for any more.
async fn halted(stopped: impl Future<Output = Stop>, late: Pin<&mut Sleep>) -> Halt {
    tokio::select! {
        biased;
        stop = stopped => Halt::Stop(stop),
        () = late => Halt::Late,
    }
}

impl Pipe {
    /// Takes over both ends. What the upstream says is told as `ears` say.
    pub(crate) fn open(ends: Ends, ears: &Ears, limits: UpstreamLimits) -> Arc<Self> {
        let (housekeeping, queue) = mpsc::channel(HOUSEKEEPING_QUEUE);
        let closed = CancellationToken::new();
        let pipe = Arc::new(Self {
            writer: tokio::sync::Mutex::new(ends.writer),
            board: ears.board(&limits, closed.clone()),
            is_modern: AtomicBool::new(false),
            kill: ends.kill,
            closed,
            is_faulty: AtomicBool::new(false),
            housekeeping,
            limits,
        });
        tokio::spawn(Arc::clone(&pipe).read(ends.reader));
        tokio::spawn(Arc::clone(&pipe).keep_house(queue));
        pipe
    }

    /// Resolves when the pipe is of no more use.
    pub(crate) const fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Ends it: the other end is killed, and whoever waits is told.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        (self.kill)();
        self.board.forget_all();
    }

    /// Ends it because the other end went away. While a client had a request in flight that is no failure of the
    /// process: what one client brings about does not take it from the others for good.
    pub(crate) fn lost(&self) {
        if !self.closed.is_cancelled() && !self.board.serves_clients() {
            self.is_faulty.store(true, Ordering::Relaxed);
        }
        self.close();
    }

    /// Whether its end was the process's own doing.
    pub(crate) fn is_faulty(&self) -> bool {
        self.is_faulty.load(Ordering::Relaxed)
    }

    /// Says which era the upstream speaks, once that is known.
    pub(crate) fn speak(&self, era: Era) {
        self.is_modern.store(era == Era::Modern, Ordering::Relaxed);
    }

    fn era(&self) -> Era {
        if self.is_modern.load(Ordering::Relaxed) { Era::Modern } else { Era::Legacy }
    }

    /// Carries out one action under a leave.
    pub(crate) async fn call<L: Leave>(
        self: &Arc<Self>,
        leave: L,
        (request, member): (&Outbound, Member),
    ) -> Executed<Reply> {
        let late = tokio::time::sleep(request.patience(self.limits.call_timeout));
        tokio::pin!(late);
        let writer = tokio::select! {
            biased;
            stop = leave.stopped() => return outbound::not_started(stop.as_str()),
            () = self.closed.cancelled() => return outbound::not_started("the upstream is gone"),
            writer = self.writer.lock() => writer,
            () = &mut late => return outbound::not_started("the upstream takes no input"),
        };
        // It may have ended between the two.
        if self.closed.is_cancelled() {
            return outbound::not_started("the upstream is gone");
        }
        let Some((id, answer)) = self.board.expect(request, member) else {
            return outbound::not_started("too many requests are in flight towards the upstream");
        };
        let line = line::encode(&request.frame(id));
        let cut = Arc::clone(self);
        let effect = match leave.begin(Arc::new(move || cut.close())) {
            Ok(effect) => effect,
            Err(stop) => {
                self.board.forget(id);
                return outbound::not_started(stop.as_str());
            }
        };
        let executed = self.carry(&effect, writer, (request, Expected { id, answer, line }), late).await;
        self.board.forget(id);
        drop(effect);
        executed
    }

    /// Writes the line of an effect in flight and waits for its answer.
    async fn carry<F: InFlight>(
        &self,
        effect: &F,
        mut writer: MutexGuard<'_, Writer>,
        (request, expected): (&Outbound, Expected),
        mut late: Pin<&mut Sleep>,
    ) -> Executed<Reply> {
        let Expected { id, answer, line: bytes } = expected;
        let mut line = Line::new(&bytes, &self.closed);
        let mut wrote = line.write(&mut writer, halted(effect.stopped(), late.as_mut())).await;
        if matches!(wrote, Wrote::Stopped(Halt::Stop(Stop::Cancelled))) && line.written > 0 {
            wrote = line.write(&mut writer, halted(effect.revoked(), late.as_mut())).await;
        }
        let written = line.written;
        drop((line, writer));
        match wrote {
            Wrote::All => self.settle(halted(effect.stopped(), late), request, (id, answer), written).await,
            Wrote::Stopped(why) if written == 0 => outbound::not_started(why.as_str()),
            Wrote::Stopped(why) => {
                self.close();
                outbound::unknown(why.as_str(), written)
            }
            Wrote::Failed(why) => {
                self.lost();
                if written == 0 { outbound::not_started(&why) } else { outbound::unknown(&why, written) }
            }
        }
    }

    /// Waits for the answer to a line that is written in full.
    async fn settle(
        &self,
        halt: impl Future<Output = Halt>,
        request: &Outbound,
        (id, answer): (u64, oneshot::Receiver<Reply>),
        sent: usize,
    ) -> Executed<Reply> {
        tokio::select! {
            biased;
            why = halt => {
                self.board.give_up(id);
                self.note_cancelled(id, why.as_str()).await;
                outbound::halted(request, why, sent)
            }
            reply = answer => match reply {
                Ok(reply) => outbound::answered(reply, sent),
                Err(_) => outbound::unknown("the upstream went away before it answered", sent),
            },
        }
    }

    /// One exchange that is not an action.
    pub(crate) async fn exchange(&self, request: &Outbound, member: Member) -> Result<Reply, LinkError> {
        let (id, answer) = self.board.expect(request, member).ok_or(LinkError::Busy)?;
        let late = Instant::now() + self.limits.exchange_timeout;
        let reply = match self.say(&request.frame(id), self.patient(), pending()).await {
            Ok(()) => match tokio::time::timeout_at(late, answer).await {
                Ok(reply) => reply.map_err(|_| LinkError::Gone),
                Err(_) => {
                    self.board.give_up(id);
                    Err(LinkError::Timeout)
                }
            },
            Err(error) => Err(error),
        };
        self.board.forget(id);
        reply
    }

    /// One stream of notifications, until the upstream or `ended` ends it.
    pub(crate) async fn listen(
        &self,
        (request, member): (&Outbound, Member),
        ended: &CancellationToken,
    ) -> Result<Reply, LinkError> {
        let (id, answer) = self.board.expect(request, member).ok_or(LinkError::Busy)?;
        let wrote = self.say(&request.frame(id), self.patient(), pending()).await;
        let reply = match wrote {
            Err(error) => Err(error),
            Ok(()) => tokio::select! {
                biased;
                () = ended.cancelled() => {
                    self.note_cancelled(id, "the client ended its stream").await;
                    Err(LinkError::Gone)
                }
                reply = answer => reply.map_err(|_| LinkError::Gone),
            },
        };
        self.board.forget(id);
        reply
    }

    /// Sends a notification that is not an action.
    pub(crate) async fn notify(&self, frame: &[u8]) -> Result<(), LinkError> {
        self.say(frame, self.hasty(), pending()).await
    }

    async fn note_cancelled(&self, id: u64, why: &str) {
        let params = format!(r#"{{"requestId":{id},"reason":"{why}"}}"#);
        let frame = notification_frame("notifications/cancelled", Some(&params));
        if self.say(&frame, Within { begun: CANCEL_NOTE, ended: CANCEL_NOTE }, pending()).await.is_err() {
            tracing::debug!(id, "the upstream could not be told of a cancelled request");
        }
    }

    const fn patient(&self) -> Within {
        Within { begun: self.limits.exchange_timeout, ended: self.limits.call_timeout }
    }

    const fn hasty(&self) -> Within {
        Within { begun: HOUSEKEEPING, ended: self.limits.call_timeout }
    }

    /// Writes a message of no action, unless `over` comes first. A line that is cut off half-way ends the pipe.
    async fn say(&self, frame: &[u8], within: Within, over: impl Future<Output = ()>) -> Result<(), LinkError> {
        let bytes = line::encode(frame);
        let begun = Instant::now();
        let late = tokio::time::sleep_until(begun + within.begun);
        tokio::pin!(late, over);
        let mut writer = tokio::select! {
            biased;
            () = self.closed.cancelled() => return Err(LinkError::Gone),
            () = &mut over => return Err(LinkError::Timeout),
            writer = self.writer.lock() => writer,
            () = &mut late => return Err(LinkError::Timeout),
        };
        // It may have ended between the two.
        if self.closed.is_cancelled() {
            return Err(LinkError::Gone);
        }
        let mut line = Line::new(&bytes, &self.closed);
        for until in [begun + within.begun, begun + within.ended] {
            late.as_mut().reset(until);
            let halt = async {
                tokio::select! {
                    biased;
                    () = &mut over => true,
                    () = late.as_mut() => false,
                }
            };
            match line.write(&mut writer, halt).await {
                Wrote::All => return Ok(()),
                Wrote::Stopped(_) if line.written == 0 => return Err(LinkError::Timeout),
                Wrote::Stopped(false) => {}
                Wrote::Stopped(true) => break,
                Wrote::Failed(_) => {
                    self.lost();
                    return Err(LinkError::Gone);
                }
            }
        }
        self.close();
        Err(LinkError::Gone)
    }

    async fn read(self: Arc<Self>, mut reader: Reader) {
        let mut decoder = LineDecoder::new(self.limits.line_bytes_max);
        let mut chunk = vec![0; READ_BYTES];
        loop {
            let read = tokio::select! {
                biased;
                () = self.closed.cancelled() => return self.end("closed"),
                read = reader.read(&mut chunk) => read,
            };
            let bytes = match read {
                Ok(0) => break self.lost(),
                Ok(count) => chunk.get(..count).unwrap_or_default(),
                Err(error) => {
                    tracing::info!(%error, "the output of an upstream cannot be read");
                    break self.lost();
                }
            };
            match decoder.push(bytes) {
                Ok(lines) => lines.into_iter().for_each(|line| self.take(line)),
                Err(error) => return self.end(&error.to_string()),
            }
        }
        tracing::info!("an upstream closed its output");
    }

    /// Ends it for a reason of our own.
    fn end(&self, why: &str) {
        tracing::info!(why, "the pipe of an upstream is closed");
        self.close();
    }

    fn take(self: &Arc<Self>, line: Bytes) {
        let frame = match outbound::read(line, self.limits.line_bytes_max) {
            Ok(frame) => frame,
            Err(error) => {
                tracing::warn!(%error, "a line of the upstream is no message and was dropped");
                return;
            }
        };
        match self.board.arrive(frame, self.era()) {
            None => {}
            Some(Todo::Send(answer)) => match self.housekeeping.try_send(answer) {
                Ok(()) => {}
                Err(_) => tracing::warn!("a request of the upstream was dropped: it asks faster than it reads"),
            },
            Some(Todo::Settle(pending)) => {
                let pipe = Arc::clone(self);
                tokio::spawn(async move {
                    let Some(outgoing) = pipe.board.settle(pending).await else { return };
                    let said = pipe.say(&outgoing.frame, pipe.hasty(), outgoing.over.cancelled()).await;
                    if let Err(error) = &said {
                        tracing::debug!(%error, "the answer to a question of the upstream could not be sent");
                    }
                    outgoing.sent(said.is_ok());
                });
            }
        }
    }

    async fn keep_house(self: Arc<Self>, mut queue: mpsc::Receiver<Vec<u8>>) {
        loop {
            let frame = tokio::select! {
                () = self.closed.cancelled() => return,
                frame = queue.recv() => frame,
            };
            let Some(frame) = frame else { return };
            if let Err(error) = self.say(&frame, self.hasty(), pending()).await {
                tracing::debug!(%error, "the upstream's own request could not be answered");
            }
        }
    }
}
