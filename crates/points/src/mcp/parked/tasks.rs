//! Tasks that stand for parked calls: a bounded store, and the words of both eras for what is in it.
//!
//! A task begins as `working` and ends once, as `completed`, `failed` or `cancelled`; whatever comes after is too late. In
//! between a modern client that can open pages is asked to open the approval page (`input_required`), until it has said
//! anything to that. A task belongs to the tenant, agent and run that the call was of; to others there is none. Its end is kept until
//! its time is over, or until it was fetched and the room is needed. Time and ids come in; ids must be unguessable. It must
//! not know what a task waits for: a task says what it was told. It does not cover tasks of upstreams.
//!
//! Specification: 2025-11-25 `basic/utilities/tasks`; extension `io.modelcontextprotocol/tasks`, 2026-07-28.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use countersign_model::id::{AgentId, RunId, TenantId, TicketId};
use countersign_model::{Caller, Digest, Principal, TimeMs};
use serde_json::{Map, Value, json};

use super::{APPROVAL, with_meta};
use crate::mcp::wire::OUTCOME_UNKNOWN;

/// How often a client should ask, in milliseconds.
pub const POLL_MS: u64 = 5_000;
/// How long a task is kept after what it waits for has lapsed, in milliseconds: the end must be there to be fetched.
pub const GRACE_MS: u64 = 60 * 60_000;
/// The longest life of a task, in milliseconds.
pub const TTL_MS_MAX: u64 = 31 * 24 * 60 * 60_000;
/// The member of `_meta` with what the model may be told at once (2025-11-25, note on creating tasks).
const IMMEDIATE: &str = "io.modelcontextprotocol/model-immediate-response";

/// Bounds of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Tasks in all.
    pub tasks_max: usize,
    /// Tasks of one owner.
    pub tasks_per_owner_max: usize,
    /// Bytes of all ends that are kept.
    pub bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { tasks_max: 1_024, tasks_per_owner_max: 64, bytes_max: 64 * 1024 * 1024 }
    }
}

/// Whose a task is: what a digest covers of a principal, and how far its token was narrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    who: (TenantId, AgentId, RunId),
    blocks: Vec<Digest>,
}

impl Owner {
    /// Whoever may redeem the consent.
    #[must_use]
    pub fn of(caller: &Caller) -> Self {
        let Principal { tenant, agent, run, .. } = &caller.principal;
        Self { who: (tenant.clone(), agent.clone(), run.clone()), blocks: caller.blocks().to_vec() }
    }

    /// Whether what is this one's may be used by `asker`: by itself, or by the token that it was narrowed from.
    fn opens_to(&self, asker: &Self) -> bool {
        self.who == asker.who && self.blocks.starts_with(&asker.blocks)
    }
}

/// How a task stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It waits, or runs.
    Working,
    /// The call has a result, be it one that says `isError`. Raw JSON.
    Completed(Bytes),
    /// The call ended in a JSON-RPC error. Raw JSON of the error.
    Failed(Bytes),
    /// The client cancelled it.
    Cancelled,
}

impl Status {
    const fn bytes(&self) -> usize {
        match self {
            Self::Completed(raw) | Self::Failed(raw) => raw.len(),
            Self::Working | Self::Cancelled => 0,
        }
    }

    const fn is_over(&self) -> bool {
        !matches!(self, Self::Working)
    }
}

/// A page that a modern client is asked to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its address.
    pub url: String,
    /// What the user is told.
    pub message: String,
}

/// One task.
#[derive(Clone, Debug)]
pub struct Task {
    id: String,
    owner: Owner,
    ticket: TicketId,
    message: String,
    page: Option<Page>,
    created: TimeMs,
    updated: TimeMs,
    ttl_ms: u64,
    status: Status,
    is_fetched: bool,
}

