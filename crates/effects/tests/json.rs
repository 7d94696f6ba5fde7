//! JSON against `serde_json`: the corpus and what a generator comes up with.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests may panic")]

mod corpus;

use std::path::Path;

use countersign_effects::json::{Limits, Node, Value, canonical, parse};
use proptest::prelude::{Just, Strategy, any, prop};
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

/// Whether our reading of `input` is the same value as theirs. Numbers compare as they parse theirs.
fn same(ours: &Node, input: &[u8], theirs: &serde_json::Value) -> bool {
    match (&ours.value, theirs) {
        (Value::Null, serde_json::Value::Null) => true,
        (Value::Bool(a), serde_json::Value::Bool(b)) => a == b,
        (Value::Number, serde_json::Value::Number(b)) => {
            serde_json::from_slice::<serde_json::Number>(ours.raw(input)).is_ok_and(|a| a == *b)
        }
        (Value::String(a), serde_json::Value::String(b)) => a == b,
        (Value::Array(a), serde_json::Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, input, b))
        }
        (Value::Object(a), serde_json::Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, input, b)))
        }
        _ => false,
    }
}

/// What we accept `serde_json` accepts, as the same value; so what it refuses we refuse. The one exception
/// is a number beyond its floats, which we keep as text.
fn agrees(input: &[u8]) -> Result<(), String> {
    let Ok(ours) = parse(input, &Limits::default()) else {
        return Ok(());
    };
    match serde_json::from_slice::<serde_json::Value>(input) {
        Ok(theirs) if same(&ours, input, &theirs) => Ok(()),
        Ok(theirs) => Err(format!("read differently: {ours:?} and {theirs}")),
        Err(error) if error.to_string().contains("number out of range") => Ok(()),
        Err(error) => Err(format!("accepted what serde_json refuses: {error}")),
    }
}

fn files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let read = |path: &Path| {
        let mut bytes = Vec::new();
        let mut file = std::fs::OpenOptions::new().read(true).open(path).unwrap();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        (path.display().to_string(), bytes)
    };
    let files: Vec<_> = corpus::folder(folder).iter().map(|path| read(path)).collect();
    assert!(files.len() >= 10, "the corpus is not found");
    files
}

#[test]
fn the_corpus_is_accepted_and_refused_as_filed() {
    for (name, bytes) in files("json/accept") {
        parse(&bytes, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        agrees(&bytes).unwrap_or_else(|law| panic!("{name}: {law}"));
    }
    for (name, bytes) in files("json/refuse") {
        assert!(parse(&bytes, &Limits::default()).is_err(), "{name} is accepted");
    }
}

/// A value with all that matters to its identity: numbers by spelling, members in any order.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Word(&'static str),
    Number(String),
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// The value as its identity sees it.
    fn sorted(&self) -> Self {
        match self {
            Self::Array(items) => Self::Array(items.iter().map(Self::sorted).collect()),
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().map(|(key, tree)| (key.clone(), tree.sorted())).collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                Self::Object(members)
            }
            other => other.clone(),
        }
    }

    /// One of many spellings: white space, escapes and order follow from `seed`.
    fn spelled(&self, seed: &mut u64, out: &mut String) {
        let space = |seed: &mut u64, out: &mut String| out.push_str(["", " ", "\n\t", "\r"][draw(seed, 4)]);
        space(seed, out);
        match self {
            Self::Word(word) => out.push_str(word),
            Self::Number(number) => out.push_str(number),
            Self::Text(text) => quote(text, seed, out),
            Self::Array(items) => {
                out.push('[');
                for (place, item) in items.iter().enumerate() {
                    out.push_str(if place > 0 { "," } else { "" });
                    item.spelled(seed, out);
                }
                space(seed, out);
                out.push(']');
            }
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                if !members.is_empty() {
                    let turn = draw(seed, members.len());
                    members.rotate_left(turn);
                }
                out.push('{');
                for (place, (key, member)) in members.into_iter().enumerate() {
                    out.push_str(if place > 0 { "," } else { "" });
                    space(seed, out);
                    quote(key, seed, out);
                    space(seed, out);
                    out.push(':');
                    member.spelled(seed, out);
                }
                space(seed, out);
                out.push('}');
            }
        }
        space(seed, out);
    }
}

