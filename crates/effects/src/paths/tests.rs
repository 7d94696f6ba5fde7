use proptest::prelude::*;

use super::path;

fn is(text: &str, expected: &str) {
    assert_eq!(path(text).as_deref().map_err(ToString::to_string), Ok(expected), "{text}");
}

#[test]
fn one_path_has_one_spelling() {
    for text in
        ["/etc/passwd", "/etc//passwd", "/etc/./passwd", "/etc/passwd/", "/tmp/../etc/passwd", "/./etc/x/../passwd"]
    {
        is(text, "/etc/passwd");
    }
    for text in ["a/b", "./a/b", "a//b/", "a/c/../b"] {
        is(text, "a/b");
    }
    is("/", "/");
    is("/a/..", "/");
    is(".", ".");
    is("a/..", ".");
    is(".hidden/file name.txt", ".hidden/file name.txt");
    is("/case/Matters", "/case/Matters");
}

#[test]
fn what_is_no_plain_path_is_opaque() {
    for text in [
        "",
        "..",
        "../a",
        "/..",
        "/../etc",
        "a/../../b",
        "//server/share",
        "\\\\server\\share",
        "C:\\x",
        "C:/x",
        "c:x",
        "~",
        "~/x",
        "a/~b",
        "$HOME/x",
        "%2e%2e/etc",
        "a/%2e%2e/b",
        "`id`",
        "*.txt",
        "a?",
        "[ab]",
        "{a,b}",
        "file:///etc/passwd",
        "a\0b",
        "a\nb",
        "a\tb",
        "a|b",
        "a>b",
        "\"a\"",
        "'a'",
        " a",
        "a ",
        "/a /b",
        "a./b",
        "...",
        "/etc/p\u{430}sswd",
        "/etc/\u{202e}dwssap",
        "/caf\u{e9}",
        "/a\u{2215}b",
        "/a\u{ff0f}b",
    ] {
        assert!(path(text).is_err(), "{text:?}: {:?}", path(text));
    }
    assert!(path(&"a".repeat(129)).is_err());
    assert!(path(&format!("/{}", "a".repeat(127))).is_ok());
}

proptest! {
    /// What comes out is a fixed point without steps upwards, and leads where a walk over the names leads.
    #[test]
    fn a_canonical_path_is_its_own_path(text in "/?([a-b.]{1,3}/{0,2}){0,8}") {
        if let Ok(found) = path(&text) {
            prop_assert_eq!(path(&found), Ok(found.clone()));
            prop_assert!(!found.split('/').any(|name| name == ".."), "{}", found);
            prop_assert_eq!(found.starts_with('/'), text.starts_with('/'));
            let mut walked: Vec<&str> = Vec::new();
            for name in text.split('/').filter(|name| !name.is_empty() && *name != ".") {
                if name == ".." { walked.pop(); } else { walked.push(name); }
            }
            let names: Vec<&str> = found.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
            prop_assert_eq!(names, walked);
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = path(&text);
    }
}
