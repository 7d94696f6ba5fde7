//! The arguments of a tool as policy sees them: typed by the JSON Schema (2020-12) that a human accepted.
//!
//! A schema becomes a record type of Cedar, and canonical arguments become a value of that type. What a type cannot say
//! without doubt (a union, an array of objects, any value at all) is left out, and said to be: policy cannot read it.
//! What the type does say must hold: a value of another type is an error, and an error denies, for a policy that could
//! not see the value would be a policy that does not fire. It must not know which policies read what. Arguments that
//! the schema does not name are not seen, and formats other than dates and addresses are plain texts.

mod read;
mod scalar;
mod value;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use cedar_policy::RestrictedExpression;
use countersign_model::id::{ToolName, UpstreamId};

use super::PolicySource;

/// The most attributes of one tool, those of nested objects counted; what comes later by name is left out.
pub const ATTRIBUTES_MAX: usize = 64;
/// The deepest nesting of objects that policy sees; the arguments themselves are the first level.
pub const DEPTH_MAX: usize = 6;
/// The most items of an array that policy sees; an array with more is an error.
pub const ITEMS_MAX: usize = 4_096;
/// The longest name of a property that policy sees, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// What policy sees of one tool's arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ArgumentTypes {
    fields: Fields,
    left_out: Vec<LeftOut>,
}

/// A part of a schema that policy cannot read, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// Where, as a JSON pointer into the arguments.
    pub path: String,
    /// Why, in plain words.
    pub why: String,
}

/// An argument that policy can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Where, as a JSON pointer into the arguments.
    pub path: String,
    /// The type in Cedar's words.
    pub kind: String,
    /// Whether it is always there.
    pub required: bool,
}

/// The attributes of a record, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fields(BTreeMap<String, Field>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    kind: Kind,
    /// Whether the property must be there.
    required: bool,
    /// Whether `null` stands for nothing.
    nullable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Whole,
    Decimal,
    Flag,
    Date,
    DateTime,
    Ipv4,
    Ipv6,
    Set(Box<Self>),
    Record(Fields),
}

impl ArgumentTypes {
    /// Reads a JSON Schema. What it does not say plainly is left out.
    ///
    /// # Errors
    /// Where the text is no JSON.
    pub fn read(schema: &str) -> Result<Self, String> {
        let schema = serde_json::from_str(schema).map_err(|error| format!("it is no JSON: {error}"))?;
        Ok(read::read(&schema))
    }

    /// What policy can read, by path.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let mut shown = Vec::new();
        self.fields.show("", &mut shown);
        shown
    }

    /// What policy cannot read, by path.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The record type in Cedar's schema language; none where there is nothing to see.
    pub(super) fn record(&self) -> Option<String> {
        (!self.fields.0.is_empty()).then(|| self.fields.words())
    }

    /// Canonical arguments as a value of that type; none where there is nothing to see or nothing is known.
    ///
    /// # Errors
    /// Where a value does not have the type that the schema declares. The text holds no value.
    pub(super) fn value(&self, arguments: &[u8]) -> Result<Option<RestrictedExpression>, String> {
        if self.fields.0.is_empty() || arguments.is_empty() {
            return Ok(None);
        }
        value::value(&self.fields, arguments).map(Some)
    }
}

impl Fields {
    fn words(&self) -> String {
        let fields = self.0.iter().map(|(name, field)| {
            let mark = if field.is_always_there() { "" } else { "?" };
            format!("{}{mark}: {}", quoted(name), field.kind.words())
        });
        format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
    }

    fn show(&self, above: &str, shown: &mut Vec<Shown>) {
        for (name, field) in &self.0 {
            let path = below(above, name);
            match &field.kind {
                Kind::Record(inner) => inner.show(&path, shown),
                kind => shown.push(Shown { path, kind: kind.words(), required: field.is_always_there() }),
            }
        }
    }
}

impl Field {
    const fn is_always_there(&self) -> bool {
        self.required && !self.nullable
    }
}

impl Kind {
    fn words(&self) -> String {
        match self {
            Self::Text => "String".to_owned(),
            Self::Whole => "Long".to_owned(),
            Self::Decimal => "decimal".to_owned(),
            Self::Flag => "Bool".to_owned(),
            Self::Date | Self::DateTime => "datetime".to_owned(),
            Self::Ipv4 | Self::Ipv6 => "ipaddr".to_owned(),
            Self::Set(item) => format!("Set<{}>", item.words()),
            Self::Record(fields) => fields.words(),
        }
    }
}

/// The types of all tools that have any, by upstream and tool.
#[derive(Debug, Default)]
pub(super) struct Types(BTreeMap<UpstreamId, BTreeMap<ToolName, ArgumentTypes>>);

impl Types {
    pub(super) fn of(source: &PolicySource) -> Self {
        let mut all = Self::default();
        for def in &source.tools {
            // `load` refuses a schema that cannot be read.
            let types = def.input_schema.as_deref().and_then(|schema| ArgumentTypes::read(schema).ok());
            if let Some(types) = types.filter(|types| !types.fields.0.is_empty()) {
                all.0.entry(def.upstream.clone()).or_default().insert(def.tool.clone(), types);
            }
        }
        all
    }

    pub(super) fn get(&self, upstream: &UpstreamId, tool: &ToolName) -> Option<&ArgumentTypes> {
        self.0.get(upstream)?.get(tool)
    }
}

/// A name as a string of Cedar: whatever is no plain letter is written as its number, so that no name can end the string.
fn quoted(name: &str) -> String {
    let inner: String = name
        .chars()
        .flat_map(|c| {
            let is_plain = c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '$' | '@' | ':' | ' ');
            if is_plain { c.to_string() } else { format!("\\u{{{:x}}}", u32::from(c)) }.chars().collect::<Vec<_>>()
        })
        .collect();
    format!("\"{inner}\"")
}

/// The JSON pointer of `name` below `above`.
fn below(above: &str, name: &str) -> String {
    format!("{above}/{}", name.replace('~', "~0").replace('/', "~1"))
}
