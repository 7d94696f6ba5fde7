//! Messages come back as they went, and nothing else is one.

use countersign_receipt::merkle::leaf_hash;
use proptest::prelude::*;

use super::*;

fn hash() -> impl Strategy<Value = Hash> {
    any::<[u8; 32]>().prop_map(Hash::new)
}

fn head() -> impl Strategy<Value = TreeHead> {
    (any::<u64>(), hash()).prop_map(|(size, root)| TreeHead { size, root })
}

fn proof() -> impl Strategy<Value = Vec<Hash>> {
    prop::collection::vec(hash(), 0..20)
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Hello),
        (".{0,80}", head(), proof()).prop_map(|(origin, head, proof)| Request::Sign { origin, head, proof }),
        (head(), proof()).prop_map(|(head, proof)| Request::Confirm { head, proof }),
        Just(Request::NextKey),
        (any::<u64>(), ".{0,80}", ".{0,80}").prop_map(|(first, old, new)| Request::State { first, old, new }),
        (".{0,80}", head(), proof()).prop_map(|(key, head, proof)| Request::Adopt { key, head, proof }),
        Just(Request::ForgetNext),
        (head(), proof()).prop_map(|(head, proof)| Request::SignReceipt { head, proof }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let refused = prop_oneof![
        any::<(u64, u64)>().prop_map(|(asked, confirmed)| SignError::Smaller { asked, confirmed }),
        (any::<u64>(), hash(), hash()).prop_map(|(size, asked, confirmed)| SignError::SecondRoot {
            size,
            asked,
            confirmed
        }),
        any::<(u64, u64)>().prop_map(|(asked, confirmed)| SignError::Forked { asked, confirmed }),
        (".{0,80}", ".{0,80}").prop_map(|(found, expected)| SignError::Origin { found, expected }),
        ".{0,80}".prop_map(SignError::Rotation),
        ".{0,80}".prop_map(SignError::Unavailable),
    ];
    prop_oneof![
        (".{0,80}", head()).prop_map(|(key, confirmed)| Answer::Hello { key, confirmed }),
        any::<[u8; 32]>().prop_map(|half| Answer::Signature([half, half].concat().try_into().unwrap())),
        ".{0,80}".prop_map(Answer::Key),
        Just(Answer::Done),
        refused.prop_map(Answer::Refused),
    ]
}

proptest! {
    #[test]
    fn messages_come_back(request in request(), answer in answer()) {
        prop_assert_eq!(Request::decode(&request.encode()), Some(request));
        prop_assert_eq!(Answer::decode(&answer.encode()), Some(answer));
    }

    /// What decodes is the one encoding of something.
    #[test]
    fn hostile_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..300), tag in 0_u8..12) {
        let bytes = [&[tag][..], &bytes].concat();
        if let Some(request) = Request::decode(&bytes) {
            prop_assert_eq!(request.encode(), bytes.clone());
        }
        if let Some(answer) = Answer::decode(&bytes) {
            prop_assert_eq!(answer.encode(), bytes);
        }
    }

    #[test]
    fn cut_and_longer_messages_are_refused(request in request(), extra in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let bytes = request.encode();
        prop_assert_eq!(Request::decode(&bytes[..cut.index(bytes.len())]), None);
        prop_assert_eq!(Request::decode(&[bytes, vec![extra]].concat()), None);
    }
}

#[test]
fn lengths_are_bounded_before_anything_is_read() {
    let claim = u32::try_from(MESSAGE_BYTES_MAX + 1).unwrap().to_le_bytes();
    assert_eq!(receive(&mut claim.as_slice()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(send(&mut Vec::new(), &vec![0; MESSAGE_BYTES_MAX + 1]).is_err());
    let longest = Request::Sign {
        origin: "o".repeat(TEXT_BYTES_MAX),
        head: TreeHead { size: 1, root: leaf_hash(b"") },
        proof: vec![leaf_hash(b""); PROOF_MAX],
    };
    let mut sent = Vec::new();
    send(&mut sent, &longest.encode()).unwrap();
    assert_eq!(Request::decode(&receive(&mut sent.as_slice()).unwrap()), Some(longest));
}
