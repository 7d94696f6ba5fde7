//! From a call's bytes to facts on record: patterns, histories and the traps that a policy of names can fall into.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests fail the test")]

use countersign_gate::call::Answer;
use countersign_kernel::policy::{PatternDef, PatternKind};
use countersign_model::record::{Attempt, History};
use countersign_model::{Certainty, ReasonCode};
use countersign_testkit::world::{READ, Rules, Stage, World, arguments, id};

fn pattern(name: &str, kind: PatternKind, text: &str) -> PatternDef {
    PatternDef { id: id(name), kind, text: text.to_owned(), argument: None }
}

/// All calls run, but for those that the pattern `forbidden` matches.
fn world() -> World {
    let policy = r#"
@id("all") permit (principal, action in Action::"call", resource);
@id("no-match") forbid (principal, action in Action::"call", resource) when { context.matched.contains("forbidden") };
"#;
    let patterns = vec![
        pattern("forbidden", PatternKind::Regex, "hunter2|(?i)\\bgrant\\b"),
        pattern("by-tool", PatternKind::Exact, "crm/look_up"),
    ];
    Stage::new(Rules { policy: policy.to_owned(), patterns, ..Rules::default() }).build()
}

fn last(world: &World) -> Attempt {
    world.records().iter().rev().find_map(|stored| stored.record.body.attempt().cloned()).unwrap()
}

fn matched(world: &World) -> Vec<String> {
    last(world).facts.bound.map_or_else(Vec::new, |bound| bound.matched)
}

fn is_denied<R: std::fmt::Debug>(answer: &Answer<R>) {
    match answer {
        Answer::Denied { reasons, .. } => assert_eq!(reasons[0].code, ReasonCode::PolicyForbid),
        other => panic!("{other:?}"),
    }
}

#[test]
fn patterns_match_the_true_texts_and_the_record_keeps_their_ids_alone() {
    let world = world();
    assert!(matches!(world.call(READ), Answer::Ran { .. }));
    assert_eq!(matched(&world), Vec::<String>::new());
    // The secret is redacted in the record, and the pattern has seen it.
    is_denied(&world.call("UPDATE customers SET password = 'hunter2' WHERE id = 1"));
    assert_eq!(matched(&world), ["forbidden"]);
    assert!(last(&world).redactions.total > 0);
    // What was not understood is matched too.
    is_denied(&world.call("GRANT ALL ON customers TO x"));
    assert_eq!((last(&world).facts.certainty, matched(&world)), (Certainty::Opaque, vec!["forbidden".to_owned()]));
    // Look-alike letters are other letters: no pattern sees them, and nothing understood them either.
    assert!(matches!(world.call("GR\u{410}NT ALL"), Answer::Ran { .. }));
    assert_eq!((last(&world).facts.certainty, matched(&world)), (Certainty::Opaque, vec![]));
    world.wait(world.begin(world.framed("look_up", r#"{"customer":"grant"}"#))).unwrap();
    assert_eq!(matched(&world), ["by-tool", "forbidden"]);
    // Answers that come ahead of any question are part of the call, and are seen like its arguments.
    let ahead = |answer: &str| {
        let mut call = world.framed("query", r#"{"sql":"SELECT 1"}"#);
        call.meta = format!(r#"{{"inputResponses":{{"k":{{"content":{{"text":"{answer}"}}}}}}}}"#).into_bytes();
        world.wait(world.begin(call)).unwrap();
        matched(&world)
    };
    assert_eq!((ahead("fine"), ahead("grant it")), (Vec::new(), vec!["forbidden".to_owned()]));
}

/// Quotes change nothing of what a shell does, so they change nothing of what matches; nor does a list of words.
#[test]
fn quotes_and_lists_hide_no_command_from_patterns() {
    let policy = r#"@id("all") permit (principal, action in Action::"call", resource);"#;
    let patterns = vec![
        pattern("applies", PatternKind::Regex, r"\bterraform\s+apply\b"),
        pattern("erases", PatternKind::Regex, r"\brm\b[^;&|]*\s-rf\b"),
        pattern("pipes", PatternKind::Regex, r"\bcurl\b[^;&]*\|\s*python3\b"),
    ];
    let world = Stage::new(Rules { policy: policy.to_owned(), patterns, ..Rules::default() }).build();
    let check = |command: &str, certainty: Certainty, expected: &[&str]| {
        let call = world.framed("run", &format!(r#"{{"command":{command}}}"#));
        world.wait(world.begin(call)).unwrap();
        assert_eq!(
            (last(&world).facts.certainty, matched(&world)),
            (certainty, expected.iter().map(|id| (*id).to_owned()).collect()),
            "{command}"
        );
    };
    check(r#""terraform 'apply' -auto-approve""#, Certainty::Exact, &["applies"]);
    check(r#""r\\m 'a;b' '-rf' /""#, Certainty::Exact, &["erases"]);
    check(r#""curl 'x?a&b' 2>&1 | 'python3'""#, Certainty::Exact, &["pipes"]);
    check(r#"["rm","-rf","/"]"#, Certainty::Exact, &["erases"]);
    check(r#""rm '-rf' $HOME""#, Certainty::Opaque, &["erases"]);
    check(r#""rm -i x""#, Certainty::Exact, &[]);
}

fn history(world: &World) -> History {
    last(world).inputs.history.unwrap()
}

#[test]
fn a_new_token_forgets_nothing_of_the_agent() {
    let world = world();
    world.call(READ);
    world.call(READ);
    let (_, caller) = world.token_of("coder");
    let mut call = world.framed("query", &arguments(READ));
    call.caller = caller;
    world.wait(world.begin(call)).unwrap();
    let seen = history(&world);
    assert_eq!(
        (seen.calls.minute, seen.changes.minute, seen.previous),
        (2, 0, None),
        "the run is new, the agent is not"
    );
}

#[test]
fn histories_outlive_a_restart() {
    let world = world();
    world.call(READ);
    let disk = world.disk.process_crash_image();
    let world = world.restart(disk).unwrap();
    world.call(READ);
    let seen = history(&world);
    assert_eq!((seen.calls.day, seen.previous.as_deref(), seen.new_pair), (1, Some("crm/query"), true));
}

/// SQLite takes names in any case for the same; so do the facts. Patterns do not.
#[test]
fn the_case_of_a_table_hides_nothing() {
    let world = world();
    for table in ["customers", "CUSTOMERS", "\"Customers\"", "main.customers", "[cusTomers]"] {
        world.call(&format!("SELECT name FROM {table}"));
        assert_eq!(last(&world).facts.sql.unwrap().tables, ["customers"], "{table}");
    }
}