fn draw(seed: &mut u64, below: usize) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 40).unwrap() % below
}

fn quote(text: &str, seed: &mut u64, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if c < ' ' || c == '"' || c == '\\' || draw(seed, 4) == 0 {
            for unit in c.encode_utf16(&mut [0; 2]) {
                *out += &format!("\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out.push('"');
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c\"\\\\/\u{1}\u{7f}\u{e9}\u{1f600} ]{0,4}",
        any::<String>().prop_map(|text| text.chars().take(6).collect()),
    ]
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        prop_oneof![Just("null"), Just("true"), Just("false")].prop_map(Tree::Word),
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,2})?([eE][+-]?[0-9]{1,2})?".prop_map(Tree::Number),
        texts().prop_map(Tree::Text),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::Array),
            prop::collection::btree_map(texts(), inner, 0..12)
                .prop_map(|members| Tree::Object(members.into_iter().collect())),
        ]
    })
}

fn spelling(tree: &Tree, mut seed: u64) -> Vec<u8> {
    let mut out = String::new();
    tree.spelled(&mut seed, &mut out);
    out.into_bytes()
}

fn canon(bytes: &[u8]) -> Vec<u8> {
    let node =
        parse(bytes, &Limits::default()).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)));
    canonical(&node, bytes)
}

proptest! {
    /// Spelling does not matter: order, white space and escapes give one canonical form, which is its own.
    #[test]
    fn canonical_sees_through_spelling(tree in trees(), one in any::<u64>(), two in any::<u64>()) {
        let (a, b) = (spelling(&tree, one), spelling(&tree, two));
        prop_assert_eq!(canon(&a), canon(&b));
        prop_assert_eq!(canon(&canon(&a)), canon(&a));
        prop_assert!(agrees(&a).is_ok(), "{:?}", agrees(&a));
    }

    /// Different values have different canonical forms, and equal ones equal forms.
    #[test]
    fn canonical_tells_values_apart(a in trees(), b in trees(), seed in any::<u64>()) {
        prop_assert_eq!(canon(&spelling(&a, seed)) == canon(&spelling(&b, seed)), a.sorted() == b.sorted());
    }

    /// The same where one value differs from the other in one place only.
    #[test]
    fn canonical_sees_one_changed_leaf(tree in trees(), text in texts(), seed in any::<u64>()) {
        let wrap = |leaf: Tree| Tree::Object(vec![("t".to_owned(), tree.clone()), ("x".to_owned(), leaf)]);
        let (a, b) = (wrap(Tree::Text(text.clone())), wrap(Tree::Array(vec![Tree::Text(text)])));
        prop_assert!(canon(&spelling(&a, seed)) != canon(&spelling(&b, seed)));
    }

    /// Damaged texts: whatever is still accepted, `serde_json` reads alike.
    #[test]
    fn damaged_texts_are_refused_or_read_alike(tree in trees(), seed in any::<u64>(), place in any::<usize>(), byte in any::<u8>(), how in 0..3) {
        let mut text = spelling(&tree, seed);
        let at = place % (text.len() + 1);
        match how {
            0 => text.insert(at, byte),
            1 => text.truncate(at),
            _ => if let Some(old) = text.get_mut(at) { *old = byte },
        }
        let agreed = agrees(&text);
        prop_assert!(agreed.is_ok(), "{:?}: {}", agreed, String::from_utf8_lossy(&text));
    }

    /// Splicing: the bytes at a member's span are that member.
    #[test]
    fn a_span_is_its_value(tree in trees(), seed in any::<u64>()) {
        let text = spelling(&Tree::Object(vec![("x".to_owned(), tree)]), seed);
        let node = parse(&text, &Limits::default()).unwrap();
        let inner = node.get("x").unwrap();
        prop_assert_eq!(canon(inner.raw(&text)), canonical(inner, &text));
    }
}
