//! What signers refuse: in this process, and in one of their own over a socket.

use std::path::PathBuf;
use std::thread;

use countersign_receipt::Frontier;
use countersign_receipt::merkle::{consistency_proof, empty_root, leaf_hash};

use super::*;
use crate::mark::Mark;
use crate::tree::BatchTiles;

fn pair(dir: &std::path::Path) -> Store {
    let store = Store::real(dir);
    let (key, der) = generate("log").unwrap();
    save(&store, &key, &der).unwrap();
    store
}

fn checkpoint(size: u64, root: Hash) -> Checkpoint {
    Checkpoint { origin: "log".into(), size, root }
}

#[test]
fn refuses_smaller_second_and_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let signer = LocalSigner::load(&pair(dir.path())).unwrap();
    let sign = |checkpoint: &Checkpoint| signer.sign(checkpoint, &Beginning);
    let (one, two) = (leaf_hash(b"1"), leaf_hash(b"2"));
    // Not confirmed yet: may be signed anew.
    sign(&checkpoint(5, one)).unwrap();
    let signature = sign(&checkpoint(5, two)).unwrap();
    assert!(signer.verifier_key().accepts(&checkpoint(5, two).signed_body(), &signature));
    signer.confirm(&TreeHead { size: 5, root: two }).unwrap();
    sign(&checkpoint(5, two)).unwrap();
    sign(&checkpoint(6, one)).unwrap();
    assert!(matches!(sign(&checkpoint(5, one)), Err(SignError::SecondRoot { size: 5, .. })));
    assert_eq!(sign(&checkpoint(4, one)), Err(SignError::Smaller { asked: 4, confirmed: 5 }));
    assert!(signer.confirm(&TreeHead { size: 0, root: empty_root() }).is_err());
    let foreign = Checkpoint { origin: "other".into(), size: 9, root: one };
    assert!(matches!(sign(&foreign), Err(SignError::Origin { .. })));
    // Receipts are held to the same rule.
    let head = |size, root| TreeHead { size, root };
    signer.sign_receipt(&head(5, two), &Beginning).unwrap();
    assert!(matches!(signer.sign_receipt(&head(5, one), &Beginning), Err(SignError::SecondRoot { size: 5, .. })));
    assert!(matches!(signer.sign_receipt(&head(4, two), &Beginning), Err(SignError::Smaller { .. })));
}

/// A tree that proves its own past: leaf `i` is `salt` and `i`, but only from `from` on.
struct Tree(BatchTiles);

impl Tree {
    fn of(size: u64, forked_from: u64) -> Self {
        let mut tiles = BatchTiles::of(Default::default());
        for index in 0..size {
            let salt = u8::from(index >= forked_from);
            tiles.edge.push(leaf_hash(&[&[salt][..], &index.to_le_bytes()].concat()), &mut tiles.full);
        }
        Self(tiles)
    }

    fn checkpoint(&self) -> Checkpoint {
        let head = self.0.edge.head().unwrap();
        checkpoint(head.size, head.root)
    }
}

impl History for Tree {
    fn since(&self, size: u64) -> Result<Vec<Hash>, SignError> {
        Ok(consistency_proof(&self.0, size, self.0.edge.size()).unwrap())
    }
}

/// A signer in a folder, served by a thread until the test's process ends.
struct Served {
    _dir: tempfile::TempDir,
    store: Store,
    socket: PathBuf,
}

impl Served {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = pair(dir.path());
        Mark::create(&store.high_water(), &Frontier::new().head()).unwrap();
        let socket = dir.path().join("sock");
        let served = Self { _dir: dir, store, socket };
        served.serve();
        served
    }

    fn serve(&self) {
        let server = self.server().unwrap();
        thread::spawn(move || server.serve());
    }

    fn server(&self) -> Result<SignerServer, OpenError> {
        let keys = Box::new(FileKeys::load(&self.store)?);
        SignerServer::bind(&self.store, keys, &self.socket, Peers::new(&[]))
    }

    fn connect(&self) -> RemoteSigner {
        RemoteSigner::connect(&self.socket).unwrap()
    }

    fn guard(&self) -> Guard {
        Guard::open(&self.store, Box::new(FileKeys::load(&self.store).unwrap())).unwrap()
    }
}

#[test]
fn a_fork_of_what_was_confirmed_is_never_signed() {
    let served = Served::new();
    let signer = served.connect();
    let confirmed = Tree::of(300, u64::MAX);
    signer.resume(&Frontier::new().head(), &Beginning).unwrap();
    // Unconfirmed, so any of them may be signed.
    signer.sign(&Tree::of(300, 7).checkpoint(), &Tree::of(300, 7)).unwrap();
    signer.sign(&confirmed.checkpoint(), &confirmed).unwrap();
    signer.confirm(&confirmed.checkpoint().head()).unwrap();
    let check = |tree: &Tree, allowed: bool| {
        let signed = signer.sign(&tree.checkpoint(), tree);
        assert_eq!(signed.is_ok(), allowed, "{:?}: {signed:?}", tree.checkpoint());
    };
    check(&Tree::of(301, u64::MAX), true);
    check(&Tree::of(700, 300), true);
    check(&Tree::of(700, 299), false);
    check(&Tree::of(300, 299), false);
    check(&Tree::of(299, u64::MAX), false);
    check(&Tree::of(300, u64::MAX), true);
    check(&Tree::of(70_000, 300), true);
    // Nobody's word moves the high-water to a fork either.
    let fork = Tree::of(800, 10);
    assert!(signer.resume(&fork.checkpoint().head(), &fork).is_err());
    check(&Tree::of(800, u64::MAX), true);
}

