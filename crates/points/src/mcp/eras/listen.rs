//! What a client asks to hear, whichever era it asks in: kinds of lists that changed, and resources that were updated
//! (2026-07-28, `basic/patterns/subscriptions`; 2025-11-25, `server/resources`, "Subscriptions").
//!
//! It must not know streams.

use std::collections::BTreeSet;

use bytes::Bytes;
use countersign_effects::json::{Node, parse};

use super::AGAIN;
use crate::mcp::wire::era::SUBSCRIPTION;
use crate::mcp::wire::{Frame, Message, notification_frame, quoted, splice};

pub(crate) const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
pub(crate) const UPDATED: &str = "notifications/resources/updated";

/// A kind of list: the member of a filter, the capability that has `listChanged`, and the notification.
pub(crate) const LISTS: [(&str, &str, &str); 3] = [
    ("toolsListChanged", "tools", "notifications/tools/list_changed"),
    ("promptsListChanged", "prompts", "notifications/prompts/list_changed"),
    ("resourcesListChanged", "resources", "notifications/resources/list_changed"),
];

/// What is to be heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Members of a filter.
    flags: BTreeSet<&'static str>,
    pub(crate) resources: BTreeSet<String>,
}

impl Wanted {
    /// What a filter says. It was checked before; what is of the wrong kind is not wanted.
    fn read(filter: Option<&Node>) -> Self {
        let is_set = |flag: &str| filter.and_then(|filter| filter.get(flag)?.as_bool()) == Some(true);
        let flags = LISTS.iter().filter(|(flag, _, _)| is_set(flag)).map(|(flag, _, _)| *flag).collect();
        let resources = filter.and_then(|filter| filter.get("resourceSubscriptions")?.as_array()).unwrap_or_default();
        Self { flags, resources: resources.iter().filter_map(Node::as_str).map(str::to_owned).collect() }
    }

    /// What the parameters of a `subscriptions/listen` ask for.
    pub(crate) fn asked(params: Option<&Bytes>) -> Self {
        let node = params.and_then(|params| parse(params, &AGAIN).ok());
        Self::read(node.as_ref().and_then(|node| node.get("notifications")))
    }

    /// What an upstream said that it will tell; none where `frame` is no such word.
    pub(crate) fn acknowledged(frame: &Frame) -> Option<Self> {
        match frame.message() {
            Message::Notification { method, params } if method == ACKNOWLEDGED => {
                Some(Self::read(params.as_ref().and_then(|params| params.get("notifications"))))
            }
            _ => None,
        }
    }

    /// All kinds of lists whose changes these capabilities promise to tell.
    pub(crate) fn of_all(capabilities: Option<&Node>) -> Self {
        let flags = LISTS.iter().filter(|(_, kind, _)| promises(capabilities, kind, "listChanged"));
        Self { flags: flags.map(|(flag, _, _)| *flag).collect(), resources: BTreeSet::new() }
    }

    /// What of it these capabilities promise.
    pub(crate) fn offered(&self, capabilities: Option<&Node>) -> Self {
        let all = Self::of_all(capabilities);
        let flags = self.flags.intersection(&all.flags).copied().collect();
        let resources = if subscribes(capabilities) { self.resources.clone() } else { BTreeSet::new() };
        Self { flags, resources }
    }

    /// The same lists and these resources.
    pub(crate) fn with(&self, resources: BTreeSet<String>) -> Self {
        Self { flags: self.flags.clone(), resources }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.flags.is_empty() && self.resources.is_empty()
    }

    /// Whether a notification was asked for. An update may be about a part of what was.
    pub(crate) fn has(&self, frame: &Frame) -> bool {
        let Message::Notification { method, params } = frame.message() else { return false };
        if method == UPDATED {
            let uri = params.as_ref().and_then(|params| params.get("uri")).and_then(Node::as_str).unwrap_or_default();
            return self.resources.iter().any(|wanted| uri.starts_with(wanted.as_str()));
        }
        LISTS.iter().any(|(flag, _, of)| of == method && self.flags.contains(flag))
    }

    /// The filter that says it, raw.
    pub(crate) fn filter(&self) -> String {
        let mut members: Vec<String> = self.flags.iter().map(|flag| format!(r#""{flag}":true"#)).collect();
        if !self.resources.is_empty() {
            let uris: Vec<String> = self.resources.iter().map(|uri| quoted(uri)).collect();
            members.push(format!(r#""resourceSubscriptions":[{}]"#, uris.join(",")));
        }
        format!("{{{}}}", members.join(","))
    }

    /// The first notification of a stream that tells it.
    pub(crate) fn acknowledgement(&self) -> Vec<u8> {
        notification_frame(ACKNOWLEDGED, Some(&format!(r#"{{"notifications":{}}}"#, self.filter())))
    }
}

/// Whether these capabilities promise to tell of resources that were updated.
pub(crate) fn subscribes(capabilities: Option<&Node>) -> bool {
    promises(capabilities, "resources", "subscribe")
}

fn promises(capabilities: Option<&Node>, kind: &str, what: &str) -> bool {
    capabilities.and_then(|all| all.get(kind)?.get(what)?.as_bool()) == Some(true)
}

/// A notification of a stream as it comes in a session: without the id of the stream.
pub(crate) fn to_legacy(frame: &Frame) -> Vec<u8> {
    let Message::Notification { params: Some(params), .. } = frame.message() else { return frame.bytes().to_vec() };
    let Some(meta) = params.get("_meta") else { return frame.bytes().to_vec() };
    let input = frame.bytes();
    let edits = match meta.as_object().unwrap_or_default() {
        [(only, _)] if only == SUBSCRIPTION => splice::without(params, input, &|key| key == "_meta"),
        _ => splice::without(meta, input, &|key| key == SUBSCRIPTION),
    };
    splice::edited(input, &(0..input.len()), &edits)
}
