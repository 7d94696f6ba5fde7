//! One action as it was proposed, and all that its answer is worded by.
//!
//! It must not know how an answer is worded. It does not cover what is judged of a request: that is `adapt`.

use std::sync::Arc;

use countersign_effects::json::Node;
use countersign_gate::call::{Call, Continuation};
use countersign_model::action::Point;
use countersign_model::id::{ToolName, UpstreamId};
use countersign_model::record::Claimed;
use countersign_model::{Caller, Digest};
use tokio_util::sync::CancellationToken;

use super::rounds::Round;
use super::session::Session;
use super::work::Work;
use crate::mcp::adapt::{Form, Schema};
use crate::mcp::execute::Executor;
use crate::mcp::execute::channel::Channel;
use crate::mcp::execute::outbound::{Outbound, Progress};
use crate::mcp::route::Params;
use crate::mcp::wire::headers::META_CAPABILITIES;
use crate::mcp::wire::{Era, Id};

/// An action that is proposed, as often as it has to be.
#[derive(Clone)]
pub(super) struct Proposed {
    pub(super) caller: Caller,
    pub(super) upstream: UpstreamId,
    pub(super) tool: ToolName,
    pub(super) manifest: Option<Digest>,
    /// What looks wrong in the tool's definition.
    pub(super) flagged: Option<String>,
    pub(super) arguments: Vec<u8>,
    pub(super) meta: Vec<u8>,
    pub(super) claimed: Claimed,
    pub(super) continues: Option<Continuation>,
    pub(super) input: Vec<u8>,
}

impl Proposed {
    /// The call for the governor; `cancel` is what cancels it.
    pub(super) fn call(self, cancel: CancellationToken) -> Call {
        let Self { caller, upstream, tool, manifest, flagged, arguments, meta, claimed, continues, input } = self;
        Call {
            caller,
            point: Point::Mcp,
            upstream,
            tool,
            manifest,
            flagged,
            arguments,
            meta,
            cancel,
            claimed,
            continues,
            input,
        }
    }
}

/// What an answer is worded by, and a further round or a later run bound to.
pub(super) struct Given {
    pub(super) id: Id,
    pub(super) era: Era,
    pub(super) method: String,
    /// The session that it came in; none in the modern era.
    pub(super) session: Option<Arc<Session>>,
    pub(super) prefixed: bool,
    pub(super) tool: Option<Schema>,
    /// As the client sent them.
    pub(super) params: Params,
    pub(super) round: Round,
    pub(super) cancel: CancellationToken,
    pub(super) proposed: Proposed,
    pub(super) channel: Channel,
    /// As it goes upstream.
    pub(super) request: Outbound,
}

impl Given {
    pub(super) fn form(&self) -> Form<'_> {
        Form { era: self.era, tool: self.tool, prefix: self.prefixed.then_some(&self.proposed.upstream), task: None }
    }

    /// The work of a later run, of which nobody hears before its end.
    pub(super) fn quietly(&self) -> Arc<Work> {
        let progress = self.request.progress.clone().map(|progress| Progress { is_muted: true, ..progress });
        let request = Outbound { progress, aside: None, ..self.request.clone() };
        Arc::new(Work::Action(Executor::new(self.channel.clone(), request)))
    }
}

/// What a client without a handshake says that it can do.
pub(super) fn capabilities(params: &Params) -> Option<&Node> {
    params.get("_meta")?.get(META_CAPABILITIES)
}
