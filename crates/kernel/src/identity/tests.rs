//! Tokens: who they name, when they end, and what is refused.

use biscuit_auth::builder::BlockBuilder;
use biscuit_auth::{Biscuit, KeyPair};
use countersign_model::{Effect, Narrowed, Principal, ReasonCode, TimeMs};

use super::{DEPTH_MAX, Narrowing, TOKEN_BYTES_MAX, TokenError, TokenKey, attenuate, block_id, issue, read, verify};

const NOW: TimeMs = TimeMs(1_800_000_000_000);
const ENDS: TimeMs = TimeMs(1_800_000_600_500);

fn key() -> TokenKey {
    TokenKey::from_bytes(&[3; 32]).unwrap()
}

fn principal(run: &str) -> Principal {
    Principal {
        tenant: "acme".parse().unwrap(),
        agent: "shop".parse().unwrap(),
        session: "s-1".parse().unwrap(),
        run: run.parse().unwrap(),
        depth: 0,
    }
}

fn token() -> String {
    issue(&key(), &principal("r-1"), ENDS).unwrap()
}

/// The token with a block of `code` behind it, as its holder could append.
fn narrowed(token: &str, code: &str) -> String {
    let block = BlockBuilder::new().code(code).unwrap();
    let biscuit = Biscuit::from_base64(token, key().public().0).unwrap();
    biscuit.append(block).unwrap().to_base64().unwrap()
}

/// A token whose first block is `code`, signed with our key.
fn minted(code: &str) -> String {
    let token = Biscuit::builder().code(code).unwrap().build(&key().pair).unwrap();
    token.to_base64().unwrap()
}

fn refused(token: &str) -> TokenError {
    verify(&key().public(), token, NOW).unwrap_err()
}

#[test]
fn a_token_says_who() {
    let caller = verify(&key().public(), &token(), NOW).unwrap();
    assert_eq!((caller.principal, caller.expires), (principal("r-1"), ENDS));
    let own_run = issue(&key(), &principal("s-1"), ENDS).unwrap();
    assert_eq!(verify(&key().public(), &own_run, NOW).unwrap().principal.run.as_str(), "s-1");
    assert_eq!(token(), token());
    assert_eq!(TokenKey::from_bytes(&key().to_bytes()).unwrap().public(), key().public());
}

#[test]
fn a_token_ends_to_the_millisecond() {
    assert!(verify(&key().public(), &token(), TimeMs(ENDS.0 - 1)).is_ok());
    let error = verify(&key().public(), &token(), ENDS).unwrap_err();
    assert_eq!(error.reason().code, ReasonCode::TokenExpired);
}

#[test]
fn forged_tokens_are_refused() {
    let other = TokenKey::from_bytes(&[4; 32]).unwrap();
    let forged = issue(&other, &principal("r-1"), ENDS).unwrap();
    assert!(matches!(refused(&forged), TokenError::Forged(_)));
    assert!(matches!(refused(""), TokenError::Forged(_)));
    assert!(matches!(refused("no token"), TokenError::Forged(_)));
    assert_eq!(refused("no token").reason().code, ReasonCode::TokenInvalid);
    // Any one character.
    let good = token();
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(verify(&key().public(), &changed, NOW).is_err(), "at {at}");
    }
}

#[test]
fn a_holder_can_shorten_and_not_lengthen() {
    let short = attenuate(&key().public(), &token(), &Narrowing::until(TimeMs(NOW.0 + 60_000)), &[5; 32]).unwrap();
    let caller = verify(&key().public(), &short, NOW).unwrap();
    assert_eq!((caller.expires, caller.principal.depth), (TimeMs(NOW.0 + 60_000), 1));
    let error = verify(&key().public(), &short, TimeMs(NOW.0 + 60_000)).unwrap_err();
    let TokenError::Expired(check) = &error else { panic!("{error:?}") };
    assert!(check.starts_with("check if time($time), $time < 2027-"), "{check}");
    let long = attenuate(&key().public(), &short, &Narrowing::until(TimeMs(ENDS.0 + 60_000)), &[6; 32]).unwrap();
    let caller = verify(&key().public(), &long, NOW).unwrap();
    assert_eq!((caller.expires, caller.principal.depth), (TimeMs(NOW.0 + 60_000), 2));
    // The form that the common tools write.
    let or_equal = narrowed(&token(), "check if time($date), $date <= 2027-01-15T08:00:30Z");
    assert_eq!(verify(&key().public(), &or_equal, NOW).unwrap().expires, TimeMs(NOW.0 + 30_001));
}