/// What a task is made of.
#[derive(Clone, Debug)]
pub struct New {
    /// Its id: at least 128 bits that nobody can guess.
    pub id: String,
    /// Whose it is.
    pub owner: Owner,
    /// What it waits under.
    pub ticket: TicketId,
    /// When that lapses.
    pub expires: TimeMs,
    /// The life that the client asks for, in milliseconds.
    pub ttl_ms: Option<u64>,
    /// A plain sentence about what it waits for.
    pub message: String,
    /// The page that a modern client is asked to open.
    pub page: Option<Page>,
}

/// Why there is no such task, or nothing can be done with it. A client cannot tell another's task from none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// As many as may be are kept already.
    #[error("too many tasks are kept; fetch results, or wait for some to end")]
    Full,
    /// There is none of this owner's, or its time is over. In both eras `-32602`.
    #[error("no task of yours has this id, or its time is over")]
    Unknown,
    /// It has ended: in the legacy era `-32602`; a modern cancellation is acknowledged all the same.
    #[error("the task has ended already")]
    Over,
}

/// The tasks of a gateway.
#[derive(Debug, Default)]
pub struct Tasks {
    bounds: Bounds,
    tasks: BTreeMap<String, Task>,
    /// Bytes of all ends.
    bytes: usize,
}

