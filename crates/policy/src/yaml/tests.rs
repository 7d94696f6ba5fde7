//! What each form compiles to, and what is complained about.

use countersign_kernel::policy::{AgentDef, Bundle, PatternKind, PolicySource, TargetDef, ToolDef};
use expect_test::{Expect, expect};

use super::{Compiled, Known, compile};

pub(super) fn source() -> PolicySource {
    let agent = |id: &str, groups: &[&str]| AgentDef {
        id: id.parse().unwrap(),
        groups: groups.iter().map(ToString::to_string).collect(),
    };
    let target =
        |id: &str, environment: &str| TargetDef { id: id.parse().unwrap(), environment: environment.parse().unwrap() };
    let tool = |upstream: &str, tool: &str| ToolDef::named(upstream.parse().unwrap(), tool.parse().unwrap());
    PolicySource {
        agents: vec![agent("shop", &["agents"]), agent("dba", &["agents", "dbas"]), agent("intern", &[])],
        targets: vec![target("crm", "production"), target("lab", "staging")],
        tools: vec![tool("crm", "query"), tool("crm", "send_mail"), tool("k8s", "scale")],
        ..PolicySource::default()
    }
}

/// Compiles, and loads what comes out: nothing may compile that the kernel refuses.
pub(super) fn compiled(text: &str) -> Compiled {
    let compiled = compile("p.yaml", text, &Known::of(&source())).unwrap_or_else(|problems| panic!("{problems}"));
    loaded(&compiled);
    compiled
}

pub(super) fn loaded(compiled: &Compiled) -> Bundle {
    let source = PolicySource {
        policies: vec![(compiled.file.clone(), compiled.cedar())],
        patterns: compiled.patterns.clone(),
        ..source()
    };
    Bundle::load(&source).unwrap_or_else(|error| panic!("{error}\n{}", compiled.cedar()))
}

fn cedar(text: &str, expected: &Expect) {
    let compiled = compiled(text);
    let mut out = String::new();
    for pattern in &compiled.patterns {
        let argument = pattern.argument.as_ref().map_or_else(String::new, |argument| format!(" of `{argument}`"));
        out.push_str(&format!("pattern {} is {:?} {:?}{argument}\n", pattern.id, pattern.kind, pattern.text));
    }
    for policy in &compiled.policies {
        out.push_str(&policy.cedar);
    }
    for warning in &compiled.warnings {
        out.push_str(&format!("warning, line {}: {}\n", warning.span.line, warning.message));
    }
    expected.assert_eq(&out);
}

fn complaints(text: &str, expected: &Expect) {
    let problems = compile("p.yaml", text, &Known::of(&source())).expect_err("it should not compile");
    expected.assert_eq(&problems.lines());
}

