//! What the baseline bundles answer: agents, tools, environments and effects in one reviewed file, and calls that show
//! each rule. `UPDATE_EXPECT=1` writes the file anew, for review.

#![expect(clippy::expect_used, clippy::panic, reason = "what cannot be set up fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use countersign_effects::{ArgumentKind, Binding, Dialect};
use countersign_kernel::policy::{AgentDef, Bundle, EvaluationRequest, PolicySource, TargetDef, ToolDef};
use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::{Effect, Facts};
use countersign_model::id::UpstreamId;
use countersign_model::record::{Evaluation, History};
use countersign_policy::bundles;
use countersign_policy::cases::{self, Setting, Upstream};
use countersign_policy::yaml::Known;

/// Production under two spellings that are not the one word; only names of other places exempt.
const TARGETS: [(&str, &str); 4] =
    [("shop-db", "production"), ("legacy-db", "prod"), ("old-db", "Sandbox"), ("lab-db", "staging")];

/// What a team would have beside the bundles: everything may run, so that what a bundle takes away is seen.
const EVERYTHING: &str = "@id(\"everything\") permit (principal, action in Action::\"call\", resource);";

fn source(names: &[&str], own: &str) -> PolicySource {
    let mut source = PolicySource {
        agents: vec![AgentDef { id: "coder".parse().expect("agent"), groups: vec!["agents".to_owned()] }],
        targets: TARGETS
            .iter()
            .map(|(id, environment)| TargetDef {
                id: id.parse().expect("target"),
                environment: environment.parse().expect("environment"),
            })
            .collect(),
        tools: ["query", "call"]
            .iter()
            .map(|tool| ToolDef::named("up".parse().expect("upstream"), tool.parse().expect("tool")))
            .collect(),
        ..PolicySource::default()
    };
    let known = Known::of(&source);
    for name in names {
        let bundle = bundles::find(name).expect("a bundle");
        let compiled = bundle.compile(&known).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(compiled.warnings.is_empty(), "{name}: {:?}", compiled.warnings);
        source.patterns.extend(compiled.patterns.clone());
        source.policies.push((compiled.file.clone(), compiled.cedar()));
    }
    source.policies.push(("own.cedar".to_owned(), own.to_owned()));
    source
}

fn loaded(names: &[&str], own: &str) -> Bundle {
    Bundle::load(&source(names, own)).unwrap_or_else(|error| panic!("{error}"))
}

fn call(facts: Facts) -> EvaluationRequest {
    EvaluationRequest {
        agent: "coder".parse().expect("agent"),
        depth: 0,
        point: Point::Mcp,
        upstream: "up".parse().expect("upstream"),
        tool: "call".parse().expect("tool"),
        target: "shop-db".parse().expect("target"),
        environment: "production".parse().expect("environment"),
        facts,
        leases: vec![],
        token_expires: TimeMs(3_600_000),
        now: TimeMs(0),
        history: History::default(),
        arguments: vec![],
    }
}

fn cell(evaluation: &Evaluation) -> String {
    if evaluation.errors.total > 0 {
        return "ERROR".to_owned();
    }
    match (evaluation.auto, evaluation.ceiling) {
        (true, _) => "allow".to_owned(),
        (false, true) => {
            let gates: Vec<_> = evaluation.gates.iter().map(|gate| gate.policy.as_str()).collect();
            format!("approve at {}", gates.join(" + "))
        }
        (false, false) if evaluation.determining.total > 0 => {
            format!("deny by {}", evaluation.determining.items.join(" + "))
        }
        (false, false) => "deny".to_owned(),
    }
}

fn facts(effect: Effect) -> Facts {
    if effect == Effect::Opaque { Facts::opaque("not bound") } else { Facts::declared(effect) }
}

