//! The admin plane as whoever can open its socket sees it: HTTP written by hand.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_model::Digest;
use serde_json::Value;

use super::Installation;

const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The protocol session that was opened.
    pub(crate) session: Option<String>,
    /// The body; a string where it is no JSON.
    pub(crate) body: Value,
}

trait Stream: Read + Write {}
impl Stream for UnixStream {}
impl Stream for TcpStream {}

/// One request; `head` is its first line and its headers, without those that every request has.
fn exchange(stream: &mut dyn Stream, head: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let rest = format!("content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    stream.write_all(format!("{head}{rest}").as_bytes()).unwrap();
    // A body that is too large may be refused before it was read.
    let _ = stream.write_all(body);
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let (mut length, mut session) = (0, None);
    loop {
        line.clear();
        answer.read_line(&mut line).unwrap();
        let header = line.trim_end().to_ascii_lowercase();
        match header.split_once(": ") {
            Some(("content-length", text)) => length = text.parse().unwrap(),
            Some(("mcp-session-id", _)) => session = line.trim_end().split_once(": ").map(|(_, id)| id.to_owned()),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body).unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    Reply { status, session, body: serde_json::from_slice(&body).unwrap_or(Value::String(text)) }
}

/// Posts a message to the agents' endpoint with these headers, each `name: value`.
pub(crate) fn post_mcp(url: &str, headers: &[&str], body: &Value) -> Reply {
    let authority = url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap();
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let accept = "application/json, text/event-stream";
    let head = format!("POST /mcp HTTP/1.1\r\nhost: {authority}\r\naccept: {accept}\r\n{headers}");
    exchange(&mut stream, &head, body.to_string().as_bytes())
}

impl Installation {
    /// Sends one request to the admin socket, with any body.
    pub(crate) fn admin(&self, method: &str, path: &str, body: &[u8]) -> Reply {
        let mut stream = UnixStream::connect(self.path("admin.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        exchange(&mut stream, &format!("{method} {path} HTTP/1.1\r\nhost: countersign\r\n"), body)
    }

    /// Asks for something.
    pub(crate) fn get(&self, path: &str) -> Value {
        let reply = self.admin("GET", path, b"");
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.body
    }

    /// Hands something in.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.admin("POST", path, body.to_string().as_bytes())
    }

    /// A fresh challenge.
    pub(crate) fn challenge(&self) -> Digest {
        let reply = self.post("/challenge", &Value::Null);
        let bytes = STANDARD.decode(reply.body["challenge"].as_str().unwrap()).unwrap();
        Digest(bytes.try_into().unwrap())
    }

    /// The leaf hash of what waits under `ticket`: what consent signs.
    pub(crate) fn leaf_hash(&self, ticket: &str) -> Digest {
        let waiting = self.get(&format!("/approvals/{ticket}"));
        let leaf = STANDARD.decode(waiting["proposal"]["leaf"].as_str().unwrap()).unwrap();
        countersign_gate::Gate::leaf_hash(&leaf)
    }
}

const _: () = {
    let _ = (Installation::admin, Installation::get, Installation::post, Installation::challenge);
    let _ = (Installation::leaf_hash, post_mcp);
    let _ = |reply: Reply| (reply.session, reply.body, reply.status);
};
