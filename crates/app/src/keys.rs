//! Keys on disk: the human's, under a passphrase, and the root key of tokens.
//!
//! Human keys are PKCS#8 in PEM, encrypted with PBES2 (scrypt, AES-256-CBC), the form that other
//! tools read. The passphrase comes from the terminal only: never from a variable, a flag or a
//! pipe, for an agent of the same user could set those. Nothing here has a default secret.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use countersign_model::Digest;
use countersign_model::command::{Command, Deed, Signed, consent_message};
use countersign_model::id::HumanId;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use ed25519_dalek::{Signer as _, SigningKey};

/// The shortest passphrase that is taken.
pub(crate) const PASSPHRASE_CHARS_MIN: usize = 8;

/// A human's key, open in memory.
pub(crate) struct HumanKey {
    human: HumanId,
    key: SigningKey,
}

impl HumanKey {
    /// Makes a new key for `human`.
    pub(crate) fn generate(human: HumanId) -> Result<Self> {
        Ok(Self { human, key: SigningKey::from_bytes(&random()?) })
    }

    /// Writes it to `path` under `passphrase`; refuses to overwrite.
    pub(crate) fn save(&self, path: &Path, passphrase: &str) -> Result<()> {
        if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
            bail!("the passphrase has fewer than {PASSPHRASE_CHARS_MIN} characters; choose a longer one");
        }
        let salt: [u8; 16] = random()?;
        let iv: [u8; 16] = random()?;
        let scrypt = pkcs8::pkcs5::scrypt::Params::recommended();
        let pbes2 = pkcs8::pkcs5::pbes2::Parameters::scrypt_aes256cbc(scrypt, &salt, &iv)
            .map_err(|error| anyhow::anyhow!("the key cannot be encrypted: {error}"))?;
        let plain = self.key.to_pkcs8_der().context("the key cannot be encoded")?;
        let info = pkcs8::PrivateKeyInfo::try_from(plain.as_bytes())
            .map_err(|error| anyhow::anyhow!("the key cannot be encoded: {error}"))?;
        let sealed = info
            .encrypt_with_params(pbes2, passphrase)
            .map_err(|error| anyhow::anyhow!("the key cannot be encrypted: {error}"))?;
        let pem = sealed
            .to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF)
            .map_err(|error| anyhow::anyhow!("the key cannot be encoded: {error}"))?;
        write_new(path, pem.as_bytes())
    }

    /// Opens the key at `path`.
    pub(crate) fn open(human: HumanId, path: &Path, passphrase: &str) -> Result<Self> {
        let pem = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the key of `{human}` at `{}`", path.display()))?;
        let key = SigningKey::from_pkcs8_encrypted_pem(&pem, passphrase)
            .map_err(|_| anyhow::anyhow!("the passphrase does not open `{}`", path.display()))?;
        Ok(Self { human, key })
    }

    /// Whose it is.
    pub(crate) const fn human(&self) -> &HumanId {
        &self.human
    }

    /// The public half.
    pub(crate) fn public(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// Signs a command for the log `origin`.
    pub(crate) fn command(&self, origin: &str, challenge: Digest, deed: Deed) -> Result<Signed> {
        let command = Command { log: origin.to_owned(), challenge, human: self.human.clone(), deed };
        let signature = self.key.sign(&command.message()?).to_vec();
        Ok(Signed { command, signature })
    }

    /// Signs consent to, or refusal of, the proposal with this leaf hash.
    pub(crate) fn consent(&self, origin: &str, proposal: &Digest, approved: bool) -> Vec<u8> {
        self.key.sign(&consent_message(origin, proposal, &self.human, approved)).to_vec()
    }
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("the operating system gave no randomness"))?;
    Ok(bytes)
}

/// Makes a file that only its owner can read, and never over another.
pub(crate) fn new_file(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot make `{}`; it is not overwritten if it is there", path.display()))
}

/// Writes a file that only its owner can read, and never over another.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = new_file(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Makes a folder that only its owner can enter.
pub(crate) fn private_folder(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create the folder `{}`", path.display()))
}
