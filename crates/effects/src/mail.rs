//! Recipients: which domains a list of e-mail addresses sends to, and how many addresses there are.
//!
//! Reads the common part of RFC 5322: addresses, perhaps with a display name, separated by commas. The display name
//! decides nothing. Comments, groups, routes, quoted local parts, encoded words and address literals are opaque, for
//! readers differ there. The addresses are personal: no reason and no fact quotes them.
//!
//! It must not know mailing lists and forwards: who reads in the end is not covered.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::http;
use crate::sql::Opaque;

/// The longest list that is read.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;
const LOCAL_BYTES_MAX: usize = 64;

/// What a list of recipients says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipients {
    /// Canonical domains.
    pub domains: BTreeSet<String>,
    /// How many addresses, doubles counted.
    pub count: u64,
}

/// Reads a list; an empty text is an empty list.
///
/// # Errors
/// Whatever two readers could take differently is opaque.
pub fn recipients(text: &str) -> Result<Recipients, Opaque> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Opaque::because("a longer list of recipients than is read"));
    }
    let mut all = Recipients::default();
    if text.is_empty() {
        return Ok(all);
    }
    for entry in entries(text)? {
        all.domains.insert(domain(address(entry)?)?);
        all.count = all.count.saturating_add(1);
    }
    Ok(all)
}

/// Cuts a list at the commas that stand outside of quotes.
fn entries(text: &str) -> Result<Vec<&str>, Opaque> {
    let is_word = |c: char| c == ' ' || c.is_ascii_graphic() || (c.is_alphanumeric() && !c.is_ascii());
    if !text.chars().all(is_word) || text.contains('\\') || text.contains("=?") {
        return Err(Opaque::because("a recipient with control characters, escapes, marks or encoded words"));
    }
    let mut entries = Vec::new();
    let (mut begin, mut quote) = (0_usize, None);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            ('"', None) => quote = Some(at),
            ('"', Some(open)) => {
                quote = None;
                // Such a name is only shown; but a simpler reader finds a list in it, and sends to that.
                let name = text.get(open..at).unwrap_or_default();
                if name.contains('@') && name.contains([',', ';', '<', '>']) {
                    return Err(Opaque::because("a recipient whose quoted name looks like several"));
                }
            }
            (',', None) => {
                entries.push(text.get(begin..at).unwrap_or_default());
                begin = at.saturating_add(1);
            }
            _ => {}
        }
    }
    if quote.is_some() {
        return Err(Opaque::because("a recipient with an open quote"));
    }
    entries.push(text.get(begin..).unwrap_or_default());
    Ok(entries)
}

/// The address of one entry: itself, or what stands in angle brackets behind a display name.
fn address(entry: &str) -> Result<&str, Opaque> {
    let entry = entry.trim_matches(' ');
    let Some(inner) = entry.strip_suffix('>') else {
        return Ok(entry);
    };
    let (name, address) =
        inner.rsplit_once('<').ok_or_else(|| Opaque::because("a recipient with unpaired brackets"))?;
    let name = name.trim_matches(' ');
    let bare = match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted.replace(['@', ':', '.', '(', ')', ',', ';', '[', ']'], ""),
        None => name.replace('.', ""),
    };
    // What is left is a name in words. Anything else in it is syntax to some reader.
    if bare.chars().any(|c| matches!(c, '"' | '<' | '>' | '(' | ')' | '@' | ':' | ';' | '[' | ']')) {
        return Err(Opaque::because("a recipient whose name holds comments, groups or brackets"));
    }
    Ok(address)
}

/// The canonical domain of a plain address.
fn domain(address: &str) -> Result<String, Opaque> {
    let (local, domain) = address.rsplit_once('@').ok_or_else(|| Opaque::because("a recipient without a domain"))?;
    // Without `%` and `!`: old mailers read routes from them.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"#&'*+-/=?^_{}~.".contains(&byte);
    let is_local = (1..=LOCAL_BYTES_MAX).contains(&local.len())
        && local.bytes().all(is_plain)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !local.contains("..");
    if !is_local {
        return Err(Opaque::because("a recipient whose local part is quoted, routed or no plain word"));
    }
    let named = domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    let domain = if named { http::canonical(domain)? } else { String::new() };
    let has_letter = domain.rsplit('.').next().is_some_and(|last| last.bytes().any(|b| b.is_ascii_alphabetic()));
    if !has_letter || domain.contains(':') {
        return Err(Opaque::because("a recipient whose domain is no plain name"));
    }
    Ok(domain)
}
