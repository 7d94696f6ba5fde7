//! Who listens to one link: the gateway itself, one client, or everybody on a pipe.
//!
//! It must not know transports.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_model::id::ToolName;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::Listed;
use super::audience::Audience;
use super::board::Board;
use super::said::Said;
use crate::mcp::config::UpstreamLimits;
use crate::mcp::wire::{Era, Frame};

/// The upstream said that its tools changed.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// In which era: the tools of the other may be the same.
    pub(crate) era: Era,
    /// As it said it.
    pub(crate) frame: Frame,
}

/// The tools that one client was shown and nobody else, on a session of its own.
#[derive(Default)]
pub(crate) struct Shown {
    tools: Mutex<BTreeMap<ToolName, Listed>>,
}

impl Shown {
    pub(crate) fn find(&self, tool: &ToolName) -> Option<Listed> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner).get(tool).cloned()
    }

    /// Adds what a page showed; `false` where that would be more than `tools_max`.
    pub(crate) fn add(&self, page: BTreeMap<ToolName, Listed>, tools_max: usize) -> bool {
        let mut tools = self.tools.lock().unwrap_or_else(PoisonError::into_inner);
        if tools.len().saturating_add(page.len()) > tools_max {
            return false;
        }
        tools.extend(page);
        true
    }

    fn clear(&self) {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Who listens to one link.
#[derive(Clone)]
pub(crate) enum Ears {
    /// The gateway, on a link of its own or that all clients share: changes of tools are listed before clients hear of
    /// them.
    Own { changes: broadcast::Sender<Change>, audience: Arc<Audience> },
    /// One client, on a session of its own.
    Client { said: mpsc::Sender<Said>, shown: Arc<Shown> },
}

impl Ears {
    /// The bookkeeping of a link whose answers come on one stream.
    pub(crate) fn board(&self, limits: &UpstreamLimits, closed: CancellationToken) -> Board {
        let audience = match self {
            Self::Own { audience, .. } => Arc::clone(audience),
            Self::Client { said, .. } => Arc::new(Audience::of(said.clone(), closed.clone())),
        };
        Board::new(limits, audience, self.clone(), closed)
    }

    /// Where a client listens that has the link for itself.
    pub(crate) const fn client(&self) -> Option<&mpsc::Sender<Said>> {
        match self {
            Self::Own { .. } => None,
            Self::Client { said, .. } => Some(said),
        }
    }

    /// Takes note of a change of the tools; `true` where that is all, and the gateway tells clients itself.
    pub(crate) fn changed(&self, change: Change) -> bool {
        match self {
            Self::Own { changes, .. } => {
                // No listener is no error.
                let _ = changes.send(change);
                true
            }
            Self::Client { shown, .. } => {
                shown.clear();
                false
            }
        }
    }
}
