use proptest::prelude::*;

use super::{PATTERNS_MAX, PatternSet, hashed};
use crate::policy::{PatternDef, PatternKind};

use PatternKind::{Exact, Glob, Prefix, Regex};

fn pattern(id: &str, kind: PatternKind, text: &str, argument: Option<&str>) -> PatternDef {
    PatternDef { id: id.parse().unwrap(), kind, text: text.to_owned(), argument: argument.map(str::to_owned) }
}

fn matches(kind: PatternKind, pattern_text: &str, text: &str) -> bool {
    let set = PatternSet::load(&[pattern("p", kind, pattern_text, Some("a"))]).unwrap();
    !set.matched("", &[("a".to_owned(), text)]).is_empty()
}

#[test]
fn each_kind_is_read_as_it_says() {
    let check = |kind, pattern: &str, yes: &[&str], no: &[&str]| {
        for text in yes {
            assert!(matches(kind, pattern, text), "{pattern:?} {text:?}");
        }
        for text in no {
            assert!(!matches(kind, pattern, text), "{pattern:?} {text:?}");
        }
    };
    check(Exact, "a.c", &["a.c"], &["abc", "a.c\n", "xa.c", "A.C", ""]);
    check(Exact, "a|b", &["a|b"], &["a", "b"]);
    check(Prefix, "rm -rf (", &["rm -rf (", "rm -rf (x\ny"], &["x rm -rf (", "RM -rf ("]);
    check(Glob, "rm *", &["rm ", "rm x", "rm x\ny"], &["rm", "xrm ", "Rm x"]);
    check(Glob, "?.[ab]*", &["x.[ab]", "\u{e9}.[ab]c"], &["x.a", ".[ab]", "xx.[ab]"]);
    check(Regex, "dr(o|i)p", &["x drop y", "drip"], &["DROP", "dr\u{43e}p"]);
    check(Regex, "(?i)drop", &["DrOp"], &["dr0p"]);
    check(Regex, "", &["", "x"], &[]);
}

#[test]
fn a_pattern_looks_where_it_says() {
    let set = PatternSet::load(&[
        pattern("any", Prefix, "rm", None),
        pattern("cmd", Prefix, "rm", Some("cmd")),
        pattern("deep", Prefix, "rm", Some("cmd.first")),
        pattern("tool", Exact, "crm/purge", None),
    ])
    .unwrap();
    let check = |tool: &str, place: &str, expected: &[&str]| {
        let found = set.matched(tool, &[(place.to_owned(), "rm x")]);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    };
    check("crm/query", "cmd", &["any", "cmd"]);
    check("crm/query", "cmd.first", &["any", "cmd", "deep"]);
    check("crm/query", "cmd.firstly", &["any", "cmd"]);
    check("crm/query", "cmds", &["any"]);
    check("crm/purge", "x", &["any", "tool"]);
    assert_eq!(set.matched("rm", &[]).into_iter().collect::<Vec<_>>(), ["any"], "the tool's name is a text too");
}

#[test]
fn what_cannot_be_read_names_the_pattern_and_the_remedy() {
    let errors = PatternSet::load(&[
        pattern("open", Regex, "(", None),
        pattern("twice", Exact, "a", None),
        pattern("twice", Exact, "b", None),
        pattern("huge", Regex, "(a{1000}){1000}", None),
        pattern("long", Exact, &"a".repeat(3_000), None),
    ])
    .unwrap_err();
    let ids: Vec<&str> = errors.iter().map(|error| error.id.as_str()).collect();
    assert_eq!(ids, ["open", "twice", "huge", "long"]);
    assert!(errors.iter().all(|error| !error.problem.is_empty() && !error.remedy.is_empty()), "{errors:?}");
    let many: Vec<PatternDef> = (0..=PATTERNS_MAX).map(|n| pattern(&format!("p{n}"), Exact, "a", None)).collect();
    assert_eq!(PatternSet::load(&many).unwrap_err().len(), 1);
    assert!(PatternSet::load(&many[..PATTERNS_MAX]).is_ok());
    assert!(PatternSet::load(&[]).unwrap().is_empty());
}

#[test]
fn no_two_lists_have_one_hash() {
    let lists = [
        vec![],
        vec![pattern("a", Exact, "b", None)],
        vec![pattern("a", Prefix, "b", None)],
        vec![pattern("a", Exact, "b", Some(""))],
        vec![pattern("a", Exact, "b", Some("anywhere"))],
        vec![pattern("a", Exact, "b", None), pattern("c", Exact, "b", None)],
    ];
    let all: std::collections::BTreeSet<Vec<String>> = lists.iter().map(|list| hashed(list)).collect();
    assert_eq!(all.len(), lists.len());
}

proptest! {
    /// A glob means what a slow and obvious reading of it means.
    #[test]
    fn globs_agree_with_an_obvious_reading(glob in "[ab*?\n.]{0,6}", text in "[ab\n.é]{0,6}") {
        fn reads(glob: &[char], text: &[char]) -> bool {
            match (glob.split_first(), text.split_first()) {
                (None, None) => true,
                (Some(('*', rest)), _) => reads(rest, text) || text.split_first().is_some_and(|(_, t)| reads(glob, t)),
                (Some((g, rest)), Some((t, texts))) => (*g == '?' || g == t) && reads(rest, texts),
                _ => false,
            }
        }
        let expected = reads(&glob.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>());
        prop_assert_eq!(matches(Glob, &glob, &text), expected);
    }

    #[test]
    fn exact_and_prefix_are_equality_and_beginning(pattern in "[ -~]{0,5}", text in any::<String>()) {
        prop_assert_eq!(matches(Exact, &pattern, &text), pattern == text);
        prop_assert_eq!(matches(Prefix, &pattern, &text), text.starts_with(&pattern));
        let longer = format!("{text}x");
        prop_assert!(matches(Exact, &text, &text));
        prop_assert!(matches(Prefix, &text, &longer));
    }
}
