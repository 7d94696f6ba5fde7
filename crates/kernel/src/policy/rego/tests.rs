//! Rego forbids and never allows, and whatever goes wrong in it denies.

use countersign_model::Effect;
use countersign_model::record::Evaluation;

use super::super::tests::request;
use super::super::{Bundle, PolicySource};
use crate::tests::fixture;

const ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

fn source(rego: &str) -> PolicySource {
    let files = [("main.cedar", ALL), ("team.rego", rego)];
    PolicySource {
        policies: files.map(|(file, text)| (file.to_owned(), text.to_owned())).to_vec(),
        ..fixture::source()
    }
}

fn asked(rego: &str, effect: Effect) -> Evaluation {
    let bundle = Bundle::load(&source(rego)).expect("the policies load");
    let evaluation = bundle.evaluate(&request(effect));
    assert_eq!(evaluation, bundle.evaluate_unsliced(&request(effect)));
    evaluation
}

const READS: &str = "package countersign\n\
    deny contains \"no reads of this group\" if { input.context.effect == \"read\"; \"support\" in input.principal.groups }\n\
    deny contains \"not here\" if { input.resource.environment == \"staging\" }\n";

#[test]
fn what_rego_denies_is_denied_with_its_sentence() {
    let denied = asked(READS, Effect::Read);
    assert!(!denied.auto && !denied.ceiling && denied.errors.total == 0);
    assert_eq!(denied.determining.items, ["rego:no reads of this group"]);
    let free = asked(READS, Effect::Write);
    assert!(free.auto && free.ceiling);
    assert_eq!(free.determining.items, ["all"]);
}

#[test]
fn rego_allows_nothing() {
    let mut alone = source("package countersign\ndeny contains \"x\" if { false }\nallow := true\n");
    alone.policies.remove(0);
    let found = Bundle::load(&alone).expect("the policies load").evaluate(&request(Effect::Read));
    assert!(!found.auto && !found.ceiling && found.errors.total == 0, "{found:?}");
}

#[test]
fn what_is_no_set_of_texts_is_an_error_which_denies() {
    for rego in [
        "package countersign\ndeny := true\n",
        "package countersign\ndeny := \"why\" if { input.context.effect == \"write\" }\n",
        "package countersign\ndeny contains 7 if { true }\n",
        "package countersign\ndeny contains x if { x := 1 / (input.context.depth) }\n",
        "package countersign\ndeny contains \"a\" if { to_number(\"x\") > 1 }\n",
        // There is no network and no clock to ask.
        "package countersign\ndeny contains \"x\" if { http.send({}) }\n",
        "package countersign\ndeny contains \"x\" if { time.now_ns() > 1 }\n",
    ] {
        let found = asked(rego, Effect::Read);
        assert_eq!(found.errors.total, 1, "{rego}: {found:?}");
    }
}

#[test]
fn what_cannot_be_read_or_is_random_does_not_load() {
    for (rego, why) in [
        ("package countersign\ndeny contains", "cannot be read as Rego"),
        ("package other\ndeny contains \"x\" if { true }", "no Rego file has a rule `data.countersign.deny`"),
        ("package countersign\ndeny contains \"x\" if { rand.intn(\"a\", 2) == 1 }", "names `rand`"),
    ] {
        let Err(error) = Bundle::load(&source(rego)) else { panic!("it loads: {rego}") };
        assert!(error.to_string().contains(why), "{rego}: {error}");
    }
}

#[test]
fn the_hash_covers_rego() {
    let hash = |rego: &str| Bundle::load(&source(rego)).expect("the policies load").hash();
    assert_ne!(hash(READS), hash(&format!("{READS}\n")));
}
