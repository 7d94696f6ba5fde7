//! HTTP by hand, so that nothing corrects what a hostile client sends.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than any limit of the gateway on a slow client.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status; 0 where the connection ended without an answer.
    pub(crate) status: u16,
    /// Head and body.
    pub(crate) text: String,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Self { status, text }
    }

    /// The last message in it.
    pub(crate) fn message(&self) -> Value {
        let (_, body) = self.text.split_once("\r\n\r\n").unwrap_or_default();
        let event = events(body).pop();
        event.unwrap_or_else(|| serde_json::from_str(body).unwrap_or_else(|_| panic!("no message: {}", self.text)))
    }
}

/// The messages of a stream of events.
fn events(body: &str) -> Vec<Value> {
    body.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

/// Sends `request` as it stands and reads until the other side closes.
pub(crate) fn send(authority: &str, request: &[u8]) -> Answer {
    dialogue(authority, request, |_| ())
}

/// The same, telling of each message of a stream of events as it comes.
pub(crate) fn dialogue(authority: &str, request: &[u8], mut heard: impl FnMut(&Value)) -> Answer {
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The gateway may have refused before it has read everything.
    let _ = stream.write_all(request);
    finish(&mut stream, &mut heard)
}

/// Sends `at_once`, then `rest` a byte at a time, each after `pause`, until the other side has had enough.
pub(crate) fn drip(authority: &str, (at_once, rest): (&[u8], &[u8]), pause: Duration) -> Answer {
    let mut stream = TcpStream::connect(authority).unwrap();
    stream.write_all(at_once).unwrap();
    stream.set_read_timeout(Some(pause)).unwrap();
    let mut bytes = Vec::new();
    for byte in rest {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk) {
            Ok(count) => {
                bytes.extend_from_slice(&chunk[..count]);
                break;
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let rest = finish(&mut stream, &mut |_| ());
    bytes.extend_from_slice(rest.text.as_bytes());
    Answer::of(&bytes)
}

fn finish(stream: &mut TcpStream, heard: &mut dyn FnMut(&Value)) -> Answer {
    let (mut bytes, mut chunk, mut told) = (Vec::new(), vec![0; 64 * 1024], 0);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return Answer::of(&bytes),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Answer::of(&bytes),
            Err(error) => panic!("no end of the answer: {error}: {}", String::from_utf8_lossy(&bytes)),
        }
        let text = String::from_utf8_lossy(&bytes);
        // What is not whole yet is told with the next bytes.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let all = events(whole);
        all.iter().skip(told).for_each(&mut *heard);
        told = all.len();
    }
}

/// One request with these headers, each `name: value`, and the length of `body`.
pub(crate) fn request(line: &str, headers: &[String], body: &[u8]) -> Vec<u8> {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let head = format!("{line} HTTP/1.1\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A protocol session, and how it is spoken in.
#[derive(Clone)]
pub(crate) struct Talk {
    pub(crate) authority: String,
    pub(crate) token: String,
    pub(crate) session: String,
    path: &'static str,
}

impl Talk {
    /// Opens a session at `path` as a client with these capabilities, raw.
    pub(crate) fn open(authority: &str, token: &str, (path, capabilities): (&'static str, &str)) -> Self {
        let hello = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{{"name":"kit","version":"1"}}}}}}"#
        );
        let mut talk = Self { authority: authority.to_owned(), token: token.to_owned(), session: String::new(), path };
        let headers: Vec<String> = talk.headers().into_iter().filter(|it| !it.starts_with("mcp-")).collect();
        let Answer { text, .. } = send(authority, &request(&format!("POST {path}"), &headers, hello.as_bytes()));
        let line = text.lines().find_map(|line| line.strip_prefix("mcp-session-id: "));
        line.unwrap_or_else(|| panic!("no session: {text}")).trim().clone_into(&mut talk.session);
        talk
    }

    pub(crate) fn headers(&self) -> Vec<String> {
        vec![
            format!("host: {}", self.authority),
            "accept: application/json, text/event-stream".to_owned(),
            "content-type: application/json".to_owned(),
            format!("authorization: Bearer {}", self.token),
            format!("mcp-session-id: {}", self.session),
            "mcp-protocol-version: 2025-11-25".to_owned(),
        ]
    }

    /// An honest request with this body.
    pub(crate) fn post(&self, body: &[u8]) -> Vec<u8> {
        request(&format!("POST {}", self.path), &self.headers(), body)
    }

    /// A request of another HTTP method.
    pub(crate) fn bare(&self, method: &str) -> Vec<u8> {
        request(&format!("{method} {}", self.path), &self.headers(), b"")
    }

    /// Calls a tool; `heard` is told of what comes before the answer. Gives the answer.
    pub(crate) fn call(&self, id: u64, (tool, arguments): (&str, Value), heard: impl FnMut(&Value)) -> Value {
        let params = json!({ "name": tool, "arguments": arguments });
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params });
        dialogue(&self.authority, &self.post(call.to_string().as_bytes()), heard).message()
    }

    /// Answers a question.
    pub(crate) fn answer(&self, question: &Value, result: &Value) -> u16 {
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": result });
        send(&self.authority, &self.post(answer.to_string().as_bytes())).status
    }
}
