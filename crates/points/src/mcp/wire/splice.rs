//! Putting a value into raw JSON without touching any other byte.
//!
//! The law: the output without what was put in is the input, and what is taken out is whole members with one comma each. It
//! must not know what is put in. In a message that only passes no member is removed: one that only the gateway may write,
//! and an upstream wrote, has its value overwritten.

use countersign_effects::json::{Node, Value};

/// The prefix of members of `_meta` that only the gateway writes.
pub const OURS: &str = "countersign/";

/// Bytes to replace, and by what.
pub type Edit = (std::ops::Range<usize>, String);

/// `input` with the bytes of `span` replaced.
#[must_use]
pub fn replace(input: &[u8], span: &std::ops::Range<usize>, with: &[u8]) -> Vec<u8> {
    let before = input.get(..span.start).unwrap_or_default();
    let after = input.get(span.end..).unwrap_or_default();
    [before, with, after].concat()
}

/// The bytes of the object `node` of `input` with `members` (name, raw JSON) put into its `_meta`; `None` where
/// `node` is no object.
///
/// Names are ours and need no escaping. A `_meta` that is no object is replaced whole. A member that is there already
/// gets our value, and what an upstream put under [`OURS`] besides becomes `null`.
#[must_use]
pub fn with_meta(input: &[u8], node: &Node, members: &[(&str, &str)]) -> Option<Vec<u8>> {
    Some(edited(input, &node.span, &meta_edits(node, members)?))
}

/// The edits of [`with_meta`], in the order of the text.
#[must_use]
pub fn meta_edits(node: &Node, members: &[(&str, &str)]) -> Option<Vec<Edit>> {
    let fields = node.as_object()?;
    let mut edits: Vec<Edit> = Vec::new();
    let start = node.span.start.saturating_add(1);
    match node.get("_meta") {
        None => {
            let inner = listed(members);
            let comma = if fields.is_empty() { "" } else { "," };
            edits.push((start..start, format!(r#""_meta":{{{inner}}}{comma}"#)));
        }
        Some(Node { span, value: Value::Object(meta) }) => {
            let missing: Vec<(&str, &str)> =
                members.iter().copied().filter(|(name, _)| !meta.iter().any(|(key, _)| key == name)).collect();
            let comma = if meta.is_empty() || missing.is_empty() { "" } else { "," };
            let inside = span.start.saturating_add(1);
            edits.push((inside..inside, format!("{}{comma}", listed(&missing))));
            for (key, found) in meta {
                match members.iter().find(|(name, _)| name == key) {
                    Some((_, value)) => edits.push((found.span.clone(), (*value).to_owned())),
                    None if key.starts_with(OURS) => edits.push((found.span.clone(), "null".to_owned())),
                    None => {}
                }
            }
        }
        Some(other) => edits.push((other.span.clone(), format!("{{{}}}", listed(members)))),
    }
    Some(edits)
}

/// The edits that take the members that `drops` names out of the object `node`, in the order of the text. What stands
/// between the members that stay is as it was; none where `node` is no object.
#[must_use]
pub fn without(node: &Node, input: &[u8], drops: &dyn Fn(&str) -> bool) -> Vec<Edit> {
    let members = node.as_object().unwrap_or_default();
    let inside = node.span.start.saturating_add(1);
    let Some(first) = members.iter().position(|(key, _)| !drops(key)) else {
        let end = node.span.end.saturating_sub(1);
        return if members.is_empty() { Vec::new() } else { vec![(inside..end, String::new())] };
    };
    let mut edits: Vec<Edit> = Vec::new();
    if let Some((_, last)) = first.checked_sub(1).and_then(|at| members.get(at)) {
        edits.push((inside..after_comma(input, last.span.end), String::new()));
    }
    let mut before = members.get(first).map_or(inside, |(_, node)| node.span.end);
    for (key, value) in members.iter().skip(first.saturating_add(1)) {
        if drops(key) {
            edits.push((before..value.span.end, String::new()));
        }
        before = value.span.end;
    }
    edits
}

/// Behind the comma that follows a value.
fn after_comma(input: &[u8], end: usize) -> usize {
    let rest = input.get(end..).unwrap_or_default();
    end.saturating_add(rest.iter().position(|byte| *byte == b',').map_or(0, |at| at.saturating_add(1)))
}

fn listed(members: &[(&str, &str)]) -> String {
    members.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect::<Vec<_>>().join(",")
}

/// The bytes of `whole` under `edits`, which stand in the order of the text and do not overlap.
#[must_use]
pub fn edited(input: &[u8], whole: &std::ops::Range<usize>, edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::with_capacity(whole.len().saturating_add(1024));
    let mut at = whole.start;
    for (span, text) in edits {
        out.extend_from_slice(input.get(at..span.start).unwrap_or_default());
        out.extend_from_slice(text.as_bytes());
        at = span.end;
    }
    out.extend_from_slice(input.get(at..whole.end).unwrap_or_default());
    out
}

/// The object `node` of `input` with other values of some members: each name gets the raw JSON beside it, or is left out.
/// What was not there comes last. Every other member stays as it is spelled. Names are ours and need no escaping.
#[must_use]
pub fn remade(input: &[u8], node: &Node, members: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    let fields = node.as_object().unwrap_or_default();
    let mut at = node.span.start.saturating_add(1);
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for (key, value) in fields {
        let whole = at..value.span.end;
        match members.iter().find(|(name, _)| name == key) {
            None => parts.push(input.get(whole).unwrap_or_default().to_vec()),
            Some((_, Some(raw))) => {
                parts.push([input.get(at..value.span.start).unwrap_or_default(), raw].concat());
            }
            Some((_, None)) => {}
        }
        // Between two members there is one comma, and white space.
        let after = input.get(value.span.end..).unwrap_or_default();
        let comma = after.iter().position(|byte| *byte == b',').unwrap_or(after.len());
        at = value.span.end.saturating_add(comma).saturating_add(1);
    }
    for (name, raw) in members {
        if let Some(raw) = raw.filter(|_| !fields.iter().any(|(key, _)| key == name)) {
            parts.push([format!(r#""{name}":"#).as_bytes(), raw].concat());
        }
    }
    [b"{", parts.join(&b',').as_slice(), b"}"].concat()
}
