//! The ledger's side of a signer in a process of its own.
//!
//! A commit costs one round trip: the confirmation of the last tree is sent without waiting, and its answer is read
//! before the next signature's. No signature is believed that does not verify, so a lying signer cannot get one into a
//! frame. A signer that is away, slow, or started anew is an error for the batch at hand, and is reached again by the
//! next one. It must not know what is done about an error. It does not cover starting the process.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_receipt::merkle::TreeHead;
use countersign_receipt::{Checkpoint, Hash, Rotation, VerifierKey, cose};

use super::server::peer_uid;
use super::wire::{Answer, Request, invalid, receive, send};
use super::{History, Signer};
use crate::error::SignError;

/// How long the signer may take for one answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a signer that was too slow is left alone, so that waiting records are refused at once meanwhile.
const REST: Duration = Duration::from_millis(250);

/// A signer behind a Unix socket.
pub struct RemoteSigner {
    path: PathBuf,
    uid: u32,
    state: Mutex<State>,
}

struct State {
    key: VerifierKey,
    line: Option<Line>,
    /// Until when it is left alone.
    rest: Option<Instant>,
}

/// One connection.
struct Line {
    stream: UnixStream,
    /// What the signer has confirmed, or will have when it answers what was sent.
    confirmed: TreeHead,
    /// Whether the answer to a confirmation is still to be read.
    owed: bool,
}

/// What came of a request.
enum Trouble {
    /// The signer said no; the line is fine.
    Refused(SignError),
    /// The line is not.
    Broken(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

impl RemoteSigner {
    /// Reaches the signer and learns its key.
    ///
    /// # Errors
    /// [`SignError::Unavailable`] if nobody answers there.
    pub fn connect(path: &Path) -> Result<Self, SignError> {
        let reached = Line::reach(path).and_then(|(line, key)| Ok((peer_uid(&line.stream)?, line, key)));
        let (uid, line, key) = reached.map_err(|error| away(path, &error))?;
        let state = State { key, line: Some(line), rest: None };
        Ok(Self { path: path.to_path_buf(), uid, state: Mutex::new(state) })
    }

    /// The user that the signer runs as, as the operating system says.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a request from what is confirmed, sends it, and reads its answer. A line that is broken, by a signer that
    /// was started anew, is made once more; every request can be made twice.
    fn ask(
        &self,
        state: &mut State,
        request: &dyn Fn(&TreeHead) -> Result<Request, SignError>,
    ) -> Result<Answer, SignError> {
        if state.rest.is_some_and(|until| Instant::now() < until) {
            return Err(SignError::Unavailable(format!("signer at `{}` is too slow", self.path.display())));
        }
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        for _ in 0..2 {
            let mut line = match state.line.take() {
                Some(line) => line,
                None => self.reach_again(state)?,
            };
            let request = request(&line.confirmed)?;
            match line.exchange(&request) {
                Ok(answer) => {
                    state.line = Some(line);
                    return Ok(answer);
                }
                Err(Trouble::Refused(error)) => {
                    // What was thought to be confirmed may not be: learn it anew next time.
                    return Err(error);
                }
                Err(Trouble::Broken(error)) => {
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
                        state.rest = Some(Instant::now() + REST);
                        return Err(away(&self.path, &error));
                    }
                    last = error;
                }
            }
        }
        Err(away(&self.path, &last))
    }

    fn reach_again(&self, state: &State) -> Result<Line, SignError> {
        let (line, key) = Line::reach(&self.path).map_err(|error| away(&self.path, &error))?;
        if key != state.key {
            let why = format!("signer at `{}` has key `{key}`, not `{}`", self.path.display(), state.key);
            return Err(SignError::Unavailable(why));
        }
        Ok(line)
    }

    fn done(
        &self,
        state: &mut State,
        request: &dyn Fn(&TreeHead) -> Result<Request, SignError>,
    ) -> Result<(), SignError> {
        match self.ask(state, request)? {
            Answer::Done => Ok(()),
            other => Err(confused(state, &other)),
        }
    }

    /// A signature that verifies.
    fn signature(
        &self,
        state: &mut State,
        bytes: &[u8],
        request: &dyn Fn(&TreeHead) -> Result<Request, SignError>,
    ) -> Result<[u8; 64], SignError> {
        match self.ask(state, request)? {
            Answer::Signature(signature) if state.key.accepts_bytes(bytes, &signature) => Ok(signature),
            Answer::Signature(_) => {
                state.line = None;
                Err(SignError::Unavailable("the signer's signature does not verify".to_owned()))
            }
            other => Err(confused(state, &other)),
        }
    }
}

impl Line {
    fn reach(path: &Path) -> io::Result<(Self, VerifierKey)> {
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        send(&mut stream, &Request::Hello.encode())?;
        let Some(Answer::Hello { key, confirmed }) = Answer::decode(&receive(&mut stream)?) else {
            return Err(invalid("what listens there is no signer of this version"));
        };
        let key = VerifierKey::parse(&key).map_err(|error| invalid(&error.to_string()))?;
        Ok((Self { stream, confirmed, owed: false }, key))
    }

