//! Calls of more than one round: what is asked is decided first, what comes again is the same call, and it comes once.

use countersign_model::ReasonCode;
use serde_json::{Value, json};

use super::modern::{headers, request};
use super::{World, body, script};
use crate::mcp::config::{EraChoice, FrontConfig};

const ALL: &str = r#"{"elicitation":{},"sampling":{},"roots":{}}"#;

async fn world() -> World {
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap());
    World::behind(config, vec![script::upstream("crm", EraChoice::Modern).await]).await
}

impl World {
    /// A request of a client with these capabilities.
    pub(super) async fn able(
        &self,
        token: &str,
        capabilities: &str,
        (method, name): (&str, &str),
        more: &str,
    ) -> Value {
        let place = if method == "resources/read" { "uri" } else { "name" };
        let meta = format!(
            r#""_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{capabilities}}}"#
        );
        let text = request(method, &format!(r#"{{"{place}":"{name}",{more}{meta}}}"#));
        body(&self.post(token, &headers(method, Some(name)), &text).await)
    }

    async fn tell(&self, about: (&str, &str), more: &str) -> Value {
        self.able("alice", ALL, about, more).await
    }

    pub(super) fn rounds(&self) -> Vec<super::WentOn> {
        self.governor.rounds.lock().unwrap().clone()
    }
}

/// The members with which a client calls again.
fn again(asked: &Value, answers: &str) -> String {
    format!(r#""inputResponses":{answers},"requestState":{},"#, asked["result"]["requestState"])
}

const NAME: &str = r#"{"name":{"action":"accept", "n":1e2}}"#;

#[tokio::test]
async fn a_call_goes_on_with_the_answers_to_what_it_was_asked() {
    for about in [("tools/call", "crm-only"), ("prompts/get", "mem://ask"), ("resources/read", "mem://ask")] {
        let world = world().await;
        let first = world.tell(about, "").await;
        let result = &first["result"];
        assert_eq!(
            (&result["resultType"], &result["inputRequests"]["name"]["params"]["n"]),
            (&"input_required".into(), &100.0.into())
        );
        assert_eq!(result["inputRequests"]["name"]["params"]["_meta"], json!({ "s": 1 }), "as the upstream sent it");
        assert_eq!(result["_meta"]["countersign/receipt"]["log"], "test");
        assert!(!first.to_string().contains(r#"one \\\"s\\\""#), "the upstream's own state stays inside: {first}");
        let asked = world.governor.calls.lock().unwrap().last().unwrap().clone();
        assert_eq!((asked.0.as_str(), &asked.1[..]), ("elicitation/create", &br#"{"message":"name?","n":1e2}"#[..]));

        // What was not asked does not go on.
        let answers = NAME.replace(r#""name""#, r#""color":{"x":1}, "name""#);
        let second = world.tell(about, &again(&first, &answers)).await;
        assert_eq!(second["result"]["inputRequests"]["color"]["method"], "elicitation/create", "{second}");
        assert_ne!(second["result"]["requestState"], result["requestState"]);
        let sent = world.seen.with(about.0);
        assert!(
            sent[1].contains(r#""inputResponses":{ "name":{"action":"accept", "n":1e2}},"requestState":"one \"s\"""#),
            "{}",
            sent[1]
        );

        let third = world.tell(about, &again(&second, r#"{"color":{"c":1}}"#)).await;
        let got = &third["result"]["got"];
        assert_eq!((&got["requestState"], &got["inputResponses"]), (&"two".into(), &json!({ "color": { "c": 1 } })));
        let calls = world.governor.calls.lock().unwrap().clone();
        let own: Vec<_> = calls.iter().filter(|(tool, ..)| tool != "elicitation/create").collect();
        assert!(own.iter().all(|call| *call == own[0]), "the same call each time: {own:?}");
        let rounds: Vec<_> = world.rounds().into_iter().filter(|(leaf, _)| leaf.is_some()).collect();
        assert_eq!(rounds[0], (Some(1), r#"{ "name":{"action":"accept", "n":1e2}}"#.to_owned()));
        assert_eq!((rounds[1].1.as_str(), rounds.len()), (r#"{"color":{"c":1}}"#, 2));
        assert!(world.refused().is_empty());
    }
}

#[tokio::test]
async fn a_state_opens_one_call_of_one_caller_once() {
    let world = world().await;
    let tool = ("tools/call", "crm-only");
    let first = world.tell(tool, r#""arguments":{"id":1},"#).await;
    let good = again(&first, NAME);
    let arguments = |id: u8| format!(r#""arguments":{{"id":{id}}},"#);
    let bent = good.replacen("cs1.", "cs1.A", 1);
    for (token, about, more) in [
        ("alice", tool, format!("{}{}", arguments(1), bent)),
        ("alice", tool, format!("{}{}", arguments(2), good)),
        ("alice", tool, good.clone()),
        ("bob", tool, format!("{}{}", arguments(1), good)),
        ("alice", ("tools/call", "echo"), format!("{}{}", arguments(1), good)),
        ("alice", ("prompts/get", "mem://ask"), format!("{}{}", arguments(1), good)),
        ("alice", tool, format!(r#"{}"requestState":"","#, arguments(1))),
    ] {
        let before = (world.refused().len(), world.rounds().len());
        let refused = world.able(token, ALL, about, &more).await;
        assert_eq!(refused["error"]["code"], -32602, "{token} {about:?} {more}: {refused}");
        assert_eq!(world.refused().last().unwrap().1, ReasonCode::ContinuationInvalid);
        assert_eq!((world.refused().len(), world.rounds().len()), (before.0 + 1, before.1), "nothing was decided on");
    }
    *world.governor.later.lock().unwrap() = 32 * 24 * 60 * 60_000;
    let late = world.tell(tool, &format!("{}{}", arguments(1), good)).await;
    assert_eq!(late["error"]["code"], -32602);
    *world.governor.later.lock().unwrap() = 30 * 24 * 60 * 60_000;
    let more = format!("{}{}", arguments(1), good);
    assert_eq!(world.tell(tool, &more).await["result"]["resultType"], "input_required");
    let sent = world.seen.with("tools/call").len();
    let twice = world.tell(tool, &more).await;
    assert_eq!(twice["result"]["structuredContent"]["countersign"]["reasons"][0]["code"], "continuation_invalid");
    assert_eq!(world.seen.with("tools/call").len(), sent);
}

#[tokio::test]
async fn a_question_that_may_not_go_out_ends_the_round() {
    let asking = |questions: &str| {
        format!(
            r#""arguments":{{"result":{{"resultType":"input_required","inputRequests":{questions},"requestState":"s"}}}},"#
        )
    };
    let elicit = |key: &str, params: &str| format!(r#""{key}":{{"method":"elicitation/create","params":{params}}}"#);
    let fine = elicit("fine", r#"{"message":"m-fine"}"#);
    let sample = r#""s":{"method":"sampling/createMessage","params":{"messages":["secret"]}}"#;
    let forms = r#"{"elicitation":{"form":{}}}"#;
    for (capabilities, questions, code) in [
        (ALL, format!("{{{fine},{sample}}}"), "policy_forbid"),
        (forms, format!("{{{fine},{sample}}}"), "unsupported"),
        ("{}", format!("{{{fine}}}"), "unsupported"),
        (ALL, format!("{{{}}}", elicit("u", r#"{"mode":"url","url":"https://x"}"#)), "unsupported"),
        (ALL, format!("{{{}}}", elicit("countersign/approval", r#"{"message":"m-fine"}"#)), "unsupported"),
        (ALL, format!("{{{}}}", elicit("p", "7")), "unsupported"),
        (ALL, r#"{"t":{"method":"tasks/get","params":{}}}"#.to_owned(), "unsupported"),
        (ALL, r#"{"t":{}}"#.to_owned(), "unsupported"),
        // Some parsers would read the other spelling.
        (ALL, format!("{{{}}}", fine.replace(r#""params""#, r#""Method":"roots/list","params""#)), "unsupported"),
        (ALL, format!(r#"{{{fine}}},"InputRequests":{{{sample}}}"#), "unsupported"),
        (ALL, "7".to_owned(), "unsupported"),
        (
            ALL,
            format!("{{{}}}", (0..17).map(|n| elicit(&n.to_string(), "{}")).collect::<Vec<_>>().join(",")),
            "unsupported",
        ),
    ] {
        let world = world().await;
        world.governor.denied.lock().unwrap().push(("sampling/createMessage".to_owned(), "secret".to_owned()));
        let answer = world.able("alice", capabilities, ("tools/call", "crm-only"), &asking(&questions)).await;
        let verdict = &answer["result"]["structuredContent"]["countersign"];
        assert_eq!(answer["result"]["isError"], true, "{questions}: {answer}");
        assert_eq!((&verdict["verdict"], &verdict["status"]), (&"deny".into(), &"input_required".into()));
        assert_eq!(verdict["reasons"][0]["code"], code, "{questions}");
        let said = answer.to_string();
        for secret in ["m-fine", "inputRequests\":", "requestState", "secret"] {
            assert!(!said.contains(secret), "{secret}: {answer}");
        }
        assert_eq!(world.refused().len(), usize::from(code == "unsupported"), "{questions}");
    }
}

#[tokio::test]
async fn a_form_that_asks_for_a_secret_is_flagged() {
    let world = world().await;
    let form = r#"{"message":"m","requestedSchema":{"type":"object","properties":{"password":{"type":"string"}}}}"#;
    let result = format!(
        r#"{{"resultType":"input_required","inputRequests":{{"k":{{"method":"elicitation/create","params":{form}}}}}}}"#
    );
    world.tell(("tools/call", "crm-only"), &format!(r#""arguments":{{"result":{result}}},"#)).await;
    let flagged = world.governor.flagged.lock().unwrap().clone();
    assert_eq!((flagged.len(), flagged[1].is_some()), (2, true), "the governor is told: {flagged:?}");
}

#[tokio::test]
async fn an_answer_that_only_some_would_read_as_a_question_is_none() {
    let world = world().await;
    let question = r#"{"k":{"method":"elicitation/create","params":{"message":"sure?"}}}"#;
    for (kind, members, status) in [
        ("complete", format!(r#""inputRequests":{question}"#), "done"),
        ("complete", format!(r#""ResultType":"input_required","InputRequests":{question}"#), "done"),
        ("task", format!(r#""taskId":"t","inputRequests":{question}"#), "unknown"),
    ] {
        let result = format!(r#"{{"resultType":"{kind}","content":[],{members}}}"#);
        let answer = world.tell(("tools/call", "crm-only"), &format!(r#""arguments":{{"result":{result}}},"#)).await;
        assert_eq!(answer["error"]["data"]["countersign"]["status"], status, "{members}: {answer}");
        assert!(!answer.to_string().contains("sure?"));
        assert_eq!(world.refused().last().unwrap().1, ReasonCode::Unsupported);
    }
}

#[tokio::test]
async fn a_question_that_waits_for_a_human_is_named_and_not_shown() {
    let world = world().await;
    world.governor.parked.lock().unwrap().push("elicitation/create".to_owned());
    let parked = world.tell(("tools/call", "crm-only"), "").await;
    let verdict = &parked["result"]["structuredContent"]["countersign"];
    assert_eq!(
        (&verdict["verdict"], &verdict["ticket"], &verdict["question"]),
        (&"pending".into(), &"T-1".into(), &"elicitation/create".into())
    );
    assert!(!parked.to_string().contains("name?"));
    let prompt = world.tell(("prompts/get", "mem://ask"), "").await;
    assert_eq!(
        (&prompt["error"]["code"], &prompt["error"]["data"]["countersign"]["ticket"]),
        (&(-32013).into(), &"T-1".into())
    );
}

#[tokio::test]
async fn answers_ahead_of_a_question_are_part_of_the_call() {
    let world = world().await;
    let ahead = r#""inputResponses":{"name":{"a":1}},"#;
    for about in [("tools/call", "crm-only"), ("prompts/get", "mem://ask")] {
        let first = world.tell(about, ahead).await;
        assert_eq!(first["result"]["resultType"], "input_required");
        let call = |world: &World| {
            let calls = world.governor.calls.lock().unwrap().clone();
            calls.into_iter().rfind(|(tool, ..)| tool != "elicitation/create").unwrap()
        };
        let judged = call(&world);
        assert_eq!(String::from_utf8(judged.2.clone()).unwrap(), r#"{"inputResponses":{"name":{"a":1}}}"#);
        let sent = world.seen.with(about.0).pop().unwrap();
        assert!(sent.contains(ahead), "it passes as it came: {sent}");
        assert_eq!(world.tell(about, &again(&first, NAME)).await["result"]["resultType"], "input_required");
        assert_eq!(call(&world), judged, "and the same call goes on");
    }
    for (wrong, method) in [
        (r#""inputResponses":null,"#, "tools/call"),
        (r#""inputResponses":[],"#, "prompts/get"),
        (r#""requestState":7,"#, "tools/call"),
        (r#""requestState":null,"#, "resources/read"),
        (r#""requestState":"s","#, "completion/complete"),
    ] {
        let name = if method == "completion/complete" { "x" } else { "ask" };
        let before = world.rounds().len();
        let refused = world.tell((method, name), wrong).await;
        assert_eq!((&refused["error"]["code"], world.rounds().len()), (&(-32602).into(), before), "{wrong} {refused}");
    }
}

#[tokio::test]
async fn with_several_upstreams_a_state_is_for_the_one_that_asked() {
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap());
    let upstreams =
        vec![script::upstream("crm", EraChoice::Modern).await, script::upstream("files", EraChoice::Modern).await];
    let world = World::behind(config, upstreams).await;
    let first = world.tell(("tools/call", "crm__crm-only"), "").await;
    let second = again(&first, NAME);
    assert_eq!(world.tell(("tools/call", "files__files-only"), &second).await["error"]["code"], -32602);
    let second = world.tell(("tools/call", "crm__crm-only"), &second).await;
    assert!(second["result"]["inputRequests"]["color"].is_object(), "{second}");
    assert!(world.seen.with("tools/call")[1].contains(r#""name":"crm-only""#));
    let read = world.tell(("resources/read", "files+mem://ask"), "").await;
    assert_eq!(read["result"]["resultType"], "input_required", "{read}");
}

#[tokio::test]
async fn where_there_are_no_rounds_nothing_is_asked() {
    let world = world().await;
    let more = r#""ref":{"type":"ref/prompt","name":"ask-all"},"#;
    let plain = world.tell(("completion/complete", "x"), more).await;
    assert_eq!(plain["error"]["code"], -32011, "{plain}");
    let session = World::behind(
        FrontConfig::new("127.0.0.1:0".parse().unwrap()),
        vec![script::upstream("crm", EraChoice::Legacy).await],
    )
    .await;
    let header = session.open("alice").await;
    let answer = body(&session.post("alice", &header, &super::call("1", "crm-only")).await);
    assert_eq!(answer["error"]["data"]["countersign"]["status"], "input_required", "{answer}");
    assert!(!answer.to_string().contains("name?"));
}

#[tokio::test]
async fn a_task_asks_only_what_was_decided_and_once() {
    let world = world().await;
    let able = r#"{"elicitation":{},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
    let made = r#""arguments":{"result":{"resultType":"task","taskId":"asks"}},"#;
    world.able("alice", able, ("tools/call", "crm-only"), made).await;
    let get = async |capabilities: &str| {
        let more = r#""taskId":"asks","#;
        world.able("alice", capabilities, ("tasks/get", "asks"), more).await
    };
    world.governor.denied.lock().unwrap().push(("elicitation/create".to_owned(), "sure?".to_owned()));
    let denied = get(able).await;
    assert_eq!(denied["error"]["code"], -32012, "{denied}");
    assert!(!denied.to_string().contains("sure?"));
    world.governor.denied.lock().unwrap().clear();
    let decided = || world.governor.calls.lock().unwrap().len();
    let before = decided();
    for _ in 0..3 {
        assert_eq!(get(able).await["result"]["inputRequests"]["k"]["params"]["message"], "sure?");
    }
    assert_eq!(decided(), before + 1, "asking for it again is no new question");
    let mute = get(r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#).await;
    assert_eq!(mute["error"]["code"], -32012, "{mute}");
    let listed = world.tell(("tools/list", "x"), r#""cursor":"ask","#).await;
    assert_eq!((&listed["error"]["code"], listed.to_string().contains("sure?")), (&(-32012).into(), false));
}
