//! The methods of both eras, in one reviewed list: what each one is, and where in its parameters its upstream is named.
//!
//! An exchange passes without a permit and changes nothing that a human would want to decide on. An action goes through
//! the governor. A question is an action the other way round: an upstream asks, and the action is handing that to the
//! client. Whatever is not here is refused, unless the configuration lists it; then it is an action.
//! Specification: schema 2024-11-05 to 2025-11-25, schema 2026-07-28, and the extension `io.modelcontextprotocol/tasks`.
//! It must not know how a method is carried out.

#[cfg(test)]
mod tests;

use countersign_model::Digest;
use countersign_model::id::ToolName;

use super::wire::Era;

/// The one action that has a tool's own name.
pub const TOOLS_CALL: &str = "tools/call";

/// Who sends a message with this method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A client, as a request.
    Client,
    /// A client, as a notification.
    ClientNotice,
    /// An upstream, as a request.
    Server,
    /// An upstream, as a notification.
    ServerNotice,
    /// Both, as a notification.
    BothNotice,
}

/// What a method is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes through the governor.
    Action,
    /// Goes through the governor as the handing over of a question to the client.
    Question,
    /// No action.
    Exchange(Exchange),
}

/// What an exchange that is not an action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Answered with the upstream's own answer, its capabilities cut down to what is governed.
    Hello,
    /// Ends the handshake; stays here.
    Initialized,
    /// Answered here.
    Ping,
    /// Passes to the upstream and back, raw, but for what the caller may never use: that is left out.
    List(Listing),
    /// Passes to the upstream and back; it takes something away from this client alone, or turns up or down what it
    /// hears of the log.
    Own,
    /// A stream of changes; the resources in its filter are an action.
    Listen,
    /// About one task; passes only for a task that was handed to the same principal.
    Task,
    /// Cancels the caller's own request in flight.
    Cancelled,
    /// Goes on to the upstreams of this session.
    Forwarded,
    /// From an upstream to the request that it is about; a client's is dropped, for no upstream is told how far a
    /// question of its is.
    Progress,
    /// From an upstream, for whom it concerns; a client's is dropped.
    Said,
}

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Tools.
    Tools,
    /// Prompts.
    Prompts,
    /// Resources.
    Resources,
    /// Templates of resources.
    Templates,
    /// Tasks.
    Tasks,
}

impl Listing {
    /// The member of the result with the items.
    #[must_use]
    pub const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Tasks => "tasks",
        }
    }

    /// The action without which nobody needs to see the items.
    #[must_use]
    pub const fn serves(self) -> &'static str {
        match self {
            Self::Tools | Self::Tasks => TOOLS_CALL,
            Self::Prompts => "prompts/get",
            Self::Resources | Self::Templates => "resources/read",
        }
    }
}

/// Where the parameters of a method say which upstream it is for, where there are several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: it stays here.
    Here,
    /// For all of them.
    All,
    /// In `name`.
    Name,
    /// In `uri`.
    Uri,
    /// In the `name` or the `uri` of `ref`.
    Ref,
    /// In `cursor`; without one, all of them.
    Cursor,
    /// In `taskId`.
    Task,
}

/// One method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Who sends it.
    pub from: From,
    /// Whether revisions with a handshake have it.
    pub legacy: bool,
    /// Whether revisions without a handshake have it.
    pub modern: bool,
    /// What it is.
    pub kind: Kind,
    /// Where its upstream is named.
    pub place: Place,
}

/// Extensions that clients hear of in any case: tasks, whose methods are on the list, and pages for users, which are read and
/// call like anything else.
pub const EXTENSIONS: [&str; 2] = ["io.modelcontextprotocol/tasks", "io.modelcontextprotocol/ui"];

const BOTH: (bool, bool) = (true, true);
const LEGACY: (bool, bool) = (true, false);
const MODERN: (bool, bool) = (false, true);

const fn method(name: &'static str, from: From, (legacy, modern): (bool, bool), kind: Kind, place: Place) -> Method {
    Method { name, from, legacy, modern, kind, place }
}

const fn exchange(name: &'static str, eras: (bool, bool), exchange: Exchange, place: Place) -> Method {
    method(name, From::Client, eras, Kind::Exchange(exchange), place)
}

const fn action(name: &'static str, eras: (bool, bool), place: Place) -> Method {
    method(name, From::Client, eras, Kind::Action, place)
}

const fn said(name: &'static str, eras: (bool, bool), place: Place) -> Method {
    method(name, From::ServerNotice, eras, Kind::Exchange(Exchange::Said), place)
}

