//! What a client asks to hear on a stream of changes (2026-07-28, `basic/patterns/subscriptions`).
//!
//! It must not know upstreams or streams.

use std::collections::BTreeSet;

use countersign_effects::json::Node;
use serde_json::{Map, Value};

use crate::mcp::eras::listen::{LISTS, UPDATED};
use crate::mcp::wire::{Frame, FrameError, INVALID_PARAMS, Message};

/// Resources that one stream can be about.
pub(super) const RESOURCES_MAX: usize = 64;

/// What a client asks to hear.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    pub(super) flags: BTreeSet<&'static str>,
    /// As whoever sent the filter names them, each once.
    pub(super) resources: Vec<String>,
}

impl Filter {
    pub(super) fn read(node: Option<&Node>) -> Result<Self, FrameError> {
        let wrong = |detail: &str| FrameError { code: INVALID_PARAMS, ..FrameError::shape(detail) };
        let members = node.and_then(Node::as_object).ok_or_else(|| wrong("`notifications` must be an object"))?;
        let mut filter = Self::default();
        for (key, value) in members {
            if let Some((flag, _, _)) = LISTS.iter().find(|(flag, _, _)| flag == key) {
                let wanted = value.as_bool().ok_or_else(|| wrong("a kind of notification is wanted or not"))?;
                if wanted {
                    filter.flags.insert(flag);
                }
            } else if key == "resourceSubscriptions" {
                let listed = value.as_array().ok_or_else(|| wrong("`resourceSubscriptions` must be an array"))?;
                if listed.len() > RESOURCES_MAX {
                    return Err(wrong(&format!("a stream is about at most {RESOURCES_MAX} resources")));
                }
                for uri in listed {
                    let uri = uri.as_str().ok_or_else(|| wrong("a resource is named by a string"))?;
                    if !filter.resources.iter().any(|known| known == uri) {
                        filter.resources.push(uri.to_owned());
                    }
                }
            }
        }
        Ok(filter)
    }

    /// Whether a notification was asked for. What names no resource, or another, was not.
    pub(super) fn wants(&self, frame: &Frame) -> bool {
        let Message::Notification { method, .. } = frame.message() else { return false };
        if method == UPDATED {
            // It may be about a part of what was asked for, so only that anything was is checked.
            return !self.resources.is_empty();
        }
        LISTS.iter().any(|(flag, _, of)| of == method && self.flags.contains(flag))
    }

    /// What its kinds of notifications are called.
    pub(super) fn methods(&self) -> impl Iterator<Item = &'static str> {
        LISTS.iter().filter(|(flag, _, _)| self.flags.contains(flag)).map(|(_, _, method)| *method)
    }

    pub(super) fn to_json(&self) -> Value {
        let mut all: Map<String, Value> = self.flags.iter().map(|flag| ((*flag).to_owned(), true.into())).collect();
        if !self.resources.is_empty() {
            all.insert("resourceSubscriptions".to_owned(), self.resources.clone().into());
        }
        Value::Object(all)
    }
}
