//! What stands before a child process is started, and what is told of how an upstream does.
//!
//! The application brings both: a check that is asked right before every start, for it knows which program was pinned; a
//! launcher, which sets limits and then becomes the program; and an ear for changes of state. This module must not know
//! files, digests or limits.

use std::path::PathBuf;
use std::sync::Arc;

/// Asked before every start of a child; why it may not be started, if it may not.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Told of every change.
pub type Ear = Arc<dyn Fn(UpstreamState) + Send + Sync>;

/// How an upstream does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamState {
    /// It answers.
    Up,
    /// It does not, and is being started again.
    Down {
        /// How often it failed quickly in a row.
        failures: u32,
        /// Why the last attempt failed, where it is known.
        why: Option<String>,
    },
    /// Its program is not the one that was pinned, so it is not started.
    Refused {
        /// What differs.
        why: String,
    },
    /// It failed too often in a row, and is left alone until the gateway starts again.
    GivenUp {
        /// How often.
        failures: u32,
        /// Why the last attempt failed, where it is known.
        why: Option<String>,
    },
}

impl UpstreamState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down { .. } => "down",
            Self::Refused { .. } => "refused",
            Self::GivenUp { .. } => "given_up",
        }
    }

    /// Why it is not up, where it is known.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Up => None,
            Self::Down { why, .. } | Self::GivenUp { why, .. } => why.as_deref(),
            Self::Refused { why } => Some(why),
        }
    }
}

/// A program with arguments that sets limits on itself and then becomes the program behind its last argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// What stands before the child's own program and arguments.
    pub args: Vec<String>,
}

/// What an upstream is started behind.
#[derive(Clone, Default)]
pub struct Guard {
    /// Asked before every start of a child.
    pub check: Option<Check>,
    /// What a child is started through.
    pub launcher: Option<Launcher>,
    /// Told of every change of state.
    pub ear: Option<Ear>,
}

impl Guard {
    /// Whether a child may be started now.
    pub(crate) fn admit(&self) -> Result<(), String> {
        self.check.as_ref().map_or(Ok(()), |check| check())
    }

    /// Tells how the upstream does.
    pub(crate) fn tell(&self, state: UpstreamState) {
        if let Some(ear) = &self.ear {
            ear(state);
        }
    }
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard(check: {}, launcher: {:?})", self.check.is_some(), self.launcher)
    }
}
