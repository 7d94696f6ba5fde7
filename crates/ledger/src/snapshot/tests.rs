//! Files of snapshots: what is written is read back, at every shape of the tree's edge.

use countersign_receipt::HashReader;

use super::{MAGIC, Origin, decode, encode};
use crate::tile::Tiler;
use crate::tree::TILE_WIDTH;

fn origin(size: u64) -> Origin {
    let mut tiler = Tiler::default();
    (0..size).for_each(|index| tiler.push(&index.to_be_bytes(), &mut Vec::new()));
    Origin { tiler, segment: size / 2, offset: 77 }
}

#[test]
fn what_is_written_is_read_back() {
    for size in [0, 1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_001] {
        let origin = origin(size);
        for state in [Vec::new(), vec![7; 300]] {
            let (read, head, parts) = decode(MAGIC, &encode(MAGIC, &origin, &[&state, b"more"])).unwrap();
            assert_eq!(parts, [state, b"more".to_vec()]);
            assert_eq!((read.segment, read.offset), (origin.segment, origin.offset));
            assert_eq!(Ok(head), origin.tiler.edge.head());
            assert_eq!(read.tiler.partial(), origin.tiler.partial());
            // And both grow alike.
            let (mut a, mut b) = (read.tiler, origin.tiler.clone());
            let (mut full_a, mut full_b) = (Vec::new(), Vec::new());
            for index in 0..TILE_WIDTH + 1 {
                a.push(&index.to_le_bytes(), &mut full_a);
                b.push(&index.to_le_bytes(), &mut full_b);
            }
            assert_eq!(full_a, full_b);
            assert_eq!(a.edge.head(), b.edge.head());
        }
    }
}

#[test]
fn a_tile_that_is_not_as_full_as_it_must_be_is_refused() {
    for (size, other) in [(5, 6), (300, 44), (256, 512)] {
        let mut bytes = encode(MAGIC, &origin(size), &[b"state"]);
        bytes.splice(4..12, u64::to_le_bytes(other));
        bytes.truncate(bytes.len() - 4);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        // 256 and 512 records differ in a tile of one and of two hashes.
        assert!(decode::<1>(MAGIC, &bytes).is_none(), "{size} as {other}");
    }
    assert!(origin(3).tiler.edge.hash(0, 2).is_ok());
}

#[test]
fn a_file_of_another_kind_or_of_other_parts_is_refused() {
    let bytes = encode(MAGIC, &origin(5), &[b"state"]);
    assert!(decode::<1>(MAGIC, &bytes).is_some());
    assert!(decode::<1>(*b"CSB1", &bytes).is_none());
    assert!(decode::<2>(MAGIC, &bytes).is_none() && decode::<0>(MAGIC, &bytes).is_none());
}
