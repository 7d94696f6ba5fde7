//! COSE Receipts: round trip, every bit, and each way to be wrong by name.

#![expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

use ed25519_dalek::{Signer as _, SigningKey};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::merkle::{HashReader, inclusion_proof, node_hash, root};
use crate::note::Note;

struct Tree(Vec<Hash>);

impl HashReader for Tree {
    type Error = ();

    fn hash(&self, level: u8, index: u64) -> Result<Hash, ()> {
        match level.checked_sub(1) {
            None => self.0.get(index as usize).copied().ok_or(()),
            Some(below) => Ok(node_hash(&self.hash(below, 2 * index)?, &self.hash(below, 2 * index + 1)?)),
        }
    }
}

fn key() -> (SigningKey, VerifierKey) {
    let signing = SigningKey::from_bytes(&[9; 32]);
    let key = VerifierKey::new("log", signing.verifying_key().as_bytes()).unwrap();
    (signing, key)
}

fn leaf(index: u64) -> Vec<u8> {
    format!("leaf {index}").into_bytes()
}

fn receipt(index: u64, size: u64) -> CoseReceipt {
    let tree = Tree((0..size).map(|index| leaf_hash(&leaf(index))).collect());
    let path = inclusion_proof(&tree, index, size).unwrap();
    let head = TreeHead { size, root: root(&tree, size).unwrap() };
    let (signing, key) = key();
    let signature = signing.sign(&to_be_signed(&key, &head)).to_bytes();
    CoseReceipt { kid: key_id(&key), signed_size: size, size, index, path, leaf: leaf(index), signature }
}

/// What becomes of a receipt after one change.
fn check(change: impl FnOnce(&mut CoseReceipt), expected: Expect) {
    let mut changed = receipt(4, 5);
    change(&mut changed);
    let verdict = match CoseReceipt::parse(&changed.encode()) {
        Ok(read) => {
            read.verify(&key().1).map_or_else(|error| error.to_string(), |tree| format!("holds: {}", tree.size))
        }
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&verdict);
}

/// What becomes of bytes in which `from` was replaced, once, by `to`.
fn check_bytes(from: &[u8], to: &[u8], expected: Expect) {
    let bytes = receipt(4, 5).encode();
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the bytes are there");
    let changed = [&bytes[..at], to, &bytes[at + from.len()..]].concat();
    expected.assert_eq(&CoseReceipt::parse(&changed).map_or_else(|error| error.to_string(), |_| "is read".to_owned()));
}

/// The whole encoding, spelled out once, so that a change of it is seen.
#[test]
fn the_encoding_is_the_one_of_the_rfc() {
    let receipt = receipt(1, 2);
    let protected = [
        &[0xa4, 0x01, 0x27, 0x04, 0x4c][..],
        b"log+",
        &key_id(&key().1)[4..],
        &[0x19, 0x01, 0x8b, 0x01, 0x75],
        b"countersign/tree-size",
        &[0x02],
    ];
    let protected = protected.concat();
    let mut wanted = vec![0xd2, 0x84, 0x58, protected.len() as u8];
    wanted.extend_from_slice(&protected);
    wanted
        .extend_from_slice(&[0xa2, 0x19, 0x01, 0x8c, 0xa1, 0x20, 0x81, 0x58, 0x26, 0x83, 0x02, 0x01, 0x81, 0x58, 0x20]);
    wanted.extend_from_slice(leaf_hash(&leaf(0)).as_bytes());
    wanted.extend_from_slice(&[&[0x70][..], b"countersign/leaf", &[0x46], b"leaf 1", &[0xf6, 0x58, 0x40]].concat());
    wanted.extend_from_slice(&receipt.signature);
    assert_eq!(receipt.encode(), wanted);

    let tree = TreeHead { size: 2, root: node_hash(&leaf_hash(&leaf(0)), &leaf_hash(&leaf(1))) };
    let signed = [&[0x84, 0x6a][..], b"Signature1", &[0x58, protected.len() as u8], &protected, &[0x40, 0x58, 0x20]];
    assert_eq!(to_be_signed(&key().1, &tree), [&signed.concat()[..], tree.root.as_bytes()].concat());
}

