//! The socket that an effect is on, for whoever cuts it: a resumed stream is on another one than its request was.
//!
//! Once severed, no other socket is taken in. It must not know MCP.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::dial::Conn;

/// The socket of one effect.
#[derive(Default)]
pub(crate) struct Cutter {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    is_severed: bool,
    socket: Option<Arc<OwnedFd>>,
}

impl Cutter {
    /// Takes in the socket that the effect goes on with; `false` where it was cut meanwhile, and then the socket is
    /// closed as well.
    pub(crate) fn hold(&self, conn: &Conn) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = conn.socket();
        if inner.is_severed {
            Conn::sever(&socket);
            return false;
        }
        inner.socket = Some(socket);
        true
    }

    /// Lets go of the socket: its connection serves others from here on.
    pub(crate) fn release(&self) {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).socket = None;
    }

    /// Closes the socket now, from any thread.
    pub(crate) fn sever(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.is_severed = true;
        if let Some(socket) = inner.socket.take() {
            Conn::sever(&socket);
        }
    }
}
