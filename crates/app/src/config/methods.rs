//! Bindings of methods: `resources/read: {effect: read}` beside those of tools.
//!
//! Which parameters a method has is the protocol's to say, not the upstream's. So what the operator declares of the method
//! covers them, and a binding without `arguments` is not opaque; one that the protocol does not define still is. It must not
//! know what a method does.

use countersign_effects::binding::ArgumentKind;
use countersign_model::id::ToolName;
use countersign_model::method;

use super::raw;

/// The binding, with the parameters that the protocol defines and the operator does not speak of as `plain`.
pub(super) fn with_parameters(name: &ToolName, mut tool: raw::Tool) -> raw::Tool {
    for parameter in method::parameters(name.as_str()) {
        let within = format!("{parameter}.");
        let is_spoken_of = tool.arguments.keys().any(|place| place == parameter || place.starts_with(&within));
        if !is_spoken_of {
            tool.arguments.insert((*parameter).to_owned(), ArgumentKind::Plain.as_str().to_owned());
        }
    }
    tool
}
