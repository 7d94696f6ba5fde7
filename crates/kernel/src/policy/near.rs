//! Names of environments that people take for one another.
//!
//! A rule that names `production` does not hold for a target in `Production` or `pr0duction`, and nobody sees why. Ids are
//! ASCII, so look-alikes from other alphabets are refused long before this. It must not know what a rule says.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::id::Environment;

use super::PolicySource;
use super::annotation::{Complaint, complaint};

/// The shortest name that another may be short for.
const SHORT_MIN: usize = 3;

/// Environments that differ only by case, by separators, or by letters that look alike: refused.
pub(super) fn alike(source: &PolicySource) -> Vec<Complaint> {
    let mut by_look: BTreeMap<String, &str> = BTreeMap::new();
    let mut found = Vec::new();
    let names: BTreeSet<&str> = source.targets.iter().map(|target| target.environment.as_str()).collect();
    for name in names {
        if let Some(other) = by_look.insert(look(name), name) {
            let problem =
                format!("the environments `{other}` and `{name}` look alike, and a rule for one misses the other");
            found.push(complaint(
                problem,
                "spell one environment in one way, or give the two names that nobody mistakes",
            ));
        }
    }
    found
}

/// Pairs of environments that may be meant to be one, such as `prod` and `production`: worth a warning.
#[must_use]
pub fn near_environments<'a>(environments: impl IntoIterator<Item = &'a Environment>) -> Vec<(String, String)> {
    let names: BTreeSet<&str> = environments.into_iter().map(Environment::as_str).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let mut pairs = Vec::new();
    for (at, a) in names.iter().enumerate() {
        let later = names.iter().skip(at.saturating_add(1));
        pairs.extend(later.filter(|b| are_near(a, b)).map(|b| ((*a).to_owned(), (*b).to_owned())));
    }
    pairs
}

/// A name as it looks at a glance.
fn look(name: &str) -> String {
    let lower = name.to_ascii_lowercase().replace("rn", "m").replace("vv", "w");
    let letters = lower.chars().filter(|c| !"-_.:/".contains(*c)).map(|c| match c {
        '0' => 'o',
        '1' | 'i' | '|' | '!' => 'l',
        '5' | '$' => 's',
        other => other,
    });
    letters.collect()
}

/// Whether one is the beginning of the other, or they are one letter apart.
fn are_near(a: &str, b: &str) -> bool {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let (short, long) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
    if short.len() < SHORT_MIN {
        return false;
    }
    // `prod` is short for `production`; `prod-2` is another one beside `prod`.
    let is_short =
        long.strip_prefix(short.as_str()).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
    is_short || is_one_apart(short, long)
}

fn is_one_apart(short: &str, long: &str) -> bool {
    let head = short.bytes().zip(long.bytes()).take_while(|(a, b)| a == b).count();
    let tail = short.bytes().rev().zip(long.bytes().rev()).take_while(|(a, b)| a == b).count();
    let is_letter = |at: usize| long.as_bytes().get(at).is_some_and(u8::is_ascii_alphabetic);
    match long.len().saturating_sub(short.len()) {
        0 => head.saturating_add(tail) >= short.len().saturating_sub(1) && is_letter(head),
        1 => head.saturating_add(tail) >= short.len() && is_letter(head),
        _ => false,
    }
}
