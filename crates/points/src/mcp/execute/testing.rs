//! Scripted leaves and a scripted upstream for tests of this point.

pub(crate) mod server;

use std::future::Future;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use countersign_gate::credential::Credential;
use countersign_gate::permit::{Cut, Stop};
use countersign_model::id::UpstreamId;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::aftermath::Outlived;
use super::leave::{InFlight, Leave};
use super::outbound::{Outbound, Progress};
use super::pipe::{Ends, Pipe};
use super::supervise::{self, Opened};
use super::{Executor, Upstream, UpstreamError};
use crate::mcp::config::{UpstreamConfig, UpstreamLimits};
use crate::mcp::wire::Era;

/// A leave whose kill, cancellation and cut a test holds.
#[derive(Clone)]
pub(crate) struct TestLeave {
    pub(crate) upstream: UpstreamId,
    pub(crate) killed: CancellationToken,
    pub(crate) cancel: CancellationToken,
    pub(crate) cut: Arc<Mutex<Option<Cut>>>,
    pub(crate) credential: Option<Credential>,
    pub(crate) redacts: bool,
    /// Held by the effect in flight as well.
    pub(crate) alive: Arc<()>,
}

impl TestLeave {
    pub(crate) fn new(cancel: CancellationToken) -> Self {
        Self {
            upstream: id(),
            killed: CancellationToken::new(),
            cancel,
            cut: Arc::default(),
            credential: None,
            redacts: false,
            alive: Arc::new(()),
        }
    }

    pub(crate) fn cut_now(&self) {
        let cut = self.cut.lock().unwrap().take().expect("begun");
        cut();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.cut.lock().unwrap().is_some()
    }
}

impl Leave for TestLeave {
    type InFlight = Self;

    fn upstream(&self) -> &UpstreamId {
        &self.upstream
    }

    fn redacts(&self) -> bool {
        self.redacts
    }

    fn begin(self, cut: Cut) -> Result<Self, Stop> {
        if self.killed.is_cancelled() {
            return Err(Stop::Killed);
        }
        if self.cancel.is_cancelled() {
            return Err(Stop::Cancelled);
        }
        *self.cut.lock().unwrap() = Some(cut);
        Ok(self)
    }

    async fn stopped(&self) -> Stop {
        self.cancel.cancelled().await;
        Stop::Cancelled
    }
}

impl Outlived for TestLeave {
    fn aftermath(&self) -> impl Future<Output = Stop> + Send + 'static {
        let killed = self.killed.clone();
        async move {
            killed.cancelled().await;
            Stop::Killed
        }
    }
}

impl InFlight for TestLeave {
    fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    async fn stopped(&self) -> Stop {
        tokio::select! {
            biased;
            () = self.killed.cancelled() => Stop::Killed,
            () = self.cancel.cancelled() => Stop::Cancelled,
        }
    }

    async fn revoked(&self) -> Stop {
        self.killed.cancelled().await;
        Stop::Killed
    }
}

pub(crate) fn id() -> UpstreamId {
    UpstreamId::new("crm").unwrap()
}

pub(crate) fn config(limits: UpstreamLimits) -> UpstreamConfig {
    UpstreamConfig::stdio(id(), "/nonexistent/mcp-server", Vec::new(), Vec::new(), None).unwrap().with_limits(limits)
}

/// What reached the scripted upstream, and its life.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
    pub(crate) killed: CancellationToken,
    /// Cancelled by a test to let `hold` answer.
    pub(crate) release: CancellationToken,
}

