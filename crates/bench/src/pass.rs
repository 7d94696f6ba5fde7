//! The baselines: a hop without logic, and the same hop with the least that a durable record costs.
//!
//! Each client connection has a connection of its own to the upstream. The second baseline parses the message with its
//! arguments and has a record durable before the call goes on and another before its answer does. It must not know
//! policy, budgets or receipts: that is what the gateway adds.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::journal::Journal;

/// What the second baseline records: as many bytes as the gateway does.
#[derive(Clone)]
pub(crate) struct Records {
    /// Where.
    pub(crate) journal: Journal,
    /// Bytes of the record before a call.
    pub(crate) intent: usize,
    /// Bytes of the record after it.
    pub(crate) outcome: usize,
}

/// A connection's own way to the upstream. Requests of one connection come one after the other.
struct Hop {
    sender: Mutex<SendRequest<Full<Bytes>>>,
    records: Option<Records>,
}

/// Passes everything on to `upstream` until standard input ends.
pub(crate) async fn serve(upstream: SocketAddr, records: Option<Records>) -> Result<()> {
    crate::serve::serve(|stream| connection(stream, upstream, records.clone())).await
}

async fn connection(stream: TcpStream, upstream: SocketAddr, records: Option<Records>) -> Result<()> {
    let onward = TcpStream::connect(upstream).await.context("cannot reach the upstream")?;
    onward.set_nodelay(true)?;
    let (sender, driving) = hyper::client::conn::http1::handshake(TokioIo::new(onward)).await?;
    tokio::spawn(driving);
    let hop = Arc::new(Hop { sender: Mutex::new(sender), records });
    let service = service_fn(move |request| {
        let hop = Arc::clone(&hop);
        async move { hop.forward(request).await }
    });
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

impl Hop {
    async fn forward(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let records = self.records.as_ref().filter(|_| !body.is_empty());
        let recorded = match records {
            Some(records) if is_call(&body)? => Some(records),
            _ => None,
        };
        if let Some(records) = recorded {
            records.journal.append(record(&body, records.intent)).await?;
        }
        let mut sender = self.sender.lock().await;
        sender.ready().await?;
        let (head, answer) = sender.send_request(Request::from_parts(parts, Full::new(body))).await?.into_parts();
        let answer = answer.collect().await?.to_bytes();
        drop(sender);
        if let Some(records) = recorded {
            records.journal.append(record(&answer, records.outcome)).await?;
        }
        Ok(Response::from_parts(head, Full::new(answer)))
    }
}

/// Parses all of a message, its arguments too, and says whether it is an action.
fn is_call(body: &[u8]) -> Result<bool> {
    let message: Value = serde_json::from_slice(body)?;
    let is_call = message.get("method").and_then(Value::as_str) == Some("tools/call");
    if is_call {
        let arguments = message.pointer("/params/arguments").and_then(Value::as_object);
        arguments.context("a call without arguments")?;
    }
    Ok(is_call)
}

/// A record of `bytes` bytes that begins with what it is about.
fn record(about: &[u8], bytes: usize) -> Vec<u8> {
    let mut record = about.to_vec();
    record.resize(bytes, 0);
    record
}