#[test]
fn what_is_not_understood_is_refused() {
    for code in [
        "agent(\"admin\")",
        "expires_ms(9999999999999)",
        "check if tool(\"query\")",
        "check all time($t), $t < 2027-02-01T00:00:00Z",
        "reject if time($t), $t < 2020-01-01T00:00:00Z",
        "check if time($t), $t < 2027-02-01T00:00:00Z or true",
        "check if time($t), time($u), $t < 2027-02-01T00:00:00Z",
        "check if time($t), $t > 2020-01-01T00:00:00Z",
        "check if true",
        "check if tool($t), {\"a\"}.contains($u)",
        "check if tool($t), $t == \"a\"",
        "check if tool($t), {\"a b\"}.contains($t)",
        "check if tool($t), {1}.contains($t)",
        "check if tool($t), !{\"a\"}.contains($t)",
        "check if tool($t, $t), {\"a\"}.contains($t)",
        "check if upstream($u), {\"a\"}.contains($u), {\"b\"}.contains($u)",
        "check if effect($e), {\"write\"}.contains($e)",
        "check if effect($e), {\"read\", \"write\"}.contains($e)",
        "check if agent($a), {\"admin\"}.contains($a)",
        "reject if tool($t), {\"a\"}.contains($t)",
        "agent($x) <- session($x)",
    ] {
        let error = refused(&narrowed(&token(), code));
        assert!(matches!(error, TokenError::Attenuation(_)), "`{code}`: {error:?}");
    }
}

#[test]
fn a_third_party_has_no_say() {
    let root = key().public().0;
    let biscuit = Biscuit::from_base64(token(), root).unwrap();
    let third =
        KeyPair::from(&biscuit_auth::PrivateKey::from_bytes(&[8; 32], biscuit_auth::Algorithm::Ed25519).unwrap());
    let block = biscuit
        .third_party_request()
        .unwrap()
        .create_block(
            &third.private(),
            BlockBuilder::new().code("check if time($t), $t < 2027-02-01T00:00:00Z").unwrap(),
        )
        .unwrap();
    let with = biscuit.append_third_party(third.public(), block).unwrap().to_base64().unwrap();
    assert!(matches!(refused(&with), TokenError::Attenuation(_)));
}

