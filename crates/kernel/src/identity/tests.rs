//! Tokens: who they name, when they end, and what is refused.

use biscuit_auth::builder::BlockBuilder;
use biscuit_auth::{Biscuit, KeyPair};
use countersign_model::{Principal, ReasonCode, TimeMs};

use super::{DEPTH_MAX, TOKEN_BYTES_MAX, TokenError, TokenKey, attenuate, issue, verify};

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
    let short = attenuate(&key().public(), &token(), TimeMs(NOW.0 + 60_000), &[5; 32]).unwrap();
    let caller = verify(&key().public(), &short, NOW).unwrap();
    assert_eq!((caller.expires, caller.principal.depth), (TimeMs(NOW.0 + 60_000), 1));
    let error = verify(&key().public(), &short, TimeMs(NOW.0 + 60_000)).unwrap_err();
    let TokenError::Expired(check) = &error else { panic!("{error:?}") };
    assert!(check.starts_with("check if time($time), $time < 2027-"), "{check}");
    let long = attenuate(&key().public(), &short, TimeMs(ENDS.0 + 60_000), &[6; 32]).unwrap();
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
    for depth in 1..=DEPTH_MAX {
        deep = attenuate(&key().public(), &deep, ENDS, &[u8::try_from(depth).unwrap(); 32]).unwrap();
        assert_eq!(verify(&key().public(), &deep, NOW).unwrap().principal.depth, depth);
    }
    let deeper = attenuate(&key().public(), &deep, ENDS, &[99; 32]).unwrap();
    assert_eq!(refused(&deeper), TokenError::TooDeep(9));
    assert_eq!(refused(&"A".repeat(TOKEN_BYTES_MAX + 1)), TokenError::Oversize(TOKEN_BYTES_MAX + 1));
}
