//! How a page or Node calls the verdict: three functions over the module's own memory, no generated bindings.
//!
//! `input(r, k, l)` makes room for `r` bytes of receipt, behind them `k` bytes of key and `l` bytes of the list of keys, and
//! returns where; the host writes them there; `verify()` returns where the verdict lies, as JSON in UTF-8, and `output_bytes()` how long it is. Only one
//! call at a time: the module has one thread. It must not know what a receipt is.

#![expect(unsafe_code, reason = "an exported name is an attribute that Rust calls unsafe; nothing else here is")]

use std::sync::{Mutex, PoisonError};

use countersign_receipt::keys::MAX_KEYS_BYTES;
use countersign_receipt::receipt::MAX_RECEIPT_BYTES;

/// The longest key, in bytes.
const KEY_BYTES_MAX: usize = 4096;

struct Input {
    bytes: Vec<u8>,
    receipt: usize,
    key: usize,
}

static INPUT: Mutex<Input> = Mutex::new(Input { bytes: Vec::new(), receipt: 0, key: 0 });
static OUTPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Makes room; 0 if any is longer than any receipt, key or list. One byte over the largest passes, to be refused by name.
#[unsafe(no_mangle)]
pub extern "C" fn input(receipt: usize, key: usize, keys: usize) -> usize {
    if receipt > MAX_RECEIPT_BYTES + 1 || key > KEY_BYTES_MAX || keys > MAX_KEYS_BYTES + 1 {
        return 0;
    }
    let mut input = INPUT.lock().unwrap_or_else(PoisonError::into_inner);
    // Never empty: an empty buffer has no place.
    *input = Input { bytes: vec![0; receipt + key + keys + 1], receipt, key };
    input.bytes.truncate(receipt + key + keys);
    input.bytes.as_mut_ptr().expose_provenance()
}

/// Judges what was put in and returns where the verdict lies.
#[unsafe(no_mangle)]
pub extern "C" fn verify() -> usize {
    let input = INPUT.lock().unwrap_or_else(PoisonError::into_inner);
    let (receipt, rest) = input.bytes.split_at_checked(input.receipt).unwrap_or_default();
    let (key, keys) = rest.split_at_checked(input.key).unwrap_or_default();
    let verdict = crate::judge_to_json(receipt, &String::from_utf8_lossy(key), &String::from_utf8_lossy(keys));
    let mut output = OUTPUT.lock().unwrap_or_else(PoisonError::into_inner);
    *output = verdict.into_bytes();
    output.as_mut_ptr().expose_provenance()
}

/// How long the verdict is, in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn output_bytes() -> usize {
    OUTPUT.lock().unwrap_or_else(PoisonError::into_inner).len()
}
