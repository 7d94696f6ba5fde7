//! The mark survives the loss of either slot.

use countersign_receipt::merkle::empty_root;

use super::*;
use crate::store::Store;

#[test]
fn either_slot_alone_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::real(dir.path());
    let head = |size| TreeHead { size, root: empty_root() };
    Mark::create(&store.mark_file(), &head(0)).unwrap();
    let (mut mark, found) = Mark::open(&store.mark_file()).unwrap().unwrap();
    assert_eq!(found, head(0));
    mark.write(&head(1)).unwrap();
    mark.write(&head(2)).unwrap();
    assert_eq!(Mark::judge(&store.mark_file()).unwrap(), Some([head(2), head(1)]));
    let good = std::fs::read(store.mark()).unwrap();
    for slot in [0, 4096] {
        let mut bytes = good.clone();
        bytes[slot + 20] ^= 1;
        std::fs::write(store.mark(), &bytes).unwrap();
        let (mut mark, found) = Mark::open(&store.mark_file()).unwrap().unwrap();
        assert!((1..=2).contains(&found.size), "slot at {slot}: {found:?}");
        assert_eq!(Mark::judge(&store.mark_file()).unwrap(), None, "who verifies wants both");
        mark.write(&head(3)).unwrap();
        mark.tidy(&store.mark_file()).unwrap();
        assert_eq!(Mark::judge(&store.mark_file()).unwrap(), Some([head(3), found]));
        bytes[(slot + 4096) % 8192] ^= 1;
        std::fs::write(store.mark(), &bytes).unwrap();
        assert!(Mark::open(&store.mark_file()).unwrap().is_none());
    }
    for (at, length) in [(60, 8192), (4095, 8192), (8191, 8192), (8192, 8193)] {
        let mut bytes = good.clone();
        bytes.resize(length, 0);
        bytes[at] ^= 1;
        std::fs::write(store.mark(), &bytes).unwrap();
        assert_eq!(Mark::judge(&store.mark_file()).unwrap(), None, "byte {at}");
        let (mut mark, found) = Mark::open(&store.mark_file()).unwrap().unwrap();
        mark.write(&found).unwrap();
        mark.tidy(&store.mark_file()).unwrap();
        assert_eq!(Mark::judge(&store.mark_file()).unwrap(), Some([head(2), head(2)]));
    }
}
