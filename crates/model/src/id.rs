//! Names of things: validated once at the edge, compared everywhere else.
//!
//! An id is 1 to 128 bytes of printable ASCII without spaces, quotes, backslashes or commas, so it can stand
//! in a log line, a policy and a file name without escaping. A name that does not fit is
//! refused, never repaired: two spellings must not become one principal.

use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

/// The longest id in bytes.
pub const ID_BYTES_MAX: usize = 128;

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("a {kind} must not be empty")]
    Empty {
        /// What kind of id was asked for.
        kind: &'static str,
    },
    /// More than [`ID_BYTES_MAX`] bytes.
    #[error("a {kind} has at most {ID_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// What kind of id was asked for.
        kind: &'static str,
        /// How long the text was.
        bytes: usize,
    },
    /// A character outside the alphabet.
    #[error("a {kind} is made of printable ASCII without spaces, quotes, backslashes and commas; `{text}` is not")]
    Alphabet {
        /// What kind of id was asked for.
        kind: &'static str,
        /// The text, escaped.
        text: String,
    },
}

const fn in_alphabet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'`' | b'\\' | b',')
}

fn checked(kind: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong { kind, bytes: text.len() });
    }
    if !text.bytes().all(in_alphabet) {
        return Err(IdError::Alphabet { kind, text: text.escape_default().to_string() });
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks `text` against the alphabet and length of an id.
            ///
            /// # Errors
            /// Refuses an empty text, one over [`ID_BYTES_MAX`] bytes, and any character outside the alphabet.
            pub fn new(text: &str) -> Result<Self, IdError> {
                checked($kind, text)?;
                Ok(Self(text.to_owned()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.str(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
                Self::new(d.str()?).map_err(minicbor::decode::Error::custom)
            }
        }
    };
}

id! {
    /// A customer or organisation: nothing is shared between two tenants.
    TenantId, "tenant id"
}
id! {
    /// An agent: a principal that proposes and never approves.
    AgentId, "agent id"
}
id! {
    /// A human: the only kind of principal that approves.
    HumanId, "human id"
}
id! {
    /// A session is one token; this is the id that the token carries.
    SessionId, "session id"
}
id! {
    /// A run: the run id that the token carries, else the session's id.
    RunId, "run id"
}
id! {
    /// An upstream of the configuration.
    UpstreamId, "upstream id"
}
id! {
    /// What an action changes: a database, a cluster, a mailbox.
    TargetId, "target id"
}
id! {
    /// `production`, `staging`, …: an attribute of the target, never of the agent's say-so.
    Environment, "environment"
}
id! {
    /// The name of a tool, as its upstream gives it.
    ToolName, "tool name"
}
id! {
    /// The handle by which a human finds a parked action.
    TicketId, "ticket"
}
id! {
    /// A right that a lease lends to a session.
    LeaseName, "lease name"
}
id! {
    /// A legal hold.
    HoldName, "hold name"
}
id! {
    /// The id of one policy in a bundle.
    PolicyId, "policy id"
}

/// A SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Digest(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 32]);

impl Digest {
    /// SHA-256 over the parts, each preceded by its length as eight big-endian bytes, under a domain:
    /// no two lists of parts give the same input.
    #[must_use]
    pub fn of(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in std::iter::once(domain.as_bytes()).chain(parts.iter().copied()) {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Lower-case hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        use std::fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut out, byte| {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
    }

    /// The first twelve hexadecimal digits: for a person's eye, never for comparison.
    #[must_use]
    pub fn short(&self) -> String {
        self.hex().chars().take(12).collect()
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest({})", self.short())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}
