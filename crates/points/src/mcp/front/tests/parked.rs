//! A call that waits for a human, as clients are told of it: the identical call runs once, and only the ticket consents.

use countersign_gate::TicketState;
use countersign_model::unit::TimeMs;
use serde_json::{Value, json};

use super::{World, body, script, status};
use crate::mcp::config::{EraChoice, FrontConfig};
use crate::mcp::parked::Approvals;

const CONSENTED: TicketState = TicketState::Consented { expires: TimeMs(1_900_000_000_000) };
const TASKS: &str = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}},"elicitation":{"url":{}}}"#;
const URLS: &str = r#"{"elicitation":{"url":{}}}"#;

/// A world in which calls of `crm-only` wait for a human.
async fn world(era: EraChoice) -> World {
    let config = FrontConfig::new("127.0.0.1:0".parse().unwrap());
    let config = config.with_approvals(Some(Approvals::new("https://approve.example/{ticket}").unwrap()));
    let world = World::behind(config, vec![script::upstream("crm", era).await]).await;
    world.governor.parked.lock().unwrap().push("crm-only".to_owned());
    world
}

const CALL: (&str, &str) = ("tools/call", "crm-only");
/// Answered at once with this result.
const PLAIN: &str = r#""arguments":{"result":{"content":[], "n":1e2}},"#;

