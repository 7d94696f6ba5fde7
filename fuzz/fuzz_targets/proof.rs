//! Proofs and receipts of any bytes, in text and in COSE: what is read is written the same, and what verifies is a tree
//! that the key signed. The key is that of the verifier's own tests, whose receipts are the seeds.
#![no_main]

use countersign_receipt::keys::KeyChain;
use countersign_receipt::{CoseReceipt, Receipt, TlogProof, VerifierKey};
use ed25519_dalek::SigningKey;
use libfuzzer_sys::fuzz_target;

/// The only tree that this key ever signed: two records.
const SIZE: u64 = 2;

fuzz_target!(|bytes: &[u8]| {
    let signing = SigningKey::from_bytes(&[9; 32]);
    let key = VerifierKey::new("log", signing.verifying_key().as_bytes()).expect("a key");
    if let Ok(receipt) = CoseReceipt::parse(bytes) {
        assert_eq!(receipt.encode(), bytes);
        if let Ok(tree) = receipt.verify(&key) {
            assert_eq!(tree.size, SIZE);
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(proof) = TlogProof::parse(text) {
        assert_eq!(proof.to_string(), text);
        let _ = proof.verify(b"leaf", &key);
    }
    if let Ok(receipt) = Receipt::parse(text) {
        let again = receipt.to_json().expect("what was read can be written");
        assert_eq!(Receipt::parse(&again).expect("and read again"), receipt);
        if let Ok(verified) = receipt.verify(&key) {
            assert!(verified.leaves.iter().all(|leaf| leaf.checkpoint.size == SIZE));
        }
    }
    let _ = countersign_verifier::judge(bytes, &KeyChain::of(key));
});
