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
        let mut tiles = BatchTiles { edge: edge.clone(), full: Vec::new() };
        let first = number;
        for _ in 0..batch {
            let leaf = leaf_hash(&number.to_be_bytes());
            frontier.push(leaf);
            tiles.edge.push(leaf, &mut tiles.full);
            number += 1;
        }
        let head = tiles.edge.head().unwrap();
        assert_eq!(head, frontier.head());
        let step = if batch > 5000 { 997 } else { 1 };
        for index in (first..number).step_by(step) {
            let path = inclusion_proof(&tiles, index, number).unwrap();
            verify_inclusion(&leaf_hash(&index.to_be_bytes()), index, number, &path, &head.root).unwrap();
        }
        edge = tiles.edge;
    }
}
