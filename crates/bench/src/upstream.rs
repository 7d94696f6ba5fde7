//! The upstream: an MCP server on streamable HTTP with one tool, `echo`, that answers in JSON.
//!
//! It keeps no sessions and offers no stream. It must not know the gateway.

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::install::DEFINITION;

const HANDSHAKE: &str =
    r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"}}"#;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: &'a str,
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    name: Option<&'a str>,
    #[serde(borrow)]
    arguments: Option<Arguments<'a>>,
}

#[derive(Deserialize)]
struct Arguments<'a> {
    #[serde(borrow)]
    text: &'a RawValue,
}

/// Serves until standard input ends.
pub(crate) async fn serve() -> Result<()> {
    crate::serve::serve(|stream| async move {
        http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(handle)).await?;
        Ok(())
    })
    .await
}

async fn handle(request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    if request.method() != Method::POST {
        return empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let body = request.into_body().collect().await?.to_bytes();
    let Ok(message) = serde_json::from_slice::<Message<'_>>(&body) else {
        return empty(StatusCode::BAD_REQUEST);
    };
    let Some(id) = message.id else { return empty(StatusCode::ACCEPTED) };
    let answer = match (message.method, message.params) {
        ("initialize", _) => result(id, HANDSHAKE),
        ("ping", _) => result(id, "{}"),
        ("tools/list", _) => result(id, &format!(r#"{{"tools":[{DEFINITION}]}}"#)),
        ("tools/call", Some(Params { name: Some("echo"), arguments: Some(Arguments { text }) })) => {
            result(id, &format!(r#"{{"content":[{{"type":"text","text":{text}}}],"isError":false}}"#))
        }
        _ => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"not here"}}}}"#),
    };
    let mut response = Response::new(Full::new(Bytes::from(answer)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn result(id: &RawValue, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn empty(status: StatusCode) -> Result<Response<Full<Bytes>>> {
    Ok(Response::builder().status(status).body(Full::default())?)
}
