//! Paths: one lexical form of a POSIX path.
//!
//! `.`, `..` and doubled slashes are resolved without looking at any disk. Whatever a second reader could expand
//! (home folders, variables, wildcards, percent signs) or take for another kind of path (drives, UNC, URLs) is
//! opaque, and so is every letter outside ASCII: look-alikes and direction marks deceive people and policies alike.
//!
//! It must not know the disk: links, mounts and file systems that fold case are not covered.

#[cfg(test)]
mod tests;

use countersign_model::facts::NAME_BYTES_MAX;

use crate::sql::Opaque;

/// What a reader could expand or take for something else.
const SPECIAL: &[char] = &['\\', ':', '~', '$', '%', '`', '*', '?', '[', ']', '{', '}', '|', '<', '>', '"', '\''];

/// The canonical form of a path: absolute or relative as it came, without a slash at its end.
///
/// # Errors
/// Whatever is no plain path is opaque. The reason never quotes the text.
pub fn path(text: &str) -> Result<String, Opaque> {
    if text.is_empty() {
        return Err(Opaque::because("an empty path"));
    }
    if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(Opaque::because("a path with control characters or letters outside ASCII"));
    }
    if text.contains(SPECIAL) {
        return Err(Opaque::because("a path with characters that a reader could expand or take for another kind"));
    }
    if text.starts_with("//") {
        return Err(Opaque::because("a path that begins with two slashes, which some systems take for a host"));
    }
    let is_absolute = text.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop().ok_or_else(|| Opaque::because("a path that leads above where it begins"))?;
            }
            // Some systems drop dots and blanks at the end of a name, some readers blanks around a text.
            name if name.ends_with(['.', ' ']) || name.starts_with(' ') => {
                return Err(Opaque::because("a path with a name that begins or ends with a blank or ends with a dot"));
            }
            name => kept.push(name),
        }
    }
    let joined = kept.join("/");
    let path = match (is_absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    };
    if path.len() > NAME_BYTES_MAX {
        return Err(Opaque::because("a path longer than facts can hold"));
    }
    Ok(path)
}
