//! The part of the lab that proves: cvc5, from Debian.
//!
//! It is installed for the whole machine, like Git and Go, and its tests find it on `PATH`. Where it cannot be installed
//! the lab says so, loudly, and the tests of proofs then fail.

use super::apt;
use crate::shell;
use std::process::Command;

const PACKAGE: &str = "cvc5";

/// Installs it, or says why not.
pub(super) fn install() {
    if shell::works(Command::new("cvc5").arg("--version")) {
        return;
    }
    if let Err(error) = apt(&[PACKAGE]) {
        eprintln!(
            "\n*** LEFT OUT OF THE LAB: {PACKAGE} could not be installed ({error:#}). Install it by hand and run this again; \
             else the tests of proofs fail ***\n"
        );
    }
}
