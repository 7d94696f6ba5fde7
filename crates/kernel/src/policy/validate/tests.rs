//! What the least schema says of a policy is what the whole one says; and what was validated once is not validated again.

use cedar_policy::{Policy, PolicySet, Schema};
use countersign_model::Effect;

use super::super::schema::schema_text;
use super::super::{Bundle, PolicySource, ToolDef};
use super::{Actions, Validated, checked, validate};
use crate::tests::fixture;

/// Twelve tools of three declarations.
fn source() -> PolicySource {
    let tools = (0..12).map(|number| {
        let effect = [None, Some(Effect::Read), Some(Effect::Write)][number % 3];
        let name = format!("tool{number}");
        ToolDef { effect, ..ToolDef::named("crm".parse().unwrap(), name.parse().unwrap()) }
    });
    PolicySource { tools: tools.collect(), ..fixture::source() }
}

fn policies(text: &str) -> Vec<Policy> {
    let set: PolicySet = text.parse().unwrap();
    let mut all: Vec<Policy> = set.policies().cloned().collect();
    all.sort_by_key(|policy| policy.id().to_string());
    all
}

fn schema() -> Schema {
    Schema::from_cedarschema_str(&schema_text(&source())).unwrap().0
}

const FINE: &str = r#"
permit (principal, action, resource) when { context.effect == "read" };
forbid (principal, action == Action::"crm/tool3", resource) when { context.statements > 2 };
permit (principal, action in [Action::"crm/tool1", Action::"crm/tool4"], resource);
permit (principal, action in Action::"declared/write", resource) when { context has amount_micros && context.amount_micros > 5 };
forbid (principal, action == Action::"unbound", resource);
permit (principal, action, resource) when { action == Action::"crm/tool7" || context.opaque };
"#;

const BROKEN: [&str; 10] = [
    "permit (principal, action, resource) when { context.efect == \"read\" };",
    "forbid (principal, action == Action::\"crm/tool3\", resource) when { context.statements == \"2\" };",
    "permit (principal, action == Action::\"crm/tool99\", resource);",
    "permit (principal, action in [Action::\"crm/tool1\", Action::\"crm/tool99\"], resource);",
    "permit (principal, action in Action::\"declared/spawn\", resource);",
    "permit (principal, action == Action::\"crm/tool3\", resource) when { action == Action::\"crm/tool4\" };",
    "permit (principal, action, resource) when { context.amount_micros > 5 };",
    "permit (principal, action, resource) when { action == Action::\"crm/tool5\" && context.nothing };",
    "forbid (principal, action, resource) unless { true };",
    "permit (principal is Target, action, resource);",
];

#[test]
fn the_least_schema_finds_what_the_whole_one_finds() {
    let source = source();
    for text in BROKEN.iter().chain([&FINE]) {
        let all = policies(text);
        let all: Vec<&Policy> = all.iter().collect();
        let (_, found) = validate(&source, (&all, &schema()), &Validated::default()).unwrap();
        assert_eq!(found, checked(&all, &schema()).unwrap(), "{text}");
        assert_eq!(found.is_empty(), *text == FINE, "{text}: {found:?}");
    }
}

#[test]
fn a_policy_is_checked_against_no_more_actions_than_it_needs() {
    let source = source();
    let actions = Actions::of(&source);
    let needed = |text: &str| actions.needed(&policies(text)[0]).into_iter().collect::<Vec<_>>();
    // One of each declaration: none, read and write.
    assert_eq!(needed("permit (principal, action, resource);"), ["crm/tool0", "crm/tool1", "crm/tool11"]);
    assert_eq!(needed("permit (principal, action == Action::\"crm/tool5\", resource);"), ["crm/tool5"]);
    assert_eq!(
        needed("permit (principal, action in [Action::\"crm/tool5\", Action::\"crm/tool6\"], resource);"),
        ["crm/tool5", "crm/tool6"]
    );
    let mixed = "permit (principal, action in [Action::\"crm/tool5\", Action::\"call\"], resource);";
    assert_eq!(needed(mixed), ["crm/tool0", "crm/tool1", "crm/tool11", "crm/tool5"]);
}

fn with(text: &str) -> PolicySource {
    PolicySource { policies: vec![("main.cedar".to_owned(), text.to_owned())], ..source() }
}

const ONE: &str = "@id(\"one\") permit (principal, action == Action::\"crm/tool1\", resource);\n";
const TWO: &str = "@id(\"two\") permit (principal, action, resource) when { context.opaque };\n";

#[test]
fn what_was_validated_is_vouched_for_until_it_or_its_schema_changes() {
    let (_, known) = Bundle::load_knowing(&with(&format!("{ONE}{TWO}")), &Validated::default()).unwrap();
    assert_eq!(known.len(), 2);
    let again = |source: &PolicySource| Bundle::load_knowing(source, &known).unwrap().1;
    assert_eq!(again(&with(&format!("{ONE}{TWO}"))), known);
    let new = |source: &PolicySource| again(source).digests().filter(|digest| !known.0.contains(*digest)).count();
    // Another policy, another text, another declaration of a tool that it is about: validated anew, and nothing else.
    assert_eq!(new(&with(&format!("{ONE}{TWO}{}", ONE.replace("one", "three")))), 1);
    assert_eq!(new(&with(&format!("{ONE}{}", TWO.replace("opaque", "new_pair")))), 1);
    let mut changed = with(&format!("{ONE}{TWO}"));
    changed.tools[1].effect = Some(Effect::Spend);
    assert_eq!(new(&changed), 2, "`two` is about every declaration there is");
    let mut more = with(&format!("{ONE}{TWO}"));
    more.tools.push(ToolDef::named("crm".parse().unwrap(), "tool_later".parse().unwrap()));
    assert_eq!(new(&more), 0, "a tool like another changes nothing for them");
}

#[test]
fn a_list_that_lies_lets_in_what_validation_refuses_and_it_denies() {
    let lying = "@id(\"all\") permit (principal, action, resource);\n\
                 @id(\"typo\") forbid (principal, action, resource) when { context.efect == \"read\" };";
    let refused = Bundle::load(&with(lying)).unwrap_err();
    assert!(refused.to_string().contains("efect"), "{refused}");
    // The digests of what would be refused, as somebody who can write the list would make them.
    let source = with(lying);
    let actions = Actions::of(&source);
    let ids = ["all", "typo"];
    let forged: Validated = policies(lying)
        .iter()
        .zip(ids)
        .map(|(policy, id)| {
            let text = actions.schema(&actions.needed(policy));
            let schema = countersign_model::Digest::of("countersign policy schema v1", &[text.as_bytes()]);
            super::digest(&schema, &policy.new_id(cedar_policy::PolicyId::new(id)))
        })
        .collect();
    let (bundle, _) = Bundle::load_knowing(&source, &forged).unwrap();
    let asked = crate::policy::tests::request(Effect::Read);
    let found = bundle.evaluate(&asked);
    assert_eq!(found.errors.total, 1, "an error denies: {found:?}");
}
