//! What the governor may let this point do: an action at an upstream, a question to a client, or the opening of a stream.
//!
//! It must not know how any of them is decided.

use std::future::Future;

use countersign_gate::call::{Execute, Executed};
use countersign_gate::permit::Permit;
use countersign_model::id::UpstreamId;
use countersign_model::record::Status;

use super::questions::Handing;
use crate::mcp::execute::leave::Leave;
use crate::mcp::execute::{Executor, Reply, outbound};

/// One action that waits for its permit.
#[derive(Debug)]
pub enum Work {
    /// Something at an upstream.
    Action(Executor),
    /// A question of an upstream to the client.
    Question(Handing),
    /// One resource may be in a stream of changes, which is opened once this is on record.
    Follow(UpstreamId),
}

impl Work {
    pub(crate) async fn carry_out<L: Leave>(&self, leave: L) -> Executed<Reply> {
        match self {
            Self::Action(executor) => executor.carry_out(leave).await,
            Self::Question(handing) => handing.carry_out(leave).await,
            Self::Follow(upstream) if leave.upstream() == upstream => match leave.begin(std::sync::Arc::new(|| ())) {
                Ok(_effect) => Executed {
                    status: Status::Done,
                    note: Some("left to the stream of changes".to_owned()),
                    ..outbound::not_started("")
                },
                Err(stop) => outbound::not_started(stop.as_str()),
            },
            Self::Follow(_) => outbound::not_started("the permit is for another upstream"),
        }
    }
}

impl Execute for Work {
    type Reply = Reply;

    fn execute(&self, permit: Permit) -> impl Future<Output = Executed<Reply>> + Send {
        self.carry_out(permit)
    }
}
