use proptest::prelude::*;

use super::host;

fn is(text: &str, expected: &str) {
    assert_eq!(host(text).as_deref().map_err(ToString::to_string), Ok(expected), "{text}");
}

fn opaque(text: &str) {
    assert!(host(text).is_err(), "{text}: {:?}", host(text));
}

#[test]
fn one_host_has_one_spelling() {
    for text in [
        "example.com",
        "Example.COM",
        "example.com.",
        "example.com:443",
        "https://example.com",
        "HTTPS://EXAMPLE.com:8443/a/b?c=d#e",
        "https://example.com?to=a:b",
        "https://example.com/@else.where",
        "ssh://example.com/x",
    ] {
        is(text, "example.com");
    }
    is("https://xn--bcher-kva.example/", "xn--bcher-kva.example");
    is("my_service", "my_service");
}

#[test]
fn addresses_are_brought_into_one_form() {
    let loopback = [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7F.0.0.1",
        "2130706433",
        "0x7f000001",
        "http://127.0.0.1:80/",
        "127.0.0.1.",
    ];
    for text in loopback {
        is(text, "127.0.0.1");
    }
    for text in [
        "::ffff:10.0.0.1",
        "::ffff:a00:1",
        "[::ffff:10.0.0.1]:80",
        "http://[::FFFF:10.0.0.1]/",
        "::10.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:a00:1::",
        "::ffff:0:10.0.0.1",
    ] {
        is(text, "10.0.0.1");
    }
    is("[2001:DB8:0:0::1]", "2001:db8::1");
    is("::1", "::1");
    is("[::]", "::");
}

#[test]
fn what_two_readers_take_differently_is_opaque() {
    for text in [
        "",
        ".",
        "https://",
        "https:///example.com",
        "https:example.com",
        "//example.com",
        "example.com/path",
        "https://good.example@evil.example/",
        "https://good.example:80@evil.example/",
        "https://good.example%40evil.example/",
        "https://%65vil.example/",
        "https://good.example\\@evil.example/",
        "https://evil.example\\.good.example/",
        "https://evil.example?@good.example/",
        "https://evil.example#@good.example/",
        "https://good.example\t.evil.example/",
        "https://good.example\n/",
        " https://good.example",
        "https://good.example .evil.example",
        "https://good.example:port/",
        "https://good.example:/",
        "https://good.example:+80/",
        "https://good.example:70000/",
        "https://good.example;evil.example/",
        "https://good.example,evil.example/",
        "ht tps://good.example/",
        "a/b?u=http://good.example/",
        "good..example",
        "good.example..",
        "-good.example",
        "good-.example",
        "ex\u{430}mple.com",
        "ｅxample.com",
        "example。com",
        "１２７.0.0.1",
        "exam\u{ad}ple.com",
        "0177.0.0.1",
        "127.0.0.01",
        "0x",
        "0x7g.1",
        "1.2.3.4.5",
        "256.1.1.1",
        "1.2.3.256",
        "4294967296",
        "foo.1",
        "foo.0x1",
        "0x+7f.1",
        "[127.0.0.1]",
        "[::1",
        "[::1]x",
        "[fe80::1%eth0]",
        "fe80::1%25eth0",
        "1::2::3",
        "a:b:c",
    ] {
        opaque(text);
    }
    opaque(&format!("{}.example", "a".repeat(64)));
    opaque(&vec!["abcdefg"; 17].join("."));
    opaque(&format!("https://example.com/{}", "a".repeat(9_000)));
}

proptest! {
    /// What comes out is a fixed point, and none of the characters that deceive is left in it.
    #[test]
    fn a_canonical_host_is_its_own_host(text in "(https?://)?[a-zA-Z0-9.:x@/\\[\\]%\\\\?#-]{0,30}") {
        if let Ok(found) = host(&text) {
            prop_assert_eq!(host(&found), Ok(found.clone()));
            prop_assert!(!found.bytes().any(|byte| byte.is_ascii_uppercase() || b"@/\\%[]?# ".contains(&byte)), "{}", found);
        }
    }

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = host(&text);
        let _ = host(&format!("https://{text}"));
    }

    /// The standard library reads four plain numbers as we do.
    #[test]
    fn plain_addresses_are_what_they_are(address in any::<std::net::Ipv4Addr>()) {
        prop_assert_eq!(host(&address.to_string()), Ok(address.to_string()));
        prop_assert_eq!(host(&format!("{}", u32::from(address))), Ok(address.to_string()));
        prop_assert_eq!(host(&format!("[{}]", address.to_ipv6_mapped())), Ok(address.to_string()));
    }
}
