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
    for (text, socket, path) in
        [("unix:/run/mcp.sock:/mcp", "/run/mcp.sock", "/mcp"), ("unix:/a b/s:/x?y=z", "/a b/s", "/x?y=z")]
    {
        let url = Url::new(text).unwrap();
        assert_eq!((url.socket.unwrap().to_str().unwrap(), url.path.as_str()), (socket, path), "{text}");
        assert_eq!((url.tls, url.authority.as_str()), (false, "localhost"));
    }
    for text in [
        "unix:",
        "unix:/run/mcp.sock",
        "unix:run/mcp.sock:/mcp",
        "unix:/run/mcp.sock:mcp",
        "unix:/run/mcp.sock:",
        "unix:/run/mcp.sock:/mcp#x",
        "unix:/run/mcp.sock:http://h/",
        "unix:/run/\0:/mcp",
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
fn an_endpoint_is_at_the_same_origin() {
    let url = |text: &str| Url::new(text).unwrap();
    for (base, text, wanted) in [
        ("http://h:81/a/sse", "/m?s=1", Some("/m?s=1")),
        ("http://h:81/a/sse", "m?s=1", Some("/a/m?s=1")),
        ("http://h:81/a/sse?x=/y", "m", Some("/a/m")),
        ("http://h:81/a/sse", "http://h:81/m", Some("/m")),
        ("http://h/sse", "http://h:80/m", Some("/m")),
        ("unix:/s:/sse", "/m", Some("/m")),
        ("unix:/s:/sse", "http://localhost/m", Some("/m")),
        ("unix:/s:/sse", "http://other/m", None),
        ("http://h:81/a/sse", "http://h/m", None),
        ("http://h:81/a/sse", "https://h:81/m", None),
        ("http://h:81/a/sse", "http://h:81@evil/m", None),
        ("http://h:81/a/sse", "//evil/m", None),
        ("http://h:81/a/sse", "/m#f", None),
        ("http://h:81/a/sse", "/m\r\nx: y", None),
        ("http://h:81/a/sse", "unix:/s:/m", None),
    ] {
        let found = url(base).beside(text).ok();
        // A text without a scheme that we know is a path.
        let found = found.filter(|found| !found.path.contains("unix:"));
        assert_eq!(found.as_ref().map(|found| found.path.as_str()), wanted, "{base} {text}");
        assert!(found.is_none_or(|found| found.authority == url(base).authority));
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
