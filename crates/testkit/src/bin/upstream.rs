//! The upstream of the scenarios: a small MCP server on standard input and output, with real effects in a file.
//!
//! `query` writes its SQL down as an effect and answers; SQL that holds `lost` ends the process before the answer. `slow`
//! writes an effect every few milliseconds until it is cancelled. It has no governance of its own and does not know
//! that there is any. It does not cover more of MCP than the scenarios need.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a fake upstream that cannot go on ends")]

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufRead as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

type Running = Arc<Mutex<BTreeMap<String, Arc<AtomicBool>>>>;

fn main() {
    let file = std::env::args().nth(1).expect("the file for effects");
    let running = Running::default();
    for line in std::io::stdin().lock().lines() {
        let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
        receive(&file, &running, &message);
    }
}

fn receive(file: &str, running: &Running, message: &Value) {
    let member = |path: &str| message.pointer(path).cloned().unwrap_or_default();
    let id = member("/id");
    match member("/method").as_str().unwrap_or_default() {
        "initialize" => answer(
            &id,
            &json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "testkit", "version": "1"},
            }),
        ),
        "ping" => answer(&id, &json!({})),
        "tools/list" => answer(&id, &json!({"tools": [tool("query", "sql"), tool("slow", "steps")]})),
        "tools/call" if member("/params/name") == "query" => {
            let sql = member("/params/arguments/sql");
            let sql = sql.as_str().unwrap_or_default();
            effect(file, sql);
            if sql.contains("lost") {
                std::process::exit(1);
            }
            answer(&id, &json!({"content": [{"type": "text", "text": "done"}], "isError": false}));
        }
        "tools/call" => {
            let stopped = Arc::new(AtomicBool::new(false));
            running.lock().unwrap().insert(id.to_string(), stopped.clone());
            let file = file.to_owned();
            std::thread::spawn(move || {
                while !stopped.load(Ordering::SeqCst) {
                    effect(&file, "step");
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
        }
        "notifications/cancelled" => {
            if let Some(stopped) = running.lock().unwrap().get(&member("/params/requestId").to_string()) {
                stopped.store(true, Ordering::SeqCst);
            }
        }
        _ => {}
    }
}

fn tool(name: &str, argument: &str) -> Value {
    json!({"name": name, "description": name, "inputSchema": {"type": "object", "properties": {argument: {}}}})
}

fn effect(file: &str, what: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(format!("{what}\n").as_bytes()).unwrap();
}

fn answer(id: &Value, result: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", json!({"jsonrpc": "2.0", "id": id, "result": result})).unwrap();
    out.flush().unwrap();
}
