//! What the command line takes, what it says of what it does not, and how rows look.

use countersign_index::{Ended, Filter, Row};
use countersign_model::TimeMs;

use super::{filter, moment, table};
use crate::cli::Query;

const NOW: TimeMs = TimeMs(1_795_269_600_000);

fn check(query: Query, want: &str) {
    let got = match filter(&query, NOW) {
        Ok(filter) => format!("ok {filter:?}"),
        Err(error) => format!("{error:#}"),
    };
    assert!(got.contains(want), "wanted `{want}`, got: {got}");
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn words_are_checked_and_the_allowed_ones_named() {
    check(Query::default(), "ok ");
    check(Query { verdict: some("deny"), ..Query::default() }, "verdict: Some(Deny)");
    check(
        Query { verdict: some("denied"), ..Query::default() },
        "`denied` is no verdict; use one of allow, require_approval, deny, modify, defer",
    );
    check(Query { reason: some("code_freeze"), ..Query::default() }, "CodeFreeze");
    check(Query { reason: some("frozen"), ..Query::default() }, "`frozen` is no reason; use one of policy_permit");
    check(Query { status: some("open"), ..Query::default() }, "Open");
    check(Query { status: some("running"), ..Query::default() }, "use one of done, failed, not_started, unknown, open");
    check(Query { kind: vec!["consent".to_owned()], ..Query::default() }, "consent");
    check(Query { kind: vec!["outcome".to_owned()], ..Query::default() }, "`outcome` is no kind of record");
    check(Query { since: some("yesterday"), ..Query::default() }, "`yesterday` is no time; write one such as");
    check(Query { until: some("-1d"), ..Query::default() }, "is no time");
}

#[test]
fn times_are_rfc_3339_or_how_long_ago() {
    for (text, want) in [
        ("1d", Some(NOW.0 - 86_400_000)),
        ("2h", Some(NOW.0 - 7_200_000)),
        ("9999999d", Some(0)),
        ("2026-11-21T14:00:00Z", Some(NOW.0)),
        ("2026-11-21T15:00:00.250+01:00", Some(NOW.0 + 250)),
        ("1969-12-31T23:59:59Z", None),
        ("2026-11-21", None),
        ("1x", None),
        ("", None),
    ] {
        assert_eq!(moment(text, NOW).ok().map(|time| time.0), want, "{text}");
    }
}

fn row() -> Row {
    Row {
        leaf: 12,
        at_ms: NOW.0,
        kind: "intent",
        verdict: Some("allow"),
        reasons: vec!["policy_permit"],
        agent: some("coder"),
        run: some("a-very-long-run-id-of-some-orchestrator-0001"),
        tool: some("=cmd|'/C calc'!A0"),
        environment: some("production"),
        tables: vec!["orders".to_owned(), "users".to_owned()],
        count: 1,
        ended: Some(Ended {
            leaf: 13,
            status: "done",
            rows: Some(3),
            bytes_sent: 9,
            duration_ms: 4,
            cost_microusd: None,
        }),
        ..Row::default()
    }
}

#[test]
fn the_table_fits_the_terminal() {
    let hostile = Row { tool: some("a\u{1b}[2Jb"), verdict: Some("deny"), ended: None, ..row() };
    let rows = [row(), hostile];
    for width in [60, 80, 100] {
        let text = anstream::adapter::strip_str(&table::rows(&rows, Some(width))).to_string();
        assert_eq!(text.lines().count(), 3);
        assert!(text.lines().all(|line| line.chars().count() <= width.max(90)), "{width}:\n{text}");
        assert!(text.contains("12") && text.contains("2026-11-21T14:00:00Z") && !text.contains('\u{1b}'), "{text}");
    }
    let narrow = anstream::adapter::strip_str(&table::rows(&rows, Some(100))).to_string();
    assert!(narrow.contains('…') && narrow.lines().all(|line| line.chars().count() <= 100), "{narrow}");
    let whole = anstream::adapter::strip_str(&table::rows(&rows, None)).to_string();
    assert!(whole.contains("a-very-long-run-id-of-some-orchestrator-0001"), "{whole}");
    assert_eq!(table::rows(&[], Some(80)), "");
}

#[test]
fn csv_is_quoted_and_no_formula() {
    let text = table::csv(&[Row { agent: some("a,\"b\""), ..row() }]);
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0].split(',').count(), 26);
    assert!(lines[1].contains("\"a,\"\"b\"\"\""), "{}", lines[1]);
    assert!(lines[1].contains(",'=cmd|'/C calc'!A0,"), "{}", lines[1]);
    assert!(lines[1].ends_with(",done,13,3,9,4,,"), "{}", lines[1]);
}

#[test]
fn an_empty_question_is_about_calls() {
    assert_eq!(filter(&Query::default(), NOW).unwrap(), Filter::default());
}
