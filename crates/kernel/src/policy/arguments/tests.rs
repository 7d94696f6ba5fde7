//! From schemas and arguments to what Cedar is told, whole: through a bundle, and as a law over random schemas.

use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::{Effect, Facts};
use countersign_model::record::Evaluation;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ATTRIBUTES_MAX, ArgumentTypes, DEPTH_MAX, ITEMS_MAX, quoted};
use crate::policy::schema::schema_text;
use crate::policy::{Bundle, EvaluationRequest, PolicySource, ToolDef};
use crate::tests::fixture;

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

/// A bundle whose one tool `crm/pay` has this schema.
fn source(schema: &Value, policy: &str) -> PolicySource {
    let named = |tool: &str| ToolDef::named("crm".parse().unwrap(), tool.parse().unwrap());
    let pay = ToolDef { input_schema: Some(schema.to_string()), ..named("pay") };
    PolicySource {
        policies: vec![("main.cedar".to_owned(), policy.to_owned())],
        tools: vec![pay, named("query")],
        ..fixture::source()
    }
}

fn asked(tool: &str, arguments: &str) -> EvaluationRequest {
    EvaluationRequest {
        agent: "shop".parse().unwrap(),
        depth: 0,
        point: Point::Mcp,
        upstream: "crm".parse().unwrap(),
        tool: tool.parse().unwrap(),
        target: "crm".parse().unwrap(),
        environment: "production".parse().unwrap(),
        facts: Facts::declared(Effect::Write),
        leases: vec![],
        token_expires: fixture::START,
        now: TimeMs(fixture::START.0),
        history: Default::default(),
        arguments: arguments.as_bytes().to_vec(),
    }
}

/// What policy says to a call: `yes`, `no`, or the first error.
fn answer(schema: &Value, condition: &str, arguments: &str) -> String {
    let policy = format!(
        "@id(\"a\") permit (principal, action == Action::\"crm/pay\", resource) when {{ context has args && {condition} }};"
    );
    let bundle = Bundle::load(&source(schema, &policy)).unwrap_or_else(|error| panic!("{schema}: {error}"));
    said(&bundle.evaluate(&asked("pay", arguments)))
}

fn said(evaluation: &Evaluation) -> String {
    match (evaluation.errors.items.first(), evaluation.auto) {
        (Some(error), _) => format!("error: {error}"),
        (None, true) => "yes".to_owned(),
        (None, false) => "no".to_owned(),
    }
}

/// `arguments` under `schema` make `condition` true; and each of `wrong` is an error that says `why`.
fn check(schema: &Value, condition: &str, arguments: &str, (wrong, why): (&[&str], &str)) {
    assert_eq!(answer(schema, condition, arguments), "yes", "{condition} of {arguments}");
    for wrong in wrong {
        let said = answer(schema, condition, wrong);
        assert!(said.starts_with("error: ") && said.contains(why), "{wrong}: wanted `{why}`, got {said}");
    }
}

