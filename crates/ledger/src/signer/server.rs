//! The signer as a process of its own: one Unix socket, one client at a time.
//!
//! A log has one writer, so there is one client; a second one waits in line until the first hangs up. That keeps the
//! guard without locks and every request without an interleaving to think about. Who may speak is decided by the
//! kernel's word on the peer's user (`SO_PEERCRED`), not by anything that is sent. Whatever is no request ends the
//! connection. It must not know where keys lie. It does not cover a client that is let in and holds the line: it could
//! as well ask for nothing but refusals, and its user is the ledger's.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use countersign_receipt::{Checkpoint, Rotation, VerifierKey};

use super::wire::{Answer, Request, receive, send};
use super::{Guard, PrivateKeys};
use crate::disk::DiskLock;
use crate::error::{OpenError, SignError};
use crate::store::Store;

#[cfg(test)]
mod tests;

/// How long the signer is idle before it syncs its high-water.
const IDLE: Duration = Duration::from_millis(100);
/// How long the high-water may stay unsynced under load.
const UNSYNCED: Duration = Duration::from_secs(1);
/// How long the rest of a begun message, or room for an answer, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which users may speak to a signer. The superuser is not among them unless named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers(Vec<u32>);

impl Peers {
    /// These users; only this process's own if there are none.
    #[must_use]
    pub fn new(uids: &[u32]) -> Self {
        if uids.is_empty() { Self(vec![own_uid()]) } else { Self(uids.to_vec()) }
    }

    fn admits(&self, uid: u32) -> bool {
        self.0.contains(&uid)
    }

    /// Others can connect only if the socket's mode lets them; who they are is asked after that.
    fn mode(&self) -> u32 {
        if self.0 == [own_uid()] { 0o600 } else { 0o666 }
    }
}

/// Why a signer ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket could not be made or used.
    #[error("socket `{}`: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The high-water could not be written.
    #[error("the high-water could not be written")]
    Unwritten,
    /// The high-water could not be synced: what it says on disk is unknown, so nothing is signed any more.
    #[error("the high-water could not be synced: {0}")]
    Sync(io::Error),
}

/// A signer that is ready to serve.
pub struct SignerServer {
    guard: Guard,
    listener: UnixListener,
    path: PathBuf,
    peers: Peers,
    /// Held as long as the process: two signers of one key would be two memories.
    _lock: Box<dyn DiskLock>,
    synced: Instant,
}

