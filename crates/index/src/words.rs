//! Words of the record and the small numbers that the tables hold in their place.
//!
//! Numbers are the index's own and may change with its version; words are what people and programs see.

use countersign_model::record::Status;
use countersign_model::{Effect, ReasonCode, Verdict};

/// Kinds of records by their number. An outcome has no row of its own: it completes its intent's.
const KINDS: [&str; 18] = [
    "started",
    "stopped",
    "intent",
    "outcome",
    "denial",
    "proposal",
    "waiting",
    "consent",
    "expired",
    "killed",
    "commanded",
    "refused",
    "gap",
    "clock_jump",
    "erased",
    "pruned",
    "snapshot",
    "key_rotated",
];

/// Every kind of record.
#[must_use]
pub const fn kinds() -> &'static [&'static str] {
    &KINDS
}

fn number(of: Option<usize>) -> Option<i64> {
    of.and_then(|at| i64::try_from(at).ok())
}

pub(crate) fn kind_number(word: &str) -> Option<i64> {
    number(KINDS.iter().position(|kind| *kind == word))
}

fn at<T: Copy>(all: &[T], number: i64) -> Option<T> {
    usize::try_from(number).ok().and_then(|at| all.get(at)).copied()
}

pub(crate) fn kind_word(number: i64) -> Option<&'static str> {
    at(&KINDS, number)
}

pub(crate) fn reason_number(code: ReasonCode) -> Option<i64> {
    number(ReasonCode::ALL.iter().position(|other| *other == code))
}

pub(crate) fn reason_word(number: i64) -> Option<&'static str> {
    at(ReasonCode::ALL, number).map(ReasonCode::as_str)
}

pub(crate) fn effect_number(effect: Effect) -> Option<i64> {
    number(Effect::ALL.iter().position(|other| *other == effect))
}

pub(crate) fn effect_word(number: i64) -> Option<&'static str> {
    at(&Effect::ALL, number).map(Effect::as_str)
}

/// A verdict without what comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictWord {
    /// It may run.
    Allow,
    /// It waits for consent.
    RequireApproval,
    /// It may not run.
    Deny,
    /// It may run under obligations.
    Modify,
    /// Facts are missing.
    Defer,
}

impl VerdictWord {
    /// Every verdict.
    pub const ALL: [Self; 5] = [Self::Allow, Self::RequireApproval, Self::Deny, Self::Modify, Self::Defer];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::RequireApproval => "require_approval",
            Self::Deny => "deny",
            Self::Modify => "modify",
            Self::Defer => "defer",
        }
    }

    /// The verdict's word.
    #[must_use]
    pub const fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::RequireApproval { .. } => Self::RequireApproval,
            Verdict::Deny => Self::Deny,
            Verdict::Modify { .. } => Self::Modify,
            Verdict::Defer { .. } => Self::Defer,
        }
    }

    pub(crate) const fn number(self) -> i64 {
        self as i64
    }

    pub(crate) fn from_number(number: i64) -> Option<Self> {
        at(&Self::ALL, number)
    }
}

/// How an allowed call ended, or that its outcome is not in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusWord {
    /// The upstream answered with a result.
    Done,
    /// The upstream answered with an error.
    Failed,
    /// Nothing happened.
    NotStarted,
    /// What happened is not known.
    Unknown,
    /// It was allowed, and no outcome is in the log: it runs, or the gateway was cut off.
    Open,
    /// The upstream answered with a question.
    InputRequired,
}

impl StatusWord {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Done, Self::Failed, Self::NotStarted, Self::Unknown, Self::Open, Self::InputRequired];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::NotStarted => "not_started",
            Self::Unknown => "unknown",
            Self::Open => "open",
            Self::InputRequired => "input_required",
        }
    }

    /// The word of an outcome's status.
    #[must_use]
    pub const fn of(status: Status) -> Self {
        match status {
            Status::Done => Self::Done,
            Status::Failed => Self::Failed,
            Status::NotStarted => Self::NotStarted,
            Status::Unknown => Self::Unknown,
            Status::InputRequired => Self::InputRequired,
        }
    }

    pub(crate) const fn number(self) -> i64 {
        self as i64
    }

    pub(crate) fn from_number(number: i64) -> Option<Self> {
        at(&Self::ALL, number)
    }
}
