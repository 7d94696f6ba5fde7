//! From a JSON Schema to types: only what the schema says without doubt.
//!
//! A schema comes from an upstream, so everything is bounded: nesting, references, attributes, and the number of
//! schemas looked at, for a schema that refers to itself twice on every level would be endless. It must not know values.
//! Keywords that only narrow (`minimum`, `pattern`, `if`) are not read: what is left out of a type hides nothing.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{ATTRIBUTES_MAX, ArgumentTypes, DEPTH_MAX, Field, Fields, Kind, LeftOut, NAME_BYTES_MAX, below};

/// The most schemas that are looked at for one tool.
const VISITS_MAX: usize = 1_024;
/// The most references, or alternatives with one branch, from one property to its type.
const HOPS_MAX: usize = 16;

/// What one schema says: a type and whether `null` is allowed beside it.
type Shape = (Kind, bool);

/// The types of the arguments whose schema is `schema`.
pub(super) fn read(schema: &Value) -> ArgumentTypes {
    let mut reader = Reader { root: schema, left_out: Vec::new(), attributes: 0, visits: 0 };
    let fields = match reader.shape(schema, &Place { path: String::new(), depth: 0, hops: 0 }) {
        Ok((Kind::Record(fields), _)) => fields,
        Ok(_) => reader.leave("", "the arguments are not declared to be an object"),
        Err(why) => reader.leave("", &why),
    };
    let mut left_out = reader.left_out;
    left_out.sort();
    ArgumentTypes { fields, left_out }
}

struct Reader<'a> {
    root: &'a Value,
    left_out: Vec<LeftOut>,
    attributes: usize,
    visits: usize,
}

/// Where a schema stands.
struct Place {
    path: String,
    depth: usize,
    hops: usize,
}

impl Place {
    fn hop(&self) -> Self {
        Self { path: self.path.clone(), depth: self.depth, hops: self.hops.saturating_add(1) }
    }

    fn below(&self, name: &str) -> Self {
        Self { path: below(&self.path, name), depth: self.depth.saturating_add(1), hops: 0 }
    }
}

impl<'a> Reader<'a> {
    fn leave(&mut self, path: &str, why: &str) -> Fields {
        self.left_out.push(LeftOut { path: path.to_owned(), why: why.to_owned() });
        Fields::default()
    }

    fn shape(&mut self, schema: &'a Value, at: &Place) -> Result<Shape, String> {
        self.visits = self.visits.saturating_add(1);
        if self.visits > VISITS_MAX {
            return Err(format!("the schema has more than {VISITS_MAX} parts"));
        }
        if at.hops > HOPS_MAX {
            return Err(format!("more than {HOPS_MAX} references lead to it"));
        }
        let schema = match schema {
            Value::Object(schema) => schema,
            Value::Bool(false) => return Err("no value is allowed".to_owned()),
            _ => return Err(ANYTHING.to_owned()),
        };
        let nullable = schema.get("nullable") == Some(&Value::Bool(true));
        let (kind, also_null) = match declared(schema)? {
            Some((word, null)) => (self.of_type(word, schema, at)?, null),
            None => self.elsewhere(schema, at)?,
        };
        Ok((kind, nullable || also_null))
    }