#[test]
fn what_does_not_hold_is_named() {
    check(|_| {}, expect!["holds: 5"]);
    check(
        |receipt| receipt.leaf[0] ^= 1,
        expect![
            "signature of `log` is wrong: it is not over the root `A4N8ROcvbMMwInQOQk3G6OHYh0ixLbPj6dV1fjj1/Zg=` to which leaf and path lead"
        ],
    );
    check(
        |receipt| receipt.signature[0] ^= 1,
        expect![
            "signature of `log` is wrong: it is not over the root `NBUVmC1lDiNSDb1U1/zwr6G3DMOhakEdRk3JwayWwwE=` to which leaf and path lead"
        ],
    );
    check(|receipt| receipt.kid[0] ^= 1, expect!["COSE receipt is of key `mog+965f2c0b`, not of `log+965f2c0b`"]);
    check(|receipt| receipt.size = 6, expect!["COSE receipt is signed for a tree of `5` leaves, its proof is of `6`"]);
    check(|receipt| receipt.index = 5, expect!["inclusion: leaf `5` is not in a tree of `5` leaves"]);
    check(|receipt| receipt.path.clear(), expect!["inclusion: the path has the wrong length: `0` hashes"]);
    check(
        |receipt| receipt.path = vec![receipt.path[0]; 64],
        expect!["COSE receipt is not well-formed: the inclusion proof is not size, index and at most 63 hashes"],
    );
    check(|receipt| receipt.leaf.clear(), expect!["COSE receipt is not well-formed: the leaf is not 1 to 65535 bytes"]);
}

/// A log whose key was changed: each size has one key, and none before the trusted one counts.
#[test]
fn a_chain_of_keys_is_followed() {
    let (old, new) = (SigningKey::from_bytes(&[1; 32]), key());
    let old_key = VerifierKey::new("log", old.verifying_key().as_bytes()).unwrap();
    let text = format!("{}\nlog\n5\n{old_key}\n{}\n", crate::keys::HEADER, new.1);
    let statement = Note::render(&text, &old_key, &old.sign(text.as_bytes()).to_bytes());
    let chain = |trusted| KeyChain::parse(trusted, &statement).unwrap();
    assert_eq!(receipt(4, 5).verify_with(&chain(old_key.clone())).map(|tree| tree.size), Ok(5));
    assert!(matches!(receipt(3, 4).verify_with(&chain(old_key)), Err(CoseError::Key { .. })));
    assert_eq!(receipt(3, 4).verify_with(&chain(new.1)), Err(CoseError::BeforeTrusted { size: 4 }));
}

/// RFC 9942 alone does not fix an index: this is the very same root, leaf and path under other numbers.
#[test]
fn the_signed_size_fixes_the_index() {
    let honest = receipt(4, 5);
    let root = root_of_inclusion(&leaf_hash(&honest.leaf), 4, 5, &honest.path).unwrap();
    assert_eq!(root_of_inclusion(&leaf_hash(&honest.leaf), 1, 2, &honest.path), Ok(root));
    check(
        |receipt| (receipt.index, receipt.size) = (1, 2),
        expect!["COSE receipt is signed for a tree of `5` leaves, its proof is of `2`"],
    );
    check(
        |receipt| (receipt.index, receipt.size, receipt.signed_size) = (1, 2, 2),
        expect![
            "signature of `log` is wrong: it is not over the root `NBUVmC1lDiNSDb1U1/zwr6G3DMOhakEdRk3JwayWwwE=` to which leaf and path lead"
        ],
    );
}

