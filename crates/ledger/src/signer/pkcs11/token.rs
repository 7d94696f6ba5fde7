//! One token, spoken to through its PKCS#11 module: found, logged in to, asked for signatures, keys made and destroyed.
//!
//! A key is two objects of type `CKK_EC_EDWARDS` that carry the log's label and one `CKA_ID`. What a module or a token says
//! is not believed where it can be checked: a key counts only if it cannot be extracted and if a signature made with
//! its private half verifies under its public half. Whatever goes wrong ends the session, and the next request begins
//! anew, except that a PIN that was refused is never tried again: tokens lock themselves after a few. It must not know
//! which key is in force.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use countersign_receipt::VerifierKey;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use super::TokenPlace;
use super::notes::KeyId;
use crate::error::SignError;

#[cfg(test)]
mod tests;

/// How a curve is named in `CKA_EC_PARAMS`: by its identifier 1.3.101.112 until PKCS#11 2.40, and by `edwards25519` in
/// 3.0. Tokens know one or both.
const CURVES: [&[u8]; 2] = [b"\x06\x03\x2b\x65\x70", b"\x13\x0cedwards25519"];
/// Signed to see that two halves are one key. A checkpoint has three lines and a statement more; a receipt is CBOR.
const TRIAL: &str = "countersign: do these two belong together?\n";
const PIN_BYTES_MAX: u64 = 1024;

/// Why the token did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The module said no.
    #[error("token: {what}: {}", words(.error))]
    Module { what: &'static str, error: Error },
    /// The PIN was refused; it is not tried again.
    #[error("token `{token}` refused the PIN ({}): put the right one into `{file}` and start anew; it is not tried again, \
             for a token locks itself", words(.error))]
    Pin { token: String, file: String, error: Error },
    /// A PIN was refused before.
    #[error("token `{0}` refused the PIN before: put the right one into its file and start the signer anew")]
    PinBefore(String),
    /// The file with the PIN.
    #[error("PIN file `{file}`: {reason}")]
    PinFile { file: String, reason: String },
    /// Not exactly one token, or one key.
    #[error("{0}")]
    Found(String),
}

impl From<Fault> for SignError {
    fn from(fault: Fault) -> Self {
        Self::Unavailable(fault.to_string())
    }
}

/// The name of a return value; the specification's paragraph on it is left out.
fn words(error: &Error) -> String {
    match error {
        Error::Pkcs11(value, function) => format!("C_{function:?} answered {value:?}"),
        other => other.to_string(),
    }
}

fn said(what: &'static str) -> impl Fn(Error) -> Fault {
    move |error| Fault::Module { what, error }
}

/// A token, and the session with it if one is open.
pub(super) struct Token {
    place: TokenPlace,
    /// Once loaded it stays: some modules do not survive being unloaded.
    module: Option<Pkcs11>,
    session: Option<LoggedIn>,
    is_pin_refused: bool,
}

struct LoggedIn {
    session: Session,
    /// The private half that signed last.
    signing: Option<(VerifierKey, ObjectHandle)>,
}

/// Public halves carry the point and the identifier.
struct Public {
    object: ObjectHandle,
    point: Option<[u8; 32]>,
    id: Vec<u8>,
}

impl Token {
    pub(super) fn new(place: TokenPlace) -> Self {
        Self { place, module: None, session: None, is_pin_refused: false }
    }

    /// Opens a session, if none is open.
    pub(super) fn reach(&mut self) -> Result<(), Fault> {
        self.within(|_, _| Ok(()))
    }

    /// Finds a key by its public part and tries it.
    pub(super) fn find(&mut self, key: &VerifierKey) -> Result<(), Fault> {
        self.within(|session, label| session.find(label, key).map(|_| ()))
    }

    pub(super) fn sign(&mut self, key: &VerifierKey, message: &[u8]) -> Result<[u8; 64], Fault> {
        self.within(|session, label| {
            let private = match &session.signing {
                Some((last, private)) if last == key => *private,
                _ => {
                    let private = session.find(label, key)?;
                    session.signing = Some((key.clone(), private));
                    private
                }
            };
            session.sign(private, message)
        })
    }

