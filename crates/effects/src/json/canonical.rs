//! One spelling of a JSON value, for digests.
//!
//! Keys sorted by their bytes, no white space, the fewest escapes, numbers exactly as spelled: so
//! `1.0` and `1` stay different, because an upstream may tell them apart. It is RFC 8785 but for
//! numbers and for the order of keys beyond the basic plane. It must not know what is hashed.

use super::{Node, Value};

/// The canonical spelling of `node`, whose `input` must be the bytes that were parsed.
#[must_use]
pub fn canonical(node: &Node, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(node.span.len());
    write(node, input, &mut out);
    out
}

fn write(node: &Node, input: &[u8], out: &mut Vec<u8>) {
    match &node.value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number => out.extend_from_slice(node.raw(input)),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write(item, input, out);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut sorted: Vec<&(String, Node)> = members.iter().collect();
            sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            out.push(b'{');
            for (place, (key, member)) in sorted.into_iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                write_string(key, out);
                out.push(b':');
                write(member, input, out);
            }
            out.push(b'}');
        }
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(br#"\""#),
            b'\\' => out.extend_from_slice(br"\\"),
            0x08 => out.extend_from_slice(br"\b"),
            b'\t' => out.extend_from_slice(br"\t"),
            b'\n' => out.extend_from_slice(br"\n"),
            0x0c => out.extend_from_slice(br"\f"),
            b'\r' => out.extend_from_slice(br"\r"),
            0x00..=0x1f => {
                out.extend_from_slice(br"\u00");
                for nibble in [byte >> 4, byte & 0xf] {
                    out.extend(HEX.get(usize::from(nibble)));
                }
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
