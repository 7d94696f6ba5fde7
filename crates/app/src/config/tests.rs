//! What the configuration accepts, and what every refusal says.

use std::path::Path;

use super::{Config, duration_ms};

const GOOD: &str = "
version: 1
tenant: acme
origin: countersign.local/acme
listen: 127.0.0.1:7411
policy: [policy.cedar]
agents: [{id: coder, groups: [coders]}]
upstreams:
  - id: crm
    target: crm
    environment: production
    command: [sqlite-server, crm.db]
    tools:
      query: {arguments: {sql: sql.sqlite}}
budgets: [{scope: run, calls: 100}, {scope: agent, calls: 1000, window: 1d, agents: [coder]}]
";

fn check(from: &str, to: &str, want: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy.cedar"), "").unwrap();
    let text = GOOD.replace(from, to);
    assert!(from == to || text != GOOD, "`{from}` is not in the text");
    let got = match Config::parse(&text, folder.path()) {
        Ok(config) => format!("ok {}", config.hash.short()),
        Err(error) => format!("{error:#}"),
    };
    assert!(got.contains(want), "wanted `{want}`, got: {got}");
}

#[test]
fn accepts_and_refuses() {
    check("", "", "ok ");
    check("version: 1", "version: 2", "this build reads `version: 1`");
    check("tenant: acme", "tenant: acme\ntenants: x", "tenants");
    check("tenant: acme", "tenant: acme\nledger: {signer: 'unix:signer.sock'}", "ok ");
    check("tenant: acme", "tenant: acme\nledger: {signer: signer.sock}", "write `unix:`");
    check("tenant: acme", "tenant: acme\nledger: {signer: 'unix:'}", "write `unix:`");
    check("tenant: acme", "tenant: acme\nledger: {signers: 'unix:x'}", "signers");
    check("tenant: acme", "tenant: 'a b'", "printable ASCII");
    check("127.0.0.1:7411", "0.0.0.0:7411", "not a loopback address");
    check("127.0.0.1:7411", "somewhere", "is no address");
    check("agents: [{id: coder, groups: [coders]}]", "agents: []", "`agents` is empty");
    check("[policy.cedar]", "[nowhere.cedar]", "nowhere.cedar");
    check("[policy.cedar]", "[]", "names no file");
    check("sql: sql.sqlite", "sql: sql.oracle", "oracle");
    check("sql: sql.sqlite", "sql: sequel", "`sequel` is no kind of argument; use one of plain, sql.sqlite, shell");
    check("version: 1", "version: 1\nindex: {full_text: true}", "ok ");
    check("version: 1", "version: 1\nindex: {fulltext: true}", "fulltext");
    let approvals = |url: &str| format!("version: 1\napprovals: {{url: '{url}'}}");
    check("version: 1", &approvals("https://approve.example/t/{ticket}"), "ok ");
    check("version: 1", &approvals("http://approve.example/t/{ticket}"), "no address of an approval page");
    check("scope: run", "scope: planet", "use run, session, agent or tenant");
    check("window: 1d", "window: 1 day", "is no duration");
    let witness = |entries: &str| format!("tenant: acme\nwitnesses: [{entries}]");
    let key = "w+4d2c5a4c+BAAA";
    check("tenant: acme", &witness(&format!("{{name: w, url: 'http://127.0.0.1:1', key: '{key}'}}")), "in witness `w`");
    check("tenant: acme", &witness("{name: w, url: 'ftp://w.example', key: k}"), "is no URL");
    check("tenant: acme", &witness("{name: w, url: 'http://w.example'}"), "key");
    let good = "example.com/w1+6dffb260+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs";
    let entry = |name: &str| format!("{{name: {name}, url: 'https://w.example/sub', key: '{good}'}}");
    check("tenant: acme", &witness(&entry("w")), "ok ");
    check("tenant: acme", &witness(&format!("{}, {}", entry("w"), entry("v"))), "twice");
    let log = "example.com/log+cc714670+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    check(
        "tenant: acme",
        &witness(&format!("{{name: w, url: 'http://w.example', key: '{log}'}}")),
        "not that of a witness",
    );
    check("tenant: acme", "tenant: acme\nwitness_timeout: soon", "in `witness_timeout`");
    check("agents: [coder]}", "agents: [other]}", "which is not in `agents`");
    check("command: [sqlite-server, crm.db]", "url: 'http://127.0.0.1:1/mcp'", "ok ");
    check("command: [sqlite-server, crm.db]", "env: {A: b}", "needs either a `command`");
    check(
        "command: [sqlite-server, crm.db]",
        "url: 'http://127.0.0.1:1/mcp'\n    credential: {header: Authorization, from: 'plain-secret'}",
        "is no reference",
    );
}