#[test]
fn there_is_one_encoding_and_no_unknown_header() {
    check_bytes(&[0xd2, 0x84], &[0x84], expect!["COSE receipt is not well-formed: no tag 18 (COSE_Sign1)"]);
    check_bytes(
        &[0xd2, 0x84],
        &[0xd1, 0x84],
        expect!["COSE receipt is not well-formed: not a COSE_Sign1 of four parts"],
    );
    check_bytes(&[0xd2, 0x84], &[0xd8, 0x12, 0x84], expect!["COSE receipt is not in its one encoding"]);
    check_bytes(
        &[0x01, 0x27, 0x04],
        &[0x01, 0x26, 0x04],
        expect!["COSE receipt is not well-formed: the algorithm is not EdDSA (-8)"],
    );
    // `crit`: a critical parameter in place of the algorithm's, the only place where the count stays right.
    check_bytes(
        &[0x01, 0x27, 0x04],
        &[0x02, 0x27, 0x04],
        expect!["COSE receipt is not well-formed: the algorithm is not EdDSA (-8)"],
    );
    check_bytes(
        &[0x19, 0x01, 0x8b, 0x01],
        &[0x19, 0x01, 0x8b, 0x02],
        expect!["COSE receipt is not well-formed: the verifiable data structure is not RFC9162_SHA256 (1)"],
    );
    check_bytes(
        &[0x81, 0x58, 0x20],
        &[0x81, 0x59, 0x00, 0x20],
        expect!["COSE receipt is not well-formed: the unprotected header is not one inclusion proof and the leaf"],
    );
    check_bytes(
        &[0xa1, 0x20, 0x81],
        &[0xa1, 0x21, 0x81],
        expect!["COSE receipt is not well-formed: the unprotected header is not one inclusion proof and the leaf"],
    );
    check_bytes(
        &[0xf6, 0x58, 0x40],
        &[0x40, 0x58, 0x40],
        expect!["COSE receipt is not well-formed: the payload is not detached"],
    );
    let mut longer = receipt(4, 5).encode();
    longer.push(0);
    assert_eq!(CoseReceipt::parse(&longer), Err(CoseError::NotCanonical));
    let found = MAX_COSE_BYTES + 1;
    assert_eq!(CoseReceipt::parse(&vec![0; found]), Err(CoseError::TooLarge { found }));
}

#[test]
fn every_flipped_bit_is_found() {
    let (bytes, key) = (receipt(4, 5).encode(), key().1);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let accepted = CoseReceipt::parse(&changed).is_ok_and(|receipt| receipt.verify(&key).is_ok());
        assert!(!accepted, "bit {bit}");
    }
    for end in 0..bytes.len() {
        assert!(CoseReceipt::parse(&bytes[..end]).is_err(), "cut at {end}");
    }
}

/// A signature over a checkpoint is no receipt's, nor the other way round, whatever the origin and the root.
#[test]
fn what_is_signed_for_receipts_is_never_a_notes_text() {
    let (signing, key) = key();
    let honest = receipt(4, 5);
    let tree = honest.verify(&key).unwrap();
    let mut crossed = honest.clone();
    crossed.signature = signing.sign(tree.signed_body().as_bytes()).to_bytes();
    assert!(matches!(crossed.verify(&key), Err(CoseError::Signature { .. })));
    let note = Note::render(&tree.signed_body(), &key, &honest.signature);
    assert!(Note::parse(&note).unwrap().verify(&key).is_err());
}

proptest! {
    #[test]
    fn any_index_of_any_size_holds(size in 1u64..70, seed: u64) {
        let receipt = receipt(seed % size, size);
        let read = CoseReceipt::parse(&receipt.encode());
        prop_assert_eq!(read.as_ref(), Ok(&receipt));
        prop_assert_eq!(read.unwrap().verify(&key().1).map(|tree| tree.size), Ok(size));
    }

    #[test]
    fn what_is_signed_is_no_text(name in "[a-z/.0-9]{1,255}", size: u64, root: [u8; 32]) {
        let key = VerifierKey::new(&name, key().1.public()).unwrap();
        let bytes = to_be_signed(&key, &TreeHead { size, root: Hash::new(root) });
        prop_assert_eq!(bytes[0], 0x84);
        prop_assert!(std::str::from_utf8(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = CoseReceipt::parse(&bytes);
    }
}
