//! An agent: a real MCP client with a token and nothing else.

use countersign_points::mcp::client::{Client, ClientError, Raw};
use serde_json::{Value, json};

/// One session of an agent.
pub(crate) struct Agent {
    /// The client, for what is not a call.
    pub(crate) client: Client,
}

/// What an agent sees of one call.
#[derive(Debug)]
pub(crate) struct Seen {
    /// How it ended.
    pub(crate) end: End,
    /// The receipt, where there is one.
    pub(crate) receipt: Option<String>,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It ran; the text that came back.
    Ran(String),
    /// It was denied; the first reason code.
    Denied(String),
    /// It waits under this ticket.
    Parked(String),
    /// A JSON-RPC error: `unknown`, `not_started`, ..., or its message.
    Failed(String),
}

impl Agent {
    /// Opens a session.
    pub(crate) async fn connect(url: &str, token: &str) -> Self {
        Self { client: Client::connect(url, token.trim()).await.unwrap() }
    }

    /// Calls `tool` with the argument `id`.
    pub(crate) async fn call(&self, tool: &str, id: &str) -> Seen {
        self.try_call(tool, id).await.unwrap()
    }

    /// Calls `tool` with the argument `id`, where the gateway may be gone.
    pub(crate) async fn try_call(&self, tool: &str, id: &str) -> Result<Seen, ClientError> {
        self.client.call_tool(tool, &json!({ "id": id }).to_string()).await.map(|raw| Seen::of(&raw))
    }
}

impl Seen {
    /// Reads an answer.
    pub(crate) fn of(raw: &Raw) -> Self {
        let value: Value = serde_json::from_slice(raw.bytes()).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (end, receipt) = match raw {
            Raw::Result(_) => {
                let verdict = &value["_meta"]["countersign/verdict"];
                let end = match verdict["verdict"].as_str() {
                    Some("pending") => End::Parked(text(&verdict["ticket"])),
                    Some(_) => End::Denied(text(&verdict["reasons"][0]["code"])),
                    None => End::Ran(text(&value["content"][0]["text"])),
                };
                (end, &value["_meta"]["countersign/receipt"])
            }
            Raw::Error(_) => {
                let data = &value["data"];
                let word = data["countersign"]["status"].as_str().unwrap_or_else(|| value["message"].as_str().unwrap());
                (End::Failed(word.to_owned()), &data["countersign/receipt"])
            }
        };
        Self { end, receipt: (!receipt.is_null()).then(|| receipt.to_string()) }
    }

    /// The ticket of a call that waits.
    pub(crate) fn ticket(&self) -> String {
        match &self.end {
            End::Parked(ticket) => ticket.clone(),
            other => panic!("not parked: {other:?}"),
        }
    }

    /// The reason code of a denied call.
    pub(crate) fn denied(&self) -> &str {
        match &self.end {
            End::Denied(code) => code,
            other => panic!("not denied: {other:?}"),
        }
    }
}

const _: () = {
    let _ = (Agent::connect, Agent::call, Agent::try_call, Seen::of, Seen::ticket, Seen::denied);
    let _ = |seen: Seen| (seen.receipt, End::Ran(String::new()));
};