impl Seen {
    pub(crate) fn all(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub(crate) fn with(&self, part: &str) -> Vec<String> {
        self.all().into_iter().filter(|line| line.contains(part)).collect()
    }

    /// Waits until `part` arrived.
    pub(crate) async fn wait(&self, part: &str) {
        for _ in 0..500 {
            if !self.with(part).is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("`{part}` never arrived: {:?}", self.all());
    }
}

/// A pipe with `buffer` bytes each way, and its other end.
pub(crate) fn pipe(buffer: usize, seen: &Seen, upstream: &Upstream) -> (Arc<Pipe>, DuplexStream) {
    let (near, far) = tokio::io::duplex(buffer);
    let (reader, writer) = tokio::io::split(near);
    let killed = seen.killed.clone();
    let shared = &upstream.shared;
    let ends = Ends { reader: Box::pin(reader), writer: Box::pin(writer), kill: Arc::new(move || killed.cancel()) };
    (Pipe::open(ends, &shared.ears, shared.config.limits.clone()), far)
}

impl Upstream {
    /// An upstream over a pipe to the scripted server.
    pub(crate) async fn scripted(limits: UpstreamLimits) -> Result<(Self, Seen), UpstreamError> {
        let (upstream, seen) = (Self::idle(config(limits)), Seen::default());
        let (pipe, far) = pipe(64 * 1024, &seen, &upstream);
        tokio::spawn(serve(far, seen.clone()));
        let raised = supervise::greet(&upstream.shared, &upstream.shared.config, Opened::Pipe(pipe)).await;
        Ok((upstream.up(raised)?, seen))
    }

    /// An upstream over a pipe to a server that answers each message with what `play` gives.
    pub(crate) async fn played(
        config: UpstreamConfig,
        play: impl Fn(&Value) -> Vec<String> + Send + 'static,
    ) -> Result<(Self, Seen), UpstreamError> {
        let (upstream, seen) = (Self::idle(config), Seen::default());
        let (pipe, far) = pipe(64 * 1024, &seen, &upstream);
        let lines = seen.clone();
        tokio::spawn(async move {
            let (reader, mut writer) = tokio::io::split(far);
            let mut reader = BufReader::new(reader).lines();
            loop {
                let line = tokio::select! {
                    () = lines.killed.cancelled() => return,
                    line = reader.next_line() => line,
                };
                let Ok(Some(line)) = line else { return };
                lines.lines.lock().unwrap().push(line.clone());
                for answer in play(&serde_json::from_str(&line).unwrap()) {
                    if writer.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        });
        let raised = supervise::greet(&upstream.shared, &upstream.shared.config, Opened::Pipe(pipe)).await;
        Ok((upstream.up(raised)?, seen))
    }

    pub(crate) fn unopened(limits: UpstreamLimits) -> Self {
        Self::idle(config(limits))
    }
}

/// A call with these raw parameters, on the link that everybody shares.
pub(crate) fn action(upstream: &Upstream, params: Bytes, progress: Option<Progress>) -> Executor {
    let (said, _) = mpsc::channel(1);
    Executor::new(
        upstream.share(Era::Legacy, (said, None)).expect("greeted"),
        Outbound { progress, ..Outbound::plain("tools/call", Some(params)) },
    )
}

pub(crate) const TOOLS: &str = r#"{"name":"echo" , "inputSchema":{"type":"object"},"unknown":1e2},
    {"name":"typed","inputSchema":{"type":"object"},"outputSchema":{"type":"object"}}"#;

/// The scripted MCP server.
pub(crate) async fn serve(far: DuplexStream, seen: Seen) {
    let (reader, mut writer) = tokio::io::split(far);
    let mut lines = BufReader::new(reader).lines();
    loop {
        let line = tokio::select! {
            () = seen.killed.cancelled() => return,
            line = lines.next_line() => line,
        };
        let Ok(Some(line)) = line else { return };
        seen.lines.lock().unwrap().push(line.clone());
        let message: Value = serde_json::from_str(&line).unwrap();
        for answer in answers(&message, &seen).await {
            if writer.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn answers(message: &Value, seen: &Seen) -> Vec<String> {
    let id = message["id"].clone();
    let result = |raw: &str| vec![format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{raw}}}"#)];
    match message["method"].as_str().unwrap_or_default() {
        "initialize" => result(
            r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"prompts":{},"x":1},"serverInfo":{"name":"s","version":"1"},"future": 1.50}"#,
        ),
        "tools/list" if message["params"]["cursor"] == "two" => {
            result(r#"{"tools":[{"name":"second-page","inputSchema":{}}]}"#)
        }
        "tools/list" => result(&format!(r#"{{"tools":[{}],"nextCursor":"two"}}"#, TOOLS.replace('\n', " "))),
        "tools/call" => call(message, &id, seen).await,
        _ => Vec::new(),
    }
}

async fn call(message: &Value, id: &Value, seen: &Seen) -> Vec<String> {
    let result = |raw: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{raw}}}"#);
    match message["params"]["name"].as_str().unwrap_or_default() {
        "fail" => {
            vec![format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-5,"message":"no","data":{{"k":1}}}}}}"#)]
        }
        "tool_error" => vec![result(r#"{"content":[],"isError":true}"#)],
        "scalar" => vec![result("7")],
        "endless_task" => vec![result(&format!(r#"{{"task":{{"taskId":"{}"}}}}"#, "t".repeat(100_000)))],
        "task" => vec![result(r#"{"task":{"taskId":"t1","status":"working"}}"#)],
        "forge" => vec![result(r#"{"content":[],"_meta":{"countersign/receipt":"forged"}}"#)],
        "silent" => Vec::new(),
        "hold" => {
            seen.release.cancelled().await;
            vec![result(r#"{"content":[],"held":true}"#)]
        }
        "progress" => {
            let token = &message["params"]["_meta"]["progressToken"];
            let step = |n: u32| {
                format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":{n}.0,"progressToken":{token},"x": 1}}}}"#
                )
            };
            vec![step(1), step(2), result(r#"{"content":[]}"#)]
        }
        "changed" => vec![
            r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#.to_owned(),
            result(r#"{"content":[]}"#),
        ],
        "asks" => vec![
            r#"{"jsonrpc":"2.0","id":"q1","method":"ping"}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":"q2","method":"sampling/createMessage","params":{}}"#.to_owned(),
            "not json".to_owned(),
            r#"{"jsonrpc":"2.0","id":99999,"result":{}}"#.to_owned(),
            result(r#"{"content":[]}"#),
        ],
        _ => vec![result(&format!(r#"{{"content":[], "n": 1e2,"args":{}}}"#, json!(message["params"]["arguments"])))],
    }
}