#[test]
fn texts_and_truths() {
    let schema = object(&json!({"to": {"type": "string"}, "now": {"type": "boolean"}}), &["to"]);
    check(
        &schema,
        r#"context.args.to == "a\"b""#,
        r#"{"to":"a\"b"}"#,
        (&[r#"{"to":1}"#, r#"{"to":null}"#], "`/to` is not a text"),
    );
    let why = "`/now` is not true or false";
    check(
        &schema,
        "(context.args has now) && context.args.now",
        r#"{"now":true,"to":""}"#,
        (&[r#"{"now":"true","to":""}"#], why),
    );
    check(&schema, "!(context.args has now)", r#"{"to":""}"#, (&["{}"], "`/to` is missing"));
    check(&schema, "true", r#"{"to":"","other":[{}]}"#, (&["[]", "1", "{", r#"{"to":"","to":"b"}"#], "not an object"));
    let listed = object(&json!({"mode": {"enum": ["fast", "slow"]}, "level": {"enum": [1, 2]}}), &["mode", "level"]);
    check(
        &listed,
        r#"context.args.mode == "slow" && context.args.level > 1"#,
        r#"{"level":2,"mode":"slow"}"#,
        (&[], ""),
    );
}

#[test]
fn whole_numbers_are_exact_or_errors() {
    let schema = object(&json!({"n": {"type": "integer"}}), &["n"]);
    let why = "`/n` is not a whole number of 64 bits";
    let wrong = [r#"{"n":9223372036854775808}"#, r#"{"n":1.5}"#, r#"{"n":"1"}"#, r#"{"n":1e400}"#, r#"{"n":[1]}"#];
    check(&schema, "context.args.n == 9223372036854775807", r#"{"n":9223372036854775807}"#, (&wrong, why));
    check(&schema, "context.args.n == -9223372036854775808", r#"{"n":-9223372036854775808}"#, (&[], ""));
    check(&schema, "context.args.n == 1000", r#"{"n":1.0e3}"#, (&[], ""));
    check(&schema, "context.args.n == 0", r#"{"n":-0}"#, (&[r#"{"n":1e99999999999999999999}"#], why));
    // What a policy computes with it can overflow, and that is an error too.
    let said = answer(&schema, "context.args.n + 1 > 0", r#"{"n":9223372036854775807}"#);
    assert!(said.starts_with("error: "), "{said}");
}

#[test]
fn numbers_are_decimals_with_four_places() {
    let schema = object(&json!({"amount": {"type": "number"}}), &["amount"]);
    let why = "`/amount` is not a number that four decimal places can hold";
    let wrong =
        [r#"{"amount":0.00001}"#, r#"{"amount":922337203685477.5808}"#, r#"{"amount":"100"}"#, r#"{"amount":1e30}"#];
    check(&schema, r#"context.args.amount == decimal("100.0")"#, r#"{"amount":100}"#, (&wrong, why));
    for (spelled, cedar) in [
        ("99.99", "99.99"),
        ("-0.5", "-0.5"),
        ("0.00010", "0.0001"),
        ("12.5e1", "125.0"),
        ("1E-4", "0.0001"),
        ("922337203685477.5807", "922337203685477.5807"),
        ("-922337203685477.5808", "-922337203685477.5808"),
        ("0e999999", "0.0"),
        ("100.000000000", "100.0"),
    ] {
        let condition = format!("context.args.amount == decimal(\"{cedar}\")");
        check(&schema, &condition, &format!("{{\"amount\":{spelled}}}"), (&[], ""));
    }
}

#[test]
fn dates_and_times() {
    let schema = object(
        &json!({"day": {"type": "string", "format": "date"}, "at": {"type": "string", "format": "date-time"}}),
        &[],
    );
    let day = r#"context.args has day && context.args.day < datetime("2026-12-01")"#;
    let wrong =
        [r#"{"day":"21.11.2026"}"#, r#"{"day":"2026-11-21T00:00:00Z"}"#, r#"{"day":"tomorrow"}"#, r#"{"day":1}"#];
    check(&schema, day, r#"{"day":"2026-11-21"}"#, (&wrong, "`/day` is not a date"));
    assert!(answer(&schema, day, r#"{"day":"2026-02-30"}"#).starts_with("error: "), "no such day");
    let at = r#"context.args has at && context.args.at == datetime("2026-11-21T20:45:00.120Z")"#;
    let wrong =
        [r#"{"at":"2026-11-21T20:45:00"}"#, r#"{"at":"2026-11-21 20:45:00Z"}"#, r#"{"at":"2026-11-21T20:45:00.Z"}"#];
    check(&schema, at, r#"{"at":"2026-11-21T20:45:00.12Z"}"#, (&wrong, "`/at` is not a time"));
    check(&schema, at, r#"{"at":"2026-11-21t22:45:00.1209+02:00"}"#, (&[], ""));
    check(&schema, at, r#"{"at":"2026-11-21T20:45:00.120-00:00"}"#, (&[], ""));
}

#[test]
fn addresses_have_one_spelling() {
    let schema = object(
        &json!({"four": {"type": "string", "format": "ipv4"}, "six": {"type": "string", "format": "ipv6"}}),
        &[],
    );
    let private = r#"context.args has six && context.args.six.isInRange(ip("10.0.0.0/8"))"#;
    check(&schema, private, r#"{"six":"::ffff:10.1.2.3"}"#, (&[r#"{"six":"10.1.2.3"}"#], "`/six` is not an IPv6"));
    check(&schema, private, r#"{"six":"::ffff:a01:203"}"#, (&[r#"{"four":"010.1.2.3"}"#], "`/four` is not an IPv4"));
    check(&schema, r#"context.args.six == ip("::1")"#.replace("context.args.six", "context.args has six && context.args.six").as_str(), r#"{"six":"0:0::1"}"#, (&[], ""));
}

#[test]
fn arrays_are_sets() {
    let schema = object(&json!({"ids": {"type": "array", "items": {"type": "integer"}}}), &["ids"]);
    let wrong = [r#"{"ids":[1,"2"]}"#, r#"{"ids":[1,null]}"#];
    check(
        &schema,
        "context.args.ids.containsAll([1, 2])",
        r#"{"ids":[1,2,3]}"#,
        (&wrong, "`/ids` is not a whole number"),
    );
    check(&schema, "context.args.ids.isEmpty()", r#"{"ids":[]}"#, (&[r#"{"ids":{}}"#], "`/ids` is not an array"));
    let many = vec!["7"; ITEMS_MAX + 1].join(",");
    assert!(answer(&schema, "true", &format!("{{\"ids\":[{many}]}}")).contains("more than"));
}

#[test]
fn nested_objects_are_records() {
    let money = object(&json!({"value": {"type": "number"}, "currency": {"type": "string"}}), &["value"]);
    let schema = object(&json!({"price": money, "note": {"type": ["string", "null"]}}), &["price", "note"]);
    let condition = r#"context.args.price.value.lessThan(decimal("10.0")) && !(context.args has note)"#;
    let wrong = [r#"{"note":null,"price":{"value":"9"}}"#];
    check(&schema, condition, r#"{"note":null,"price":{"value":9.5}}"#, (&wrong, "`/price/value` is not a number"));
    check(
        &schema,
        "true",
        r#"{"note":"x","price":{"value":1}}"#,
        (&[r#"{"note":null,"price":7}"#], "`/price` is not an object"),
    );
    let types = ArgumentTypes::read(&schema.to_string()).unwrap();
    let shown: Vec<_> = types.shown().into_iter().map(|s| format!("{} {} {}", s.path, s.kind, s.required)).collect();
    assert_eq!(shown, ["/note String false", "/price/currency String false", "/price/value decimal true"]);
}

#[test]
fn references_and_alternatives_with_one_type() {
    let schema = json!({
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/count"},
            "b": {"anyOf": [{"$ref": "#/$defs/count"}, {"type": "null"}]},
            "c": {"allOf": [{"$ref": "#/$defs/count"}], "description": "x"},
            "d": {"oneOf": [{"type": "null"}, {"type": "string"}]},
            "e": {"type": "integer", "nullable": true},
        },
        "required": ["a", "b", "c", "d", "e"],
        "$defs": {"count": {"type": "integer"}},
    });
    let condition = "context.args.a + context.args.c == 3 && !(context.args has b) && !(context.args has e)";
    check(
        &schema,
        condition,
        r#"{"a":1,"b":null,"c":2,"d":null,"e":null}"#,
        (&[r#"{"a":null,"b":1,"c":2,"d":"","e":1}"#], "`/a` is not"),
    );
}

/// What is left out of a schema, as `PATH: WHY` lines.
fn left_out(schema: &Value) -> Vec<String> {
    let types = ArgumentTypes::read(&schema.to_string()).unwrap();
    types.left_out().iter().map(|left| format!("{}: {}", left.path, left.why)).collect()
}

#[test]
fn what_cannot_be_typed_is_left_out_and_said() {
    let schema = json!({
        "type": "object",
        "properties": {
            "any": {},
            "array": {"type": "array"},
            "both": {"type": ["integer", "string"]},
            "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "far": {"$ref": "https://example.com/schema"},
            "gone": {"$ref": "#/$defs/gone"},
            "loop": {"$ref": "#/$defs/loop"},
            "many": {"allOf": [{"type": "string"}, {"minLength": 1}]},
            "map": {"type": "object", "additionalProperties": true},
            "mixed": {"enum": ["a", 1]},
            "never": false,
            "null": {"type": "null"},
            "ok": {"type": "string"},
            "rows": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
            "table": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
            "tuple": {"type": "array", "prefixItems": [{"type": "string"}]},
        },
        "$defs": {"loop": {"$ref": "#/$defs/loop"}},
    });
    expect_test::expect![[r#"
        /any: any value is allowed
        /array: an array of anything
        /both: one of several types (integer, string)
        /either: one of several types (`anyOf`)
        /far: it refers to a schema that is not inside this one
        /gone: it refers to a schema that is not inside this one
        /loop: more than 16 references lead to it
        /many: several schemas at once (`allOf`)
        /map: an object without declared properties
        /mixed: one of several types (integer, string)
        /never: no value is allowed
        /null: it is always `null`
        /rows: an array of objects
        /table: an array of arrays
        /tuple: an array whose places have their own types"#]]
    .assert_eq(&left_out(&schema).join("\n"));
    assert_eq!(answer(&schema, "context.args has ok", r#"{"any":[{}],"ok":"x","rows":[{"x":1}]}"#), "yes");
}

#[test]
fn a_schema_without_readable_arguments_gives_no_args() {
    for schema in [json!({"type": "object"}), json!(true), json!({"type": "string"}), object(&json!({"x": {}}), &[])] {
        assert!(!left_out(&schema).is_empty(), "{schema}");
        let bundle = Bundle::load(&source(&schema, r#"@id("a") permit (principal, action, resource);"#)).unwrap();
        assert_eq!(said(&bundle.evaluate(&asked("pay", "[]"))), "yes", "{schema}");
    }
    assert!(ArgumentTypes::read("{").is_err());
    let mut unreadable = source(&json!({}), "");
    unreadable.tools[0].input_schema = Some("{".to_owned());
    let error = Bundle::load(&unreadable).unwrap_err().to_string();
    assert!(error.contains("`crm/pay` cannot be read"), "{error}");
}

#[test]
fn hostile_schemas_stay_small() {
    let properties: serde_json::Map<String, Value> =
        (0..ATTRIBUTES_MAX + 5).map(|n| (format!("p{n:03}"), json!({"type": "string"}))).collect();
    let types = ArgumentTypes::read(&object(&Value::Object(properties), &[]).to_string()).unwrap();
    assert_eq!((types.shown().len(), types.left_out().len()), (ATTRIBUTES_MAX, 5));

    let mut deep = json!({"type": "string"});
    for _ in 0..DEPTH_MAX + 3 {
        deep = object(&json!({"a": deep, "s": {"type": "string"}}), &[]);
    }
    let types = ArgumentTypes::read(&deep.to_string()).unwrap();
    assert_eq!(types.shown().len(), DEPTH_MAX);
    assert!(types.left_out()[0].why.contains("levels deep"), "{:?}", types.left_out());

    let wide: serde_json::Map<String, Value> = (0..40).map(|n| (format!("p{n}"), json!({"$ref": "#"}))).collect();
    let types = ArgumentTypes::read(&object(&Value::Object(wide), &[]).to_string()).unwrap();
    assert!(types.shown().is_empty() && types.left_out().len() < 2_000, "{}", types.left_out().len());
}

/// A name that looks like Cedar is a name and nothing else.
#[test]
fn names_cannot_leave_their_quotes() {
    let name = r#"x"?: Long }; action "call/all"; type T = { "y"#;
    let schema =
        object(&json!({name: {"type": "string"}, "naïve ключ": {"type": "integer"}, "": {"type": "boolean"}}), &[name]);
    let condition = format!("context.args[{}] == \"v\"", quoted(name));
    let arguments = json!({name: "v", "naïve ключ": 1, "": true}).to_string();
    check(&schema, &condition, &arguments, (&["{}"], "is missing"));
}

#[test]
fn equal_schemas_share_a_type_and_other_tools_have_no_args() {
    let schema = object(&json!({"to": {"type": "string"}}), &["to"]);
    let mut many = source(&schema, "");
    for name in ["send", "post"] {
        many.tools.push(ToolDef { tool: name.parse().unwrap(), ..many.tools[0].clone() });
    }
    let text = schema_text(&many);
    assert_eq!(text.matches("type Args").count(), 1, "{text}");
    assert_eq!(text.matches("context: Facts1 }").count(), 3, "{text}");
    let policy =
        r#"@id("a") permit (principal, action == Action::"crm/query", resource) when { context.args.to == "x" };"#;
    let error = Bundle::load(&source(&schema, policy)).unwrap_err().to_string();
    assert!(error.contains("args"), "{error}");
}

#[test]
fn arguments_that_are_not_known_are_not_there() {
    let schema = object(&json!({"to": {"type": "string"}}), &["to"]);
    assert_eq!(answer(&schema, "true", ""), "no");
}

/// A schema, an instance of it, and whether that instance is one that we type.
fn sample() -> impl Strategy<Value = (Value, Value)> {
    let text = any::<String>().prop_map(|text| (json!({"type": "string"}), json!(text)));
    let whole = any::<i64>().prop_map(|n| (json!({"type": "integer"}), json!(n)));
    let number = (any::<i32>(), 0..4_u32).prop_map(|(n, places)| {
        let spelled = format!("{}e-{places}", n);
        (json!({"type": "number"}), serde_json::from_str(&spelled).unwrap())
    });
    let flag = any::<bool>().prop_map(|flag| (json!({"type": "boolean"}), json!(flag)));
    let day = (1..9999_u16, 1..13_u8, 1..29_u8)
        .prop_map(|(y, m, d)| (json!({"type": "string", "format": "date"}), json!(format!("{y:04}-{m:02}-{d:02}"))));
    let time = (0..24_u8, 0..60_u8, 0..1000_u16).prop_map(|(h, m, ms)| {
        (json!({"type": "string", "format": "date-time"}), json!(format!("2026-11-21T{h:02}:{m:02}:00.{ms:03}+01:30")))
    });
    let address = any::<[u8; 4]>()
        .prop_map(|ip| (json!({"type": "string", "format": "ipv4"}), json!(std::net::Ipv4Addr::from(ip).to_string())));
    let nullable = any::<Option<bool>>().prop_map(|flag| (json!({"type": ["boolean", "null"]}), json!(flag)));
    let opaque = any::<bool>().prop_map(|flag| (json!({}), json!({"deep": [flag]})));
    let leaf = prop_oneof![text, whole, number, flag, day, time, address, nullable, opaque];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let members = prop::collection::btree_map(any::<String>(), (inner.clone(), any::<bool>(), any::<bool>()), 0..6);
        let object = members.prop_map(|members| {
            let mut properties = serde_json::Map::new();
            let (mut required, mut value) = (Vec::new(), serde_json::Map::new());
            for (name, ((schema, instance), is_required, is_there)) in members {
                if is_required {
                    required.push(name.clone());
                }
                if is_required || is_there {
                    value.insert(name.clone(), instance);
                }
                properties.insert(name, schema);
            }
            (json!({"type": "object", "properties": properties, "required": required}), Value::Object(value))
        });
        let array = inner
            .prop_map(|(schema, instance)| (json!({"type": "array", "items": schema}), json!([instance, instance])));
        prop_oneof![2 => object, 1 => array]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Cedar takes every instance of every schema: the request passes the check against the schema that we wrote.
    #[test]
    fn conforming_arguments_are_accepted(members in prop::collection::btree_map(any::<String>(), sample(), 0..6)) {
        let (schemas, values): (serde_json::Map<_, _>, serde_json::Map<_, _>) =
            members.into_iter().map(|(name, (schema, value))| ((name.clone(), schema), (name, value))).unzip();
        let names: Vec<String> = schemas.keys().cloned().collect();
        let schema = json!({"type": "object", "properties": schemas, "required": names});
        let bundle = Bundle::load(&source(&schema, r#"@id("a") permit (principal, action, resource);"#)).unwrap();
        let arguments = Value::Object(values).to_string();
        prop_assert_eq!(said(&bundle.evaluate(&asked("pay", &arguments))), "yes", "{} {}", schema, arguments);
    }

    /// Arguments of one schema under another are an answer or an error, never a panic, and never an allow beside an error.
    #[test]
    fn other_arguments_never_panic((schema, _) in sample(), (_, value) in sample(), raw in any::<String>()) {
        let schema = object(&json!({"x": schema}), &["x"]);
        let bundle = Bundle::load(&source(&schema, r#"@id("a") permit (principal, action, resource);"#)).unwrap();
        let typed = !ArgumentTypes::read(&schema.to_string()).unwrap().shown().is_empty();
        for arguments in [json!({"x": value}).to_string(), raw] {
            said(&bundle.evaluate(&asked("pay", &arguments)));
        }
        let missing = said(&bundle.evaluate(&asked("pay", "{}")));
        prop_assert_eq!(missing.contains("is missing"), typed, "{}", missing);
    }
}
