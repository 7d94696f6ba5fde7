//! Facts against a second reading of the same bytes, and shell text against a real shell.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

#[path = "second/mod.rs"]
mod second;

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use countersign_effects::shell;
use proptest::prelude::*;

fn check(bytes: &[u8]) {
    assert_eq!(second::broken(bytes), None);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the corpus lies in files")]
fn seeds_break_no_law() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/facts");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 8, "the corpus is not found");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn anything_breaks_no_law(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        check(&bytes);
    }

    #[test]
    fn what_looks_like_hosts_breaks_no_law(text in "(https?:/{0,3})?([a-z0-9x]{0,4}[.:@/\\[\\]?#%]{0,2}){0,6}") {
        check(text.as_bytes());
    }

    #[test]
    fn what_looks_like_addresses_breaks_no_law(text in "[\\[]?(::ffff:|64:ff9b::|2002:|::)?([0-9a-fx]{0,4}[.:]){0,7}[0-9a-f]{0,4}[\\]]?") {
        check(text.as_bytes());
    }

    #[test]
    fn what_looks_like_mail_breaks_no_law(text in "(\"[a-c@,<> ]{0,4}\" )?(<?[a-c.@%!]{0,5}@[a-c.]{0,5}>?,? ?){0,3}") {
        check(text.as_bytes());
    }

    #[test]
    fn what_looks_like_shell_breaks_no_law(text in "([a-c/]{1,3}|sudo|env|xargs|timeout 1|[ ;|&'\"\\\\$()<>]| ){0,10}") {
        check(text.as_bytes());
    }

    #[test]
    fn what_looks_like_numbers_breaks_no_law(text in "[-+]?[0-9]{0,19}(\\.[0-9]{0,7})?(e[0-9])?") {
        check(text.as_bytes());
    }

    #[test]
    fn what_looks_like_arguments_breaks_no_law(
        place in prop::sample::select(countersign_effects::ArgumentKind::WORDS.to_vec()),
        value in "(\"[a-c.@/;]{0,6}\"|[0-9]{1,4}|null|true|\\[\"a\"\\])",
    ) {
        check(format!("{{\"sql.sqlite\":\"SELECT 1\",\"shell\":\"ls\",\"{place}\":{value}}}").as_bytes());
    }
}

/// The programs that a real shell looks for: none is there, so it names each that it would have started.
fn started(text: &str) -> BTreeSet<String> {
    let done = Command::new("/bin/sh")
        .args(["-c", text])
        .env_clear()
        .env("PATH", "/nonexistent")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .current_dir("/")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let name = |line: &str| {
        let rest = line.strip_suffix(": not found").or_else(|| line.strip_suffix(": command not found"))?;
        Some(rest.rsplit(": ").next()?.to_owned())
    };
    said.lines().filter_map(name).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Whatever a shell would start, we have named, or called the text opaque. Without pipes: what both sides of one say of
    /// missing programs runs into each other.
    #[test]
    fn a_real_shell_starts_nothing_that_was_not_named(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "za", "zb", "zc", " ", " ", " ", ";", "&&", "||", "\n", "'", "\"", "\\", "-x", "=", "2>/dev/null", "2>&1",
                ">", "#", "$(zd)", "`ze`", "$z", "(", ")", "{", "}", "!", "&", "if", "then", "fi", "*", "~", "{}", "<",
            ]),
            1..12,
        ),
    ) {
        let text: String = parts.concat();
        if let Ok(named) = shell::programs(&text) {
            let started = started(&text);
            prop_assert!(started.is_subset(&named), "{text:?}: started {started:?}, named {named:?}");
        }
    }
}

#[test]
fn the_real_shell_names_what_it_starts() {
    // If this fails, the test above proves nothing.
    assert_eq!(started("za; zb || zc"), ["za", "zb", "zc"].map(str::to_owned).into());
}
