//! Links of a Markdown page: where they stand, what they say, where they point.
//!
//! Inline links only; what stands in fences and code spans is not a link. Nothing here knows whether a target exists.

use super::numbered;

/// One `[text](target)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link<'a> {
    pub(super) line: usize,
    pub(super) text: &'a str,
    pub(super) target: &'a str,
}

impl<'a> Link<'a> {
    /// The path, without a fragment, when the target lies in this repository.
    pub(super) fn path(&self) -> Option<&'a str> {
        let target = self.target.split_whitespace().next()?;
        let path = target.split_once('#').map_or(target, |(path, _)| path);
        let leaves = path.contains("://") || path.starts_with("mailto:");
        (!leaves && !path.is_empty()).then_some(path)
    }

    /// True for a link to a line, which is wrong after the next edit.
    pub(super) fn names_line(&self) -> bool {
        let fragment = self.target.split_once("#L").map(|(_, rest)| rest);
        fragment.is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    }

    /// `Type::method` or `name`, when the text is code and nothing else; a closing `()` is dropped.
    pub(super) fn identifiers(&self) -> Option<Vec<&'a str>> {
        let code = self.text.strip_prefix('`')?.strip_suffix('`')?;
        let parts: Vec<&str> = code.strip_suffix("()").unwrap_or(code).split("::").collect();
        parts.iter().all(|part| is_identifier(part)).then_some(parts)
    }
}

fn is_identifier(part: &str) -> bool {
    let first = part.chars().next();
    first.is_some_and(|first| first.is_alphabetic() || first == '_')
        && part.chars().all(|char| char.is_alphanumeric() || char == '_')
}

/// All links of a page, in order.
pub(super) fn of(page: &str) -> Vec<Link<'_>> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (line, content) in numbered(page) {
        if content.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            in_line(line, content, &mut found);
        }
    }
    found
}

fn in_line<'a>(line: usize, content: &'a str, found: &mut Vec<Link<'a>>) {
    for (middle, _) in content.match_indices("](") {
        let Some((before, rest)) = content.split_at_checked(middle) else {
            continue;
        };
        let Some((start, text)) = before.rfind('[').and_then(|at| Some((at, before.get(at.checked_add(1)?..)?))) else {
            continue;
        };
        let ticks_before = content.get(..start).unwrap_or_default().matches('`').count();
        let target = rest.strip_prefix("](").and_then(|rest| rest.split_once(')'));
        if let Some((target, _)) = target
            && ticks_before % 2 == 0
        {
            found.push(Link { line, text, target });
        }
    }
}

/// The path that a link in `page` means, `/` between parts; none when it climbs out of the repository.
pub(super) fn resolve(page: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    if !path.starts_with('/') {
        parts.extend(page.split('/'));
        parts.pop();
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}
