//! Where everything lies below the folder of a configuration.
//!
//! One place knows the names of files; everything else asks here.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::terminal::usage;

/// Refuses a name that cannot name a file: an id may hold more than that.
pub(crate) fn file_name(name: &str) -> Result<&str> {
    if name.contains('/') || name.starts_with('.') {
        return Err(usage(format!(
            "`{}` cannot name a file; use a name without `/` that does not start with a dot",
            name.escape_debug()
        )));
    }
    Ok(name)
}

/// What the path of a Unix socket has room for (`sun_path` of Linux, unix(7), and a byte that ends it).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The folder of one installation.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    config: PathBuf,
}

impl Layout {
    /// The installation whose configuration is `config`.
    pub(crate) fn of_config(config: &Path) -> Self {
        let root = match config.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        Self { root, config: config.to_owned() }
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.config.clone()
    }

    /// The human's signed acceptance of configuration and policy.
    pub(crate) fn activation(&self) -> PathBuf {
        self.root.join("activation")
    }

    /// Where the sources of accepted policies lie.
    pub(crate) fn sources(&self) -> PathBuf {
        self.root.join("policies")
    }

    /// The list of policies that passed strict validation.
    pub(crate) fn validated(&self) -> PathBuf {
        self.root.join("policy.validated")
    }

    /// The ledger's folder.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// The log's verifier key.
    pub(crate) fn log_vkey(&self) -> PathBuf {
        self.ledger().join("log.vkey")
    }

    /// The statements that lead from that key to the one in force.
    pub(crate) fn log_keys(&self) -> PathBuf {
        self.ledger().join("log.keys")
    }

    /// The index over the record; it can be removed at any time.
    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index.sqlite")
    }

    /// The kill switch's own file.
    pub(crate) fn kill(&self) -> PathBuf {
        self.root.join("kill.state")
    }

    /// The root key of tokens.
    pub(crate) fn token_key(&self) -> PathBuf {
        self.root.join("keys").join("token.key")
    }

    /// The public half of that key: whoever holds a token narrows and reads it with this.
    pub(crate) fn token_public(&self) -> PathBuf {
        self.root.join("token.pub")
    }

    /// A human's passphrase-protected key.
    pub(crate) fn human_key(&self, human: &str) -> PathBuf {
        self.root.join("keys").join(format!("{human}.key.pem"))
    }

    /// Where keys lie.
    pub(crate) fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// An agent's token file.
    pub(crate) fn token(&self, agent: &str) -> PathBuf {
        self.root.join("tokens").join(format!("{agent}.token"))
    }

    /// Refuses a folder whose path leaves no room for the names of its sockets.
    pub(crate) fn check_sockets(&self) -> Result<()> {
        let sockets = [self.admin_socket(), self.kill_socket()];
        let long = sockets.iter().find(|path| path.as_os_str().len() > SOCKET_PATH_BYTES_MAX);
        long.map_or(Ok(()), |path| {
            Err(usage(format!(
                "`{}` has {} bytes, and the path of a socket at most {SOCKET_PATH_BYTES_MAX}: choose a folder with a shorter path",
                path.display(),
                path.as_os_str().len()
            )))
        })
    }

    /// The admin plane's socket.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.root.join("admin.sock")
    }

    /// The kill plane's socket.
    pub(crate) fn kill_socket(&self) -> PathBuf {
        self.root.join("kill.sock")
    }

    /// Where the gateway writes how its upstreams do.
    pub(crate) fn upstreams(&self) -> PathBuf {
        self.root.join("upstreams.json")
    }

    /// Where the gateway writes the address that it listens on.
    pub(crate) fn address(&self) -> PathBuf {
        self.root.join("address")
    }
}
