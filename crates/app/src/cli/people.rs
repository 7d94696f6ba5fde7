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
    /// Revoke a token by its session id.
    Revoke {
        /// The session id.
        session: String,
        /// Who signs.
        #[command(flatten)]
        signer: Signer,
    },
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
