//! What a token's answer and a PIN's file must look like. Tests with a real token are in `testkit`.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn a_point_is_raw_or_an_octet_string() {
    let raw = [7; 32];
    let wrapped = [&[4, 32][..], &raw].concat();
    let deceptive = [&[4, 32][..], &raw[..30]].concat();
    let check = |bytes: &[u8], expected: Option<&[u8]>| {
        assert_eq!(ed25519_point(bytes).as_ref().map(<[u8; 32]>::as_slice), expected, "{bytes:?}");
    };
    check(&raw, Some(&raw));
    check(&wrapped, Some(&raw));
    // A raw point may begin with any two bytes.
    check(&deceptive, Some(&deceptive));
    for other in [&wrapped[..33], &raw[..31], &[4, 57], &[9; 57], &[4; 34][..], &[]] {
        check(other, None);
    }
}

#[test]
fn a_pin_is_read_from_a_file_of_its_owner_only() {
    use cryptoki::types::AuthPin;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pin");
    let read = |text: &str, mode: u32| -> Result<AuthPin, String> {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read_pin(&path).map_err(|error| error.to_string())
    };
    for mode in [0o600, 0o400] {
        read("1234\n", mode).unwrap();
    }
    for mode in [0o640, 0o604, 0o610, 0o602, 0o644, 0o777] {
        let refused = read("1234\n", mode).err().unwrap();
        assert!(refused.contains(&format!("{mode:04o}")), "{refused}");
    }
    for text in ["", "\n", "12\n34\n", "1234\r\n", &"1".repeat(1025)] {
        assert!(read(text, 0o600).is_err(), "{text:?}");
    }
    assert!(read_pin(dir.path()).is_err());
    assert!(read_pin(&dir.path().join("absent")).is_err());
}
