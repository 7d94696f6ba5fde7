//! Commands by humans: whether one counts. What it changes is `apply`'s.
//!
//! Log, signature and meaning are checked here; that a challenge was given out once is the gate's.
//! The first human enrols himself with his own key: the only command without an enrolled signer.

use countersign_model::command::{Command, Deed, Signed};
use countersign_model::encoding::clipped;
use countersign_model::id::{HumanId, LeaseName, SessionId};
use countersign_model::record::Commanded;
use countersign_model::{Digest, TimeMs};
use ed25519_dalek::VerifyingKey;

use crate::consent::is_signed;
use crate::kernel::Kernel;
use crate::revoked::REVOKED_MAX;

/// The most leases of one session: all stand in the inputs of its decisions.
const LEASES_MAX: usize = 16;
/// The longest verifier key: a name of 255 bytes, a hash and 33 bytes in base64.
const VERIFIER_KEY_BYTES_MAX: usize = 320;

impl Kernel {
    /// The record of a command that counts.
    ///
    /// # Errors
    /// Why it does not, for the human.
    pub(crate) fn commanded(&self, signed: Signed, session: Option<SessionId>) -> Result<Commanded, String> {
        self.is_signed_command(&signed)?;
        let deed = &signed.command.deed;
        self.is_meant(deed, session.as_ref())?;
        let session = session.filter(|_| matches!(deed, Deed::IssueToken { .. }));
        Ok(Commanded { signed, session })
    }

    /// Whether a command is for this log and signed by whom it names, whatever it means.
    ///
    /// # Errors
    /// Why it is not, for the human.
    pub(crate) fn is_signed_command(&self, signed: &Signed) -> Result<(), String> {
        let Command { log, human, deed, .. } = &signed.command;
        if *log != self.settings.log {
            return Err(format!("the command is for the log `{log}`, this is `{}`", self.settings.log));
        }
        let key = self.signer(human, deed)?;
        let message = signed.command.message().map_err(|error| error.to_string())?;
        if !is_signed(&key, &message, &signed.signature) {
            return Err(format!("the signature is not `{human}`'s over this command"));
        }
        Ok(())
    }

    /// Whether a command would count now: log, signature and meaning. For orders that cost more than a step.
    ///
    /// # Errors
    /// Why it would not, for the human.
    pub fn would_count(&self, signed: &Signed) -> Result<(), String> {
        self.commanded(signed.clone(), None).map(drop)
    }

    /// The key that must have signed.
    fn signer(&self, human: &HumanId, deed: &Deed) -> Result<[u8; 32], String> {
        if let Some(enrolled) = self.state.humans.get(human) {
            return Ok(enrolled.key);
        }
        match deed {
            Deed::Enrol { human: first, key } if self.state.humans.is_empty() && first == human => Ok(*key),
            _ => Err(format!("`{human}` is not enrolled")),
        }
    }

