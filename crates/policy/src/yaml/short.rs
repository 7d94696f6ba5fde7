//! Our own short form: rules with conditions on facts, gates and obligations; patterns; budgets.
//!
//! It knows the keys of the form and turns each rule into one [`Rule`]. It must not know Cedar.

use std::collections::BTreeSet;

use countersign_kernel::policy::{
    CHANNEL_BYTES_MAX, COMPILED_BYTES_MAX, GATE_BYTES_MAX, PATTERN_BYTES_MAX, PatternDef, PatternKind, TIMEOUT_MS_MAX,
    duration_ms,
};
use countersign_kernel::{BudgetRule, BudgetScope};
use countersign_model::Effect;

use super::fact::{Fact, Names};
use super::node::{Node, Value};
use super::read::{Fields, Reader, Spoken};
use super::rule::{Duty, GateSpec, Rule, Then};
use super::{Compiling, Known};

const RULE_KEYS: [&str; 13] = [
    "id",
    "description",
    "agents",
    "groups",
    "tools",
    "environments",
    "targets",
    "effects",
    "when",
    "unless",
    "then",
    "gate",
    "obligations",
];
const THEN: [(&str, Then); 4] =
    [("allow", Then::Allow), ("deny", Then::Deny), ("require_approval", Then::RequireApproval), ("gate", Then::Gate)];
const DUTIES: [&str; 7] = ["max_rows", "timeout", "redact", "undo", "witness", "sandbox", "notify"];

/// Reads a file of this form.
pub(crate) fn read(compiling: &mut Compiling<'_>, root: &Node) {
    let keys = ["version", "description", "rules", "patterns", "budgets"];
    let Some(fields) = compiling.reader.fields(root, "a policy file", &keys) else { return };
    match fields.get("version").map(|node| (&node.value, node.span)) {
        Some((Value::Int(1), _)) => {}
        Some((_, span)) => compiling.reader.fault(span, "this version is not known", "write `version: 1`"),
        None => compiling.reader.fault(root.span, "the file has no `version`", "begin it with `version: 1`"),
    }
    if let Some(node) = fields.get("description") {
        compiling.reader.text(node, "`description`");
    }
    if let Some(node) = fields.get("patterns") {
        patterns(compiling, node);
    }
    if let Some(node) = fields.get("rules") {
        for item in compiling.reader.items(node, "`rules`") {
            if let Some(rule) = rule(compiling, item) {
                compiling.rules.push(rule);
            }
        }
    }
    if let Some(node) = fields.get("budgets") {
        for item in compiling.reader.items(node, "`budgets`") {
            let budget = budget(compiling, item);
            compiling.budgets.extend(budget);
        }
    }
}

fn patterns(compiling: &mut Compiling<'_>, node: &Node) {
    let Some(all) = compiling.reader.map(node, "`patterns`") else { return };
    for (key, node) in all.all() {
        let reader = &mut compiling.reader;
        let id = reader.id(&Spoken { text: key.text.clone(), span: key.span }, "the id of a pattern");
        let keys = ["exact", "prefix", "glob", "regex", "argument"];
        let Some(fields) = reader.fields(node, "a pattern", &keys) else { continue };
        let mut given = PatternKind::WORDS.iter().filter_map(|(word, kind)| fields.get(word).map(|node| (*kind, node)));
        let (Some((kind, text)), None) = (given.next(), given.next()) else {
            reader.fault(node.span, "a pattern has one text", "write one of exact, prefix, glob or regex");
            continue;
        };
        let text = reader.text(text, "the text of a pattern");
        let argument = fields.get("argument").and_then(|node| reader.text(node, "`argument`"));
        if let (Some(id), Some(text)) = (id, text) {
            reader.pattern(&text, kind);
            let argument = argument.map(|argument| argument.text);
            compiling.patterns.push(PatternDef { id, kind, text: text.text, argument });
        }
    }
}

impl Reader {
    /// Whether a pattern can be used at all.
    pub(crate) fn pattern(&mut self, said: &Spoken, kind: PatternKind) {
        if said.text.len() > PATTERN_BYTES_MAX {
            self.fault(said.span, format!("a pattern has at most {PATTERN_BYTES_MAX} bytes"), "shorten it");
        } else if kind == PatternKind::Regex
            && let Err(error) = regex::RegexBuilder::new(&said.text).size_limit(COMPILED_BYTES_MAX).build()
        {
            let first = error.to_string();
            let last = first.lines().last().unwrap_or("").trim();
            self.fault(
                said.span,
                format!("this is no regular expression: {last}"),
                "correct it, or use `exact` or `glob`",
            );
        }
    }
}