impl Tasks {
    /// A store with these bounds.
    #[must_use]
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, tasks: BTreeMap::new(), bytes: 0 }
    }

    /// Keeps a new task.
    ///
    /// # Errors
    /// [`TaskError::Full`]: then the call is answered in another form. An id that is taken counts as full.
    pub fn create(&mut self, new: New, now: TimeMs) -> Result<&Task, TaskError> {
        self.sweep(now);
        let own = |task: &Task| task.owner.who == new.owner.who;
        if self.tasks.values().filter(|task| own(task)).count() >= self.bounds.tasks_per_owner_max {
            self.evict(own);
        }
        if self.tasks.len() >= self.bounds.tasks_max {
            self.evict(|_| true);
        }
        let of_owner = self.tasks.values().filter(|task| own(task)).count();
        let has_room = self.tasks.len() < self.bounds.tasks_max && of_owner < self.bounds.tasks_per_owner_max;
        if !has_room || self.tasks.contains_key(&new.id) {
            return Err(TaskError::Full);
        }
        // A client that asks for less than it takes to consent gets more: a receiver may override the life asked for.
        let needed = new.expires.since_ms(now).saturating_add(GRACE_MS);
        let task = Task {
            ttl_ms: new.ttl_ms.unwrap_or(needed).max(needed).min(TTL_MS_MAX),
            owner: new.owner,
            ticket: new.ticket,
            message: new.message,
            page: new.page,
            created: now,
            updated: now,
            status: Status::Working,
            is_fetched: false,
            id: new.id.clone(),
        };
        Ok(self.tasks.entry(new.id).or_insert(task))
    }

    /// This owner's task that waits under `ticket` and has not ended: the identical call is the same task.
    pub fn waiting(&mut self, owner: &Owner, ticket: &TicketId, now: TimeMs) -> Option<&Task> {
        self.sweep(now);
        let same = |task: &&Task| task.owner == *owner && task.ticket == *ticket && !task.status.is_over();
        self.tasks.values().find(same)
    }

    /// A task of this owner's.
    ///
    /// # Errors
    /// [`TaskError::Unknown`].
    pub fn get(&mut self, owner: &Owner, id: &str, now: TimeMs) -> Result<&Task, TaskError> {
        Ok(self.own(owner, id, now)?)
    }

    /// The same for one whose end is handed out with it: what was fetched goes first when room is needed.
    ///
    /// # Errors
    /// [`TaskError::Unknown`].
    pub fn fetch(&mut self, owner: &Owner, id: &str, now: TimeMs) -> Result<&Task, TaskError> {
        let task = self.own(owner, id, now)?;
        task.is_fetched |= task.status.is_over();
        Ok(task)
    }

    /// All tasks of this owner's, oldest first.
    pub fn list(&mut self, owner: &Owner, now: TimeMs) -> Vec<&Task> {
        self.sweep(now);
        let mut own: Vec<&Task> = self.tasks.values().filter(|task| task.owner.opens_to(owner)).collect();
        own.sort_by_key(|task| task.created);
        own
    }

    /// The call ended. Gives whether the task takes it: one that was cancelled, or is gone, does not. An end for which there
    /// is no room becomes an error that says that the call is done.
    pub fn finish(&mut self, id: &str, end: Status, now: TimeMs) -> bool {
        self.sweep(now);
        if !end.is_over() || self.tasks.get(id).is_none_or(|task| task.status.is_over()) {
            return false;
        }
        while self.bytes.saturating_add(end.bytes()) > self.bounds.bytes_max {
            if !self.evict(|task| task.status.bytes() > 0) {
                break;
            }
        }
        let fits = self.bytes.saturating_add(end.bytes()) <= self.bounds.bytes_max;
        let end = if fits { end } else { Status::Failed(lost().into()) };
        let Some(task) = self.tasks.get_mut(id) else { return false };
        self.bytes = self.bytes.saturating_add(end.bytes());
        (task.status, task.updated, task.page) = (end, now, None);
        true
    }

    /// The client gives up on it. What the call does then is not decided here.
    ///
    /// # Errors
    /// [`TaskError::Unknown`], or [`TaskError::Over`] where it has ended.
    pub fn cancel(&mut self, owner: &Owner, id: &str, now: TimeMs) -> Result<&Task, TaskError> {
        let task = self.own(owner, id, now)?;
        if task.status.is_over() {
            return Err(TaskError::Over);
        }
        (task.status, task.updated, task.page) = (Status::Cancelled, now, None);
        Ok(task)
    }

    /// A modern client answers what it was asked in a task (`tasks/update`). Whatever it says, it was asked and is not asked
    /// again: it is no consent. Answers to anything else are ignored, as the extension has it.
    ///
    /// # Errors
    /// [`TaskError::Unknown`].
    pub fn answered<'a>(
        &mut self,
        (owner, id): (&Owner, &str),
        mut keys: impl Iterator<Item = &'a str>,
        now: TimeMs,
    ) -> Result<(), TaskError> {
        let task = self.own(owner, id, now)?;
        if keys.any(|key| key == APPROVAL) && task.page.take().is_some() {
            task.updated = now;
        }
        Ok(())
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Drops those whose time is over.
    pub fn sweep(&mut self, now: TimeMs) {
        self.tasks.retain(|_, task| now < task.created.saturating_add_ms(task.ttl_ms));
        self.bytes = self.tasks.values().map(|task| task.status.bytes()).fold(0, usize::saturating_add);
    }

    fn own(&mut self, owner: &Owner, id: &str, now: TimeMs) -> Result<&mut Task, TaskError> {
        self.sweep(now);
        self.tasks.get_mut(id).filter(|task| task.owner.opens_to(owner)).ok_or(TaskError::Unknown)
    }

    /// Drops the oldest of those whose end was fetched. Whether there was one.
    fn evict(&mut self, of: impl Fn(&Task) -> bool) -> bool {
        let fetched = self.tasks.values().filter(|task| task.is_fetched && of(task));
        let Some(oldest) = fetched.min_by_key(|task| task.updated).map(|task| task.id.clone()) else { return false };
        if let Some(task) = self.tasks.remove(&oldest) {
            self.bytes = self.bytes.saturating_sub(task.status.bytes());
        }
        true
    }
}

/// What is said of a call that is done and whose answer could not be kept.
fn lost() -> String {
    json!({
        "code": OUTCOME_UNKNOWN,
        "message": "Done, but the answer was too large to be kept. Do not repeat it; what happened is in the record.",
        "data": { "countersign": { "status": "done" } },
    })
    .to_string()
}

/// What a task says, in the words of either era.
impl Task {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The ticket that it waits under.
    #[must_use]
    pub const fn ticket(&self) -> &TicketId {
        &self.ticket
    }

