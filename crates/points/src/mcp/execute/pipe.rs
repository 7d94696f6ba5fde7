//! MCP over a pair of pipes: one writer under a lock, one reader, and the kill discipline between them.
//!
//! A call takes the writer's lock first, then begins its effect, then writes: nothing stands between the epoch check
//! and the first byte. The effect lives until the answer came or the call was stopped. A stop while the line is
//! partly written kills the peer, for the pipe is corrupt; a stop after it sends one bounded
//! `notifications/cancelled`, before the effect is dropped, and nothing after. Late answers are dropped.
//!
//! It must not know processes: whoever opens a pipe brings the means to kill its other end. Exchanges that are not
//! actions (see `mcp`) use the same lock without an effect.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use countersign_gate::call::Executed;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{MutexGuard, mpsc, oneshot};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::audience::Member;
use super::board::{Board, Todo};
use super::ears::Ears;
use super::leave::{InFlight, Leave};
use super::link::LinkError;
use super::outbound::{self, Halt, Outbound, Reply};
use crate::mcp::config::UpstreamLimits;
use crate::mcp::wire::line::{self, LineDecoder};
use crate::mcp::wire::{Era, Frame, notification_frame};

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

/// How writing a line ended.
enum Wrote {
    All,
    Stopped { why: Halt, written: usize },
    Failed { why: String, written: usize },
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
        late: Pin<&mut Sleep>,
    ) -> Executed<Reply> {
        let Expected { id, answer, line } = expected;
        let halt = async {
            tokio::select! {
                biased;
                stop = effect.stopped() => Halt::Stop(stop),
                () = late => Halt::Late,
            }
        };
        tokio::pin!(halt);
        let wrote = write(&mut writer, &line, halt.as_mut()).await;
        drop(writer);
        match wrote {
            Wrote::All => self.settle(halt, request, (id, answer), line.len()).await,
            Wrote::Stopped { why, written: 0 } => outbound::not_started(why.as_str()),
            Wrote::Stopped { why, written } => {
                self.close();
                outbound::unknown(why.as_str(), written)
            }
            Wrote::Failed { why, written } => {
                self.close();
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
                self.board.forget(id);
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
        let line = line::encode(&request.frame(id));
        let exchanged = tokio::time::timeout(self.limits.exchange_timeout, async {
            self.write_plain(&line, self.limits.exchange_timeout).await?;
            answer.await.map_err(|_| LinkError::Gone)
        });
        let reply = exchanged.await.unwrap_or(Err(LinkError::Timeout));
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
        let line = line::encode(&request.frame(id));
        let wrote = self.write_plain(&line, self.limits.exchange_timeout).await;
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
        self.write_plain(&line::encode(frame), HOUSEKEEPING).await
    }

    async fn note_cancelled(&self, id: u64, why: &str) {
        let params = format!(r#"{{"requestId":{id},"reason":"{why}"}}"#);
        let frame = notification_frame("notifications/cancelled", Some(&params));
        if self.write_plain(&line::encode(&frame), CANCEL_NOTE).await.is_err() {
            tracing::debug!(id, "the upstream could not be told of a cancelled request");
        }
    }

    /// Writes a line within a time. A line that is cut off half-way ends the pipe.
    async fn write_plain(&self, line: &[u8], within: Duration) -> Result<(), LinkError> {
        let late = tokio::time::sleep(within);
        tokio::pin!(late);
        let mut writer = tokio::select! {
            biased;
            () = self.closed.cancelled() => return Err(LinkError::Gone),
            writer = self.writer.lock() => writer,
            () = &mut late => return Err(LinkError::Timeout),
        };
        let halt = async {
            late.await;
            Halt::Late
        };
        match write(&mut writer, line, halt).await {
            Wrote::All => Ok(()),
            Wrote::Stopped { written: 0, .. } => Err(LinkError::Timeout),
            Wrote::Stopped { .. } | Wrote::Failed { .. } => {
                self.close();
                Err(LinkError::Gone)
            }
        }
    }

    async fn read(self: Arc<Self>, mut reader: Reader) {
        let mut decoder = LineDecoder::new(self.limits.line_bytes_max);
        let mut chunk = vec![0; READ_BYTES];
        let why = loop {
            let read = tokio::select! {
                () = self.closed.cancelled() => break "closed".to_owned(),
                read = reader.read(&mut chunk) => read,
            };
            let bytes = match read {
                Ok(0) => break "the upstream closed its output".to_owned(),
                Ok(count) => chunk.get(..count).unwrap_or_default(),
                Err(error) => break error.to_string(),
            };
            match decoder.push(bytes) {
                Ok(lines) => lines.into_iter().for_each(|line| self.take(line)),
                Err(error) => break error.to_string(),
            }
        };
        tracing::info!(why, "the pipe of an upstream ended");
        self.close();
    }

    fn take(self: &Arc<Self>, line: Bytes) {
        let frame = match Frame::read(line, &outbound::reading(self.limits.line_bytes_max)) {
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
                    let Some(answer) = pipe.board.settle(pending).await else { return };
                    if let Err(error) = pipe.write_plain(&line::encode(&answer), HOUSEKEEPING).await {
                        tracing::debug!(%error, "the answer to a question of the upstream could not be sent");
                    }
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
            if let Err(error) = self.write_plain(&line::encode(&frame), HOUSEKEEPING).await {
                tracing::debug!(%error, "the upstream's own request could not be answered");
            }
        }
    }
}

/// Writes all of `line`, asking before every write whether to stop; a write that is not ready has written nothing.
async fn write(writer: &mut Writer, line: &[u8], halt: impl Future<Output = Halt>) -> Wrote {
    tokio::pin!(halt);
    let mut written = 0;
    while let Some(rest) = line.get(written..).filter(|rest| !rest.is_empty()) {
        let count = tokio::select! {
            biased;
            why = &mut halt => return Wrote::Stopped { why, written },
            count = writer.write(rest) => count,
        };
        match count {
            Ok(0) => return Wrote::Failed { why: "the upstream takes no more input".to_owned(), written },
            Ok(count) => written = written.saturating_add(count),
            Err(error) => return Wrote::Failed { why: format!("writing to the upstream failed: {error}"), written },
        }
    }
    Wrote::All
}
