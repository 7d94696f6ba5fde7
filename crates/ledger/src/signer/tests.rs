//! What the signer refuses.

use countersign_receipt::merkle::{empty_root, leaf_hash};

use super::*;

#[test]
fn refuses_smaller_second_and_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let (signer, _) = LocalSigner::generate(&Store::real(dir.path()), "log").unwrap();
    let checkpoint = |size, root| Checkpoint { origin: "log".into(), size, root };
    let (one, two) = (leaf_hash(b"1"), leaf_hash(b"2"));
    // Not confirmed yet: may be signed anew.
    signer.sign(&checkpoint(5, one)).unwrap();
    let signature = signer.sign(&checkpoint(5, two)).unwrap();
    assert!(signer.verifier_key().accepts(&checkpoint(5, two).signed_body(), &signature));
    signer.confirm(&TreeHead { size: 5, root: two }).unwrap();
    signer.sign(&checkpoint(5, two)).unwrap();
    signer.sign(&checkpoint(6, one)).unwrap();
    assert!(matches!(signer.sign(&checkpoint(5, one)), Err(SignError::SecondRoot { size: 5, .. })));
    assert_eq!(signer.sign(&checkpoint(4, one)), Err(SignError::Smaller { asked: 4, confirmed: 5 }));
    assert!(signer.confirm(&TreeHead { size: 0, root: empty_root() }).is_err());
    let foreign = Checkpoint { origin: "other".into(), size: 9, root: one };
    assert!(matches!(signer.sign(&foreign), Err(SignError::Origin { .. })));
    // Receipts are held to the same rule.
    let head = |size, root| TreeHead { size, root };
    signer.sign_receipt(&head(5, two)).unwrap();
    assert!(matches!(signer.sign_receipt(&head(5, one)), Err(SignError::SecondRoot { size: 5, .. })));
    assert_eq!(signer.sign_receipt(&head(4, one)), Err(SignError::Smaller { asked: 4, confirmed: 5 }));
}
