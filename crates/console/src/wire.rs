//! What travels over the admin plane, shared by its server and the command line.
//!
//! Records travel as their leaves and payloads, so that who reads them can hash and check them.

use serde::{Deserialize, Serialize};

/// One record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Its index.
    pub index: u64,
    /// Its leaf, in base64.
    pub leaf: String,
    /// What lies beside it, in base64; absent where it has been erased or never was.
    pub payload: Option<String>,
}

/// One parked action.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// Its ticket.
    pub ticket: String,
    /// When it lapses, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
    /// Its proposal.
    pub proposal: Stored,
}

/// A human's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// Who.
    pub human: String,
    /// Yes or no.
    pub approved: bool,
    /// Ed25519 signature, in base64.
    pub signature: String,
}

/// What was recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// The leaf of the record.
    pub leaf: u64,
    /// A token, where one was issued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Its session id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What was destroyed, where something was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erased: Option<Erased>,
    /// What is no longer kept, where the log was pruned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<Pruned>,
}

/// What a pruning took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pruned {
    /// The first record that is kept.
    pub minimum: u64,
    /// How many records went.
    pub records: u64,
    /// The time of the newest of them, in milliseconds since the Unix epoch.
    pub newest_ms: u64,
}

/// Up to where somebody wants to prune: exactly one of both.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneBelow {
    /// Below this record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// As long as records are older than this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than_ms: Option<u64>,
}

/// What could be ordered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrunePlan {
    /// The first record that is kept now.
    pub begins: u64,
    /// The first one that would be kept; absent where nothing can go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<u64>,
    /// Why nothing can go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What an erasure destroyed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    /// Keys.
    pub keys: u64,
    /// Payloads that lay under them.
    pub payloads: u64,
}

/// The name of whom or what calls are about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// As it stood in the argument that the binding names.
    pub name: String,
}

/// What stands for a subject in orders and records.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubjectHash {
    /// 32 bytes, in base64.
    pub hash: String,
}

/// One legal hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Its name.
    pub name: String,
    /// The run that it covers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The hash of the subject that it covers, in hexadecimal. Where neither is there it covers everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Who ordered it.
    pub human: String,
}

/// What a command is signed against.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// 32 bytes, in base64.
    pub challenge: String,
    /// The log's origin.
    pub log: String,
}

/// The key that may come next.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextKey {
    /// The verifier key, in the C2SP form.
    pub key: String,
}

/// A signed command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The canonical encoding of the signed command, in base64.
    pub signed: String,
}

/// What holds at this moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The log's origin.
    pub log: String,
    /// Records in the log.
    pub size: u64,
    /// Why the ledger stopped, if it did.
    pub failure: Option<String>,
    /// Proposals waiting.
    pub waiting: usize,
    /// The serial of the acceptance of configuration and policy on record; zero where there is none.
    pub activation_serial: u64,
    /// The hash of the policy that was accepted last, in hexadecimal.
    #[serde(default)]
    pub activation_policy: Option<String>,
    /// The hash of the configuration that was accepted last, in hexadecimal.
    #[serde(default)]
    pub activation_configuration: Option<String>,
    /// Hash of the configuration in force, in hexadecimal.
    pub configuration: String,
    /// Hash of the policy in force, in hexadecimal.
    pub policy: String,
    /// Effects in flight.
    pub in_flight: usize,
    /// What is killed.
    pub killed: Vec<String>,
    /// What is frozen, and until when in milliseconds since the Unix epoch.
    pub frozen: Vec<(String, u64)>,
    /// Whether a record waits for the disk, so that nothing is proposed.
    pub stalled: bool,
    /// What holds of each witness.
    pub witnesses: Vec<Witness>,
    /// What a witness said that has seen another log since the start: then nothing runs before the next one.
    #[serde(default)]
    pub contradicted: Option<String>,
}

/// What holds of one witness.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// Its name in the configuration.
    pub name: String,
    /// The size that it cosigned last; zero for none.
    pub cosigned: u64,
    /// Why it did not cosign the last time, if it did not.
    pub trouble: Option<String>,
}

/// Why something was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The reason code, where there is one.
    pub code: Option<String>,
    /// What is wrong, and the remedy.
    pub error: String,
}