#[test]
fn a_rule_that_allows_asks_for_an_understood_call_and_nothing_but_its_list() {
    cedar(
        "version: 1\nrules:\n  - { id: reads, agents: [shop], effects: [read], environments: [staging], when: { tables: [orders, items] }, then: allow }\n",
        &expect![[r#"
            @id("reads")
            permit (
              principal == Agent::"shop",
              action in [Action::"call"],
              resource in Environment::"staging"
            )
            when
            {
              (!context.opaque) &&
              ((context.effect == "read") && ((!context.tables.isEmpty()) && ["orders", "items"].containsAll(context.tables)))
            };
        "#]],
    );
}

#[test]
fn a_rule_that_denies_takes_what_was_not_understood_for_the_worst() {
    cedar(
        "version: 1\nrules:\n  - { id: no-drops, when: { kinds: [drop_table], leases: 1 }, then: deny }\n"
            .replace(", leases: 1", "")
            .as_str(),
        &expect![[r#"
            @id("no-drops")
            forbid (
              principal,
              action in [Action::"call"],
              resource
            )
            when { context.opaque || context.kinds.contains("drop_table") };
        "#]],
    );
}

#[test]
fn an_approval_is_a_permit_and_a_gate() {
    cedar(
        "version: 1
rules:
  - id: big
    description: Large payments wait.
    groups: [agents]
    tools: [crm/*, k8s/scale]
    effects: [spend]
    when: { amount: '> 100.5', recipients: '>= 2', replicas: '> 1.5x current', changes: '> 2 in 10m', new_hosts: true, run_labels: [private, untrusted] }
    unless: { lease: surgery, lease_minutes: '< 30' }
    then: require_approval
    gate: { name: big money, approvers: [ann, bob], quorum: 2, timeout: 30m, notify: ops }
    obligations: { max_rows: 10, redact: true, notify: audit }
",
        &expect![[r#"
            @description("Large payments wait.")
            @id("big")
            permit (
              principal in AgentGroup::"agents",
              action in [Action::"crm/query", Action::"crm/send_mail", Action::"k8s/scale"],
              resource
            )
            when
            {
              (!context.opaque) &&
              ((context.effect == "spend") &&
               ((context has amount_micros) && (100500000 < context.amount_micros)) &&
               (2 <= context.recipients) &&
               ((context has percent_of_current) && (150 < context.percent_of_current)) &&
               (2 < context.changes.ten_minutes) &&
               (!context.new_hosts.isEmpty()) &&
               context.run_labels.containsAll(["private", "untrusted"])) &&
              (!(context.leases.contains("surgery") && (if context has lease_minutes then context.lease_minutes < 30 else true)))
            };
            @approvers("ann,bob")
            @description("Large payments wait.")
            @gate("big money")
            @id("big.gate")
            @notify("ops")
            @quorum("2")
            @timeout("30m")
            forbid (
              principal in AgentGroup::"agents",
              action in [Action::"crm/query", Action::"crm/send_mail", Action::"k8s/scale", Action::"unbound"],
              resource
            )
            when
            {
              ((action in [Action::"crm/query", Action::"crm/send_mail", Action::"k8s/scale"]) || (context.upstream == "crm")) &&
              ((2 < context.changes.ten_minutes) &&
               context.run_labels.containsAll(["private", "untrusted"]) &&
               (context.opaque ||
                ((context.effect == "spend") &&
                 (if context has amount_micros then 100500000 < context.amount_micros else true) &&
                 (2 <= context.recipients) &&
                 (if context has percent_of_current then 150 < context.percent_of_current else true) &&
                 (!context.new_hosts.isEmpty())))) &&
              (!(context.leases.contains("surgery") && ((context has lease_minutes) && (context.lease_minutes < 30))))
            };
            @description("Large payments wait.")
            @id("big.obligation.max_rows")
            @obligation("max_rows")
            @value("10")
            permit (
              principal in AgentGroup::"agents",
              action in [Action::"crm/query", Action::"crm/send_mail", Action::"k8s/scale", Action::"unbound"],
              resource
            )
            when
            {
              ((action in [Action::"crm/query", Action::"crm/send_mail", Action::"k8s/scale"]) || (context.upstream == "crm")) &&
              ((2 < context.changes.ten_minutes) &&
               context.run_labels.containsAll(["private", "untrusted"]) &&
               (context.opaque ||
                ((context.effect == "spend") &&
                 (if context has amount_micros then 100500000 < context.amount_micros else true) &&
                 (2 <= context.recipients) &&
                 (if context has percent_of_current then 150 < context.percent_of_current else true) &&
                 (!context.new_hosts.isEmpty())))) &&
              (!(context.leases.contains("surgery") && ((context has lease_minutes) && (context.lease_minutes < 30))))
            };
            @description("Large payments wait.")
            @id("big.obligation.redact")
            @obligation("redact")
            permit (
              principal in AgentGroup::"agents",
              action in [Action::"crm/query", Action::"crm/send_mail", Action::"k8s/scale", Action::"unbound"],
              resource
            )
            when
            {
              ((action in [Action::"crm/query", Action::"crm/send_mail", Action::"k8s/scale"]) || (context.upstream == "crm")) &&
              ((2 < context.changes.ten_minutes) &&
               context.run_labels.containsAll(["private", "untrusted"]) &&
               (context.opaque ||
                ((context.effect == "spend") &&
                 (if context has amount_micros then 100500000 < context.amount_micros else true) &&
                 (2 <= context.recipients) &&
                 (if context has percent_of_current then 150 < context.percent_of_current else true) &&
                 (!context.new_hosts.isEmpty())))) &&
              (!(context.leases.contains("surgery") && ((context has lease_minutes) && (context.lease_minutes < 30))))
            };
            @description("Large payments wait.")
            @id("big.obligation.notify")
            @obligation("notify")
            @value("audit")
            permit (
              principal in AgentGroup::"agents",
              action in [Action::"crm/query", Action::"crm/send_mail", Action::"k8s/scale", Action::"unbound"],
              resource
            )
            when
            {
              ((action in [Action::"crm/query", Action::"crm/send_mail", Action::"k8s/scale"]) || (context.upstream == "crm")) &&
              ((2 < context.changes.ten_minutes) &&
               context.run_labels.containsAll(["private", "untrusted"]) &&
               (context.opaque ||
                ((context.effect == "spend") &&
                 (if context has amount_micros then 100500000 < context.amount_micros else true) &&
                 (2 <= context.recipients) &&
                 (if context has percent_of_current then 150 < context.percent_of_current else true) &&
                 (!context.new_hosts.isEmpty())))) &&
              (!(context.leases.contains("surgery") && ((context has lease_minutes) && (context.lease_minutes < 30))))
            };
        "#]],
    );
}

#[test]
fn sekuire() {
    cedar(
        "actions:
  - { name: crm/query, environment: staging, effect: allow }
  - { name: send_mail, requires_approval: [ann] }
  - { name: 'k8s/*', environment: production, effect: deny }
",
        &expect![[r#"
            @description("crm/query")
            @id("p.1")
            permit (
              principal,
              action in [Action::"crm/query"],
              resource in Environment::"staging"
            )
            when { !context.opaque };
            @description("send_mail")
            @id("p.2")
            permit (
              principal,
              action in [Action::"crm/send_mail"],
              resource
            )
            when { !context.opaque };
            @approvers("ann")
            @description("send_mail")
            @gate("send_mail needs approval")
            @id("p.2.gate")
            forbid (
              principal,
              action in [Action::"crm/send_mail"],
              resource
            );
            @description("k8s/*")
            @id("p.3")
            forbid (
              principal,
              action in [Action::"k8s/scale", Action::"unbound"],
              resource in Environment::"production"
            )
            when { (action in Action::"k8s/scale") || (context.upstream == "k8s") };
        "#]],
    );
}

#[test]
fn expacti() {
    cedar(
        "rules:
  - { pattern: 'SELECT * FROM', match: prefix, action: allow, notify: ops }
  - { pattern: git push, action: require_approval, notify: true }
  - { pattern: '/^rm -rf/', action: deny }
  - { pattern: 'DROP TABLE *', action: deny }
",
        &expect![[r#"
            pattern p.1 is Prefix "SELECT * FROM"
            pattern p.2 is Regex "(?is)git\\s+push"
            pattern p.2.as-written is Exact "git push"
            pattern p.3 is Regex "(?i)^rm -rf"
            pattern p.3.as-text is Regex "(?is)/\\^rm\\s+\\-rf/"
            pattern p.4 is Regex "(?is)DROP\\s+TABLE\\s+.*"
            @description("SELECT * FROM")
            @id("p.1")
            permit (
              principal,
              action in [Action::"call"],
              resource
            )
            when { (!context.opaque) && context.matched.contains("p.1") };
            @description("SELECT * FROM")
            @id("p.1.obligation.notify")
            @obligation("notify")
            @value("ops")
            permit (
              principal,
              action in [Action::"call"],
              resource
            )
            when { context.matched.contains("p.1") };
            @description("git push")
            @id("p.2")
            permit (
              principal,
              action in [Action::"call"],
              resource
            )
            when { (!context.opaque) && (context.matched.contains("p.2") && context.matched.contains("p.2.as-written")) };
            @description("git push")
            @gate("git push needs approval")
            @id("p.2.gate")
            @notify("default")
            forbid (
              principal,
              action in [Action::"call"],
              resource
            )
            when { context.matched.contains("p.2") };
            @description("/^rm -rf/")
            @id("p.3")
            forbid (
              principal,
              action in [Action::"call"],
              resource
            )
            when { context.matched.containsAny(["p.3", "p.3.as-text"]) };
            @description("DROP TABLE *")
            @id("p.4")
            forbid (
              principal,
              action in [Action::"call"],
              resource
            )
            when { context.matched.contains("p.4") };
            warning, line 2: raw text is the only guard of what this rule permits
            warning, line 3: what `p.1` allows further up is held for approval where this rule matches too
            warning, line 3: raw text is the only guard of what this rule permits
            warning, line 3: the rule does not say how its pattern matches; it is read as exact, found anywhere whatever the case and spaces
            warning, line 4: what `p.1` allows further up is denied where this rule matches too
            warning, line 4: the rule does not say how its pattern matches; it is read as regex and as plain text too, found anywhere whatever the case and spaces
            warning, line 5: what `p.1` allows further up is denied where this rule matches too
            warning, line 5: the rule does not say how its pattern matches; it is read as glob, found anywhere whatever the case and spaces
        "#]],
    );
}

#[test]
fn all_problems_at_once() {
    complaints(
        "version: 1
rules:
  - { id: a b, tool: [crm/query], then: allow }
  - { id: x, agents: [shpo], tools: [crm/qery], effects: [destructiv], then: denny }
  - { id: y, when: { amount: 100, hosts: ['*.example.com'], tables: [Orders] }, then: deny, gate: { quorum: 0 } }
  - { when: { matched: [nope], replicas: '> 2 current' } }
budgets: [{ scope: runs, calls: -1 }]
",
        &expect![[r#"
            p.yaml:3: the id of a rule: a policy id is made of printable ASCII without spaces, quotes, backslashes and commas; `a b` is not; use letters, digits and dashes
            p.yaml:3: a rule has no key `tool`; did you mean `tools`?
            p.yaml:4: `agents` names `shpo`, which the configuration does not know; did you mean `shop`?
            p.yaml:4: no tool `crm/qery` is bound; did you mean `crm/query`?
            p.yaml:4: `destructiv` is not known as an effect; did you mean `destructive`?
            p.yaml:4: `denny` is not known as what a rule does; did you mean `deny`?
            p.yaml:5: `amount` cannot be compared with `a whole number`; write an operator (>, >=, <, <=, ==) and a number, such as "> 100.50"
            p.yaml:5: `hosts` are compared whole, and `*.example.com` has a `*`; list the names, or give `patterns` a glob or a regex and name it in `matched`
            p.yaml:5: `tables` are spelled in lower case, and `Orders` is not; write `orders`
            p.yaml:5: `gate` stands in a rule that asks nobody; write `then: require_approval` (may run with consent) or `then: gate` (what others allow waits)
            p.yaml:5: a quorum is a number above zero; write `quorum: 1`
            p.yaml:6: the rule does nothing; write `then:` and one of allow, deny, require_approval, gate
            p.yaml:6: the rule has no `id`; give it one: it is the rule's name in every record
            p.yaml:6: no pattern of this file is called `nope`; declare it under `patterns`
            p.yaml:6: `replicas` cannot be compared with `> 2 current`; write an operator (>, >=, <, <=, ==) and a number, such as "> 2x current" or "> 1.5x previous"
            p.yaml:7: `runs` is not known as the scope of a budget; did you mean `run`?
            p.yaml:7: `calls` is negative; write a whole number from zero"#]],
    );
}

/// Each name alone in a rule, with what is said of it.
fn named(lines: &[(&str, &str)], expected: &Expect) {
    let mut out = String::new();
    for (key, name) in lines {
        let text = format!("version: 1\nrules:\n  - {{ id: a, when: {{ {key}: ['{name}'] }}, then: deny }}\n");
        let said = compile("p", &text, &Known::of(&source())).map_or_else(|all| all.lines(), |_| "fine".to_owned());
        out.push_str(&format!("{key} {name} | {said}\n"));
    }
    expected.assert_eq(&out);
}

#[test]
fn a_name_that_no_facts_can_spell_so_is_a_problem() {
    named(
        &[
            ("programs", "/bin/rm"),
            ("programs", "rm -rf"),
            ("programs", "--"),
            ("kinds", "drop"),
            ("kinds", "drop table"),
            ("kinds", "drop_tabel"),
            ("kinds", "DROP_TABLE"),
            ("kinds", "vacuum"),
            ("hosts", "127.1"),
            ("hosts", "example.com."),
            ("hosts", "Example.com:443"),
            ("hosts", "2001:db8:0:0:0:0:0:1"),
            ("new_hosts", "::ffff:10.0.0.1"),
            ("hosts", "münchen.example"),
            ("recipient_domains", "Example.com"),
            ("recipient_domains", "10.0.0.1"),
            ("recipient_domains", "ann@example.com"),
            ("paths", "/etc/"),
            ("paths", "/etc/../x"),
            ("paths", "~/x"),
            ("tables", "main.users"),
            ("previous_tool", "query"),
            ("previous_tool", "crm/qery"),
        ],
        &expect![[r#"
            programs /bin/rm | p:3: `programs` are base names, and `/bin/rm` is none; write `rm`; for what follows it, give `patterns` a text and name it in `matched`
            programs rm -rf | p:3: `programs` are base names, and `rm -rf` is none; write `rm`; for what follows it, give `patterns` a text and name it in `matched`
            programs -- | p:3: `programs` are base names, and `--` is none; write the name alone, without folder and arguments
            kinds drop | p:3: `drop` is not known as a kind of statement; write one of drop_index, drop_table, drop_view, drop_database, drop_schema
            kinds drop table | p:3: `drop table` is not known as a kind of statement; did you mean `drop_table`?
            kinds drop_tabel | p:3: `drop_tabel` is not known as a kind of statement; did you mean `drop_table`?
            kinds DROP_TABLE | p:3: `DROP_TABLE` is not known as a kind of statement; did you mean `drop_table`?
            kinds vacuum | p:3: `vacuum` is not known as a kind of statement; write one of alter_table, create_index, create_table, create_view, delete, drop_index, drop_table, drop_view, explain, insert, select, update, upsert
            hosts 127.1 | p:3: `127.1` is no host as facts spell it; write `127.0.0.1`
            hosts example.com. | p:3: `example.com.` is no host as facts spell it; write `example.com`
            hosts Example.com:443 | p:3: `Example.com:443` is no host as facts spell it; write `example.com`
            hosts 2001:db8:0:0:0:0:0:1 | p:3: `2001:db8:0:0:0:0:0:1` is no host as facts spell it; write `2001:db8::1`
            new_hosts ::ffff:10.0.0.1 | p:3: `::ffff:10.0.0.1` is no host as facts spell it; write `10.0.0.1`
            hosts münchen.example | p:3: `münchen.example` is no host as facts spell it; write the host alone, in ASCII (punycode), without scheme, user, port and path; no call can name another
            recipient_domains Example.com | p:3: `Example.com` is no domain of a recipient as facts spell it; write `example.com`
            recipient_domains 10.0.0.1 | p:3: `10.0.0.1` is no domain of a recipient as facts spell it; write the host alone, in ASCII (punycode), without scheme, user, port and path; no call can name another
            recipient_domains ann@example.com | p:3: `ann@example.com` is no domain of a recipient as facts spell it; write the host alone, in ASCII (punycode), without scheme, user, port and path; no call can name another
            paths /etc/ | p:3: `/etc/` is no path as facts spell it; write `/etc`
            paths /etc/../x | p:3: `/etc/../x` is no path as facts spell it; write `/x`
            paths ~/x | p:3: `~/x` is no path as facts spell it; write a plain path in ASCII; a call that names another is opaque, and `patterns` look at its text
            tables main.users | p:3: `tables` leave out the schema `main`, and `main.users` has it; write `users`
            previous_tool query | p:3: `previous_tool` names `query`, and no tool is bound by that name; write `crm/query`
            previous_tool crm/qery | p:3: `previous_tool` names `crm/qery`, and no tool is bound by that name; did you mean `crm/query`?
        "#]],
    );
}

#[test]
fn names_as_facts_spell_them_are_fine() {
    named(
        &[
            ("programs", "g++"),
            ("programs", "X11"),
            ("kinds", "upsert"),
            ("kinds", "truncate"),
            ("hosts", "127.0.0.1"),
            ("hosts", "2001:db8::1"),
            ("new_hosts", "xn--mnchen-3ya.example"),
            ("recipient_domains", "example.com"),
            ("paths", "/etc/X11"),
            ("paths", "src"),
            ("tables", "temp.users"),
            ("previous_tool", "crm/query"),
        ],
        &expect![[r#"
            programs g++ | fine
            programs X11 | fine
            kinds upsert | fine
            kinds truncate | fine
            hosts 127.0.0.1 | fine
            hosts 2001:db8::1 | fine
            new_hosts xn--mnchen-3ya.example | fine
            recipient_domains example.com | fine
            paths /etc/X11 | fine
            paths src | fine
            tables temp.users | fine
            previous_tool crm/query | fine
        "#]],
    );
}

/// Whether a rule with this pattern, of which no `match` is said, meets a text: by any of the patterns that it is made of.
fn meets(pattern: &str, action: &str, text: &str) -> bool {
    let file = format!("rules: [{{ pattern: '{pattern}', action: {action} }}]\n");
    let compiled = compiled(&file);
    let cedar = compiled.cedar();
    let wide = compiled.patterns.iter().filter(|one| !one.id.as_str().ends_with(".as-written"));
    wide.filter(|one| cedar.contains(&format!("\"{}\"", one.id))).any(|one| match one.kind {
        PatternKind::Regex => regex::Regex::new(&one.text).unwrap().is_match(text),
        PatternKind::Exact => one.text == text,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_guess_makes_no_rule_laxer() {
    for action in ["deny", "require_approval"] {
        for (pattern, text) in [
            (r"del C:\Windows\*", r"del C:\Windows\system32"),
            ("delete_*[0-9]", "delete_users9"),
            ("delete_*[0-9]", "delete_9"),
            ("delete_*[!0-8]", "delete_users9"),
            ("cost in US$", "the cost in us$ is 5"),
            ("a|b", "x A|B y"),
            ("/etc/", "cat /etc/passwd"),
            (r"^rm\s+-rf", "rm   -rf /"),
        ] {
            assert!(meets(pattern, action, text), "{action} {pattern}: {text}");
        }
        assert!(!meets(r"del C:\Windows\*", action, "dir"), "{action}");
    }
    for (pattern, text, meant) in [
        ("/srv/agent/", "/srv/agent/../x", false),
        ("/srv/agent/", "srv/agent", true),
        ("a|b", "a", true),
        ("a|b", "a; rm", false),
        ("^SELECT .+", "SELECT 1", true),
        ("^SELECT", "SELECT 1", false),
        ("git .*$", "git status\nrm", false),
    ] {
        assert_eq!(meets(pattern, "allow", text), meant, "{pattern}: {text}");
    }
}

#[test]
fn what_is_said_of_a_match_stays() {
    let file = r"rules: [{ pattern: 'C:\\Windows', match: regex, action: deny }, { pattern: /srv/, match: regex, action: allow }]";
    let shown: Vec<String> =
        compiled(file).patterns.iter().map(|one| format!("{} {:?} {}", one.id, one.kind, one.text)).collect();
    assert_eq!(shown, [r"p.1 Regex C:\\Windows", "p.2 Regex srv"]);
}
