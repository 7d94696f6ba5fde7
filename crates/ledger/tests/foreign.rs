//! Verifiers that others wrote judge a log that this ledger wrote: Go's note and tlog packages, aics-tlog, tlog-scales
//! and scitt-cose. Each accepts every honest checkpoint, proof, tile and receipt, and refuses every tampered copy.
//!
//! The programs are installed by `cargo xtask lab`; each reads one file of cases and writes one answer a case. A case
//! that is not a program's work it leaves out, and how many it must answer is counted here, so none passes by silence.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_ledger::{Config, Entry, Ledger, RealDisk, Store, verify};
use countersign_receipt::{Hash, VerifierKey};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The sizes at which the log is judged: around the first full tile, and where a third level begins.
const SIZES: [u64; 7] = [1, 2, 255, 256, 257, 1_000, 70_000];

/// A question to a verifier, and the answer that it must give.
struct Case {
    holds: bool,
    asked: Value,
}

/// The log at each size, and all the cases.
struct World {
    _dir: TempDir,
    cases: Vec<Case>,
}

#[test]
fn go_note_and_tlog() {
    judged_by("go-tlog", &[], &["checkpoint", "inclusion", "consistency", "tiles"]);
}

#[test]
fn aics_tlog() {
    judged_by("aics-python", &["aics.py"], &["checkpoint", "inclusion", "consistency", "tiles"]);
}

#[test]
fn tlog_scales() {
    judged_by("tlog-python", &["scales.py"], &["checkpoint", "inclusion", "consistency", "proof"]);
}

#[test]
fn scitt_cose() {
    judged_by("tlog-python", &["scitt.py"], &["cose"]);
}

/// Has one program judge everything of the kinds that are its work.
fn judged_by(program: &str, script: &[&str], kinds: &[&str]) {
    let Some(program) = find(program) else { return };
    let world = World::new();
    let file = world._dir.path().join("cases.json");
    let asked: Vec<_> = world.cases.iter().map(|case| &case.asked).collect();
    fs::write(&file, json!(asked).to_string()).unwrap();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign");
    let ended = Command::new(program)
        .args(script.iter().map(|script| here.join(script)))
        .arg(&file)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    let answers: Vec<Option<bool>> = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!(answers.len(), world.cases.len());
    for (case, answer) in world.cases.iter().zip(answers) {
        let kind = case.asked["kind"].as_str().unwrap();
        let wanted = kinds.contains(&kind).then_some(case.holds);
        assert_eq!(answer, wanted, "{}\n{said}", case.asked["name"]);
    }
    for holds in [true, false] {
        let judged = |kind: &&&str| world.cases.iter().any(|case| case.asked["kind"] == **kind && case.holds == holds);
        assert!(kinds.iter().all(|kind| judged(&kind)), "a kind has no case that ends with {holds}");
    }
}

/// A program of the lab; `None`, with a notice, only where there can be none.
fn find(program: &str) -> Option<PathBuf> {
    let Some(lab) = std::env::var_os("COUNTERSIGN_LAB").filter(|lab| !lab.is_empty()) else {
        if std::env::var_os("COUNTERSIGN_WITHOUT_LAB").is_some_and(|set| set == "1") {
            println!("SKIPPED: there is no lab, and COUNTERSIGN_WITHOUT_LAB=1 says that this is meant");
            return None;
        }
        panic!("COUNTERSIGN_LAB is not set: run `cargo xtask lab` and set what it prints");
    };
    let bin = Path::new(&lab).join("bin");
    if let Ok(why) = fs::read_to_string(bin.join(format!("{program}.absent"))) {
        eprintln!("*** SKIPPED: `{program}` is not in the lab: {why}");
        return None;
    }
    let path = bin.join(program);
    assert!(path.is_file(), "`{}` is missing: run `cargo xtask lab`", path.display());
    Some(path)
}

impl World {
    /// Writes the log to each size in turn, keeps a copy of its public folder, and asks about all of it.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::real(dir.path().join("ledger"));
        let key = Ledger::create(&store, "example.com/log").unwrap();
        let config =
            Config { queue_records: 1_000_000, queue_bytes: 1 << 30, segment_bytes: 200_000, ..Config::default() };
        let (ledger, _) = Ledger::open(&store, config, &mut |_| Ok(())).unwrap();
        let mut asking = Asking { key, ledger, cases: Vec::new(), older: Vec::new() };
        for size in SIZES {
            asking.grow(size);
            let public = dir.path().join(format!("public-{size}"));
            copy(&store.public(), &public);
            asking.honest(size, &public);
            asking.tampered(size, &public);
        }
        asking.pruned(&store, dir.path());
        asking.ledger.close().unwrap();
        Self { _dir: dir, cases: asking.cases }
    }
}

