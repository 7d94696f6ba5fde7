//! Solvers that answer garbage, nothing, too early, too late, or for another question: nothing of it is a proof.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::NONE;
use super::fixture::loaded;
use crate::{Limits, Property, PropertyFile, Prover, Solver, Verdict, prove};

/// Needs the solver: whether a set membership holds cannot be seen without one.
const POLICY: &str = r#"
@id("reads") permit (principal, action, resource) when { context.effect == "read" };
@id("no") forbid (principal, action, resource) when { context.kinds.contains("drop_table") };
"#;

/// What a solver of this shell text leaves of a property that is true.
fn asked(script: &str) -> (Verdict, std::time::Duration) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cvc5");
    fs::write(&path, format!("#!/bin/bash\nexport PATH=/usr/bin:/bin\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let limits = Limits { time_ms: 1_500, ..Limits::default() };
    let prover = Prover::new(Solver::find(Some(&path), limits).unwrap());
    let (source, bundle) = loaded(POLICY);
    let mut file: PropertyFile = serde_json::from_str(NONE).unwrap();
    file.properties.push(Property {
        id: "p".to_owned(),
        text: "t".to_owned(),
        never: Some(serde_json::from_str(r#"{"when": {"kinds": ["drop_table"]}, "tools": ["crm/query"]}"#).unwrap()),
        ..Property::default()
    });
    let started = std::time::Instant::now();
    let report = prove((&bundle, &source), &file.properties, &prover, (&|_| (), &|| ())).unwrap();
    let finding = report.findings.into_iter().find(|finding| finding.kind == "property").unwrap();
    (finding.verdict, started.elapsed())
}

fn never_proves(script: &str, words: &str) {
    match asked(script).0 {
        Verdict::NotProven(why) => assert!(why.iter().any(|why| why.contains(words)), "{script}: {why:?}"),
        other => panic!("{script}: {other:?}"),
    }
}

#[test]
fn garbage_is_no_proof() {
    never_proves("echo garbage; cat >/dev/null", "it said `garbage`");
    never_proves("echo '(error \"Parse Error: no\")'; cat >/dev/null", "Parse Error");
    never_proves("head -c 100000 /dev/zero; cat >/dev/null", "");
    never_proves("printf '\\xff\\xfe\\n'; cat >/dev/null", "no text");
}

#[test]
fn silence_is_no_proof() {
    never_proves("exit 0", "");
    never_proves("cat >/dev/null", "");
    never_proves("kill -9 $$", "");
    never_proves("while read -r line; do case $line in '(check-sat)') kill -9 $$;; esac; done", "");
}

#[test]
fn hanging_is_ended() {
    never_proves("sleep 1000", "no answer within 1500 ms");
    never_proves("while :; do :; done", "no answer within 1500 ms");
}

#[test]
fn unsat_without_the_frames_is_no_proof() {
    never_proves("echo unsat; cat >/dev/null", "expected the frame of the question, and it said `unsat`");
    never_proves("while :; do echo unsat; done", "expected the frame of the question");
    // The frames of another question.
    never_proves(
        "echo '\"begin 00\"'; echo unsat; echo '\"end 00\"'; cat >/dev/null",
        "expected the frame of the question",
    );
}

/// A solver that keeps the frames, and says what it likes between and after them.
fn framed(answer: &str, after: &str) -> String {
    format!(
        r#"while read -r line; do
  case "$line" in
    '(echo "begin'*) line="${{line#(echo \"}}"; echo "${{line%\")}}" ;;
    '(check-sat)') {answer} ;;
    '(echo "'*) line="${{line#(echo \"}}"; echo "${{line%\")}}" ;;
    '(exit)') {after} ;;
  esac
done"#
    )
}

#[test]
fn only_a_whole_answer_is_a_proof() {
    never_proves(&framed("echo unknown", "exit 0"), "unknown");
    never_proves(&framed("echo unsatisfiable", "exit 0"), "it said `unsatisfiable`");
    never_proves(&framed("echo 'unsat '; echo sat", "exit 0"), "expected the frame");
    never_proves(&framed("echo", "exit 0"), "it said ``");
    never_proves(&framed("echo unsat", "exit 1"), "it ended badly");
    never_proves(&framed("echo unsat", "echo sat; exit 0"), "more than it was asked");
    never_proves(&framed("echo unsat", "sleep 1000"), "no answer within");
    // A model that is none.
    never_proves(&framed("echo sat", "exit 0"), "");
}

#[test]
fn a_solver_that_lies_within_the_frames_is_found_out_where_it_can_be() {
    // Everything is unsatisfiable, also that there is any call in the scope: so nothing is proven.
    assert!(matches!(asked(&framed("echo unsat", "exit 0")).0, Verdict::Absent(_)));
}

#[test]
fn a_solver_that_is_not_there_says_how_to_get_one() {
    let error = Solver::find(Some("/nowhere/cvc5".as_ref()), Limits::default()).unwrap_err().to_string();
    assert!(error.contains("`/nowhere/cvc5`") && error.contains("apt-get install cvc5"), "{error}");
}

#[test]
fn memory_is_bounded() {
    let limits = Limits { time_ms: 20_000, memory_bytes: 1024 * 1024 };
    let prover = Prover::new(Solver::find(None, limits).unwrap());
    let (source, bundle) = loaded(POLICY);
    let property: Property =
        serde_json::from_str(r#"{"id": "p", "text": "t", "never": {"when": {"kinds": ["drop_table"]}}}"#).unwrap();
    let report = prove((&bundle, &source), &[property], &prover, (&|_| (), &|| ())).unwrap();
    let finding = report.findings.iter().find(|finding| finding.kind == "property").unwrap();
    assert!(matches!(finding.verdict, Verdict::NotProven(_)), "{:?}", finding.verdict);
}
