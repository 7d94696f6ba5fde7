use proptest::prelude::*;

use super::recipients;

fn is(text: &str, domains: &[&str], count: u64) {
    let found = recipients(text).unwrap_or_else(|why| panic!("{text}: {why}"));
    assert_eq!(
        (found.domains.iter().map(String::as_str).collect::<Vec<_>>(), found.count),
        (domains.to_vec(), count),
        "{text}"
    );
}

#[test]
fn the_address_counts_and_the_name_does_not() {
    is("ana@good.example", &["good.example"], 1);
    is("ana@GOOD.example.", &["good.example"], 1);
    is("Ana <ana@good.example>", &["good.example"], 1);
    is("\"x@good.example\" <y@evil.example>", &["evil.example"], 1);
    is("\"Doe, John\" <j@good.example>", &["good.example"], 1);
    is("Ana B. Müller <ana@good.example>", &["good.example"], 1);
    is("a@good.example, \"Doe, John\" <b@other.example>,c@good.example", &["good.example", "other.example"], 3);
    is("a+tag@good.example", &["good.example"], 1);
    is("", &[], 0);
}

#[test]
fn what_two_readers_take_differently_is_opaque() {
    for text in [
        "ana",
        "@good.example",
        "ana@",
        ",",
        "a@good.example,",
        "a@good.example,,b@good.example",
        "a@good.example;b@evil.example",
        "a@good.example b@evil.example",
        "a@good.example\r\nBcc: b@evil.example",
        "a@good.example\0",
        "a@b@evil.example",
        "a@good.example@evil.example",
        "\"a b\"@good.example",
        "a%evil.example@good.example",
        "evil.example!a@good.example",
        "@relay.example:a@good.example",
        "a(comment)@good.example",
        "a@good.example(comment)",
        "Ana (x) <a@good.example>",
        "friends: a@good.example, b@evil.example;",
        "<a@good.example> <b@evil.example>",
        "a@good.example <b@evil.example>",
        "Ana <a@good.example",
        "a@good.example>",
        "\"open <a@good.example>",
        "\"x@good.example, y\" <z@evil.example>",
        "\"<x@good.example>\" <z@evil.example>",
        "\"a\\\" <x@good.example>\" <z@evil.example>",
        "=?utf-8?q?a?= <a@good.example>",
        "a@[10.0.0.1]",
        "a@10.0.0.1",
        "a@0x7f.1",
        "a@good_name.example",
        "a@go\u{430}d.example",
        "a\u{430}@good.example",
        "Ana\u{202e} <a@good.example>",
        "Ana \u{ff1c}a@good.example\u{ff1e} <b@evil.example>",
        ".a@good.example",
        "a..b@good.example",
        "a.@good.example",
    ] {
        assert!(recipients(text).is_err(), "{text:?}: {:?}", recipients(text));
    }
    assert!(recipients(&format!("{}@good.example", "a".repeat(65))).is_err());
}

/// Addresses are personal: what is said of a bad one does not repeat it.
#[test]
fn no_reason_quotes_an_address() {
    for text in ["secretname@", "secretname%x@good.example", "\"secretname", "secretname (x) <a@b.example>"] {
        assert!(!recipients(text).unwrap_err().because.contains("secretname"));
    }
}

proptest! {
    #[test]
    fn lists_add_up(locals in prop::collection::vec("[a-z]{1,5}", 1..6), hosts in prop::collection::vec("[a-z]{1,5}\\.[a-z]{2}", 6)) {
        let all: Vec<String> = locals.iter().zip(&hosts).map(|(l, h)| format!("{l}@{h}")).collect();
        let found = recipients(&all.join(", ")).unwrap();
        prop_assert_eq!(found.count, all.len() as u64);
        prop_assert!(hosts.iter().take(all.len()).all(|host| found.domains.contains(host)));
    }

    /// A plain reader that splits at commas and takes what follows the last `@` never finds a domain that we do not.
    #[test]
    fn a_simple_reader_finds_no_more(text in "[a-c@.,<>\" ;()]{0,24}") {
        if let Ok(found) = recipients(&text) {
            for part in text.split(',').filter(|part| part.contains('@') && !part.contains('"')) {
                let (_, tail) = part.rsplit_once('@').unwrap();
                let domain: String = tail.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
                prop_assert!(found.domains.contains(domain.trim_end_matches('.')), "{text:?} {domain} {found:?}");
            }
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = recipients(&text);
    }
}
