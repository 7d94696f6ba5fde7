//! A thousand sessions at once, and what each one costs. Only the public interface is used, in a process of its own, so
//! that the memory that is measured is the gateway's.

#![expect(clippy::unwrap_used, reason = "a test that fails says so")]

use std::sync::Arc;

use countersign_gate::call::{Answer, Call};
use countersign_model::action::Point;
use countersign_model::id::{AgentId, RunId, SessionId, TenantId, ToolName, UpstreamId};
use countersign_model::unit::TimeMs;
use countersign_model::{Caller, Digest, Principal, Reason, ReasonCode};
use countersign_points::Governor;
use countersign_points::mcp::config::{FrontConfig, UpstreamConfig};
use countersign_points::mcp::{Reply, Server, Upstream, Work};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const SESSIONS: usize = 1_000;
/// The bar: a live session is under 16 KiB.
const SESSION_BYTES_MAX: usize = 16 * 1024;

/// Every token is an agent of its own.
#[derive(Clone)]
struct Everyone;

impl Governor<Work> for Everyone {
    fn identify(&self, token: &str) -> Result<Caller, Reason> {
        let principal = Principal {
            tenant: TenantId::new("t").unwrap(),
            agent: AgentId::new(token).unwrap(),
            session: SessionId::new(token).unwrap(),
            run: RunId::new(token).unwrap(),
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
        Answer::Denied { reasons: vec![Reason::plain(ReasonCode::NoPermit)], receipt: None }
    }

    async fn refuse(&self, _: Point, _: Option<Principal>, _: Reason) {}
}

const SERVER: &str = r#"
n=0
while read -r line; do
  case "$line" in *'"id":'*) n=$((n+1)) ;; esac
  case "$line" in
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$n',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{}}}' ;;
    *) echo '{"jsonrpc":"2.0","id":'$n',"result":{"tools":[]}}' ;;
  esac
done
"#;

async fn post(address: std::net::SocketAddr, token: &str, session: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\n{session}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// What the process holds in memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn a_thousand_sessions_are_small_and_all_alive() {
    let args = vec!["-c".to_owned(), SERVER.to_owned()];
    let config = UpstreamConfig::stdio(UpstreamId::new("u").unwrap(), "/bin/sh", args, Vec::new(), None).unwrap();
    let upstream = Upstream::connect(config).await.unwrap();
    let server = Server::new(FrontConfig::new("127.0.0.1:0".parse().unwrap()), Everyone, vec![upstream.clone()]);
    let doors = server.bind().await.unwrap();
    let address = doors.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(server.serve(doors, shutdown.clone()));
    let open = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{}},"clientInfo":{"name":"c","version":"1"}}}"#;
    let session = |answer: &str| {
        let line = answer.lines().find(|line| line.starts_with("mcp-session-id"));
        format!("{}\r\n", line.unwrap_or_else(|| panic!("{answer}")))
    };
    // What is allocated once is there before anything is measured.
    let mut all: Vec<(String, String)> = Vec::new();
    for n in 0..20 {
        all.push((format!("a{n}"), session(&post(address, &format!("a{n}"), "", open).await)));
    }
    let before = resident();
    for n in 20..SESSIONS {
        all.push((format!("a{n}"), session(&post(address, &format!("a{n}"), "", open).await)));
    }
    let each = resident().saturating_sub(before) / (SESSIONS - 20);
    println!("{each} bytes a session");
    assert!(each < SESSION_BYTES_MAX, "{each} bytes a session");
    let ping = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
    for (token, session) in all.iter().step_by(37) {
        assert!(post(address, token, session, ping).await.contains(r#""result":{}"#), "{token}");
    }
    shutdown.cancel();
    serving.await.unwrap();
    upstream.close().await;
}
