//! Facts: what deterministic parsers know of an action.
//!
//! `Opaque` is a legal answer and is treated as the worst case. Facts are advice to policy about
//! what the bytes say; what really happens is bounded by the executor. Lists that would not fit
//! the bounds here make the action opaque, so a policy never judges half a list.

use minicbor::{Decode, Encode};

/// The most names in one list of facts; beyond it the action is opaque.
pub const NAMES_MAX: usize = 32;
/// The longest name in a list of facts, in bytes; beyond it the action is opaque.
pub const NAME_BYTES_MAX: usize = 128;

/// The most bytes of all names in [`Bound`] together; beyond it the action is opaque.
pub const BOUND_BYTES_MAX: usize = 2_048;
/// The most bytes of all tables and functions in [`SqlFacts`] together; beyond it the action is opaque.
pub const SQL_BYTES_MAX: usize = 3_072;
/// The longest label of a tool's results, in bytes.
pub const LABEL_BYTES_MAX: usize = 32;
/// The most labels that one run is told of.
pub const RUN_LABELS_MAX: usize = 32;

/// What an action does to the world, from harmless to unknown.
/// The order is the order of severity: the effect of several statements is their maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Effect {
    /// Changes nothing.
    #[n(0)]
    Read,
    /// Adds or changes, and could be changed back.
    #[n(1)]
    Write,
    /// Sends something out of the tenant's reach.
    #[n(2)]
    Outbound,
    /// Spends money or quota.
    #[n(3)]
    Spend,
    /// Starts a process or another agent.
    #[n(4)]
    Spawn,
    /// Removes or overwrites.
    #[n(5)]
    Destructive,
    /// Nobody could say: the worst case.
    #[n(6)]
    Opaque,
}

impl Effect {
    /// Every effect, mildest first.
    pub const ALL: [Self; 7] =
        [Self::Read, Self::Write, Self::Outbound, Self::Spend, Self::Spawn, Self::Destructive, Self::Opaque];

    /// The word that policies, configuration and people use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Outbound => "outbound",
            Self::Spend => "spend",
            Self::Spawn => "spawn",
            Self::Destructive => "destructive",
            Self::Opaque => "opaque",
        }
    }

    /// Whether a code freeze lets it pass: only what changes nothing.
    #[must_use]
    pub const fn is_harmless(self) -> bool {
        matches!(self, Self::Read)
    }
}

impl std::str::FromStr for Effect {
    type Err = UnknownEffect;

    fn from_str(text: &str) -> Result<Self, UnknownEffect> {
        Self::ALL.into_iter().find(|effect| effect.as_str() == text).ok_or_else(|| UnknownEffect(text.to_owned()))
    }
}

/// A word that names no effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no effect; use one of read, write, outbound, spend, spawn, destructive, opaque")]
pub struct UnknownEffect(pub String);

/// How far the facts can be trusted to be all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Certainty {
    /// The parsers understood every part of what was bound.
    #[n(0)]
    Exact,
    /// Something was not understood, or nothing was bound.
    #[n(1)]
    Opaque,
}

/// What is known of one action.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Facts {
    /// The worst that it does.
    #[n(0)]
    pub effect: Effect,
    /// Whether the facts are complete.
    #[n(1)]
    pub certainty: Certainty,
    /// Why it is opaque, in plain words (at most 160 bytes).
    #[n(2)]
    pub opaque_because: Option<String>,
    /// What the SQL in a bound argument says.
    #[n(3)]
    pub sql: Option<SqlFacts>,
    /// What other bound arguments say; absent where they say nothing.
    #[n(4)]
    pub bound: Option<Bound>,
}

impl Facts {
    /// Facts of an action about which nothing is known.
    #[must_use]
    pub fn opaque(because: &str) -> Self {
        Self {
            effect: Effect::Opaque,
            certainty: Certainty::Opaque,
            opaque_because: Some(crate::encoding::clipped(because, 160)),
            sql: None,
            bound: None,
        }
    }

    /// Facts of an action whose effect a human declared and in which nothing is left to parse.
    #[must_use]
    pub const fn declared(effect: Effect) -> Self {
        Self { effect, certainty: Certainty::Exact, opaque_because: None, sql: None, bound: None }
    }
}

/// What a SQL text says, over every node of its tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SqlFacts {
    /// The dialect that it was read in, e.g. `sqlite`.
    #[n(0)]
    pub dialect: String,
    /// How many statements the text holds.
    #[n(1)]
    pub statements: u32,
    /// Kinds of all statements in the tree, nested ones too, sorted, lower case: `select`, `delete`, `drop_table`.
    #[n(2)]
    pub kinds: Vec<String>,
    /// All tables named, sorted, lower case, as written with their schema.
    #[n(3)]
    pub tables: Vec<String>,
    /// All functions called, sorted, lower case.
    #[n(4)]
    pub functions: Vec<String>,
    /// Whether every `UPDATE` and `DELETE` in the tree has a `WHERE`; true where there is none of either.
    #[n(5)]
    pub has_where: bool,
    /// Rows that `INSERT … VALUES` spells out, summed; zero where there is none.
    #[n(6)]
    pub rows_spelled: u64,
}

/// What bound arguments say besides SQL. Lists are sorted and without doubles, with at most [`NAMES_MAX`] names in all of
/// them together, each of at most [`NAME_BYTES_MAX`] and all of at most [`BOUND_BYTES_MAX`]; beyond it the action is
/// opaque.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Bound {
    /// Hosts, canonical: lower case, ASCII (a domain as punycode), without a port, IPv4 in IPv6 unwrapped.
    #[n(0)]
    pub hosts: Vec<String>,
    /// Paths, canonical: without `.`, `..` and doubled slashes.
    #[n(1)]
    pub paths: Vec<String>,
    /// Domains of e-mail recipients, canonical as hosts are. The addresses themselves are personal and stay in the payload.
    #[n(2)]
    pub recipient_domains: Vec<String>,
    /// How many recipients there are.
    #[n(3)]
    pub recipients: u64,
    /// Programs that a shell text would start, by their base names.
    #[n(4)]
    pub programs: Vec<String>,
    /// The sum of the amounts in millionths of the currency's unit.
    #[n(5)]
    pub amount_micros: Option<u64>,
    /// How many of something are asked for: replicas, nodes, seats.
    #[n(6)]
    pub count: Option<u64>,
    /// How many there are now, by the call's own word.
    #[n(7)]
    pub current: Option<u64>,
    /// Ids of the patterns of the policy that match.
    #[n(8)]
    pub matched: Vec<String>,
    /// What the tool's results are, by its binding: `private`, `untrusted` or a word of the operator's.
    #[n(9)]
    pub labels: Vec<String>,
}
