//! A scripted HTTP server over TCP or a Unix socket: it records every request, and how connections ended.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// One request as it came: the head in lower case, and the body.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn message(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub(crate) fn method(&self) -> String {
        self.message()["method"].as_str().unwrap_or_default().to_owned()
    }

    /// The tool that it calls.
    pub(crate) fn tool(&self) -> String {
        self.message()["params"]["name"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn id(&self) -> Value {
        self.message()["id"].clone()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
    }

    pub(crate) fn is(&self, verb: &str) -> bool {
        self.head.starts_with(verb)
    }

    /// A message with the request's own id.
    pub(crate) fn result(&self, raw: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":{},"result":{raw}}}"#, self.id())
    }

    pub(crate) fn json(&self, raw: &str) -> Vec<Step> {
        vec![Step::Write(reply("200 OK", "application/json", &self.result(raw)))]
    }
}

/// What the server does about a request.
pub(crate) enum Step {
    Write(String),
    Wait(CancellationToken),
    /// Writes what comes, until the client closes the connection or nothing can come any more.
    Follow(mpsc::UnboundedReceiver<String>),
    /// Waits for the client to close the connection.
    Hang,
    Close,
}

/// A whole response.
pub(crate) fn reply(status: &str, kind: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The head of a stream of events, and the first of them.
pub(crate) fn stream(events: &str) -> Step {
    Step::Write(format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{events}"))
}

pub(crate) fn event(data: &str) -> String {
    format!("data: {data}\n\n")
}

/// What arrived.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) requests: Arc<Mutex<Vec<Asked>>>,
    /// Requests that hung when the client closed their connection.
    pub(crate) broken: Arc<Mutex<Vec<Asked>>>,
}

impl Seen {
    pub(crate) fn all(&self) -> Vec<Asked> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn with(&self, part: &str) -> Vec<Asked> {
        self.all().into_iter().filter(|asked| asked.body.contains(part) || asked.head.contains(part)).collect()
    }

    pub(crate) fn broken(&self, part: &str) -> usize {
        let broken = self.broken.lock().unwrap();
        broken.iter().filter(|asked| asked.body.contains(part) || asked.head.contains(part)).count()
    }

    /// Waits until `count` requests with `part` arrived.
    pub(crate) async fn wait(&self, part: &str, count: usize) {
        until(|| self.with(part).len() >= count, part).await;
    }
}

/// Waits until `done`.
pub(crate) async fn until(done: impl Fn() -> bool, what: &str) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("`{what}` never came");
}

pub(crate) type Script = Arc<dyn Fn(&Asked) -> Vec<Step> + Send + Sync>;

/// Serves on a port of loopback; gives its address.
pub(crate) async fn serve(script: Script) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap().to_string(), Seen::default());
    let shared = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, Arc::clone(&script), shared.clone()));
        }
    });
    (address, seen)
}

/// Serves on a Unix socket.
pub(crate) fn serve_unix(path: &Path, script: Script) -> Seen {
    let listener = UnixListener::bind(path).unwrap();
    let seen = Seen::default();
    let shared = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(connection(stream, Arc::clone(&script), shared.clone()));
        }
    });
    seen
}

async fn connection(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: Script, seen: Seen) {
    let mut buffer = Vec::new();
    while let Some(asked) = request(&mut stream, &mut buffer).await {
        seen.requests.lock().unwrap().push(asked.clone());
        for step in script(&asked) {
            match step {
                Step::Write(text) => {
                    if stream.write_all(text.as_bytes()).await.is_err() {
                        return;
                    }
                }
                Step::Wait(token) => token.cancelled().await,
                Step::Follow(mut texts) => loop {
                    let mut rest = [0; 16];
                    tokio::select! {
                        text = texts.recv() => match text {
                            Some(text) => stream.write_all(text.as_bytes()).await.unwrap_or_default(),
                            None => return,
                        },
                        _ = stream.read(&mut rest) => {
                            seen.broken.lock().unwrap().push(asked);
                            return;
                        }
                    }
                },
                Step::Close => return,
                Step::Hang => {
                    let _ = stream.read(&mut [0; 16]).await;
                    seen.broken.lock().unwrap().push(asked);
                    return;
                }
            }
        }
    }
}

async fn request(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<Asked> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let lower = head.to_ascii_lowercase();
            let length =
                lower.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
            if rest.len() >= length {
                let asked = Asked { head: lower, body: rest[..length].to_owned() };
                buffer.drain(..text.len() - rest.len() + length);
                return Some(asked);
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