    fn exchange(&mut self, request: &Request) -> Result<Answer, Trouble> {
        send(&mut self.stream, &request.encode())?;
        if std::mem::take(&mut self.owed) {
            match self.answer()? {
                Answer::Done => {}
                other => return Err(Trouble::Broken(invalid(&format!("a confirmation was answered by {other:?}")))),
            }
        }
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer, Trouble> {
        match Answer::decode(&receive(&mut self.stream)?) {
            Some(Answer::Refused(error)) => Err(Trouble::Refused(error)),
            Some(answer) => Ok(answer),
            None => Err(Trouble::Broken(invalid("the answer is no message of this version"))),
        }
    }
}

impl Signer for RemoteSigner {
    fn verifier_key(&self) -> VerifierKey {
        self.lock().key.clone()
    }

    fn resume(&self, head: &TreeHead, history: &dyn History) -> Result<(), SignError> {
        let mut state = self.lock();
        self.done(&mut state, &|confirmed| {
            Ok(Request::Confirm { head: *head, proof: since(history, confirmed, head)? })
        })?;
        if let Some(line) = &mut state.line {
            line.confirmed = *head;
        }
        self.done(&mut state, &|_| Ok(Request::ForgetNext))
    }

    fn sign(&self, checkpoint: &Checkpoint, history: &dyn History) -> Result<[u8; 64], SignError> {
        let head = checkpoint.head();
        let origin = checkpoint.origin.clone();
        self.signature(&mut self.lock(), checkpoint.signed_body().as_bytes(), &|confirmed| {
            Ok(Request::Sign { origin: origin.clone(), head, proof: since(history, confirmed, &head)? })
        })
    }

    fn sign_receipt(&self, head: &TreeHead, history: &dyn History) -> Result<[u8; 64], SignError> {
        let mut state = self.lock();
        let bytes = cose::to_be_signed(&state.key, head);
        self.signature(&mut state, &bytes, &|confirmed| {
            Ok(Request::SignReceipt { head: *head, proof: since(history, confirmed, head)? })
        })
    }

    /// Never fails: the tree is durable whatever becomes of the signer, and the next signature proves what it missed.
    fn confirm(&self, head: &TreeHead) -> Result<(), SignError> {
        let mut state = self.lock();
        let Some(mut line) = state.line.take() else { return Ok(()) };
        let request = Request::Confirm { head: *head, proof: Vec::new() };
        if !line.owed && send(&mut line.stream, &request.encode()).is_ok() {
            (line.owed, line.confirmed) = (true, *head);
            state.line = Some(line);
        }
        Ok(())
    }

    fn next_key(&self) -> Result<VerifierKey, SignError> {
        let mut state = self.lock();
        let key = match self.ask(&mut state, &|_| Ok(Request::NextKey))? {
            Answer::Key(key) => key,
            other => return Err(confused(&mut state, &other)),
        };
        VerifierKey::parse(&key).map_err(|error| SignError::Unavailable(format!("the signer's next key: {error}")))
    }

    fn state(&self, rotation: &Rotation) -> Result<[u8; 64], SignError> {
        let Rotation { first, old, new } = rotation;
        self.signature(&mut self.lock(), rotation.text().as_bytes(), &|_| {
            Ok(Request::State { first: *first, old: old.to_string(), new: new.to_string() })
        })
    }

    fn adopt(&self, rotation: &Rotation, head: &TreeHead, history: &dyn History) -> Result<(), SignError> {
        let mut state = self.lock();
        // The signer may have changed its key already, and its answer have got lost: a new line shows.
        if state.line.is_none() && state.key == rotation.old {
            let (line, key) = Line::reach(&self.path).map_err(|error| away(&self.path, &error))?;
            if key == rotation.new {
                state.key = key;
            }
            state.line = Some(line);
        }
        let key = rotation.new.to_string();
        let adopted = self.done(&mut state, &|confirmed| {
            Ok(Request::Adopt { key: key.clone(), head: *head, proof: since(history, confirmed, head)? })
        });
        if adopted.is_err() {
            // Whether it did is not known: the next try starts with a new line.
            state.line = None;
            return adopted;
        }
        state.key = rotation.new.clone();
        if let Some(line) = &mut state.line {
            line.confirmed = *head;
        }
        Ok(())
    }

    fn forget_next(&self) -> Result<(), SignError> {
        self.done(&mut self.lock(), &|_| Ok(Request::ForgetNext))
    }
}

/// The proof from what the signer has confirmed; none where it has more than this, which it will refuse by itself.
fn since(history: &dyn History, confirmed: &TreeHead, head: &TreeHead) -> Result<Vec<Hash>, SignError> {
    if confirmed.size >= head.size { Ok(Vec::new()) } else { history.since(confirmed.size) }
}

fn away(path: &Path, error: &io::Error) -> SignError {
    SignError::Unavailable(format!("signer at `{}` does not answer: {error}", path.display()))
}

fn confused(state: &mut State, answer: &Answer) -> SignError {
    state.line = None;
    SignError::Unavailable(format!("the signer gave an answer to another question: {answer:?}"))
}
