//! The part of the lab behind the server of PostgreSQL: PostgreSQL itself, from Debian.
//!
//! It is installed for the whole machine, like Git and Go, and its test finds it by itself and makes a cluster of its own.
//! Where it cannot be installed the lab says so, loudly, and that test then fails.

use super::apt;
use std::{fs, path::Path};

const PACKAGE: &str = "postgresql";
/// Debian keeps each major in a folder of its own, outside of `PATH`.
const MAJORS: &str = "/usr/lib/postgresql";

/// Installs it, or says why not.
pub(super) fn install() {
    if installed() {
        return;
    }
    if let Err(error) = apt(&[PACKAGE]) {
        eprintln!(
            "\n*** LEFT OUT OF THE LAB: {PACKAGE} could not be installed ({error:#}). Install it by hand and run this again; \
             else the test of the server of PostgreSQL fails ***\n"
        );
    }
}

fn installed() -> bool {
    let majors = fs::read_dir(MAJORS).into_iter().flatten().flatten();
    majors.map(|major| major.path().join("bin")).any(|bin| has(&bin)) || on_path()
}

fn on_path() -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| has(&folder)))
}

fn has(folder: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file())
}
