//! Who calls: verified once a token, checked for expiry and revocation at every call.
//!
//! The signature work is remembered by the token's hash; what can change is not. A token that is
//! refused is not remembered, so nobody can fill the memory with forged ones.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use countersign_kernel::identity::{TokenKey, TokenPublic, verify};
use countersign_model::{Caller, Digest, Principal, Reason, ReasonCode};

use crate::Gate;

/// Tokens remembered; when there are more, all are forgotten and verified anew.
const REMEMBERED_MAX: usize = 4_096;

pub(crate) struct Identities {
    pub(crate) key: TokenKey,
    public: TokenPublic,
    known: Mutex<BTreeMap<Digest, Caller>>,
}

impl Identities {
    pub(crate) fn new(key: TokenKey) -> Self {
        Self { public: key.public(), key, known: Mutex::default() }
    }
}

impl Gate {
    /// Who presents this token.
    ///
    /// # Errors
    /// The reason why it opens nothing: forged, malformed, expired, revoked.
    pub fn identify(&self, token: &str) -> Result<Caller, Reason> {
        let now = self.now();
        let hash = Digest::of("countersign token v1", &[token.as_bytes()]);
        let identities = &self.0.identities;
        let known = identities.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        let caller = match known {
            Some(caller) => caller,
            None => {
                let caller = verify(&identities.public, token, now).map_err(|error| error.reason())?;
                let mut known = identities.known.lock().unwrap_or_else(PoisonError::into_inner);
                if known.len() >= REMEMBERED_MAX {
                    known.clear();
                }
                known.insert(hash, caller.clone());
                caller
            }
        };
        self.standing(&caller).map(|()| caller)
    }

    /// Whether the caller's token still opens anything: what was opened with it must end with it.
    ///
    /// # Errors
    /// The reason why it does not: it expired, or was revoked.
    pub fn standing(&self, caller: &Caller) -> Result<(), Reason> {
        if caller.expires <= self.now() {
            return Err(Reason::plain(ReasonCode::TokenExpired));
        }
        let kernel = self.kernel();
        if kernel.is_cut_off(caller.blocks()) || kernel.is_revoked(&caller.principal.session) {
            return Err(Reason::because(ReasonCode::TokenInvalid, "the token was revoked"));
        }
        Ok(())
    }

    /// Resolves once a kill covers the caller, at once where one does.
    pub async fn killed(&self, principal: &Principal) {
        let epoch = self.switch().epoch();
        self.switch().killed(principal, epoch).await;
    }
}
