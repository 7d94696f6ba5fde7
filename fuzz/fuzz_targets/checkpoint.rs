//! Notes, checkpoints and keys of any bytes: what is read is written the same, and no note verifies that was not signed.
#![no_main]

use countersign_receipt::keys::KeyChain;
use countersign_receipt::{Checkpoint, Note, VerifierKey};
use ed25519_dalek::SigningKey;
use libfuzzer_sys::fuzz_target;

/// The size of the only tree that this key ever signed.
const SIZE: u64 = 2;

fuzz_target!(|text: &str| {
    let signing = SigningKey::from_bytes(&[9; 32]);
    let key = VerifierKey::new("log", signing.verifying_key().as_bytes()).expect("a key");
    if let Ok(note) = Note::parse(text) {
        assert!(text.starts_with(note.text()));
        if let Ok(checkpoint) = Checkpoint::parse(note.text()) {
            assert_eq!(checkpoint.signed_body(), note.text());
        }
    }
    if let Ok(checkpoint) = Checkpoint::open(text, &key) {
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("log", SIZE));
    }
    if let Ok(read) = VerifierKey::parse(text) {
        assert_eq!(read.to_string(), text);
    }
    let _ = KeyChain::parse(key, text);
});
