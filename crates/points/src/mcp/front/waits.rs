//! Parked calls as tasks: what clients ask of them, and the run once a human has answered.
//!
//! The run is the identical call once more, through the governor: consent is redeemed there or nowhere. A task that its client
//! cancelled runs nothing. Tasks live in memory; after a restart the ticket is still there, and the identical call
//! redeems it. It must not know how consent is given, nor tasks of upstreams: those are in `tasks`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use countersign_effects::json::{Node, parse};
use countersign_gate::TicketState;
use countersign_gate::call::Answer;
use countersign_model::id::TicketId;
use countersign_model::{Caller, Reason, ReasonCode};
use hyper::Response;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Front;
use super::asked::Asked;
use super::body::ReplyBody;
use super::given::Given;
use super::modern;
use super::refusal::Refusal;
use super::respond::{Stream, finished, run};
use super::session::random_id;
use super::work::Work;
use crate::Governor;
use crate::mcp::adapt::{self, Form, Parked, RECEIPT, VERDICT};
use crate::mcp::execute::Reply;
use crate::mcp::execute::outbound::reading;
use crate::mcp::parked::tasks::{New, Owner, Page, Status, Task, TaskError, Tasks};
use crate::mcp::parked::{Declared, Waiting};
use crate::mcp::wire::{Era, Frame, FrameError, INVALID_PARAMS, Outcome, error_frame, response_frame, splice};

/// What ids of the gateway's own tasks begin with.
const OWN: &str = "cs-";
/// How often a call may come to wait again before its task is given up.
const WAITS_MAX: usize = 8;

/// The gateway's own tasks.
#[derive(Default)]
pub(super) struct Waits {
    tasks: Mutex<Kept>,
    /// Counts up with every task that ends.
    ends: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    tasks: Tasks,
    /// What cancels the run of a task that has not ended.
    cancels: BTreeMap<String, CancellationToken>,
}

