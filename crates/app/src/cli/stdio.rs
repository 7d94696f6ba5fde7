//! `stdio` on the command line. It only names things; `commands` does them.

use std::path::PathBuf;

use clap::Args;

/// `stdio`.
#[derive(Debug, Args)]
#[command(after_help = "In the client's configuration, instead of the server's command:\n  \
    \"command\": \"countersign\", \"args\": [\"stdio\", \"--token-file\", \"/path/agent.token\", \"--url\", \"http://127.0.0.1:7411/mcp\"]")]
pub(crate) struct Stdio {
    /// The file with the agent's token; nobody but its owner may have any right to it.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// The gateway's endpoint; by default what the gateway of `--config` says when it is up.
    #[arg(long, value_name = "URL", conflicts_with = "socket")]
    pub(crate) url: Option<String>,
    /// The gateway's Unix socket for agents.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Only this upstream, under its own names; by default all of them.
    #[arg(long, value_name = "NAME")]
    pub(crate) upstream: Option<String>,
}
