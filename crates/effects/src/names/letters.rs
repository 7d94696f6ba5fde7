//! Characters: those that nobody sees, those that turn text around, and those that look like a Latin letter.
//!
//! It must not know where a text stands. Marks that scripts and emoji need in their place are no sign.

use std::collections::BTreeSet;

use super::Sign;

/// What a character that nobody sees, or that moves others about, does; `None` for all others.
#[must_use]
pub const fn hides(c: char) -> Option<(Sign, &'static str)> {
    Some(match c {
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => (Sign::Direction, "turns the direction of the text"),
        '\u{200b}'
        | '\u{2060}'..='\u{2064}'
        | '\u{206a}'..='\u{206f}'
        | '\u{feff}'
        | '\u{180e}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{3164}'
        | '\u{ffa0}' => (Sign::Hidden, "has no width"),
        '\u{200c}' | '\u{200d}' => (Sign::Hidden, "joins or parts letters without being seen"),
        '\u{e0000}'..='\u{e007f}' => (Sign::Hidden, "is an invisible copy of a letter"),
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => (Sign::Hidden, "can carry hidden data"),
        '\n' | '\r' | '\t' => return None,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' => (Sign::Hidden, "is a control character"),
        _ => return None,
    })
}

/// Every such character of a text that does not belong where it stands, once, with what it does.
pub(super) fn hidden(text: &str) -> Vec<(Sign, String)> {
    let mut found = BTreeSet::new();
    let mut before = ' ';
    let mut in_flag = false;
    for c in text.chars() {
        in_flag = c == '\u{1f3f4}' || (in_flag && ('\u{e0020}'..='\u{e007f}').contains(&c));
        if let Some((sign, does)) = hides(c).filter(|_| !in_flag && !belongs(before, c)) {
            found.insert((u32::from(c), sign, does));
        }
        before = c;
    }
    found.into_iter().map(|(code, sign, does)| (sign, format!("U+{code:04X} {does}"))).collect()
}

/// Whether scripts or emoji use the mark `c` right after `before`.
fn belongs(before: char, c: char) -> bool {
    let is_symbol = u32::from(before) >= 0x2000 && hides(before).is_none();
    match c {
        // Indic and Arabic scripts, and composed emoji. In Latin text they only hide.
        '\u{200c}' | '\u{200d}' => {
            let is_joining = ('\u{0590}'..='\u{0dff}').contains(&before);
            is_joining || is_symbol || (before == '\u{fe0f}' && c == '\u{200d}')
        }
        // One variation of a sign; a row of them is data.
        '\u{fe00}'..='\u{fe0f}' => {
            is_symbol || matches!(before, '\u{a9}' | '\u{ae}' | '#' | '*' | '0'..='9') || in_script(before)
        }
        '\u{e0100}'..='\u{e01ef}' => {
            ('\u{3400}'..='\u{9fff}').contains(&before) || u32::from(before) >= 0x2_0000 && is_symbol
        }
        _ => false,
    }
}

const fn in_script(before: char) -> bool {
    matches!(before, '\u{0900}'..='\u{1fff}')
}

/// Words of Latin letters in which letters of other alphabets stand that look the same.
pub(super) fn look_alikes(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    let found: BTreeSet<&str> = words.filter(|word| is_look_alike(word)).collect();
    found.into_iter().map(str::to_owned).collect()
}

fn is_look_alike(word: &str) -> bool {
    let latin = word.chars().filter(char::is_ascii_alphabetic).count();
    let others: Vec<char> = word.chars().filter(|c| c.is_alphabetic() && !c.is_ascii()).collect();
    let alike = others.iter().filter(|c| latin_of(**c).is_some()).count();
    latin >= 2 && alike > 0
}

/// The Latin letter that `c` looks like, of those alphabets that are used for it.
#[must_use]
pub const fn latin_of(c: char) -> Option<char> {
    Some(match c {
        'а' | 'α' => 'a',
        'А' | 'Α' => 'A',
        'В' | 'Β' => 'B',
        'с' | 'ϲ' => 'c',
        'С' | 'Ϲ' => 'C',
        'ԁ' => 'd',
        'е' => 'e',
        'Е' | 'Ε' => 'E',
        'ց' | 'ɡ' => 'g',
        'һ' | 'հ' => 'h',
        'Н' | 'Η' => 'H',
        'і' | 'ι' | 'ı' => 'i',
        'І' | 'Ι' | 'Ӏ' => 'I',
        'ј' | 'ϳ' => 'j',
        'Ј' => 'J',
        'к' | 'κ' => 'k',
        'К' | 'Κ' => 'K',
        'ӏ' => 'l',
        'М' | 'Μ' => 'M',
        'ո' => 'n',
        'Ν' => 'N',
        'о' | 'ο' | 'օ' => 'o',
        'О' | 'Ο' | 'Օ' => 'O',
        'р' | 'ρ' => 'p',
        'Р' | 'Ρ' => 'P',
        'ԛ' | 'զ' => 'q',
        'ѕ' => 's',
        'Ѕ' => 'S',
        'Т' | 'Τ' => 'T',
        'ս' | 'υ' => 'u',
        'ν' | 'ѵ' => 'v',
        'ԝ' => 'w',
        'х' | 'χ' => 'x',
        'Х' | 'Χ' => 'X',
        'у' | 'γ' => 'y',
        'У' | 'Υ' => 'Y',
        'Ζ' => 'Z',
        // Fullwidth forms stand in the order of ASCII.
        '\u{ff21}'..='\u{ff3a}' | '\u{ff41}'..='\u{ff5a}' => return ascii_of(c),
        _ => return None,
    })
}

const fn ascii_of(c: char) -> Option<char> {
    char::from_u32((c as u32).wrapping_sub(0xfee0))
}
