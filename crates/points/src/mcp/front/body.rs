//! Bodies: read under a limit of size and time, written as one message or as a stream of events.
//!
//! It must not know what a body says.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use crate::mcp::wire::sse;

/// What the front answers with.
pub(crate) type ReplyBody = Either<Full<Bytes>, EventBody>;

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    TooSlow,
    Broken,
}

/// Reads a whole body.
pub(crate) async fn read(body: Incoming, bytes_max: usize, within: Duration) -> Result<Bytes, BodyError> {
    let collected = tokio::time::timeout(within, Limited::new(body, bytes_max).collect());
    match collected.await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TooSlow),
    }
}

/// A stream of events, with a comment whenever it was quiet for a while. Ends with its sender.
pub(crate) struct EventBody {
    events: mpsc::Receiver<Bytes>,
    quiet: Interval,
}

impl EventBody {
    /// Must be called within a runtime.
    pub(crate) fn new(events: mpsc::Receiver<Bytes>, keep_alive: Duration) -> Self {
        let mut quiet = tokio::time::interval(keep_alive.max(Duration::from_millis(1)));
        quiet.set_missed_tick_behavior(MissedTickBehavior::Delay);
        quiet.reset();
        Self { events, quiet }
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.events.poll_recv(context) {
            Poll::Ready(Some(event)) => {
                self.quiet.reset();
                Poll::Ready(Some(Ok(Frame::data(event))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                self.quiet.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(sse::KEEP_ALIVE)))))
            }
        }
    }
}
