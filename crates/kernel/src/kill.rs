//! The kill state: what is stopped, and since which epoch.
//!
//! Pure data with its rules. The gate keeps its own copy under its own lock and in its own file, so
//! that a kill works while ledger, policy and console are dead; this one is the record's. Merging
//! takes the union: neither the file nor the log alone can lift a kill.
//! It does not stop anything: the guards at the sockets are `gate`'s.

use std::collections::BTreeSet;

use countersign_model::Principal;
use countersign_model::record::KillScope;

/// What is killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KillState {
    /// Counts up by one with every kill; lifting does not change it.
    pub epoch: u64,
    /// What is killed now.
    pub scopes: BTreeSet<KillScope>,
}

impl KillState {
    /// Kills `scope` and gives the epoch that begins with it. Killing a killed scope begins an epoch too.
    pub fn kill(&mut self, scope: KillScope) -> u64 {
        self.epoch = self.epoch.saturating_add(1);
        self.scopes.insert(scope);
        self.epoch
    }

    /// Applies a kill that began `epoch` elsewhere.
    pub fn apply(&mut self, scope: KillScope, epoch: u64) {
        self.epoch = self.epoch.max(epoch);
        self.scopes.insert(scope);
    }

    /// Lifts exactly `scope`; says whether it was killed.
    pub fn lift(&mut self, scope: &KillScope) -> bool {
        self.scopes.remove(scope)
    }

    /// Takes the union with `other` and the later epoch.
    pub fn merge(&mut self, other: &Self) {
        self.epoch = self.epoch.max(other.epoch);
        self.scopes.extend(other.scopes.iter().cloned());
    }

    /// Whether a kill covers `principal`.
    #[must_use]
    pub fn covers(&self, principal: &Principal) -> bool {
        self.scopes.iter().any(|scope| scope_covers(scope, principal))
    }
}

/// Whether `scope` covers `principal`.
#[must_use]
pub fn scope_covers(scope: &KillScope, principal: &Principal) -> bool {
    match scope {
        KillScope::All => true,
        KillScope::Agent(agent) => *agent == principal.agent,
        KillScope::Run(run) => *run == principal.run,
    }
}
