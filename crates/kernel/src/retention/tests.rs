//! Which payloads may be erased when.

use countersign_model::TimeMs;

use super::{DAY_MS, KEEP_DAYS_MIN, Retention, RetentionClass};

fn check(environment: &str, age_days: u64, want: Option<&str>) {
    let class = |keep_days, erasable| RetentionClass { keep_days, erasable };
    let classes = [
        ("production", class(365, false)),
        ("support", class(365, true)),
        ("bench", class(7, false)),
        ("for-ever", class(u64::MAX, false)),
    ];
    let classes = classes.into_iter().map(|(name, class)| (name.parse().unwrap(), class)).collect();
    let retention = Retention { classes, ..Retention::default() };
    let at = TimeMs(1_800_000_000_000);
    let now = at.saturating_add_ms(age_days * DAY_MS);
    let why = retention.forbids_erasing(&environment.parse().unwrap(), at, now);
    match (&why, want) {
        (None, None) => {}
        (Some(why), Some(want)) => assert!(why.contains(want), "{environment} after {age_days} days: {why}"),
        _ => panic!("{environment} after {age_days} days: {why:?}, wanted {want:?}"),
    }
}

#[test]
fn a_class_allows_erasing_or_its_time_does() {
    check("production", 0, Some("for 365 more days"));
    check("production", 364, Some("for 1 more days"));
    check("production", 365, None);
    check("support", 0, None);
    check("bench", 6, Some("for 1 more days"));
    check("bench", 7, None);
    check("not-listed", KEEP_DAYS_MIN - 1, Some("`not-listed`"));
    check("not-listed", KEEP_DAYS_MIN, None);
    // No sum overflows into the past.
    check("for-ever", 100_000, Some("more days"));
}

#[test]
fn a_record_may_be_pruned_once_its_time_is_over_erasable_or_not() {
    let class = |keep_days| RetentionClass { keep_days, erasable: true };
    let retention = Retention { classes: [("support".parse().unwrap(), class(365))].into(), rest: class(200) };
    let at = TimeMs(1_800_000_000_000);
    for (environment, days) in [(Some("support"), 365), (Some("other"), 200), (None, 200)] {
        let environment = environment.map(|name| name.parse().unwrap());
        let forbids =
            |days: u64| retention.forbids_pruning(environment.as_ref(), at, at.saturating_add_ms(days * DAY_MS));
        assert!(forbids(days - 1).unwrap().contains("for 1 more days"), "{environment:?}");
        assert_eq!(forbids(days), None, "{environment:?}");
    }
}