    /// How it stands.
    #[must_use]
    pub const fn status(&self) -> &Status {
        &self.status
    }

    /// The result that creates it, raw: the extension's `CreateTaskResult` with `resultType: "task"`, or that of 2025-11-25
    /// with the task as a member. `meta` are members of `_meta`, name and raw JSON.
    #[must_use]
    pub fn created(&self, is_modern: bool, meta: &[(&str, &str)]) -> Vec<u8> {
        if is_modern {
            let mut result = self.members(true, "working");
            result.insert("resultType".to_owned(), "task".into());
            return with_meta(&Value::Object(result), meta);
        }
        let immediate = Value::from(self.message.as_str()).to_string();
        let meta: Vec<(&str, &str)> = meta.iter().copied().chain([(IMMEDIATE, immediate.as_str())]).collect();
        with_meta(&json!({ "task": self.members(false, "working") }), &meta)
    }

    /// The result of `tasks/get`, raw; of 2025-11-25's `tasks/cancel` too. A modern one holds the end itself, or what the
    /// client is asked.
    #[must_use]
    pub fn shown(&self, is_modern: bool) -> Vec<u8> {
        let page = self.page.as_ref().filter(|_| is_modern && self.status == Status::Working);
        let word = match (&self.status, page) {
            (Status::Working, Some(_)) => "input_required",
            (Status::Working, None) => "working",
            (Status::Completed(_), _) => "completed",
            (Status::Failed(_), _) => "failed",
            (Status::Cancelled, _) => "cancelled",
        };
        let mut members = self.members(is_modern, word);
        if !is_modern {
            return Value::Object(members).to_string().into_bytes();
        }
        members.insert("resultType".to_owned(), "complete".into());
        if let Some(Page { url, message }) = page {
            // One elicitation in URL mode; a form would be the client's own word.
            let params = json!({ "mode": "url", "url": url, "message": message });
            let asked = json!({ APPROVAL: { "method": "elicitation/create", "params": params } });
            members.insert("inputRequests".to_owned(), asked);
        }
        let mut body = Value::Object(members).to_string().into_bytes();
        let end = match &self.status {
            Status::Completed(raw) => Some((br#","result":"#.as_slice(), raw)),
            Status::Failed(raw) => Some((br#","error":"#.as_slice(), raw)),
            Status::Working | Status::Cancelled => None,
        };
        if let Some((name, raw)) = end {
            body.pop();
            body.extend([name, raw, b"}"].concat());
        }
        body
    }

    /// The raw JSON of the member of `_meta` that ties a legacy result to a task, for [`RELATED_TASK`](crate::mcp::wire::era::RELATED_TASK).
    #[must_use]
    pub fn related_to(id: &str) -> String {
        json!({ "taskId": id }).to_string()
    }

    fn members(&self, is_modern: bool, status: &str) -> Map<String, Value> {
        let (ttl, poll) = if is_modern { ("ttlMs", "pollIntervalMs") } else { ("ttl", "pollInterval") };
        let message = match self.status {
            Status::Working => self.message.as_str(),
            Status::Completed(_) => "The call has ended.",
            Status::Failed(_) => "The call has ended in an error.",
            Status::Cancelled => "The call was given up.",
        };
        let members = [
            ("taskId", Value::from(self.id.as_str())),
            ("status", status.into()),
            ("statusMessage", message.into()),
            ("createdAt", iso(self.created).into()),
            ("lastUpdatedAt", iso(self.updated).into()),
            (ttl, self.ttl_ms.into()),
            (poll, POLL_MS.into()),
        ];
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// ISO 8601 in UTC with milliseconds.
fn iso(at: TimeMs) -> String {
    let (days, ms) = (at.0 / 86_400_000, at.0 % 86_400_000);
    // Days since 0000-03-01, in eras of 400 years, so that a leap day is the last of its year.
    let days = days.saturating_add(719_468);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}
