//! Names and bundles of tlog-tiles.

use super::*;

#[test]
fn names_follow_the_specification() {
    let check = |number, width, expected: &str| assert_eq!(hash_path(0, number, width), format!("tile/0/{expected}"));
    check(0, 256, "000");
    check(999, 256, "999");
    check(1_000, 256, "x001/000");
    check(1_234_067, 256, "x001/x234/067");
    check(1_234_067, 8, "x001/x234/067.p/8");
    assert_eq!(entries_path(1_000, 1), "tile/entries/x001/000.p/1");
}

#[test]
fn bundles_round_trip_and_are_strict() {
    let mut bundle = Vec::new();
    let entries: [&[u8]; 3] = [b"one", &[7; 65_535], b""];
    entries.iter().for_each(|entry| push_entry(&mut bundle, entry));
    assert_eq!(split_entries(&bundle).unwrap(), entries);
    assert_eq!(split_entries(&[]).unwrap(), Vec::<&[u8]>::new());
    bundle.pop();
    bundle.pop();
    bundle.extend_from_slice(&[0, 1]);
    assert_eq!(split_entries(&bundle), None);
    assert_eq!(split_entries(&[0]), None);
}
