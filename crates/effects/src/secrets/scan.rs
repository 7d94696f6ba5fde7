//! The search through one text, from left to right: what stands where, by which rule.
//!
//! Spans never overlap and lie on character boundaries, for whatever begins or ends one is ASCII. It must not
//! know where the text stands; what a name around it says is the affair of `walk`.

use std::ops::Range;

use super::names::{Named, RANDOM_BYTES_READ, is_stand_in, named, secret_value};
use super::rule::{Rule, is_marker};
use super::tokens::{jwt, token};

/// The most bytes of white space between a name, its sign and its value.
const GAP_MAX: usize = 4;
/// The longest name that is read backwards.
const NAME_MAX: usize = 64;
/// The longest password in a text; what is longer under such a name is no password.
const PASSWORD_MAX: usize = 128;
/// How far an authority is read for the `@` after a password.
const AUTHORITY_MAX: usize = 512;
/// The longest value of an authorization header.
const CREDENTIALS_MAX: usize = 8 * 1_024;

/// One secret in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) at: Range<usize>,
    pub(super) rule: Rule,
}

/// All secrets of a text, in order.
pub(super) fn spans(text: &str) -> Vec<Span> {
    let scan = Scan { text, bytes: text.as_bytes() };
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(byte) = scan.bytes.get(at) {
        let span = scan.span(at, *byte).filter(|span| span.at.start >= at && span.at.end > span.at.start);
        at = match span {
            Some(span) => {
                let end = span.at.end;
                found.push(span);
                end
            }
            None => at.saturating_add(1),
        };
    }
    found
}

/// The credentials of a text that is an authorization header's value: whatever follows the scheme.
pub(super) fn after_scheme(text: &str) -> Option<Span> {
    let (scheme, credentials) = text.split_once(' ')?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_whole = !credentials.is_empty() && credentials.bytes().all(|byte| byte.is_ascii_graphic());
    let start = scheme.len().saturating_add(1);
    let is_secret = is_scheme && is_whole && !is_marker(credentials) && !is_stand_in(credentials);
    is_secret.then_some(Span { at: start..text.len(), rule: Rule::Authorization })
}

