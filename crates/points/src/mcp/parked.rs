//! What a client is told of a call that waits for a human, by what it speaks: a task, a page to open, or a ticket.
//!
//! A client that speaks tasks gets one and asks for it again; one that can open a page for its user gets the address of the
//! approval page, where the operator has configured one; everybody else gets the ticket, which `adapt` words. Opening the
//! page is no consent, nor is an `accept`: a human's signed answer on the admin plane is, and nothing that comes through
//! here. Elicitation in form mode is never used: there the agent's own client would answer. It must not know sockets,
//! sessions or clocks. It does not cover how a ticket is awaited, nor the call itself.
//!
//! Specification: 2025-11-25 `basic/utilities/tasks` and `client/elicitation`; 2026-07-28 `basic/patterns/mrtr` and
//! `client/elicitation`; the extension `io.modelcontextprotocol/tasks`, `specification/2026-07-28/tasks.md` (SEP-2663).

pub mod tasks;
#[cfg(test)]
mod tests;

use countersign_effects::json::Node;
use countersign_model::id::TicketId;
use hyper::Uri;
use serde_json::{Value, json};

use super::wire::era::TASKS;

/// 2025-11-25 `client/elicitation`, "URL Elicitation Required Error": the request can be made once a page was opened.
/// 2026-07-28 keeps the number reserved and asks by `input_required` instead.
pub const URL_ELICITATION_REQUIRED: i32 = -32042;
/// The key of our question among `inputRequests`. The client's answer to it is ours: it never goes to the upstream.
pub const APPROVAL: &str = "countersign/approval";

/// What stands for the ticket in the address of the approval page.
const PLACE: &str = "{ticket}";
const URL_BYTES_MAX: usize = 2_048;

/// What a client said that it can do, as far as a parked call is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    is_modern: bool,
    has_tasks: bool,
    opens_urls: bool,
    /// The life that a legacy client asks for its task, in milliseconds.
    ttl_ms: Option<u64>,
}

impl Declared {
    /// Of a modern client, by the capabilities in the `_meta` of this very request: earlier ones do not count.
    #[must_use]
    pub fn modern(capabilities: Option<&Node>) -> Self {
        let extensions = capabilities.and_then(|all| all.get("extensions"));
        let has_tasks = extensions.and_then(|all| all.get(TASKS)).is_some_and(is_object);
        Self { is_modern: true, has_tasks, opens_urls: opens_urls(capabilities), ttl_ms: None }
    }

    /// Of a legacy client, by the capabilities of its `initialize` and the parameters of this call, read from `input`. Such a
    /// client asks for a task with each call, in the member `task`.
    #[must_use]
    pub fn legacy(capabilities: Option<&Node>, params: Option<&Node>, input: &[u8]) -> Self {
        let task = params.and_then(|params| params.get("task")).filter(|task| is_object(task));
        let ttl_ms = task.and_then(|task| task.get("ttl")).and_then(|ttl| ttl.as_u64(input));
        Self { is_modern: false, has_tasks: task.is_some(), opens_urls: opens_urls(capabilities), ttl_ms }
    }

    /// The life that the client asks for its task, in milliseconds.
    #[must_use]
    pub const fn ttl_ms(&self) -> Option<u64> {
        self.ttl_ms
    }

    /// Whether the client can open a page for its user.
    #[must_use]
    pub const fn opens_urls(&self) -> bool {
        self.opens_urls
    }

    /// How a call of `method` that waits is answered. Tasks stand for `tools/call` only, in either era; a modern server asks
    /// only where the protocol lets it.
    #[must_use]
    pub fn form(&self, method: &str, approvals: Option<&Approvals>) -> Form {
        let asks = matches!(method, "tools/call" | "prompts/get" | "resources/read");
        match (self.is_modern, self.opens_urls && approvals.is_some()) {
            (is_modern, _) if self.has_tasks && method == "tools/call" => Form::Task { is_modern },
            (true, true) if asks => Form::InputRequired,
            (false, true) => Form::UrlRequired,
            _ => Form::Ticket,
        }
    }
}

/// An empty `elicitation` means form mode alone (both revisions, "Capabilities").
fn opens_urls(capabilities: Option<&Node>) -> bool {
    capabilities.and_then(|all| all.get("elicitation")?.get("url")).is_some_and(is_object)
}

fn is_object(node: &Node) -> bool {
    node.as_object().is_some()
}

/// How a parked call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A result that names a task: [`tasks::Task::created`].
    Task {
        /// Whether in the modern shape.
        is_modern: bool,
    },
    /// A modern result that asks the client to open the approval page: [`input_required`].
    InputRequired,
    /// A legacy error that asks for the same: [`url_required`].
    UrlRequired,
    /// The ticket in a result of the gateway's own.
    Ticket,
}

