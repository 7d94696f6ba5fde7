//! Tokens and leases that humans gave out, as their orders are on record.
//!
//! It must not know what was done with them.

use std::collections::BTreeMap;

use countersign_model::TimeMs;
use countersign_model::command::Deed;
use countersign_model::id::{AgentId, LeaseName, SessionId};
use countersign_model::record::Commanded;

/// Above so many tokens those that have ended are forgotten.
const TOKENS_MAX: usize = 50_000;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whose.
    pub agent: AgentId,
    /// When it was issued.
    pub issued: TimeMs,
    /// How long it is good for, in milliseconds.
    pub ttl_ms: u64,
}

impl Token {
    /// When it ends.
    #[must_use]
    pub const fn ends(&self) -> TimeMs {
        self.issued.saturating_add_ms(self.ttl_ms)
    }
}

/// One right that was lent, whatever the session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leased {
    /// How often.
    pub count: u64,
    /// When first, and last.
    pub times: Option<(TimeMs, TimeMs)>,
}

/// Tokens and leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Tokens that were not revoked, by session.
    pub tokens: BTreeMap<SessionId, Token>,
    /// Leases by agent and name. A session whose token is not on record any more is nobody's.
    pub leases: BTreeMap<(Option<AgentId>, LeaseName), Leased>,
}

impl Tokens {
    /// Takes in a human's order; leases count from `since` on.
    pub fn take(&mut self, at: TimeMs, commanded: &Commanded, since: TimeMs) {
        match &commanded.signed.command.deed {
            Deed::IssueToken { agent, ttl_ms, .. } => {
                if self.tokens.len() >= TOKENS_MAX {
                    self.tokens.retain(|_, token| token.ends() > at);
                }
                if let Some(session) = &commanded.session {
                    let token = Token { agent: agent.clone(), issued: at, ttl_ms: *ttl_ms };
                    self.tokens.insert(session.clone(), token);
                }
            }
            Deed::RevokeToken { session } => drop(self.tokens.remove(session)),
            Deed::Lease { session, name, .. } if at >= since => {
                let agent = self.tokens.get(session).map(|token| token.agent.clone());
                let lent = self.leases.entry((agent, name.clone())).or_default();
                lent.count += 1;
                lent.times = Some((lent.times.map_or(at, |(first, _)| first), at));
            }
            _ => {}
        }
    }
}
