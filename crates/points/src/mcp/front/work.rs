//! What the governor may let this point do: an action at an upstream, a question to a client, or the following of a
//! resource.
//!
//! It must not know how any of them is decided.

use std::future::Future;

use countersign_gate::call::{Execute, Executed};
use countersign_gate::permit::Permit;
use countersign_model::id::UpstreamId;
use countersign_model::record::Status;

use super::follow::Followed;
use super::questions::Handing;
use crate::mcp::execute::aftermath::Outlived;
use crate::mcp::execute::leave::Leave;
use crate::mcp::execute::{Executor, Reply, outbound};

/// One action that waits for its permit.
#[derive(Debug)]
pub enum Work {
    /// Something at an upstream.
    Action(Executor),
    /// A question of an upstream to the client.
    Question(Handing),
    /// One resource in a stream of changes, for as long as the stream is open.
    Follow(Followed),
    /// A question of an upstream may be in the answer to the request that it came up in, which goes out once this is on
    /// record.
    Asking(UpstreamId),
}

impl Work {
    pub(crate) async fn carry_out<L: Outlived>(&self, leave: L) -> Executed<Reply> {
        match self {
            Self::Action(executor) => executor.carry_out(leave).await,
            Self::Question(handing) => handing.carry_out(leave).await,
            Self::Follow(followed) => followed.carry_out(leave).await,
            // The client's answer comes in a request of its own, which nothing here could redact.
            Self::Asking(_) if leave.redacts() => {
                outbound::not_started("the answer to this question cannot be redacted, so it is not asked")
            }
            Self::Asking(upstream) => leave_it(leave, upstream, "left to the answer of the call that it came up in"),
        }
    }
}

/// What is done by whoever waits for it to be on record.
fn leave_it<L: Leave>(leave: L, upstream: &UpstreamId, note: &str) -> Executed<Reply> {
    if leave.upstream() != upstream {
        return outbound::not_started("the permit is for another upstream");
    }
    match leave.begin(std::sync::Arc::new(|| ())) {
        Ok(_effect) => Executed { status: Status::Done, note: Some(note.to_owned()), ..outbound::not_started("") },
        Err(stop) => outbound::not_started(stop.as_str()),
    }
}

impl Execute for Work {
    type Reply = Reply;

    fn execute(&self, permit: Permit) -> impl Future<Output = Executed<Reply>> + Send {
        self.carry_out(permit)
    }
}
