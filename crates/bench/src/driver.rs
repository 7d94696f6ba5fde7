//! The driver: connections that each call, wait for the answer, check it, and call again.
//!
//! A closed loop: there are never more calls in flight than connections. Every answer is checked, and through the
//! gateway must bring a receipt; the last receipt of every connection is verified against the log's key, after the
//! clock has stopped. It must not know which of the compared it drives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use countersign_receipt::{Receipt, Role, VerifierKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinSet;

use crate::wire::Wire;

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const STOPPED: u8 = 2;

/// What is driven, and for how long.
pub(crate) struct Load<'a> {
    /// Where.
    pub(crate) address: SocketAddr,
    /// A token for each connection, and so as many connections.
    pub(crate) tokens: &'a [String],
    /// How long calls are made before they count.
    pub(crate) warm_up: Duration,
    /// How long they count.
    pub(crate) window: Duration,
    /// The log that receipts must be of; none where there are no receipts.
    pub(crate) log: Option<&'a VerifierKey>,
}

/// What one window gave.
pub(crate) struct Sample {
    /// From sending to the checked answer, sorted, in nanoseconds: one for each call that ended in the window.
    pub(crate) latencies_ns: Vec<u64>,
    /// How long the window really was.
    pub(crate) window: Duration,
    /// Processor time of what is driven, in the window, in microseconds.
    pub(crate) cpu_us: u64,
    /// Calls answered rightly in all, those before the window too.
    pub(crate) answered: u64,
}

/// Drives `load`; `meter` reads processor time.
///
/// # Errors
/// The first answer that was wrong or did not come.
pub(crate) async fn drive(load: &Load<'_>, meter: impl Fn() -> Result<u64>) -> Result<Sample> {
    let mut sessions = JoinSet::new();
    for (index, token) in load.tokens.iter().enumerate() {
        sessions.spawn(Session::open(load.address, index, token.clone(), load.log.is_some()));
    }
    let opened = sessions.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
    let phase = Arc::new(AtomicU8::new(WARMING));
    let mut calling = JoinSet::new();
    for session in opened {
        calling.spawn(session.keep_calling(Arc::clone(&phase)));
    }
    tokio::time::sleep(load.warm_up).await;
    let (begun, before) = (Instant::now(), meter()?);
    phase.store(MEASURING, Ordering::Relaxed);
    tokio::time::sleep(load.window).await;
    phase.store(STOPPED, Ordering::Relaxed);
    let (window, after) = (begun.elapsed(), meter()?);
    let mut sample = Sample { latencies_ns: Vec::new(), window, cpu_us: after.saturating_sub(before), answered: 0 };
    for ended in calling.join_all().await {
        let Ended { session, latencies_ns } = ended?;
        sample.latencies_ns.extend(latencies_ns);
        sample.answered += session.calls;
        session.close(load.log).await?;
    }
    if sample.latencies_ns.is_empty() {
        bail!("no call was answered within {:?}", load.window);
    }
    sample.latencies_ns.sort_unstable();
    Ok(sample)
}

/// One connection with its own protocol session.
pub(crate) struct Session {
    wire: Wire,
    index: usize,
    /// The head of every request of this session, but for the length.
    head: String,
    named: bool,
    calls: u64,
    receipts: bool,
}

struct Ended {
    session: Session,
    latencies_ns: Vec<u64>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    id: u64,
    #[serde(borrow)]
    result: Echoed<'a>,
}

#[derive(Deserialize)]
struct Echoed<'a> {
    #[serde(borrow)]
    content: Vec<Content<'a>>,
    #[serde(rename = "isError", default)]
    is_error: bool,
    #[serde(rename = "_meta", borrow)]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Content<'a> {
    text: &'a str,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(rename = "countersign/receipt", borrow)]
    receipt: Option<&'a RawValue>,
}

impl Session {
    pub(crate) async fn open(address: SocketAddr, index: usize, token: String, receipts: bool) -> Result<Self> {
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\naccept: application/json, text/event-stream\r\n\
             mcp-protocol-version: 2025-11-25\r\n"
        );
        let mut wire = Wire::connect(address).await?;
        let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
        let opened = wire.exchange(&head, hello).await?;
        if opened.status != 200 {
            bail!("`initialize` was answered with {}: {}", opened.status, String::from_utf8_lossy(wire.body()));
        }
        let mut session = Self { wire, index, head, named: false, calls: 0, receipts };
        if let Some(id) = opened.session {
            session.head.push_str(&format!("mcp-session-id: {id}\r\n"));
            session.named = true;
        }
        let note = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let noted = session.wire.exchange(&session.head, note).await?;
        if noted.status != 202 {
            bail!("`initialized` was answered with {}", noted.status);
        }
        Ok(session)
    }

    async fn keep_calling(mut self, phase: Arc<AtomicU8>) -> Result<Ended> {
        let mut latencies_ns = Vec::new();
        while phase.load(Ordering::Relaxed) != STOPPED {
            let begun = Instant::now();
            if let Err(wrong) = self.call().await {
                // The others need not go on.
                phase.store(STOPPED, Ordering::Relaxed);
                return Err(wrong);
            }
            if phase.load(Ordering::Relaxed) == MEASURING {
                latencies_ns.push(u64::try_from(begun.elapsed().as_nanos())?);
            }
        }
        Ok(Ended { session: self, latencies_ns })
    }

    async fn call(&mut self) -> Result<()> {
        self.calls += 1;
        let (id, index) = (self.calls, self.index);
        let text = format!("{index:04}-{id:013}");
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{text}"}}}}}}"#
        );
        let head = self.wire.exchange(&self.head, &call).await?;
        check(self.wire.body(), id, &text, self.receipts).with_context(|| {
            let body = String::from_utf8_lossy(self.wire.body());
            format!("a wrong answer, status {}: {}", head.status, body.chars().take(600).collect::<String>())
        })
    }

    /// Verifies the last receipt and ends the session.
    async fn close(mut self, log: Option<&VerifierKey>) -> Result<()> {
        if let Some(key) = log {
            verify(self.wire.body(), key)?;
        }
        if self.named {
            let head = self.head.replacen("POST", "DELETE", 1);
            let closed = self.wire.exchange(&head, "").await?;
            if !(200..300).contains(&closed.status) {
                bail!("the end of a session was answered with {}", closed.status);
            }
        }
        Ok(())
    }
}

/// The right answer echoes the text of this call, and brings a receipt where receipts are on.
fn check(body: &[u8], id: u64, text: &str, receipts: bool) -> Result<()> {
    let answer: Answer<'_> = serde_json::from_slice(body)?;
    let [Content { text: echoed }] = answer.result.content.as_slice() else { bail!("not one content") };
    if answer.id != id || *echoed != text || answer.result.is_error {
        bail!("expected id {id} and `{text}`");
    }
    if receipts && answer.result.meta.and_then(|meta| meta.receipt).is_none() {
        bail!("it brings no receipt");
    }
    Ok(())
}

fn verify(body: &[u8], key: &VerifierKey) -> Result<()> {
    let answer: Answer<'_> = serde_json::from_slice(body)?;
    let receipt = answer.result.meta.and_then(|meta| meta.receipt).context("it brings no receipt")?;
    let verified = Receipt::parse(receipt.get())?.verify(key).context("a receipt does not hold")?;
    let roles: Vec<Role> = verified.leaves.iter().map(|leaf| leaf.role).collect();
    if roles != [Role::Intent, Role::Outcome] {
        bail!("a receipt of {roles:?} instead of intent and outcome");
    }
    Ok(())
}
