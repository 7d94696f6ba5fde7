//! The part of the lab that witnesses our log: aics-witness, which others wrote, from PyPI.
//!
//! It needs Python 3.12. Where there is none the lab says so, loudly; the test that uses it then fails unless
//! `COUNTERSIGN_WITHOUT_WITNESS=1` says that this is meant.

use super::{foreign::python, program, venv};
use anyhow::Result;
use std::{fs, path::Path};

const PROGRAM: &str = "aics-witness";

/// Installs it, or says why not.
pub(super) fn install(lab: &Path, pins: &Path) -> Result<()> {
    let path = lab.join("bin").join(PROGRAM);
    let _ = fs::remove_file(&path);
    let Some(python) = python() else {
        eprintln!(
            "\n*** LEFT OUT OF THE LAB: {PROGRAM} needs Python 3.12 or later, and there is none here. Install one and run \
             this again; else its test fails unless COUNTERSIGN_WITHOUT_WITNESS=1 is set ***\n"
        );
        return Ok(());
    };
    venv(&python, lab, pins, "witness")?;
    program(&path, &[&lab.join("venv-witness/bin").join(PROGRAM)])
}