impl Waits {
    fn with<T>(&self, of: impl FnOnce(&mut Kept) -> T) -> T {
        of(&mut self.tasks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<G: Governor<Work>> Front<G> {
    /// The response that makes a parked call a task; none where there is no room for one.
    pub(super) fn task_of(self: &Arc<Self>, given: Arc<Given>, parked: &Parked, declared: Declared) -> Option<Vec<u8>> {
        let id = format!("{OWN}{}", random_id()?);
        let waiting = Waiting { ticket: &parked.ticket, gates: &parked.gates };
        let approvals = self.config.approvals().filter(|_| given.era == Era::Modern && declared.opens_urls());
        let page = approvals.map(|approvals| Page { url: approvals.page(&parked.ticket), message: waiting.message() });
        let new = New {
            id: id.clone(),
            owner: Owner::of(&given.proposed.caller),
            ticket: parked.ticket.clone(),
            expires: parked.expires,
            ttl_ms: declared.ttl_ms(),
            message: waiting.message(),
            page,
        };
        let (verdict, is_modern) = (parked.verdict().to_string(), given.era == Era::Modern);
        let meta = [(VERDICT, verdict.as_str()), (RECEIPT, parked.receipt.as_str())];
        let (cancel, now) = (CancellationToken::new(), self.governor.now());
        let created = self.waits.with(|kept| {
            if let Some(task) = kept.tasks.waiting(&new.owner, &parked.ticket, now) {
                // The identical call waits already, and runs once.
                return Ok((task.created(is_modern, &meta), false));
            }
            let created = kept.tasks.create(new, now).map(|task| (task.created(is_modern, &meta), true));
            if created.is_ok() {
                kept.cancels.insert(id.clone(), cancel.clone());
            }
            created
        });
        let (created, is_new) = created.ok()?;
        let frame = response_frame(&given.id, "result", &created);
        if !is_new {
            return Some(frame);
        }
        let (front, ticket) = (Arc::clone(self), parked.ticket.clone());
        tokio::spawn(async move {
            let end = tokio::select! {
                biased;
                () = front.shutdown.cancelled() => None,
                end = front.ended(&given, (&id, ticket), &cancel) => end,
            };
            front.waits.with(|kept| {
                kept.cancels.remove(&id);
                if let Some(end) = end {
                    kept.tasks.finish(&id, end, front.governor.now());
                }
            });
            front.waits.ends.send_modify(|ends| *ends = ends.wrapping_add(1));
        });
        Some(frame)
    }

    /// How a parked call ends; none where its client gave it up before it ran.
    async fn ended(
        &self,
        given: &Given,
        (id, mut ticket): (&str, TicketId),
        cancel: &CancellationToken,
    ) -> Option<Status> {
        let caller = &given.proposed.caller;
        for _ in 0..WAITS_MAX {
            let mut state = self.governor.ticket(caller, &ticket);
            while matches!(state, TicketState::Waiting { .. }) {
                state = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return None,
                    changed = self.governor.ticket_changed(caller, &ticket, &state) => changed,
                };
            }
            // A human's word, either way, is what the identical call is answered by.
            if !matches!(state, TicketState::Consented { .. } | TicketState::Denied) {
                return Some(over(&state));
            }
            match self.run_again(given, cancel).await? {
                // Somebody else's identical call was quicker: what waits now would be another run.
                Answer::Parked { .. } if self.governor.ticket(caller, &ticket) == TicketState::Redeemed => {
                    return Some(over(&TicketState::Redeemed));
                }
                Answer::Parked { ticket: next, .. } => ticket = next,
                answer => return Some(Self::end_of(given, id, answer)),
            }
        }
        Some(over(&TicketState::Lapsed))
    }

    /// The identical call once more; none where its client gave it up first.
    async fn run_again(&self, given: &Given, cancel: &CancellationToken) -> Option<Answer<Reply>> {
        let place = tokio::select! {
            biased;
            () = cancel.cancelled() => return None,
            place = Arc::clone(&self.calls).acquire_owned() => place.ok()?,
        };
        if given.channel.closed().is_cancelled() {
            // Nothing could be sent, and the consent would be used all the same.
            let reason =
                Reason::because(ReasonCode::UpstreamUnavailable, "the session that the call was made in is over");
            return Some(Answer::Denied { reasons: vec![reason], receipt: None });
        }
        // What the tool is now: another definition is another action, to which nobody consented.
        let mut proposed = given.proposed.clone();
        let listed = given.channel.listed(&proposed.tool);
        proposed.manifest = listed.as_ref().map(|listed| listed.manifest);
        let (upstream, tool) = (&given.proposed.upstream, &given.proposed.tool);
        proposed.flagged = listed.and_then(|listed| self.neighbours.signs(upstream, tool, &listed));
        let answer = self.governor.govern(proposed.call(cancel.clone()), given.quietly()).await;
        self.remember(&answer, &given.proposed);
        drop(place);
        Some(answer)
    }

    fn end_of(given: &Given, id: &str, answer: Answer<Reply>) -> Status {
        // With a handshake a result names its task ("Related Task Metadata").
        let related = Task::related_to(id);
        let task = (given.era == Era::Legacy).then_some(related.as_str());
        let frame = adapt::answer(&given.id, answer, Form { task, ..given.form() });
        let limits = reading(frame.len());
        match Frame::read(frame.into(), &limits).ok().and_then(Reply::of) {
            Some(reply) if matches!(reply.outcome(), Outcome::Result(_)) => Status::Completed(reply.raw()),
            Some(reply) => Status::Failed(reply.raw()),
            None => over(&TicketState::Unknown),
        }
    }

    /// Answers a request about one of the gateway's own tasks; none where it is about none of them.
    pub(super) async fn own_task(self: &Arc<Self>, asked: &Asked) -> Option<Result<Response<ReplyBody>, Refusal>> {
        let id = asked.params.get("taskId").and_then(Node::as_str).filter(|id| id.starts_with(OWN))?.to_owned();
        let owner = Owner::of(&asked.caller);
        let now = self.governor.now();
        self.waits.with(|kept| kept.tasks.get(&owner, &id, now).map(|_| ()).ok())?;
        if let Err(refusal) = modern::check_speaks_tasks(asked) {
            return Some(Err(refusal));
        }
        Some(match asked.method.as_str() {
            "tasks/result" => Ok(self.task_result(asked, (owner, id)).await),
            "tasks/cancel" => self.task_cancelled(asked, &owner, &id),
            "tasks/update" => self.task_updated(asked, &owner, &id),
            _ => self.task_shown(asked, &owner, &id),
        })
    }

    /// The caller's own tasks before those of an upstream, on the first page of a listing of tasks.
    pub(super) fn with_own_tasks(&self, caller: &Caller, page: Vec<u8>) -> Vec<u8> {
        let owner = Owner::of(caller);
        let own: Vec<Vec<u8>> = self
            .waits
            .with(|kept| kept.tasks.list(&owner, self.governor.now()).iter().map(|task| task.shown(false)).collect());
        let limits = reading(page.len());
        let Ok(node) = parse(&page, &limits) else { return page };
        let Some(tasks) = node.get("tasks").filter(|_| !own.is_empty()) else { return page };
        let comma = if tasks.as_array().is_some_and(|tasks| !tasks.is_empty()) { "," } else { "" };
        let text = String::from_utf8_lossy(&own.join(&b',')).into_owned();
        let inside = tasks.span.start.saturating_add(1);
        splice::edited(&page, &node.span, &[(inside..inside, format!("{text}{comma}"))])
    }

    fn task_shown(&self, asked: &Asked, owner: &Owner, id: &str) -> Result<Response<ReplyBody>, Refusal> {
        let (now, is_modern) = (self.governor.now(), asked.era == Era::Modern);
        let shown = self.waits.with(|kept| {
            // With a handshake the end is fetched by `tasks/result`.
            let task = if is_modern { kept.tasks.fetch(owner, id, now) } else { kept.tasks.get(owner, id, now) };
            task.map(|task| task.shown(is_modern))
        });
        let shown = shown.map_err(|error| asked.refused(&wrong(error)))?;
        Ok(finished(asked.era, asked.accepts, response_frame(&asked.id, "result", &shown)))
    }

    fn task_cancelled(&self, asked: &Asked, owner: &Owner, id: &str) -> Result<Response<ReplyBody>, Refusal> {
        let (now, is_modern) = (self.governor.now(), asked.era == Era::Modern);
        let cancelled = self.waits.with(|kept| {
            let cancelled = kept.tasks.cancel(owner, id, now).map(|task| task.shown(false));
            if let Some(cancel) = kept.cancels.get(id).filter(|_| cancelled.is_ok()) {
                cancel.cancel();
            }
            cancelled
        });
        self.waits.ends.send_modify(|ends| *ends = ends.wrapping_add(1));
        let result = match (cancelled, is_modern) {
            // The extension acknowledges, whatever the task does.
            (Ok(_) | Err(TaskError::Over), true) => br#"{"resultType":"complete"}"#.to_vec(),
            (Ok(shown), false) => shown,
            (Err(error), _) => return Err(asked.refused(&wrong(error))),
        };
        Ok(finished(asked.era, asked.accepts, response_frame(&asked.id, "result", &result)))
    }

    /// Takes note that a client has been at the approval page, or would not go. Nothing of it goes anywhere.
    fn task_updated(&self, asked: &Asked, owner: &Owner, id: &str) -> Result<Response<ReplyBody>, Refusal> {
        let answers = asked.params.get(adapt::rounds::ANSWERS).and_then(Node::as_object).unwrap_or_default();
        let keys = answers.iter().map(|(key, _)| key.as_str());
        let now = self.governor.now();
        let noted = self.waits.with(|kept| kept.tasks.answered((owner, id), keys, now));
        noted.map_err(|error| asked.refused(&wrong(error)))?;
        let frame = response_frame(&asked.id, "result", br#"{"resultType":"complete"}"#);
        Ok(finished(asked.era, asked.accepts, frame))
    }

    /// Waits for the end of a task, and answers as the call itself would have been.
    async fn task_result(self: &Arc<Self>, asked: &Asked, (owner, id): (Owner, String)) -> Response<ReplyBody> {
        let gone = CancellationToken::new();
        let stream = asked.accepts.events.then(|| asked.hearing(0).map(Stream::open)).flatten();
        let (stream, speaking) = stream.unzip();
        let waiting = super::respond::Waiting::of(asked, Some(gone.clone().drop_guard()));
        let (front, request, caller) = (Arc::clone(self), asked.id.clone(), asked.caller.clone());
        let work = async move {
            let mut ends = front.waits.ends.subscribe();
            loop {
                ends.borrow_and_update();
                if !front.governor.stands(&caller) {
                    return error_frame(Some(&request), INVALID_PARAMS, "the token stands no more", None);
                }
                let now = front.governor.now();
                let status =
                    front.waits.with(|kept| kept.tasks.fetch(&owner, &id, now).map(|task| task.status().clone()));
                match status {
                    Ok(Status::Completed(raw)) => return response_frame(&request, "result", &raw),
                    Ok(Status::Failed(raw)) => return response_frame(&request, "error", &raw),
                    Ok(Status::Working) => {}
                    Ok(Status::Cancelled) => {
                        return error_frame(Some(&request), INVALID_PARAMS, "the task was cancelled", None);
                    }
                    Err(error) => return error_frame(Some(&request), INVALID_PARAMS, &error.to_string(), None),
                }
                tokio::select! {
                    _ = ends.changed() => {}
                    () = gone.cancelled() => return Vec::new(),
                    () = front.shutdown.cancelled() => {
                        return error_frame(Some(&request), INVALID_PARAMS, "the gateway stops; ask again later", None);
                    }
                }
            }
        };
        let done = run(work, move || drop(speaking));
        self.respond(waiting, stream, done).await
    }
}

/// The end of a task whose call did not run.
fn over(state: &TicketState) -> Status {
    let sentence = match state {
        TicketState::Redeemed => "Not run here: an identical call used the consent.",
        _ => "Not run: nobody consented in time. Nothing has happened; make the call anew.",
    };
    let error = serde_json::json!({
        "code": crate::mcp::wire::DENIED,
        "message": sentence,
        "data": { "countersign": { "verdict": "lapsed" } },
    });
    Status::Failed(error.to_string().into())
}

fn wrong(error: TaskError) -> FrameError {
    FrameError { code: INVALID_PARAMS, ..FrameError::shape(error) }
}
