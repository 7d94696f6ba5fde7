//! The part of the lab that keeps keys in a token: SoftHSM, from Debian.
//!
//! It is installed for the whole machine, like Git and Go, and its tests find it by themselves. Where it cannot be installed
//! the lab says so, loudly; the tests that use it then fail unless `COUNTERSIGN_WITHOUT_SOFTHSM=1` says that this is meant.

use super::apt;
use crate::shell;
use std::process::Command;

const PACKAGE: &str = "softhsm2";

/// Installs it, or says why not.
pub(super) fn install() {
    if shell::works(Command::new("softhsm2-util").arg("--version")) {
        return;
    }
    if let Err(error) = apt(&[PACKAGE]) {
        eprintln!(
            "\n*** LEFT OUT OF THE LAB: {PACKAGE} could not be installed ({error:#}). Install it by hand and run this again; \
             else the tests of keys in a token fail unless COUNTERSIGN_WITHOUT_SOFTHSM=1 is set ***\n"
        );
    }
}