fn rule(compiling: &mut Compiling<'_>, node: &Node) -> Option<Rule> {
    let fields = compiling.reader.fields(node, "a rule", &RULE_KEYS)?;
    let reader = &mut compiling.reader;
    let id = match fields.get("id") {
        Some(node) => reader.text(node, "`id`").and_then(|said| reader.id(&said, "the id of a rule")),
        None => {
            reader.fault(node.span, "the rule has no `id`", "give it one: it is the rule's name in every record");
            None
        }
    };
    let then = then(reader, fields);
    let mut rule = Rule::new(id.map_or_else(String::new, |id| id.to_string()), node.span, then.unwrap_or(Then::Deny));
    rule.description =
        fields.get("description").and_then(|node| reader.text(node, "`description`")).map(|said| said.text);
    names(compiling, fields, &mut rule);
    facts(compiling, fields, &mut rule);
    let reader = &mut compiling.reader;
    if let Some(node) = fields.get("gate") {
        if matches!(then, Some(Then::Allow | Then::Deny | Then::Oblige)) {
            let help =
                "write `then: require_approval` (may run with consent) or `then: gate` (what others allow waits)";
            reader.fault(node.span, "`gate` stands in a rule that asks nobody", help);
        }
        rule.gate = gate(compiling, node);
    }
    let reader = &mut compiling.reader;
    if let Some(node) = fields.get("obligations") {
        if then == Some(Then::Deny) {
            reader.fault(
                node.span,
                "`obligations` stand in a rule that denies",
                "remove one of the two: what is denied has none",
            );
        }
        rule.duties = duties(reader, node);
    }
    then.filter(|_| !rule.id.is_empty()).map(|_| rule)
}

fn then(reader: &mut Reader, fields: Fields<'_>) -> Option<Then> {
    let words: Vec<&str> = THEN.iter().map(|(word, _)| *word).collect();
    match fields.get("then") {
        Some(node) => {
            let word = reader.word(node, "what a rule does", &words)?;
            THEN.iter().find(|(known, _)| *known == word).map(|(_, then)| *then)
        }
        None if fields.get("obligations").is_some() => Some(Then::Oblige),
        None => {
            let help = format!("write `then:` and one of {}", words.join(", "));
            reader.fault(fields.span, "the rule does nothing", help);
            None
        }
    }
}

fn names(compiling: &mut Compiling<'_>, fields: Fields<'_>, rule: &mut Rule) {
    let known = compiling.known;
    // A bundle names environments that this installation may not have; it only ever exempts them.
    let bundle = compiling.bundle;
    let reader = &mut compiling.reader;
    let parts = [
        ("agents", &mut rule.agents, Some(&known.agents)),
        ("groups", &mut rule.groups, Some(&known.groups)),
        ("targets", &mut rule.targets, Some(&known.targets)),
        ("environments", &mut rule.environments, Some(&known.environments).filter(|_| !bundle)),
    ];
    for (key, choice, known) in parts {
        if let Some(node) = fields.get(key) {
            *choice = reader.choice(node, &format!("`{key}`"), known);
        }
    }
    if let Some(node) = fields.get("tools") {
        (rule.tools, rule.not_tools) = reader.tools(node, known);
    }
}

fn facts(compiling: &mut Compiling<'_>, fields: Fields<'_>, rule: &mut Rule) {
    let declared: BTreeSet<String> = compiling.patterns.iter().map(|pattern| pattern.id.to_string()).collect();
    let reader = &mut compiling.reader;
    if let Some(node) = fields.get("effects") {
        let effects: Vec<&str> = Effect::ALL.iter().map(|effect| effect.as_str()).collect();
        let said = reader.texts(node, "`effects`");
        let known = said.iter().filter_map(|text| reader.among(text, "an effect", &effects)).map(str::to_owned);
        let known: Vec<String> = known.collect();
        if !known.is_empty() {
            rule.when.push(Fact::Effects(known));
        }
    }
    for (key, facts) in [("when", &mut rule.when), ("unless", &mut rule.unless)] {
        let Some(node) = fields.get(key) else { continue };
        let read = reader.conditions(node, &format!("`{key}`"));
        for fact in &read {
            if let Fact::OneOf { attribute: "previous_tool", values } = fact {
                previous_tools(reader, compiling.known, node, values);
            }
            if let Fact::Names { attribute: "matched", values, .. } = fact {
                for id in values.iter().filter(|id| !declared.contains(*id)) {
                    let help = super::problem::suggestion(
                        id,
                        declared.iter().map(String::as_str),
                        "declare it under `patterns`",
                    );
                    reader.fault(node.span, format!("no pattern of this file is called `{}`", id.escape_debug()), help);
                }
            }
        }
        facts.extend(read);
    }
    rule_checks(reader, rule);
}

