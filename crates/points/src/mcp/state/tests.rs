//! A state opens for what it was sealed for, and for nothing else; no byte of it can be changed.

use proptest::prelude::*;

use super::*;

const NOW: TimeMs = TimeMs(1_800_000_000_000);

fn key(seed: u8) -> StateKey {
    StateKey::new([seed; 32])
}

fn principal(names: [&str; 4]) -> Principal {
    let [tenant, agent, session, run] = names;
    Principal {
        tenant: tenant.parse().unwrap(),
        agent: agent.parse().unwrap(),
        session: session.parse().unwrap(),
        run: run.parse().unwrap(),
        depth: 0,
    }
}

fn ours() -> Principal {
    principal(["t", "a", "s", "r"])
}

fn digest(arguments: &str) -> Digest {
    request((&"query".parse().unwrap(), &Digest([7; 32])), arguments.as_bytes(), b"")
}

/// Seals `state` for us and opens it for whom the arguments say.
fn check(text: &str, who: &Principal, (upstream, arguments): (&str, &str), now: TimeMs) -> Result<State, StateError> {
    let (upstream, request) = (upstream.parse().unwrap(), digest(arguments));
    open(&key(1), &Bound { principal: who, upstream: &upstream, request: &request }, text, now)
}

fn sealed(state: &State) -> Result<String, StateError> {
    let (upstream, request) = ("crm".parse().unwrap(), digest("{\"id\":1}"));
    seal(&key(1), &Bound { principal: &ours(), upstream: &upstream, request: &request }, state)
}

fn state() -> impl Strategy<Value = State> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    let ticket = proptest::option::of("[a-z0-9-]{1,20}");
    let asked = proptest::collection::vec(".{0,8}", 0..4);
    (1_u64.., proptest::option::of(any::<u64>()), ticket, bytes(), asked, bytes(), bytes()).prop_map(
        |(expires, continues, ticket, upstream, asked, answers, ahead)| State {
            expires: TimeMs(expires),
            continues: continues.map(LeafIndex),
            ticket: ticket.map(|ticket| ticket.parse().unwrap()),
            upstream,
            asked,
            answers,
            ahead,
        },
    )
}

fn plain() -> State {
    State {
        expires: NOW.saturating_add_ms(1_000),
        continues: Some(LeafIndex(12)),
        ticket: Some("t-1".parse().unwrap()),
        upstream: Some(b"\"theirs\"".to_vec()),
        asked: vec!["name".to_owned()],
        answers: Some(b"{}".to_vec()),
        ahead: None,
    }
}

#[test]
fn it_opens_for_the_same_call_of_the_same_caller_in_its_time() {
    let text = sealed(&plain()).unwrap();
    let good = ("crm", "{\"id\":1}");
    assert_eq!(check(&text, &ours(), good, NOW), Ok(plain()));
    assert_eq!(check(&text, &ours(), ("crm", " {\"id\" :1} "), NOW), Ok(plain()));
    // An attenuated token is the same session.
    assert_eq!(check(&text, &Principal { depth: 3, ..ours() }, good, NOW), Ok(plain()));
    let invalid = Err(StateError::Invalid);
    for names in [["x", "a", "s", "r"], ["t", "x", "s", "r"], ["t", "a", "x", "r"], ["t", "a", "s", "x"]] {
        assert_eq!(check(&text, &principal(names), good, NOW), invalid, "{names:?}");
    }
    // No name can run over into the next one.
    assert_eq!(check(&text, &principal(["ta", "s", "r", "crm"]), good, NOW), invalid);
    for wrong in [("erp", "{\"id\":1}"), ("crm", "{\"id\":2}"), ("crm", "{\"id\":1.0}"), ("crm", "not json")] {
        assert_eq!(check(&text, &ours(), wrong, NOW), invalid, "{wrong:?}");
    }
    assert_eq!(check(&text, &ours(), good, plain().expires), invalid);
    let (upstream, request) = ("crm".parse().unwrap(), digest("{\"id\":1}"));
    let bound = Bound { principal: &ours(), upstream: &upstream, request: &request };
    assert_eq!(open(&key(2), &bound, &text, NOW), invalid, "another installation's");
    assert!(!format!("{:?}", key(0x5a)).contains("5a"));
}

#[test]
fn the_request_is_its_tool_its_manifest_its_arguments_and_meta() {
    let of = |tool: &str, manifest: u8, arguments: &str, meta: &str| {
        request((&tool.parse().unwrap(), &Digest([manifest; 32])), arguments.as_bytes(), meta.as_bytes())
    };
    let ours = of("a", 1, "{}", "");
    for other in [of("b", 1, "{}", ""), of("a", 2, "{}", ""), of("a", 1, "[]", ""), of("a", 1, "{}", "{}")] {
        assert_ne!(ours, other);
    }
    assert_eq!(of("a", 1, r#"{"b":1,"a":2}"#, ""), of("a", 1, r#"{ "a":2,"b":1}"#, ""));
}

#[test]
fn size_is_bounded_on_both_ways() {
    let part = |bytes: usize| Some(vec![b'x'; bytes]);
    let large = |bytes: usize| State { upstream: part(bytes), answers: part(bytes), ahead: part(bytes), ..plain() };
    let asked = |bytes: usize| State { asked: vec!["x".repeat(bytes)], ..large(PART_BYTES_MAX) };
    let text = sealed(&large(PART_BYTES_MAX)).unwrap();
    let longest = sealed(&asked(ASKED_BYTES_MAX - 4)).unwrap();
    assert!(longest.len() <= TEXT_BYTES_MAX, "{}", longest.len());
    assert_eq!(sealed(&asked(ASKED_BYTES_MAX - 3)), Err(StateError::Oversize));
    assert_eq!(check(&text, &ours(), ("crm", "{\"id\":1}"), NOW), Ok(large(PART_BYTES_MAX)));
    assert_eq!(sealed(&large(PART_BYTES_MAX + 1)), Err(StateError::Oversize));
    let long = format!("{MARK}{}", "A".repeat(TEXT_BYTES_MAX));
    assert_eq!(check(&long, &ours(), ("crm", "{}"), NOW), Err(StateError::Invalid));
    assert_eq!(StateError::Invalid.reason().code, ReasonCode::ContinuationInvalid);
}

proptest! {
    #[test]
    fn what_is_sealed_opens_as_it_was(state in state()) {
        let text = sealed(&state).unwrap();
        prop_assert_eq!(check(&text, &ours(), ("crm", "{\"id\":1}"), TimeMs(0)), Ok(state));
    }

    #[test]
    fn nothing_else_opens(state in state(), at in 0.0..1.0_f64, with in "[A-Za-z0-9_=.-]", cut in 0_usize..4, any in ".{0,200}") {
        let good = ("crm", "{\"id\":1}");
        let text = sealed(&state).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small length")]
        let at = (text.len() as f64 * at) as usize;
        let mut bent = text.clone();
        bent.replace_range(at..=at, &with);
        prop_assert!(bent == text || check(&bent, &ours(), good, TimeMs(0)).is_err());
        let shorter = &text[..text.len() - cut];
        prop_assert!(cut == 0 || check(shorter, &ours(), good, TimeMs(0)).is_err());
        let longer = [text.as_str(), &with].concat();
        prop_assert!(check(&longer, &ours(), good, TimeMs(0)).is_err());
        prop_assert!(check(&any, &ours(), good, TimeMs(0)).is_err());
    }
}
