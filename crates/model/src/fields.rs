//! Commitments field by field: what a leaf commits to of an action's arguments, so that one field can be
//! shown to somebody and the others not even named.
//!
//! The layout, for who implements it elsewhere. `H(domain, p1, …, pn)` is SHA-256 over the domain and the
//! parts, each preceded by its length as eight big-endian bytes ([`Digest::of`]).
//!
//! - A *field* has a kind, a name and a value. An object with 1 to [`FIELDS_MAX`] members gives one field of
//!   kind `member` for each: the name is its key as UTF-8 without escapes, the value its canonical JSON text.
//!   Any other arguments are one field of kind `whole` without a name. `_meta`, where it is not empty, is one
//!   more field, of kind `meta`, without a name.
//! - The salt of a field is `H("countersign field salt v1", salt, kind, name)`, with the payload's one salt.
//! - The commitment of a field is `H("countersign field v1", field salt, kind, name, value)`.
//! - The root is `H("countersign fields v1", c1, …, cn)` over all commitments in ascending order of their bytes,
//!   so that their order says nothing of names.
//!
//! The inputs of the salts are prefix-free, so SHA-256 is a keyed function of kind and name here: the salt of
//! one field tells nothing of the payload's salt or of another field's. Two different arguments never have
//! one list of fields: joined with their keys the members give back the very bytes that were taken apart.
//!
//! It must not know what an argument means. It does not cover JSON in general: only the one spelling of
//! `effects::json::canonical` is taken apart, and whatever else it is given is one field.

use crate::id::Digest;
use crate::payload::{Commitment, Salt};
use crate::unit::Bytes;

#[cfg(test)]
mod tests;

/// The most members that are committed to one by one; arguments with more are one field.
pub const FIELDS_MAX: usize = 256;
/// The most commitments below one root: the members and `_meta`.
pub const COMMITMENTS_MAX: usize = FIELDS_MAX + 1;

/// What a field is of the arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FieldKind {
    /// A member of the arguments' object.
    Member,
    /// The arguments as one text.
    Whole,
    /// The allow-listed `_meta` as one text.
    Meta,
}

impl FieldKind {
    /// The word that is hashed, and that disclosures use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Whole => "whole",
            Self::Meta => "meta",
        }
    }
}

impl std::str::FromStr for FieldKind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        [Self::Member, Self::Whole, Self::Meta]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// A word that names no kind of field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no kind of field; the kinds are member, whole and meta", .0.escape_default())]
pub struct UnknownKind(pub String);

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// What it is.
    pub kind: FieldKind,
    /// Its key, without escapes; empty where it is no member.
    pub name: String,
    /// Its canonical JSON text.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// The field's own salt, from the salt of the payload.
    #[must_use]
    pub fn salt(&self, payload: &Salt) -> Salt {
        let parts: [&[u8]; 3] = [&payload.0, self.kind.as_str().as_bytes(), self.name.as_bytes()];
        Salt(Digest::of("countersign field salt v1", &parts).0)
    }

    /// The field's commitment under its own salt.
    #[must_use]
    pub fn commitment(&self, salt: &Salt) -> Digest {
        let parts: [&[u8]; 4] = [&salt.0, self.kind.as_str().as_bytes(), self.name.as_bytes(), self.value];
        Digest::of("countersign field v1", &parts)
    }
}

/// The fields of canonical arguments and canonical `_meta`, members in the order of their names.
#[must_use]
pub fn fields<'a>(arguments: &'a [u8], meta: &'a [u8]) -> Vec<Field<'a>> {
    let unnamed = |kind, value| Field { kind, name: String::new(), value };
    let mut fields = members(arguments).unwrap_or_else(|| vec![unnamed(FieldKind::Whole, arguments)]);
    if !meta.is_empty() {
        fields.push(unnamed(FieldKind::Meta, meta));
    }
    fields
}

/// The commitments of all fields, in ascending order.
#[must_use]
pub fn commitments(salt: &Salt, fields: &[Field<'_>]) -> Vec<Digest> {
    let mut all: Vec<Digest> = fields.iter().map(|field| field.commitment(&field.salt(salt))).collect();
    all.sort_unstable();
    all
}

/// The root over commitments, which must be in ascending order.
#[must_use]
pub fn root(commitments: &[Digest]) -> Digest {
    let parts: Vec<&[u8]> = commitments.iter().map(|commitment| commitment.0.as_slice()).collect();
    Digest::of("countersign fields v1", &parts)
}

impl Commitment {
    /// Commits to arguments and `_meta` field by field, under one salt.
    #[must_use]
    pub fn to_fields(salt: &Salt, arguments: &[u8], meta: &[u8]) -> Self {
        let hash = root(&commitments(salt, &fields(arguments, meta)));
        Self { hash, bytes: Bytes((arguments.len() as u64).saturating_add(meta.len() as u64)) }
    }
}

/// The members of a canonical object; none where the text is something else or has too many.
fn members(text: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut rest = text.strip_prefix(b"{")?;
    let mut members: Vec<Field<'_>> = Vec::new();
    loop {
        let (name, after) = key(rest)?;
        let value = after.strip_prefix(b":")?;
        let end = value_end(value)?;
        let (value, after) = value.split_at_checked(end)?;
        // Ascending, so that no key comes twice and the set of fields is the object.
        let in_order = members.last().is_none_or(|last| last.name < name);
        if value.is_empty() || !in_order || members.len() == FIELDS_MAX {
            return None;
        }
        members.push(Field { kind: FieldKind::Member, name, value });
        match after {
            b"}" => return Some(members),
            _ => rest = after.strip_prefix(b",")?,
        }
    }
}

/// A string at the start of `text` in its one spelling, without its escapes, and what follows it.
fn key(text: &[u8]) -> Option<(String, &[u8])> {
    let mut name = Vec::new();
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        let (first, after) = rest.split_first()?;
        rest = match first {
            b'"' => return Some((String::from_utf8(name).ok()?, after)),
            b'\\' => escaped(after, &mut name)?,
            0x00..=0x1f => return None,
            plain => {
                name.push(*plain);
                after
            }
        };
    }
}

/// What follows a backslash. Only escapes that the one spelling uses: a second spelling would be a second text.
fn escaped<'a>(text: &'a [u8], name: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (first, after) = text.split_first()?;
    let byte = match first {
        b'"' => b'"',
        b'\\' => b'\\',
        b'b' => 0x08,
        b't' => b'\t',
        b'n' => b'\n',
        b'f' => 0x0c,
        b'r' => b'\r',
        b'u' => {
            let (digits, after) = after.split_first_chunk::<4>()?;
            let control = (0x00..=0x1f_u8).find(|byte| format!("{byte:04x}").as_bytes() == digits)?;
            let has_short = matches!(control, 0x08 | b'\t' | b'\n' | 0x0c | b'\r');
            name.extend((!has_short).then_some(control));
            return (!has_short).then_some(after);
        }
        _ => return None,
    };
    name.push(byte);
    Some(after)
}

/// Where the value at the start of `text` ends: before the comma or brace of the object around it.
fn value_end(text: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut is_escaped = false;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth = depth.saturating_add(1),
            b',' | b'}' if depth == 0 => return Some(at),
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}
