//! Identity: Biscuit tokens in, verified callers out. Identity is derived, never claimed (invariant 9).
//!
//! Facts come from the authority block alone, which our root key signed: `tenant`, `agent`, `session`, `run` if the
//! token is for one, `expires_ms`. Later blocks can only narrow, in the ways that [`narrow`] reads: by time, tools,
//! upstreams, and to reads. A time shortens the caller's `expires`, so a caller may be remembered until it expires; the
//! rest goes with the caller and is judged at every call. Anything else in a token is refused whole. No datalog is run:
//! what a token says is read, so the answer does not depend on how long an engine was given.
//!
//! It must not know who was revoked: that is the kernel's state. It does not cover third-party blocks, OIDC or SPIFFE.

use std::collections::BTreeSet;

use biscuit_auth::builder::{Algorithm, BlockBuilder, Fact, Term, fact, int, string};
use biscuit_auth::datalog::SymbolTable;
use biscuit_auth::{Biscuit, KeyPair, PrivateKey, PublicKey};
use countersign_model::id::{AgentId, IdError, RunId, SessionId, TenantId, ToolName, UpstreamId};

use countersign_model::{Caller, Digest, Narrowed, Principal, Reason, ReasonCode, TimeMs};

mod narrow;
#[cfg(test)]
mod tests;

/// The longest token in bytes of its text.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// The most times that a token may be attenuated.
pub const DEPTH_MAX: u32 = 8;

/// The root key of tokens.
pub struct TokenKey {
    pair: KeyPair,
    secret: [u8; 32],
}

/// The public half of the root key of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenPublic(PublicKey);

/// Why a token opens nothing, or cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The bytes are no key.
    #[error("not an Ed25519 key: {0}")]
    Key(String),
    /// Over [`TOKEN_BYTES_MAX`].
    #[error("a token has at most {TOKEN_BYTES_MAX} bytes, this one has {0}")]
    Oversize(usize),
    /// Not a token, or not signed by our key.
    #[error("not a token of ours: {0}")]
    Forged(String),
    /// Attenuated more than [`DEPTH_MAX`] times.
    #[error("a token is attenuated at most {DEPTH_MAX} times, this one is {0} times")]
    TooDeep(usize),
    /// The authority block does not say who it is for, or says more than that.
    #[error("the token's first block is not one of ours: {0}")]
    Authority(String),
    /// A later block holds something that is not understood: nobody here could keep to it.
    #[error("the token was narrowed by something that is not understood, so it is refused: `{0}`")]
    Attenuation(String),
    /// A time check failed, or the token itself ended.
    #[error("the token has expired: `{0}`")]
    Expired(String),
}

impl TokenError {
    /// The reason that records and agents see.
    #[must_use]
    pub fn reason(&self) -> Reason {
        let code = match self {
            Self::Expired(_) => ReasonCode::TokenExpired,
            _ => ReasonCode::TokenInvalid,
        };
        Reason::because(code, &self.to_string())
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

impl TokenKey {
    /// The key with these 32 secret bytes.
    ///
    /// # Errors
    /// Where they are no key.
    pub fn from_bytes(secret: &[u8; 32]) -> Result<Self, TokenError> {
        Ok(Self { pair: pair_of(secret)?, secret: *secret })
    }

    /// The 32 secret bytes.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.secret
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> TokenPublic {
        TokenPublic(self.pair.public())
    }
}

impl TokenPublic {
    /// The key with these 32 bytes.
    ///
    /// # Errors
    /// Where they are no key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, TokenError> {
        PublicKey::from_bytes(bytes, Algorithm::Ed25519).map(Self).map_err(|error| TokenError::Key(error.to_string()))
    }

    /// The 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }
}

/// Issues a token. The key of its next block is derived from the root key, so no randomness is needed; session ids
/// must not repeat.
///
/// # Errors
/// Where `expires` does not fit a token.
pub fn issue(key: &TokenKey, principal: &Principal, expires: TimeMs) -> Result<String, TokenError> {
    let forged = |error: biscuit_auth::error::Token| TokenError::Forged(error.to_string());
    let ends = i64::try_from(expires.0).map_err(|error| TokenError::Authority(error.to_string()))?;
    let mut builder = Biscuit::builder();
    let mut named = vec![
        ("tenant", principal.tenant.as_str()),
        ("agent", principal.agent.as_str()),
        ("session", principal.session.as_str()),
    ];
    if principal.run.as_str() != principal.session.as_str() {
        named.push(("run", principal.run.as_str()));
    }
    for (name, value) in named {
        builder = builder.fact(fact(name, &[string(value)])).map_err(forged)?;
    }
    builder = builder.fact(fact("expires_ms", &[int(ends)])).map_err(forged)?;
    let parts: [&[u8]; 3] = [&key.secret, principal.session.as_str().as_bytes(), &expires.0.to_be_bytes()];
    let next = pair_of(&Digest::of("countersign token next key v1", &parts).0)?;
    builder.build_with_key_pair(&key.pair, symbols(), &next).and_then(|token| token.to_base64()).map_err(forged)
}

/// How a token is to be narrowed; what is not said stays as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// It ends before this time; cut to whole seconds.
    pub until: Option<TimeMs>,
    /// Nothing but these tools may be called; at most [`countersign_model::narrowed::NAMES_MAX`].
    pub tools: BTreeSet<ToolName>,
    /// No upstream but these may be called; at most [`countersign_model::narrowed::NAMES_MAX`].
    pub upstreams: BTreeSet<UpstreamId>,
    /// Nothing but reads may run.
    pub read_only: bool,
}

