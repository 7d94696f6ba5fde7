//! Secrets in what an agent sends: found by rules, and replaced before anything is recorded.
//!
//! Every rule has a stable id, and a secret becomes `[redacted:ID]` inside the JSON string in which it stood.
//! The search is deterministic and linear in the length of the text: every look ahead or back is bounded, or
//! what it passed over is not looked at again. What may be hidden is kept narrow on purpose: a redaction also
//! hides from approvers, so no rule takes in white space, substitutions or text that could be a command.
//!
//! It must not know what a record or a protocol is, nor who may see what. It does not cover secrets without a
//! mark of their own (a password in prose, a key under an innocent name), in another encoding (base64,
//! percent, compressed) or split over several values: `docs/threats.md` lists what is missed.

mod names;
mod rule;
mod scan;
#[cfg(test)]
mod tests;
mod tokens;
mod walk;

use std::borrow::Cow;

use countersign_model::{Certainty, Facts};

use crate::binding::{Binding, facts, opaque};
use crate::json::{Limits, Node, parse};

pub use rule::Rule;

/// A JSON value with its secrets replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redacted {
    /// Its canonical spelling.
    pub json: Vec<u8>,
    /// Rule and place of every replacement, sorted: `RULE POINTER`, each at most [`PLACE_BYTES_MAX`] bytes.
    ///
    /// The place is a JSON pointer (RFC 6901) into `json`. It goes into a leaf, which nobody can erase, so only
    /// what looks like the name of a field is shown in it; any other key, and every index, is `*`.
    pub places: Vec<String>,
}

/// The longest text for one place.
pub const PLACE_BYTES_MAX: usize = 160;

/// Replaces every secret in a value; none where there is none. `input` must be the bytes that were parsed.
#[must_use]
pub fn redacted(node: &Node, input: &[u8]) -> Option<Redacted> {
    walk::redacted(node, input)
}

/// Replaces every secret in a text that is nobody's argument: a note, an error, a claim.
#[must_use]
pub fn cleaned(text: &str) -> Cow<'_, str> {
    let spans = scan::spans(text);
    if spans.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(scan::replaced(text, &spans)) }
}

/// Whether a name promises a secret: a password, a key, a token.
#[must_use]
pub(crate) fn is_name(name: &str) -> bool {
    names::named(name).is_some()
}

/// The facts of a call as they may be recorded: `truth` where the secrets have no part in it.
///
/// They are derived once more from what is left. So no fact can tell anything of a secret, not even a piece
/// that no rule knows again. Where the facts would be others, a name in them is a secret: the call is opaque.
#[must_use]
pub fn recordable(binding: Option<&Binding>, truth: Facts, redacted: &[u8], limits: &Limits) -> Facts {
    let limits = Limits { bytes_max: usize::MAX, ..*limits };
    let Ok(node) = parse(redacted, &limits) else {
        return opaque(binding, "its arguments hold secrets and cannot be read without them");
    };
    let again = facts(binding, &node, redacted);
    if again == truth {
        return truth;
    }
    match again.opaque_because {
        Some(because) if truth.certainty == Certainty::Opaque => opaque(binding, &because),
        _ => opaque(binding, "a part of its arguments that is more than data holds a secret"),
    }
}
