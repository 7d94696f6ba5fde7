//! A human's key, opened in the test itself: what a signature costs at the terminal is paid once.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_model::command::{Command, Deed, Signed, consent_message};
use countersign_model::id::HumanId;
use countersign_model::{Digest, to_canonical};
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

use super::admin::Reply;
use super::{Installation, OWNER, PASSPHRASE};

/// Someone who can sign for one log.
pub(crate) struct Human {
    /// The name signed with.
    pub(crate) name: String,
    /// The key signed with.
    pub(crate) key: SigningKey,
    /// The log signed for.
    pub(crate) origin: String,
}

impl Human {
    /// The owner of an installation.
    pub(crate) fn owner(of: &Installation) -> Self {
        let pem = of.read(&format!("keys/{OWNER}.key.pem"));
        let key = SigningKey::from_pkcs8_encrypted_pem(&pem, PASSPHRASE).unwrap();
        Self { name: OWNER.to_owned(), key, origin: of.origin.clone() }
    }

    /// A body for `POST /approvals/TICKET` over the proposal with this leaf hash.
    pub(crate) fn consent(&self, proposal: &Digest, approved: bool) -> Value {
        let human = HumanId::new(&self.name).unwrap();
        let signature = self.key.sign(&consent_message(&self.origin, proposal, &human, approved));
        json!({"human": self.name, "approved": approved, "signature": STANDARD.encode(signature.to_bytes())})
    }

    /// A body for `POST /command`.
    pub(crate) fn command(&self, challenge: Digest, deed: Deed) -> Value {
        let human = HumanId::new(&self.name).unwrap();
        let command = Command { log: self.origin.clone(), challenge, human, deed };
        let signature = self.key.sign(&command.message().unwrap()).to_vec();
        json!({ "signed": STANDARD.encode(to_canonical(&Signed { command, signature }).unwrap()) })
    }

    /// Approves what waits under `ticket`.
    pub(crate) fn approve(&self, at: &Installation, ticket: &str) -> Reply {
        let consent = self.consent(&at.leaf_hash(ticket), true);
        at.post(&format!("/approvals/{ticket}"), &consent)
    }

    /// Signs and hands in a command under a fresh challenge.
    pub(crate) fn order(&self, at: &Installation, deed: Deed) -> Reply {
        at.post("/command", &self.command(at.challenge(), deed))
    }

    /// Issues a token.
    pub(crate) fn issue(&self, at: &Installation, agent: &str, run: Option<&str>, ttl_ms: u64) -> String {
        let run = run.map(|run| run.parse().unwrap());
        let reply = self.order(at, Deed::IssueToken { agent: agent.parse().unwrap(), run, ttl_ms });
        reply.body["token"].as_str().unwrap_or_else(|| panic!("no token: {reply:?}")).to_owned()
    }
}

const _: () = {
    let _ = (Human::owner, Human::consent, Human::command, Human::approve, Human::order, Human::issue);
};
