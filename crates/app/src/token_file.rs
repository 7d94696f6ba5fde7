//! Files that hold an agent's token: whoever can read one is that agent.
//!
//! Beside them the public key of tokens, which is no secret: with it a token can be read and narrowed anywhere.
//! It must not know what a token says. It does not cover where the token came from.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use countersign_kernel::identity::{TOKEN_BYTES_MAX, TokenPublic};

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

/// What stands before the key, as other tools of Biscuit write it.
const ALGORITHM: &str = "ed25519/";

/// Writes the public key of tokens where it is not there, or another one is.
pub(crate) fn publish(path: &Path, key: &TokenPublic) -> Result<()> {
    let text = format!("{ALGORITHM}{}\n", hex(&key.to_bytes()));
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    std::fs::write(path, text).with_context(|| format!("cannot write the public key of tokens `{}`", path.display()))
}

/// Reads the public key of tokens.
pub(crate) fn public(path: &Path) -> Result<TokenPublic> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read the public key of tokens `{}`; `countersign up` writes it beside its configuration as `token.pub`: \
             copy it here, or name it with `--key`",
            path.display()
        )
    })?;
    let wrong = || {
        usage(format!("`{}` is no public key of tokens: it is `{ALGORITHM}` and 64 hexadecimal digits", path.display()))
    };
    let bytes = text.trim().strip_prefix(ALGORITHM).and_then(unhex).ok_or_else(wrong)?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| wrong())?;
    TokenPublic::from_bytes(&bytes).map_err(|_| wrong())
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of hexadecimal digits; `None` for anything else.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