    /// The public part of the key with this identifier; none if not both halves of it are there.
    pub(super) fn named(&mut self, id: &KeyId, origin: &str) -> Result<Option<VerifierKey>, Fault> {
        self.within(|session, label| {
            let publics: Vec<_> = session.publics(label, Some(id.as_bytes()))?;
            let privates = session.privates(label, id.as_bytes())?;
            let ([Public { point: Some(point), .. }], [private]) = (publics.as_slice(), privates.as_slice()) else {
                return Ok(None);
            };
            let wrong = |error| Fault::Found(format!("the token's key `{id}` is no Ed25519 key: {error}"));
            let key = VerifierKey::new(origin, point).map_err(wrong)?;
            session.try_out(*private, &key)?;
            Ok(Some(key))
        })
    }

    /// Makes a key with this identifier that cannot leave the token.
    pub(super) fn generate(&mut self, id: &KeyId) -> Result<(), Fault> {
        self.within(|session, label| session.generate(label, id.as_bytes()))
    }

    /// Destroys whatever carries the label and this identifier.
    pub(super) fn destroy(&mut self, id: &KeyId) -> Result<(), Fault> {
        self.within(|session, label| {
            let publics = session.publics(label, Some(id.as_bytes()))?;
            session.destroy(session.privates(label, id.as_bytes())?)?;
            session.destroy(publics.into_iter().map(|public| public.object))
        })
    }

    /// Destroys the key with this public part, if it is there. The private half goes first: what a crash leaves cannot sign.
    pub(super) fn destroy_key(&mut self, key: &VerifierKey) -> Result<(), Fault> {
        self.within(|session, label| {
            session.signing = None;
            let Some(public) = session.public(label, key)? else { return Ok(()) };
            let privates = session.privates(label, &public.id)?;
            if privates.len() > 1 || session.publics(label, Some(&public.id))?.len() > 1 {
                let why = format!("keys labelled `{label}` share the identifier of `{key}`: destroy that one by hand");
                return Err(Fault::Found(why));
            }
            session.destroy(privates)?;
            session.destroy([public.object])
        })
    }

    /// Acts within a session that is logged in. After a fault the session is given up.
    fn within<T>(&mut self, act: impl FnOnce(&mut LoggedIn, &str) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.open()?,
        };
        match act(&mut session, &self.place.key) {
            Ok(done) => {
                self.session = Some(session);
                Ok(done)
            }
            Err(fault) => {
                // A module that lost its token may see it again only if it begins anew.
                drop(session);
                self.finalize();
                Err(fault)
            }
        }
    }

    fn open(&mut self) -> Result<LoggedIn, Fault> {
        let TokenPlace { module: path, token, pin_file, .. } = &self.place;
        if self.is_pin_refused {
            return Err(Fault::PinBefore(token.clone()));
        }
        let pin = read_pin(pin_file)
            .map_err(|reason| Fault::PinFile { file: pin_file.display().to_string(), reason: reason.to_string() })?;
        let unloaded = |error| Fault::Found(format!("PKCS#11 module `{}`: {}", path.display(), words(&error)));
        let module = match &self.module {
            Some(module) => module,
            None => self.module.insert(Pkcs11::new(path).map_err(unloaded)?),
        };
        match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(unloaded(error)),
        }
        match log_in(module, &self.place, &pin) {
            Ok(session) => Ok(LoggedIn { session, signing: None }),
            Err(fault) => {
                self.is_pin_refused = matches!(fault, Fault::Pin { .. });
                self.finalize();
                Err(fault)
            }
        }
    }

    fn finalize(&self) {
        if let Some(Err(error)) = self.module.clone().map(Pkcs11::finalize) {
            tracing::debug!(error = words(&error), "the module does not end");
        }
    }
}

