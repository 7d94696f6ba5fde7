//! Tokens in the hands of their holders: narrowed offline for sub-agents, and cut off branch by branch.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use std::os::unix::fs::MetadataExt as _;

use countersign_points::mcp::client::{Client, ClientError, Raw};
use serde_json::{Value, json};
use support::agent::{Agent, End};
use support::{AGENT, Installation, Ran, Setup};

fn done(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.json()
}

/// Narrows the token in `from` into `to`, both beside the configuration.
fn narrow(at: &Installation, (from, to): (&str, &str), how: &[&str]) -> Ran {
    let (from, to) = (at.path(from), at.path(to));
    let words = ["token", "attenuate", from.to_str().unwrap(), "--out", to.to_str().unwrap()];
    at.run(&[&words, how].concat())
}

fn shown(at: &Installation, file: &str) -> Value {
    done(&at.run(&["token", "show", at.path(file).to_str().unwrap()]))
}

async fn listed(agent: &Agent) -> Vec<String> {
    let Raw::Result(list) = agent.client.request("tools/list", None).await.unwrap() else { panic!("no list") };
    let list: Value = serde_json::from_slice(&list).unwrap();
    let names = list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sub_agent_gets_less_and_its_branch_can_be_cut_off() {
    let at = Installation::new(&Setup::lab());
    let own = format!("tokens/{AGENT}.token");
    // No gateway runs, and nothing of the installation but its public key is needed.
    let only_key = tempfile::tempdir().unwrap();
    std::fs::copy(at.path("token.pub"), only_key.path().join("token.pub")).unwrap();
    let (from, to) = (at.path(&own), at.path("child.token"));
    let key = only_key.path().join("token.pub");
    let made = done(&support::run(&[
        "--json",
        "--config",
        only_key.path().join("countersign.yaml").to_str().unwrap(),
        "token",
        "attenuate",
        from.to_str().unwrap(),
        "--out",
        to.to_str().unwrap(),
        "--for",
        "1h",
        "--tool",
        "look",
        "--tool",
        "put",
        "--upstream",
        "lab",
        "--key",
        key.to_str().unwrap(),
    ]));
    assert_eq!(
        (&made["depth"], &made["tools"], &made["read_only"]),
        (&json!(1), &json!(["look", "put"]), &json!(false))
    );
    assert_eq!(std::fs::metadata(&to).unwrap().mode() & 0o777, 0o600);
    done(&narrow(&at, ("child.token", "grandchild.token"), &["--read-only"]));
    done(&narrow(&at, (&own, "sibling.token"), &["--tool", "put"]));
    let again = narrow(&at, (&own, "child.token"), &["--read-only"]);
    assert!(again.code == 1 && again.error().contains("not overwritten"), "{again:?}");

    let gateway = at.up().await;
    let open = async |file: &str| Agent::connect(&gateway.url, &at.read(file)).await;
    let (parent, child) = (open(&own).await, open("child.token").await);
    let (grandchild, sibling) = (open("grandchild.token").await, open("sibling.token").await);
    let narrowed = End::Denied("token_narrowed".to_owned());
    let ran = || End::Ran("done".to_owned());
    assert_eq!(listed(&child).await, ["look", "put"]);
    assert_eq!(listed(&sibling).await, ["put"]);
    assert_eq!(child.call("put", "1").await.end, ran());
    assert_eq!(child.call("hold", "1").await.end, narrowed);
    assert_eq!(grandchild.call("look", "2").await.end, ran());
    assert_eq!(grandchild.call("put", "2").await.end, narrowed, "only reads, and `put` is none");
    assert_eq!(sibling.call("look", "3").await.end, narrowed);

    let said = shown(&at, "grandchild.token");
    assert_eq!(
        (&said["depth"], &said["tools"], &said["read_only"]),
        (&json!(2), &json!(["look", "put"]), &json!(true))
    );
    let block = said["revocation_ids"][1].as_str().unwrap().to_owned();
    assert_eq!(shown(&at, "child.token")["revocation_ids"][1], json!(block));
    tokio::task::block_in_place(|| at.owner(&["token", "revoke", "--block", &block]));
    for (file, lives) in [(&*own, true), ("sibling.token", true), ("child.token", false), ("grandchild.token", false)] {
        let opened = Client::connect(&gateway.url, at.read(file).trim()).await;
        match opened {
            Ok(_) => assert!(lives, "{file}"),
            Err(ClientError::Status(401)) => assert!(!lives, "{file}"),
            Err(other) => panic!("{file}: {other}"),
        }
    }
    assert!(
        matches!(child.try_call("put", "4").await, Err(ClientError::Status(401))),
        "an open session is no way around"
    );
    assert_eq!(parent.call("put", "5").await.end, ran());
    assert_eq!(sibling.call("put", "6").await.end, ran());
    gateway.stop().await;

    // It holds over a restart, and every decision follows from its record.
    let gateway = at.up().await;
    assert!(Client::connect(&gateway.url, at.read("grandchild.token").trim()).await.is_err());
    gateway.stop().await;
    assert_eq!(at.run(&["replay"]).code, 0);
    assert_eq!(at.effects(), ["put 1", "look 2", "put 5", "put 6"]);
}

#[test]
fn what_cannot_be_narrowed_is_refused_with_a_remedy() {
    let at = Installation::new(&Setup::lab());
    let own = format!("tokens/{AGENT}.token");
    std::fs::copy(at.path(&own), at.path("d0")).unwrap();
    for depth in 1..=8 {
        let made = done(&narrow(
            &at,
            (&format!("d{}", depth - 1), &format!("d{depth}")),
            &["--until", "2099-01-01T00:00:00Z"],
        ));
        assert_eq!((&made["depth"], &made["depth_max"]), (&json!(depth), &json!(8)));
    }
    let check = |ran: &Ran, code: i32, words: &str| {
        assert!(ran.code == code && ran.error().contains(words), "wanted `{words}`: {ran:?}");
    };
    check(&narrow(&at, ("d8", "d9"), &["--read-only"]), 3, "narrowed 8 times already");
    assert!(!at.path("d9").exists());
    check(&narrow(&at, ("d0", "x"), &[]), 2, "say how to narrow it");
    check(&narrow(&at, ("d0", "x"), &["--until", "tomorrow"]), 2, "2026-12-24T18:00:00Z");
    check(&narrow(&at, ("d0", "x"), &["--tool", "two words"]), 2, "two words");
    at.write("open", &at.read("d0"));
    check(&narrow(&at, ("open", "x"), &["--read-only"]), 2, "chmod 600");
    let other = Installation::new(&Setup::lab());
    let foreign = other.path("token.pub");
    check(&narrow(&at, ("d0", "x"), &["--read-only", "--key", foreign.to_str().unwrap()]), 2, "not a token of ours");
    check(&narrow(&at, ("d0", "x"), &["--read-only", "--key", "/nowhere"]), 1, "token.pub");
    check(&at.run(&["token", "revoke", "--block", "12"]), 2, "128 hexadecimal digits");
    assert!(!at.path("x").exists());
}
