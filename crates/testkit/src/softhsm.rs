//! A PKCS#11 token in a folder: SoftHSM, as Debian ships it, for tests of what keeps keys in tokens.
//!
//! A module is set up once in a process and reads its configuration from the environment, so a test that loads it runs in a
//! process of its own ([`apart`]). It must not know what is signed.

#![expect(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a token that cannot be made fails its test")]

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The label of every token that is made here.
pub const TOKEN: &str = "countersign test";
/// Its user's PIN.
pub const PIN: &str = "135790";
/// Says where SoftHSM's configuration lies; SoftHSM itself reads it.
pub const CONFIGURATION: &str = "SOFTHSM2_CONF";
/// Tells the process of one test where its token lies.
const FOLDER: &str = "COUNTERSIGN_SOFTHSM_FOLDER";
/// Says where the module lies, if it is not where it is looked for.
const MODULE: &str = "COUNTERSIGN_SOFTHSM_MODULE";
/// Set to `1` it tells tests that there is no SoftHSM and that this is meant; without it they fail.
const LEFT_OUT: &str = "COUNTERSIGN_WITHOUT_SOFTHSM";

/// A folder with a token, its configuration and a file with its PIN.
#[derive(Debug)]
pub struct SoftHsm {
    folder: PathBuf,
    module: PathBuf,
    _kept: Option<tempfile::TempDir>,
}

impl SoftHsm {
    /// Makes one; `None`, and a line that says so, only where somebody said that there is no SoftHSM.
    #[must_use]
    pub fn new() -> Option<Self> {
        let module = module()?;
        // SoftHSM syncs every object that it writes; what is tested is not its disk.
        let kept = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let folder = kept.path().to_path_buf();
        let made = Self { folder, module, _kept: Some(kept) };
        std::fs::create_dir(made.tokens()).unwrap();
        let text = format!("directories.tokendir = {}\nlog.level = ERROR\n", made.tokens().display());
        std::fs::write(made.configuration(), text).unwrap();
        made.write_pin(PIN);
        made.add_token(TOKEN);
        Some(made)
    }

    /// Adds another token.
    pub fn add_token(&self, label: &str) {
        let mut command = Command::new("softhsm2-util");
        command.env(CONFIGURATION, self.configuration());
        command.args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "246802"]);
        let ran = command.output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
    }

    /// The module, a shared library.
    #[must_use]
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// SoftHSM's configuration, for the variable [`CONFIGURATION`].
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("softhsm2.conf")
    }

    /// The folder in which SoftHSM keeps its tokens.
    #[must_use]
    pub fn tokens(&self) -> PathBuf {
        self.folder.join("tokens")
    }

    /// The file with the PIN.
    #[must_use]
    pub fn pin_file(&self) -> PathBuf {
        self.folder.join("pin")
    }

    /// Replaces the PIN in its file.
    pub fn write_pin(&self, pin: &str) {
        std::fs::write(self.pin_file(), format!("{pin}\n")).unwrap();
        std::fs::set_permissions(self.pin_file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Gives `run` a token in a process of its own, where the module finds its configuration. `test` is the test's whole name.
pub fn apart(test: &str, run: impl FnOnce(&SoftHsm)) {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let hsm = SoftHsm { folder: folder.into(), module: module().unwrap(), _kept: None };
        run(&hsm);
        return;
    }
    let Some(hsm) = SoftHsm::new() else { return };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(FOLDER, &hsm.folder).env(CONFIGURATION, hsm.configuration());
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    // A name that is no test's would run nothing and succeed.
    assert!(said.contains("1 passed"), "`{test}` did not run: {said}");
}

/// Where SoftHSM's module lies; `None` only where somebody said that there is none.
///
/// # Panics
/// If there is none and nobody said so.
#[must_use]
pub fn module() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(MODULE).filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let places = ["/usr/lib/softhsm", "/usr/lib64/softhsm", "/usr/lib64/pkcs11", "/usr/local/lib/softhsm"];
    let by_machine = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = places
        .into_iter()
        .map(PathBuf::from)
        .chain(by_machine.map(|entry| entry.path().join("softhsm")))
        .map(|place| place.join("libsofthsm2.so"))
        .find(|module| module.is_file());
    let said = |variable: &str| std::env::var_os(variable).as_deref() == Some(OsStr::new("1"));
    if found.is_none() && (said(LEFT_OUT) || said("COUNTERSIGN_WITHOUT_LAB")) {
        println!(
            "SKIPPED: there is no SoftHSM here, and {LEFT_OUT}=1 or COUNTERSIGN_WITHOUT_LAB=1 says that this is meant"
        );
        return None;
    }
    assert!(
        found.is_some(),
        "there is no libsofthsm2.so here: run `cargo xtask lab` as root or install Debian's `softhsm2`, or name the module in \
         {MODULE}, or set {LEFT_OUT}=1 to leave this test out"
    );
    found
}
