//! What other tools get: every line has what its schema requires, and the same log gives the same lines.

use countersign_model::TimeMs;
use serde_json::Value;

use super::{Format, Joiner, json};
use crate::json::at;
use crate::sample::{START, TRACE, run};

fn exported(format: Format, until: Option<TimeMs>) -> Vec<Value> {
    let mut joiner = Joiner::new("example.com/log", until);
    let take = |(leaf, record)| joiner.take(leaf, record, |line| json(format, line));
    let mut lines: Vec<Value> = run().into_iter().filter_map(take).flatten().collect();
    lines.extend(joiner.rest(|line| json(format, line)).into_iter().flatten());
    lines
}

/// Required attributes of OCSF 1.6: of the base event, of each class, and of the objects that are used.
const EVERY: &[&str] = &[
    "/activity_id",
    "/category_uid",
    "/class_uid",
    "/severity_id",
    "/time",
    "/type_uid",
    "/metadata/version",
    "/metadata/product/name",
    "/metadata/product/vendor_name",
    "/actor",
];
const API: &[&str] = &["/api/operation", "/src_endpoint"];
const DATASTORE: &[&str] = &["/src_endpoint", "/database/name"];
const ACTOR_ONE_OF: &[&str] = &["process", "user", "invoked_by", "session", "app_name", "app_uid"];
const ENDPOINT_ONE_OF: &[&str] = &["ip", "uid", "name", "hostname", "svc_name", "instance_uid"];

#[test]
fn ocsf_events_hold_what_the_schema_requires() {
    let lines = exported(Format::Ocsf, None);
    assert!(!lines.is_empty());
    for line in &lines {
        let number = |pointer: &str| at(line, pointer).as_u64().unwrap();
        let class = number("/class_uid");
        let own = match class {
            6003 => API,
            6005 => DATASTORE,
            other => panic!("class {other}"),
        };
        for pointer in EVERY.iter().chain(own) {
            assert!(!at(line, pointer).is_null(), "`{pointer}` is missing: {line}");
        }
        assert_eq!(number("/type_uid"), class * 100 + number("/activity_id"));
        assert_eq!(number("/category_uid"), class / 1_000);
        let one_of =
            |object: &str, names: &[&str]| names.iter().any(|name| !at(line, &format!("/{object}/{name}")).is_null());
        assert!(one_of("actor", ACTOR_ONE_OF) && one_of("src_endpoint", ENDPOINT_ONE_OF), "{line}");
        let defined: &[u64] = if class == 6003 { &[1, 2, 3, 4, 99] } else { &[1, 2, 3, 4, 5, 6, 7, 99] };
        assert!(defined.contains(&number("/activity_id")), "{line}");
        if number("/activity_id") == 99 && class == 6003 && at(line, "/unmapped/countersign/effect").is_null() {
            assert!(!at(line, "/activity_name").is_null(), "an activity of its own needs a name: {line}");
        }
    }
}

#[test]
fn ocsf_says_what_was_decided_and_what_became_of_it() {
    let lines = exported(Format::Ocsf, None);
    let of = |leaf: u64| lines.iter().find(|line| at(line, "/metadata/sequence") == leaf).unwrap();
    for (leaf, status, action, disposition) in
        [(0, 1, 1, 1), (2, 2, 2, 2), (3, 99, 0, 14), (6, 0, 1, 8), (9, 2, 2, 2), (10, 99, 1, 1)]
    {
        let line = of(leaf);
        let found = ["/status_id", "/action_id", "/disposition_id"].map(|pointer| at(line, pointer).as_u64().unwrap());
        assert_eq!(found, [status, action, disposition], "{line}");
    }
    assert_eq!(*at(of(2), "/status_code"), "code_freeze");
    assert_eq!(*at(of(5), "/actor/user/name"), "alice");
    assert_eq!(*at(of(0), "/duration"), 45);
    // An intent with its outcome is one line, and one without is told of last.
    assert!(!lines.iter().any(|line| at(line, "/metadata/sequence") == 1));
    assert_eq!(*at(lines.last().unwrap(), "/metadata/sequence"), 10);
    assert_eq!(*at(of(9), "/count"), 3);
}

#[test]
fn spans_have_genai_names_and_the_callers_trace() {
    let lines = exported(Format::Otel, None);
    let spans: Vec<&Value> = lines.iter().map(|line| at(line, "/resourceSpans/0/scopeSpans/0/spans/0")).collect();
    let attribute = |span: &Value, key: &str| {
        let all = at(span, "/attributes").as_array().unwrap();
        let found = all.iter().find(|attribute| *at(attribute, "/key") == key);
        found.map(|found| at(found, "/value/stringValue").as_str().unwrap_or_default().to_owned())
    };
    let span_of = |leaf: u64| {
        let id = format!("example.com/log:{leaf}");
        *spans.iter().find(|span| attribute(span, "gen_ai.tool.call.id").as_deref() == Some(&*id)).unwrap()
    };
    for span in &spans {
        assert_eq!(attribute(span, "gen_ai.operation.name").as_deref(), Some("execute_tool"));
        assert_eq!(*at(span, "/name"), format!("execute_tool {}", attribute(span, "gen_ai.tool.name").unwrap()));
        for (pointer, length) in [("/traceId", 32), ("/spanId", 16)] {
            let id = at(span, pointer).as_str().unwrap();
            assert!(id.len() == length && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        }
        let time = |pointer: &str| at(span, pointer).as_str().unwrap().parse::<u128>().unwrap();
        assert!(time("/startTimeUnixNano") <= time("/endTimeUnixNano"));
    }
    let first = span_of(0);
    assert!(TRACE.contains(at(first, "/traceId").as_str().unwrap()));
    assert_eq!(*at(first, "/parentSpanId"), "b7ad6b7169203331");
    assert_eq!(*at(first, "/endTimeUnixNano"), format!("{}000000", START + 50));
    assert_eq!((at(first, "/status/code").as_u64(), attribute(first, "error.type")), (Some(1), None));
    let denied = span_of(2);
    assert!(at(denied, "/parentSpanId").is_null());
    assert_eq!(attribute(denied, "error.type").as_deref(), Some("code_freeze"));
    assert_eq!(*at(span_of(6), "/status/message"), "unknown");
    assert_eq!(at(span_of(3), "/traceId"), at(denied, "/traceId"), "a run is one trace");
    assert_eq!(exported(Format::Otel, None), lines, "the same log, the same spans");
}

#[test]
fn a_claimed_trace_counts_only_where_it_is_one() {
    for claim in [
        "",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "00-0af7651916cd43dd8448eb211c80319c",
    ] {
        assert_eq!(super::otel::traceparent(claim), None, "{claim}");
    }
    assert!(super::otel::traceparent(TRACE).is_some());
}

#[test]
fn until_ends_what_is_told() {
    let lines = exported(Format::Ocsf, Some(TimeMs(START + 10)));
    let told: Vec<_> = lines.iter().map(|line| at(line, "/metadata/sequence").as_u64().unwrap()).collect();
    assert_eq!(told, [0], "the outcome of a call before it still counts");
    assert_eq!(*at(&lines[0], "/status"), "done");
}
