//! The driver's side of HTTP/1.1: one kept connection, one request at a time, as few cycles as can be.
//!
//! It shares the processors with what it measures, so it does no more than it must. It reads answers with a
//! `content-length` and nothing else. It must not know MCP.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::ops::Range;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
    body: Range<usize>,
}

/// What the head of an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status.
    pub(crate) status: u16,
    /// The session that the server opened.
    pub(crate) session: Option<String>,
    body: Range<usize>,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("cannot reach {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: Vec::new(), answer: Vec::with_capacity(16 << 10), body: 0..0 })
    }

    /// Sends one request and reads its whole answer. `head` is all of the head but the length, each line with its end.
    pub(crate) async fn exchange(&mut self, head: &str, body: &str) -> Result<Head> {
        self.request.clear();
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        self.request.extend_from_slice(body.as_bytes());
        self.answer.clear();
        self.stream.write_all(&self.request).await?;
        let mut head = None;
        loop {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                bail!("the connection was closed before the answer was whole");
            }
            if head.is_none() {
                head = read_head(&self.answer)?;
            }
            if let Some(head) = head.as_ref().filter(|head| self.answer.len() >= head.body.end) {
                if self.answer.len() > head.body.end {
                    bail!("{} bytes follow the answer", self.answer.len() - head.body.end);
                }
                self.body = head.body.clone();
                return Ok(head.clone());
            }
            if self.answer.len() > ANSWER_BYTES_MAX {
                bail!("an answer of more than {ANSWER_BYTES_MAX} bytes");
            }
        }
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        self.answer.get(self.body.clone()).unwrap_or_default()
    }
}

/// The head of an answer, once it is whole.
fn read_head(answer: &[u8]) -> Result<Option<Head>> {
    let Some(end) = answer.windows(HEAD_END.len()).position(|four| four == HEAD_END) else { return Ok(None) };
    let text = std::str::from_utf8(answer.get(..end).unwrap_or_default())?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status = status.context("not an answer in HTTP/1.1")?;
    let (mut length, mut session) = (None, None);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<usize>()?);
        } else if name.eq_ignore_ascii_case("mcp-session-id") {
            session = Some(value.trim().to_owned());
        }
    }
    let start = end + HEAD_END.len();
    let length = match length {
        Some(length) => length,
        None if status == 204 => 0,
        None => bail!("an answer without a length, status {status}"),
    };
    Ok(Some(Head { status, session, body: start..start + length }))
}
