//! The corpus of frames: each is read, or refused, by the wire and by a running front, and what is refused reaches
//! neither the governor nor the upstream. Only the public interface is used.

#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign_effects::json::Limits;
use countersign_gate::call::{Answer, Call};
use countersign_model::action::Point;
use countersign_model::id::{AgentId, RunId, SessionId, TenantId, ToolName, UpstreamId};
use countersign_model::unit::TimeMs;
use countersign_model::{Caller, Digest, Principal, Reason, ReasonCode};
use countersign_points::Governor;
use countersign_points::mcp::config::{FrontConfig, UpstreamConfig};
use countersign_points::mcp::wire::Frame;
use countersign_points::mcp::{Reply, Server, Upstream, Work};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

fn corpus(prefix: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/mcp");
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap()))
        .filter(|(name, _)| name.starts_with(prefix))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn the_wire_reads_what_it_must_and_refuses_the_rest() {
    for (name, bytes) in corpus("accept-") {
        Frame::read(bytes.into(), &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for (name, bytes) in corpus("refuse-") {
        assert!(Frame::read(bytes.into(), &Limits::default()).is_err(), "{name}");
    }
}

#[derive(Clone, Default)]
struct Deny {
    governed: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

impl Governor<Work> for Deny {
    fn identify(&self, token: &str) -> Result<Caller, Reason> {
        if token != "token" {
            return Err(Reason::plain(ReasonCode::TokenInvalid));
        }
        let principal = Principal {
            tenant: TenantId::new("t").unwrap(),
            agent: AgentId::new("a").unwrap(),
            session: SessionId::new("s").unwrap(),
            run: RunId::new("s").unwrap(),
            depth: 0,
        };
        Ok(Caller { principal, expires: TimeMs(u64::MAX), narrowed: None })
    }

    fn stands(&self, _: &Caller) -> bool {
        true
    }

    fn lists(&self, _: &Caller, _: &UpstreamId, _: (&ToolName, Digest)) -> bool {
        true
    }

    async fn govern(&self, _: Call, _: Arc<Work>) -> Answer<Reply> {
        self.governed.fetch_add(1, Ordering::SeqCst);
        Answer::Denied { reasons: vec![Reason::plain(ReasonCode::NoPermit)], receipt: None }
    }

    async fn refuse(&self, _: Point, _: Option<Principal>, _: Reason) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }
}

/// Writes every line that it gets into `$SEEN`.
const SERVER: &str = r#"
n=0
while read -r line; do
  printf '%s\n' "$line" >> "$SEEN"
  case "$line" in *'"id":'*) n=$((n+1)) ;; esac
  case "$line" in
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$n',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{}}}' ;;
    *) echo '{"jsonrpc":"2.0","id":'$n',"result":{"tools":[]}}' ;;
  esac
done
"#;

async fn post(address: std::net::SocketAddr, session: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer token\r\n\
         Content-Type: application/json\r\n{session}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_running_front_lets_no_refused_frame_through() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let env = vec![("SEEN".to_owned(), seen.display().to_string())];
    let args = vec!["-c".to_owned(), SERVER.to_owned()];
    let config = UpstreamConfig::stdio(UpstreamId::new("u").unwrap(), "/bin/sh", args, env, None).unwrap();
    let upstream = Upstream::connect(config).await.unwrap();
    let governor = Deny::default();
    let server =
        Server::new(FrontConfig::new("127.0.0.1:0".parse().unwrap()), governor.clone(), vec![upstream.clone()]);
    let listener = server.bind().await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(server.serve(listener, shutdown.clone()));

    let open = br#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let opened = post(address, "", open).await;
    let session = opened.lines().find(|line| line.starts_with("mcp-session-id")).unwrap();
    let session = format!("{session}\r\n");
    let before = std::fs::read(&seen).unwrap();
    let refused = corpus("refuse-");
    for (name, body) in &refused {
        let answer = post(address, &session, body).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
        assert!(answer.contains(r#""error":{"code":-32"#), "{name}: {answer}");
    }
    assert_eq!(governor.refused.load(Ordering::SeqCst), refused.len());
    assert_eq!(governor.governed.load(Ordering::SeqCst), 0);
    for (name, body) in corpus("accept-") {
        let answer = post(address, &session, &body).await;
        // It is read; but this session was asked nothing that it could answer.
        let wanted = if ["accept-response.json", "accept-error-without-id.json"].contains(&name.as_str()) {
            "HTTP/1.1 400"
        } else {
            "HTTP/1.1 20"
        };
        assert!(answer.starts_with(wanted), "{name}: {answer}");
    }
    assert_eq!(governor.governed.load(Ordering::SeqCst), 1, "the one call of the corpus");
    assert_eq!(std::fs::read(&seen).unwrap(), before, "and it was denied");
    shutdown.cancel();
    serving.await.unwrap();
    upstream.close().await;
}
