//! `child` on the command line: how the gateway starts processes under limits.

use std::ffi::OsString;

use clap::Args;

/// `child`.
#[derive(Debug, Args)]
pub(crate) struct Child {
    /// Bytes of memory of its own.
    #[arg(long)]
    pub(crate) memory: Option<u64>,
    /// Open files and sockets.
    #[arg(long)]
    pub(crate) open_files: Option<u64>,
    /// Seconds of processor time.
    #[arg(long)]
    pub(crate) cpu_seconds: Option<u64>,
    /// Processes and threads of this user.
    #[arg(long)]
    pub(crate) processes: Option<u64>,
    /// Program and arguments.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<OsString>,
}
