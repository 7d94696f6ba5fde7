//! Shell text as a shell hears it: the words of its commands without quotes, for patterns to be compared with.
//!
//! `terraform 'apply'`, `terraform app\ly` and `terraform apply` are one command and become one text. It must not judge:
//! what these texts say beside the original decides nothing but which patterns match. It does not cover what a shell
//! expands, nor quotes inside of quotes.

use super::words::{self, Word};

/// The words of a shell text without their quotes, a space between them, and operators between commands. A separator that
/// was quoted becomes `_`, for a pattern that stops where a command ends must not stop there. Redirections are left out.
///
/// Of a text that is not understood all quotes and backslashes are dropped, wherever they stand.
#[must_use]
pub fn spoken(text: &str) -> String {
    let Ok(commands) = words::commands(text) else {
        return roughly(text);
    };
    let mut all = Vec::new();
    for command in &commands {
        all.extend(command.words.iter().map(|Word { text, .. }| masked(text)));
        all.push(command.joint.to_owned());
    }
    all.join(" ").trim_end().to_owned()
}

/// The same for a list of words: as a program gets them, and as a shell would read them, where that differs.
#[must_use]
pub fn spoken_words(list: &[&str]) -> Vec<String> {
    let mut all = vec![list.iter().map(|word| masked(word)).collect::<Vec<_>>().join(" "), spoken(&list.join(" "))];
    all.dedup();
    all
}

fn masked(word: &str) -> String {
    word.replace([';', '&', '|', '\n'], "_")
}

fn roughly(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => {}
            // A shell joins the lines; behind other backslashes stands what is meant.
            '\\' => {
                chars.next_if_eq(&'\n');
            }
            // `$'…'` and `$"…"` are quotes too.
            '$' if matches!(chars.peek(), Some('\'' | '"')) => {}
            c => out.push(c),
        }
    }
    out
}
