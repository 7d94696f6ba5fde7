//! What is found and what is not, rule by rule; and the laws of redaction.
//!
//! Every secret here was made up. The parts of most are put together when the test runs, so that no scanner of
//! repositories takes them for real ones.

use proptest::prelude::*;

use super::*;
use crate::json::canonical;

/// A run of `count` letters and digits that looks drawn.
fn drawn(count: usize) -> String {
    "aB3dE5gH7jK9mN2pQ4sT6vW8yZ1cF0".chars().cycle().take(count).collect()
}

/// A run of base64 lines, as keys have them.
fn key_lines(separator: &str) -> String {
    [drawn(64), drawn(64), drawn(20) + "=="].join(separator)
}

fn clean(text: &str) -> String {
    cleaned(text).into_owned()
}

/// Texts with one secret, and the text that is left.
#[test]
fn secrets_in_texts_are_found() {
    let cases: Vec<(String, &str)> = vec![
        (
            format!("-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\nx", key_lines("\n")),
            "[redacted:private-key]\nx",
        ),
        (
            format!("a -----BEGIN PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----", key_lines("\\n")),
            "a [redacted:private-key]",
        ),
        (format!("-----BEGIN OPENSSH PRIVATE KEY-----\r\n{}", key_lines("\r\n")), "[redacted:private-key]"),
        (
            format!(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,AB12\n\n{}\n-----END RSA PRIVATE KEY-----",
                key_lines("\n")
            ),
            "[redacted:private-key]",
        ),
        (
            format!(
                "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{}\n=Ab1x\n-----END PGP PRIVATE KEY BLOCK-----",
                key_lines("\n")
            ),
            "[redacted:private-key]",
        ),
        (format!("key ed25519-private/{}", "ab12".repeat(16)), "key [redacted:private-key]"),
        (format!("use {}IOSFODNN7EXAMPLE now", "AKIA"), "use [redacted:aws-access-key] now"),
        (format!("{}IOSFODNN7EXAMPLE", "ASIA"), "[redacted:aws-access-key]"),
        (format!("(ghp_{})", drawn(36)), "([redacted:github-token])"),
        (format!("github_pat_{}_{}", drawn(22), drawn(59)), "[redacted:github-token]"),
        (format!("https://x/?t=glpat-{}", drawn(20)), "https://x/?t=[redacted:gitlab-token]"),
        (format!("xoxb-1234567890-{}", drawn(24)), "[redacted:slack-token]"),
        (format!("sk_live_{}", drawn(24)), "[redacted:stripe-key]"),
        (format!("'whsec_{}'", drawn(32)), "'[redacted:stripe-key]'"),
        (format!("sk-proj-{}", drawn(48)), "[redacted:openai-key]"),
        (format!("sk-{}", drawn(48)), "[redacted:openai-key]"),
        (format!("sk-ant-api03-{}", drawn(80)), "[redacted:anthropic-key]"),
        (format!("AIza{}", drawn(35)), "[redacted:google-key]"),
        (format!("ya29.{}", drawn(60)), "[redacted:google-key]"),
        (format!("npm_{} hf_{}", drawn(36), drawn(34)), "[redacted:service-token] [redacted:service-token]"),
        (format!("eyJ{}.eyJ{}.{}", drawn(20), drawn(40), drawn(43)), "[redacted:jwt]"),
        (
            format!("eyJ{}..{}.{}.{}", drawn(20), drawn(16), drawn(40), drawn(22)),
            "eyJaB3dE5gH7jK9mN2pQ4sT..aB3dE5gH7jK9mN2p.aB3dE5gH7jK9mN2pQ4sT6vW8yZ1cF0aB3dE5gH7j.aB3dE5gH7jK9mN2pQ4sT6v",
        ),
        (
            format!("curl -H 'Authorization: Bearer {}' x", drawn(20)),
            "curl -H 'Authorization: Bearer [redacted:authorization]' x",
        ),
        (format!("bearer {}", drawn(20)), "bearer [redacted:authorization]"),
        ("AUTHORIZATION: Basic dXNlcjpwYXNz\nx".to_owned(), "AUTHORIZATION: Basic [redacted:authorization]\nx"),
        (
            r#"{\"authorization\": \"token abcdef12\"}"#.to_owned(),
            r#"{\"authorization\": \"token [redacted:authorization]\"}"#,
        ),
        (
            "postgres://app:hunter2@db.example/crm?x=1".to_owned(),
            "postgres://app:[redacted:connection-password]@db.example/crm?x=1",
        ),
        ("redis://:p@ss@host:6379/0".to_owned(), "redis://:[redacted:connection-password]@host:6379/0"),
        ("see amqp://u:a/b?c@h/v".to_owned(), "see amqp://u:[redacted:connection-password]@h/v"),
        (
            "Server=db;User=sa;Password=Hunter2!;Encrypt=yes".to_owned(),
            "Server=db;User=sa;Password=[redacted:password];Encrypt=yes",
        ),
        ("export PGPASSWORD=hunter2 && psql".to_owned(), "export PGPASSWORD=[redacted:password] && psql"),
        (
            "UPDATE users SET password = 'hunter2' WHERE id = 1".to_owned(),
            "UPDATE users SET password = '[redacted:password]' WHERE id = 1",
        ),
        ("ALTER USER x WITH PASSWORD 'hunter2'".to_owned(), "ALTER USER x WITH PASSWORD '[redacted:password]'"),
        ("CREATE USER x IDENTIFIED BY 'hunter2'".to_owned(), "CREATE USER x IDENTIFIED BY '[redacted:password]'"),
        ("mysql --password hunter2 -h db".to_owned(), "mysql --password [redacted:password] -h db"),
        ("mysql --password=hunter2 -h db".to_owned(), "mysql --password=[redacted:password] -h db"),
        ("password: hunter2\nuser: x".to_owned(), "password: [redacted:password]\nuser: x"),
        (r#"{"dbPassword":"a"}"#.to_owned(), r#"{"dbPassword":"[redacted:password]"}"#),
        (format!("API_KEY={}&x=1", drawn(24)), "API_KEY=[redacted:secret-value]&x=1"),
        (format!("client_secret: \"{}\"", drawn(32)), "client_secret: \"[redacted:secret-value]\""),
        (format!("AWS_SECRET_ACCESS_KEY={}", drawn(40)), "AWS_SECRET_ACCESS_KEY=[redacted:secret-value]"),
        (format!("token=sk_live_{}", drawn(24)), "token=[redacted:stripe-key]"),
        ("card 4111 1111 1111 1111, 12/30".to_owned(), "card [redacted:card-number], 12/30"),
        ("4111-1111-1111-1111 123".to_owned(), "[redacted:card-number] 123"),
        ("378282246310005 and 5555555555554444".to_owned(), "[redacted:card-number] and [redacted:card-number]"),
        ("ümlaut password=hünter2x ende".to_owned(), "ümlaut password=[redacted:password] ende"),
    ];
    for (text, expected) in cases {
        assert_eq!(clean(&text), expected, "of {text}");
    }
}

#[test]
fn other_texts_are_left_alone() {
    let cases = [
        "",
        "SELECT name FROM customers WHERE id = 1",
        "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----",
        "AKIASHORT",
        "XAKIAIOSFODNN7EXAMPLE",
        "AKIAIOSFODNN7EXAMPLEX",
        "ghp_short",
        "sk-learn-pipeline-with-very-many-words",
        "task-sk-1",
        "hf_some_function_name_that_is_long_enough",
        "eyJhbGciOiJIUzI1NiJ9",
        "eyJ.a.b",
        "the bearer of this letter",
        "bearer responsibilities-of-everyone",
        "https://example.com:8443/a@b",
        "http://localhost:3000/@vite/client",
        "https://user@example.com/",
        "https://u:${DB_PASSWORD}@h/",
        "a://b:c",
        "password = ?",
        "password = :password",
        "password = $1",
        "WHERE password IS NULL",
        "password: required",
        "--password --verbose",
        "PWD=/srv/agent",
        "forgot password: click",
        "password=",
        "password=''",
        "SET password = old_password",
        "next_page_token=aB3dE5gH7jK9mN2pQ4sT",
        "tokens=128",
        "token=abcdefghijkl",
        "secret: arn:aws:secretsmanager:eu-1:12:secret:x1",
        "the_key=aB3dE5gH7jK9mN2pQ4sT",
        "1700000000000",
        "4111111111111112",
        "4111111111111111.5",
        "0.4111111111111111",
        "14111111111111111",
        "a4111111111111111",
        "0000000000000000",
        "[redacted:jwt] password=[redacted:password]",
    ];
    for text in cases {
        assert_eq!(clean(text), text);
    }
}

/// An approver must see what will run: nothing that could be a command hides behind a rule.
#[test]
fn commands_do_not_hide() {
    let cases = [
        ("-----BEGIN PRIVATE KEY-----\nDROP TABLE customers", "DROP TABLE customers"),
        ("-----BEGIN PRIVATE KEY----- ; rm -rf /", "rm -rf /"),
        ("password='$(curl evil)'", "curl evil"),
        ("password=\"`curl`\"", "curl"),
        ("password='x y'; rm -rf /", "rm -rf /"),
        ("password=x1234;rm -rf /", "rm -rf /"),
        ("Bearer aaaaaaaaaaaaaaaa1 && rm -rf /", "&& rm -rf /"),
        ("postgres://u:p@h/x; DROP TABLE customers", "DROP TABLE customers"),
    ];
    for (text, still) in cases {
        assert!(clean(text).contains(still), "{}", clean(text));
    }
}

fn redact(text: &str) -> (String, Vec<String>) {
    let node = parse(text.as_bytes(), &Limits::default()).unwrap();
    match redacted(&node, text.as_bytes()) {
        Some(Redacted { json, places }) => (String::from_utf8(json).unwrap(), places),
        None => (String::from_utf8(canonical(&node, text.as_bytes())).unwrap(), Vec::new()),
    }
}

#[test]
fn secrets_in_json_are_found_by_value_and_by_name() {
    let cases: Vec<(String, &str, &str)> = vec![
        (
            r#"{"b":1,"a":{"password":"x"}}"#.to_owned(),
            r#"{"a":{"password":"[redacted:password]"},"b":1}"#,
            "password /a/password",
        ),
        (
            r#"{"passwords":["x","y z"]}"#.to_owned(),
            r#"{"passwords":["[redacted:password]","[redacted:password]"]}"#,
            "password /passwords/*|password /passwords/*",
        ),
        (format!(r#"{{"apiKey":"{}"}}"#, drawn(20)), r#"{"apiKey":"[redacted:secret-value]"}"#, "secret-value /apiKey"),
        (
            format!(r#"{{"token":"ghp_{}"}}"#, drawn(36)),
            r#"{"token":"[redacted:github-token]"}"#,
            "github-token /token",
        ),
        (
            r#"{"headers":{"Authorization":"Basic dXNlcjpwYXNz"}}"#.to_owned(),
            r#"{"headers":{"Authorization":"Basic [redacted:authorization]"}}"#,
            "authorization /headers/Authorization",
        ),
        (
            r#"{"env":[{"name":"DB_PASSWORD","value":"x y"}]}"#.to_owned(),
            r#"{"env":[{"name":"DB_PASSWORD","value":"[redacted:password]"}]}"#,
            "password /env/*/value",
        ),
        (
            r#"{"card":4111111111111111,"n":[1700000000000]}"#.to_owned(),
            r#"{"card":"[redacted:card-number]","n":[1700000000000]}"#,
            "card-number /card",
        ),
        (r#"{"cvv":123}"#.to_owned(), r#"{"cvv":"[redacted:password]"}"#, "password /cvv"),
        (
            r#"{"j@x.example":{"password":"p"}}"#.to_owned(),
            r#"{"j@x.example":{"password":"[redacted:password]"}}"#,
            "password /*/password",
        ),
        (
            r#"{"AKIAIOSFODNN7EXAMPLE":1,"AKIAIOSFODNN7EXAMPLF":2,"[redacted:aws-access-key]":3}"#.to_owned(),
            r#"{"[redacted:aws-access-key]":3,"[redacted:aws-access-key]#2":1,"[redacted:aws-access-key]#3":2}"#,
            "aws-access-key /*|aws-access-key /*",
        ),
        (
            r#"{"sql":"SELECT '4111111111111111', '378282246310005'"}"#.to_owned(),
            r#"{"sql":"SELECT '[redacted:card-number]', '[redacted:card-number]'"}"#,
            "card-number /sql",
        ),
    ];
    for (text, expected, places) in cases {
        let (json, found) = redact(&text);
        assert_eq!((json.as_str(), found.join("|").as_str()), (expected, places));
    }
}

#[test]
fn other_json_is_left_alone() {
    let cases = [
        r#"{"sql":"SELECT 1"}"#,
        r#"{"max_tokens":1024}"#,
        r#"{"password":null,"secret":true}"#,
        r#"{"password":""}"#,
        r#"{"password":"${DB_PASSWORD}","token":"{{ token }}","secret":"/run/secrets/db"}"#,
        r#"{"password":"[redacted:password]"}"#,
        r#"{"secret":{"name":"db-credentials","namespace":"prod"}}"#,
        r#"{"next_page_token":"aB3dE5gH7jK9mN2pQ4sT"}"#,
        r#"{"first_pass":"x","compass":"north"}"#,
        r#"{"password_hash":"x"}"#,
        r#"{"key":"customer","value":"Ada"}"#,
    ];
    for text in cases {
        assert_eq!(redact(text).1, Vec::<String>::new(), "{text}");
    }
}

/// Texts that make a rule begin at every byte and fail late: a search that is not linear would not come to its end here.
#[test]
fn long_hostile_texts_come_to_an_end() {
    let pieces = [
        "token=",
        "password=",
        "token='",
        "password=\"",
        "eyJaaaaaaaa-",
        "eyJaaaaaaaa.",
        "a://b:",
        "://:@",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
        "sk-",
        "1-",
        "4111 ",
        "bearer ",
        "authorization: x ",
        "--password ",
        "password ",
        "AKIA",
        "a=",
    ];
    for piece in pieces {
        let text = piece.repeat(100_000 / piece.len());
        assert!(clean(&text).len() >= text.len() / 100, "{piece}");
    }
    // Keys that all become the same one.
    let members: Vec<String> = (0..5_000).map(|n| format!("\"{}{n:016}\":0", "AKIA")).collect();
    let (json, places) = redact(&format!("{{{}}}", members.join(",")));
    assert_eq!((places.len(), json.matches("[redacted:aws-access-key]").count()), (5_000, 5_000));
}

/// Every rule fits something, so that none is dead.
#[test]
fn every_rule_has_an_id_of_its_own() {
    let ids: std::collections::BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.id()).collect();
    assert_eq!(ids.len(), Rule::ALL.len());
    for rule in Rule::ALL {
        assert_eq!(rule.marker(), format!("[redacted:{}]", rule.id()));
    }
}

#[test]
fn facts_tell_nothing_of_a_secret() {
    use crate::binding::{ArgumentKind, Dialect};
    let binding = Binding {
        target: "crm".parse().unwrap(),
        environment: "production".parse().unwrap(),
        effect: None,
        arguments: [("sql".to_owned(), ArgumentKind::Sql(Dialect::Sqlite))].into(),
        subject: None,
        labels: Default::default(),
        trusted: Vec::new(),
    };
    let recorded = |text: &str| {
        let node = parse(text.as_bytes(), &Limits::default()).unwrap();
        let truth = facts(Some(&binding), &node, text.as_bytes());
        let clean = redacted(&node, text.as_bytes()).unwrap();
        (truth.clone(), recordable(Some(&binding), truth, &clean.json, &Limits::default()))
    };
    // Data only: the facts stand.
    let (truth, kept) = recorded(r#"{"sql":"UPDATE users SET password = 'hunter2' WHERE id = 1"}"#);
    assert_eq!((truth.certainty, &kept), (Certainty::Exact, &truth));
    // A table by the name of a secret, and what could not be understood.
    for text in [
        r#"{"sql":"SELECT * FROM AKIAIOSFODNN7EXAMPLE"}"#,
        r#"{"sql":"SELECT 1","AKIAIOSFODNN7EXAMPLE":1}"#,
        r#"{"sql":"SELEKT AKIAIOSFODNN7EXAMPLE"}"#,
    ] {
        let (_, kept) = recorded(text);
        assert_eq!(kept.certainty, Certainty::Opaque);
        let because = kept.opaque_because.unwrap();
        assert!(!because.to_lowercase().contains("iosfodnn"), "{because}");
    }
}

/// Pieces from which texts are put together that nearly are, or are, secrets.
fn piece() -> impl Strategy<Value = String> {
    let fixed: Vec<&'static str> = vec![
        "password",
        "=",
        ":",
        "'",
        "\"",
        "\\",
        " ",
        "--",
        "token",
        "-----BEGIN ",
        "PRIVATE KEY-----",
        "-----END ",
        "\n",
        "AKIA",
        "IOSFODNN7EXAMPLE",
        "eyJ",
        ".",
        "ghp_",
        "sk-",
        "://",
        "@",
        "/",
        "bearer ",
        "Authorization",
        "4111111111111111",
        "ü",
        "💣",
        "[redacted:jwt]",
        "[redacted:",
        "]",
        "$(",
        "`",
        "aB3dE5gH7jK9mN2pQ4sT6vW8yZ1cF0aB3dE5gH7jK9mN2p",
        "hunter2",
        "identified by ",
    ];
    prop_oneof![4 => proptest::sample::select(fixed).prop_map(str::to_owned), 1 => ".{0,4}"]
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Spans are in order, apart and on character boundaries: putting markers in never panics and never loses the rest.
    #[test]
    fn whatever_the_text_the_rest_of_it_stays(text in text()) {
        let spans = scan::spans(&text);
        let mut end = 0;
        for span in &spans {
            prop_assert!(span.at.start >= end && span.at.end > span.at.start && span.at.end <= text.len());
            prop_assert!(text.is_char_boundary(span.at.start) && text.is_char_boundary(span.at.end));
            end = span.at.end;
        }
        let kept: usize = text.len() - spans.iter().map(|span| span.at.len()).sum::<usize>();
        let markers: usize = spans.iter().map(|span| span.rule.marker().len()).sum();
        prop_assert_eq!(scan::replaced(&text, &spans).len(), kept + markers);
    }

    /// What comes out is canonical JSON, and places are bounded, sorted and ASCII.
    #[test]
    fn what_comes_out_is_canonical_json(keys in proptest::collection::vec((text(), text()), 0..6), number in any::<u64>()) {
        let mut object: std::collections::BTreeMap<String, serde_json::Value> =
            keys.into_iter().map(|(key, value)| (key, value.into())).collect();
        object.insert("nested".to_owned(), serde_json::json!([number, {"password": {"value": number}}]));
        let input = serde_json::to_vec(&object).unwrap();
        let node = parse(&input, &Limits::default()).unwrap();
        if let Some(Redacted { json, places }) = redacted(&node, &input) {
            let again = parse(&json, &Limits::default()).unwrap();
            prop_assert_eq!(canonical(&again, &json), json);
            prop_assert!(places.is_sorted() && !places.is_empty());
            prop_assert!(places.iter().all(|place| place.len() <= PLACE_BYTES_MAX && place.is_ascii()));
        }
    }

    /// Any bytes at all: refused by the parser, or gone through without a panic.
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        clean(&String::from_utf8_lossy(&bytes));
        if let Ok(node) = parse(&bytes, &Limits::default()) {
            let _ = redacted(&node, &bytes);
        }
    }

    /// A secret that is found in one place is found in every text around it that a word may end in.
    #[test]
    fn a_token_is_found_wherever_it_stands(before in "[ \n(,;=\"']{0,3}", after in "[ \n),;\"']{1,3}", noise in text()) {
        let secret = format!("gho_{}", drawn(36));
        let found = clean(&format!("{before}{secret}{after}{noise}"));
        prop_assert!(!found.contains(&secret), "{found}");
    }
}
