//! What the upstream and the pass-throughs share: a port of their own, connections, and an end.
//!
//! A part says where it listens in one line of JSON, as the gateway does, and ends when its standard input does, so
//! that none outlives the run. It must not know MCP.

use std::future::Future;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};

/// Serves every connection with `connection` until standard input ends.
pub(crate) async fn serve<C, F>(connection: C) -> Result<()>
where
    C: Fn(TcpStream) -> F,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen on loopback")?;
    println!(r#"{{"url":"http://{}/mcp"}}"#, listener.local_addr()?);
    let (end, mut ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        // Its end and its failure mean the same: nobody is there any more.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = end.send(());
    });
    loop {
        let (stream, _) = tokio::select! {
            _ = &mut ended => return Ok(()),
            accepted = listener.accept() => accepted?,
        };
        stream.set_nodelay(true)?;
        let served = connection(stream);
        tokio::spawn(async move {
            if let Err(error) = served.await {
                eprintln!("countersign-bench: a connection ended: {error:#}");
            }
        });
    }
}
