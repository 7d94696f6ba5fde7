//! The admin plane: HTTP on a Unix socket (mode 0600), apart from the agents' listener.
//!
//! The socket alone is no authority: an agent often runs as the same user. Reading is free to who
//! can open the socket; whatever changes something carries a human's signature that the kernel
//! verifies. Killing has a plane of its own (`gate::kill::plane`). This crate must not know any
//! enforcement point. It does not cover web pages, notifications and metrics yet.

mod routes;
pub mod wire;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use countersign_gate::Gate;
use tokio::net::UnixListener;

/// A bound admin plane.
pub struct Console {
    listener: UnixListener,
    gate: Gate,
}

impl Console {
    /// Binds `path`, which becomes readable and writable by its owner only.
    ///
    /// # Errors
    /// Where the socket cannot be made.
    pub fn bind(path: &Path, gate: Gate) -> std::io::Result<Self> {
        // A socket left by a gateway that was killed is in the way; the ledger's lock says that none runs.
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, gate })
    }

    /// Serves until the future is dropped.
    ///
    /// # Errors
    /// Where accepting fails for good.
    pub async fn serve(self) -> std::io::Result<()> {
        axum::serve(self.listener, routes::router(self.gate)).await
    }
}