#[test]
fn several_upstreams_can_be_told_apart() {
    let upstreams = |ids: &[&str]| {
        let entries: String = ids
            .iter()
            .map(|id| format!("\n  - {{id: {id}, target: {id}, environment: production, command: [server]}}"))
            .collect();
        format!("upstreams:{entries}\nbudgets:")
    };
    let whole = GOOD.split_once("upstreams:").and_then(|(_, rest)| rest.split_once("budgets:")).map(|(own, _)| own);
    let own = format!("upstreams:{}budgets:", whole.unwrap());
    check(&own, &upstreams(&["crm", "files-2"]), "ok ");
    check(&own, &upstreams(&["a_b"]), "ok ");
    check(&own, &upstreams(&["crm", "a_b"]), "`a_b` cannot stand before names of tools");
    check(&own, &upstreams(&["crm", "crm"]), "upstream `crm` is listed twice");
    let many: Vec<String> = (0..33).map(|n| format!("u{n}")).collect();
    check(&own, &upstreams(&many.iter().map(String::as_str).collect::<Vec<_>>()), "a gateway has 1 to 32");
}

#[test]
fn the_door_for_agents_is_what_it_says() {
    check("version: 1", "version: 1\nsocket: mcp.sock", "ok ");
    check("version: 1", "version: 1\nsocket: ''", "`socket` is empty");
    check("version: 1", "version: 1\nmethods: [com.example/do]", "ok ");
    check("version: 1", "version: 1\nmethods: ['a b']", "in `methods`");
    check("version: 1", "version: 1\nextensions: [io.modelcontextprotocol/skills]", "ok ");
    check("version: 1", "version: 1\nextensions: [skills]", "write `PREFIX/NAME`");
    check("version: 1", "version: 1\nextensions: [a/b c]", "write `PREFIX/NAME`");
    check("version: 1", "version: 1\nextensions: [io.modelcontextprotocol/ui]", "passes in any case");
    for known in ["tools/call", "ping", "resources/read", "notifications/message"] {
        check(
            "version: 1",
            &format!("version: 1\nmethods: [{known}]"),
            "which passes or is refused as the protocol has it",
        );
    }
}

const TOKEN: &str = "credential: {header: Authorization, from: 'file:policy.cedar'}";

#[test]
fn an_upstream_is_reached_as_it_says() {
    let command = "command: [sqlite-server, crm.db]";
    for (to, want) in [
        ("url: http://h/mcp", "ok "),
        ("url: \"unix:/run/crm.sock:/mcp\"", "ok "),
        ("url: http://h/sse\n    transport: sse", "ok "),
        ("url: http://h/mcp\n    transport: http\n    era: modern", "ok "),
        ("command: [a]\n    era: auto\n    questions: [roots, sampling, elicitation]", "ok "),
        ("url: ftp://h/", "is neither an http or https URL"),
        ("url: \"unix:run/crm.sock:/mcp\"", "nor `unix:SOCKET:PATH`"),
        ("url: http://h/sse\n    transport: websocket", "write `http` or `sse`"),
        ("command: [a]\n    transport: http", "`transport` is for a `url`"),
        ("url: http://h/sse\n    transport: sse\n    era: auto", "that transport is of the legacy era"),
        ("command: [a]\n    era: 2026", "write `auto`, `legacy` or `modern`"),
        ("command: [a]\n    questions: [tools]", "`questions` lists `sampling`, `elicitation` and `roots`"),
        ("url: http://h/mcp\n    questions: [roots]", "`questions` of upstream `crm` is for a `command`"),
        ("url: http://h/mcp\n    env: {A: b}", "`env` is for a `command`"),
    ] {
        check(command, to, want);
    }
}

#[test]
fn one_credential_opens_one_environment_unless_somebody_says_why() {
    let upstream = |more: &str| format!("url: 'http://127.0.0.1:1/mcp'\n    {TOKEN}{more}");
    let staging = |more: &str| {
        let text = upstream(more);
        let tool = "\n    tools:\n      query: {target: lab, environment: staging, arguments: {sql: sql.sqlite}}\n";
        (text, tool)
    };
    let check_both = |more: &str, want: &str| {
        let (text, tool) = staging(more);
        let from = "command: [sqlite-server, crm.db]\n    tools:\n      query: {arguments: {sql: sql.sqlite}}\n";
        check(from, &format!("{text}{tool}"), want);
    };
    check("command: [sqlite-server, crm.db]", &upstream(""), "ok ");
    check_both("", "`file:policy.cedar` of upstream `crm` opens targets in production and staging");
    check_both("\n    shared_environments: [production, staging]", "needs a `reason`");
    check_both("\n    shared_environments: [production]\n    reason: one", "opens targets in");
    check_both("\n    shared_environments: [production, staging]\n    reason: one account only", "ok ");
}

