//! What the governor may let this point do: an action at an upstream, a question to a client, or the following of a
//! resource.
//!
//! It must not know how any of them is decided.

use std::future::Future;

use countersign_gate::call::{Execute, Executed};
use countersign_gate::permit::Permit;

use super::follow::Followed;
use super::questions::Handing;
use crate::mcp::execute::leave::Leave;
use crate::mcp::execute::{Executor, Reply};

/// One action that waits for its permit.
#[derive(Debug)]
pub enum Work {
    /// Something at an upstream.
    Action(Executor),
    /// A question of an upstream to the client.
    Question(Handing),
    /// One resource in a stream of changes, for as long as the stream is open.
    Follow(Followed),
}

impl Work {
    pub(crate) async fn carry_out<L: Leave>(&self, leave: L) -> Executed<Reply> {
        match self {
            Self::Action(executor) => executor.carry_out(leave).await,
            Self::Question(handing) => handing.carry_out(leave).await,
            Self::Follow(followed) => followed.carry_out(leave).await,
        }
    }
}

impl Execute for Work {
    type Reply = Reply;

    fn execute(&self, permit: Permit) -> impl Future<Output = Executed<Reply>> + Send {
        self.carry_out(permit)
    }
}
