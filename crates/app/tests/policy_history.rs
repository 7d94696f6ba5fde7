//! `policy backtest` and `policy explain` through the real program, on a history that the real gateway recorded.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod support;

use serde_json::{Value, json};
use support::agent::{Agent, End};
use support::{AGENT, Installation, POLICY, Ran, Setup};

/// Without the gate: what waited would run.
const UNGATED: &str = "@id(\"everything-is-possible\")\npermit (principal, action in Action::\"call\", resource);\n";

/// As the policy of every installation, in YAML.
const YAML: &str = "version: 1
rules:

  - id: everything-is-possible
    effects: [read, write, outbound]
    then: allow

  - id: changes-need-consent
    tools: [lab/change]
    then: gate
    gate: { name: changes, quorum: 1, timeout: 30m }
";

/// Fails unless the command ended with `code` and one object whose `error` holds all of `words`.
fn check(at: &Installation, args: &[&str], code: i32, words: &[&str]) {
    let ran = at.run(args);
    assert_eq!(ran.code, code, "{ran:?}");
    let error = ran.error();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

/// Runs `policy ...`, which must end with `code`, and gives its one object.
fn policy(at: &Installation, args: &[&str], code: i32) -> Value {
    let ran: Ran = at.run(&[&["policy"], args].concat());
    assert_eq!(ran.code, code, "{ran:?}");
    ran.json()
}

/// Two reads, an effect, a change that a human approved, and a call after a kill.
async fn lived() -> (Installation, String) {
    let at = Installation::new(&Setup::lab());
    let config = at.read("countersign.yaml");
    at.write("countersign.yaml", &format!("{config}retention: [{{ environments: [production], erasable: true }}]\n"));
    at.owner(&["policy", "activate"]);
    let gateway = at.up().await;
    let agent = Agent::connect(&gateway.url, &at.issue(AGENT, Some("7"))).await;
    for (tool, id) in [("look", "one"), ("look", "two"), ("put", "three")] {
        assert_eq!(agent.call(tool, id).await.end, End::Ran("done".to_owned()));
    }
    let ticket = agent.call("change", "four").await.ticket();
    at.approve(&ticket);
    assert_eq!(agent.call("change", "four").await.end, End::Ran("done".to_owned()));
    at.run(&["kill", "--run", "7"]);
    assert_eq!(agent.call("look", "five").await.denied(), "killed");
    gateway.stop().await;
    (at, ticket)
}

fn leaf(at: &Installation, kind: &str, tool: &str) -> String {
    let records = at.records();
    let found = records.iter().find(|entry| {
        entry.record.body.kind() == kind && entry.record.body.attempt().is_some_and(|a| a.tool.as_str() == tool)
    });
    found.unwrap().index.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_tried_on_the_record_and_its_changes_are_grouped() {
    let (at, _) = lived().await;
    let same = policy(&at, &["backtest", "--fail-on-change", "--fail-on-wider"], 0);
    assert_eq!((&same["judged"], &same["changed"], &same["same"]), (&json!(6), &json!(0), &json!(5)), "{same}");
    assert_eq!((&same["decided_before_policy"], &same["payloads"]), (&json!({"killed": 1}), &json!("checked")));

    at.write("ungated.cedar", UNGATED);
    let new = at.path("ungated.cedar").display().to_string();
    let wider = policy(&at, &["backtest", &new], 0);
    assert_eq!(
        (&wider["changed"], &wider["widening"], &wider["stopped"]),
        (&json!(2), &json!(2), &json!(0)),
        "{wider}"
    );
    let groups = wider["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 2, "{wider}");
    let approved = groups.iter().find(|group| group["was_approved"] == true).unwrap();
    assert_eq!(
        (&approved["then"], &approved["would"], &approved["tool"]),
        (&json!("allow"), &json!("allow"), &json!("lab/change"))
    );
    assert_eq!(approved["example"]["approved_by"], json!(["owner"]));
    assert_eq!(approved["example"]["words"], "would run (without approval; approved then by owner)");
    policy(&at, &["backtest", &new, "--fail-on-wider"], 1);
    policy(&at, &["backtest", &new, "--fail-on-change"], 1);
    assert_eq!(policy(&at, &["backtest", &new, "--until", "1d"], 0)["judged"], 0);

    // What agents did before is on record, so a rule that counts can be tried.
    at.write(
        "counts.cedar",
        &format!("{POLICY}@id(\"c\") forbid (principal, action, resource) when {{ context.calls.minute > 99 }};\n"),
    );
    let counts = at.path("counts.cedar").display().to_string();
    assert_eq!(policy(&at, &["backtest", &counts, "--fail-on-change"], 0)["same"], 5);

    // Narrower only: nothing is wider, and one call would have been stopped.
    let narrow = format!("{POLICY}@id(\"no-put\") forbid (principal, action == Action::\"lab/put\", resource);\n");
    at.write("narrow.cedar", &narrow);
    let new = at.path("narrow.cedar").display().to_string();
    let narrower = policy(&at, &["backtest", &new, "--fail-on-wider"], 0);
    assert_eq!((&narrower["changed"], &narrower["stopped"]), (&json!(1), &json!(1)), "{narrower}");
    let group = &narrower["groups"][0];
    assert_eq!(
        (&group["rules"], &group["direction"], &group["reason"]),
        (&json!(["no-put"]), &json!("narrower"), &json!("policy_forbid"))
    );
    // Each change on a line of its own, the summary last.
    let listed = at.run(&["policy", "backtest", &new, "--all"]);
    let lines: Vec<Value> = listed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["tool"], &lines[1]["judged"]), (2, &json!("put"), &json!(6)), "{listed:?}");
    wrong(&at, &new);
}

fn wrong(at: &Installation, narrow: &str) {
    check(at, &["policy", "backtest", "missing.cedar"], 2, &["missing.cedar", "cannot read"]);
    check(at, &["policy", "backtest", "--since", "noon"], 2, &["`noon` is no time"]);
    check(at, &["policy", "backtest", "--since", "1d", "--until", "2d"], 2, &["nothing lies between"]);
    check(at, &["policy", "backtest", "--ledger", "nowhere"], 1, &["no ledger at `nowhere`"]);
    let folder = at.path("world").display().to_string();
    check(at, &["policy", "backtest", &folder], 2, &["no `countersign.yaml`"]);
    let root = at.root().display().to_string();
    check(at, &["policy", "backtest", &root, narrow], 2, &["stands beside it"]);
    at.write("bad.cedar", "permit (principal, action, resource);");
    let bad = at.path("bad.cedar").display().to_string();
    check(at, &["policy", "backtest", &bad], 2, &["bad.cedar", "@id"]);
    check(at, &["policy", "backtest", narrow, &bad], 2, &["bad.cedar"]);
    check(at, &["policy", "explain", "0"], 2, &["kind `", "decides nothing"]);
    check(at, &["policy", "explain", "9999"], 2, &["9999"]);
    check(at, &["policy", "explain", "t-none"], 1, &["no call of ticket `t-none`"]);
    // A log that does not verify is no ground for any answer.
    let segment = at.segment();
    let good = std::fs::read(&segment).unwrap();
    let index: u64 = leaf(at, "intent", "put").parse().unwrap();
    support::forge::forge(&segment, index, support::forge::Part::Payload);
    check(at, &["policy", "backtest"], 5, &[&format!("record `{index}`")]);
    std::fs::write(&segment, good).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bindings_are_read_from_payloads_and_what_is_erased_is_not_the_same() {
    let (at, _) = lived().await;
    let other = at.path("other").display().to_string();
    std::fs::create_dir(&other).unwrap();
    at.write(
        "other/policy.cedar",
        &format!(
            "{POLICY}@id(\"no-spend\") forbid (principal, action, resource) when {{ context.effect == \"spend\" }};\n"
        ),
    );
    let config = at.read("countersign.yaml");
    at.write("other/countersign.yaml", &config.replace("look: { effect: read", "look: { effect: spend"));
    let changed = policy(&at, &["backtest", &other], 0);
    assert_eq!((&changed["changed"], &changed["same"]), (&json!(2), &json!(3)), "{changed}");
    let example = &changed["groups"][0]["example"];
    assert_eq!(
        (&example["tool"], &example["effect"], &example["rules"]),
        (&json!("look"), &json!("spend"), &json!(["no-spend"]))
    );

    let gateway = at.up().await;
    // Beside the running gateway it answers the same.
    assert_eq!(policy(&at, &["backtest", &other], 0)["changed"], 2);
    at.owner(&["erase", "--run", "7"]);
    gateway.stop().await;
    let erased = policy(&at, &["backtest", &other], 0);
    assert_eq!((&erased["changed"], &erased["same"]), (&json!(0), &json!(3)), "{erased}");
    let why: Vec<_> = erased["not_comparable"].as_object().unwrap().iter().collect();
    assert!(why.len() == 1 && why[0].0.contains("payload erased") && *why[0].1 == 2, "{erased}");
    policy(&at, &["backtest", &other, "--fail-on-wider"], 1);
    // Under bindings that did not change the facts of the record are enough.
    assert_eq!(policy(&at, &["backtest", "--fail-on-change"], 0)["same"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_is_explained_from_its_record() {
    let (at, ticket) = lived().await;
    let parked = policy(&at, &["explain", &ticket], 0);
    assert_eq!((&parked["verdict"], &parked["reason"]), (&json!("require_approval"), &json!("approval_required")));
    assert_eq!(parked["to_agent"], "A human must consent to exactly this action before it runs.");
    let deciding: Vec<_> = parked["deciding"].as_array().unwrap().iter().map(|rule| &rule["id"]).collect();
    assert_eq!(deciding, ["everything-is-possible", "changes-need-consent"]);
    assert_eq!(
        (&parked["deciding"][1]["first_line"], &parked["deciding"][1]["file"]),
        (&json!(5), &json!("policy.cedar"))
    );
    assert_eq!(parked["facts"]["context.tool"], "\"change\"");
    assert_eq!(
        parked["without"],
        json!([
            {"rule": "everything-is-possible", "verdict": "deny", "reason": "no_permit"},
            {"rule": "changes-need-consent", "verdict": "allow", "reason": "policy_permit"},
        ])
    );
    assert_eq!((&parked["record"]["kind"], &parked["record"]["same_policy"]), (&json!("proposal"), &json!(true)));

    let killed = policy(&at, &["explain", &leaf(&at, "denial", "look")], 0);
    assert_eq!((&killed["record"]["decided_before_policy"], &killed["verdict"]), (&json!("killed"), &json!("allow")));
    assert_eq!(killed["to_agent"], "The kill switch is on for this scope: nothing runs until a human resumes it.");

    at.write(
        "narrow.cedar",
        &format!("{POLICY}@id(\"no-put\") forbid (principal, action == Action::\"lab/put\", resource);\n"),
    );
    let new = at.path("narrow.cedar").display().to_string();
    let put = leaf(&at, "intent", "put");
    let forbidden = policy(&at, &["explain", &put, "--policy", &new], 0);
    assert_eq!((&forbidden["verdict"], &forbidden["record"]["same_policy"]), (&json!("deny"), &json!(false)));
    assert_eq!(forbidden["overruled"][0]["id"], "everything-is-possible");

    actions(&at);
    let config = format!("--config={}", at.path("countersign.yaml").display());
    let people = support::run(&[&config, "policy", "explain", &put, "--policy", &new]);
    for words in ["to the agent", "forbid no-put", "decided under another policy", "without no-put: allow"] {
        assert!(people.stdout.contains(words), "`{words}` is not in: {people:?}");
    }
    let width = people.stdout.lines().filter(|line| !line.contains(".cedar")).map(|line| line.chars().count()).max();
    assert!(width.unwrap() <= 100, "{people:?}");
}

/// Calls that nobody has made, in words and in a file.
fn actions(at: &Installation) {
    let words = policy(at, &["explain", "agent=alpha", "tool=change", "args.id=x"], 0);
    assert_eq!((&words["verdict"], &words["record"]), (&json!("require_approval"), &Value::Null));
    at.write("action.yaml", "action: { agent: alpha, tool: lab/look }\narguments: { id: x }\n");
    let file = at.path("action.yaml").display().to_string();
    let read = policy(at, &["explain", &file], 0);
    assert_eq!((&read["verdict"], &read["to_agent"]), (&json!("allow"), &json!("nothing: the call runs")));
    check(at, &["policy", "explain", "agent=alpha", "tool=chnge"], 2, &["chnge", "change"]);
    check(at, &["policy", "explain", "agent=alpha", "tol=change"], 2, &["`tol`", "tool"]);
    check(at, &["policy", "explain", "no such"], 2, &["no file that can be read"]);
    check(at, &["policy", "explain"], 2, &["RECORD|ACTION"]);
    at.write("action.yaml", "cases: []\n");
    check(at, &["policy", "explain", &file], 2, &["give one of them"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn privileges_are_audited_and_a_tightened_policy_still_lets_run_what_ran() {
    let (at, _) = lived().await;
    let diff = at.path("tight.diff").display().to_string();
    let audit = policy(&at, &["audit", "--write", &diff], 0);
    assert_eq!(audit["calls"], 6, "{audit}");
    let found: Vec<(&str, &str)> = audit["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (finding["kind"].as_str().unwrap(), finding["subject"].as_str().unwrap()))
        .collect();
    assert!(found.contains(&("grant_unused", "alpha lab/hold in production")), "{audit}");
    assert!(!found.iter().any(|(_, subject)| subject.contains("lab/put")), "{audit}");
    let tight = &audit["tightened"];
    assert_eq!(
        (&tight["lost"], &tight["backtest"]["changed"], &tight["backtest"]["same"]),
        (&json!(0), &json!(0), &json!(5))
    );
    let how = tight["changes"][0]["how"][0].as_str().unwrap();
    assert_eq!(how, "action in [Action::\"lab/change\", Action::\"lab/look\", Action::\"lab/put\"]");
    assert_eq!(tight["diff"], at.read("tight.diff"));
    check(&at, &["policy", "audit", "--write", &diff], 1, &["not overwritten"]);
    check(&at, &["policy", "audit", "--agent", "nobody"], 2, &["`nobody` is no agent", "alpha"]);
    check(&at, &["policy", "audit", "--since", "soon"], 2, &["`soon` is no time"]);

    // What a reviewer does with it: apply it, and look at the same history again.
    let patched = std::process::Command::new("patch").args(["-p1", "-i", "tight.diff"]).current_dir(at.root()).status();
    assert!(patched.unwrap().success());
    assert_eq!(policy(&at, &["backtest", "--fail-on-change"], 0)["same"], 5);
    assert_eq!(policy(&at, &["explain", "agent=alpha", "tool=hold"], 0)["reason"], "no_permit");
    let again = policy(&at, &["audit"], 0);
    assert_eq!(again["tightened"]["changes"], json!([]), "{again}");
    let nothing = policy(&at, &["audit", "--until", "1d"], 0);
    assert_eq!((&nothing["calls"], &nothing["tightened"]), (&json!(0), &Value::Null));
}

/// The same policy in YAML: explained by its own lines, narrowed in Cedar beside it.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_in_yaml_is_asked_about_in_its_own_lines() {
    let (at, _) = lived().await;
    at.write("policy.yaml", YAML);
    at.write("countersign.yaml", &at.read("countersign.yaml").replace("[policy.cedar]", "[policy.yaml]"));
    let same = policy(&at, &["backtest"], 0);
    assert_eq!((&same["judged"], &same["stopped"], &same["widening"]), (&json!(6), &json!(0), &json!(0)), "{same}");
    let said = policy(&at, &["explain", "agent=alpha", "tool=look"], 0);
    let rule = &said["deciding"][0];
    assert_eq!((&rule["file"], &rule["first_line"]), (&json!("policy.yaml"), &json!(4)), "{said}");
    assert!(rule["text"].as_str().unwrap().contains("everything-is-possible"), "{said}");
    let audit = policy(&at, &["audit"], 0);
    let tight = &audit["tightened"];
    assert_eq!(tight["written_beside"], json!({"policy.yaml": "policy.yaml.cedar"}), "{audit}");
    assert!(tight["diff"].as_str().unwrap().starts_with("--- /dev/null\n+++ b/policy.yaml.cedar\n"), "{audit}");
    assert_eq!(tight["lost"], 0);
    at.write("broken.yaml", &YAML.replace("tools:", "tolls:"));
    check(&at, &["policy", "backtest", &at.path("broken.yaml").display().to_string()], 2, &["tolls"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_policy_is_learned_from_what_ran() {
    let (at, _) = lived().await;
    let file = at.path("learned.cedar").display().to_string();
    let learned = policy(&at, &["suggest", "--write", &file], 0);
    assert_eq!((&learned["permits"], &learned["gated"]), (&json!(2), &json!(1)), "{learned}");
    // What was sent out ran unasked then and would wait now; the change needed a human and would run.
    let backtest = &learned["backtest"];
    assert_eq!(
        (&backtest["changed"], &backtest["same"], &backtest["stopped"]),
        (&json!(3), &json!(2), &json!(1)),
        "{learned}"
    );
    let again = policy(&at, &["backtest", &file], 0);
    assert_eq!((&again["changed"], &again["stopped"]), (&json!(3), &json!(1)), "{again}");
    let verdict = |tool: &str| {
        let said = policy(&at, &["explain", "agent=alpha", &format!("tool={tool}"), "--policy", &file], 0);
        said["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!(["look", "put", "hold"].map(verdict), ["allow", "require_approval", "deny"]);
    check(&at, &["policy", "suggest", "--until", "1d"], 1, &["nothing ran", "--since"]);
    check(&at, &["policy", "suggest", "--agent", "nobody"], 2, &["`nobody` is no agent"]);
    check(&at, &["policy", "suggest", "--write", &file], 1, &["not overwritten"]);
    let config = format!("--config={}", at.path("countersign.yaml").display());
    let people = support::run(&[&config, "policy", "suggest"]);
    assert_eq!(people.stdout.trim_end(), at.read("learned.cedar").trim_end(), "{people:?}");
    assert!(people.stderr.contains("2 permits, 1 more behind a gate"), "{people:?}");
}
