//! Logs of the process itself, on standard error; the record of what agents do is the ledger.

use tracing_subscriber::EnvFilter;

/// Starts logging once; `COUNTERSIGN_LOG` chooses what (default `warn`).
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("COUNTERSIGN_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    // A second start, as in the demo, changes nothing.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
