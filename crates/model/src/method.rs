//! Methods of a protocol that are actions of their own: what they are called, and what stands for their definition.
//!
//! Where an action is no call of a tool but a method that reads or does something at an upstream, or hands an upstream's
//! question to the client, its *tool* is the method's name. No upstream defines a method, so nothing of an upstream goes
//! into its manifest: nobody can change it, nobody has to accept it, and it is no first use of anything. A tool that an
//! upstream calls like a method on this list is never taken for it, for its manifest is another one.
//!
//! It must not know what a method means or how it is framed. A method that only a configuration names has a manifest
//! as well, and is told from a tool by it; only the methods here are known by their names alone.

use crate::id::{Digest, ToolName};

#[cfg(test)]
mod tests;

/// A method that is an action, with the parameters that its protocol defines for it. `_meta` is none of them, nor is
/// what continues an earlier request.
struct Method {
    name: &'static str,
    parameters: &'static [&'static str],
}

/// Sorted by name. Model Context Protocol, schemas 2025-11-25 and 2026-07-28, and the tasks extension of 2026-07-28.
const METHODS: [Method; 8] = [
    Method { name: "completion/complete", parameters: &["ref", "argument", "context"] },
    Method {
        name: "elicitation/create",
        parameters: &["mode", "message", "requestedSchema", "url", "elicitationId", "task"],
    },
    Method { name: "prompts/get", parameters: &["name", "arguments"] },
    Method { name: "resources/read", parameters: &["uri"] },
    Method { name: "resources/subscribe", parameters: &["uri"] },
    Method { name: "roots/list", parameters: &[] },
    Method {
        name: "sampling/createMessage",
        parameters: &[
            "messages",
            "modelPreferences",
            "systemPrompt",
            "includeContext",
            "temperature",
            "maxTokens",
            "stopSequences",
            "metadata",
            "tools",
            "toolChoice",
            "task",
        ],
    },
    Method { name: "tasks/update", parameters: &["taskId", "inputResponses"] },
];

/// Methods that an upstream asks the client with: the action is handing the question over.
pub const QUESTIONS: [&str; 3] = ["elicitation/create", "roots/list", "sampling/createMessage"];

/// The names of all methods that are actions, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    METHODS.iter().map(|method| method.name)
}

/// Whether `tool` is the name of a method on the list.
#[must_use]
pub fn is_method(tool: &ToolName) -> bool {
    is_name(tool.as_str())
}

/// The same for a text that need not be a name of a tool.
#[must_use]
pub fn is_name(text: &str) -> bool {
    METHODS.iter().any(|method| method.name == text)
}

/// The parameters that the protocol defines for a method on the list; none for anything else.
#[must_use]
pub fn parameters(method: &str) -> &'static [&'static str] {
    METHODS.iter().find(|known| known.name == method).map_or(&[], |known| known.parameters)
}

/// What stands for the definition of a method, where a tool has the hash of its own.
#[must_use]
pub fn manifest(method: &ToolName) -> Digest {
    Digest::of("countersign method v1", &[method.as_str().as_bytes()])
}

/// What stands for the definition of a method on the list; none for a tool.
#[must_use]
pub fn manifest_of(tool: &ToolName) -> Option<Digest> {
    is_method(tool).then(|| manifest(tool))
}

/// Whether `manifest` says that `tool` is a method, on the list or of a configuration, and no tool of an upstream.
#[must_use]
pub fn is_manifest(tool: &ToolName, manifest: &Digest) -> bool {
    self::manifest(tool) == *manifest
}