/// The text with a marker in the place of each span.
pub(super) fn replaced(text: &str, spans: &[Span]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for span in spans {
        out.push_str(text.get(done..span.at.start).unwrap_or_default());
        out.push_str(span.rule.marker());
        done = span.at.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
}

impl Scan<'_> {
    /// The secret that is known at this byte; it may begin a little after it.
    fn span(&self, at: usize, byte: u8) -> Option<Span> {
        match byte {
            b'-' => self.private_key(at).or_else(|| self.flag(at)),
            b'=' => self.assigned(at),
            b':' => self.connection(at).or_else(|| self.assigned(at)),
            b'\'' | b'"' => self.literal(at),
            b'0'..=b'9' => self.card(at).or_else(|| self.token(at)),
            b'A'..=b'Z' | b'a'..=b'z' => self.token(at).or_else(|| self.credentials(at)),
            _ => None,
        }
    }

    fn rest(&self, at: usize) -> &[u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    fn before(&self, at: usize) -> Option<u8> {
        self.bytes.get(at.checked_sub(1)?).copied()
    }

    /// How many bytes from `at` on are of a kind, at most `most`.
    fn run(&self, at: usize, most: usize, is: impl Fn(u8) -> bool) -> usize {
        self.rest(at).iter().take(most).take_while(|byte| is(**byte)).count()
    }

    /// A token that says what it is, where a word begins.
    fn token(&self, at: usize) -> Option<Span> {
        let before = self.before(at).unwrap_or(b' ');
        if before.is_ascii_alphanumeric() || before == b'_' {
            return None;
        }
        if let Some((rule, len)) = token(self.rest(at)) {
            return Some(Span { at: at..at.saturating_add(len), rule });
        }
        // Not after a dash: then every part of a long run would be tried anew.
        let len = jwt(self.rest(at)).filter(|_| before != b'-')?;
        Some(Span { at: at..at.saturating_add(len), rule: Rule::Jwt })
    }

    /// `-----BEGIN … PRIVATE KEY-----` with its body of base64, to its end or as far as it goes.
    fn private_key(&self, at: usize) -> Option<Span> {
        const BEGIN: &[u8] = b"-----BEGIN ";
        const LABEL_MAX: usize = 48;
        if !self.rest(at).starts_with(BEGIN) {
            return None;
        }
        let label_at = at.saturating_add(BEGIN.len());
        let label = self.run(label_at, LABEL_MAX, |byte| byte.is_ascii_uppercase() || byte == b' ');
        let words = self.text.get(label_at..label_at.saturating_add(label))?;
        let mut end = label_at.saturating_add(label);
        if !words.contains("PRIVATE KEY") || !self.rest(end).starts_with(b"-----") {
            return None;
        }
        end = self.key_body(end.saturating_add(5));
        let closing = format!("-----END {words}-----");
        if self.rest(end).starts_with(closing.as_bytes()) {
            end = end.saturating_add(closing.len());
        }
        Some(Span { at: at..end, rule: Rule::PrivateKey })
    }

    /// The end of the lines of a key. A line that is not full ends it: short words would be a hiding place.
    fn key_body(&self, mut at: usize) -> usize {
        const LINE_MIN: usize = 40;
        loop {
            let next = at.saturating_add(self.line_break(at));
            let headers = [&b"Proc-Type: "[..], b"DEK-Info: "];
            if let Some(header) = headers.iter().find(|header| self.rest(next).starts_with(header)) {
                let value = next.saturating_add(header.len());
                let is_plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b",-".contains(&byte);
                at = value.saturating_add(self.run(value, 80, is_plain));
                continue;
            }
            let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
            let line = self.run(next, usize::MAX, is_base64);
            let end = next.saturating_add(line);
            if line >= LINE_MIN {
                at = end;
                continue;
            }
            return self.key_end(end).unwrap_or_else(|| at.saturating_add(self.break_before_end(at)));
        }
    }

    /// Where the body ends after its last, short line: before the closing words, or with the text. Armour of
    /// PGP has a checksum in between.
    fn key_end(&self, line_end: usize) -> Option<usize> {
        const CHECKSUM: usize = 5;
        let after = |end: usize| end.saturating_add(self.line_break(end));
        let is_end = |at: usize| self.rest(at).is_empty() || self.rest(at).starts_with(b"-----END ");
        let next = after(line_end);
        if is_end(next) {
            return Some(next);
        }
        let checksum = after(next.saturating_add(CHECKSUM));
        (self.rest(next).starts_with(b"=") && is_end(checksum)).then_some(checksum)
    }

    /// How many bytes of breaks stand at `at`, as such or as escapes of a text inside the text.
    fn line_break(&self, at: usize) -> usize {
        let mut len = 0;
        while len < GAP_MAX * 2 {
            let rest = self.rest(at.saturating_add(len));
            match rest {
                [b'\n' | b'\r' | b' ', ..] => len += 1,
                [b'\\', b'n' | b'r', ..] => len += 2,
                _ => break,
            }
        }
        len
    }

    fn break_before_end(&self, at: usize) -> usize {
        let gap = self.line_break(at);
        if self.rest(at.saturating_add(gap)).starts_with(b"-----END ") { gap } else { 0 }
    }

    /// `Bearer …`, and whatever scheme follows the word `Authorization`.
    fn credentials(&self, at: usize) -> Option<Span> {
        const BEARER_MIN: usize = 16;
        if self.before(at).is_some_and(|byte| byte.is_ascii_alphanumeric()) {
            return None;
        }
        if self.is_word(at, "bearer ") {
            let value = at.saturating_add(7);
            let len = self.credentials_len(value);
            let is_drawn = self.rest(value).iter().take(len).any(u8::is_ascii_digit);
            return (len >= BEARER_MIN && is_drawn).then(|| Self::authorization(value, len));
        }
        if !self.is_word(at, "authorization") {
            return None;
        }
        let sign = at.saturating_add("authorization".len());
        let scheme = sign.saturating_add(self.run(sign, 8, |byte| b"\\\"': =".contains(&byte)));
        let word = self.run(scheme, 24, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if scheme == sign || word == 0 || self.rest(scheme.saturating_add(word)).first() != Some(&b' ') {
            return None;
        }
        let value = scheme.saturating_add(word).saturating_add(1);
        let len = self.credentials_len(value);
        (len >= 6).then(|| Self::authorization(value, len))
    }

    const fn authorization(at: usize, len: usize) -> Span {
        Span { at: at..at.saturating_add(len), rule: Rule::Authorization }
    }

    /// The length of a `token68` of RFC 9110.
    fn credentials_len(&self, at: usize) -> usize {
        self.run(at, CREDENTIALS_MAX, |byte| byte.is_ascii_alphanumeric() || b"-._~+/=:".contains(&byte))
    }

    fn is_word(&self, at: usize, word: &str) -> bool {
        self.rest(at).get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()))
    }

    /// The password in `scheme://user:password@host`, from the colon before the slashes on.
    fn connection(&self, at: usize) -> Option<Span> {
        if !self.rest(at).starts_with(b"://") || !self.before(at)?.is_ascii_alphanumeric() {
            return None;
        }
        let begin = at.saturating_add(3);
        let len = self.run(begin, AUTHORITY_MAX, |byte| byte.is_ascii_graphic() && !b"\"'<>`\\".contains(&byte));
        let whole = self.text.get(begin..begin.saturating_add(len))?;
        let colon = whole.find(':')?;
        let user = whole.get(..colon)?;
        let after = whole.get(colon.saturating_add(1)..)?;
        // Up to the last @ of the authority; beyond a slash only where what came before it is no port.
        let authority = after.find(['/', '?', '#']).and_then(|end| after.get(..end)).unwrap_or(after);
        let is_port = !authority.is_empty() && authority.bytes().all(|byte| byte.is_ascii_digit());
        let last = authority.rfind('@').or_else(|| if is_port { None } else { after.find('@') })?;
        let password = after.get(..last)?;
        let is_secret = !password.is_empty() && !is_marker(password) && !is_stand_in(password);
        if user.contains(['/', '@', '?', '#']) || !is_secret {
            return None;
        }
        let start = begin.saturating_add(colon).saturating_add(1);
        Some(Span { at: start..start.saturating_add(last), rule: Rule::ConnectionPassword })
    }

    /// `name = value`, `name: value`, `"name": "value"`, `name=value&…`: the sign stands at `at`.
    fn assigned(&self, at: usize) -> Option<Span> {
        let named = named(self.name_before(at)?)?;
        let mut value = at.saturating_add(1);
        value = value.saturating_add(self.run(value, 2, |byte| b"=>".contains(&byte)));
        value = value.saturating_add(self.run(value, GAP_MAX, |byte| byte == b' '));
        let is_spoken = self.bytes.get(at) == Some(&b':');
        self.value(value, named, is_spoken)
    }

    /// `--password value`.
    fn flag(&self, at: usize) -> Option<Span> {
        if !self.rest(at).starts_with(b"--") || self.before(at).is_some_and(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let begin = at.saturating_add(2);
        let len = self.run(begin, NAME_MAX, is_name);
        let named = named(self.text.get(begin..begin.saturating_add(len))?)?;
        let value = begin.saturating_add(len);
        let gap = self.run(value, GAP_MAX, |byte| byte == b' ');
        let value = value.saturating_add(gap);
        if gap == 0 || self.rest(value).starts_with(b"-") {
            return None;
        }
        self.value(value, named, false)
    }

    /// `PASSWORD 'value'`, `IDENTIFIED BY 'value'`: the quote stands at `at`.
    fn literal(&self, at: usize) -> Option<Span> {
        let gap = self.bytes.get(..at)?.iter().rev().take(GAP_MAX).take_while(|byte| **byte == b' ').count();
        let end = at.checked_sub(gap).filter(|_| gap > 0)?;
        let word = self.name_ending(end)?;
        let promised = if word.eq_ignore_ascii_case("by") {
            let before = self.name_ending(end.checked_sub(word.len())?.checked_sub(1)?)?;
            before.eq_ignore_ascii_case("identified").then_some(Named::Password)
        } else {
            named(word).filter(|named| *named == Named::Password)
        };
        self.value(at, promised?, false)
    }

    /// The value at `at`, quoted or not, where it is a secret.
    fn value(&self, at: usize, named: Named, is_spoken: bool) -> Option<Span> {
        let escape = usize::from(self.bytes.get(at) == Some(&b'\\'));
        let quote = self.bytes.get(at.saturating_add(escape)).copied().filter(|byte| matches!(byte, b'"' | b'\''));
        let begin = if quote.is_some() { at.saturating_add(escape).saturating_add(1) } else { at };
        let is_part = |byte: u8| match quote {
            Some(quote) => byte > b' ' && byte != quote && byte != b'\\',
            None => byte > b' ' && !b",;&|\"'`<>()[]{}\\".contains(&byte),
        };
        // A run that is no secret is passed again by every sign in it, so what decides is read within bounds.
        let read = self.text.get(begin..begin.saturating_add(self.run(begin, RANDOM_BYTES_READ, is_part)));
        secret_value(named, read?)?;
        let most = if named == Named::Password { PASSWORD_MAX.saturating_add(1) } else { usize::MAX };
        let end = begin.saturating_add(self.run(begin, most, is_part));
        let text = self.text.get(begin..end)?;
        let is_closed =
            quote.is_none_or(|quote| self.bytes.get(end).is_some_and(|byte| *byte == quote || *byte == b'\\'));
        let holds_command = text.contains('`') || text.contains("$(") || text.contains("${");
        let is_too_long = named == Named::Password && text.len() > PASSWORD_MAX;
        if is_too_long || !is_closed || holds_command {
            return None;
        }
        if quote.is_none() && named == Named::Password && !is_bare_password(text, is_spoken) {
            return None;
        }
        // The token's own rule says more than the name around it.
        let own = token(text.as_bytes()).filter(|(_, len)| *len == text.len()).map(|(rule, _)| rule);
        let rule = own.or_else(|| secret_value(named, text))?;
        Some(Span { at: begin..end, rule })
    }

    /// The name before a sign: a quote, an escape and a little space may stand between.
    fn name_before(&self, at: usize) -> Option<&str> {
        let mut end = at;
        let skip = |end: usize, kinds: &[u8], most: usize| {
            let bytes = self.bytes.get(..end).unwrap_or_default();
            end.saturating_sub(bytes.iter().rev().take(most).take_while(|byte| kinds.contains(byte)).count())
        };
        end = skip(end, b" ", GAP_MAX);
        end = skip(end, b"\"'", 1);
        end = skip(end, b"\\", 1);
        self.name_ending(end)
    }

    fn name_ending(&self, end: usize) -> Option<&str> {
        let len = self.bytes.get(..end)?.iter().rev().take(NAME_MAX).take_while(|byte| is_name(**byte)).count();
        self.text.get(end.checked_sub(len)?..end).filter(|name| !name.is_empty())
    }

    /// A card number where a number begins; groups may be apart by one space or dash.
    fn card(&self, at: usize) -> Option<Span> {
        const READ_MAX: usize = 40;
        let before = self.before(at).unwrap_or(b' ');
        if before.is_ascii_alphanumeric() || matches!(before, b'_' | b'.' | b'-' | b'+') {
            return None;
        }
        let mut digits = Vec::new();
        let mut was_gap = true;
        let mut card = None;
        for (offset, byte) in self.rest(at).iter().take(READ_MAX).enumerate() {
            match byte {
                b'0'..=b'9' => {
                    digits.push(byte.wrapping_sub(b'0'));
                    was_gap = false;
                    let end = at.saturating_add(offset).saturating_add(1);
                    // What follows a card may be more numbers: its date, its code.
                    if self.ends_number(end) && is_card(&digits) {
                        card = Some(Span { at: at..end, rule: Rule::CardNumber });
                    }
                }
                b' ' | b'-' if !was_gap => was_gap = true,
                _ => break,
            }
        }
        card
    }

    fn ends_number(&self, at: usize) -> bool {
        let after = self.bytes.get(at).copied().unwrap_or(b' ');
        let is_fraction = after == b'.' && self.bytes.get(at.saturating_add(1)).is_some_and(u8::is_ascii_digit);
        !after.is_ascii_alphanumeric() && after != b'_' && !is_fraction
    }
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Whether an unquoted text after the name of a password is one, and not the next word of a sentence or program.
fn is_bare_password(text: &str, is_spoken: bool) -> bool {
    let has_other = text.bytes().any(|byte| !byte.is_ascii_alphabetic());
    let is_name = named(text).is_some() && text.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    text.len() >= 4 && !is_name && (!is_spoken || has_other || text.len() >= 8)
}

/// Whether the digits are of a known scheme, of its length, and have the right check digit.
fn is_card(digits: &[u8]) -> bool {
    let first = |count: usize| digits.iter().take(count).fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit));
    let lengths: &[usize] = match (first(1), first(2), first(3), first(4)) {
        (4, ..) => &[13, 16, 19],
        (_, 34 | 37, ..) => &[15],
        (_, 51..=55, ..) | (_, _, _, 2221..=2720) => &[16],
        (_, _, 300..=305, _) | (_, 36 | 38 | 39, ..) => &[14],
        (_, _, _, 3528..=3589) => &[16],
        (_, 62 | 65, ..) | (_, _, 644..=649, _) | (_, _, _, 6011) => &[16, 17, 18, 19],
        (_, 50 | 56..=69, ..) => &[16],
        _ => &[],
    };
    lengths.contains(&digits.len()) && luhn(digits)
}

fn luhn(digits: &[u8]) -> bool {
    let sum = digits.iter().rev().enumerate().fold(0_u32, |sum, (place, digit)| {
        let digit = u32::from(*digit);
        let weighed = if place % 2 == 0 { digit } else { digit * 2 };
        sum.saturating_add(if weighed > 9 { weighed.saturating_sub(9) } else { weighed })
    });
    sum.is_multiple_of(10)
}
