//! The gateway before and beside its calls: how long it takes to be up, what it holds idle, and what a session costs.
//!
//! A session here is a protocol session of a connection that stays open. Memory is what is resident, read from outside;
//! a session's share is the growth over all of them, so what the allocator keeps for later is counted against it.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::driver::Session;
use crate::figures::median;
use crate::service::Service;

/// Sessions open at once.
const SESSIONS: usize = 1_000;
/// How many times it is started.
const STARTS: usize = 5;
/// Until the memory of a start is given back.
const SETTLE: Duration = Duration::from_millis(500);

/// What was found.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Standing {
    /// From starting the program to the line that says where it listens, in milliseconds: median of several.
    pub(crate) up_ms: f64,
    /// Resident memory with no session, in KiB.
    pub(crate) idle_kib: u64,
    /// Sessions that were open at once.
    pub(crate) sessions: usize,
    /// Growth of resident memory by one of them, in bytes.
    pub(crate) session_bytes: u64,
}

/// Starts the gateway a few times, then opens sessions.
pub(crate) async fn measure<F: Future<Output = Result<Service>>>(
    start: impl Fn() -> F,
    tokens: &[String],
) -> Result<Standing> {
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let service = start().await?;
        took.push(begun.elapsed().as_secs_f64() * 1_000.0);
        service.stop().await?;
    }
    let service = start().await?;
    tokio::time::sleep(SETTLE).await;
    let idle_kib = service.resident_kib()?;
    let mut open = Vec::new();
    for (index, token) in tokens.iter().cycle().take(SESSIONS).enumerate() {
        open.push(Session::open(service.address, index, token.clone(), true).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let grown_kib = service.resident_kib()?.saturating_sub(idle_kib);
    let sessions = open.len();
    drop(open);
    service.stop().await?;
    Ok(Standing { up_ms: median(took), idle_kib, sessions, session_bytes: grown_kib * 1_024 / sessions.max(1) as u64 })
}
