//! The cases of `corpus/sql`: texts with the effect that they must have.
//!
//! A file holds cases, each after a line `=== effect[ escaped][: why]`. In an escaped case `\0`, `\xNN`
//! and `\u{…}` stand for characters that an editor would lose.

use super::corpus;

/// One text and the effect that it must have.
pub(crate) struct Case {
    pub(crate) expected: String,
    pub(crate) text: String,
}

pub(crate) fn sql() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in corpus::folder("sql") {
        let all = std::fs::read_to_string(&path).unwrap();
        for block in all.split("=== ").skip(1) {
            let (header, text) = block.split_once('\n').unwrap();
            let words = header.split(':').next().unwrap();
            let text = text.strip_suffix('\n').unwrap_or(text);
            let escaped = words.ends_with(" escaped");
            cases.push(Case {
                expected: words.split(' ').next().unwrap().to_owned(),
                text: if escaped { unescaped(text) } else { text.to_owned() },
            });
        }
    }
    assert!(cases.len() > 100, "the corpus is not found");
    cases
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('\\') {
        out.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let (code, length) = if rest.starts_with('0') {
            (0, 1)
        } else if rest.starts_with('x') {
            (u32::from_str_radix(&rest[1..3], 16).unwrap(), 3)
        } else {
            let end = rest.find('}').unwrap();
            (u32::from_str_radix(&rest[2..end], 16).unwrap(), end + 1)
        };
        out.push(char::from_u32(code).unwrap());
        rest = &rest[length..];
    }
    out + rest
}
