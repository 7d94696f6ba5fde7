//! Identity: Biscuit tokens in, verified callers out. Identity is derived, never claimed (invariant 9).
//!
//! Facts come from the authority block alone, which our root key signed: `tenant`, `agent`, `session`, `run` if the
//! token is for one, `expires_ms`. Later blocks can only narrow, and this version understands one way to narrow:
//! `check if time($t), $t < 2026-01-01T00:00:00Z` (or `<=`), which shortens the caller's `expires`. So a caller
//! may be remembered until it expires. Anything else in a token is refused whole. No datalog is run: what a token says
//! is read, so the answer does not depend on how long an engine was given.
//!
//! It must not know who was revoked: that is the kernel's state. It does not cover third-party blocks, OIDC or SPIFFE.

use biscuit_auth::builder::{Algorithm, Binary, BlockBuilder, CheckKind, Expression, Op, Rule, Term};
use biscuit_auth::builder::{Check, Fact, date, fact, int, pred, string, var};
use biscuit_auth::datalog::SymbolTable;
use biscuit_auth::{Biscuit, KeyPair, PrivateKey, PublicKey};
use countersign_model::id::{AgentId, IdError, RunId, SessionId, TenantId};
use countersign_model::{Caller, Digest, Principal, Reason, ReasonCode, TimeMs};

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
    /// A later block holds something other than a time check: nobody here could keep to it.
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

/// Narrows a token to end before `until`, with `seed` (32 random bytes) for the key of the block after it.
/// Whoever holds a token can do this, without us; times are cut to whole seconds.
///
/// # Errors
/// Where the token is not one of ours.
pub fn attenuate(root: &TokenPublic, token: &str, until: TimeMs, seed: &[u8; 32]) -> Result<String, TokenError> {
    let forged = |error: biscuit_auth::error::Token| TokenError::Forged(error.to_string());
    let biscuit = parsed(root, token)?;
    let whole_seconds = std::time::Duration::from_millis(until.0);
    let is_before = Expression {
        ops: vec![
            Op::Value(var("time")),
            Op::Value(date(&(std::time::UNIX_EPOCH + whole_seconds))),
            Op::Binary(Binary::LessThan),
        ],
    };
    let none: [Term; 0] = [];
    let rule = Rule::new(pred("query", &none), vec![pred("time", &[var("time")])], vec![is_before], vec![]);
    let check = Check { queries: vec![rule], kind: CheckKind::One };
    let block = BlockBuilder::new().check(check).map_err(forged)?;
    biscuit.append_with_keypair(&pair_of(seed)?, block).and_then(|token| token.to_base64()).map_err(forged)
}

/// Who presents `token` at `now`.
///
/// # Errors
/// Why it opens nothing.
pub fn verify(root: &TokenPublic, token: &str, now: TimeMs) -> Result<Caller, TokenError> {
    let biscuit = parsed(root, token)?;
    let later = biscuit.block_count().saturating_sub(1);
    let depth = u32::try_from(later).ok().filter(|depth| *depth <= DEPTH_MAX).ok_or(TokenError::TooDeep(later))?;
    let mut caller = authority(&block(&biscuit, 0)?, depth)?;
    if caller.expires <= now {
        return Err(TokenError::Expired(format!("expires_ms({})", caller.expires)));
    }
    for index in 1..=later {
        if biscuit.block_external_key(index).map_or(true, |key| key.is_some()) {
            return Err(TokenError::Attenuation("a third party's block".to_owned()));
        }
        for (text, ends) in time_checks(&block(&biscuit, index)?)? {
            if ends <= now {
                return Err(TokenError::Expired(text));
            }
            caller.expires = caller.expires.min(ends);
        }
    }
    Ok(caller)
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
    Ok(Caller { principal, expires: expires.ok_or_else(|| missing("expires_ms"))? })
}

/// The time checks of a later block: their text, and from when on they fail.
fn time_checks(block: &BlockBuilder) -> Result<Vec<(String, TimeMs)>, TokenError> {
    let unknown = |what: &dyn std::fmt::Display| TokenError::Attenuation(what.to_string());
    if let Some(fact) = block.facts.first() {
        return Err(unknown(fact));
    }
    if let Some(rule) = block.rules.first() {
        return Err(unknown(rule));
    }
    if !block.scopes.is_empty() {
        return Err(unknown(&"a scope of trust"));
    }
    let read = |check: &Check| {
        let ends = time_check(check).ok_or_else(|| unknown(check))?;
        Ok((check.to_string(), ends))
    };
    block.checks.iter().map(read).collect()
}

/// From when on `check if time($t), $t < DATE` fails; nothing for any other check.
fn time_check(check: &Check) -> Option<TimeMs> {
    let ([query], CheckKind::One) = (check.queries.as_slice(), &check.kind) else {
        return None;
    };
    let ([time], [expression], true) = (query.body.as_slice(), query.expressions.as_slice(), query.scopes.is_empty())
    else {
        return None;
    };
    let (true, [Term::Variable(bound)]) = (time.name == "time", time.terms.as_slice()) else {
        return None;
    };
    let [Op::Value(Term::Variable(used)), Op::Value(Term::Date(seconds)), Op::Binary(relation)] =
        expression.ops.as_slice()
    else {
        return None;
    };
    let from_ms = seconds.checked_mul(1_000)?;
    match relation {
        _ if used != bound => None,
        Binary::LessThan => Some(TimeMs(from_ms)),
        Binary::LessOrEqual => Some(TimeMs(from_ms.checked_add(1)?)),
        _ => None,
    }
}

fn pair_of(secret: &[u8; 32]) -> Result<KeyPair, TokenError> {
    PrivateKey::from_bytes(secret, Algorithm::Ed25519)
        .map(|key| KeyPair::from(&key))
        .map_err(|error| TokenError::Key(error.to_string()))
}

fn symbols() -> SymbolTable {
    SymbolTable::new()
}
