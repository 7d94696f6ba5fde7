//! The ten scenarios through the MCP point: a real front on a loopback port, a real client, a real upstream process.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use countersign_points::mcp::client::{Client, Raw};
use countersign_points::mcp::config::{FrontConfig, UpstreamConfig};
use countersign_points::mcp::{Server, Upstream};
use countersign_testkit::scenario::{self, Door, Said};
use countersign_testkit::world::{World, arguments, id};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Mcp {
    address: SocketAddr,
    token: String,
    effects: PathBuf,
    upstream: Upstream,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Mcp {
    fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }
}

/// One file for all doors of a test, so that a second process sees the effects of the first.
fn effects_file() -> PathBuf {
    let name = std::thread::current().name().unwrap_or("main").replace("::", "-");
    std::env::temp_dir().join(format!("countersign-scenario-{}-{name}", std::process::id()))
}

impl Door for Mcp {
    fn open(world: &World) -> Self {
        let effects = effects_file();
        let program = env!("CARGO_BIN_EXE_testkit-upstream");
        let args = vec![effects.display().to_string()];
        let config = UpstreamConfig::stdio(id("crm"), program, args, Vec::new(), None).unwrap();
        let front = FrontConfig::new("127.0.0.1:0".parse().unwrap());
        let (shutdown, gate) = (CancellationToken::new(), world.gate.clone());
        let stopped = shutdown.clone();
        world.wait(async {
            let upstream = Upstream::connect(config).await.unwrap();
            let server = Server::new(front, gate, vec![upstream.clone()]);
            let listener = server.bind().await.unwrap();
            let address = listener.local_addr().unwrap();
            let serving = tokio::spawn(server.serve(listener, stopped));
            Self { address, token: world.token.clone(), effects, upstream, shutdown, serving }
        })
    }

    fn ask(&self, world: &World, sql: &str) -> Said {
        let said = world.wait(async {
            let client = Client::connect(&self.url(), &self.token).await.unwrap();
            client.call_tool("query", &arguments(sql)).await.unwrap()
        });
        said_by(&said)
    }

    fn begin_slow(&self, world: &World) -> Box<dyn FnOnce(&World) -> Said> {
        let (url, token) = (self.url(), self.token.clone());
        let call = world.stage.runtime.spawn(async move {
            let client = Client::connect(&url, &token).await.unwrap();
            client.call_tool("slow", r#"{"steps":1}"#).await
        });
        Box::new(|world| world.wait(call).unwrap().map_or(Said::Unknown, |raw| said_by(&raw)))
    }

    fn ask_ambiguously(&self, world: &World, sql: &str) -> Said {
        let client = world.wait(Client::connect(&self.url(), &self.token)).unwrap();
        drop(client);
        // The session is not what is tested: the key `sql` stands there twice.
        let twice = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"query","arguments":{{"sql":"{sql}","sql":"DROP TABLE customers"}}}}}}"#
        );
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{twice}",
            self.address,
            self.token,
            twice.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("twice") || answer.contains("duplicate"), "{answer}");
        Said::Refused
    }

    fn effects(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.effects).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn close(self, world: &World) -> Vec<String> {
        self.shutdown.cancel();
        world.wait(self.upstream.close());
        world
            .stage
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(20), self.serving).await })
            .unwrap()
            .unwrap();
        std::fs::read_to_string(&self.effects).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

fn said_by(raw: &Raw) -> Said {
    let value: Value = serde_json::from_slice(raw.bytes()).unwrap();
    let at = |path: &str| value.pointer(path).cloned().unwrap_or_default();
    if let Raw::Error(_) = raw {
        return match at("/data/countersign/status").as_str() {
            Some("unknown" | "done") => Said::Unknown,
            _ => panic!("an error that no scenario expects: {value}"),
        };
    }
    let verdict = at("/structuredContent/countersign");
    let member = |name: &str| verdict.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    match member("verdict").as_str() {
        "pending" => Said::Pending(id(&member("ticket"))),
        "deny" => Said::Denied(at("/structuredContent/countersign/reasons/0/code").as_str().unwrap().to_owned()),
        _ => Said::Ran {
            text: at("/content/0/text").as_str().unwrap().to_owned(),
            receipt: at("/_meta/countersign~1receipt").is_object(),
        },
    }
}

/// Plays a scenario and clears away what its upstream wrote.
fn play(scenario: fn()) {
    let _ = std::fs::remove_file(effects_file());
    scenario();
    let _ = std::fs::remove_file(effects_file());
}

#[test]
fn allow() {
    play(scenario::allow::<Mcp>);
}

#[test]
fn deny() {
    play(scenario::deny::<Mcp>);
}

#[test]
fn approve() {
    play(scenario::approve::<Mcp>);
}

#[test]
fn expire() {
    play(scenario::expire::<Mcp>);
}

#[test]
fn budget() {
    play(scenario::budget::<Mcp>);
}

#[test]
fn kill() {
    play(scenario::kill::<Mcp>);
}

#[test]
fn malformed() {
    play(scenario::malformed::<Mcp>);
}

#[test]
fn crash_before_intent() {
    play(scenario::crash_before_intent::<Mcp>);
}

#[test]
fn crash_after_intent() {
    play(scenario::crash_after_intent::<Mcp>);
}

#[test]
fn lost_reply() {
    play(scenario::lost_reply::<Mcp>);
}
