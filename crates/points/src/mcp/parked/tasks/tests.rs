//! A task ends once, is its owner's alone, and is bounded in number, bytes and time.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

const NOW: TimeMs = TimeMs(1_764_066_600_123);
const EXPIRES: TimeMs = TimeMs(NOW.0 + 900_000);

fn owner(agent: &str) -> Owner {
    Owner { who: ("t".parse().unwrap(), agent.parse().unwrap(), "r".parse().unwrap()), blocks: Vec::new() }
}

fn new(id: &str, agent: &str) -> New {
    New {
        id: id.to_owned(),
        owner: owner(agent),
        ticket: "t-1".parse().unwrap(),
        expires: EXPIRES,
        ttl_ms: None,
        message: "It waits.".to_owned(),
        page: None,
    }
}

fn page() -> Page {
    Page { url: "https://a.example/t-1".to_owned(), message: "Open it.".to_owned() }
}

fn read(raw: &[u8]) -> Value {
    serde_json::from_slice(raw).unwrap()
}

fn store(tasks_max: usize, tasks_per_owner_max: usize, bytes_max: usize) -> Tasks {
    Tasks::new(Bounds { tasks_max, tasks_per_owner_max, bytes_max })
}

#[test]
fn both_eras_are_told_in_their_own_shapes() {
    let mut tasks = Tasks::default();
    let task = tasks.create(New { page: Some(page()), ..new("id-1", "a") }, NOW).unwrap();
    let created = read(&task.created(true, &[("countersign/receipt", "null")]));
    expect_json(
        &created,
        r#"{"_meta":{"countersign/receipt":null},"createdAt":"2025-11-25T10:30:00.123Z","lastUpdatedAt":"2025-11-25T10:30:00.123Z","pollIntervalMs":5000,"resultType":"task","status":"working","statusMessage":"It waits.","taskId":"id-1","ttlMs":4500000}"#,
    );
    let legacy = read(&task.created(false, &[]));
    expect_json(
        &legacy,
        r#"{"_meta":{"io.modelcontextprotocol/model-immediate-response":"It waits."},"task":{"createdAt":"2025-11-25T10:30:00.123Z","lastUpdatedAt":"2025-11-25T10:30:00.123Z","pollInterval":5000,"status":"working","statusMessage":"It waits.","taskId":"id-1","ttl":4500000}}"#,
    );
    // A modern client is asked to open the page, in URL mode, until it has said anything to that; a legacy one is not.
    let shown = |tasks: &mut Tasks, is_modern| read(&tasks.get(&owner("a"), "id-1", NOW).unwrap().shown(is_modern));
    let asked = shown(&mut tasks, true);
    assert_eq!((&asked["status"], &asked["resultType"]), (&"input_required".into(), &"complete".into()));
    assert_eq!(asked["inputRequests"][APPROVAL]["params"]["mode"], "url");
    assert_eq!(shown(&mut tasks, false)["status"], "working");
    tasks.answered((&owner("a"), "id-1"), ["other"].into_iter(), NOW).unwrap();
    assert_eq!(shown(&mut tasks, true)["status"], "input_required");
    tasks.answered((&owner("a"), "id-1"), ["other", APPROVAL].into_iter(), NOW).unwrap();
    assert_eq!(shown(&mut tasks, true)["status"], "working");
    // The end comes raw, number spellings and all, in the modern era inside and in the legacy one beside it.
    assert!(tasks.finish("id-1", Status::Completed(br#"{"n":1.0e2}"#.as_slice().into()), NOW));
    let raw = tasks.fetch(&owner("a"), "id-1", NOW).unwrap().shown(true);
    assert!(String::from_utf8(raw).unwrap().ends_with(r#","result":{"n":1.0e2}}"#));
    let legacy = shown(&mut tasks, false);
    assert_eq!((&legacy["status"], legacy.get("result"), legacy.get("resultType")), (&"completed".into(), None, None));
    assert_eq!(Task::related_to("id-1"), r#"{"taskId":"id-1"}"#);
}

fn expect_json(value: &Value, expected: &str) {
    assert_eq!(*value, serde_json::from_str::<Value>(expected).unwrap());
}

#[test]
fn a_task_ends_once() {
    let done = || Status::Completed(Bytes::from_static(b"{}"));
    let failed = || Status::Failed(Bytes::from_static(br#"{"code":-1,"message":"x"}"#));
    let mut tasks = Tasks::default();
    for id in ["a", "b", "c"] {
        tasks.create(new(id, "a"), NOW).unwrap();
    }
    assert!(!tasks.finish("a", Status::Working, NOW));
    assert!(tasks.finish("a", done(), NOW) && !tasks.finish("a", failed(), NOW));
    assert_eq!(tasks.cancel(&owner("a"), "a", NOW).err(), Some(TaskError::Over));
    assert_eq!(tasks.get(&owner("a"), "a", NOW).unwrap().status(), &done());
    // What was given up stays so, whatever the call still comes to.
    assert_eq!(tasks.cancel(&owner("a"), "b", NOW).unwrap().status(), &Status::Cancelled);
    assert!(!tasks.finish("b", done(), NOW));
    assert_eq!(read(&tasks.get(&owner("a"), "b", NOW).unwrap().shown(true))["status"], "cancelled");
    assert!(tasks.finish("c", failed(), NOW));
    assert_eq!(read(&tasks.get(&owner("a"), "c", NOW).unwrap().shown(true))["error"]["code"], -1);
    assert!(!tasks.finish("nothing", done(), NOW));
}

#[test]
fn a_task_is_its_owners_alone() {
    let mut tasks = Tasks::default();
    tasks.create(new("id", "a"), NOW).unwrap();
    let (unknown, other) = (Some(TaskError::Unknown), owner("b"));
    assert_eq!(tasks.get(&other, "id", NOW).err(), unknown);
    assert_eq!(tasks.fetch(&other, "id", NOW).err(), unknown);
    assert_eq!(tasks.cancel(&other, "id", NOW).err(), unknown);
    assert_eq!(tasks.answered((&other, "id"), [APPROVAL].into_iter(), NOW).err(), unknown);
    assert!(tasks.list(&other, NOW).is_empty());
    assert_eq!(tasks.list(&owner("a"), NOW).len(), 1);
    assert_eq!(tasks.create(new("id", "b"), NOW).err(), Some(TaskError::Full), "an id is taken once");
}

#[test]
fn time_bounds_a_task_and_a_client_cannot_make_it_shorter_than_the_wait() {
    let mut tasks = Tasks::default();
    for (id, asked) in [("short", Some(1)), ("long", Some(u64::MAX)), ("none", None)] {
        tasks.create(New { ttl_ms: asked, ..new(id, "a") }, NOW).unwrap();
    }
    let life = 900_000 + GRACE_MS;
    let there = |tasks: &mut Tasks, at: u64| {
        let mut there: Vec<String> =
            tasks.list(&owner("a"), NOW.saturating_add_ms(at)).iter().map(|task| task.id().to_owned()).collect();
        there.sort();
        there
    };
    assert_eq!(there(&mut tasks, life - 1), ["long", "none", "short"]);
    assert_eq!(there(&mut tasks, life), ["long"]);
    assert_eq!(there(&mut tasks, TTL_MS_MAX), Vec::<String>::new());
    assert!(tasks.is_empty());
}

#[test]
fn what_was_fetched_makes_room_and_nothing_else_does() {
    let mut tasks = store(2, 2, 100);
    tasks.create(new("one", "a"), NOW).unwrap();
    tasks.create(new("two", "b"), NOW).unwrap();
    assert!(tasks.finish("one", Status::Completed(Bytes::from_static(b"{}")), NOW));
    assert_eq!(tasks.create(new("three", "a"), NOW).err(), Some(TaskError::Full));
    tasks.fetch(&owner("a"), "one", NOW).unwrap();
    tasks.create(new("three", "a"), NOW).unwrap();
    assert_eq!(tasks.get(&owner("a"), "one", NOW).err(), Some(TaskError::Unknown));
    // One owner cannot take all the room.
    let mut tasks = store(9, 1, 100);
    tasks.create(new("one", "a"), NOW).unwrap();
    assert_eq!(tasks.create(new("two", "a"), NOW).err(), Some(TaskError::Full));
    tasks.create(new("two", "b"), NOW).unwrap();
}

#[test]
fn an_answer_without_room_is_done_and_lost() {
    let mut tasks = store(9, 9, 10);
    for id in ["one", "two"] {
        tasks.create(new(id, "a"), NOW).unwrap();
    }
    assert!(tasks.finish("one", Status::Completed(vec![b'1'; 8].into()), NOW));
    assert!(tasks.finish("two", Status::Completed(vec![b'1'; 8].into()), NOW));
    let shown = read(&tasks.get(&owner("a"), "two", NOW).unwrap().shown(true));
    assert_eq!((&shown["status"], &shown["error"]["code"]), (&"failed".into(), &(-32011).into()));
}

#[test]
fn times_are_spelled_as_a_calendar_has_them() {
    for (ms, expected) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (1_795_305_600_000, "2026-11-22T00:00:00.000Z"),
    ] {
        assert_eq!(iso(TimeMs(ms)), expected);
    }
}

proptest! {
    /// Whatever happens, in whatever order: bounds hold, ends stay, and strangers see nothing.
    #[test]
    fn bounds_hold_and_ends_stay(moves in proptest::collection::vec((0_u8..6, 0_u8..6, 0_u8..2, 0_u64..4_000_000), 0..60)) {
        let mut tasks = store(4, 3, 24);
        let mut now = NOW;
        let mut ended: BTreeMap<String, Status> = BTreeMap::new();
        for (what, id, agent, later) in moves {
            let (id, agent) = (format!("id-{id}"), if agent == 0 { "a" } else { "b" });
            now = now.saturating_add_ms(later / 40);
            match what {
                0 | 1 => {
                    let is_new = tasks.create(New { expires: now, ..new(&id, agent) }, now).is_ok();
                    if is_new { ended.remove(&id); }
                }
                2 => { tasks.finish(&id, Status::Completed(vec![b'1'; 10].into()), now); }
                3 => { tasks.finish(&id, Status::Failed(vec![b'1'; 10].into()), now); }
                4 => { let _ = tasks.cancel(&owner(agent), &id, now); }
                _ => { let _ = tasks.fetch(&owner(agent), &id, now); }
            }
            let all: Vec<(String, Status)> = ["a", "b"]
                .into_iter()
                .flat_map(|who| tasks.list(&owner(who), now).into_iter().map(|t| (t.id().to_owned(), t.status().clone())).collect::<Vec<_>>())
                .collect();
            prop_assert!(all.len() <= 4 && all.len() == tasks.len());
            for (id, status) in all {
                if let Some(before) = ended.get(&id) {
                    prop_assert_eq!(before, &status);
                }
                if status.is_over() {
                    ended.insert(id, status);
                }
            }
        }
    }
}
