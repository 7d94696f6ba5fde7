//! Reading JSON that others wrote: a missing member is `null`, never a panic.

use serde_json::Value;

static NULL: Value = Value::Null;

/// What `pointer` (RFC 6901) names in `value`.
pub(crate) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&NULL)
}
