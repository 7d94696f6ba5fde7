//! A file system that is really full below a running gateway: a small one is mounted, filled, and emptied again.
//!
//! `testkit/tests/disk_faults.rs` and its neighbours try every step of a full disk in memory; here stands that Linux says
//! what they take it to say, for a file system in memory and for one on a device. It needs the right to mount.
//! Where that is refused nothing is tested, and the test says so. It does not cover a device that fails.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use countersign_model::Body;
use countersign_model::record::Status;
use serde_json::json;
use support::agent::{Agent, End, Seen};
use support::log::copied;
use support::{Installation, Setup};

/// Room for a ledger that sets aside 4 MiB at a time.
const SIZE: &str = "24M";
/// What is left free for the calls that fill it up.
const LEFT_BYTES: u64 = 1 << 20;
/// The text of each of those calls, in bytes.
const TEXT_BYTES: usize = 60_000;

/// A small file system over a folder; dropping it takes it away.
struct Mounted {
    at: PathBuf,
    ballast: PathBuf,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: what a failed test left open must not keep it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

fn works(program: &str, args: &[&str]) -> Result<(), String> {
    let ended = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    if ended.status.success() { Ok(()) } else { Err(format!("{program}: {said}")) }
}

impl Mounted {
    /// Puts a file system under the installation's ledger, which moves onto it.
    fn under(of: &Installation, kind: &str) -> Result<Self, String> {
        let (at, aside) = (of.path("ledger"), of.path("aside"));
        let path = at.display().to_string();
        let image = of.path("image").display().to_string();
        copied(&at, &aside);
        if kind == "tmpfs" {
            works("mount", &["-t", "tmpfs", "-o", &format!("size={SIZE}"), "tmpfs", &path])?;
        } else {
            works("truncate", &["--size", SIZE, &image])?;
            works(&format!("mkfs.{kind}"), &["-q", "-m", "0", &image])?;
            works("mount", &["-t", kind, "-o", "loop", &image, &path])?;
        }
        let mounted = Self { ballast: at.join("ballast"), at };
        fs::set_permissions(&mounted.at, fs::Permissions::from_mode(0o700)).unwrap();
        copied(&aside, &mounted.at);
        Ok(mounted)
    }

    /// Takes all of its space but `left` bytes.
    fn fill(&self, left: u64) {
        let mut ballast = OpenOptions::new().create(true).append(true).open(&self.ballast).unwrap();
        let block = vec![7; 64 << 10];
        let full = loop {
            if let Err(error) = ballast.write_all(&block).and_then(|()| ballast.sync_data()) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length.saturating_sub(left)).unwrap();
        ballast.sync_all().unwrap();
    }

    fn free(&self) {
        File::create(&self.ballast).unwrap().sync_all().unwrap();
    }
}

async fn put(agent: &Agent, id: &str, text_bytes: usize) -> Seen {
    let arguments = json!({ "id": id, "text": "x".repeat(text_bytes) });
    Seen::of(&agent.client.call_tool("put", &arguments.to_string()).await.unwrap())
}

/// Calls until nothing fits any more, large calls first and then small ones; gives those that ran, with their receipts.
async fn filled(agent: &Agent, round: &str) -> Vec<(String, String)> {
    let mut ran = Vec::new();
    for text_bytes in [TEXT_BYTES, 1] {
        for call in 0.. {
            assert!(call < 1_000, "it is never full");
            let id = format!("{round}-{text_bytes}-{call}");
            let seen = put(agent, &id, text_bytes).await;
            match seen.end {
                End::Ran(_) => ran.push((id, seen.receipt.unwrap())),
                End::Denied(code) if code == "disk_full" => break,
                other => panic!("{other:?}"),
            }
        }
    }
    ran
}

async fn full_and_free_again(kind: &str) {
    let at = Installation::new(&Setup::lab());
    let disk = match Mounted::under(&at, kind) {
        Ok(mounted) => mounted,
        Err(refused) => {
            println!("NOT RUN: no {kind} can be mounted here, so no disk is really full: {refused}");
            return;
        }
    };
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    // The first call of a tool has a smaller record: nothing is known of its definition yet.
    assert!(matches!(agent.call("look", "early").await.end, End::Ran(_)));
    disk.fill(LEFT_BYTES);
    let mut ran = filled(&agent, "first").await;
    assert!(ran.len() > 10, "{kind}: {} calls ran", ran.len());
    let effects = at.effects().len();
    for call in 0..10 {
        for tool in ["put", "look", "change"] {
            assert_eq!(agent.call(tool, &format!("full-{call}")).await.denied(), "disk_full", "{kind}: {tool}");
        }
    }
    assert_eq!(at.effects().len(), effects, "nothing runs that cannot be recorded");

    // A start needs room for a record and some keys. Where what was set aside still has it, it comes up and denies.
    gateway.crash().await;
    disk.fill(0);
    match at.try_up().await {
        Err(refused) => {
            assert_eq!(refused.code, 1, "{refused:?}");
            assert!(refused.error.to_lowercase().contains("no space left"), "{refused:?}");
        }
        Ok(gateway) => {
            let agent = Agent::connect(&gateway.url, &at.token()).await;
            let large = put(&agent, "full-after-a-start", TEXT_BYTES).await;
            assert_eq!(large.denied(), "disk_full", "{kind}");
            gateway.crash().await;
        }
    }

    disk.free();
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.token()).await;
    disk.fill(LEFT_BYTES);
    ran.extend(filled(&agent, "second").await);
    disk.free();
    // Without a restart this time.
    let mut again = None;
    for call in 0..200 {
        let id = format!("again-{call}");
        let seen = put(&agent, &id, TEXT_BYTES).await;
        if let End::Ran(_) = seen.end {
            again = Some((id, seen.receipt.unwrap()));
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    ran.push(again.unwrap_or_else(|| panic!("{kind}: service does not return")));
    assert!(matches!(agent.call("look", "small").await.end, End::Ran(_)));
    gateway.stop().await;
    nothing_is_lost(&at, &ran);
}

/// Every effect has its intent and its outcome, every receipt holds, and the log verifies.
fn nothing_is_lost(at: &Installation, ran: &[(String, String)]) {
    let verified = at.run(&["log", "verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    assert_eq!(at.run(&["replay"]).code, 0);
    let records = at.records();
    let done = |id: &str| {
        let intent = records.iter().find(|entry| entry.id() == id && matches!(entry.record.body, Body::Intent(_)))?;
        let outcome = records.iter().find_map(|entry| match &entry.record.body {
            Body::Outcome(outcome) if outcome.intent.0 == intent.index => Some(outcome),
            _ => None,
        })?;
        Some(outcome.status == Status::Done)
    };
    for effect in at.effects() {
        let id = effect.split_once(' ').unwrap().1;
        assert_eq!(done(id), Some(true), "`{effect}` took place");
    }
    for (id, receipt) in ran {
        assert!(at.effects().iter().any(|effect| effect.ends_with(id.as_str())), "`{id}` was answered");
        at.verified(receipt);
    }
    assert!(at.effects().iter().all(|effect| !effect.contains("full-")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_in_memory_denies_and_clears() {
    full_and_free_again("tmpfs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_file_system_on_a_device_denies_and_clears() {
    full_and_free_again("ext4").await;
}
