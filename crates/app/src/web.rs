//! A small HTTP client for what is not an upstream: witnesses, and other logs' published tiles.
//!
//! One connection, kept while the server keeps it. It carries no credential and no action: a submission to a witness is
//! a signed checkpoint, which is public. It must not know what it carries. It does not cover redirects, proxies or HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use countersign_gate::witness::{Courier, Replied, Reply};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// A checked `http://` or `https://` prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    is_tls: bool,
    host: String,
    port: u16,
    authority: String,
    /// Without a slash at its end.
    path: String,
}

impl Url {
    /// Checks a prefix that paths are added to.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || format!("`{}` is no URL; write one such as `https://witness.example.com`", text.escape_debug());
        let uri: Uri = text.parse().with_context(wrong)?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!(wrong()),
        };
        let authority = uri.authority().with_context(wrong)?;
        if authority.as_str().contains('@')
            || uri.query().is_some()
            || text.contains('#')
            || authority.host().is_empty()
        {
            bail!("{}; leave out users, queries and fragments", wrong());
        }
        Ok(Self {
            is_tls,
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

/// A client of one prefix.
pub(crate) struct Client {
    url: Url,
    tls: Option<TlsConnector>,
    open: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Client {
    /// Dials nothing yet.
    pub(crate) fn new(url: Url) -> Result<Self> {
        let tls = if url.is_tls { Some(tls()?) } else { None };
        Ok(Self { url, tls, open: Mutex::new(None) })
    }

    /// One request below the prefix; `path` starts with a slash.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: String) -> Result<Reply> {
        let asked = tokio::time::timeout(ANSWER, self.exchange(method, path, body));
        asked.await.with_context(|| format!("`{}` did not answer within {} s", self.url.authority, ANSWER.as_secs()))?
    }

    async fn exchange(&self, method: Method, path: &str, body: String) -> Result<Reply> {
        let body = Bytes::from(body);
        let mut open = self.open.lock().await;
        // A kept connection may be closed meanwhile: then a new one is dialled, once. Asking twice is harmless here.
        if let Some(mut sender) = open.take()
            && sender.ready().await.is_ok()
            && let Ok(reply) = send(&mut sender, self.request(&method, path, &body)?).await
        {
            *open = Some(sender);
            return Ok(reply);
        }
        let dialled = tokio::time::timeout(CONNECT, self.dial()).await;
        let mut sender = dialled.with_context(|| format!("`{}` cannot be reached in time", self.url.authority))??;
        let reply = send(&mut sender, self.request(&method, path, &body)?).await?;
        *open = Some(sender);
        Ok(reply)
    }

    fn request(&self, method: &Method, path: &str, body: &Bytes) -> Result<Request<Full<Bytes>>> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.url.path));
        Ok(request.header(HOST, &self.url.authority).body(Full::new(body.clone()))?)
    }

    async fn dial(&self) -> Result<SendRequest<Full<Bytes>>> {
        let Url { host, port, authority, .. } = &self.url;
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .with_context(|| format!("`{authority}` cannot be reached"))?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => handshake(stream).await,
            Some(tls) => handshake(tls.connect(ServerName::try_from(host.clone())?, stream).await?).await,
        }
    }
}

impl Courier for Client {
    fn add_checkpoint(&self, body: String) -> Replied<'_> {
        Box::pin(
            async move { self.ask(Method::POST, "/add-checkpoint", body).await.map_err(|error| format!("{error:#}")) },
        )
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
    Ok(sender)
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Result<Reply> {
    let answer = sender.send_request(request).await?;
    let status = answer.status().as_u16();
    let media_type = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?.to_bytes().to_vec();
    Ok(Reply { status, media_type, body })
}

fn tls() -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
