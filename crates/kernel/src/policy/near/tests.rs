use super::{alike, near_environments};
use crate::policy::{PolicySource, TargetDef};

fn source(environments: &[&str]) -> PolicySource {
    let target = |(at, environment): (usize, &&str)| TargetDef {
        id: format!("t{at}").parse().unwrap(),
        environment: environment.parse().unwrap(),
    };
    PolicySource { targets: environments.iter().enumerate().map(target).collect(), ..PolicySource::default() }
}

#[test]
fn names_that_look_alike_are_refused() {
    for (a, b) in [
        ("production", "Production"),
        ("production", "pr0duction"),
        ("production", "product1on"),
        ("eu-prod", "eu_prod"),
        ("eu-prod", "euprod"),
        ("staging", "5taging"),
        ("modern", "modem"),
    ] {
        assert_eq!(alike(&source(&[a, b])).len(), 1, "{a} {b}");
    }
    for names in
        [&["production", "staging"] as &[&str], &["production", "production"], &["prod", "production"], &["eu1", "eu2"]]
    {
        assert!(alike(&source(names)).is_empty(), "{names:?}");
    }
}

/// No id has letters of another alphabet, so no environment, agent, target or tool can look alike by them.
#[test]
fn no_id_has_letters_of_another_alphabet() {
    use countersign_model::id::{AgentId, Environment, TargetId, ToolName};
    for text in
        ["pr\u{43e}duction", "\u{455}hop", "cr\u{43c}", "qu\u{435}ry", "query\u{200b}", "\u{202e}yreuq", "ｑuery"]
    {
        assert!(Environment::new(text).is_err() && AgentId::new(text).is_err(), "{text}");
        assert!(TargetId::new(text).is_err() && ToolName::new(text).is_err(), "{text}");
    }
}

#[test]
fn names_that_may_be_meant_as_one_are_told() {
    let check = |names: &[&str], expected: &[(&str, &str)]| {
        let source = source(names);
        let found = near_environments(source.targets.iter().map(|target| &target.environment));
        let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(found, expected);
    };
    check(&["prod", "production", "staging"], &[("prod", "production")]);
    check(&["staging", "stagin", "stageing"], &[("stageing", "staging"), ("stagin", "staging")]);
    check(&["dev", "development", "test"], &[("dev", "development")]);
    check(&["prod-1", "prod-2", "prod", "qa", "q"], &[]);
}