impl Narrowing {
    /// A token that ends before `until`.
    #[must_use]
    pub fn until(until: TimeMs) -> Self {
        Self { until: Some(until), ..Self::default() }
    }
}

/// Narrows a token, with `seed` (32 random bytes) for the key of the block after it.
/// Whoever holds a token can do this, without us; times are cut to whole seconds.
///
/// # Errors
/// Where the token is not one of ours, cannot be narrowed any further, or nothing is asked for.
pub fn attenuate(
    root: &TokenPublic,
    token: &str,
    narrowing: &Narrowing,
    seed: &[u8; 32],
) -> Result<String, TokenError> {
    let forged = |error: biscuit_auth::error::Token| TokenError::Forged(error.to_string());
    let biscuit = parsed(root, token)?;
    let depth = biscuit.block_count();
    if u32::try_from(depth).map_or(true, |depth| depth > DEPTH_MAX) {
        return Err(TokenError::TooDeep(depth));
    }
    let mut block = BlockBuilder::new();
    let checks = narrow::checks(narrowing);
    if checks.is_empty() {
        return Err(TokenError::Attenuation("nothing: say until when, to what, or that it only reads".to_owned()));
    }
    for check in checks {
        block = block.check(check).map_err(forged)?;
    }
    let narrowed = biscuit.append_with_keypair(&pair_of(seed)?, block).and_then(|token| token.to_base64());
    let narrowed = narrowed.map_err(forged)?;
    // What it may say is read as everybody will read it.
    read(root, &narrowed)?;
    Ok(narrowed)
}

/// Who presents `token` at `now`.
///
/// # Errors
/// Why it opens nothing.
pub fn verify(root: &TokenPublic, token: &str, now: TimeMs) -> Result<Caller, TokenError> {
    let Token { caller, ends, .. } = read(root, token)?;
    match ends.into_iter().find(|(_, ends)| *ends <= now) {
        Some((text, _)) => Err(TokenError::Expired(text)),
        None => Ok(caller),
    }
}

/// What a token says, whenever it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who it is, and until when at the latest.
    pub caller: Caller,
    /// The Biscuit revocation id of each block, the first one among them.
    pub revocation_ids: Vec<Vec<u8>>,
    /// Every limit of time, as it is written, and when it is over.
    ends: Vec<(String, TimeMs)>,
}

