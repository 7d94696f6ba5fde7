//! The JSON Schemas name exactly the keys that are read: of the configuration, of bindings, cases and properties.

use std::collections::BTreeSet;

use countersign_policy::schemas;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::raw;

const UNKNOWN: &str = "zzzz";

/// The keys that stand beside an unknown one, as the reader lists them.
fn read<T: DeserializeOwned>(text: &str) -> BTreeSet<String> {
    assert!(text.contains(UNKNOWN), "{text}");
    let Err(error) = serde_saphyr::from_str::<T>(text) else { panic!("it reads: {text}") };
    let serde_saphyr::Error::SerdeUnknownField { field, expected, .. } = error.without_snippet() else {
        panic!("{error}")
    };
    assert_eq!(field, UNKNOWN);
    expected.iter().map(ToString::to_string).collect()
}

/// The keys that the schema of `kind` names at `place`.
fn named(kind: &str, place: &str) -> BTreeSet<String> {
    let schema: Value = serde_json::from_str(schemas::find(kind).unwrap()).unwrap();
    let at = schema.pointer(&format!("{place}/properties")).and_then(Value::as_object);
    at.unwrap_or_else(|| panic!("{kind} has no {place}")).keys().cloned().collect()
}

fn check<T: DeserializeOwned>(kind: &str, place: &str, text: &str) {
    assert_eq!(named(kind, place), read::<T>(text), "{kind} {place}");
}

#[test]
fn schemas_name_the_keys_of_the_configuration_and_of_bindings() {
    check::<raw::Config>("config", "", "zzzz: 1");
    for (place, text) in [
        ("/properties/ledger", "ledger: {zzzz: 1}"),
        ("/properties/index", "index: {zzzz: 1}"),
        ("/properties/approvals", "approvals: {zzzz: 1}"),
        ("/$defs/agent", "agents: [{zzzz: 1}]"),
        ("/$defs/budget", "budgets: [{zzzz: 1}]"),
        ("/$defs/retention", "retention: [{zzzz: 1}]"),
        ("/$defs/witness", "witnesses: [{zzzz: 1}]"),
        ("/$defs/upstream", "upstreams: [{zzzz: 1}]"),
        ("/$defs/upstream/properties/credential", "upstreams: [{credential: {zzzz: 1}}]"),
        ("/$defs/upstream/properties/limits", "upstreams: [{limits: {zzzz: 1}}]"),
        ("/$defs/tool", "upstreams: [{tools: {t: {zzzz: 1}}}]"),
    ] {
        check::<raw::Config>("config", place, text);
    }
    check::<raw::Bindings>("bindings", "", "zzzz: 1");
    check::<raw::Bindings>("bindings", "/$defs/tool", "tools: {t: {zzzz: 1}}");
}

#[test]
fn schemas_name_the_keys_of_properties() {
    use countersign_prove::PropertyFile;
    check::<PropertyFile>("properties", "", "zzzz: 1");
    check::<PropertyFile>("properties", "/$defs/property", "properties: [{zzzz: 1}]");
    check::<PropertyFile>("properties", "/$defs/scope", "properties: [{never: {zzzz: 1}}]");
    check::<PropertyFile>("properties", "/$defs/when", "properties: [{never: {when: {zzzz: 1}}}]");
}

/// The words for arguments, effects and environments that schemas spell out are those that are known.
#[test]
fn schemas_name_the_kinds_of_arguments_and_effects() {
    let schema: Value = serde_json::from_str(schemas::find("bindings").unwrap()).unwrap();
    let words = |place: &str| -> Vec<String> {
        let all = schema.pointer(place).and_then(Value::as_array).unwrap();
        all.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let tool = "/$defs/tool/properties";
    assert_eq!(words(&format!("{tool}/arguments/additionalProperties/enum")), countersign_effects::ArgumentKind::WORDS);
    let effects: Vec<&str> = countersign_model::Effect::ALL.iter().map(|effect| effect.as_str()).collect();
    assert_eq!(words(&format!("{tool}/effect/enum")), effects);
}
