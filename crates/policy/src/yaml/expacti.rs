//! Expacti's form: patterns over the raw text of a call, each with what to do.
//!
//! `match` says how a pattern is read. Where it is missing, the pattern is guessed to be a regex (`/…/`, or it begins with
//! `^`, ends with `$` or holds a backslash, `.*`, `.+`, a group or a class), a glob (it holds `*` or `?`), or else an exact
//! text; and then what allows reads it as it stands and whole, while what denies or asks looks for it anywhere, whatever
//! its case and spaces. What is guessed to be a regex may have been a glob or a plain text, so what denies or asks looks
//! for that too: a guess may make a rule stricter, never laxer.
//!
//! Expacti takes the first rule that matches; here a `deny` always wins and an approval wins over an allow. Where that
//! is stricter than the order of the file, there is a warning.

use countersign_kernel::policy::{PatternDef, PatternKind};

use super::Compiling;
use super::fact::{Fact, Names};
use super::node::{Node, Value};
use super::problem::Span;
use super::read::Spoken;
use super::rule::{Duty, GateSpec, Rule, Then};

const ACTIONS: [(&str, Then); 3] =
    [("allow", Then::Allow), ("require_approval", Then::RequireApproval), ("deny", Then::Deny)];

/// A pattern as it is to be read.
struct Reading {
    kind: PatternKind,
    text: String,
    /// As the file has it, slashes and all.
    said: String,
    guessed: bool,
}

/// An earlier rule, for comparing with later ones.
struct Earlier {
    id: String,
    then: Then,
    exact: Option<String>,
}

/// Reads a file of this form.
pub(crate) fn read(compiling: &mut Compiling<'_>, root: &Node) {
    let Some(fields) = compiling.reader.fields(root, "a file with patterns", &["rules"]) else { return };
    let Some(node) = fields.get("rules") else { return };
    let mut earlier: Vec<Earlier> = Vec::new();
    for (index, item) in compiling.reader.items(node, "`rules`").iter().enumerate() {
        rule(compiling, item, index, &mut earlier);
    }
}

fn rule(compiling: &mut Compiling<'_>, node: &Node, index: usize, earlier: &mut Vec<Earlier>) {
    let keys = ["pattern", "match", "action", "notify", "description"];
    let id = compiling.numbered(index);
    let reader = &mut compiling.reader;
    let Some(fields) = reader.fields(node, "a rule with a pattern", &keys) else { return };
    let (Some(pattern), Some(action)) = (fields.get("pattern"), fields.get("action")) else {
        reader.fault(node.span, "the rule needs a `pattern` and an `action`", "write both");
        return;
    };
    let words: Vec<&str> = ACTIONS.iter().map(|(word, _)| *word).collect();
    let pattern = reader.text(pattern, "`pattern`");
    let then = reader.word(action, "an action", &words);
    let then = ACTIONS.iter().find(|(word, _)| Some(*word) == then).map(|(_, then)| *then);
    let kinds: Vec<&str> = PatternKind::WORDS.iter().map(|(word, _)| *word).collect();
    let said = fields.get("match").map(|node| reader.word(node, "a way to match", &kinds));
    let description = fields.get("description").and_then(|node| reader.text(node, "`description`"));
    let channels = fields.get("notify").map_or_else(Vec::new, |node| channels(compiling, node));
    let (Some(pattern), Some(then)) = (pattern, then) else { return };
    let stated = match said {
        Some(None) => return,
        Some(Some(word)) => PatternKind::of(word),
        None => None,
    };
    let reading = reading(&pattern.text, stated);
    let faults = compiling.reader.problems.len();
    compiling.reader.pattern(&Spoken { text: reading.text.clone(), span: pattern.span }, reading.kind);
    if compiling.reader.problems.len() > faults {
        return;
    }
    let mut rule = Rule::new(id.clone(), node.span, then);
    rule.description = Some(description.map_or_else(|| pattern.text.clone(), |said| said.text));
    patterns(compiling, &id, &reading, &mut rule);
    if then == Then::RequireApproval {
        let name = countersign_model::encoding::clipped(&format!("{} needs approval", pattern.text), 160);
        rule.gate = GateSpec { name: Some(name), notify: channels.first().cloned(), ..GateSpec::default() };
    } else if then == Then::Allow {
        rule.duties = channels.into_iter().map(|channel| Duty { name: "notify", value: Some(channel) }).collect();
    }
    warn(compiling, &rule, &reading, pattern.span, earlier);
    let exact = (reading.kind == PatternKind::Exact).then(|| reading.text.clone());
    earlier.push(Earlier { id, then, exact });
    compiling.rules.push(rule);
}

