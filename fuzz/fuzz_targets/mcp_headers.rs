//! Headers of MCP that mirror a body: what agrees says the same, what is made from a body agrees with it, and every text
//! survives its header. The bytes are a name, a value and a JSON text, cut at line feeds; the text is the parameters of a
//! request and a tool's schema at once. Not covered here: which revisions are served (`crates/points`).
#![no_main]

use countersign_effects::json::{Limits, Node, parse};
use countersign_points::mcp::wire::headers::{
    Meta, Mirrors, annotations, compare, compare_params, decoded, encoded, named, params,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut cut = bytes.splitn(3, |byte| *byte == b'\n');
    let (name, value, text) = (cut.next(), cut.next(), cut.next().unwrap_or_default());
    let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
    let value = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    survives(&name);
    if let Ok(text) = decoded(&value) {
        // Two headers may say the same; what is made of it says it again.
        assert_eq!(decoded(&encoded(&text)).as_deref(), Ok(text.as_str()));
    }
    let Ok(node) = parse(text, &Limits::default()) else { return };
    let _ = Meta::read(Some(&node));
    agrees(&name, &value, &node);
    mirrored(&node, text);
});

/// A text in a header is the same text, and the header cannot end early.
fn survives(text: &str) {
    let value = encoded(text);
    assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{value:?}");
    assert_eq!(decoded(&value).as_deref(), Ok(text));
}

/// What agrees has the very method and the very name.
fn agrees(name: &str, value: &str, node: &Node) {
    for method in ["tools/call", "resources/read", "tasks/get", "tools/list"] {
        let mirrors = Mirrors { version: None, method: Some(name), name: Some(value), params: Vec::new() };
        if compare(&mirrors, method, Some(node)).is_ok() {
            assert_eq!(name, method);
            if let Some(wanted) = named(method, Some(node)) {
                assert_eq!(decoded(value).as_deref(), Ok(wanted));
            }
        }
        let own = named(method, Some(node)).map(encoded);
        let made = Mirrors { version: None, method: Some(method), name: own.as_deref(), params: Vec::new() };
        assert_eq!(compare(&made, method, Some(node)), Ok(()));
    }
}

/// Headers that are made of arguments agree with them, unless a number is none that every reader takes for the same.
fn mirrored(node: &Node, text: &[u8]) {
    let Ok(wanted) = annotations(node) else { return };
    let made = params(&wanted, (Some(node), text));
    let found = made.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mirrors = Mirrors { params: found, ..Mirrors::default() };
    if let Err(why) = compare_params(&mirrors, &wanted, (Some(node), text)) {
        assert!(why.ends_with("and its argument differ"), "{why}");
        assert!(made.iter().any(|(_, value)| value.bytes().any(|byte| byte.is_ascii_digit())), "{why}");
    }
}
