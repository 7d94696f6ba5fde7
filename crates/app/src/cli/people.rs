//! `token`, `human` and `lease` on the command line. It only names things; `commands` does them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Signer;

/// `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Issue a token to an agent of the configuration.
    Issue {
        /// The agent.
        agent: String,
        /// Tie it to a run.
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
        /// How long it is good for.
        #[arg(long, value_name = "DURATION", default_value = "12h")]
        ttl: String,
        /// Write it to this file instead of printing it.
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Who signs.
        #[command(flatten)]
        signer: Signer,
    },
    /// Narrow a token for a sub-agent, offline: no gateway, no secret and no human is needed. Nobody can widen it again.
    Attenuate(Attenuate),
    /// Show what a token in a file says: whose it is, until when, to what it was narrowed, and its revocation ids.
    Show {
        /// The file with the token.
        file: PathBuf,
        /// The public key of tokens; by default that of the installation.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Revoke a token by its session id, or one narrowing of it by its block's revocation id. Needs a human's signature.
    Revoke {
        /// The session id: the token and all that was narrowed from it.
        #[arg(required_unless_present = "block", conflicts_with = "block")]
        session: Option<String>,
        /// The revocation id that `token show` prints: this narrowing and all that was narrowed from it. What it was made
        /// from lives.
        #[arg(long, value_name = "ID")]
        block: Option<String>,
        /// Who signs.
        #[command(flatten)]
        signer: Signer,
    },
}

/// `token attenuate`.
#[derive(Debug, Args)]
pub(crate) struct Attenuate {
    /// The file with the token to narrow; it stays as it is.
    pub(crate) file: PathBuf,
    /// Where the narrowed token goes; never over another file.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// How long it is good for from now on, such as `30m`.
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "until")]
    pub(crate) duration: Option<String>,
    /// Until when it is good, such as `2026-12-24T18:00:00Z`.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// A tool that may be called, by its own name; repeat for more. Without it any.
    #[arg(long = "tool", value_name = "NAME")]
    pub(crate) tools: Vec<String>,
    /// An upstream that may be called; repeat for more. Without it any.
    #[arg(long = "upstream", value_name = "NAME")]
    pub(crate) upstreams: Vec<String>,
    /// Nothing but reads may run.
    #[arg(long)]
    pub(crate) read_only: bool,
    /// The public key of tokens; by default that of the installation.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

/// `human`.
#[derive(Debug, Subcommand)]
pub(crate) enum Human {
    /// Make a key for another human and enrol it; both passphrases are asked for.
    Enrol {
        /// The new human.
        name: String,
        /// Who signs.
        #[command(flatten)]
        signer: Signer,
    },
}

/// `lease`.
#[derive(Debug, Args)]
pub(crate) struct Lease {
    /// The session id of the token.
    pub(crate) session: String,
    /// The right's name, as policies ask for it.
    pub(crate) name: String,
    /// For how long.
    #[arg(long = "for", value_name = "DURATION", default_value = "1h")]
    pub(crate) duration: String,
    /// Who signs.
    #[command(flatten)]
    pub(crate) signer: Signer,
}