#[test]
fn the_first_block_says_who_and_nothing_else() {
    let good = r#"tenant("acme"); agent("shop"); session("s-1"); expires_ms(1900000000000);"#;
    assert!(verify(&key().public(), &minted(good), NOW).is_ok());
    for bad in [
        r#"tenant("acme"); agent("shop"); session("s-1");"#,
        r#"tenant("acme"); agent("shop"); expires_ms(1900000000000);"#,
        r#"tenant("acme"); agent("shop"); session("s-1"); expires_ms(-1);"#,
        r#"tenant("acme"); agent("shop"); session("s 1"); expires_ms(1900000000000);"#,
        r#"tenant("acme"); agent("shop"); agent("admin"); session("s-1"); expires_ms(1900000000000);"#,
        r#"tenant("acme"); agent("shop"); session("s-1"); expires_ms(1900000000000); role("admin");"#,
        r#"tenant("acme"); agent("shop"); session("s-1"); expires_ms(1900000000000); check if role("x");"#,
        r#"tenant("acme"); agent("shop", "admin"); session("s-1"); expires_ms(1900000000000);"#,
    ] {
        assert!(matches!(refused(&minted(bad)), TokenError::Authority(_)), "`{bad}`");
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let mut deep = token();
    let narrowing = Narrowing::until(ENDS);
    for depth in 1..=DEPTH_MAX {
        deep = attenuate(&key().public(), &deep, &narrowing, &[u8::try_from(depth).unwrap(); 32]).unwrap();
        assert_eq!(verify(&key().public(), &deep, NOW).unwrap().principal.depth, depth);
    }
    assert_eq!(attenuate(&key().public(), &deep, &narrowing, &[99; 32]), Err(TokenError::TooDeep(9)));
    // Whoever does not ask us is refused at the door.
    let deeper = narrowed(&deep, "check if time($t), $t < 2027-02-01T00:00:00Z");
    assert_eq!(refused(&deeper), TokenError::TooDeep(9));
    assert_eq!(refused(&"A".repeat(TOKEN_BYTES_MAX + 1)), TokenError::Oversize(TOKEN_BYTES_MAX + 1));
}

fn left(token: &str) -> Narrowed {
    verify(&key().public(), token, NOW).unwrap().narrowed.unwrap()
}

fn is_left(token: &str, call: (&str, &str), effect: Effect) -> bool {
    let (upstream, tool) = (call.0.parse().unwrap(), call.1.parse().unwrap());
    left(token).refuses((&upstream, &tool), Some(effect)).is_none()
}

#[test]
fn a_holder_can_narrow_to_tools_upstreams_and_reads() {
    assert_eq!(verify(&key().public(), &token(), NOW).unwrap().narrowed, None);
    let narrowing = Narrowing {
        tools: ["look", "query"].map(|tool| tool.parse().unwrap()).into(),
        upstreams: ["crm".parse().unwrap()].into(),
        ..Narrowing::default()
    };
    let child = attenuate(&key().public(), &token(), &narrowing, &[5; 32]).unwrap();
    let caller = verify(&key().public(), &child, NOW).unwrap();
    assert_eq!((caller.expires, &caller.principal.session, caller.principal.depth), (ENDS, &"s-1".parse().unwrap(), 1));
    for (call, effect, expected) in [
        (("crm", "look"), Effect::Opaque, true),
        (("crm", "query"), Effect::Read, true),
        (("crm", "lookup"), Effect::Read, false),
        (("mail", "look"), Effect::Read, false),
    ] {
        assert_eq!(is_left(&child, call, effect), expected, "{call:?}");
    }
    // What another holder adds is taken off as well; nothing comes back.
    let more = Narrowing {
        tools: ["query", "purge"].map(|tool| tool.parse().unwrap()).into(),
        read_only: true,
        ..Narrowing::default()
    };
    let grandchild = attenuate(&key().public(), &child, &more, &[6; 32]).unwrap();
    assert!(is_left(&grandchild, ("crm", "query"), Effect::Read));
    assert!(!is_left(&grandchild, ("crm", "query"), Effect::Write));
    assert!(
        !is_left(&grandchild, ("crm", "look"), Effect::Read) && !is_left(&grandchild, ("crm", "purge"), Effect::Read)
    );
    let nothing = attenuate(
        &key().public(),
        &grandchild,
        &Narrowing { tools: ["x".parse().unwrap()].into(), ..Narrowing::default() },
        &[7; 32],
    )
    .unwrap();
    assert_eq!(left(&nothing).tools, Some([].into()));
    assert!(matches!(
        attenuate(&key().public(), &token(), &Narrowing::default(), &[5; 32]),
        Err(TokenError::Attenuation(_))
    ));
    let many = Narrowing { tools: (0..65).map(|n| format!("t{n}").parse().unwrap()).collect(), ..Narrowing::default() };
    assert!(
        matches!(attenuate(&key().public(), &token(), &many, &[5; 32]), Err(TokenError::Attenuation(_))),
        "what nobody would take is not made"
    );
}

#[test]
fn the_forms_of_other_tools_are_read() {
    let array = narrowed(
        &token(),
        r#"check if tool($name), ["look", "look"].contains($name); check if upstream($u), {"crm"}.contains($u)"#,
    );
    assert!(is_left(&array, ("crm", "look"), Effect::Write) && !is_left(&array, ("crm", "query"), Effect::Read));
    let reads = narrowed(&token(), r#"check if effect($e), {"read"}.contains($e)"#);
    assert!(left(&reads).read_only);
}

#[test]
fn every_block_has_an_id_of_its_own() {
    let child = attenuate(&key().public(), &token(), &Narrowing::until(ENDS), &[5; 32]).unwrap();
    let sibling = attenuate(&key().public(), &token(), &Narrowing::until(ENDS), &[6; 32]).unwrap();
    let grandchild = attenuate(&key().public(), &child, &Narrowing::until(ENDS), &[7; 32]).unwrap();
    let said = read(&key().public(), &grandchild).unwrap();
    assert_eq!(said.revocation_ids.len(), 3);
    let blocks = left(&grandchild).blocks;
    assert_eq!(blocks, said.revocation_ids[1..].iter().map(|id| block_id(id)).collect::<Vec<_>>());
    assert_eq!(blocks[..1], left(&child).blocks, "what comes from a block carries its id");
    assert!(left(&sibling).blocks[0] != blocks[0]);
    // An expired token can still be read, to see what it was.
    let ended = attenuate(&key().public(), &token(), &Narrowing::until(TimeMs(1_000)), &[5; 32]).unwrap();
    assert!(verify(&key().public(), &ended, NOW).is_err());
    assert_eq!(read(&key().public(), &ended).unwrap().caller.expires, TimeMs(1_000));
}
