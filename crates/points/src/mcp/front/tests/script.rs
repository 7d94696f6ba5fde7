//! A scripted upstream with everything: tools, prompts, resources, tasks, changes and questions, in either era.

use std::sync::Mutex;
use std::time::Duration;

use countersign_model::id::UpstreamId;
use serde_json::Value;

use crate::mcp::config::{EraChoice, QuestionKind, UpstreamConfig, UpstreamLimits};
use crate::mcp::execute::Upstream;
use crate::mcp::execute::testing::Seen;

/// An upstream `id` that speaks `era`.
pub(super) async fn upstream(id: &'static str, era: EraChoice) -> (Upstream, Seen) {
    let limits = UpstreamLimits { call_timeout: Duration::from_secs(5), ..UpstreamLimits::default() };
    let config = UpstreamConfig::stdio(UpstreamId::new(id).unwrap(), "/nonexistent", Vec::new(), Vec::new(), None);
    let questions = [QuestionKind::Sampling, QuestionKind::Elicitation, QuestionKind::Roots];
    let config = config.unwrap().with_era(era).with_questions(&questions).with_limits(limits);
    let held = Mutex::new(None);
    Upstream::played(config, move |message| play(message, id, &held)).await.unwrap()
}

const SURE: &str = r#""k":{"method":"elicitation/create","params":{"message":"sure?"}}"#;
const CAPABILITIES: &str = r#"{"tools":{"listChanged":true},"resources":{"subscribe":true},"prompts":{},"completions":{},"logging":{},"tasks":{"list":{}},"experimental":{"x":{}},"extensions":{"io.modelcontextprotocol/tasks":{},"com.example/own":{}}}"#;