/// Why an address is none of an approval page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{url}` is no address of an approval page: write `https://HOST/…/{{ticket}}`, with `{{ticket}}` once and behind the host \
     (`http` is for loopback hosts alone)"
)]
pub struct ApprovalsError {
    url: String,
}

/// Where humans look at what waits: the operator's page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvals {
    before: String,
    after: String,
}

impl Approvals {
    /// Checks the address, in which `{ticket}` stands for the ticket.
    ///
    /// # Errors
    /// Refuses what is not one `https` address with a host, without user information, and with `{ticket}` once behind the host.
    pub fn new(url: &str) -> Result<Self, ApprovalsError> {
        let wrong = || ApprovalsError { url: url.escape_default().to_string() };
        let (before, after) = url.split_once(PLACE).filter(|(_, after)| !after.contains(PLACE)).ok_or_else(wrong)?;
        let uri: Uri = format!("{before}t{after}").parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let host = authority.host();
        let is_loopback = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        let is_safe = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => is_loopback,
            _ => false,
        };
        let head = format!("{}://{authority}/", uri.scheme_str().unwrap_or_default());
        let is_behind =
            before.len() >= head.len() && before.to_ascii_lowercase().starts_with(&head.to_ascii_lowercase());
        if !is_safe || !is_behind || host.is_empty() || authority.as_str().contains('@') || url.len() > URL_BYTES_MAX {
            return Err(wrong());
        }
        Ok(Self { before: before.to_owned(), after: after.to_owned() })
    }

    /// The page of one ticket. Whatever a ticket is made of, it stays one segment of the path.
    #[must_use]
    pub fn page(&self, ticket: &TicketId) -> String {
        let escaped: String = ticket
            .as_str()
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        format!("{}{escaped}{}", self.before, self.after)
    }
}

/// One parked call, as a client is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    /// Its ticket.
    pub ticket: &'a TicketId,
    /// Names of the gates.
    pub gates: &'a [String],
}

impl Waiting<'_> {
    /// A plain sentence for the user who is to open the page.
    #[must_use]
    pub fn message(&self) -> String {
        let gates = if self.gates.is_empty() { String::new() } else { format!(" ({})", self.gates.join(", ")) };
        format!(
            "This call waits for a human's consent{gates}, ticket {}. Nothing has happened. Open the page to look at it; \
             opening it is no consent.",
            self.ticket
        )
    }

    /// Our question among `inputRequests`: one elicitation in URL mode, and no form.
    fn question(&self, approvals: &Approvals) -> Value {
        let params = json!({ "mode": "url", "url": approvals.page(self.ticket), "message": self.message() });
        json!({ APPROVAL: { "method": "elicitation/create", "params": params } })
    }
}

/// The modern result that asks the client to open the approval page and to send the call again with `state`, which the
/// gateway opens then. `meta` are members of `_meta`, name and raw JSON.
#[must_use]
pub fn input_required(waiting: &Waiting<'_>, approvals: &Approvals, state: &str, meta: &[(&str, &str)]) -> Vec<u8> {
    let result = json!({
        "resultType": "input_required",
        "inputRequests": waiting.question(approvals),
        "requestState": state,
    });
    with_meta(&result, meta)
}

/// The legacy error that asks for the same: its `code`, its message and its `data` as raw JSON. The elicitation's id is the
/// ticket, so that its end can be announced (`notifications/elicitation/complete`). `more` are further members of `data`.
#[must_use]
pub fn url_required(waiting: &Waiting<'_>, approvals: &Approvals, more: &[(&str, &str)]) -> (i32, String, String) {
    let message = waiting.message();
    let elicitation = json!({
        "mode": "url",
        "elicitationId": waiting.ticket.as_str(),
        "url": approvals.page(waiting.ticket),
        "message": message,
    });
    let mut data = json!({ "elicitations": [elicitation] }).to_string();
    data.pop();
    for (name, raw) in more {
        data.push_str(&format!(",{}:{raw}", Value::from(*name)));
    }
    data.push('}');
    (URL_ELICITATION_REQUIRED, message, data)
}

/// Parameters of the legacy notification that what the elicitation of `ticket` was about has come to an end.
#[must_use]
pub fn elicitation_complete(ticket: &TicketId) -> String {
    json!({ "elicitationId": ticket.as_str() }).to_string()
}

/// An object with `_meta`, whose members are raw JSON.
fn with_meta(result: &Value, meta: &[(&str, &str)]) -> Vec<u8> {
    let mut body = result.to_string();
    if !meta.is_empty() {
        body.pop();
        let members: Vec<String> = meta.iter().map(|(name, raw)| format!("{}:{raw}", Value::from(*name))).collect();
        body.push_str(&format!(r#","_meta":{{{}}}}}"#, members.join(",")));
    }
    body.into_bytes()
}
