//! The preview: what an approver is shown, as a pure function of the proposal and its arguments.
//!
//! The kernel hashes it into the proposal's leaf and the approver's command renders it again from
//! the same bytes, so what was seen, what was signed and what runs are the same. Characters that
//! a terminal would obey or that reorder text are shown as escapes: arguments are hostile.

use std::fmt::Write as _;

use crate::action::Action;
use crate::id::Digest;

/// Renders an action for a human. Long arguments are cut in the middle, and the cut says how much.
#[must_use]
pub fn preview(action: &Action) -> String {
    let mut out = String::new();
    let facts = &action.facts;
    // Writing to a `String` cannot fail.
    let _ = writeln!(
        out,
        "{} ({}) asks to call {} of {}",
        action.principal.agent, action.principal.run, action.tool, action.upstream
    );
    let _ = writeln!(out, "on {} in {}: {}", action.target, action.environment, facts.effect.as_str());
    if let Some(sql) = &facts.sql {
        let _ = writeln!(
            out,
            "statements: {} ({}); tables: {}; every change has a WHERE: {}",
            sql.statements,
            sql.kinds.join(", "),
            sql.tables.join(", "),
            if sql.has_where { "yes" } else { "no" }
        );
    }
    if let Some(because) = &facts.opaque_because {
        let _ = writeln!(out, "not understood: {}", visible(because));
    }
    let text = String::from_utf8_lossy(&action.arguments);
    let _ = writeln!(out, "arguments: {}", shortened(&visible(&text)));
    if !action.meta.is_empty() {
        let meta = String::from_utf8_lossy(&action.meta);
        let _ = writeln!(out, "meta: {}", shortened(&visible(&meta)));
    }
    if let Some(redacted) = &action.redacted {
        let places = &redacted.places;
        let _ =
            writeln!(out, "secrets not shown: {} ({})", places.total, shortened(&visible(&places.items.join(", "))));
    }
    if let Some(continues) = &action.continues {
        let input = String::from_utf8_lossy(&continues.input);
        let _ = writeln!(out, "continues: the call of record {}", continues.intent);
        let _ = writeln!(out, "answers: {}", shortened(&visible(&input)));
        if continues.redactions > 0 {
            let _ = writeln!(out, "secrets not shown in the answers: {}", continues.redactions);
        }
    }
    let _ = writeln!(out, "digest: {}", action.digest());
    out
}

/// The hash of a preview, as proposals carry it.
#[must_use]
pub fn preview_hash(preview: &str) -> Digest {
    Digest::of("countersign preview v1", &[preview.as_bytes()])
}

/// `text` with control, format and bidirectional characters as escapes.
#[must_use]
pub fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_plain(c) {
            out.push(c);
        } else {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        out
    })
}

const fn is_plain(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // Beyond ASCII: everything that can hide, reorder or imitate white space is escaped.
    !matches!(c,
        '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{1680}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}'
        | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{2800}' | '\u{3000}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffd}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

const SHOWN_CHARS_MAX: usize = 4_000;

fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= SHOWN_CHARS_MAX {
        return text.to_owned();
    }
    let half = SHOWN_CHARS_MAX / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(count.saturating_sub(half)).collect();
    let cut = count.saturating_sub(SHOWN_CHARS_MAX);
    format!("{head} … [{cut} characters not shown] … {tail}")
}
