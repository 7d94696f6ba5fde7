//! Heads of answers: whole, cut, and of forms that are not read.

use super::{Head, read_head};

#[test]
fn a_head_is_read_once_it_is_whole() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nMCP-Session-Id: s\r\n\r\n{}";
    assert_eq!(read_head(&text[..40]).unwrap(), None);
    let start = text.len() - 2;
    let head = Head { status: 200, session: Some("s".to_owned()), body: start..text.len() };
    assert_eq!(read_head(text).unwrap(), Some(head));
}

#[test]
fn an_answer_without_a_length_is_refused() {
    assert!(read_head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    assert!(read_head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().is_some());
    assert!(read_head(b"nonsense\r\n\r\n").is_err());
}
