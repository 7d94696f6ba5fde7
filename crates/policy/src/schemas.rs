//! JSON Schemas of the files that people write, for editors and other tools.
//!
//! They describe; they decide nothing: what is read is what the readers accept. Tests hold both against each other. The
//! files lie in `schemas/` at the root, so that a URL can name them.

/// Kinds of files and their schemas (2020-12).
pub const ALL: [(&str, &str); 5] = [
    ("policy", include_str!("../../../schemas/policy.json")),
    ("bindings", include_str!("../../../schemas/bindings.json")),
    ("cases", include_str!("../../../schemas/cases.json")),
    ("properties", include_str!("../../../schemas/properties.json")),
    ("config", include_str!("../../../schemas/config.json")),
];

/// A kind of file that there is no schema of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no kind of file; use one of policy, bindings, cases, properties, config")]
pub struct UnknownKind(String);

/// The schema of a kind of file.
///
/// # Errors
/// That there is none.
pub fn find(kind: &str) -> Result<&'static str, UnknownKind> {
    let found = ALL.iter().find(|(known, _)| *known == kind);
    found.map(|(_, text)| *text).ok_or_else(|| UnknownKind(kind.escape_debug().to_string()))
}
