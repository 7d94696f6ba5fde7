//! What every command needs: where things lie, where results go, the way to the gateway, time.

use anyhow::Result;
use countersign_model::TimeMs;
use countersign_model::id::HumanId;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::admin::Admin;
use crate::keys::HumanKey;
use crate::layout::{Layout, file_name};
use crate::terminal::{Output, passphrase, usage};

/// What every command needs.
pub(crate) struct Context {
    /// Where things lie.
    pub(crate) layout: Layout,
    /// Where results go.
    pub(crate) out: Output,
}

impl Context {
    /// The way to the running gateway.
    pub(crate) fn admin(&self) -> Admin {
        Admin::new(self.layout.admin_socket())
    }

    /// Opens a human's key with the passphrase typed at the terminal.
    pub(crate) fn open_key(&self, human: &str) -> Result<HumanKey> {
        let id = HumanId::new(file_name(human)?).map_err(|error| usage(error.to_string()))?;
        let path = self.layout.human_key(human);
        if !path.exists() {
            return Err(usage(format!(
                "there is no key of `{human}` at `{}`; name another human with `--as`, or enrol this one with `countersign human enrol`",
                path.display()
            )));
        }
        let phrase = passphrase(&format!("passphrase for {human}'s key: "))?;
        HumanKey::open(id, &path, &phrase)
    }
}

/// A time for people, in UTC.
pub(crate) fn when(ms: u64) -> String {
    i64::try_from(ms / 1_000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{ms} ms after 1970"))
}

/// This machine's wall clock.
pub(crate) fn wall() -> TimeMs {
    use countersign_gate::clock::{Clock as _, SystemClock};
    SystemClock::start().wall()
}

/// A progress bar, where there is a terminal to show it.
pub(crate) fn progress(shown: bool) -> indicatif::ProgressBar {
    if !shown {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(0);
    if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:40} {percent}% {bytes_per_sec} {eta} left") {
        bar.set_style(style);
    }
    bar
}
