//! The demo's upstream: a small MCP server over a SQLite file, on standard input and output.
//!
//! It is a real server with real effects and no governance of its own: whatever SQL reaches it
//! runs. It speaks the tools part of MCP 2025-11-25. Every effect is also written with its time to
//! `effects.log` beside the database, so that the demo can say when the last one happened.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};

use crate::json::at;

/// Executives in the database at the start, the twelve test rows among them.
pub(crate) const EXECUTIVES: u32 = 1_206;
/// Companies in the database at the start.
pub(crate) const COMPANIES: u32 = 1_190;
/// Rows that the team left from testing and really wants gone.
pub(crate) const TEST_ROWS: u32 = 12;

/// Fills a new database.
pub(crate) fn seed(path: &Path) -> Result<()> {
    let mut db = Connection::open(path)?;
    let fill = db.transaction()?;
    fill.execute_batch(
        "CREATE TABLE executives (id INTEGER PRIMARY KEY, name TEXT NOT NULL, company_id INTEGER NOT NULL);
         CREATE TABLE companies (id INTEGER PRIMARY KEY, name TEXT NOT NULL);",
    )?;
    for id in 1..=COMPANIES {
        fill.execute("INSERT INTO companies VALUES (?1, ?2)", (id, format!("Company {id}")))?;
    }
    for id in 1..=EXECUTIVES {
        let name = if id > EXECUTIVES - TEST_ROWS {
            format!("test-{}", id - (EXECUTIVES - TEST_ROWS))
        } else {
            format!("Executive {id}")
        };
        fill.execute("INSERT INTO executives VALUES (?1, ?2, ?3)", (id, name, id % COMPANIES + 1))?;
    }
    fill.commit()?;
    Ok(())
}

/// Rows in both tables.
pub(crate) fn rows(path: &Path) -> Result<u64> {
    let db = Connection::open(path)?;
    let rows: i64 =
        db.query_row("SELECT (SELECT count(*) FROM executives) + (SELECT count(*) FROM companies)", (), |row| {
            row.get(0)
        })?;
    Ok(u64::try_from(rows)?)
}

struct Server {
    db: Mutex<Connection>,
    effects: Mutex<File>,
    out: Mutex<std::io::Stdout>,
    running: Mutex<BTreeMap<String, Arc<AtomicBool>>>,
}

/// Serves the database at `path` until standard input ends.
pub(crate) fn serve(path: &Path) -> Result<()> {
    let server = Arc::new(Server {
        db: Mutex::new(Connection::open(path).context("cannot open the demo's database")?),
        effects: Mutex::new(OpenOptions::new().create(true).append(true).open(path.with_file_name("effects.log"))?),
        out: Mutex::new(std::io::stdout()),
        running: Mutex::new(BTreeMap::new()),
    });
    for line in std::io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else {
            continue;
        };
        server.receive(message);
    }
    Ok(())
}

impl Server {
    fn receive(self: &Arc<Self>, message: Value) {
        let method = at(&message, "/method").as_str().unwrap_or_default().to_owned();
        let Some(id) = message.get("id").cloned() else {
            if method == "notifications/cancelled" {
                self.cancel(at(&message, "/params/requestId"));
            }
            return;
        };
        let answer = match method.as_str() {
            "initialize" => Ok(json!({
                "protocolVersion": "2025-11-25",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "countersign-demo-crm", "version": env!("CARGO_PKG_VERSION")},
            })),
            "ping" => Ok(json!({})),
            "tools/list" => Ok(tools()),
            "tools/call" => return self.call(id, at(&message, "/params").clone()),
            _ => Err(json!({"code": -32601, "message": format!("no method `{method}` here")})),
        };
        self.answer(&id, answer);
    }

    fn call(self: &Arc<Self>, id: Value, params: Value) {
        let cancelled = Arc::new(AtomicBool::new(false));
        lock(&self.running).insert(id.to_string(), cancelled.clone());
        let server = self.clone();
        thread::spawn(move || {
            let arguments = at(&params, "/arguments");
            let result = match at(&params, "/name").as_str() {
                Some("query") => server.query(at(arguments, "/sql").as_str().unwrap_or_default()),
                Some("mail_merge") => server.mail_merge(at(arguments, "/letters").as_u64().unwrap_or(0), &cancelled),
                _ => Err(anyhow::anyhow!("no such tool")),
            };
            lock(&server.running).remove(&id.to_string());
            if cancelled.load(Ordering::SeqCst) {
                return;
            }
            let (text, failed) = match result {
                Ok(text) => (text, false),
                Err(error) => (format!("{error:#}"), true),
            };
            server.answer(&id, Ok(json!({"content": [{"type": "text", "text": text}], "isError": failed})));
        });
    }

    /// Runs one statement, whatever it is.
    fn query(&self, sql: &str) -> Result<String> {
        let db = lock(&self.db);
        let mut statement = db.prepare(sql)?;
        if statement.column_count() == 0 {
            let changed = statement.execute(())?;
            self.effect(&format!("{changed} rows changed"))?;
            return Ok(format!("{changed} rows changed"));
        }
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query(())?;
        let mut out = Vec::new();
        while let Some(row) = rows.next()? {
            let fields = columns.iter().enumerate().map(|(index, name)| {
                let value = match row.get_ref(index)? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(number) => number.into(),
                    ValueRef::Real(number) => number.into(),
                    ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
                    ValueRef::Blob(blob) => format!("{} bytes", blob.len()).into(),
                };
                Ok((name.clone(), value))
            });
            out.push(fields.collect::<Result<serde_json::Map<_, _>>>()?);
            if out.len() >= 200 {
                break;
            }
        }
        Ok(serde_json::to_string(&out)?)
    }

    /// Pretends to send letters, one every ten milliseconds: a slow call with an effect at every step.
    fn mail_merge(&self, letters: u64, cancelled: &AtomicBool) -> Result<String> {
        for letter in 0..letters {
            if cancelled.load(Ordering::SeqCst) {
                bail!("cancelled after {letter} letters");
            }
            self.effect("letter")?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(format!("{letters} letters sent"))
    }

    fn effect(&self, what: &str) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        writeln!(lock(&self.effects), "{} {what}", now.as_micros())?;
        Ok(())
    }

    fn cancel(&self, id: &Value) {
        if let Some(cancelled) = lock(&self.running).get(&id.to_string()) {
            cancelled.store(true, Ordering::SeqCst);
        }
    }

    fn answer(&self, id: &Value, answer: Result<Value, Value>) {
        let message = match answer {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
        };
        let mut out = lock(&self.out);
        // A gateway that is gone cannot be answered; standard input ends next.
        let _ = writeln!(out, "{message}").and_then(|()| out.flush());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tools() -> Value {
    json!({"tools": [
        {
            "name": "query",
            "description": "Runs one SQL statement on the customer database.",
            "inputSchema": {"type": "object", "properties": {"sql": {"type": "string"}}, "required": ["sql"]},
        },
        {
            "name": "mail_merge",
            "description": "Sends a number of letters, slowly.",
            "inputSchema": {"type": "object", "properties": {"letters": {"type": "integer"}}, "required": ["letters"]},
        },
    ]})
}
