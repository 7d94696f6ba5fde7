//! Known vectors of RFC 6962 and every proof of every small tree.

#![expect(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

use proptest::prelude::*;

use super::*;

/// The leaves of the reference tests of Certificate Transparency.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// All leaf hashes of a tree, and every complete subtree over them.
struct Leaves(Vec<Hash>, Vec<Vec<Hash>>);

impl Leaves {
    fn numbered(count: u64) -> Self {
        let leaves: Vec<Hash> = (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect();
        let mut levels = vec![leaves.clone()];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            levels.push(below.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect());
        }
        Self(leaves, levels)
    }

    /// The definition in RFC 6962 section 2.1, word for word.
    fn root(&self, leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let middle = leaves.len().next_power_of_two() / 2;
                node_hash(&self.root(&leaves[..middle]), &self.root(&leaves[middle..]))
            }
        }
    }
}

impl HashReader for Leaves {
    type Error = std::convert::Infallible;

    fn hash(&self, level: u8, index: u64) -> Result<Hash, Self::Error> {
        Ok(self.1[usize::from(level)][index as usize])
    }
}

fn flipped(hash: &Hash, bit: usize) -> Hash {
    let mut bytes = *hash.as_bytes();
    bytes[bit / 8 % 32] ^= 1 << (bit % 8);
    Hash::new(bytes)
}

#[test]
fn known_roots() {
    let mut frontier = Frontier::new();
    assert_eq!(frontier.root().to_hex(), ROOTS[0]);
    for (leaf, root) in LEAVES.iter().zip(&ROOTS[1..]) {
        frontier.push(leaf_hash(&unhex(leaf)));
        assert_eq!(&frontier.root().to_hex(), root);
    }
}

#[test]
fn text_forms_round_trip() {
    let hash = empty_root();
    assert_eq!(hash.to_string(), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert_eq!(Hash::from_base64(&hash.to_base64()), Some(hash));
    for bad in
        ["", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=", "AAAA"]
    {
        assert_eq!(Hash::from_base64(bad), None, "{bad}");
    }
}

#[test]
fn every_inclusion_up_to_300() {
    let leaves = Leaves::numbered(300);
    let mut frontier = Frontier::new();
    for size in 1..=300 {
        frontier.push(leaves.0[size as usize - 1]);
        let head = frontier.head();
        assert_eq!(head.root, leaves.root(&leaves.0[..size as usize]));
        assert_eq!(root(&leaves, size), Ok(head.root));
        for index in 0..size {
            let path = inclusion_proof(&leaves, index, size).unwrap();
            let leaf = &leaves.0[index as usize];
            assert_eq!(verify_inclusion(leaf, index, size, &path, &head.root), Ok(()));
            let longer = [path.as_slice(), &[head.root]].concat();
            assert!(verify_inclusion(leaf, index, size, &longer, &head.root).is_err());
            if let Some((_, shorter)) = path.split_last() {
                assert!(verify_inclusion(leaf, index, size, shorter, &head.root).is_err());
            }
            assert!(verify_inclusion(leaf, index ^ 1, size, &path, &head.root).is_err());
        }
        assert!(inclusion_proof(&leaves, size, size).is_err());
        assert!(verify_inclusion(&head.root, size, size, &[], &head.root).is_err());
    }
}

#[test]
fn every_consistency_up_to_130() {
    let leaves = Leaves::numbered(130);
    let head = |size: u64| TreeHead { size, root: root(&leaves, size).unwrap() };
    let heads: Vec<TreeHead> = (0..=130).map(head).collect();
    for new in &heads {
        for old in &heads[..=new.size as usize] {
            let path = consistency_proof(&leaves, old.size, new.size).unwrap();
            assert_eq!(verify_consistency(old, new, &path), Ok(()), "{} to {}", old.size, new.size);
            let longer = [path.as_slice(), &[new.root]].concat();
            assert!(verify_consistency(old, new, &longer).is_err());
            let other = TreeHead { root: flipped(&old.root, 5), ..*old };
            assert!(verify_consistency(&other, new, &path).is_err());
            if old.size > 0 {
                let other = TreeHead { root: flipped(&new.root, 5), ..*new };
                assert!(verify_consistency(old, &other, &path).is_err());
            }
            if old.size < new.size {
                assert!(verify_consistency(new, old, &path).is_err());
            }
        }
    }
}

proptest! {
    #[test]
    fn any_changed_bit_refuses(size in 1..300_u64, index in 0..300_u64, old in 1..300_u64, at in 0..20_usize, bit in 0..256_usize) {
        let (index, old) = (index % size, old % size + 1);
        let leaves = Leaves::numbered(size);
        let root_of = |size| root(&leaves, size).unwrap();
        let new = TreeHead { size, root: root_of(size) };
        let leaf = leaves.0[index as usize];
        let path = inclusion_proof(&leaves, index, size).unwrap();
        prop_assert!(verify_inclusion(&flipped(&leaf, bit), index, size, &path, &new.root).is_err());
        prop_assert!(verify_inclusion(&leaf, index, size, &path, &flipped(&new.root, bit)).is_err());
        if !path.is_empty() {
            let mut changed = path.clone();
            let at = at % changed.len();
            changed[at] = flipped(&changed[at], bit);
            prop_assert!(verify_inclusion(&leaf, index, size, &changed, &new.root).is_err());
        }
        let old = TreeHead { size: old, root: root_of(old) };
        let path = consistency_proof(&leaves, old.size, size).unwrap();
        prop_assert!(verify_consistency(&old, &new, &path).is_ok());
        if !path.is_empty() {
            let mut changed = path.clone();
            let at = at % changed.len();
            changed[at] = flipped(&changed[at], bit);
            prop_assert!(verify_consistency(&old, &new, &changed).is_err());
        }
    }
}
