//! The signer with the log's keys in a PKCS#11 token: SoftHSM, in a folder of its own.

#[cfg(not(feature = "pkcs11"))]
#[test]
fn a_program_without_the_feature_names_it() {
    let flags = ["--pkcs11-module", "m", "--pkcs11-token", "t", "--pkcs11-key", "k", "--pkcs11-pin-file", "p"];
    let ran = super::support::run(&[&["--json", "signer", "--dir", ".", "--socket", "s"][..], &flags].concat());
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.error().contains("--features pkcs11"), "{ran:?}");
}

#[test]
fn the_flags_come_together() {
    let one = ["signer", "--dir", ".", "--socket", "s", "--pkcs11-token", "t"];
    let three =
        ["signer", "--dir", ".", "--socket", "s", "--pkcs11-module", "m", "--pkcs11-token", "t", "--pkcs11-key", "k"];
    let with_take =
        ["signer", "--dir", ".", "--take-key", "l", "--pkcs11-module", "m", "--pkcs11-token", "t", "--pkcs11-key", "k"];
    for args in [&one[..], &three, &with_take] {
        let ran = super::support::run(args);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        assert!(!std::path::Path::new("s").exists());
    }
}

#[cfg(feature = "pkcs11")]
mod with_softhsm {
    use std::process::Command;

    use countersign_testkit::softhsm::{CONFIGURATION, SoftHsm, TOKEN};

    use crate::support::Installation;
    use crate::support::agent::Agent;
    use crate::{Signer, separated, served_again};

    fn in_token(at: &Installation, hsm: &SoftHsm) -> Command {
        let mut command = Signer::command(at);
        command.env(CONFIGURATION, hsm.configuration());
        command.arg("--pkcs11-module").arg(hsm.module()).args(["--pkcs11-token", TOKEN, "--pkcs11-key", "log"]);
        command.arg("--pkcs11-pin-file").arg(hsm.pin_file());
        command
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_log_goes_on_with_a_key_in_a_token() {
        let Some(hsm) = SoftHsm::new() else { return };
        let at = separated();
        let mut signer = Signer::spawn(&mut in_token(&at, &hsm));
        assert_eq!(signer.said["key_in"], "file");
        let gateway = at.up().await;
        let agent = Agent::connect(&gateway.url, &at.token()).await;
        at.write("old.json", &served_again(&agent, "file").await);
        let changed = at.owner(&["log", "rotate-key"]);
        assert!(!at.path("signer/log.key").exists());
        at.write("new.json", &served_again(&agent, "token").await);
        // Killed, and changed once more: from one key in the token to the next.
        for turn in 0..2 {
            drop(signer);
            assert_eq!(agent.call("put", &format!("dead-{turn}")).await.denied(), "signer_unavailable");
            signer = Signer::spawn(&mut in_token(&at, &hsm));
            assert_eq!(signer.said["key_in"], "token");
            served_again(&agent, &format!("back-{turn}")).await;
            if turn == 0 {
                assert_eq!(signer.said["key"], changed["key"]);
                assert_ne!(at.owner(&["log", "rotate-key"])["key"], changed["key"]);
            }
        }
        at.write("newest.json", &served_again(&agent, "newest").await);
        gateway.stop().await;
        at.upstreams_ended();
        drop(signer);
        let (first, keys) = (at.path("ledger/log.vkey"), at.path("ledger/public/log.keys"));
        let (first, keys) = (first.display().to_string(), keys.display().to_string());
        for receipt in ["old.json", "new.json", "newest.json"] {
            let file = at.path(receipt).display().to_string();
            let ran = at.run(&["log", "verify", &file, "--key", &first, "--keys", &keys]);
            assert_eq!(ran.code, 0, "{receipt}: {ran:?}");
        }
        assert_eq!(at.run(&["log", "verify", "--key", &first]).code, 0);
        refusals(&at, &hsm);
    }

    /// What a signer says that cannot begin: in one line, with exit code 1.
    fn refusals(at: &Installation, hsm: &SoftHsm) {
        let check = |command: &mut Command, expected: &str| {
            let output = command.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(expected), "{said}");
        };
        check(&mut Signer::command(at), "--pkcs11-");
        hsm.write_pin("0000");
        check(&mut in_token(at, hsm), "refused the PIN");
        std::fs::set_permissions(hsm.pin_file(), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        check(&mut in_token(at, hsm), "chmod 600");
    }
}
