//! What the kernel is set up with: fixed between start and stop, hashed into the start's record.
//!
//! Parsing and checking of configuration files is `app`'s. Budgets count calls only.

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::Digest;
use countersign_model::id::{AgentId, TenantId, ToolName, UpstreamId};

/// The kernel's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The log's origin: what consents and commands are signed for.
    pub log: String,
    /// The version of Countersign.
    pub version: String,
    /// Hash of the configuration in force.
    pub configuration: Digest,
    /// `separated` or `same_user`.
    pub profile: String,
    /// Hash of the policy bundle that the process starts with.
    pub policy: Digest,
    /// The tenant; callers of another are denied.
    pub tenant: TenantId,
    /// Agents of the configuration; others are denied.
    pub agents: BTreeSet<AgentId>,
    /// Hard limits. A call that more than [`countersign_model::record::BUDGETS_MAX`] of them apply to is denied.
    pub budgets: Vec<BudgetRule>,
    /// Bounds.
    pub limits: Limits,
    /// Definitions of tools that a human accepted, for the upstreams that have such a list: any other is denied.
    pub accepted: BTreeMap<UpstreamId, BTreeMap<ToolName, Digest>>,
}

/// One hard limit, in calls: `spent + reserved <= cap` in every scope that it counts in, always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetRule {
    /// What is counted together.
    pub scope: BudgetScope,
    /// The most calls.
    pub cap: u64,
    /// The length of a tumbling window on the kernel's clock; none means for ever.
    /// Windows start at multiples of their length since the epoch, UTC.
    pub window_ms: Option<u64>,
    /// Agents that it applies to; none means all.
    pub agents: Option<BTreeSet<AgentId>>,
}

/// What calls are counted together in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BudgetScope {
    /// One run.
    Run,
    /// One session: one token and what was attenuated from it.
    Session,
    /// One agent.
    Agent,
    /// The tenant.
    Tenant,
}

impl BudgetScope {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Session => "session",
            Self::Agent => "agent",
            Self::Tenant => "tenant",
        }
    }
}

/// Bounds on queues and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Proposals of one agent that wait or hold an unused grant.
    pub pending_per_agent_max: u64,
    /// Proposals of all agents that wait or hold an unused grant.
    pub pending_max: u64,
    /// Calls between reservation and end.
    pub in_flight_max: u64,
    /// How long a grant can be redeemed after the last consent.
    pub grant_ttl_ms: u64,
    /// A forward jump of the clock smaller than this is ignored.
    pub clock_jump_ms: u64,
    /// The longest life of a token.
    pub token_ttl_max_ms: u64,
    /// The longest lease.
    pub lease_ttl_max_ms: u64,
    /// The longest freeze.
    pub freeze_max_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pending_per_agent_max: 32,
            pending_max: 1_024,
            in_flight_max: 1_024,
            grant_ttl_ms: 15 * MINUTE_MS,
            clock_jump_ms: 5 * MINUTE_MS,
            token_ttl_max_ms: 7 * DAY_MS,
            lease_ttl_max_ms: DAY_MS,
            freeze_max_ms: 90 * DAY_MS,
        }
    }
}

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

impl BudgetRule {
    /// The budget for people: `10 calls per run, every 60000 ms`.
    #[must_use]
    pub fn words(&self) -> String {
        format!("{} {}", self.cap, self.counts())
    }

    /// What it counts, without how much: budgets with the same words have the same counters.
    #[must_use]
    pub(crate) fn counts(&self) -> String {
        let window = self.window_ms.map_or_else(String::new, |ms| format!(", every {ms} ms"));
        let only = self.agents.as_ref().map_or_else(String::new, |agents| {
            let names: Vec<_> = agents.iter().map(AgentId::as_str).collect();
            format!(", of {}", names.join(" "))
        });
        format!("calls per {}{window}{only}", self.scope.as_str())
    }
}
