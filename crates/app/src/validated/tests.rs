//! A list comes back as it was written, and one that somebody touched vouches for nothing.

use countersign_kernel::policy::Validated;
use countersign_model::Digest;

use super::List;
use crate::layout::Layout;

fn list(token: u8) -> (tempfile::TempDir, List) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("keys")).unwrap();
    std::fs::write(folder.path().join("keys/token.key"), [token; 32]).unwrap();
    let list = List::of(&Layout::of_config(&folder.path().join("countersign.yaml"))).unwrap();
    (folder, list)
}

#[test]
fn a_list_comes_back_and_a_touched_one_does_not() {
    let (_folder, list) = list(1);
    assert!(list.read().is_empty(), "there is none yet");
    let validated: Validated = (0..3_u8).map(|number| Digest([number; 32])).collect();
    list.write(&validated).unwrap();
    assert_eq!(list.read(), validated);
    let bytes = std::fs::read(&list.path).unwrap();
    assert_eq!(bytes.len(), 32 * 4);
    for place in 0..bytes.len() {
        let mut touched = bytes.clone();
        touched[place] ^= 1;
        std::fs::write(&list.path, &touched).unwrap();
        assert!(list.read().is_empty(), "byte {place}");
    }
    for length in [0, 31, 32, 33, 64, 127] {
        std::fs::write(&list.path, &bytes[..length]).unwrap();
        assert!(list.read().is_empty(), "{length} bytes");
    }
    list.write(&Validated::default()).unwrap();
    assert!(list.read().is_empty());
}

#[test]
fn the_list_of_another_installation_vouches_for_nothing() {
    let (_one, ours) = list(1);
    let (_two, theirs) = list(2);
    ours.write(&std::iter::once(Digest([7; 32])).collect()).unwrap();
    std::fs::copy(&ours.path, &theirs.path).unwrap();
    assert!(theirs.read().is_empty());
}