fn log_in(module: &Pkcs11, place: &TokenPlace, pin: &AuthPin) -> Result<Session, Fault> {
    let slot = slot(module, &place.token)?;
    let session = module.open_rw_session(slot).map_err(said("no session"))?;
    match session.login(UserType::User, Some(pin)) {
        Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
        Err(error) if is_of_pin(&error) => {
            let file = place.pin_file.display().to_string();
            Err(Fault::Pin { token: place.token.clone(), file, error })
        }
        Err(error) => Err(said("no login")(error)),
    }
}

fn is_of_pin(error: &Error) -> bool {
    use RvError::{PinExpired, PinIncorrect, PinInvalid, PinLenRange, PinLocked};
    matches!(error, Error::Pkcs11(PinIncorrect | PinInvalid | PinLenRange | PinLocked | PinExpired, _))
}

/// The slot of the one token with this label.
fn slot(module: &Pkcs11, label: &str) -> Result<Slot, Fault> {
    let slots = module.get_slots_with_initialized_token().map_err(said("no list of tokens"))?;
    let mut found = Vec::new();
    let mut others = Vec::new();
    for slot in slots {
        // A token that is being pulled out must not hide another one.
        match module.get_token_info(slot) {
            Ok(info) if info.label() == label => found.push(slot),
            Ok(info) => others.push(format!("`{}`", info.label())),
            Err(error) => others.push(words(&error)),
        }
    }
    match found.as_slice() {
        [slot] => Ok(*slot),
        [] if others.is_empty() => Err(Fault::Found(format!("no token `{label}`: the module shows no token at all"))),
        [] => Err(Fault::Found(format!("no token `{label}`: the module shows {}", others.join(", ")))),
        several => Err(Fault::Found(format!("`{}` tokens are labelled `{label}`: relabel all but one", several.len()))),
    }
}

impl LoggedIn {
    /// Both halves of a key, tried; gives the private one.
    fn find(&self, label: &str, key: &VerifierKey) -> Result<ObjectHandle, Fault> {
        let Some(public) = self.public(label, key)? else {
            let there = self.publics(label, None)?.len();
            let why = format!(
                "the token holds no Ed25519 key labelled `{label}` with the public part of `{key}`; it holds `{there}` \
                               other public keys of that label"
            );
            return Err(Fault::Found(why));
        };
        let privates = self.privates(label, &public.id)?;
        let publics = self.publics(label, Some(&public.id))?;
        let ([private], [_]) = (privates.as_slice(), publics.as_slice()) else {
            let (a, b) = (privates.len(), publics.len());
            let why = format!(
                "the token holds `{a}` private and `{b}` public keys labelled `{label}` with the identifier of \
                               `{key}`: there must be one of each"
            );
            return Err(Fault::Found(why));
        };
        self.try_out(*private, key)?;
        Ok(*private)
    }

    /// The one public half of a key.
    fn public(&self, label: &str, key: &VerifierKey) -> Result<Option<Public>, Fault> {
        let mut publics = self.publics(label, None)?;
        publics.retain(|public| public.point.as_ref() == Some(key.public()));
        if publics.len() > 1 {
            let count = publics.len();
            return Err(Fault::Found(format!("the token holds `{key}` `{count}` times under the label `{label}`")));
        }
        Ok(publics.pop())
    }

    fn publics(&self, label: &str, id: Option<&[u8]>) -> Result<Vec<Public>, Fault> {
        let asked = [AttributeType::EcPoint, AttributeType::Id];
        let mut publics = Vec::new();
        for object in self.objects(ObjectClass::PUBLIC_KEY, label, id)? {
            let (mut point, mut id) = (None, Vec::new());
            for attribute in self.session.get_attributes(object, &asked).map_err(said("a key cannot be read"))? {
                match attribute {
                    Attribute::EcPoint(bytes) => point = ed25519_point(&bytes),
                    Attribute::Id(bytes) => id = bytes,
                    _ => {}
                }
            }
            publics.push(Public { object, point, id });
        }
        Ok(publics)
    }