/// Every method, reviewed.
pub const METHODS: [Method; 36] = [
    exchange("initialize", LEGACY, Exchange::Hello, Place::All),
    exchange("server/discover", MODERN, Exchange::Hello, Place::All),
    exchange("ping", LEGACY, Exchange::Ping, Place::Here),
    exchange("tools/list", BOTH, Exchange::List(Listing::Tools), Place::Cursor),
    exchange("prompts/list", BOTH, Exchange::List(Listing::Prompts), Place::Cursor),
    exchange("resources/list", BOTH, Exchange::List(Listing::Resources), Place::Cursor),
    exchange("resources/templates/list", BOTH, Exchange::List(Listing::Templates), Place::Cursor),
    exchange("logging/setLevel", LEGACY, Exchange::Own, Place::All),
    exchange("resources/unsubscribe", LEGACY, Exchange::Own, Place::Uri),
    exchange("subscriptions/listen", MODERN, Exchange::Listen, Place::All),
    exchange("tasks/get", BOTH, Exchange::Task, Place::Task),
    exchange("tasks/result", LEGACY, Exchange::Task, Place::Task),
    exchange("tasks/cancel", BOTH, Exchange::Task, Place::Task),
    exchange("tasks/list", LEGACY, Exchange::List(Listing::Tasks), Place::Cursor),
    action(TOOLS_CALL, BOTH, Place::Name),
    action("prompts/get", BOTH, Place::Name),
    action("resources/read", BOTH, Place::Uri),
    action("resources/subscribe", LEGACY, Place::Uri),
    action("completion/complete", BOTH, Place::Ref),
    action("tasks/update", MODERN, Place::Task),
    method("sampling/createMessage", From::Server, BOTH, Kind::Question, Place::Here),
    method("elicitation/create", From::Server, BOTH, Kind::Question, Place::Here),
    method("roots/list", From::Server, BOTH, Kind::Question, Place::Here),
    method("notifications/initialized", From::ClientNotice, LEGACY, Kind::Exchange(Exchange::Initialized), Place::Here),
    method(
        "notifications/roots/list_changed",
        From::ClientNotice,
        LEGACY,
        Kind::Exchange(Exchange::Forwarded),
        Place::All,
    ),
    method("notifications/cancelled", From::BothNotice, BOTH, Kind::Exchange(Exchange::Cancelled), Place::Here),
    method("notifications/progress", From::BothNotice, BOTH, Kind::Exchange(Exchange::Progress), Place::Here),
    // A client's own tasks are not offered to upstreams, so only an upstream has any; and no upstream may ask for one:
    // as a request of an upstream `tasks/*` is not on this list.
    method("notifications/tasks/status", From::BothNotice, LEGACY, Kind::Exchange(Exchange::Said), Place::Task),
    said("notifications/tasks", MODERN, Place::Task),
    said("notifications/message", BOTH, Place::All),
    said("notifications/tools/list_changed", BOTH, Place::All),
    said("notifications/prompts/list_changed", BOTH, Place::All),
    said("notifications/resources/list_changed", BOTH, Place::All),
    said("notifications/resources/updated", BOTH, Place::Uri),
    said("notifications/elicitation/complete", LEGACY, Place::All),
    said("notifications/subscriptions/acknowledged", MODERN, Place::All),
];

impl Method {
    /// The method of this name, if it is on the list.
    #[must_use]
    pub fn of(name: &str) -> Option<&'static Self> {
        METHODS.iter().find(|method| method.name == name)
    }

    /// The request of this name that a client of `era` may send, if it is on the list.
    #[must_use]
    pub fn asked(name: &str, era: Era) -> Option<&'static Self> {
        Self::of(name).filter(|method| method.from == From::Client && method.is_of(era))
    }

    /// The question of this name that an upstream may ask, if it is on the list.
    #[must_use]
    pub fn question(name: &str) -> Option<&'static Self> {
        Self::of(name).filter(|method| method.kind == Kind::Question)
    }

    /// Whether revisions of `era` have it.
    #[must_use]
    pub const fn is_of(&self, era: Era) -> bool {
        match era {
            Era::Legacy => self.legacy,
            Era::Modern => self.modern,
        }
    }
}

/// The tool under which a method other than `tools/call` is on record, and what stands for its definition: a method has
/// none that could change. None where the name cannot stand in a record.
#[must_use]
pub fn as_tool(method: &str) -> Option<(ToolName, Digest)> {
    let name = ToolName::new(method).ok()?;
    let manifest = countersign_model::method::manifest(&name);
    Some((name, manifest))
}

/// Whether an upstream's tool may not have this name: its calls could not be told from uses of the method.
#[must_use]
pub fn is_reserved(tool: &str) -> bool {
    Method::of(tool).is_some()
}
