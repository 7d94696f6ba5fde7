//! Streams of an HTTP session that live longer than one connection (2025-11-25, `basic/transports`): an answer whose
//! stream broke is waited for on another one, and the session's own stream is opened again.
//!
//! A resumption repeats no request. It must not know permits: the effect's socket is handed on to its cutter.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use tokio::sync::oneshot;

use super::cut::Cutter;
use super::dial::Conn;
use super::hear::Hearing;
use super::talk::{self, Answered, Mark};
use super::{HttpLink, Sending};
use crate::mcp::execute::link::LinkError;
use crate::mcp::execute::outbound;
use crate::mcp::wire::sse::SseDecoder;
use crate::mcp::wire::{Era, Frame};

/// How often one answer's stream is resumed.
const RESUMES_MAX: usize = 64;
/// How long a broken stream is left alone where the server does not say.
const PAUSE: Duration = Duration::from_millis(500);

/// How one stream of a session ended.
enum Ended {
    /// The upstream offers none.
    NotOffered,
    /// The upstream ended the session.
    Lost,
    /// It broke, or the upstream closed it; whether anything came on it, and how long it is to be left alone.
    Broke { heard: bool, retry: Option<Duration> },
}

impl HttpLink {
    /// Sends a request and reads its answer, on as many connections as it takes. `held` is the connection in use.
    pub(super) async fn converse(
        &self,
        sending: &Sending<'_>,
        body: Bytes,
        held: &mut Option<Conn>,
        cutter: &Cutter,
    ) -> Result<Answered, LinkError> {
        let aside = |frame: &Frame| sending.hearing.hear(frame);
        let listening = self.listening(sending, &aside);
        let url = self.site.dialer.url();
        let built = sending.heading.request(url, Method::POST, body)?;
        let conn = held.as_mut().ok_or(LinkError::Gone)?;
        let mut answered = talk::talk(conn, built, &listening).await?;
        if self.era == Era::Modern {
            return Ok(answered);
        }
        for _ in 0..RESUMES_MAX {
            let Some(Mark { id, retry }) = answered.mark.take().filter(|_| answered.reply.is_none()) else {
                return Ok(answered);
            };
            tokio::time::sleep(retry.unwrap_or(PAUSE)).await;
            // What was sent was sent: from here on no error may say that it was not.
            let mut fresh = self.site.dialer.take().await.map_err(|_| LinkError::Gone)?;
            if !cutter.hold(&fresh) {
                return Err(LinkError::Gone);
            }
            let built = sending.heading.stream(url, Some(&id)).map_err(|_| LinkError::Gone)?;
            let resumed = talk::talk(&mut fresh, built, &listening).await;
            *held = Some(fresh);
            // A connection may break again before anything came.
            let again = Some(Mark { id, retry });
            match resumed {
                Ok(found) if found.reply.is_none() && !found.status.is_success() => return Err(LinkError::Gone),
                Ok(found) => answered = Answered { mark: found.mark.clone().or(again), ..found },
                Err(_) => answered.mark = again,
            }
        }
        Err(LinkError::Unreadable(format!("its stream broke {RESUMES_MAX} times")))
    }

    /// Listens to the session's own stream until the session is over; an upstream need not offer one.
    /// Drops `answered` once it is known whether it does.
    pub(crate) async fn attend(self: Arc<Self>, answered: oneshot::Sender<()>) {
        let limits = &self.site.limits;
        let (mut last, mut wait, mut answered) = (None, limits.backoff_min, Some(answered));
        // A question that came on one connection may be answered during the next.
        let hearing = Hearing::new(&self, self.heading(), None);
        loop {
            let ended = tokio::select! {
                biased;
                () = self.closed.cancelled() => return,
                ended = self.attend_once(&mut last, &mut answered, &hearing) => ended,
            };
            let pause = match ended {
                Ended::NotOffered => return,
                Ended::Lost => {
                    self.lose();
                    return;
                }
                Ended::Broke { heard, retry } => {
                    wait = if heard { limits.backoff_min } else { wait.saturating_mul(2).min(limits.backoff_max) };
                    retry.unwrap_or_default().max(wait)
                }
            };
            tokio::select! {
                biased;
                () = self.closed.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn attend_once(
        &self,
        last: &mut Option<String>,
        answered: &mut Option<oneshot::Sender<()>>,
        hearing: &Hearing,
    ) -> Ended {
        let mut broke = Ended::Broke { heard: false, retry: None };
        let heading = self.heading();
        let Ok(built) = heading.stream(self.site.dialer.url(), last.as_deref()) else { return Ended::NotOffered };
        let Ok(mut conn) = self.site.dialer.take().await else { return broke };
        let Ok(response) = conn.sender.send_request(built).await else { return broke };
        drop(answered.take());
        if response.status() == StatusCode::NOT_FOUND && heading.session.is_some() {
            return Ended::Lost;
        }
        if !response.status().is_success() || !talk::is_events(&response) {
            return if response.status().is_server_error() { broke } else { Ended::NotOffered };
        }
        let bytes_max = self.site.limits.line_bytes_max;
        let (mut body, mut decoder) = (response.into_body(), SseDecoder::new(bytes_max));
        while let Ok(Some(chunk)) = talk::next_chunk(&mut body).await {
            let Ok(events) = decoder.push(&chunk) else { break };
            for event in events.into_iter().filter(|event| !event.data.is_empty()) {
                match outbound::read(event.data.into(), bytes_max) {
                    Ok(frame) => hearing.hear(&frame),
                    Err(error) => tracing::warn!(%error, "an event of the upstream is no message and was dropped"),
                }
            }
            *last = decoder.last_id().map(str::to_owned).or(last.take());
            broke = Ended::Broke { heard: true, retry: decoder.retry_ms().map(Duration::from_millis) };
        }
        broke
    }
}