    fn is_meant(&self, deed: &Deed, session: Option<&SessionId>) -> Result<(), String> {
        let limits = &self.settings.limits;
        match deed {
            Deed::Resume { scope } if !self.state.kill.scopes.contains(scope) => {
                Err("exactly this scope is not killed; resume names the scope of the kill".to_owned())
            }
            Deed::Thaw { environment } if self.state.frozen_until(environment).is_none() => {
                Err(format!("`{environment}` is not frozen"))
            }
            Deed::ConfirmClock if self.state.clock_doubt.is_none() => Err("the clock is not in doubt".to_owned()),
            Deed::RevokeToken { session } if self.is_revoked(session) => Err(format!("`{session}` is revoked already")),
            Deed::RevokeBlock { block } if self.is_cut_off(&[*block]) => {
                Err(format!("the block `{}` is revoked already", block.short()))
            }
            Deed::RevokeBlock { .. } if self.state.revoked.is_full() => {
                Err(format!("{REVOKED_MAX} blocks are revoked; revoke the whole token by its session id"))
            }
            Deed::Resume { .. } | Deed::Thaw { .. } | Deed::ConfirmClock => Ok(()),
            Deed::RevokeToken { .. } | Deed::RevokeBlock { .. } => Ok(()),
            Deed::Freeze { until, .. } => self.ends_in_time("a freeze", *until, limits.freeze_max_ms),
            Deed::Enrol { human, key } => self.can_enrol(human, key),
            Deed::IssueToken { agent, ttl_ms, .. } => {
                if !self.settings.agents.contains(agent) {
                    return Err(format!("the agent `{agent}` is not in the configuration"));
                }
                let ends = self.state.now.saturating_add_ms(*ttl_ms);
                self.ends_in_time("a token", ends, limits.token_ttl_max_ms)?;
                match session {
                    None => Err("no session id was made for the token".to_owned()),
                    Some(id) if self.state.sessions.contains_key(id) => {
                        Err(format!("the session `{id}` is there already"))
                    }
                    Some(_) => Ok(()),
                }
            }
            Deed::Lease { session, name, until } => self.can_lend(session, name, *until),
            Deed::Activate { serial, .. } => self.is_later_serial(*serial),
            Deed::Erase { .. } | Deed::Hold { .. } | Deed::Release { .. } => self.state.keep.is_meant(deed),
            Deed::Prune { minimum } => self.can_prune(*minimum),
            Deed::RotateKey { key } => self.is_key_of_this_log(key),
        }
    }

    /// Whether it can be a verifier key of this log. That it is the one which the signer made is the gate's to check.
    fn is_key_of_this_log(&self, key: &str) -> Result<(), String> {
        let is_ours = key.strip_prefix(self.settings.log.as_str()).is_some_and(|rest| rest.starts_with('+'));
        if is_ours && key.len() <= VERIFIER_KEY_BYTES_MAX && key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(());
        }
        Err(format!("`{}` is no verifier key of the log `{}`", clipped(key, 120), self.settings.log))
    }

    fn is_later_serial(&self, serial: u64) -> Result<(), String> {
        let last = self.state.activation.map_or(0, |activation| activation.serial);
        // Gaps are fine: an acceptance that was signed and never started leaves one. Only going back is not.
        if serial > last {
            return Ok(());
        }
        Err(format!("the serial of this activation is `{serial}`; the last was `{last}`, so sign a later one"))
    }

    fn ends_in_time(&self, what: &str, until: TimeMs, longest_ms: u64) -> Result<(), String> {
        if until <= self.state.now {
            return Err(format!("{what} must end in the future"));
        }
        if until.since_ms(self.state.now) > longest_ms {
            return Err(format!("{what} lasts at most {longest_ms} ms"));
        }
        Ok(())
    }

    fn can_enrol(&self, human: &HumanId, key: &[u8; 32]) -> Result<(), String> {
        if self.state.humans.contains_key(human) {
            return Err(format!("`{human}` is enrolled already"));
        }
        // One key under two names would be two consents of one person.
        if self.state.humans.values().any(|other| other.key == *key) {
            return Err(format!("the key {} belongs to another human", Digest(*key).short()));
        }
        match VerifyingKey::from_bytes(key) {
            Ok(key) if !key.is_weak() => Ok(()),
            _ => Err("this is no usable Ed25519 public key".to_owned()),
        }
    }

    fn can_lend(&self, session: &SessionId, name: &LeaseName, until: TimeMs) -> Result<(), String> {
        self.ends_in_time("a lease", until, self.settings.limits.lease_ttl_max_ms)?;
        let known = self
            .state
            .sessions
            .get(session)
            .filter(|known| !known.revoked)
            .ok_or_else(|| format!("the session `{session}` is not known, has ended or was revoked"))?;
        let others = known.leases.iter().filter(|(other, lease)| *other != name && lease.until > self.state.now);
        if others.count() >= LEASES_MAX {
            return Err(format!("a session has at most {LEASES_MAX} leases"));
        }
        Ok(())
    }
}
