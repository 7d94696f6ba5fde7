//! Who is let in.

use super::*;

#[test]
fn only_named_users_are_let_in() {
    let own = own_uid();
    for (named, uid, admitted) in [
        (vec![], own, true),
        (vec![], own + 1, false),
        (vec![own + 1], own + 1, true),
        (vec![own + 1], own, false),
        (vec![own + 1, own + 2], own + 2, true),
        (vec![4711], 0, false),
    ] {
        assert_eq!(Peers::new(&named).admits(uid), admitted, "{named:?} {uid}");
    }
    assert_eq!((Peers::new(&[]).mode(), Peers::new(&[own + 1]).mode()), (0o600, 0o666));
}

#[test]
fn the_kernel_names_the_peer() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    assert_eq!(peer_uid(&ours).unwrap(), own_uid());
}
