//! A leaf that is read as a record is the one encoding of that record.
#![no_main]

use countersign_model::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|leaf: &[u8]| {
    if let Ok(record) = Record::from_leaf(leaf) {
        let again = record.to_leaf().expect("what was read fits in a leaf");
        assert_eq!(leaf, again);
    }
});
