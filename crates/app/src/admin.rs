//! The command line's side of the admin plane and of the kill plane.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use countersign_console::wire;
use countersign_model::command::{Deed, Signed};
use countersign_model::{Digest, to_canonical};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use crate::keys::HumanKey;
use crate::terminal::{denied, usage};

const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A way to the gateway of one installation.
pub(crate) struct Admin {
    socket: PathBuf,
}

impl Admin {
    /// The admin plane behind `socket`.
    pub(crate) const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Asks for something.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let body = self.send(Method::GET, path, Vec::new()).await?;
        serde_json::from_slice(&body).context("the gateway answered in a form that this version does not know")
    }

    /// Asks for bytes.
    pub(crate) async fn get_bytes(&self, path: &str) -> Result<Bytes> {
        self.send(Method::GET, path, Vec::new()).await
    }

    /// Hands something in.
    pub(crate) async fn post<B: serde::Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T> {
        let body = self.send(Method::POST, path, serde_json::to_vec(body)?).await?;
        serde_json::from_slice(&body).context("the gateway answered in a form that this version does not know")
    }

    /// Has `key` sign `deed` against a fresh challenge and hands it in.
    pub(crate) async fn command(&self, key: &HumanKey, deed: Deed) -> Result<wire::Recorded> {
        let challenge: wire::Challenge = self.post("/challenge", &()).await?;
        let bytes = STANDARD.decode(&challenge.challenge).context("the challenge is no base64")?;
        let digest = Digest(bytes.try_into().map_err(|_| anyhow::anyhow!("the challenge has not 32 bytes"))?);
        self.submit(&key.command(&challenge.log, digest, deed)?).await
    }

    /// Hands in a signed command.
    pub(crate) async fn submit(&self, signed: &Signed) -> Result<wire::Recorded> {
        let signed = wire::Signed { signed: STANDARD.encode(to_canonical(signed)?) };
        self.post("/command", &signed).await
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Bytes> {
        let stream = tokio::net::UnixStream::connect(&self.socket).await.with_context(|| {
            format!("no gateway answers at `{}`; start it with `countersign up`", self.socket.display())
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "countersign")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let answer = tokio::time::timeout(Duration::from_secs(60), sender.send_request(request))
            .await
            .context("the gateway did not answer within 60 s")??;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("the gateway's answer broke off: {error}"))?
            .to_bytes();
        if status.is_success() {
            return Ok(body);
        }
        let said = serde_json::from_slice::<wire::Refusal>(&body)
            .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |refusal| refusal.error);
        let said =
            if said.is_empty() { format!("the gateway answered `{path}` with HTTP status {status}") } else { said };
        Err(match status {
            StatusCode::FORBIDDEN => denied(said),
            StatusCode::BAD_REQUEST => usage(said),
            _ => anyhow::anyhow!(said),
        })
    }
}

/// Says one line to the kill plane and reads its answer. Uses no runtime: it must work when little else does.
pub(crate) fn kill_plane(socket: &Path, order: &str) -> Result<serde_json::Value> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("no gateway answers at `{}`", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    writeln!(stream, "{order}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: serde_json::Value = serde_json::from_str(&line).context("the kill plane's answer is cut short")?;
    if let Some(error) = answer.get("error") {
        bail!("{error}");
    }
    Ok(answer)
}