/// The patterns of a rule: as it stands for what it permits, and wide for what it denies or asks.
fn patterns(compiling: &mut Compiling<'_>, id: &str, reading: &Reading, rule: &mut Rule) {
    let matched = |ids: Vec<String>| Fact::Names { attribute: "matched", test: Names::AnyOf, values: ids };
    let span = rule.span;
    let mut add = |id: String, (kind, text): (PatternKind, String)| {
        // What is put around a pattern can break it (a comment in it), or make it too long.
        compiling.reader.pattern(&Spoken { text: text.clone(), span }, kind);
        if let Ok(id) = id.parse() {
            compiling.patterns.push(PatternDef { id, kind, text, argument: None });
        }
        id
    };
    if !reading.guessed {
        let id = add(id.to_owned(), (reading.kind, reading.text.clone()));
        rule.when.push(matched(vec![id]));
        return;
    }
    let narrow = (reading.kind, whole(reading));
    if rule.then == Then::Allow {
        rule.when.push(matched(vec![add(id.to_owned(), narrow)]));
        return;
    }
    let mut wide = vec![add(id.to_owned(), (PatternKind::Regex, anywhere(reading)))];
    wide.extend(plainly(reading).map(|text| add(format!("{id}.as-text"), (PatternKind::Regex, text))));
    rule.when.push(matched(wide));
    if rule.then == Then::RequireApproval {
        rule.permit_when.push(matched(vec![add(format!("{id}.as-written"), narrow)]));
    }
}

/// What a guessed pattern permits: the whole text, for a regex would be found anywhere in it.
fn whole(reading: &Reading) -> String {
    if reading.kind == PatternKind::Regex { format!(r"\A(?:{})\z", reading.text) } else { reading.text.clone() }
}

/// The other reading of what was guessed to be a regex: a glob or a plain text, found anywhere.
fn plainly(reading: &Reading) -> Option<String> {
    if !reading.guessed || reading.kind != PatternKind::Regex {
        return None;
    }
    let said = reading.said.trim();
    if !said.contains(['*', '?']) {
        return Some(format!("(?is){}", loosely(said, false)));
    }
    let (mut out, mut rest) = (String::from("(?is)"), said);
    while let Some((before, after)) = rest.split_once('[') {
        let Some((class, behind)) = after.split_once(']').filter(|(class, _)| !class.is_empty()) else { break };
        out.push_str(&loosely(before, true));
        out.push_str(&one_of(class));
        rest = behind;
    }
    out.push_str(&loosely(rest, true));
    Some(out)
}

/// A class of a glob, or the same as plain text; any character where it is no class of a regex.
fn one_of(class: &str) -> String {
    let inner = class.strip_prefix('!').map_or_else(|| class.to_owned(), |rest| format!("^{rest}"));
    let plain = regex::escape(&format!("[{class}]"));
    let class = format!("[{inner}]");
    let class = if regex::Regex::new(&class).is_ok() { class.as_str() } else { "." };
    format!("(?:{class}|{plain})")
}