    /// The type where the schema itself names none: behind a reference, or in the one alternative that is not `null`.
    fn elsewhere(&mut self, schema: &'a Map<String, Value>, at: &Place) -> Result<Shape, String> {
        if let Some(reference) = schema.get("$ref") {
            let found = reference.as_str().and_then(|pointer| self.resolve(pointer));
            return self.shape(found.ok_or("it refers to a schema that is not inside this one")?, &at.hop());
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(branches) = schema.get(word).and_then(Value::as_array) {
                let others: Vec<&Value> = branches.iter().filter(|branch| !is_null(branch)).collect();
                let [only] = others.as_slice() else {
                    return Err(format!("one of several types (`{word}`)"));
                };
                let (kind, null) = self.shape(only, &at.hop())?;
                return Ok((kind, null || others.len() < branches.len()));
            }
        }
        match schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            Some([only]) => self.shape(only, &at.hop()),
            Some(_) => Err("several schemas at once (`allOf`)".to_owned()),
            None => Err(ANYTHING.to_owned()),
        }
    }

    fn resolve(&self, reference: &str) -> Option<&'a Value> {
        let pointer = reference.strip_prefix('#')?;
        // Escapes of URLs would be a second spelling of the same place.
        (!pointer.contains('%')).then(|| self.root.pointer(pointer)).flatten()
    }

    fn of_type(&mut self, word: &str, schema: &'a Map<String, Value>, at: &Place) -> Result<Kind, String> {
        Ok(match word {
            "string" => of_format(schema.get("format").and_then(Value::as_str)),
            "integer" => Kind::Whole,
            "number" => Kind::Decimal,
            "boolean" => Kind::Flag,
            "array" => self.set(schema, at)?,
            "object" => self.record(schema, at)?,
            "null" => return Err("it is always `null`".to_owned()),
            other => return Err(format!("`{}` is no type", other.escape_debug())),
        })
    }

    fn set(&mut self, schema: &'a Map<String, Value>, at: &Place) -> Result<Kind, String> {
        if schema.contains_key("prefixItems") {
            return Err("an array whose places have their own types".to_owned());
        }
        let items = schema.get("items").ok_or("an array of anything")?;
        match self.shape(items, &at.hop())? {
            (_, true) => Err("an array with `null` among its items".to_owned()),
            (Kind::Record(_), _) => Err("an array of objects".to_owned()),
            (Kind::Set(_), _) => Err("an array of arrays".to_owned()),
            (item, false) => Ok(Kind::Set(Box::new(item))),
        }
    }

    fn record(&mut self, schema: &'a Map<String, Value>, at: &Place) -> Result<Kind, String> {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return match self.elsewhere(schema, at) {
                Ok((kind @ Kind::Record(_), _)) => Ok(kind),
                _ => Err("an object without declared properties".to_owned()),
            };
        };
        if at.depth >= DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} levels deep"));
        }
        for more in ["$ref", "allOf", "anyOf", "oneOf"] {
            if schema.contains_key(more) {
                self.leave(&at.path, &format!("what `{more}` adds to the properties"));
            }
        }
        let required: BTreeSet<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        // By name, whatever order the map keeps: which are left out must not depend on it.
        let mut names: Vec<(&String, &Value)> = properties.iter().collect();
        names.sort_by_key(|(name, _)| *name);
        let mut fields = Fields::default();
        for (name, property) in names {
            let place = at.below(name);
            match self.property(name, property, &place) {
                Ok((kind, nullable)) => {
                    let field = Field { kind, required: required.contains(name.as_str()), nullable };
                    fields.0.insert(name.clone(), field);
                }
                Err(why) => {
                    self.leave(&place.path, &why);
                    if self.visits > VISITS_MAX {
                        break;
                    }
                }
            }
        }
        if fields.0.is_empty() {
            return Err("an object without a property that policy can read".to_owned());
        }
        Ok(Kind::Record(fields))
    }

    fn property(&mut self, name: &str, schema: &'a Value, at: &Place) -> Result<Shape, String> {
        if name.len() > NAME_BYTES_MAX {
            return Err(format!("its name has more than {NAME_BYTES_MAX} bytes"));
        }
        if self.attributes >= ATTRIBUTES_MAX {
            return Err(format!("the tool has more than {ATTRIBUTES_MAX} arguments"));
        }
        self.attributes = self.attributes.saturating_add(1);
        let shape = self.shape(schema, at);
        if shape.is_err() {
            self.attributes = self.attributes.saturating_sub(1);
        }
        shape
    }
}

const ANYTHING: &str = "any value is allowed";

fn of_format(format: Option<&str>) -> Kind {
    match format {
        Some("date") => Kind::Date,
        Some("date-time") => Kind::DateTime,
        Some("ipv4") => Kind::Ipv4,
        Some("ipv6") => Kind::Ipv6,
        _ => Kind::Text,
    }
}

fn is_null(schema: &Value) -> bool {
    schema.get("type") == Some(&Value::from("null")) || schema.get("const") == Some(&Value::Null)
}

/// The one type that a schema names by `type`, by its listed values or by what only one type has; and whether `null` is
/// another.
fn declared(schema: &Map<String, Value>) -> Result<Option<(&str, bool)>, String> {
    let words: BTreeSet<&str> = match schema.get("type") {
        Some(Value::String(word)) => [word.as_str()].into(),
        Some(Value::Array(words)) => words.iter().map(|word| word.as_str().unwrap_or_default()).collect(),
        Some(_) => return Err("its type cannot be read".to_owned()),
        None => match values(schema) {
            Some(words) => words,
            None if schema.contains_key("properties") => ["object"].into(),
            None if schema.contains_key("items") || schema.contains_key("prefixItems") => ["array"].into(),
            None => return Ok(None),
        },
    };
    let null = words.contains("null") && words.len() > 1;
    let others: Vec<&str> = words.into_iter().filter(|word| !null || *word != "null").collect();
    match others.as_slice() {
        [] => Err("no type is allowed".to_owned()),
        [word] => Ok(Some((word, null))),
        ["integer", "number"] => Ok(Some(("number", null))),
        several => Err(format!("one of several types ({})", several.join(", ").escape_debug())),
    }
}

/// The types of the values that `enum` or `const` lists.
fn values(schema: &Map<String, Value>) -> Option<BTreeSet<&str>> {
    let listed = match (schema.get("const"), schema.get("enum")) {
        (Some(only), _) => std::slice::from_ref(only),
        (None, Some(Value::Array(listed))) => listed.as_slice(),
        _ => return None,
    };
    let word = |value: &Value| match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    Some(listed.iter().map(word).collect())
}
