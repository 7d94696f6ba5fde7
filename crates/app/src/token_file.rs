//! Files that hold an agent's token: whoever can read one is that agent.
//!
//! It must not know what a token says. It does not cover where the token came from.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use countersign_kernel::identity::TOKEN_BYTES_MAX;

use crate::terminal::usage;

/// Any right of group or others.
const OF_OTHERS: u32 = 0o077;

/// The token in a file that nobody but its owner can read.
pub(crate) fn read(path: &Path) -> Result<String> {
    let shown = path.display();
    let file = File::open(path).with_context(|| {
        format!(
            "cannot read the token file `{shown}`; its operator makes one with `countersign token issue --out FILE`"
        )
    })?;
    let about = file.metadata().with_context(|| format!("cannot look at the token file `{shown}`"))?;
    if !about.is_file() {
        return Err(usage(format!("the token file `{shown}` is no file")));
    }
    if about.mode() & OF_OTHERS != 0 {
        let mode = about.mode() & 0o777;
        return Err(usage(format!(
            "others than its owner have rights to the token file `{shown}` (mode {mode:04o}); run `chmod 600 {shown}`, \
             and have the token revoked if somebody may have read it"
        )));
    }
    let mut text = String::new();
    let bytes_max = u64::try_from(TOKEN_BYTES_MAX)?.saturating_add(2);
    file.take(bytes_max).read_to_string(&mut text).with_context(|| format!("cannot read the token file `{shown}`"))?;
    let token = text.trim();
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX || token.contains(char::is_whitespace) {
        return Err(usage(format!(
            "the token file `{shown}` does not hold one token of at most {TOKEN_BYTES_MAX} bytes"
        )));
    }
    Ok(token.to_owned())
}
