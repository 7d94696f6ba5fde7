//! Other people's servers behind each HTTP transport: the gateway opens them, lists, and lets a call through.
//!
//! What their answers are byte for byte is compared in `third_party`. Not covered: servers of the modern era; none of
//! the lab's over HTTP speaks it.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

mod support;

use std::process::{Child, Command, Stdio};

use countersign_points::mcp::client::{Client, Raw};
use serde_json::{Value, json};
use support::{Installation, Setup, until};

/// Permits whatever comes: nothing is bound, so every call is opaque.
const PERMIT_OPAQUE: &str = r#"
@id("opaque-runs")
permit (principal, action in Action::"call", resource)
when { context.opaque };
"#;

/// A server of its own; it ends with its handle.
struct Served {
    child: Child,
    port: u16,
}

impl Served {
    /// server-everything on `transport`; `None` only where somebody said that the lab may be left out.
    fn everything(transport: &str) -> Option<Self> {
        let lab = match (std::env::var_os("COUNTERSIGN_LAB"), std::env::var_os("COUNTERSIGN_WITHOUT_LAB")) {
            (Some(lab), _) if !lab.is_empty() => lab,
            (_, Some(set)) if set == "1" => {
                println!("SKIPPED: there is no lab, and COUNTERSIGN_WITHOUT_LAB=1 says that this is meant");
                return None;
            }
            _ => panic!("COUNTERSIGN_LAB is not set: run `cargo xtask lab` and set what it prints"),
        };
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(std::path::Path::new(&lab).join("bin/mcp-server-everything"))
            .arg(transport)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let served = Self { child, port };
        until("the server listens", &mut || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(served)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn runs_through(transport: &str, path: &str, more: &str) {
    let Some(served) = Served::everything(transport) else { return };
    let mut setup = Setup::url(&format!("http://127.0.0.1:{}{path}", served.port));
    setup.upstream.push_str(more);
    let at = Installation::new(&Setup { tools: "{}".to_owned(), policy: PERMIT_OPAQUE.to_owned(), ..setup });
    let gateway = at.up().await;
    let client = Client::connect(&gateway.url, at.token().trim()).await.unwrap();
    for word in ["one", "two"] {
        let Raw::Result(raw) = client.call_tool("echo", &json!({ "message": word }).to_string()).await.unwrap() else {
            panic!("{word} is refused")
        };
        let result: Value = serde_json::from_slice(&raw).unwrap();
        assert_eq!(result["content"][0]["text"], format!("Echo: {word}"));
        assert!(!result["_meta"]["countersign/receipt"].is_null());
    }
    client.close().await.unwrap();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_2024_is_governed() {
    runs_through("sse", "/sse", "\n    transport: sse").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_streamable_http_is_governed() {
    runs_through("streamableHttp", "/mcp", "").await;
}

/// An address where nothing listens.
fn nowhere() -> String {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("url: http://127.0.0.1:{port}/mcp")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_down_at_the_start_keeps_the_others_from_nothing() {
    let lab = Setup::lab();
    let away = format!(
        "{}\n    tools: {}\n  - id: away\n    target: away\n    environment: production\n    {}",
        lab.upstream,
        lab.tools.replace('\n', " "),
        nowhere(),
    );
    let at = Installation::new(&Setup { upstream: away, tools: "{}".to_owned(), ..lab });
    let gateway = at.up().await;
    let warnings = gateway.said["warnings"].to_string();
    assert!(warnings.contains("upstream `away`") && warnings.contains("it is tried again"), "{warnings}");
    let client = Client::connect(&format!("{}/lab", gateway.url), at.token().trim()).await.unwrap();
    let Raw::Result(raw) = client.call_tool("look", r#"{"id":"1","text":"x"}"#).await.unwrap() else {
        panic!("what is up does not serve")
    };
    let result: Value = serde_json::from_slice(&raw).unwrap();
    assert!(!result["_meta"]["countersign/receipt"].is_null());
    client.close().await.unwrap();
    let refused = Client::connect(&format!("{}/away", gateway.url), at.token().trim()).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("upstream"), "{refused}");
    let listed = at.run(&["tools", "list"]).json().to_string();
    assert!(listed.contains("could not be reached"), "{listed}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_what_is_down_does_not_start() {
    let away = Setup { upstream: nowhere(), tools: "{}".to_owned(), ..Setup::lab() };
    let not = Installation::new(&away).try_up().await.map(drop).unwrap_err();
    assert!(not.code != 0 && not.error.contains("could not be reached") && not.error.contains("`url: "), "{not:?}");
}
