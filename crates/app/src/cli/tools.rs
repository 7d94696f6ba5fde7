//! `tools` on the command line. It only names things; `commands` does them.

use clap::Subcommand;

/// `tools`.
#[derive(Debug, Subcommand)]
pub(crate) enum Tools {
    /// List tools: their effect, whether they are bound and accepted, and which arguments policy can read.
    List {
        /// Do not ask the upstreams; list what is bound and accepted.
        #[arg(long)]
        offline: bool,
    },
    /// Compare what an upstream offers now with what was accepted. Exit code 1 if anything differs.
    Diff {
        /// The upstream's id.
        upstream: String,
    },
    /// Accept what an upstream offers now: writes `tools/UPSTREAM.lock.json`. `policy activate` must follow.
    Accept {
        /// The upstream's id.
        upstream: String,
        /// Only these tools; the others stay as they were accepted, or are not.
        tools: Vec<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Propose bindings from the upstream's schemas, as `tools/UPSTREAM.yaml`, for you to edit.
    Bind {
        /// The upstream's id.
        upstream: String,
    },
}