fn play(message: &Value, server: &str, held: &Mutex<Option<Value>>) -> Vec<String> {
    let id = message["id"].clone();
    let result = |raw: &str| vec![format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{raw}}}"#)];
    let error = |raw: &str| vec![format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{raw}}}"#)];
    let is_modern = !message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].is_null();
    let list = if is_modern { r#""resultType":"complete","ttlMs":5000,"cacheScope":"public","# } else { "" };
    match message["method"].as_str() {
        // An answer to a question: the call that asked ends with it.
        None => held.lock().unwrap().take().map_or_else(Vec::new, |call: Value| {
            let said = if message["error"].is_null() { &message["result"] } else { &message["error"] };
            vec![format!(r#"{{"jsonrpc":"2.0","id":{call},"result":{{"content":[],"said":{said}}}}}"#)]
        }),
        Some("initialize") => result(&format!(
            r#"{{"protocolVersion":"2025-11-25","capabilities":{CAPABILITIES},"serverInfo":{{"name":"{server}","version":"1"}},"instructions":"be {server}"}}"#
        )),
        Some("server/discover") => result(&format!(
            r#"{{"resultType":"complete","supportedVersions":["2026-07-28","2099-01-01"],"capabilities":{CAPABILITIES},"ttlMs":9,"cacheScope" : "public","instructions":"be {server}"}}"#
        )),
        Some("tools/list") if message["params"]["cursor"] == "ask" => {
            result(&format!(r#"{{"resultType":"input_required","tools":[],"inputRequests":{{{SURE}}}}}"#))
        }
        Some("tasks/get") if message["params"]["taskId"] == "asks" => result(&format!(
            r#"{{"resultType":"complete","taskId":"asks","status":"input_required","inputRequests":{{{SURE}}}}}"#
        )),
        Some("tools/list") => result(&format!(
            r#"{{{list}"tools":[{{"name":"echo" ,"inputSchema":{{"type":"object","properties":{{"region":{{"type":"string","x-mcp-header":"Region"}}}}}}}},{{"name":"resources/read","inputSchema":{{}}}},{{"name":"{server}-only","inputSchema":{{}}}}]}}"#
        )),
        Some("resources/list") if message["params"]["cursor"] == "more" => {
            result(&format!(r#"{{{list}"resources":[{{"uri":"mem://2","name":"two"}}]}}"#))
        }
        Some("resources/list") => {
            result(&format!(r#"{{{list}"resources":[{{"uri":"mem://1" ,"name":"one"}}],"nextCursor":"more"}}"#))
        }
        Some("prompts/list") => result(&format!(r#"{{{list}"prompts":[{{"name":"greet"}}]}}"#)),
        Some("resources/read") if message["params"]["uri"] == "mem://none" => {
            error(r#"{"code":-32002,"message":"no","data":{"uri":"mem://none"}}"#)
        }
        Some("resources/read" | "prompts/get")
            if [&message["params"]["uri"], &message["params"]["name"]].iter().any(|about| **about == "mem://ask") =>
        {
            result(&asking(message))
        }
        Some("resources/read") => {
            let uri = &message["params"]["uri"];
            result(&format!(r#"{{{list}"contents":[{{"uri":{uri},"text":"t", "n":1e2}}]}}"#))
        }
        Some("completion/complete") if message["params"]["ref"]["name"] == "ask-all" => result(&asking(message)),
        Some("prompts/get" | "completion/complete") => {
            result(&format!(r#"{{"messages":[],"got":{}}}"#, message["params"]))
        }
        Some("logging/setLevel" | "resources/subscribe" | "resources/unsubscribe") => result("{}"),
        Some("tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/update") => {
            result(&format!(r#"{{"taskId":{},"status":"working"}}"#, message["params"]["taskId"]))
        }
        Some("tasks/list") => result(r#"{"tasks":[{"taskId":"t1"},{"taskId":"stranger"}]}"#),
        Some("subscriptions/listen") => listening(&id, &message["params"]["notifications"]),
        Some("tools/call") => call(message, &id, held),
        Some(_) => Vec::new(),
    }
}

/// Asks for a name, and for a colour after that; with both it says all that it got.
fn asking(message: &Value) -> String {
    let (answers, state) = (&message["params"]["inputResponses"], &message["params"]["requestState"]);
    let ask = |key: &str, state: &str| {
        format!(
            r#"{{"resultType" : "input_required","inputRequests":{{"{key}":{{"method":"elicitation/create","params":{{"message":"{key}?", "n":1e2,"_meta":{{"s":1}}}}}}}},"requestState":{state}}}"#
        )
    };
    match (answers["name"].is_object(), answers["color"].is_object(), state.as_str()) {
        (true, _, Some("one \"s\"")) => ask("color", r#""two""#),
        (_, true, Some("two")) => format!(r#"{{"resultType":"complete","content":[],"got":{}}}"#, message["params"]),
        _ => ask("name", r#""one \"s\"""#),
    }
}

/// Acknowledges, then says more than was asked for; what a resource is called says what else it does.
fn listening(id: &Value, filter: &Value) -> Vec<String> {
    let said = |method: &str, more: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{more}"_meta":{{"io.modelcontextprotocol/subscriptionId":{id},"k":1}}}}}}"#
        )
    };
    let wanted: Vec<Value> = filter["resourceSubscriptions"].as_array().cloned().unwrap_or_default();
    let names = |name: &str| wanted.iter().any(|uri| uri == name);
    if names("mem://refused") {
        return vec![format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"no"}}}}"#)];
    }
    let mut agreed = filter.clone();
    if let Some(agreed) = agreed.get_mut("resourceSubscriptions").and_then(Value::as_array_mut) {
        agreed.retain(|uri| uri != "mem://unknown");
    }
    let acknowledged = said("notifications/subscriptions/acknowledged", &format!(r#""notifications":{agreed},"#));
    let early = said("notifications/tools/list_changed", r#""early":1,"#);
    let mut all = if names("mem://mute") || names("mem://twice") { vec![early] } else { Vec::new() };
    if !names("mem://mute") {
        all.extend(vec![acknowledged; if names("mem://twice") { 2 } else { 1 }]);
        all.push(said("notifications/tools/list_changed", ""));
        all.push(said("notifications/prompts/list_changed", ""));
    }
    let updated = |uri: &Value| said("notifications/resources/updated", &format!(r#""uri":{uri},"#));
    all.extend(wanted.iter().map(updated));
    if names("mem://flood") {
        all.extend((0..4_000).map(|_| updated(&"mem://flood".into())));
    }
    if names("mem://secret-in-it") {
        let secret = format!(r#""uri":"mem://secret-in-it","with":"AKI{}","#, "AIOSFODNN7EXAMPLE");
        all.push(said("notifications/resources/updated", &secret));
    }
    if names("mem://over") {
        all.push(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete"}}}}"#));
    }
    all
}

fn call(message: &Value, id: &Value, held: &Mutex<Option<Value>>) -> Vec<String> {
    let result = |raw: &str| format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{raw}}}"#);
    let ask = |method: &str, params: &str| {
        *held.lock().unwrap() = Some(id.clone());
        vec![format!(r#"{{"jsonrpc":"2.0","id":"q-7","method":"{method}","params":{params}}}"#)]
    };
    let is_modern = !message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].is_null();
    match message["params"]["name"].as_str().unwrap_or_default() {
        "elicit" => ask("elicitation/create", r#"{"message":"your name?","requestedSchema":{},"_meta":{"s":1}}"#),
        "elicit-long" => ask("elicitation/create", &format!(r#"{{"message":"{}"}}"#, "x".repeat(300_000))),
        "sample" => ask("sampling/createMessage", r#"{"messages":[],"maxTokens":1}"#),
        "odd" => ask("tasks/get", r#"{"taskId":"t"}"#),
        "url" => ask("elicitation/create", r#"{"mode":"url","message":"m","url":"https://x"}"#),
        "silent" => Vec::new(),
        "task" if is_modern => vec![result(r#"{"resultType":"task","taskId":"t1","status":"working"}"#)],
        "task" => vec![result(r#"{"task":{"taskId":"t1","status":"working"}}"#)],
        "crm-only" | "files-only" => match &message["params"]["arguments"]["result"] {
            Value::Null => vec![result(&asking(message))],
            given => vec![result(&given.to_string())],
        },
        "who" if message["params"]["inputResponses"].is_null() => vec![result(
            r#"{"resultType":"input_required","inputRequests":{"k\u0031":{"method":"elicitation/create","params":{"message":"your name?","requestedSchema":{}}}},"requestState":"st"}"#,
        )],
        "who" => vec![result(&format!(r#"{{"resultType":"complete","content":[],"got":{}}}"#, message["params"]))],
        "capability" => vec![format!(
            r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32021,"message":"no","data":{{"requiredCapabilities":{{"sampling":{{}}}}}}}}}}"#
        )],
        "log" => vec![
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info", "data":"d"}}"#.to_owned(),
            result(r#"{"content":[]}"#),
        ],
        "noise" => ["notifications/evil", "notifications/tasks/status", "notifications/cancelled", "tools/call"]
            .map(|method| {
                format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"taskId":"t1","requestId":7}}}}"#)
            })
            .into_iter()
            .chain([
                r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"last"}}"#.to_owned(),
                result(r#"{"content":[]}"#),
            ])
            .collect(),
        "link" => vec![result(r#"{"content":[{"type":"resource_link","uri":"mem://1","name":"one"}]}"#)],
        "changed" => vec![
            r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#.to_owned(),
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"mem://1"}}"#.to_owned(),
            result(r#"{"content":[]}"#),
        ],
        _ => vec![result(&format!(r#"{{"content":[], "got":{}}}"#, message["params"]["arguments"]))],
    }
}
