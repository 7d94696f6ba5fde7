//! Which known word a mistyped one was meant to be.
//!
//! It only suggests: nothing may act on its answer.

#[cfg(test)]
mod tests;

/// The longest word that is compared, in characters.
const CHARS_MAX: usize = 64;

/// The word of `known` that `word` is most like, where it is like one at all.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = word.chars().count().div_ceil(3);
    let near = known.into_iter().map(|candidate| (distance(word, candidate), candidate));
    near.filter(|(distance, _)| *distance <= allowed).min().map(|(_, candidate)| candidate)
}

/// ` (did you mean …?)`, or nothing.
#[must_use]
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"))
}

/// How many characters differ: insertions, removals and changes.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(CHARS_MAX).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, of_a) in a.chars().take(CHARS_MAX).enumerate() {
        let mut next = vec![line.saturating_add(1)];
        for ((of_b, diagonal), above) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(usize::MAX);
            let changed = diagonal.saturating_add(usize::from(of_a != *of_b));
            next.push(changed.min(above.saturating_add(1)).min(left.saturating_add(1)));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}