impl SignerServer {
    /// Opens the signer in `store`, with `keys`, and listens on `socket`.
    ///
    /// # Errors
    /// [`OpenError`]: in use, the high-water missing or damaged, or no socket to be had.
    pub fn bind(store: &Store, keys: Box<dyn PrivateKeys>, socket: &Path, peers: Peers) -> Result<Self, OpenError> {
        let lock = crate::take_lock(store)?;
        let guard = Guard::open(store, keys)?;
        // The lock is ours, so a socket that lies there is a dead signer's.
        if let Err(error) = std::fs::remove_file(socket)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(OpenError::io("removal", socket)(error));
        }
        let listener = UnixListener::bind(socket).map_err(OpenError::io("creation", socket))?;
        let mode = std::fs::Permissions::from_mode(peers.mode());
        std::fs::set_permissions(socket, mode).map_err(OpenError::io("mode", socket))?;
        Ok(Self { guard, listener, path: socket.to_path_buf(), peers, _lock: lock, synced: Instant::now() })
    }

    /// The key in force.
    #[must_use]
    pub fn verifier_key(&self) -> VerifierKey {
        self.guard.verifier_key()
    }

    /// The confirmed size.
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.guard.confirmed().size
    }

    /// Serves client after client.
    ///
    /// # Errors
    /// [`ServeError`]; the process should end then.
    pub fn serve(mut self) -> Result<(), ServeError> {
        loop {
            let accepted = self.listener.accept();
            let (stream, _) = accepted.map_err(|source| ServeError::Socket { path: self.path.clone(), source })?;
            match peer_uid(&stream) {
                Ok(uid) if self.peers.admits(uid) => self.client(stream)?,
                Ok(uid) => tracing::warn!(uid, "a user that is not allowed was turned away"),
                Err(error) => tracing::warn!(%error, "a peer without a user was turned away"),
            }
        }
    }

    /// Serves one client until it hangs up or says what is no request.
    fn client(&mut self, mut stream: UnixStream) -> Result<(), ServeError> {
        loop {
            if !self.wait(&stream)? {
                return Ok(());
            }
            let request = receive(&mut stream).ok().and_then(|message| Request::decode(&message));
            let Some(request) = request else {
                return self.synced();
            };
            let answer = self.answer(request).unwrap_or_else(Answer::Refused);
            if let Answer::Refused(error) = &answer {
                tracing::warn!(%error, "refused");
            }
            if self.guard.is_broken() {
                return Err(ServeError::Unwritten);
            }
            if send(&mut stream, &answer.encode()).is_err() {
                return self.synced();
            }
            if self.synced.elapsed() >= UNSYNCED {
                self.synced()?;
            }
        }
    }

    /// Waits for the next request; syncs when none comes for a while. False at the end of the connection.
    fn wait(&mut self, stream: &UnixStream) -> Result<bool, ServeError> {
        let socket = |source| ServeError::Socket { path: self.path.clone(), source };
        stream.set_write_timeout(Some(PATIENCE)).map_err(socket)?;
        loop {
            let limit = if self.guard.is_synced() { None } else { Some(IDLE) };
            stream.set_read_timeout(limit).map_err(|source| ServeError::Socket { path: self.path.clone(), source })?;
            match rustix::net::recv(stream, &mut [0_u8; 1][..], rustix::net::RecvFlags::PEEK) {
                Ok((0, _)) => return self.synced().map(|()| false),
                Ok(_) => {
                    let limited = stream.set_read_timeout(Some(PATIENCE));
                    limited.map_err(|source| ServeError::Socket { path: self.path.clone(), source })?;
                    return Ok(true);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => self.synced()?,
                Err(_) => return self.synced().map(|()| false),
            }
        }
    }

    fn synced(&mut self) -> Result<(), ServeError> {
        self.synced = Instant::now();
        self.guard.sync().map_err(ServeError::Sync)
    }

    fn answer(&mut self, request: Request) -> Result<Answer, SignError> {
        let key = |text: &str| {
            VerifierKey::parse(text).map_err(|error| SignError::Rotation(format!("`{}`: {error}", text.escape_debug())))
        };
        let guard = &mut self.guard;
        match request {
            Request::Hello => Ok(Answer::Hello { key: guard.verifier_key().to_string(), confirmed: guard.confirmed() }),
            Request::Sign { origin, head, proof } => {
                let checkpoint = Checkpoint { origin, size: head.size, root: head.root };
                guard.sign(&checkpoint, &proof).map(Answer::Signature)
            }
            Request::SignReceipt { head, proof } => guard.sign_receipt(&head, &proof).map(Answer::Signature),
            Request::Confirm { head, proof } => guard.confirm(&head, &proof).map(|()| Answer::Done),
            Request::NextKey => guard.next_key().map(|key| Answer::Key(key.to_string())),
            Request::State { first, old, new } => {
                guard.state(&Rotation { first, old: key(&old)?, new: key(&new)? }).map(Answer::Signature)
            }
            Request::Adopt { key: next, head, proof } => {
                guard.adopt(&key(&next)?, &head, &proof).map(|()| Answer::Done)
            }
            Request::ForgetNext => guard.forget_next().map(|()| Answer::Done),
        }
    }
}

pub(super) fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(rustix::net::sockopt::socket_peercred(stream)?.uid.as_raw())
}

pub(super) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
