//! The edge against the plain tree, across the boundaries of tiles.

use countersign_receipt::Frontier;
use countersign_receipt::merkle::{inclusion_proof, leaf_hash, verify_inclusion};

use super::*;

#[test]
fn roots_and_batch_proofs_across_tiles() {
    let mut edge = Edge::default();
    let mut frontier = Frontier::new();
    let mut number = 0_u64;
    for batch in [1, 2, 250, 3, 1, 255, 513, 4096, 60_000, 700, 1] {
        let first = number;
        number += batch;
        let leaves = (first..number).map(|number| leaf_hash(&number.to_be_bytes()));
        leaves.clone().for_each(|leaf| frontier.push(leaf));
        let (tiles, head) = BatchTiles::grow(&edge, leaves).unwrap();
        assert_eq!(head, frontier.head());
        assert_eq!(tiles.edge.head().unwrap(), head);
        let step = if batch > 5000 { 997 } else { 1 };
        for index in (first..number).step_by(step) {
            let path = tiles.path(index).unwrap();
            assert_eq!(path, inclusion_proof(&tiles, index, number).unwrap(), "{index} of {number}");
            verify_inclusion(&leaf_hash(&index.to_be_bytes()), index, number, &path, &head.root).unwrap();
        }
        assert!(tiles.path(number).is_err());
        edge = tiles.edge;
    }
}