    fn privates(&self, label: &str, id: &[u8]) -> Result<Vec<ObjectHandle>, Fault> {
        self.objects(ObjectClass::PRIVATE_KEY, label, Some(id))
    }

    fn objects(&self, class: ObjectClass, label: &str, id: Option<&[u8]>) -> Result<Vec<ObjectHandle>, Fault> {
        let mut template = vec![
            Attribute::Token(true),
            Attribute::Class(class),
            Attribute::KeyType(KeyType::EC_EDWARDS),
            Attribute::Label(label.as_bytes().to_vec()),
        ];
        template.extend(id.map(|id| Attribute::Id(id.to_vec())));
        self.session.find_objects(&template).map_err(said("no list of keys"))
    }

    /// Refuses a key that could leave the token, and a private half that is not of this public one.
    fn try_out(&self, private: ObjectHandle, key: &VerifierKey) -> Result<(), Fault> {
        let asked = [AttributeType::Sensitive, AttributeType::Extractable];
        let told = self.session.get_attributes(private, &asked).map_err(said("a key cannot be read"))?;
        if !told.contains(&Attribute::Sensitive(true)) || !told.contains(&Attribute::Extractable(false)) {
            return Err(Fault::Found(format!("the token would give the private part of `{key}` away: it is not used")));
        }
        let signature = self.sign(private, TRIAL.as_bytes())?;
        if !key.accepts(TRIAL, &signature) {
            return Err(Fault::Found(format!("what the token signs with `{key}` does not verify: it is not used")));
        }
        Ok(())
    }

    fn sign(&self, private: ObjectHandle, message: &[u8]) -> Result<[u8; 64], Fault> {
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let signature = self.session.sign(&mechanism, private, message).map_err(said("nothing was signed"))?;
        let wrong = |bytes: Vec<u8>| Fault::Found(format!("the token made a signature of `{}` bytes", bytes.len()));
        signature.try_into().map_err(wrong)
    }

    fn generate(&self, label: &str, id: &[u8]) -> Result<(), Fault> {
        let common = [Attribute::Token(true), Attribute::Label(label.as_bytes().to_vec()), Attribute::Id(id.to_vec())];
        let mut private = common.to_vec();
        private.extend([
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ]);
        let mut made = Err(Error::NotSupported);
        for curve in CURVES {
            let mut public = common.to_vec();
            public.extend([Attribute::Private(false), Attribute::Verify(true), Attribute::EcParams(curve.to_vec())]);
            made = self.session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private);
            if made.is_ok() {
                break;
            }
        }
        made.map(|_| ()).map_err(said("no key was made"))
    }

    fn destroy(&self, objects: impl IntoIterator<Item = ObjectHandle>) -> Result<(), Fault> {
        objects
            .into_iter()
            .try_for_each(|object| self.session.destroy_object(object).map_err(said("a key could not be destroyed")))
    }
}

/// `CKA_EC_POINT` of an Ed25519 key: the 32 bytes themselves as PKCS#11 3.0 has it, or in an OCTET STRING as 2.40 had it.
/// Other curves have other lengths.
fn ed25519_point(bytes: &[u8]) -> Option<[u8; 32]> {
    match bytes {
        [0x04, 0x20, point @ ..] if point.len() == 32 => point.try_into().ok(),
        point => point.try_into().ok(),
    }
}

/// The PIN: the file's one line.
fn read_pin(path: &Path) -> io::Result<AuthPin> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    let file = File::open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(bad("not a file"));
    }
    if about.mode() & 0o077 != 0 {
        return Err(bad(&format!("mode `{:04o}` lets others read it: run `chmod 600` on it", about.mode() & 0o7777)));
    }
    let mut text = String::new();
    file.take(PIN_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > PIN_BYTES_MAX {
        return Err(bad("too long"));
    }
    if text.ends_with('\n') {
        text.pop();
    }
    if text.is_empty() || text.contains(['\n', '\r']) {
        return Err(bad("must hold the PIN and nothing else, in one line"));
    }
    Ok(AuthPin::from(text))
}