struct Asking {
    key: VerifierKey,
    ledger: Ledger,
    cases: Vec<Case>,
    /// The checkpoints of earlier sizes.
    older: Vec<(u64, String)>,
}

impl Asking {
    fn grow(&self, size: u64) {
        let from = self.ledger.head().size;
        let waiting: Vec<_> = (from..size).map(|index| self.ledger.append(Entry::new(leaf(index)))).collect();
        waiting.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
        assert!(self.ledger.flush(Duration::from_secs(60)).unwrap(), "not published at {size}");
    }

    fn ask(&mut self, holds: bool, asked: Value) {
        let mut asked = asked;
        if asked["vkey"].is_null() {
            asked["vkey"] = json!(self.key.to_string());
        }
        self.cases.push(Case { holds, asked });
    }

    fn honest(&mut self, size: u64, public: &Path) {
        let note = fs::read_to_string(public.join("checkpoint")).unwrap();
        assert_eq!(note, self.ledger.checkpoint(), "the published checkpoint is the newest");
        self.ask(true, json!({"kind": "checkpoint", "name": format!("checkpoint {size}"), "note": note}));
        self.ask(true, json!({"kind": "tiles", "name": format!("tiles {size}"), "folder": public}));
        self.included(size, public, &indexes(size));
        self.consistent(size);
        self.older.push((size, note));
    }

    fn included(&mut self, size: u64, public: &Path, indexes: &[u64]) {
        let note = self.ledger.checkpoint();
        for index in indexes.iter().copied() {
            let name = format!("{index} of {size}");
            let proof = self.ledger.prove(index).unwrap();
            let (path, leaf) = (base64_of(&proof.path), STANDARD.encode(leaf(index)));
            self.ask(
                true,
                json!({"kind": "inclusion", "name": name, "note": note, "index": index, "leaf": leaf, "path": path}),
            );
            self.ask(
                true,
                json!({"kind": "proof", "name": name, "folder": public, "index": index, "leaf": leaf, "proof": proof.to_string()}),
            );
            let cose = self.ledger.cose_receipt(index).unwrap().encode();
            self.cose((true, &name), (index, size), &cose, &leaf);
        }
    }

    fn consistent(&mut self, size: u64) {
        let note = self.ledger.checkpoint();
        for (old, old_note) in self.older.clone() {
            let proof = self.ledger.consistency(old).unwrap();
            let path = base64_of(&proof.path);
            let name = format!("{old} to {size}");
            self.ask(
                true,
                json!({"kind": "consistency", "name": name, "old_note": old_note, "note": note, "path": path}),
            );
        }
    }

    /// Lets the log begin later and grow on: what is kept must be judged as before.
    fn pruned(&mut self, store: &Store, dir: &Path) {
        let cut = self.ledger.cuts().unwrap().into_iter().rfind(|cut| *cut < 50_000).unwrap();
        assert!(cut > 1_000);
        let mut follower = self.ledger.refollow().unwrap().0;
        follower.advance(cut, &mut |_| Ok(())).unwrap();
        follower.save_base(b"a state", &[]).unwrap();
        self.ledger.prune(cut).unwrap();
        self.older.retain(|(size, _)| *size >= cut);
        let size = 70_500;
        self.grow(size);
        let public = dir.join("public-pruned");
        copy(&store.public(), &public);
        assert!(!public.join("tile/entries/000").exists() && public.join("tile/1/000").exists());
        self.included(size, &public, &[cut, cut + 1, 69_999, size - 1]);
        self.consistent(size);
        assert!(self.ledger.prove(cut - 1).is_err());
        let report = verify::walk_public(&RealDisk, &public, &self.key, |_, _| {}).unwrap();
        assert_eq!(report.from, cut / 256 * 256);
    }

    fn cose(&mut self, (holds, name): (bool, &str), (index, size): (u64, u64), receipt: &[u8], leaf: &str) {
        let public = STANDARD.encode(self.key.public());
        let receipt = STANDARD.encode(receipt);
        self.ask(
            holds,
            json!({"kind": "cose", "name": name, "index": index, "size": size, "receipt": receipt, "leaf": leaf, "public": public}),
        );
    }

