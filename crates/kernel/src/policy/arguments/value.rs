//! From canonical arguments to a value of the declared type.
//!
//! The type leads: only what it names is read, and each value must be of its type. Numbers are read from their spelling.
//! Errors name the argument and never its value, which may be anybody's secret.

use std::collections::BTreeMap;
use std::fmt;

use cedar_policy::RestrictedExpression;
use countersign_model::encoding::clipped;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Fields, ITEMS_MAX, Kind, below, scalar};

/// The longest path in an error.
const PATH_BYTES_MAX: usize = 120;

/// The value of arguments with these types.
pub(super) fn value(fields: &Fields, arguments: &[u8]) -> Result<RestrictedExpression, String> {
    let text = std::str::from_utf8(arguments).map_err(|_| "the arguments are not UTF-8".to_owned())?;
    record(fields, text, "")
}

fn record(fields: &Fields, text: &str, above: &str) -> Result<RestrictedExpression, String> {
    let Members(members) = serde_json::from_str(text).map_err(|_| not(above, "an object"))?;
    let mut values = Vec::new();
    for (name, field) in &fields.0 {
        let path = below(above, name);
        match members.get(name.as_str()).map(|raw| raw.get()) {
            None if field.required => return Err(format!("the argument `{}` is missing", shown(&path))),
            None => {}
            Some("null") if field.nullable => {}
            Some(text) => values.push((name.clone(), of_kind(&field.kind, text, &path)?)),
        }
    }
    RestrictedExpression::new_record(values).map_err(|error| error.to_string())
}

fn of_kind(kind: &Kind, text: &str, path: &str) -> Result<RestrictedExpression, String> {
    let string = || serde_json::from_str::<String>(text).ok();
    let made = match kind {
        Kind::Text => string().map(RestrictedExpression::new_string),
        Kind::Whole => scalar::whole(text).map(RestrictedExpression::new_long),
        Kind::Decimal => scalar::decimal(text).map(RestrictedExpression::new_decimal),
        Kind::Flag => match text {
            "true" => Some(RestrictedExpression::new_bool(true)),
            "false" => Some(RestrictedExpression::new_bool(false)),
            _ => None,
        },
        Kind::Date => string().and_then(|text| scalar::date(&text).map(RestrictedExpression::new_datetime)),
        Kind::DateTime => string().and_then(|text| scalar::date_time(&text).map(RestrictedExpression::new_datetime)),
        Kind::Ipv4 => string().and_then(|text| scalar::ipv4(&text).map(RestrictedExpression::new_ip)),
        Kind::Ipv6 => string().and_then(|text| scalar::ipv6(&text).map(RestrictedExpression::new_ip)),
        Kind::Set(item) => return set(item, text, path),
        Kind::Record(fields) => return record(fields, text, path),
    };
    made.ok_or_else(|| not(path, kind.plain()))
}

fn set(item: &Kind, text: &str, path: &str) -> Result<RestrictedExpression, String> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| not(path, "an array"))?;
    if items.len() > ITEMS_MAX {
        return Err(format!("the argument `{}` has more than {ITEMS_MAX} items", shown(path)));
    }
    let values = items.iter().map(|raw| of_kind(item, raw.get(), path)).collect::<Result<Vec<_>, _>>()?;
    Ok(RestrictedExpression::new_set(values))
}

fn not(path: &str, what: &str) -> String {
    let whose =
        if path.is_empty() { "the arguments are".to_owned() } else { format!("the argument `{}` is", shown(path)) };
    format!("{whose} not {what}, as the accepted schema says")
}

fn shown(path: &str) -> String {
    clipped(&path.escape_debug().to_string(), PATH_BYTES_MAX)
}

impl Kind {
    const fn plain(&self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Whole => "a whole number of 64 bits",
            Self::Decimal => "a number that four decimal places can hold",
            Self::Flag => "true or false",
            Self::Date => "a date such as 2026-11-21",
            Self::DateTime => "a time such as 2026-11-21T20:45:00Z",
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
            Self::Set(_) => "an array",
            Self::Record(_) => "an object",
        }
    }
}

/// The members of an object, each once.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Once)
    }
}

struct Once;

impl<'de> Visitor<'de> for Once {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands there twice"));
            }
        }
        Ok(Members(members))
    }
}
