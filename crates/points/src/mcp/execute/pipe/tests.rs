//! One line at a time on a pipe of known size: what is given up half-way ends the pipe, and what a client gives up does
//! not end up half-way.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_model::record::Status;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio_util::sync::CancellationToken;

use super::Pipe;
use crate::mcp::config::UpstreamLimits;
use crate::mcp::execute::Upstream;
use crate::mcp::execute::outbound::Outbound;
use crate::mcp::execute::testing::{Seen, TestLeave, pipe};

const BUFFER: usize = 16;

fn limits() -> UpstreamLimits {
    UpstreamLimits {
        call_timeout: Duration::from_secs(5),
        exchange_timeout: Duration::from_millis(200),
        ..UpstreamLimits::default()
    }
}

/// A pipe whose other end takes [`BUFFER`] bytes before it is read.
fn narrow() -> (Arc<Pipe>, DuplexStream, Seen) {
    let (upstream, seen) = (Upstream::unopened(limits()), Seen::default());
    let (pipe, far) = pipe(BUFFER, &seen, &upstream);
    (pipe, far, seen)
}

fn request() -> Outbound {
    Outbound::plain("tools/call", Some(Bytes::from_static(br#"{"name":"echo"}"#)))
}

fn leave() -> TestLeave {
    TestLeave::new(CancellationToken::new())
}

/// Long enough for a write to have filled the buffer.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

/// Whatever can be read until nothing comes for a while.
async fn arrived(far: &mut DuplexStream) -> String {
    let mut all = Vec::new();
    while let Ok(Ok(1..)) = tokio::time::timeout(Duration::from_millis(100), far.read_buf(&mut all)).await {}
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn nothing_is_appended_to_a_line_whose_writer_went_away() {
    for kind in ["exchange", "notice", "stream"] {
        let (pipe, mut far, seen) = narrow();
        let writing = tokio::spawn({
            let pipe = Arc::clone(&pipe);
            async move {
                match kind {
                    "exchange" => drop(pipe.exchange(&request(), 1).await),
                    "notice" => drop(pipe.notify(&request().frame(1)).await),
                    _ => drop(pipe.listen((&request(), 1), &CancellationToken::new()).await),
                }
            }
        });
        pause().await;
        let victim = tokio::spawn({
            let pipe = Arc::clone(&pipe);
            async move { pipe.call(leave(), (&request(), 2)).await }
        });
        pause().await;
        writing.abort();
        assert_eq!(victim.await.unwrap().status, Status::NotStarted, "{kind}");
        let after = pipe.call(leave(), (&request(), 2)).await;
        assert_eq!(after.status, Status::NotStarted, "{kind}");
        assert_eq!(arrived(&mut far).await.len(), BUFFER, "{kind}: nothing after the half line");
        tokio::time::timeout(Duration::from_secs(1), seen.killed.cancelled()).await.expect(kind);
    }
}

/// A process that is busy for longer than an exchange may take is not ended for it: the line is finished once it reads.
#[tokio::test]
async fn a_line_that_is_begun_is_finished_however_late() {
    let (pipe, mut far, seen) = narrow();
    let asking = tokio::spawn({
        let pipe = Arc::clone(&pipe);
        async move { pipe.exchange(&request(), 1).await.is_ok() }
    });
    tokio::time::sleep(limits().exchange_timeout * 2).await;
    assert!(arrived(&mut far).await.ends_with("}}\n"));
    assert!(!asking.await.unwrap(), "no answer came in time");
    assert!(!seen.killed.is_cancelled());
}

#[tokio::test]
async fn a_client_that_cancels_half_way_does_not_end_the_pipe() {
    let (pipe, mut far, seen) = narrow();
    let leave = leave();
    let calling = tokio::spawn({
        let (pipe, leave) = (Arc::clone(&pipe), leave.clone());
        async move { pipe.call(leave, (&request(), 1)).await }
    });
    pause().await;
    leave.cancel.cancel();
    pause().await;
    assert!(!calling.is_finished() && !seen.killed.is_cancelled());
    let line = String::from_utf8(request().frame(1)).unwrap();
    let text = arrived(&mut far).await;
    let rest = text.strip_prefix(&format!("{line}\n")).unwrap_or_else(|| panic!("{text}"));
    assert!(rest.contains(r#"{"requestId":1,"reason":"cancelled by the caller"}"#), "{rest}");
    let ended = calling.await.unwrap();
    assert_eq!((ended.status, ended.bytes_sent), (Status::Unknown, line.len() as u64 + 1));
    assert!(!seen.killed.is_cancelled());
}

#[tokio::test]
async fn a_kill_ends_a_line_that_its_client_gave_up_before() {
    let (pipe, mut far, seen) = narrow();
    let leave = leave();
    let calling = tokio::spawn({
        let (pipe, leave) = (Arc::clone(&pipe), leave.clone());
        async move { pipe.call(leave, (&request(), 1)).await }
    });
    pause().await;
    leave.cancel.cancel();
    pause().await;
    leave.killed.cancel();
    let ended = calling.await.unwrap();
    assert_eq!((ended.status, ended.bytes_sent), (Status::Unknown, BUFFER as u64));
    assert_eq!(ended.note.as_deref(), Some("stopped by the kill switch"));
    assert!(seen.killed.is_cancelled());
    assert_eq!(arrived(&mut far).await.len(), BUFFER);
}
