//! The scripted agent: a real MCP client over streamable HTTP, with a token and nothing else.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use countersign_points::mcp::client::{Client, Raw};
use serde_json::Value;

use crate::json::at;

/// What an agent sees of one call.
#[derive(Debug)]
pub(crate) enum Seen {
    /// It ran.
    Allowed(String),
    /// It may not run; the first reason code.
    Denied(String),
    /// It waits; the ticket, and whether it waited already.
    Parked(String, bool),
    /// It was stopped while under way.
    Cancelled,
}

/// One agent with one session.
pub(crate) struct Agent {
    client: Client,
    receipts: PathBuf,
}

impl Agent {
    /// Connects.
    pub(crate) async fn connect(url: &str, token: &str, receipts: &Path) -> Result<Self> {
        Ok(Self { client: Client::connect(url, token.trim()).await?, receipts: receipts.to_owned() })
    }

    /// Runs one SQL statement, if it may.
    pub(crate) async fn query(&self, sql: &str) -> Result<Seen> {
        self.call("query", &serde_json::json!({"sql": sql})).await
    }

    /// Calls a tool and keeps the receipt.
    pub(crate) async fn call(&self, tool: &str, arguments: &Value) -> Result<Seen> {
        match self.client.call_tool(tool, &arguments.to_string()).await? {
            Raw::Result(raw) => {
                let result: Value = serde_json::from_slice(&raw)?;
                self.keep(at(&result, "/_meta/countersign~1receipt"))?;
                Ok(seen(&result))
            }
            Raw::Error(raw) => {
                let error: Value = serde_json::from_slice(&raw)?;
                self.keep(at(&error, "/data/countersign~1receipt"))?;
                Ok(Seen::Cancelled)
            }
        }
    }

    fn keep(&self, receipt: &Value) -> Result<()> {
        if receipt.is_null() {
            return Ok(());
        }
        let number = std::fs::read_dir(&self.receipts)?.count();
        let path = self.receipts.join(format!("{number:03}.json"));
        std::fs::write(&path, receipt.to_string()).with_context(|| format!("cannot write `{}`", path.display()))
    }
}

fn seen(result: &Value) -> Seen {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let verdict = at(result, "/_meta/countersign~1verdict");
    match at(verdict, "/verdict").as_str() {
        Some("pending") => Seen::Parked(text(at(verdict, "/ticket")), at(verdict, "/repeated") == true),
        Some(_) => Seen::Denied(text(at(verdict, "/reasons/0/code"))),
        None => Seen::Allowed(text(at(result, "/content/0/text"))),
    }
}
