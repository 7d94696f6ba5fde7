//! What this crate encodes itself, because it depends on little.

use super::base64;

#[test]
fn base64_is_the_rfcs() {
    for (bytes, text) in
        [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("\u{fb}\u{ff}", "w7vDvw==")]
    {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
}
