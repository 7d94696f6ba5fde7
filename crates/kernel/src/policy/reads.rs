//! What policies read of the context, so that nothing else has to be built for them.
//!
//! It looks at a policy's expression alone and says rather too much than too little: a policy that does anything with the
//! context but name one of its attributes reads all of it. Should it ever say too little, the policy errs, which denies.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use cedar_policy_core::ast::{Expr, ExprKind, Var};

#[cfg(test)]
mod tests;

/// Attributes of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// Every one.
    All,
    /// These and no other.
    Named(BTreeSet<String>),
}

impl Default for Reads {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Reads {
    /// What one of these policies reads.
    pub(super) fn of<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut named = BTreeSet::new();
        for policy in policies {
            let policy: &cedar_policy_core::ast::Policy = policy.as_ref();
            // The scope holds entities only.
            if !policy.non_scope_constraints().is_none_or(|condition| is_named(condition, &mut named)) {
                return Self::All;
            }
        }
        Self::Named(named)
    }

    pub(super) fn has(&self, attribute: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(named) => named.contains(attribute),
        }
    }
}

/// Puts the attributes that `condition` names into `named`; `false` where it uses the context in another way.
fn is_named(condition: &Expr, named: &mut BTreeSet<String>) -> bool {
    // Each use of the context is an expression of its own and also stands below what it is used for: what is left over was
    // used for something else.
    let mut named_uses: usize = 0;
    let mut uses: usize = 0;
    for part in condition.subexpressions() {
        let (of, attribute) = match part.expr_kind() {
            ExprKind::Var(Var::Context) => {
                uses = uses.saturating_add(1);
                continue;
            }
            ExprKind::GetAttr { expr, attr } | ExprKind::HasAttr { expr, attr } => (expr, attr),
            ExprKind::ExtHasAttr { expr, attrs } => (expr, attrs.first()),
            _ => continue,
        };
        if matches!(of.expr_kind(), ExprKind::Var(Var::Context)) {
            named_uses = named_uses.saturating_add(1);
            named.insert(attribute.to_string());
        }
    }
    named_uses == uses
}