#[test]
fn bindings_in_a_file_are_bindings_and_are_hashed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy.cedar"), "").unwrap();
    let parsed = |more: &str, file: &str| {
        std::fs::write(folder.path().join("crm.yaml"), file).unwrap();
        let text = GOOD.replace("target: crm\n", &format!("target: crm\n    bindings: {more}\n"));
        Config::parse(&text, folder.path())
    };
    let good = "upstream: crm\ntools: {look: {effect: read, arguments: {id: plain}}}";
    let config = parsed("crm.yaml", good).unwrap();
    let names: Vec<_> = config.upstreams[0].tools.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["look", "query"]);
    let other = parsed("crm.yaml", &format!("{good}\n# a comment")).unwrap();
    assert_ne!(config.hash, other.hash);
    for (name, file, want) in [
        ("crm.yaml", good.replace("look", "query"), "bound in the configuration and in `crm.yaml`"),
        ("crm.yaml", good.replace("crm", "erp"), "those of upstream `erp`"),
        ("crm.yaml", good.replace("effect", "efect"), "efect"),
        ("crm.yaml", good.replace("tools", "tool"), "tool"),
        ("gone.yaml", good.to_owned(), "countersign tools bind crm"),
    ] {
        let error = format!("{:#}", parsed(name, &file).unwrap_err());
        assert!(error.contains(want), "wanted `{want}`, got: {error}");
    }
}

#[test]
fn bindings_say_what_arguments_are_and_what_results_are_labelled() {
    let tool = |keys: &str| format!("query: {{effect: write, {keys}}}");
    let binding = |keys: &str, want: &str| check("query: {arguments: {sql: sql.sqlite}}", &tool(keys), want);
    binding(
        "arguments: {a: shell, b: path, c: host, d: recipient, e: amount, f: amount.minor, g: count, h: current, i: plain}",
        "ok ",
    );
    binding("arguments: {options.replicas: count, options.now: current, 'a\\.b': plain}", "ok ");
    binding("arguments: {options: plain, options.replicas: count}", "ok ");
    binding(
        "arguments: {options: path, options.replicas: count}",
        "argument `options` has an empty name, or is declared",
    );
    binding("arguments: {a..b: path}", "argument `a..b` has an empty name");
    binding("arguments: {a: sql.postgres}", "in argument `a: sql.postgres`: `postgres` is no dialect");
    binding("arguments: {a: amount.major}", "`amount.major` is no kind of argument");
    binding("labels: [private, untrusted], trusted: [status]", "ok ");
    binding("labels: [Private]", "label `Private` is no word");
    binding("labels: [a, b, c, d, e, f, g, h, i]", "at most 8 fit a tool");
    binding(&format!("labels: [{}]", "x".repeat(33)), "is no word");
    let many: Vec<String> = (0..33).map(|n| format!("t{n}: {{effect: read, labels: [l{n}]}}")).collect();
    check("query: {arguments: {sql: sql.sqlite}}", &many.join("\n      "), "33 different `labels`");
}

#[test]
fn durations() {
    for (text, want) in [
        ("90s", Some(90_000)),
        ("15m", Some(900_000)),
        ("7d", Some(604_800_000)),
        ("250ms", Some(250)),
        ("0s", None),
        ("m", None),
        ("-1s", None),
        ("99999999999999999999d", None),
    ] {
        assert_eq!(duration_ms(text).ok(), want, "{text}");
    }
}

#[test]
fn one_target_has_one_environment() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy.cedar"), "").unwrap();
    let text = GOOD.replace("query: {", "query: {environment: staging, ");
    let error = Config::parse(&text, folder.path()).unwrap().targets().unwrap_err();
    assert!(error.to_string().contains("`production` and in `staging`"), "{error}");
    assert!(Config::load(Path::new("/nowhere/countersign.yaml")).is_err());
}

/// A method is bound like a tool, and the operator's word covers the parameters that the protocol defines for it.
#[test]
fn a_method_is_bound_like_a_tool() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "version: 1\nrules:\n  - { id: reads, tools: [resources/read], effects: [read], then: allow }\n";
    std::fs::write(folder.path().join("policy.yaml"), policy).unwrap();
    let text = GOOD.replace("policy.cedar", "policy.yaml").replace(
        "      query:",
        "      resources/read: {effect: read}\n      prompts/get: {effect: read, arguments: {arguments.path: path}}\n      query:",
    );
    let config = Config::parse(&text, folder.path()).unwrap();
    let arguments = |tool: &str| -> Vec<String> {
        config.upstreams[0].tools[&tool.parse().unwrap()].arguments.keys().cloned().collect()
    };
    assert_eq!(arguments("resources/read"), ["uri"]);
    assert_eq!(arguments("prompts/get"), ["arguments.path", "name"]);
    assert_eq!(arguments("query"), ["sql"]);
    let bundle = crate::compose::bundle(&config).unwrap();
    let may = |tool: &str| {
        let upstream = "crm".parse().unwrap();
        bundle.may_ever(&"coder".parse().unwrap(), (&upstream, &tool.parse().unwrap()), &"crm".parse().unwrap())
    };
    assert!(may("resources/read") && !may("prompts/get") && !may("roots/list"));
}
