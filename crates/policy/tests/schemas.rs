//! The JSON Schemas against the readers: what we ship fits them, what they name is read, and what is misspelt is not.

#![expect(clippy::expect_used, clippy::panic, reason = "what cannot be set up fails the test")]

use std::collections::{BTreeMap, BTreeSet};

use countersign_kernel::policy::PolicySource;
use countersign_policy::cases::{self, Setting};
use countersign_policy::yaml::{Known, compile};
use countersign_policy::{bundles, schemas};
use serde_json::{Value, json};

fn schema(kind: &str) -> Value {
    serde_json::from_str(schemas::find(kind).expect("a schema")).expect("JSON")
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The part of JSON Schema that ours use. An unknown keyword fails the test, so none goes unchecked.
fn fits(schema: &Value, root: &Value, value: &Value) -> Result<(), String> {
    let schema = schema.as_object().expect("a schema is an object");
    schema.iter().try_for_each(|(word, rule)| keyword(word, rule, (schema, root), value))
}

type Within<'a> = (&'a serde_json::Map<String, Value>, &'a Value);

fn keyword(word: &str, rule: &Value, (schema, root): Within<'_>, value: &Value) -> Result<(), String> {
    let each = |rules: &Value| {
        rules.as_array().expect("schemas").iter().map(|rule| fits(rule, root, value)).collect::<Vec<_>>()
    };
    let need = |holds: bool| if holds { Ok(()) } else { Err(format!("{value} breaks `{word}: {rule}`")) };
    let at_least = |size: Option<usize>| need(size.is_none_or(|size| size as u64 >= rule.as_u64().expect("a number")));
    let at_most = |size: Option<usize>| need(size.is_none_or(|size| size as u64 <= rule.as_u64().expect("a number")));
    let members = value.as_object();
    match word {
        "$schema" | "$id" | "$defs" | "title" | "description" => Ok(()),
        "$ref" => fits(
            root.pointer(rule.as_str().expect("a reference").trim_start_matches('#')).expect("a definition"),
            root,
            value,
        ),
        "anyOf" => need(each(rule).iter().any(Result::is_ok)).map_err(|error| format!("{error}: {:?}", each(rule))),
        "oneOf" => need(each(rule).iter().filter(|fit| fit.is_ok()).count() == 1),
        "type" => need(match rule.as_str().expect("a type") {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            other => panic!("the type {other} is not checked"),
        }),
        "enum" => need(rule.as_array().expect("a list").contains(value)),
        "const" => need(rule == value),
        "required" => need(members.is_none_or(|all| {
            rule.as_array().expect("a list").iter().all(|key| all.contains_key(key.as_str().expect("a key")))
        })),
        "properties" => members.into_iter().flatten().try_for_each(|(key, value)| match rule.get(key) {
            Some(rule) => fits(rule, root, value).map_err(|error| format!("{key}: {error}")),
            None => Ok(()),
        }),
        "additionalProperties" => {
            let named = schema.get("properties").and_then(Value::as_object);
            let others =
                members.into_iter().flatten().filter(|(key, _)| named.is_none_or(|named| !named.contains_key(*key)));
            for (key, value) in others {
                match rule {
                    Value::Bool(true) => {}
                    Value::Bool(false) => return Err(format!("`{key}` is not known")),
                    rule => fits(rule, root, value).map_err(|error| format!("{key}: {error}"))?,
                }
            }
            Ok(())
        }
        "items" => value.as_array().into_iter().flatten().try_for_each(|item| fits(rule, root, item)),
        "minItems" => at_least(value.as_array().map(Vec::len)),
        "minProperties" => at_least(members.map(serde_json::Map::len)),
        "maxProperties" => at_most(members.map(serde_json::Map::len)),
        "minLength" => at_least(value.as_str().map(|text| text.chars().count())),
        "maxLength" => at_most(value.as_str().map(|text| text.chars().count())),
        "minimum" => need(value.as_i64().is_none_or(|number| number >= rule.as_i64().expect("a number"))),
        "pattern" => need(
            value
                .as_str()
                .is_none_or(|text| regex::Regex::new(rule.as_str().expect("a regex")).expect("a regex").is_match(text)),
        ),
        other => panic!("the keyword {other} is not checked"),
    }
}

fn check(kind: &str, name: &str, text: &str) {
    let schema = schema(kind);
    if let Err(error) = fits(&schema, &schema, &yaml(text)) {
        panic!("{name}: {error}");
    }
}

#[test]
fn what_we_ship_fits() {
    for bundle in bundles::ALL {
        check("policy", bundle.name, bundle.policy);
        check("cases", bundle.name, bundle.cases);
    }
    let known = Known { tools: [("crm".to_owned(), "query".to_owned())].into(), ..Known::of(&PolicySource::default()) };
    for text in [
        "actions: [{ name: crm/query, requires_approval: [ann] }, { name: crm/*, effect: deny }]",
        "rules: [{ pattern: 'a*', match: glob, action: allow, notify: true }, { pattern: b, action: deny }]",
        "version: 1\nrules: [{ id: a, tools: [crm/*], when: { amount: '> 1.5', calls: '> 2 in 1h', args: { a.b: '< 3' } }, then: deny }]",
        "version: 1\nrules: [{ id: a, when: { says: count, tables: { outside: [x] }, programs: true }, obligations: { redact: true } }]",
        "version: 1\nbudgets: [{ scope: run, calls: 3, window: 1h }]\npatterns: { p: { regex: x, argument: sql } }",
    ] {
        compile("p.yaml", text, &known).unwrap_or_else(|problems| panic!("{problems}"));
        check("policy", text, text);
    }
}

#[test]
fn what_is_refused_does_not_fit_either() {
    let known = Known::of(&PolicySource::default());
    let schema = schema("policy");
    for text in [
        "version: 2\nrules: [{ id: a, then: deny }]",
        "version: 1\nrules: [{ id: a, then: allw }]",
        "version: 1\nrules: [{ then: deny }]",
        "version: 1\nrules: [{ id: a }]",
        "version: 1\nrules: [{ id: a b, then: deny }]",
        "version: 1\nrules: [{ id: a, tool: x, then: deny }]",
        "version: 1\nrules: [{ id: a, when: {}, then: deny }]",
        "version: 1\nrules: [{ id: a, when: { amount: 5 }, then: deny }]",
        "version: 1\nrules: [{ id: a, when: { replicas: '> 2' }, then: deny }]",
        "version: 1\nrules: [{ id: a, when: { calls: '> 2 in 5m' }, then: deny }]",
        "version: 1\nrules: [{ id: a, then: deny, obligations: { undo: false } }]",
        "version: 1\npatterns: { p: { regex: a, glob: b } }",
        "actions: [{ name: x }]",
        "actions: [{ effect: allow }]",
        "rules: [{ pattern: x }]",
        "rules: []",
    ] {
        assert!(compile("p.yaml", text, &known).is_err(), "{text}");
        assert!(fits(&schema, &schema, &yaml(text)).is_err(), "{text}");
    }
}

/// Every key that the schema names for conditions is read, and there are no others.
#[test]
fn conditions_are_the_ones_that_are_read() {
    let named =
        schema("policy").pointer("/$defs/facts/properties").and_then(Value::as_object).expect("properties").clone();
    let named: BTreeSet<&str> = named.keys().map(String::as_str).collect();
    let known = Known::of(&PolicySource::default());
    let problems = compile("p.yaml", "version: 1\nrules: [{ id: a, when: { zzzzzzzz: 1 }, then: deny }]", &known);
    let help = problems.expect_err("an unknown key").problems.remove(0).help;
    let read: BTreeSet<&str> = help.strip_prefix("known are ").expect("a list").split(", ").collect();
    assert_eq!(named, read);
}

#[test]
fn kinds_are_the_ones_of_the_help() {
    let all: Vec<&str> = schemas::ALL.iter().map(|(kind, _)| *kind).collect();
    let error = schemas::find("nope").expect_err("no such kind").to_string();
    assert!(error.ends_with(&all.join(", ")), "{error}");
    for (kind, _) in schemas::ALL {
        assert_eq!(schema(kind)["$schema"], json!("https://json-schema.org/draft/2020-12/schema"));
    }
}

/// Every key that the schema names for cases is read, and there are no others.
#[test]
fn cases_have_the_keys_that_are_read() {
    let source = PolicySource::default();
    let bundle = countersign_kernel::policy::Bundle::load(&source).unwrap_or_else(|error| panic!("{error}"));
    let setting = Setting { bundle: &bundle, source: &source, upstreams: &BTreeMap::new() };
    for (place, text) in [
        ("", "zzzz: 1"),
        ("/$defs/case", "cases: [{ zzzz: 1 }]"),
        ("/$defs/action", "cases: [{ action: { zzzz: 1 } }]"),
        ("/$defs/facts", "cases: [{ facts: { zzzz: 1 } }]"),
        ("/$defs/history", "cases: [{ history: { zzzz: 1 } }]"),
        ("/$defs/recent", "cases: [{ history: { calls: { zzzz: 1 } } }]"),
        ("/$defs/expect", "cases: [{ expect: { zzzz: 1 } }]"),
    ] {
        let schema = schema("cases");
        let named = schema.pointer(&format!("{place}/properties")).and_then(Value::as_object).expect("properties");
        let problem = cases::parse("c.yaml", text, &setting).expect_err("an unknown key").problem;
        let known = problem.split("known are ").nth(1).expect("a list");
        let known: BTreeSet<&str> = known.split(", ").collect();
        assert_eq!(named.keys().map(String::as_str).collect::<BTreeSet<_>>(), known, "{place}");
    }
}