/// Reads a token and checks its signatures; time is not looked at.
///
/// # Errors
/// Where it is not one of ours, or says what is not understood.
pub fn read(root: &TokenPublic, token: &str) -> Result<Token, TokenError> {
    let biscuit = parsed(root, token)?;
    let later = biscuit.block_count().saturating_sub(1);
    let depth = u32::try_from(later).ok().filter(|depth| *depth <= DEPTH_MAX).ok_or(TokenError::TooDeep(later))?;
    let mut caller = authority(&block(&biscuit, 0)?, depth)?;
    let mut ends = vec![(format!("expires_ms({})", caller.expires), caller.expires)];
    let revocation_ids = biscuit.revocation_identifiers();
    let mut narrowed = Narrowed::default();
    for index in 1..=later {
        if biscuit.block_external_key(index).map_or(true, |key| key.is_some()) {
            return Err(TokenError::Attenuation("a third party's block".to_owned()));
        }
        for (text, limit) in narrow::limits(&block(&biscuit, index)?)? {
            match narrow::apply(limit, &mut narrowed) {
                Some(time) => ends.push((text, time)),
                None => continue,
            }
        }
        let id = revocation_ids.get(index).ok_or_else(|| TokenError::Forged("a block has no id".to_owned()))?;
        narrowed.blocks.push(block_id(id));
    }
    caller.expires = ends.iter().map(|(_, time)| *time).min().unwrap_or(caller.expires);
    caller.narrowed = (later > 0).then_some(narrowed);
    Ok(Token { caller, revocation_ids, ends })
}

/// What records call a block, from its Biscuit revocation id.
#[must_use]
pub fn block_id(revocation_id: &[u8]) -> Digest {
    Digest::of("countersign token block v1", &[revocation_id])
}

fn parsed(root: &TokenPublic, token: &str) -> Result<Biscuit, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Oversize(token.len()));
    }
    Biscuit::from_base64(token, root.0).map_err(|error| TokenError::Forged(error.to_string()))
}

/// What a block says. The authority block is our own writing; in a later block, a text that reads
/// differently from what was meant could only narrow differently, never widen.
fn block(biscuit: &Biscuit, index: usize) -> Result<BlockBuilder, TokenError> {
    let unreadable = |error: biscuit_auth::error::Token| TokenError::Forged(error.to_string());
    let source = biscuit.print_block_source(index).map_err(unreadable)?;
    BlockBuilder::new().code(source).map_err(unreadable)
}

#[derive(Default)]
struct Said {
    tenant: Option<String>,
    agent: Option<String>,
    session: Option<String>,
    run: Option<String>,
}

fn authority(block: &BlockBuilder, depth: u32) -> Result<Caller, TokenError> {
    let wrong = |what: &str| TokenError::Authority(what.to_owned());
    if !block.rules.is_empty() || !block.checks.is_empty() || !block.scopes.is_empty() {
        return Err(wrong("it holds more than facts"));
    }
    let mut said = Said::default();
    let mut expires = None;
    for Fact { predicate, .. } in &block.facts {
        let is_new = match (predicate.name.as_str(), predicate.terms.as_slice()) {
            ("tenant", [Term::Str(text)]) => said.tenant.replace(text.clone()).is_none(),
            ("agent", [Term::Str(text)]) => said.agent.replace(text.clone()).is_none(),
            ("session", [Term::Str(text)]) => said.session.replace(text.clone()).is_none(),
            ("run", [Term::Str(text)]) => said.run.replace(text.clone()).is_none(),
            ("expires_ms", [Term::Integer(ms)]) => {
                let ms = u64::try_from(*ms).map_err(|_| wrong("`expires_ms` is negative"))?;
                expires.replace(TimeMs(ms)).is_none()
            }
            _ => return Err(wrong(&format!("the fact `{predicate}` is unknown"))),
        };
        if !is_new {
            return Err(wrong(&format!("the fact `{}` stands there twice", predicate.name)));
        }
    }
    let missing = |name: &str| wrong(&format!("the fact `{name}` is missing"));
    let bad = |error: IdError| wrong(&error.to_string());
    let session = said.session.ok_or_else(|| missing("session"))?;
    let principal = Principal {
        tenant: TenantId::new(&said.tenant.ok_or_else(|| missing("tenant"))?).map_err(bad)?,
        agent: AgentId::new(&said.agent.ok_or_else(|| missing("agent"))?).map_err(bad)?,
        run: RunId::new(said.run.as_ref().unwrap_or(&session)).map_err(bad)?,
        session: SessionId::new(&session).map_err(bad)?,
        depth,
    };
    Ok(Caller { principal, expires: expires.ok_or_else(|| missing("expires_ms"))?, narrowed: None })
}

fn pair_of(secret: &[u8; 32]) -> Result<KeyPair, TokenError> {
    PrivateKey::from_bytes(secret, Algorithm::Ed25519)
        .map(|key| KeyPair::from(&key))
        .map_err(|error| TokenError::Key(error.to_string()))
}

fn symbols() -> SymbolTable {
    SymbolTable::new()
}