impl World {
    async fn task(&self, token: &str, method: &str, id: &Value, more: &str) -> Value {
        let id = id.as_str().unwrap();
        self.able(token, TASKS, (method, id), &format!(r#""taskId":"{id}",{more}"#)).await
    }

    /// Asks for a task until it has this status.
    async fn until(&self, id: &Value, word: &str) -> Value {
        for _ in 0..500 {
            let task = self.task("alice", "tasks/get", id, "").await;
            if task["result"]["status"] == word {
                return task["result"].clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("never `{word}`");
    }
}

#[tokio::test]
async fn a_parked_call_is_a_task_that_ends_with_the_calls_own_answer() {
    let world = world(EraChoice::Modern).await;
    let made = world.able("alice", TASKS, CALL, PLAIN).await["result"].clone();
    assert_eq!((&made["resultType"], &made["status"]), (&"task".into(), &"working".into()), "{made}");
    assert_eq!(made["_meta"]["countersign/verdict"]["ticket"], "T-1");
    let id = &made["taskId"];
    // The identical call is the same task.
    assert_eq!(world.able("alice", TASKS, CALL, PLAIN).await["result"]["taskId"], *id);
    let asked = world.task("alice", "tasks/get", id, "").await["result"].clone();
    let question = &asked["inputRequests"]["countersign/approval"]["params"];
    assert_eq!((&question["mode"], &question["url"]), (&"url".into(), &"https://approve.example/T-1".into()));
    let accepted = r#""inputResponses":{"countersign/approval":{"action":"accept"}},"#;
    assert_eq!(world.task("alice", "tasks/update", id, accepted).await["result"]["resultType"], "complete");
    assert_eq!(
        world.task("alice", "tasks/get", id, "").await["result"]["status"],
        "working",
        "an accept is no consent"
    );
    assert!(world.seen.with("tools/call").is_empty());
    for method in ["tasks/get", "tasks/cancel", "tasks/update"] {
        assert_eq!(world.task("bob", method, id, "").await["error"]["code"], -32602, "{method}: another's is none");
    }
    world.governor.say(CONSENTED);
    let done = world.until(id, "completed").await;
    assert_eq!((&done["result"]["n"], done.get("inputRequests")), (&100.0.into(), None));
    assert_eq!(done["result"]["_meta"]["countersign/receipt"]["log"], "test");
    assert_eq!(world.seen.with("tools/call").len(), 1, "it ran once");
    let calls = world.governor.calls.lock().unwrap().clone();
    assert_eq!((calls.len(), calls[0] == calls[2]), (3, true), "and it was the identical call");
    assert_eq!(world.task("alice", "tasks/cancel", id, "").await["result"]["resultType"], "complete");
    assert_eq!(world.until(id, "completed").await, done, "what has ended stays so");
    let mute = body(&world.modern("alice", "tasks/get", id.as_str(), &format!(r#""taskId":{id}"#)).await);
    assert_eq!(mute["error"]["code"], -32021, "who speaks no tasks has none");
}

#[tokio::test]
async fn a_task_ends_whatever_becomes_of_its_ticket() {
    for (state, word, code) in [
        (TicketState::Lapsed, "failed", -32012),
        (TicketState::Redeemed, "failed", -32012),
        (TicketState::Unknown, "failed", -32012),
    ] {
        let world = world(EraChoice::Modern).await;
        let id = world.able("alice", TASKS, CALL, PLAIN).await["result"]["taskId"].clone();
        world.governor.say(state.clone());
        let ended = world.until(&id, word).await;
        assert_eq!(ended["error"]["code"], code, "{state:?}: {ended}");
        assert!(world.seen.with("tools/call").is_empty());
    }
    // A refusal is what the identical call is answered by.
    let denied = world(EraChoice::Modern).await;
    let id = denied.able("alice", TASKS, CALL, PLAIN).await["result"]["taskId"].clone();
    denied.governor.denied.lock().unwrap().push(("crm-only".to_owned(), String::new()));
    denied.governor.say(TicketState::Denied);
    let ended = denied.until(&id, "completed").await;
    assert_eq!(ended["result"]["structuredContent"]["countersign"]["verdict"], "deny", "{ended}");
    // A cancelled one runs nothing, whatever is consented to then.
    let world = world(EraChoice::Modern).await;
    let id = world.able("alice", TASKS, CALL, PLAIN).await["result"]["taskId"].clone();
    assert_eq!(world.task("alice", "tasks/cancel", &id, "").await["result"]["resultType"], "complete");
    world.governor.say(CONSENTED);
    // The agent's own identical call uses the consent.
    assert_eq!(world.able("alice", URLS, CALL, PLAIN).await["result"]["n"], 100.0);
    assert_eq!(world.until(&id, "cancelled").await.get("result"), None);
    assert_eq!(world.seen.with("tools/call").len(), 1);
}

#[tokio::test]
async fn with_a_handshake_a_task_is_asked_for_and_its_result_awaited() {
    let world = world(EraChoice::Legacy).await;
    let session = world.open("alice").await;
    let ask = async |id: u8, method: &str, params: &str| {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        body(&world.post("alice", &session, &text).await)
    };
    let call = r#"{"name":"crm-only","arguments":{"result":{"content":[]}},"task":{"ttl":1}}"#;
    let made = ask(1, "tools/call", call).await["result"].clone();
    let (task, id) = (&made["task"], made["task"]["taskId"].clone());
    assert_eq!(task["status"], "working", "{made}");
    assert!(task["ttl"].as_u64().unwrap() > 60_000, "long enough for a human");
    let listed = ask(2, "tasks/list", "{}").await;
    assert_eq!(listed["result"]["tasks"][0]["taskId"], id, "{listed}");
    let about = json!({ "taskId": id }).to_string();
    let (result, ()) = tokio::join!(ask(3, "tasks/result", &about), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        world.governor.say(CONSENTED);
    });
    let meta = &result["result"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/related-task"]["taskId"], id, "{result}");
    assert_eq!(meta["countersign/receipt"]["log"], "test");
    assert_eq!(ask(4, "tasks/get", &about).await["result"]["status"], "completed");
    assert_eq!(ask(5, "tasks/cancel", &about).await["error"]["code"], -32602, "it has ended");
    assert_eq!(world.seen.with("tools/call").len(), 1);
}

#[tokio::test]
async fn a_session_that_is_over_uses_no_consent() {
    let world = world(EraChoice::Legacy).await;
    let session = world.open("alice").await;
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"crm-only","arguments":{"result":{}},"task":{}}}"#;
    let id = body(&world.post("alice", &session, call).await)["result"]["task"]["taskId"].clone();
    let head = world.head("DELETE", &format!("Authorization: Bearer alice\r\n{session}\r\n"));
    assert_eq!(status(&world.raw(&head).await), "204");
    let other = world.open("alice").await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    world.governor.say(CONSENTED);
    let text = format!(r#"{{"jsonrpc":"2.0","id":2,"method":"tasks/result","params":{{"taskId":{id}}}}}"#);
    let ended = body(&world.post("alice", &other, &text).await);
    assert_eq!(ended["result"]["isError"], true, "{ended}");
    assert_eq!(*world.governor.ticket.lock().unwrap(), Some(CONSENTED));
    assert!(world.seen.with("tools/call").is_empty());
}

#[tokio::test]
async fn a_page_is_asked_for_once_and_opening_it_consents_to_nothing() {
    let world = world(EraChoice::Modern).await;
    let first = world.able("alice", URLS, CALL, PLAIN).await["result"].clone();
    assert_eq!(first["resultType"], "input_required", "{first}");
    assert_eq!(first["_meta"]["countersign/verdict"]["verdict"], "pending");
    let question = &first["inputRequests"]["countersign/approval"];
    assert_eq!(question["params"]["url"], "https://approve.example/T-1");
    let again = |action: &str| {
        let answers = json!({ "countersign/approval": { "action": action }, "name": {} });
        format!(r#"{PLAIN}"inputResponses":{answers},"requestState":{},"#, first["requestState"])
    };
    // Whoever would not open it has the ticket.
    let declined = world.able("alice", URLS, CALL, &again("decline")).await["result"].clone();
    assert_eq!(declined["structuredContent"]["countersign"]["ticket"], "T-1", "{declined}");
    assert!(world.seen.with("tools/call").is_empty());
    let accepted = again("accept");
    let (done, ()) = tokio::join!(world.able("alice", URLS, CALL, &accepted), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        world.governor.say(CONSENTED);
    });
    assert_eq!(done["result"]["n"], 100.0, "{done}");
    let sent = world.seen.with("tools/call");
    assert_eq!(sent.len(), 1);
    assert!(!sent[0].contains("approval") && !sent[0].contains("requestState"), "nothing of ours goes on: {}", sent[0]);
    assert!(world.rounds().iter().all(|(leaf, input)| leaf.is_none() && input.is_empty()));
}

#[tokio::test]
async fn a_call_that_goes_on_and_waits_comes_back_with_its_answers() {
    let world = world(EraChoice::Modern).await;
    world.governor.parked.lock().unwrap().clear();
    let able = r#"{"elicitation":{"form":{},"url":{}}}"#;
    let first = world.able("alice", able, CALL, "").await;
    world.governor.parked.lock().unwrap().push("crm-only".to_owned());
    let more = format!(r#""inputResponses":{{"name":{{"a":1}}}},"requestState":{},"#, first["result"]["requestState"]);
    let parked = world.able("alice", able, CALL, &more).await;
    assert!(parked["result"]["inputRequests"]["countersign/approval"].is_object(), "{parked}");
    world.governor.say(CONSENTED);
    // The script takes a leaf once, as the kernel does for a call that ran; this one waited.
    world.governor.open.lock().unwrap().insert(1);
    let state = &parked["result"]["requestState"];
    let more = format!(r#""inputResponses":{{"countersign/approval":{{"action":"accept"}}}},"requestState":{state},"#);
    let second = world.able("alice", able, CALL, &more).await;
    assert!(second["result"]["inputRequests"]["color"].is_object(), "{second}");
    let rounds = world.rounds();
    let went_on: Vec<_> = rounds.iter().filter(|(leaf, _)| leaf.is_some()).collect();
    assert_eq!((went_on.len(), went_on[0] == went_on[1]), (2, true), "with the same answers: {rounds:?}");
    let sent = world.seen.with("tools/call");
    assert!(sent[1].contains(r#""inputResponses":{"name":{"a":1}},"requestState":"one \"s\"""#), "{}", sent[1]);
}

#[tokio::test]
async fn with_a_handshake_a_page_is_an_error_and_its_end_is_announced() {
    let world = world(EraChoice::Legacy).await;
    let session = world.open_with("alice", URLS).await;
    let call = super::call("1", "crm-only").replace(r#""arguments":{}"#, r#""arguments":{"result":{}}"#);
    let asked = body(&world.post("alice", &session, &call).await);
    assert_eq!(asked["error"]["code"], -32042, "{asked}");
    let data = &asked["error"]["data"];
    assert_eq!(
        (&data["elicitations"][0]["elicitationId"], &data["countersign"]["ticket"]),
        (&"T-1".into(), &"T-1".into())
    );
    world.governor.say(CONSENTED);
    let head = world.head("GET", &format!("Authorization: Bearer alice\r\nAccept: text/event-stream\r\n{session}\r\n"));
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    let heard = super::questions::until(&mut stream, "elicitationId").await;
    assert!(heard.contains("notifications/elicitation/complete"), "{heard}");
    let mute = world.open_with("alice", r#"{"elicitation":{}}"#).await;
    *world.governor.ticket.lock().unwrap() = None;
    let ticket = body(&world.post("alice", &mute, &call).await);
    assert_eq!(ticket["result"]["structuredContent"]["countersign"]["ticket"], "T-1", "{ticket}");
}