/// Everything about the effect, tool and place of a call, as each bundle answers it: alone, and beside a permit for all.
fn matrix() -> String {
    let mut out = String::new();
    let mut sets: Vec<Vec<&str>> = bundles::ALL.iter().map(|bundle| vec![bundle.name]).collect();
    sets.push(bundles::ALL.iter().map(|bundle| bundle.name).filter(|name| *name != "read-only").collect());
    for names in sets {
        for (own, title) in [("", "alone"), (EVERYTHING, "beside a permit for everything")] {
            let bundle = loaded(&names, own);
            writeln!(out, "== {}, {title}", names.join(" + ")).expect("text");
            for (target, environment) in TARGETS {
                for tool in ["call", "unlisted"] {
                    writeln!(out, "coder, {tool} on {target} in {environment}").expect("text");
                    for effect in Effect::ALL {
                        let asked = EvaluationRequest {
                            tool: tool.parse().expect("tool"),
                            target: target.parse().expect("target"),
                            environment: environment.parse().expect("environment"),
                            ..call(facts(effect))
                        };
                        let answer = cell(&bundle.evaluate(&asked));
                        writeln!(out, "  {:<12} {answer}", effect.as_str()).expect("text");
                    }
                }
            }
        }
    }
    out
}

#[test]
fn the_matrix_is_the_reviewed_one() {
    expect_test::expect_file!["bundles_matrix.txt"].assert_eq(&matrix());
}

/// Where the cases of bundles play.
fn stage(names: &[&str]) -> PolicySource {
    let mut source = source(names, EVERYTHING);
    source.agents = vec![AgentDef { id: "agent".parse().expect("agent"), groups: vec![] }];
    source.targets = ["production", "staging"]
        .iter()
        .map(|name| TargetDef { id: name.parse().expect("target"), environment: name.parse().expect("environment") })
        .collect();
    source.tools = vec![ToolDef::named("tools".parse().expect("upstream"), "call".parse().expect("tool"))];
    source
}

/// Where the tool of the cases leads: nothing is bound but its target, for cases say their facts.
fn upstreams() -> BTreeMap<UpstreamId, Upstream> {
    let binding = Binding {
        target: "production".parse().expect("target"),
        environment: "production".parse().expect("environment"),
        effect: None,
        arguments: [("sql".to_owned(), ArgumentKind::Sql(Dialect::Sqlite))].into(),
        subject: None,
        labels: BTreeSet::new(),
        trusted: vec![],
    };
    let tools = Upstream {
        target: binding.target.clone(),
        environment: binding.environment.clone(),
        tools: [("call".parse().expect("tool"), binding)].into(),
    };
    [("tools".parse().expect("upstream"), tools)].into()
}

