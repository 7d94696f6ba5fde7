//! What travels in headers, and what cannot.

use super::*;

#[test]
fn names_travel_in_headers() {
    for (text, wanted) in [
        ("us-west1", "us-west1"),
        ("", ""),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
    ] {
        assert_eq!(encoded(text), wanted, "{text}");
    }
}

fn shown(request: &Outbound) -> Result<String, String> {
    let made = mirrored(request, "2026-07-28").map_err(|error| error.to_string())?;
    let others: Vec<String> =
        made.others.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
    Ok(format!("{} {}", made.version.to_str().unwrap(), others.join(" ")))
}

#[test]
fn headers_say_what_the_body_says() {
    let of = |method: &'static str, params: &str| Outbound::plain(method, Some(params.to_owned().into()));
    for (request, wanted) in [
        (of("tools/call", r#"{"name":"a"}"#), "2026-07-28 mcp-method=tools/call mcp-name=a"),
        (
            of("resources/read", r#"{"uri":"f:/é","_meta":{"io.modelcontextprotocol/protocolVersion":"2027-01-01"}}"#),
            "2027-01-01 mcp-method=resources/read mcp-name==?base64?Zjovw6k=?=",
        ),
        (of("tools/list", r#"{"name":"a"}"#), "2026-07-28 mcp-method=tools/list"),
        (Outbound::plain("server/discover", None), "2026-07-28 mcp-method=server/discover"),
    ] {
        assert_eq!(shown(&request).unwrap(), wanted);
    }
    let mut with = of("tools/call", r#"{"name":"a"}"#);
    with.param_headers = vec![("Mcp-Param-Region".to_owned(), "eu".to_owned())];
    assert_eq!(shown(&with).unwrap(), "2026-07-28 mcp-method=tools/call mcp-name=a mcp-param-region=eu");
    for (name, value) in [("authorization", "x"), ("mcp-param-a", "x\r\ny: z"), ("mcp param", "x")] {
        with.param_headers = vec![(name.to_owned(), value.to_owned())];
        assert!(shown(&with).is_err(), "{name}");
    }
}