/// Facts name what came before as `UPSTREAM/TOOL`.
fn previous_tools(reader: &mut Reader, known: &Known, node: &Node, values: &[String]) {
    for said in values {
        let full = known.tools.iter().map(|(upstream, tool)| format!("{upstream}/{tool}"));
        let full: Vec<String> = full.collect();
        if full.contains(said) {
            continue;
        }
        let ends = format!("/{said}");
        let meant: Vec<&str> = full.iter().map(String::as_str).filter(|name| name.ends_with(&ends)).collect();
        let help = if meant.is_empty() {
            let otherwise = "write `UPSTREAM/TOOL` of a tool that is bound";
            super::problem::suggestion(said, full.iter().map(String::as_str), otherwise)
        } else {
            format!("write {}", meant.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or "))
        };
        let message = format!("`previous_tool` names `{}`, and no tool is bound by that name", said.escape_debug());
        reader.fault(node.span, message, help);
    }
}

/// What is well formed and yet cannot be meant, or should be known.
fn rule_checks(reader: &mut Reader, rule: &Rule) {
    let opaque = |fact: &Fact| matches!(fact, Fact::Flag { attribute: "opaque", wanted: true });
    let understood = rule.when.iter().any(|fact| fact.understood() && !matches!(fact, Fact::Effects(_)));
    if rule.permits() && rule.admits_opaque() && understood {
        let help = "a call that was not understood has no such facts: write two rules";
        if rule.when.iter().any(opaque) {
            reader.fault(rule.span, "`opaque: true` stands beside conditions on what was understood", help);
        } else {
            reader.warn(rule.span, "the effect `opaque` stands beside conditions on what was understood", help);
        }
    }
    let matched =
        |fact: &Fact| matches!(fact, Fact::Names { attribute: "matched", test, .. } if *test != Names::NoneOf);
    if rule.permits() && rule.when.iter().any(matched) && !understood {
        reader.warn(
            rule.span,
            "raw text is the only guard of what this rule allows",
            "a text that matches may do more than it seems (`SELECT * FROM` as a prefix admits a second statement): \
             add a condition on facts, such as `kinds` or `tables`",
        );
    }
    let any = |fact: &Fact| matches!(fact, Fact::Names { test: Names::AnyOf, .. } if fact.understood());
    if rule.permits() && rule.when.iter().any(any) {
        let help = "a call that also names others is allowed too: write a bare list, or `all_in`";
        reader.warn(rule.span, "this rule allows what names any of a list", help);
    }
    let everywhere = rule.tools.is_none() && !rule.when.iter().any(|fact| matches!(fact, Fact::Effects(_)));
    let says = rule.when.iter().any(|fact| matches!(fact, Fact::Says { .. }));
    if !rule.permits() && everywhere && !says && rule.when.iter().any(Fact::may_lack) {
        reader.warn(
            rule.span,
            "a call that carries no such number counts as if it had the worst",
            "so this rule covers such calls of every tool: narrow it with `tools`, `effects` or `says`",
        );
    }
}

fn gate(compiling: &mut Compiling<'_>, node: &Node) -> GateSpec {
    let reader = &mut compiling.reader;
    let keys = ["name", "approvers", "quorum", "timeout", "notify"];
    let Some(fields) = reader.fields(node, "a gate", &keys) else { return GateSpec::default() };
    let name = fields.get("name").and_then(|node| reader.text(node, "the name of a gate"));
    if let Some(name) = name.as_ref().filter(|name| name.text.len() > GATE_BYTES_MAX) {
        reader.fault(name.span, format!("a gate's name has at most {GATE_BYTES_MAX} bytes"), "shorten it");
    }
    let said = fields.get("approvers").map_or_else(Vec::new, |node| reader.texts(node, "`approvers`"));
    let approvers = reader.humans(&said, compiling.known, node.span);
    let quorum = fields.get("quorum").and_then(|node| {
        let quorum = reader.count(node, "`quorum`")?;
        let enough = approvers.is_empty() || usize::try_from(quorum).is_ok_and(|quorum| quorum <= approvers.len());
        if quorum == 0 || u32::try_from(quorum).is_err() {
            reader.fault(node.span, "a quorum is a number above zero", "write `quorum: 1`");
        } else if !enough {
            let message = format!("the quorum asks for more than the {} approvers", approvers.len());
            reader.fault(node.span, message, "name more approvers, or lower the quorum");
        }
        Some(quorum)
    });
    let timeout = fields.get("timeout").and_then(|node| reader.duration(node, "`timeout`"));
    let notify = fields.get("notify").and_then(|node| reader.channel(node));
    GateSpec { name: name.map(|name| name.text), approvers, quorum, timeout, notify }
}

impl Reader {
    /// A duration from 1s to 30d, as it is written.
    pub(crate) fn duration(&mut self, node: &Node, what: &str) -> Option<String> {
        let said = self.text(node, what)?;
        if duration_ms(&said.text).is_some_and(|ms| ms <= TIMEOUT_MS_MAX) {
            return Some(said.text);
        }
        let message = format!("`{}` is no duration from 1s to 30d", said.text.escape_debug());
        self.fault(said.span, message, "write a number and s, m, h or d, such as `15m`");
        None
    }

    /// A channel that is told.
    pub(crate) fn channel(&mut self, node: &Node) -> Option<String> {
        let said = self.text(node, "`notify`")?;
        if said.text.len() > CHANNEL_BYTES_MAX || said.text.chars().any(char::is_control) {
            self.fault(
                said.span,
                format!("a channel has at most {CHANNEL_BYTES_MAX} bytes"),
                "name a channel, such as `ops`",
            );
        }
        Some(said.text)
    }
}

fn duties(reader: &mut Reader, node: &Node) -> Vec<Duty> {
    let Some(fields) = reader.fields(node, "`obligations`", &DUTIES) else { return Vec::new() };
    let mut all = Vec::new();
    for name in DUTIES {
        let Some(node) = fields.get(name) else { continue };
        let value = match name {
            "max_rows" => reader.count(node, "`max_rows`").map(|rows| Some(rows.to_string())),
            "timeout" => reader.duration(node, "`timeout`").map(Some),
            "notify" => reader.channel(node).map(Some),
            _ => match reader.flag(node, &format!("`{name}`")) {
                Some(true) => Some(None),
                Some(false) => {
                    reader.fault(node.span, format!("`{name}: false` obliges nobody"), "leave it out");
                    None
                }
                None => None,
            },
        };
        all.extend(value.map(|value| Duty { name, value }));
    }
    all
}

fn budget(compiling: &mut Compiling<'_>, node: &Node) -> Option<BudgetRule> {
    let known = compiling.known;
    let reader = &mut compiling.reader;
    let fields = reader.fields(node, "a budget", &["scope", "calls", "window", "agents"])?;
    let scopes = [
        ("run", BudgetScope::Run),
        ("session", BudgetScope::Session),
        ("agent", BudgetScope::Agent),
        ("tenant", BudgetScope::Tenant),
    ];
    let words: Vec<&str> = scopes.iter().map(|(word, _)| *word).collect();
    let missing = |reader: &mut Reader, key: &str| {
        reader.fault(fields.span, format!("the budget has no `{key}`"), "write `{ scope: run, calls: 100 }`");
    };
    let scope = match fields.get("scope") {
        Some(node) => reader.word(node, "the scope of a budget", &words),
        None => {
            missing(reader, "scope");
            None
        }
    };
    let cap = match fields.get("calls") {
        Some(node) => reader.count(node, "`calls`"),
        None => {
            missing(reader, "calls");
            None
        }
    };
    let window = fields.get("window").map(|node| reader.duration(node, "`window`"));
    let agents = fields.get("agents").map(|node| reader.choice(node, "`agents`", Some(&known.agents)).any);
    let scope = scopes.iter().find(|(word, _)| Some(*word) == scope)?.1;
    let window_ms = match window {
        Some(text) => Some(duration_ms(&text?)?),
        None => None,
    };
    let agents = agents.map(|names| names.iter().filter_map(|name| name.parse().ok()).collect());
    Some(BudgetRule { scope, cap: cap?, window_ms, agents })
}