    /// One flip in each thing that can be flipped, and the right things under the wrong key.
    fn tampered(&mut self, size: u64, public: &Path) {
        let note = self.ledger.checkpoint();
        let other = VerifierKey::new(self.key.name(), &[3; 32]).or_else(|_| VerifierKey::new("x", &[4; 32])).unwrap();
        let bad_size = note.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size + 1), 1);
        for (name, note, vkey) in [
            ("size", bad_size, None),
            ("signature", flipped_text(&note), None),
            ("key", note.clone(), Some(other.to_string())),
        ] {
            self.ask(false, json!({"kind": "checkpoint", "name": name, "note": note, "vkey": vkey}));
        }
        let (index, name) = (size / 2, format!("flipped at {size}"));
        let proof = self.ledger.prove(index).unwrap();
        let encoded = STANDARD.encode(leaf(index));
        let wrong_leaf = STANDARD.encode(leaf(index + size));
        let inclusion = |leaf: &str, path: Value| json!({"kind": "inclusion", "name": name, "note": note, "index": index, "leaf": leaf, "path": path});
        self.ask(false, inclusion(&wrong_leaf, base64_of(&proof.path)));
        if !proof.path.is_empty() {
            self.ask(false, inclusion(&encoded, base64_of(&flipped(&proof.path))));
        }
        if let Some((old, old_note)) = self.older.first().cloned().filter(|(old, _)| *old < size) {
            let path = base64_of(&flipped(&self.ledger.consistency(old).unwrap().path));
            self.ask(
                false,
                json!({"kind": "consistency", "name": name, "old_note": old_note, "note": note, "path": path}),
            );
        }
        self.flipped_files(
            size,
            public,
            &json!({"name": name, "index": index, "leaf": encoded, "proof": proof.to_string()}),
        );
        let cose = self.ledger.cose_receipt(index).unwrap();
        let mut changed = cose.clone();
        changed.signature[9] ^= 1;
        self.cose((false, "signature"), (index, size), &changed.encode(), &encoded);
        self.cose((false, "leaf"), (index, size), &cose.encode(), &wrong_leaf);
        if let Some(path) = (!cose.path.is_empty()).then(|| flipped(&cose.path)) {
            changed = countersign_receipt::CoseReceipt { path, ..cose.clone() };
            self.cose((false, "path"), (index, size), &changed.encode(), &encoded);
        }
    }

    /// Copies of the folder, each with one bit of one file flipped.
    fn flipped_files(&mut self, size: u64, public: &Path, proof: &Value) {
        for file in files(public) {
            let name = file.strip_prefix(public).unwrap().display().to_string();
            let is_judged = name == "checkpoint" || name.ends_with("/000") || edge(size).contains(&name);
            if !is_judged {
                continue;
            }
            let copy_of =
                public.with_file_name(format!("{}-{}", public.file_name().unwrap().display(), name.replace('/', "-")));
            link(public, &copy_of);
            let mut bytes = fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            bytes.get_mut(middle).into_iter().for_each(|byte| *byte ^= 1);
            // Another file under this name: what is linked is left as it is.
            fs::remove_file(copy_of.join(&name)).unwrap();
            fs::write(copy_of.join(&name), bytes).unwrap();
            self.ask(false, json!({"kind": "tiles", "name": format!("{name} flipped"), "folder": copy_of}));
            if name == "checkpoint" {
                let mut proof = proof.clone();
                proof["kind"] = json!("proof");
                proof["folder"] = json!(copy_of);
                self.ask(false, proof);
            }
        }
    }
}

fn leaf(index: u64) -> Vec<u8> {
    format!("record number {index}").into_bytes()
}

fn indexes(size: u64) -> Vec<u64> {
    let mut wanted = vec![0, size / 2, size.saturating_sub(2), size - 1];
    wanted.dedup();
    wanted
}

fn base64_of(path: &[Hash]) -> Value {
    path.iter().map(|hash| hash.to_base64()).collect()
}

fn flipped(path: &[Hash]) -> Vec<Hash> {
    let mut path = path.to_vec();
    if let Some(last) = path.last_mut() {
        let mut bytes = *last.as_bytes();
        bytes[31] ^= 1;
        *last = Hash::new(bytes);
    }
    path
}

/// The note with another character in the middle of its last line, the signature.
fn flipped_text(note: &str) -> String {
    let mut text = note.as_bytes().to_vec();
    let at = text.len() - 20;
    text.get_mut(at).into_iter().for_each(|byte| *byte = if *byte == b'A' { b'B' } else { b'A' });
    String::from_utf8(text).unwrap()
}

/// The partial files of the tree of this size. Those of older sizes stay where they are; nobody reads them any more.
fn edge(size: u64) -> Vec<String> {
    let at = |level: u32| (size >> (8 * (level + 1)), (size >> (8 * level)) % 256);
    let (number, width) = at(0);
    let entries = format!("tile/entries/{number:03}.p/{width}");
    let tiles = (0..3).map(at).zip(0..).map(|((number, width), level)| format!("tile/{level}/{number:03}.p/{width}"));
    tiles.chain([entries]).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { found.extend(files(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    each_file(from, to, &|from, to| fs::copy(from, to).map(drop));
}

/// As [`copy`], by names for the same files.
fn link(from: &Path, to: &Path) {
    each_file(from, to, &|from, to| fs::hard_link(from, to));
}

fn each_file(from: &Path, to: &Path, put: &dyn Fn(&Path, &Path) -> std::io::Result<()>) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        put(&file, &target).unwrap();
    }
}
