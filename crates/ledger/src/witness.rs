//! A witness: remembers for each log the last tree that it vouched for, and vouches for nothing that contradicts it.
//!
//! Layout of its directory: `witness.key` and `witness.vkey` (made at the first start), `state/` (for each log the last
//! checkpoint with the log's signature and our own cosignature), `marks/` (how far each log was cosigned), `evidence/`
//! (two roots that a log signed for one size), `lock`. State is durable before an answer is given. A state that is gone,
//! altered or behind its mark refuses the start; whoever restores the whole directory is found out by the logs, which
//! remember what this witness cosigned, and by a mark that is kept elsewhere. It must not know HTTP. It does not cover
//! what a log's leaves say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use countersign_receipt::cosignature::message;
use countersign_receipt::merkle::TreeHead;
use countersign_receipt::monitor::{Evidence, Misbehaviour};
use countersign_receipt::witness::{Accepted, Known, LogKey, Refusal, Submission, decide};
use countersign_receipt::{Checkpoint, Hash, Note, VerifierKey, WitnessKey};

use crate::disk::{Access, DiskLock, Mode, read_file, replace_file};
use crate::error::WitnessError;
use crate::store::Store;

#[cfg(test)]
mod tests;

/// The most evidence that is kept for one log: one conviction is enough, and nobody may fill the disk with them.
const EVIDENCE_MAX: usize = 16;
const STATE_BYTES_MAX: u64 = 128 * 1024;

/// A running witness.
pub struct Witness {
    store: Store,
    marks: PathBuf,
    pair: Ed25519KeyPair,
    key: WitnessKey,
    logs: Vec<LogKey>,
    /// Held from the question until the answer is durable: two submissions must not both look right.
    held: Mutex<BTreeMap<String, Held>>,
    _lock: Box<dyn DiskLock>,
}

/// What was cosigned last for one log.
struct Held {
    known: Known,
    note: String,
    time_s: u64,
    /// A write failed: what lies on the disk is not known any more, so nothing is answered before a restart.
    is_doubtful: bool,
}

/// How a submission ended that was not cosigned.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The specification's refusal.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The witness cannot keep what it would vouch for.
    #[error("this witness cannot keep its state: {0}")]
    Unkept(String),
}

