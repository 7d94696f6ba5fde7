//! An MCP server on streamable HTTP, in the test itself, that never answers a call and notes every byte's time.
//!
//! It runs in the test's own runtime, so its clock is the test's.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One read of one connection.
pub(crate) struct Read {
    /// When.
    pub(crate) at: Instant,
    /// What.
    pub(crate) bytes: Vec<u8>,
}

/// What the server saw.
#[derive(Default)]
pub(crate) struct Noted {
    /// Every read of every connection, in order.
    pub(crate) reads: Vec<Read>,
    /// The argument `id` of every call.
    pub(crate) calls: Vec<String>,
    /// Connections that hold a call and are open.
    pub(crate) holding: usize,
}

impl Noted {
    fn hold(&mut self, call: &Value) {
        self.calls.push(call["params"]["arguments"]["id"].as_str().unwrap_or_default().to_owned());
        self.holding += 1;
    }
}

/// A running server; it ends with the runtime.
pub(crate) struct Web {
    /// Its endpoint.
    pub(crate) url: String,
    noted: Arc<Mutex<Noted>>,
}

impl Web {
    /// Starts it.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let noted = Arc::new(Mutex::new(Noted::default()));
        let shared = noted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { url, noted }
    }

    /// Looks at what it saw.
    pub(crate) fn noted<T>(&self, look: impl FnOnce(&Noted) -> T) -> T {
        look(&self.noted.lock().unwrap())
    }
}

/// Serves one connection until it ends; a call is never answered.
async fn serve(mut stream: TcpStream, noted: Arc<Mutex<Noted>>) {
    let mut unread = Vec::new();
    while let Some((head, body)) = request(&mut stream, &mut unread, &noted).await {
        let message: Value = serde_json::from_slice(&body).unwrap_or_default();
        let reply = match (&*head, message["method"].as_str().unwrap_or_default()) {
            (head, _) if !head.starts_with("POST") => "HTTP/1.1 405 no\r\ncontent-length: 0\r\n\r\n".to_owned(),
            (_, "tools/call") => {
                noted.lock().unwrap().hold(&message);
                while read(&mut stream, &mut unread, &noted).await {}
                noted.lock().unwrap().holding -= 1;
                return;
            }
            (_, method) if method.starts_with("notifications/") => {
                "HTTP/1.1 202 ok\r\ncontent-length: 0\r\n\r\n".to_owned()
            }
            (_, method) => {
                let text = json!({"jsonrpc": "2.0", "id": message["id"], "result": result(method)}).to_string();
                format!(
                    "HTTP/1.1 200 ok\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                )
            }
        };
        if stream.write_all(reply.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn result(method: &str) -> Value {
    let tools = ["put", "look", "change", "hold"]
        .map(|name| json!({"name": name, "description": name, "inputSchema": {"type": "object"}}));
    match method {
        "initialize" => json!({
            "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
            "serverInfo": {"name": "web", "version": "1"},
        }),
        "tools/list" => json!({ "tools": tools }),
        _ => json!({}),
    }
}

/// One request: its head and its body of `content-length` bytes.
async fn request(stream: &mut TcpStream, unread: &mut Vec<u8>, noted: &Mutex<Noted>) -> Option<(String, Vec<u8>)> {
    let end = loop {
        match unread.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(at) => break at + 4,
            None if !read(stream, unread, noted).await => return None,
            None => {}
        }
    };
    let head = String::from_utf8_lossy(&unread[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
    });
    let whole = end + length.unwrap_or(0);
    while unread.len() < whole {
        if !read(stream, unread, noted).await {
            return None;
        }
    }
    let body = unread[end..whole].to_vec();
    unread.drain(..whole);
    Some((head, body))
}

/// Reads once and notes it; `false` at the end of the connection.
async fn read(stream: &mut TcpStream, unread: &mut Vec<u8>, noted: &Mutex<Noted>) -> bool {
    let mut chunk = [0; 16 * 1024];
    let count = stream.read(&mut chunk).await.unwrap_or(0);
    let at = Instant::now();
    if count > 0 {
        noted.lock().unwrap().reads.push(Read { at, bytes: chunk[..count].to_vec() });
        unread.extend_from_slice(&chunk[..count]);
    }
    count > 0
}

const _: () = {
    let _ = Web::start;
    let _ = |web: Web| web.noted(|noted| (noted.reads.len(), noted.calls.len(), noted.holding, web.url.len()));
    let _ = |read: Read| (read.at, read.bytes);
};