#[test]
fn the_high_water_outlives_the_process() {
    let served = Served::new();
    let store = served.store.clone();
    drop(served.connect());
    let mut guard = served.guard();
    let tree = Tree::of(9, u64::MAX);
    guard.sign(&tree.checkpoint(), &[]).unwrap();
    guard.confirm(&tree.checkpoint().head(), &[]).unwrap();
    // No sync, no close: as killed.
    drop(guard);
    let mut guard = served.guard();
    assert_eq!(guard.confirmed().size, 9);
    assert!(guard.sign(&Tree::of(8, u64::MAX).checkpoint(), &[]).is_err());
    let longer = Tree::of(12, u64::MAX);
    guard.sign(&longer.checkpoint(), &longer.since(9).unwrap()).unwrap();
    // Signed before the restart only: a confirmation needs its proof again.
    let mut guard = served.guard();
    assert!(guard.confirm(&longer.checkpoint().head(), &[]).is_err());
    guard.confirm(&longer.checkpoint().head(), &longer.since(9).unwrap()).unwrap();
    for state in ["missing", "damaged"] {
        match state {
            "missing" => std::fs::remove_file(store.high_water().path()).unwrap(),
            _ => std::fs::write(store.high_water().path(), [0; 8192]).unwrap(),
        }
        let keys = Box::new(FileKeys::load(&store).unwrap());
        let found = Guard::open(&store, keys).err().unwrap();
        assert!(matches!(found, OpenError::HighWater { state: found, .. } if found == state), "{found}");
    }
}

#[test]
fn a_second_signer_of_one_key_is_refused() {
    let served = Served::new();
    assert!(matches!(served.server(), Err(OpenError::InUse { .. })));
}

#[test]
fn a_key_changes_only_as_stated() {
    let served = Served::new();
    let mut guard = served.guard();
    let (tree, last) = (Tree::of(5, u64::MAX), Tree::of(6, u64::MAX));
    guard.sign(&tree.checkpoint(), &[]).unwrap();
    guard.confirm(&tree.checkpoint().head(), &[]).unwrap();
    let (old, new) = (guard.verifier_key(), guard.next_key().unwrap());
    let rotation = |first| Rotation { first, old: old.clone(), new: new.clone() };
    assert!(guard.state(&rotation(6)).is_err(), "the old key would have no last tree");
    assert!(guard.state(&Rotation { new: old.clone(), ..rotation(7) }).is_err());
    assert!(guard.adopt(&new, &last.checkpoint().head(), &last.since(5).unwrap()).is_err(), "not stated");
    let signature = guard.state(&rotation(7)).unwrap();
    assert!(old.accepts(&rotation(7).text(), &signature));
    assert!(guard.state(&rotation(8)).is_err(), "a key is stated once");
    assert!(guard.next_key().is_err());
    assert!(guard.adopt(&new, &tree.checkpoint().head(), &[]).is_err(), "not the size before");
    guard.sign(&last.checkpoint(), &last.since(5).unwrap()).unwrap();
    // The statement outlives the process, and the change may be asked for twice.
    let mut guard = served.guard();
    for _ in 0..2 {
        guard.adopt(&new, &last.checkpoint().head(), &last.since(5).unwrap()).unwrap();
    }
    assert_eq!((guard.verifier_key(), guard.confirmed().size), (new.clone(), 6));
    let mut guard = served.guard();
    assert_eq!(guard.verifier_key(), new);
    assert_ne!(guard.next_key().unwrap(), new);
}

#[test]
fn a_stated_key_dies_when_the_old_one_goes_on() {
    let served = Served::new();
    let mut guard = served.guard();
    let (old, new) = (guard.verifier_key(), guard.next_key().unwrap());
    guard.state(&Rotation { first: 2, old: old.clone(), new: new.clone() }).unwrap();
    let tree = Tree::of(2, u64::MAX);
    guard.sign(&tree.checkpoint(), &[]).unwrap();
    assert!(guard.adopt(&new, &Tree::of(1, u64::MAX).checkpoint().head(), &[]).is_err());
    assert_eq!(guard.verifier_key(), old);
    assert_ne!(guard.next_key().unwrap(), new, "a key that was named and given up never signs");
}

#[test]
fn what_is_no_request_ends_the_connection_and_not_the_signer() {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    let served = Served::new();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4], &[255; 40], &[1, 0, 0, 0, 99]] {
        let mut stream = UnixStream::connect(&served.socket).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // A reset is an end, too.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{bytes:?}: {answer:?}");
    }
    served.connect();
}