impl Witness {
    /// Opens the witness in `store`'s directory; makes its key there at the first start. `marks` is where marks lie
    /// besides the directory: on another disk they notice that the directory was set back. `logs` are the keys of the
    /// logs to watch, those of one log the oldest first.
    ///
    /// # Errors
    /// [`WitnessError`], naming what is wrong and the remedy.
    pub fn open(store: &Store, name: &str, marks: Option<&Path>, logs: Vec<LogKey>) -> Result<Self, WitnessError> {
        if let Some(twice) = given_twice(&logs) {
            return Err(WitnessError::Twice { origin: twice.name().to_owned(), id: twice.id_hex() });
        }
        let disk = store.disk();
        let dir = store.dir();
        let marks = marks.map_or_else(|| dir.join("marks"), Path::to_path_buf);
        for folder in [dir, &dir.join("state"), &marks] {
            disk.create_dir(folder, Access::Private).map_err(WitnessError::io("creation", folder))?;
        }
        let lock = disk.lock(&store.lock()).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => WitnessError::InUse { dir: dir.to_path_buf() },
            _ => WitnessError::io("lock", store.lock())(error),
        })?;
        let (pair, key) = open_key(store, name)?;
        let (mut held, mut heads) = (BTreeMap::new(), BTreeMap::new());
        let folder = dir.join("state");
        for file in disk.list(&folder).map_err(WitnessError::io("list", &folder))? {
            // A name that was never renamed into place was never answered for.
            if !file.ends_with(".tmp") {
                let state = read_state(store, &key, &folder.join(&file))?;
                if state_file(&state.origin) != file {
                    return Err(WitnessError::altered(folder.join(file), "it is the state of another log".to_owned()));
                }
                heads.insert(file, state.head);
                held.extend(state.held(&logs)?);
            }
        }
        let witness = Self { store: store.clone(), marks, pair, key, logs, held: Mutex::new(held), _lock: lock };
        witness.check_marks(&heads)?;
        Ok(witness)
    }

    /// The witness's public key.
    #[must_use]
    pub fn key(&self) -> &WitnessKey {
        &self.key
    }

    /// For each log known so far: origin and the last size cosigned.
    #[must_use]
    pub fn logs(&self) -> Vec<(String, u64)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = self
            .logs
            .iter()
            .map(|log| log.key.name())
            .map(|n| (n.to_owned(), held.get(n).map_or(0, |h| h.known.head.size)));
        let mut sizes: Vec<_> = sizes.collect();
        // A log with several keys is one log.
        sizes.dedup();
        sizes
    }

    /// Takes the body of an `add-checkpoint` request at `now_s` and returns the cosignature's line, durable already.
    ///
    /// # Errors
    /// [`Unanswered`]; then nothing was cosigned.
    pub fn add_checkpoint(&self, body: &[u8], now_s: u64) -> Result<String, Unanswered> {
        let submission = Submission::parse(body)?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let known = held.get(submission.origin());
        if known.is_some_and(|held| held.is_doubtful) {
            return Err(Unanswered::Unkept("a write failed; restart the witness once the disk is well".to_owned()));
        }
        let accepted = decide(&submission, &self.logs, known.map(|held| &held.known)).inspect_err(|refusal| {
            if let (true, Some(held)) = (refusal.is_misbehaviour(), known) {
                self.keep_evidence(&submission, held);
            }
        })?;
        // A clock that was set back does not set back what was said.
        let time_s = known.map_or(now_s, |held| held.time_s.max(now_s));
        let line = self.sign(&accepted, time_s)?;
        let known = Known { head: accepted.checkpoint.head(), signer: accepted.signer.clone() };
        let next = Held { known, note: accepted.note.clone(), time_s, is_doubtful: false };
        let kept = self.keep(&accepted.checkpoint.origin, &next, &line);
        held.insert(accepted.checkpoint.origin, Held { is_doubtful: kept.is_err(), ..next });
        drop(held);
        kept.map(|()| line).map_err(|error| Unanswered::Unkept(error.to_string()))
    }

    fn sign(&self, accepted: &Accepted, time_s: u64) -> Result<String, Unanswered> {
        let failed = || Unanswered::Unkept("signing failed".to_owned());
        let signature = self.pair.try_sign(message(time_s, &accepted.text).as_bytes()).map_err(|_| failed())?;
        let signature: &[u8; 64] = signature.as_ref().try_into().map_err(|_| failed())?;
        Ok(self.key.line(time_s, signature))
    }

    /// State first, durable with its name; then the mark, which so never runs ahead of an honest state.
    fn keep(&self, origin: &str, next: &Held, line: &str) -> Result<(), WitnessError> {
        let disk = self.store.disk();
        let folder = self.store.dir().join("state");
        let path = folder.join(state_file(origin));
        let text = format!("{}{line}", next.note);
        replace_file(disk, &path, text.as_bytes(), Access::Private).map_err(WitnessError::io("write", &path))?;
        disk.sync_dir(&folder).map_err(WitnessError::io("sync", &folder))?;
        let path = self.marks.join(state_file(origin));
        let mark = format!("{:020} {}\n", next.known.head.size, next.known.head.root);
        let file = disk.open(&path, Mode::Edit).or_else(|_| disk.open(&path, Mode::New(Access::Private)));
        file.and_then(|file| file.write_at(0, mark.as_bytes())).map_err(WitnessError::io("write", &path))
    }

    /// A mark that knows more than the state: the state was set back.
    fn check_marks(&self, heads: &BTreeMap<String, TreeHead>) -> Result<(), WitnessError> {
        let disk = self.store.disk();
        for file in disk.list(&self.marks).map_err(WitnessError::io("list", &self.marks))? {
            let path = self.marks.join(&file);
            let bytes = read_file(disk, &path, 4096).map_err(WitnessError::io("read", &path))?;
            let Some(mark) = read_mark(&bytes) else {
                return Err(WitnessError::altered(path, "it is not a size and a root".to_owned()));
            };
            let found = heads.get(&file);
            let size = found.map_or(0, |head| head.size);
            if mark.size > size || (mark.size == size && found.is_some_and(|head| head.root != mark.root)) {
                return Err(WitnessError::Rollback { path, seen: mark.size, found: size });
            }
        }
        Ok(())
    }

    /// Two roots that the log signed for one size convict it, wherever they are shown.
    fn keep_evidence(&self, submission: &Submission, held: &Held) {
        let disk = self.store.disk();
        let keys = self.logs.iter().map(|log| &log.key).filter(|key| key.name() == submission.origin());
        let convicted = keys.filter_map(|key| Some((key, submission.signed_by(key)?))).next();
        let Some((key, second)) = convicted else { return };
        let evidence =
            Evidence { key: key.clone(), shows: Misbehaviour::SplitView, first: held.note.clone(), second, fork: None };
        let folder = self.store.dir().join("evidence");
        let made = disk.create_dir(&folder, Access::Private).and_then(|()| disk.list(&folder));
        let id = state_file(submission.origin());
        let number = made.map_or(EVIDENCE_MAX, |names| names.iter().filter(|name| name.starts_with(&id)).count());
        let path = folder.join(format!("{id}-{}-{number}.json", held.known.head.size));
        tracing::error!(
            origin = submission.origin(),
            size = held.known.head.size,
            "split view: a second root for one size"
        );
        if number < EVIDENCE_MAX
            && let Ok(text) = evidence.to_json()
            && let Err(error) = replace_file(disk, &path, text.as_bytes(), Access::Private)
        {
            tracing::error!(%error, path = %path.display(), "evidence of a split view could not be kept");
        }
    }
}

