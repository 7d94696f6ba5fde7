//! What an upstream goes on with after it answered: a task. It is told to end it once a kill covers whoever asked for it, or
//! the time is over that policy gives.
//!
//! The call itself has ended, and its record says that the task's end is on none. So an upstream is told once, in the
//! background, and a kill does not wait for its answer. It must not know whose a task is: that is the front's.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use countersign_effects::json::Node;
use countersign_gate::permit::{Permit, Stop};
use countersign_model::encoding::clipped;

use super::leave::Leave;
use super::link::LinkError;
use super::outbound::{Kind, Outbound, Reply};
use super::{Channel, listing};
use crate::mcp::wire::era::TASKS;
use crate::mcp::wire::{Era, Outcome, quoted};

#[cfg(test)]
mod tests;

/// Tasks of one upstream that are watched over; what is beyond is told to end at once.
pub(super) const WATCHED_MAX: usize = 1_024;
/// The longest id of a task that is kept in mind, in bytes; one with a longer id is told to end at once.
const ID_BYTES_MAX: usize = 512;
/// How long a task is watched over that does not say how long it is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A leave whose effect may leave something behind.
pub(crate) trait Outlived: Leave {
    /// Resolves once what is left behind must end too.
    fn aftermath(&self) -> impl Future<Output = Stop> + Send + 'static;
}

impl Outlived for Permit {
    fn aftermath(&self) -> impl Future<Output = Stop> + Send + 'static {
        Self::aftermath(self).over()
    }
}

/// A task that an answer hands out.
struct Task {
    id: String,
    kept: Duration,
}

impl Task {
    fn of(reply: &Reply) -> Option<Self> {
        let (Kind::Task, Outcome::Result(result)) = (reply.kind(), reply.outcome()) else { return None };
        let task = result.get("task").unwrap_or(result);
        let id = task.get("taskId").and_then(Node::as_str)?.to_owned();
        let input = reply.frame().bytes();
        let kept = ["ttl", "ttlMs"].iter().find_map(|name| task.get(name)?.as_u64(input));
        Some(Self { id, kept: kept.map_or(KEPT, |ms| Duration::from_millis(ms).min(KEPT)) })
    }

    /// The request that ends it, in the upstream's words.
    fn cancellation(&self, era: Era) -> Outbound {
        let id = quoted(&self.id);
        let params = match era {
            Era::Legacy => Bytes::from(format!(r#"{{"taskId":{id}}}"#)),
            Era::Modern => listing::own_params_with(
                &format!(r#"{{"extensions":{{"{TASKS}":{{}}}}}}"#),
                &format!(r#","taskId":{id}"#),
            ),
        };
        Outbound::plain("tasks/cancel", Some(params))
    }
}

/// Watches over the task that an answer hands out, if it does, until `over` says why it has to end.
pub(super) fn watch(
    channel: &Channel,
    reply: Option<&Reply>,
    over: impl Future<Output = &'static str> + Send + 'static,
) {
    let Some(task) = reply.and_then(Task::of) else { return };
    // Not the channel itself, or a client that is gone would keep its session for as long as the task.
    let (upstream, era, link) = (channel.upstream().clone(), channel.era(), channel.link());
    let place = upstream.watching().try_acquire_owned();
    tokio::spawn(async move {
        let why = match &place {
            Ok(_) if task.id.len() > ID_BYTES_MAX => Ok("its id is too long to be kept in mind"),
            Ok(_) => tokio::time::timeout(task.kept, over).await,
            Err(_) => Ok("too many tasks are watched over"),
        };
        let Ok(why) = why else { return };
        let request = task.cancellation(era);
        let mut told = match link {
            Ok((link, member)) => link.exchange(&request, member).await,
            Err(error) => Err(error),
        };
        if let (Err(LinkError::Gone), Some(link)) = (&told, upstream.own_link(era)) {
            // The session is over that it was handed out in; the task may not be.
            told = link.exchange(&request, 0).await;
        }
        let (id, shown) = (upstream.id(), clipped(&task.id, ID_BYTES_MAX));
        match told {
            Ok(reply) if matches!(reply.outcome(), Outcome::Result(_)) => {
                tracing::info!(upstream = %id, task = shown, why, "a task was told to end");
            }
            // It may have ended before.
            Ok(_) => tracing::warn!(upstream = %id, task = shown, why, "a task does not end"),
            Err(error) => {
                tracing::error!(upstream = %id, task = shown, why, %error, "a task could not be told to end")
            }
        }
    });
}