fn channels(compiling: &mut Compiling<'_>, node: &Node) -> Vec<String> {
    match &node.value {
        Value::Bool(true) => vec!["default".to_owned()],
        Value::Bool(false) => Vec::new(),
        Value::List(items) => items.iter().filter_map(|item| compiling.reader.channel(item)).collect(),
        _ => compiling.reader.channel(node).into_iter().collect(),
    }
}

/// How a pattern is read, where nothing or something is said of it.
fn reading(text: &str, stated: Option<PatternKind>) -> Reading {
    let inner = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).filter(|inner| !inner.is_empty());
    let regex = ["\\", ".*", ".+", "(?", "[", "|"];
    let looks_like_regex = text.starts_with('^') || text.ends_with('$') || regex.iter().any(|sign| text.contains(sign));
    let said = text.to_owned();
    let (kind, text) = match (stated, inner) {
        (Some(PatternKind::Regex) | None, Some(inner)) => (PatternKind::Regex, inner),
        (Some(kind), _) => (kind, text),
        (None, None) if looks_like_regex => (PatternKind::Regex, text),
        (None, None) if text.contains(['*', '?']) => (PatternKind::Glob, text),
        (None, None) => (PatternKind::Exact, text),
    };
    Reading { kind, text: text.to_owned(), said, guessed: stated.is_none() }
}

/// A regex that finds the pattern anywhere, whatever the case and the spaces.
fn anywhere(reading: &Reading) -> String {
    if reading.kind == PatternKind::Regex {
        return format!("(?i){}", reading.text);
    }
    format!("(?is){}", loosely(reading.text.trim(), reading.kind == PatternKind::Glob))
}

/// A plain text or glob as a regex, whatever the spaces.
fn loosely(text: &str, glob: bool) -> String {
    let mut out = String::new();
    let mut in_space = false;
    for c in text.chars() {
        let space = c.is_whitespace();
        if space && !in_space {
            out.push_str(r"\s+");
        }
        in_space = space;
        match c {
            _ if space => {}
            '*' if glob => out.push_str(".*"),
            '?' if glob => out.push('.'),
            other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}

fn warn(compiling: &mut Compiling<'_>, rule: &Rule, reading: &Reading, span: Span, earlier: &[Earlier]) {
    let reader = &mut compiling.reader;
    if rule.permits() {
        reader.warn(
            span,
            "raw text is the only guard of what this rule permits",
            "a text that matches may do more than it seems (`SELECT * FROM` as a prefix admits a second statement): \
             calls that are not understood stay denied, and the short form has conditions on facts",
        );
    }
    if reading.guessed {
        let kind = reading.kind.as_str();
        let how = match (rule.then, reading.kind) {
            (Then::Allow, PatternKind::Regex) => " of the whole text",
            (Then::Allow, _) => "",
            (_, PatternKind::Regex) => " and as plain text too, found anywhere whatever the case and spaces",
            _ => ", found anywhere whatever the case and spaces",
        };
        reader.warn(
            span,
            format!("the rule does not say how its pattern matches; it is read as {kind}{how}"),
            "write `match:` and one of exact, prefix, glob or regex",
        );
    }
    let wide: Option<Vec<_>> = [Some(anywhere(reading)), plainly(reading)]
        .into_iter()
        .flatten()
        .map(|text| regex::Regex::new(&text).ok())
        .collect();
    let overridden: Vec<&str> = earlier
        .iter()
        .filter(|other| other.then == Then::Allow && rule.then != Then::Allow)
        .filter(|other| match (&other.exact, &wide) {
            (Some(text), Some(wide)) => wide.iter().any(|wide| wide.is_match(text)),
            _ => true,
        })
        .map(|other| other.id.as_str())
        .collect();
    if !overridden.is_empty() {
        let what = if rule.then == Then::Deny { "denied" } else { "held for approval" };
        reader.warn(
            rule.span,
            format!("what `{}` allows further up is {what} where this rule matches too", overridden.join("`, `")),
            "here the strictest rule wins, whatever the order; make the two patterns disjoint if that is not meant",
        );
    }
}