/// The name of a log's files: an origin may hold what no file name may.
fn state_file(origin: &str) -> String {
    let hash = digest(&SHA256, origin.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_mark(bytes: &[u8]) -> Option<TreeHead> {
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (size, root) = line.split_once(' ')?;
    Some(TreeHead { size: size.parse().ok()?, root: Hash::from_base64(root)? })
}

/// What lies on the disk for one log.
struct State {
    path: PathBuf,
    origin: String,
    head: TreeHead,
    note: Note,
    /// With the log's signature alone.
    text: String,
    time_s: u64,
}

impl State {
    /// With the key of the log that had signed: the newest that this witness accepted, so no older one comes back.
    /// Nothing where the log is not watched any more.
    fn held(self, logs: &[LogKey]) -> Result<Option<(String, Held)>, WitnessError> {
        let keys: Vec<_> = logs.iter().map(|log| &log.key).filter(|key| key.name() == self.origin).collect();
        if keys.is_empty() {
            return Ok(None);
        }
        let signer = keys.iter().find(|key| self.note.verify(key).is_ok());
        let signer = signer.ok_or(WitnessError::Signer { path: self.path, origin: self.origin.clone() })?;
        let known = Known { head: self.head, signer: (*signer).clone() };
        Ok(Some((self.origin, Held { known, note: self.text, time_s: self.time_s, is_doubtful: false })))
    }
}

fn given_twice(logs: &[LogKey]) -> Option<&VerifierKey> {
    let mut keys = logs.iter().map(|log| &log.key).enumerate();
    keys.find(|(at, key)| logs.iter().take(*at).any(|log| log.key == **key)).map(|(_, key)| key)
}

fn read_state(store: &Store, key: &WitnessKey, path: &Path) -> Result<State, WitnessError> {
    let bytes = read_file(store.disk(), path, STATE_BYTES_MAX).map_err(WitnessError::io("read", path))?;
    let altered = |why: String| WitnessError::altered(path.to_path_buf(), why);
    let text = String::from_utf8(bytes).map_err(|error| altered(error.to_string()))?;
    let note = Note::parse(&text).map_err(|error| altered(error.to_string()))?;
    let cosigned = key.verify(&note).map_err(|error| altered(error.to_string()))?;
    let (checkpoint, _) = Checkpoint::parse_extended(note.text()).map_err(|error| altered(error.to_string()))?;
    let log_signed = text.strip_suffix(&cosigned.line).unwrap_or(&text).to_owned();
    let head = checkpoint.head();
    let (path, origin) = (path.to_path_buf(), checkpoint.origin);
    Ok(State { path, origin, head, note, text: log_signed, time_s: cosigned.time_s })
}

fn open_key(store: &Store, name: &str) -> Result<(Ed25519KeyPair, WitnessKey), WitnessError> {
    let disk = store.disk();
    let (secret, public) = (store.dir().join("witness.key"), store.dir().join("witness.vkey"));
    let bad = |why: &str| WitnessError::Key { path: secret.clone(), reason: why.to_owned() };
    let der = match read_file(disk, &secret, 4096) {
        Ok(der) => der,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let states = store.dir().join("state");
            // A new key beside old state would vouch for what it never saw.
            if !disk.list(&states).map_err(WitnessError::io("list", &states))?.is_empty() {
                return Err(bad("it is missing, and there is state that it signed"));
            }
            let pair = Ed25519KeyPair::generate().map_err(|_| bad("no key could be generated"))?;
            let der = pair.to_pkcs8().map_err(|_| bad("no key could be generated"))?.as_ref().to_vec();
            replace_file(disk, &secret, &der, Access::Private).map_err(WitnessError::io("write", &secret))?;
            disk.sync_dir(store.dir()).map_err(WitnessError::io("sync", store.dir()))?;
            der
        }
        Err(error) => return Err(WitnessError::io("read", &secret)(error)),
    };
    let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| bad("not an Ed25519 key in PKCS#8"))?;
    let bytes = pair.public_key().as_ref().try_into().map_err(|_| bad("not an Ed25519 key in PKCS#8"))?;
    let key = WitnessKey::new(name, bytes)?;
    let text = format!("{key}\n");
    match read_file(disk, &public, 4096) {
        Ok(known) if known == text.as_bytes() => {}
        Ok(_) => return Err(bad("`witness.vkey` names another witness or key: start it under the name that it has")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            replace_file(disk, &public, text.as_bytes(), Access::Public).map_err(WitnessError::io("write", &public))?;
        }
        Err(error) => return Err(WitnessError::io("read", &public)(error)),
    }
    Ok((pair, key))
}
