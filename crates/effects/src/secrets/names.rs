//! What a name says of the value under it, and whether that value could be a secret.
//!
//! It must not know where name and value stand. Names are split into words, so `dbPassword`, `DB_PASSWORD` and
//! `db-password` are one name. It does not cover languages other than English.

use super::rule::{Rule, is_marker};

/// The longest part of a name that is read, counted from its end.
const NAME_BYTES_MAX: usize = 64;
/// The shortest value that can look random.
const RANDOM_BYTES_MIN: usize = 12;
/// How much of a long value is looked at.
pub(super) const RANDOM_BYTES_READ: usize = 256;
/// Different bytes that a value which looks random has at least.
const DIFFERENT_MIN: usize = 8;

/// What a name promises of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A password: people choose these, so the value need not look random.
    Password,
    /// A secret made by a machine: the value must look random.
    Secret,
    /// An authorization header: a scheme and credentials, or a secret made by a machine.
    Authorization,
}

const PASSWORDS: [&str; 4] = ["password", "passwd", "passphrase", "passcode"];
const SHORT_PASSWORDS: [&str; 3] = ["pwd", "cvv", "cvc"];
/// What `pass` is short for a password after.
const PASS_OF: [&str; 10] = ["db", "user", "admin", "root", "mysql", "pg", "smtp", "ftp", "login", "mail"];
const SECRETS: [&str; 4] = ["secret", "token", "apikey", "credential"];
const KEYS: [&str; 12] = [
    "api",
    "access",
    "secret",
    "private",
    "auth",
    "account",
    "encryption",
    "signing",
    "shared",
    "master",
    "service",
    "storage",
];
/// Tokens that only say where a listing goes on.
const PLACES: [&str; 10] =
    ["page", "next", "prev", "previous", "continuation", "cursor", "sync", "resume", "start", "stop"];

/// What `name` promises, if anything.
pub(super) fn named(name: &str) -> Option<Named> {
    let words = words(name);
    let mut from_last = words.iter().rev().map(String::as_str);
    let last = from_last.next()?;
    let before = from_last.next().unwrap_or_default();
    let is_one = |list: &[&str]| list.contains(&last);
    let ends = |list: &[&str]| list.iter().any(|word| last.ends_with(word));
    if ends(&PASSWORDS) || is_one(&SHORT_PASSWORDS) || (last == "pass" && PASS_OF.contains(&before)) {
        return Some(Named::Password);
    }
    let is_key = last == "key" && KEYS.contains(&before);
    let is_place = last == "token" && PLACES.contains(&before);
    if (ends(&SECRETS) && !is_place) || is_key || is_one(&["accesskey", "secretkey", "privatekey"]) {
        return Some(Named::Secret);
    }
    (last == "authorization").then_some(Named::Authorization)
}

/// The last words of a name: lower case, without a plural and without numbers at the end.
fn words(name: &str) -> Vec<String> {
    let bytes = name.as_bytes();
    let bytes = bytes.get(bytes.len().saturating_sub(NAME_BYTES_MAX)..).unwrap_or_default();
    let mut words: Vec<String> = Vec::new();
    let mut before = b' ';
    for byte in bytes {
        let begins = !before.is_ascii_alphabetic() || (before.is_ascii_lowercase() && byte.is_ascii_uppercase());
        if byte.is_ascii_alphabetic() {
            let letter = char::from(byte.to_ascii_lowercase());
            match words.last_mut().filter(|_| !begins) {
                Some(word) => word.push(letter),
                None => words.push(letter.to_string()),
            }
        }
        before = *byte;
    }
    if let Some(last) = words.last_mut().filter(|last| last.len() > 4 && last.ends_with('s') && !last.ends_with("ss")) {
        last.pop();
    }
    words
}

/// The rule under which a whole value that stands under a name is a secret.
pub(super) fn secret_value(named: Named, value: &str) -> Option<Rule> {
    if value.trim().is_empty() || is_marker(value) || is_stand_in(value) {
        return None;
    }
    match named {
        Named::Password => Some(Rule::Password),
        Named::Secret | Named::Authorization => looks_random(value).then_some(Rule::SecretValue),
    }
}

/// Words and signs that stand for a value which comes from elsewhere.
pub(super) fn is_stand_in(value: &str) -> bool {
    const WORDS: [&str; 10] =
        ["null", "none", "nil", "true", "false", "undefined", "required", "string", "password", "secret"];
    const SIGNS: [&str; 8] = ["$", "{{", "<", "%", "?", ":", "@", "/"];
    WORDS.iter().any(|word| value.eq_ignore_ascii_case(word))
        || (SIGNS.iter().any(|sign| value.starts_with(sign)) && named_or_path(value))
        || (value.len() >= 3 && value.bytes().all(|byte| matches!(byte, b'*' | b'.' | b'x' | b'X')))
}

/// Whether what follows the sign is a name or a path, as in `$PASSWORD`, `{{ password }}`, `/run/secrets/db`.
fn named_or_path(value: &str) -> bool {
    value.bytes().skip(1).all(|byte| byte.is_ascii_alphanumeric() || b"_-./{}<>() :%".contains(&byte))
        && !value.bytes().skip(1).any(|byte| byte.is_ascii_digit())
}

/// Whether a value looks as if a machine had drawn it. Integers alone, so that it is the same everywhere.
fn looks_random(value: &str) -> bool {
    const REFERENCES: [&str; 5] = ["arn:", "vault:", "projects/", "secret/", "ref+"];
    if value.len() < RANDOM_BYTES_MIN || REFERENCES.iter().any(|start| value.starts_with(start)) {
        return false;
    }
    let read: Vec<u8> = value.bytes().take(RANDOM_BYTES_READ).collect();
    if !read.iter().all(|byte| byte.is_ascii_graphic() && !b"\"'\\`(){}<>".contains(byte)) || value.contains("://") {
        return false;
    }
    let mut sorted = read.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let has = |class: fn(&u8) -> bool| read.iter().any(class);
    let (lower, upper) = (has(u8::is_ascii_lowercase), has(u8::is_ascii_uppercase));
    let turns = read.windows(2).filter(|pair| is_turn(pair)).count();
    let is_mixed = lower && upper && read.len() >= 20 && turns >= read.len() / 4;
    sorted.len() >= DIFFERENT_MIN && (is_mixed || (has(u8::is_ascii_digit) && (lower || upper)))
}

fn is_turn(pair: &[u8]) -> bool {
    match pair {
        [a, b] => a.is_ascii_lowercase() != b.is_ascii_lowercase(),
        _ => false,
    }
}
