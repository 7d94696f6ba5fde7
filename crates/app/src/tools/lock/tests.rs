//! A list is written so that it reads back to the very bytes, and so that no part of it can be changed alone.

use bytes::Bytes;
use countersign_points::mcp::Survey;
use expect_test::expect;

use super::Lock;

const ODD: &str = r#"{"description": "caf\u00e9", "name":"odd"}"#;

fn lock(tools: &[(&str, &str)]) -> Lock {
    let tools = tools.iter().map(|(name, raw)| (name.parse().unwrap(), Bytes::copy_from_slice(raw.as_bytes())));
    let (name, version) = ("srv".to_owned(), "1.0".to_owned());
    Lock::of(Survey { name, version, instructions: String::new(), tools: tools.collect() })
}

fn written() -> (Lock, String) {
    let made = lock(&[
        ("look", r#"{"name":"look","inputSchema":{"type":"object","maximum":1.50,"required":[]}}"#),
        ("odd", ODD),
    ]);
    let text = made.write(&"crm".parse().unwrap()).unwrap();
    (made, text)
}

#[test]
fn it_reads_back_to_the_very_bytes() {
    let (made, text) = written();
    expect![[r#"
        {
          "version": 1,
          "upstream": "crm",
          "server": {
            "name": "srv",
            "version": "1.0",
            "instructions": ""
          },
          "tools": {
            "look": {
              "manifest": "bf0baf376ba8c0f176af50e81cf10c909eb1c315d2f18111c13a2745469e0519",
              "definition": {
                "name": "look",
                "inputSchema": {
                  "type": "object",
                  "maximum": 1.50,
                  "required": []
                }
              }
            },
            "odd": {
              "manifest": "0adea7598da0b27ddd65af3a998f349b67c60c44caaef4c592a6a38aa789ad3e",
              "definition": {
                "description": "café",
                "name": "odd"
              },
              "spelled": "{\"description\": \"caf\\u00e9\", \"name\":\"odd\"}"
            }
          }
        }
    "#]]
    .assert_eq(&text);
    let read = Lock::parse(text.as_bytes(), &"crm".parse().unwrap()).unwrap();
    assert_eq!(read, made);
    assert_eq!(read.tools[&"odd".parse().unwrap()].raw, ODD.as_bytes());
    assert_eq!(
        lock(&[])
            .write(&"crm".parse().unwrap())
            .map(|text| Lock::parse(text.as_bytes(), &"crm".parse().unwrap()).unwrap())
            .unwrap(),
        lock(&[])
    );
}

/// After `from` became `to` it is refused, and `why` says so.
fn check(from: &str, to: &str, why: &str) {
    let (_, text) = written();
    assert!(text.contains(from), "`{from}` is not there");
    let error = Lock::parse(text.replacen(from, to, 1).as_bytes(), &"crm".parse().unwrap()).unwrap_err();
    assert!(format!("{error:#}").contains(why), "wanted `{why}`, got: {error:#}");
}

#[test]
fn no_part_can_be_changed_alone() {
    check("1.50", "1.5", "not the hash of its definition");
    check("\"look\": {", "\"lock\": {", "names another tool");
    check("café", "cafe", "not what its bytes say");
    check("caf\\\\u00e9", "caf\\\\u00e8", "not what its bytes say");
    check("\"upstream\": \"crm\"", "\"upstream\": \"erp\"", "list of upstream `erp`");
    check("\"version\": 1,", "\"version\": 2,", "version 1");
    check("\"required\": []", "\"required\": [],\n\"required\": []", "duplicate key");
    check("\"server\": {", "\"extra\": 1, \"server\": {", "`extra` is not known");
}
