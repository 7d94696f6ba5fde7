//! What a configuration may not be.

use countersign_model::id::UpstreamId;

use super::{FrontConfig, UpstreamConfig, Url};

#[test]
fn urls_are_checked() {
    for (text, tls, host, port, path) in [
        ("http://localhost", false, "localhost", 80, "/"),
        ("https://h.example/mcp", true, "h.example", 443, "/mcp"),
        ("http://127.0.0.1:8080/mcp?a=b", false, "127.0.0.1", 8080, "/mcp?a=b"),
        ("http://[::1]:99/x", false, "::1", 99, "/x"),
    ] {
        let url = Url::new(text).unwrap();
        assert_eq!((url.tls, url.host.as_str(), url.port, url.path.as_str()), (tls, host, port, path), "{text}");
    }
    for text in [
        "",
        "localhost",
        "/mcp",
        "ftp://h/",
        "http://",
        "http://u:p@h/",
        "http://h/#x",
        "http://h:99999/",
        "http://h:x/",
    ] {
        assert!(Url::new(text).is_err(), "{text}");
    }
}

#[test]
fn children_are_checked() {
    let id = || UpstreamId::new("u").unwrap();
    assert!(UpstreamConfig::stdio(id(), "", vec![], vec![], None).is_err());
    for name in ["", "A=B", "A\0"] {
        let env = vec![(name.to_owned(), "x".to_owned())];
        assert!(UpstreamConfig::stdio(id(), "cat", vec![], env, None).is_err(), "{name:?}");
    }
}

#[test]
fn hosts_and_origins_are_checked() {
    let front = || FrontConfig::new("127.0.0.1:0".parse().unwrap());
    for origin in ["https://a.example", "http://localhost:3000", "HTTPS://A.example"] {
        assert!(front().with_origins(&[origin.to_owned()]).is_ok(), "{origin}");
    }
    for origin in ["", "*", "null", "a.example", "https://a.example/", "https://a.example/x"] {
        assert!(front().with_origins(&[origin.to_owned()]).is_err(), "{origin}");
    }
    for host in ["", "*", "a:80", "a/b", "[::1]"] {
        assert!(front().with_hosts(&[host.to_owned()]).is_err(), "{host}");
    }
    assert!(front().with_hosts(&["gate-1.internal".to_owned()]).is_ok());
}
