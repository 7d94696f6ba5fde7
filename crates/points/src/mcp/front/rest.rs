//! A connection at rest: where nothing happens on it for a moment, its buffers are given back until its next byte.
//!
//! The HTTP library keeps 16 KiB for every connection that has carried a request, and most sessions rest most of the time.
//! Nothing is written for it and nothing is lost: the library is asked to end an exchange that is over, and what it had read
//! ahead goes to the next one. A connection rests at most once for a request, so resting gives nobody more time for the head of one.
//! It must not know what a request says.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1::{Builder, Connection};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_util::sync::CancellationToken;

#[cfg(test)]
mod tests;

/// How long nothing happens before a connection rests.
const QUIET: Duration = Duration::from_millis(250);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What happens on a connection. Its one task alone changes it.
#[derive(Default)]
struct Activity {
    /// Reads and writes that moved bytes.
    moved: AtomicU64,
    /// The client does not take what is being written.
    is_blocked: AtomicBool,
    /// Requests whose answers are not written.
    answering: AtomicUsize,
    /// Whether a request came since it last rested.
    may_rest: AtomicBool,
}

impl Activity {
    fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.may_rest.load(Ordering::Relaxed)
            && !self.is_blocked.load(Ordering::Relaxed)
            && self.answering.load(Ordering::Relaxed) == 0
    }

    fn begin(self: &Arc<Self>) -> Answering {
        self.may_rest.store(true, Ordering::Relaxed);
        self.answering.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }
}

/// One request, until the body of its answer is written or given up.
struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's socket, with what was read ahead of its next request.
struct Socket<S> {
    stream: S,
    ahead: Bytes,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> Socket<S> {
    /// Waits for the next byte; false where none comes.
    async fn wakes(&mut self) -> bool {
        let mut byte = BytesMut::with_capacity(1);
        if !self.ahead.is_empty() {
            return true;
        }
        let woken = matches!(self.stream.read_buf(&mut byte).await, Ok(1..));
        self.ahead = byte.freeze();
        woken
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(into.remaining());
            into.put_slice(&self.ahead.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if into.filled().len() > before {
            self.activity.moved.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    fn wrote(&self, written: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
        self.activity.is_blocked.store(written.is_pending(), Ordering::Relaxed);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.activity.moved.fetch_add(1, Ordering::Relaxed);
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A body, and that it is being written.
struct Answer<B> {
    body: B,
    _answering: Answering,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves one connection to its end: the client's, that of an idle time as long as the head of a request may take, or,
/// once what is in flight is answered, that of `shutdown`.
pub(super) async fn serve<S, H, F, B>(
    (builder, idle): (Builder, Duration),
    stream: S,
    handle: H,
    shutdown: &CancellationToken,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body + Unpin + 'static,
    B::Error: Into<Failure>,
{
    let activity = Arc::new(Activity::default());
    let mut socket = Socket { stream, ahead: Bytes::new(), activity: Arc::clone(&activity) };
    loop {
        activity.may_rest.store(false, Ordering::Relaxed);
        let service = service_fn(|request| {
            let (answering, answered) = (activity.begin(), handle(request));
            // On the heap, so that a connection on which nothing is asked does not hold a place for it.
            Box::pin(async move {
                let answer = answered.await;
                Ok::<_, Infallible>(answer.map(|body| Answer { body, _answering: answering }))
            })
        });
        let mut connection = builder.serve_connection(TokioIo::new(socket), service);
        let rests = until_rest(&mut connection, &activity, shutdown).await?;
        let parts = connection.into_parts();
        socket = parts.io.into_inner();
        if !rests {
            // What was to be said is said; a client that is gone does not hear the end.
            let _ = socket.shutdown().await;
            return Ok(());
        }
        // What the library read ahead comes before what nobody has read.
        socket.ahead = [&parts.read_buf[..], &socket.ahead[..]].concat().into();
        let is_awake = tokio::select! {
            biased;
            () = shutdown.cancelled() => false,
            woken = socket.wakes() => woken,
            () = tokio::time::sleep(idle) => false,
        };
        if !is_awake {
            return Ok(());
        }
    }
}

/// Drives a connection to its end, or until nothing is to be done on it and nothing happened for a while: true then.
async fn until_rest<S, V, F, B>(
    connection: &mut Connection<TokioIo<Socket<S>>, V>,
    activity: &Activity,
    shutdown: &CancellationToken,
) -> hyper::Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future = F> + Unpin,
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: Body + 'static,
    B::Error: Into<Failure>,
{
    let mut moved = activity.moved();
    let rests = loop {
        tokio::select! {
            biased;
            ended = poll_fn(|context| connection.poll_without_shutdown(context)) => return ended.map(|()| false),
            () = shutdown.cancelled() => break false,
            () = tokio::time::sleep(QUIET) => {
                if activity.is_over() && activity.moved() == moved {
                    break true;
                }
                moved = activity.moved();
            }
        }
    };
    // Where nothing is in flight, this ends it at once and says nothing.
    Pin::new(&mut *connection).graceful_shutdown();
    poll_fn(|context| connection.poll_without_shutdown(context)).await.map(|()| rests)
}