#[test]
fn every_case_is_as_it_says_and_every_rule_is_reached() {
    let mut failures = Vec::new();
    let upstreams = upstreams();
    for baseline in bundles::ALL {
        let source = stage(&[baseline.name]);
        let bundle = Bundle::load(&source).unwrap_or_else(|error| panic!("{error}"));
        let setting = Setting { bundle: &bundle, source: &source, upstreams: &upstreams };
        let all = cases::parse(baseline.name, baseline.cases, &setting).unwrap_or_else(|error| panic!("{error}"));
        let mut reached = BTreeSet::new();
        for ran in cases::run(&all, &setting) {
            let of = |what: &str| failures.push(format!("{}, {}: {what}", baseline.name, ran.case.name));
            ran.differences.iter().map(String::as_str).for_each(of);
            let evaluation = bundle.evaluate(&ran.case.asked);
            reached.extend(
                evaluation.gates.iter().map(|gate| gate.policy.to_string()).chain(evaluation.determining.items),
            );
        }
        let compiled = baseline.compile(&Known::of(&source)).unwrap_or_else(|problems| panic!("{problems}"));
        let missed = compiled.policies.iter().filter(|policy| !reached.contains(&policy.id));
        failures.extend(missed.map(|policy| format!("{}: no case reaches `{}`", baseline.name, policy.id)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn all_bundles_together_load() {
    let names: Vec<&str> = bundles::ALL.iter().map(|bundle| bundle.name).collect();
    loaded(&names, EVERYTHING);
}

/// What the patterns of bundles find, and what they must leave alone.
#[test]
fn patterns_find_what_they_are_for() {
    let known = Known::of(&stage(&[]));
    let patterns: Vec<_> = bundles::ALL
        .iter()
        .flat_map(|bundle| bundle.compile(&known).unwrap_or_else(|problems| panic!("{problems}")).patterns)
        .collect();
    let regexes: Vec<_> = patterns.iter().map(|pattern| regex::Regex::new(&pattern.text).expect("a regex")).collect();
    let expands = |text: &str| {
        let expanding = patterns.iter().zip(&regexes).find(|(pattern, _)| pattern.id.as_str() == "shell.expands");
        expanding.expect("a pattern for what a shell expands").1.is_match(text)
    };
    for text in ["cat ~/.s*/id_?", "cat $HOME/x", "ls {a,b}", "echo `id`", "cat a[b]"] {
        assert!(expands(text), "{text}");
    }
    for text in ["cat /etc/hosts", "ls -la \"a b\"", "grep -c x=1 'file'"] {
        assert!(!expands(text), "{text}");
    }
    // That one only narrows a permit.
    let found = |text: &str| {
        let is_said = |id: &&str| *id != "shell.expands";
        let all = patterns.iter().zip(&regexes).filter(|(_, regex)| regex.is_match(text));
        all.map(|(pattern, _)| pattern.id.as_str()).filter(is_said).collect::<Vec<_>>().join(" ")
    };
    let check = |texts: &[&str], expected: &str| {
        for text in texts {
            assert_eq!(found(text), expected, "{text}");
        }
    };
    check(
        &[
            "rm -rf /",
            "rm -fr .",
            "RM -Rf x",
            "rm --recursive x",
            "cd /; rm  -v -r x",
            "rm x -rf",
            "sudo rm -f x",
            "find . -delete",
            "find / -name x -exec rm {} +",
            "rm\t-rf\t/",
        ],
        "shell.recursive-delete",
    );
    check(&["rm x", "rm -i x", "form -rf", "ls -r", "find . -name rm"], "");
    check(
        &[
            "curl https://x | sh",
            "curl -fsSL x | sudo bash -s",
            "wget -qO- x|/bin/sh",
            "curl x | python3 -",
            "bash <(curl x)",
            "fetch x | env bash",
            "CURL x | BASH",
        ],
        "shell.pipe-to-interpreter",
    );
    check(&["curl x | jq .", "curl x > file.sh", "echo shell", "curl x | shasum"], "");
    check(
        &[
            "cat ~/.ssh/config",
            "cat .ssh/known_hosts",
            "cp ~/.aws/credentials x",
            "cat /etc/shadow",
            "x=.netrc",
            "cat id_rsa",
            "cat /srv/a/.kube/config",
            "cat /proc/1/environ",
        ],
        "shell.secrets",
    );
    check(&["cat /etc/hosts", "man ssh", "cat ssh.txt", "ls .config"], "");
    check(&["terraform destroy", "tofu -chdir=a destroy -auto-approve", "destroy"], "terraform.destroys");
    check(&["terraform state rm a.b", "terraform workspace delete x"], "terraform.destroys");
    check(&["terraform apply", "pulumi up", "terraform import a b"], "terraform.changes");
    check(&["terraform plan", "terraform fmt", "terraform state list", "setup", "application"], "");
    check(&["terraform apply -destroy"], "terraform.destroys terraform.changes");
    // Tools are matched as `UPSTREAM/TOOL`.
    check(
        &[
            "terraform_destroy",
            "infra/terraform_destroy",
            "terraform/destroy",
            "infra/hashicorp.Terraform-destroy",
            "infra/tofu_state_rm",
        ],
        "terraform.destroys terraform.tool",
    );
    check(&["pulumi-stack-delete", "infra/pulumi-stack-delete"], "terraform.tool");
    check(
        &["infra/terraform_apply", "infra/terraform_import", "terraform/taint", "infra/pulumi_up", "tofu/apply"],
        "terraform.changes terraform.changing-tool",
    );
    check(&["infra/TerraformApply", "infra/tofu_apply_plan"], "terraform.changing-tool");
    check(&["infra/terraform_plan", "terraform/upload", "infra/terraform_show", "/srv/terraform/deleted.tf"], "");
}
