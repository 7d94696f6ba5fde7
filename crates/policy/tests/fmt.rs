//! Laying out: what comes out, that it means the same, and that nothing is lost.

#![expect(clippy::panic, reason = "what cannot be set up fails the test")]

use countersign_policy::bundles;
use countersign_policy::yaml::fmt;
use expect_test::{Expect, expect};

fn check(text: &str, expected: &Expect) {
    let once = fmt::yaml("p.yaml", text).unwrap_or_else(|problems| panic!("{problems}"));
    expected.assert_eq(&once);
    let twice = fmt::yaml("p.yaml", &once).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(once, twice, "laying out again changes it");
}

#[test]
fn keys_in_order_and_comments_where_they_belong() {
    check(
        "# yaml-language-server: $schema=x

# Why this file is here.
rules:
# about the first
- then: deny   # never
  when: {kinds:   ['drop_table'],
     has_where: false}
  id: \"first\"
- {id: second, then: allow, effects: [read]} # beside the second
- id: third
  then: gate
  effects:
    # an item
    - write
    - \"no\"
  gate: {notify: ops, name: 'it''s: big'}
version: 1
# the end
",
        &expect![[r##"
            # yaml-language-server: $schema=x

            version: 1

            # Why this file is here.
            rules:
              # about the first
              - id: first  # never
                when: { kinds: [drop_table], has_where: false }
                then: deny
              - { id: second, effects: [read], then: allow }  # beside the second

              - id: third
                effects:
                  # an item
                  - write
                  - "no"
                then: gate
                gate: { name: "it's: big", notify: ops }
            # the end
        "##]],
    );
}

#[test]
fn long_text_is_folded_and_comes_back_whole() {
    check(
        "version: 1\nrules: [{ id: a, then: deny, description: 'a b aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb cccccccccccccccccccccccccc: ddddddddddddddddddddddddddddddddd' }]\n",
        &expect![[r#"
            version: 1

            rules:
              - id: a
                description: >-
                  a b aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb cccccccccccccccccccccccccc:
                  ddddddddddddddddddddddddddddddddd
                then: deny
        "#]],
    );
}

#[test]
fn bundles_are_laid_out() {
    for bundle in bundles::ALL {
        for text in [bundle.policy, bundle.cases] {
            let laid_out = fmt::yaml(bundle.name, text).unwrap_or_else(|problems| panic!("{problems}"));
            assert_eq!(laid_out, text, "{}", bundle.name);
        }
    }
}

#[test]
fn what_is_no_yaml_is_refused_and_what_would_be_lost_too() {
    for text in ["a: [", "a: &x 1\nb: *x", "a: 1\n---\nb: 2", "a: 1\na: 2", ""] {
        assert!(fmt::yaml("p.yaml", text).is_err(), "{text}");
    }
}

#[test]
fn cedar_keeps_its_comments() {
    let text = "// why\n@id(\"a\") permit(principal,action,resource)when{context.opaque // so\n};";
    let laid_out = fmt::cedar(text).unwrap_or_else(|error| panic!("{error}"));
    assert!(laid_out.contains("// why") && laid_out.contains("// so"), "{laid_out}");
    assert!(fmt::cedar("permit(").is_err());
}
