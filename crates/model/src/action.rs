//! An action: one thing that an agent proposes, in canonical form, with facts and digest.
//!
//! The digest is what consent binds to. It leaves out what a retry may change (the request id,
//! the progress token) and the session, so that the identical retry is the same action.
//! It always covers the true bytes; where these hold secrets, what is kept of them is redacted
//! and the digest, made before, comes along.

use minicbor::{Decode, Encode};

use crate::encoding::Bounded;
use crate::facts::Facts;
use crate::id::{AgentId, Digest, Environment, RunId, SessionId, TargetId, TenantId, ToolName, UpstreamId};
use crate::narrowed::Narrowed;
use crate::record::Claimed;
use crate::unit::{LeafIndex, TimeMs};

/// Who proposes, as derived from the token. Plain data: it proves nothing by itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Principal {
    /// The tenant.
    #[n(0)]
    pub tenant: TenantId,
    /// The agent.
    #[n(1)]
    pub agent: AgentId,
    /// The token's id.
    #[n(2)]
    pub session: SessionId,
    /// The token's run id, else the session's id.
    #[n(3)]
    pub run: RunId,
    /// How often the token was attenuated since it was issued.
    #[n(4)]
    pub depth: u32,
}

/// A verified principal with the expiry of its token. `kernel::identity` makes these from tokens;
/// every call checks `expires` again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub principal: Principal,
    /// When the token ends.
    pub expires: TimeMs,
    /// What it was narrowed to since it was issued; absent where it never was.
    pub narrowed: Option<Narrowed>,
}

impl Caller {
    /// The ids of the blocks that narrowed its token, in their order.
    #[must_use]
    pub fn blocks(&self) -> &[Digest] {
        self.narrowed.as_ref().map_or(&[], |narrowed| &narrowed.blocks)
    }
}

/// Which enforcement point an action came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Point {
    /// Model Context Protocol.
    #[n(0)]
    Mcp,
    /// LLM API.
    #[n(1)]
    Llm,
    /// SQL wire protocol.
    #[n(2)]
    Sql,
    /// Shell commands.
    #[n(3)]
    Shell,
    /// HTTP egress.
    #[n(4)]
    Egress,
    /// E-mail.
    #[n(5)]
    Mail,
    /// Hooks of coding agents.
    #[n(6)]
    Hook,
    /// The admin plane: no agent's door, but who tries it without a human's signature is on record.
    #[n(7)]
    Admin,
}

/// One thing that an agent proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Who proposes.
    pub principal: Principal,
    /// Through which door.
    pub point: Point,
    /// Towards which upstream.
    pub upstream: UpstreamId,
    /// Which tool.
    pub tool: ToolName,
    /// SHA-256 of the tool's definition as the upstream listed it.
    pub manifest: Digest,
    /// What it changes, by the operator's binding.
    pub target: TargetId,
    /// The target's environment.
    pub environment: Environment,
    /// The arguments in canonical form (JSON, keys sorted, numbers as spelled), secrets redacted.
    pub arguments: Vec<u8>,
    /// The allow-listed part of `_meta` in canonical form, secrets redacted; empty where none is listed.
    pub meta: Vec<u8>,
    /// What the parsers know.
    pub facts: Facts,
    /// Where the caller says that it belongs; not part of the digest.
    pub claimed: Claimed,
    /// What was redacted; absent where nothing was.
    pub redacted: Option<Redacted>,
    /// Which earlier call it continues, with what; not part of the digest, for it is the same action that goes on.
    pub continues: Option<Continues>,
    /// What looks wrong in the tool's definition, where something does; not part of the digest, for the manifest is.
    pub flagged: Option<String>,
}

/// What an action goes on from, and with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continues {
    /// The leaf of the intent of the call that was answered with a question.
    pub intent: LeafIndex,
    /// The client's answers in canonical form, secrets redacted; empty where there are none.
    pub input: Vec<u8>,
    /// [`input_digest`] of the true answers; where these hold secrets, [`sealed_digest`] of it.
    pub digest: Digest,
    /// How many secrets were redacted in the answers.
    pub redactions: u64,
}

/// The digest of a client's answers in canonical form.
#[must_use]
pub fn input_digest(input: &[u8]) -> Digest {
    Digest::of("countersign input v1", &[input])
}

/// What is known of an action whose arguments or `_meta` held secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
    /// The action's digest: [`sealed_digest`] of the one over the true bytes.
    pub digest: Digest,
    /// Rule and place of every redaction, sorted; at least one.
    pub places: Bounded,
}

/// The digest of an action with secrets, from the digest over its true bytes and a key of the installation.
///
/// A digest lies in the payload and is shown to people. Without a key, who sees one could try every
/// password or card number until the digest fits, and the redaction would have hidden nothing.
#[must_use]
pub fn sealed_digest(key: &[u8; 32], digest: &Digest) -> Digest {
    Digest::of("countersign sealed digest v1", &[key, &digest.0])
}

impl Action {
    /// The digest that consent, proposals and grants bind to.
    #[must_use]
    pub fn digest(&self) -> Digest {
        if let Some(redacted) = &self.redacted {
            return redacted.digest;
        }
        Digest::of(
            "countersign action v1",
            &[
                self.principal.tenant.as_str().as_bytes(),
                self.principal.agent.as_str().as_bytes(),
                self.principal.run.as_str().as_bytes(),
                &[self.point as u8],
                self.upstream.as_str().as_bytes(),
                self.tool.as_str().as_bytes(),
                &self.manifest.0,
                self.target.as_str().as_bytes(),
                self.environment.as_str().as_bytes(),
                &self.arguments,
                &self.meta,
            ],
        )
    }
}
