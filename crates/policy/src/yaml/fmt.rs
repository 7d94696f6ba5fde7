//! One layout for policy files, with all their comments and exactly their meaning.
//!
//! Keys come in the order of the documentation, text is quoted only where it must be, and what was written in braces stays
//! so while it fits its line. What was laid out is read again and held against what was given: if a value or a
//! comment differs, nothing is laid out. It must not know what a key means. Cedar is laid out by Cedar's own formatter.

use std::collections::BTreeMap;

use super::est;
use super::node::{Comment, Document, Key, Node, Value, parse, plain_is_text};
use super::problem::{Problem, Problems, Span};

const WIDTH: usize = 120;
/// Orders of keys: the first list that has all keys of a map counts.
const ORDERS: [&[&str]; 9] = [
    &["version", "description", "patterns", "rules", "actions", "budgets"],
    &[
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
    ],
    &["name", "approvers", "quorum", "timeout", "notify"],
    &["max_rows", "timeout", "redact", "undo", "witness", "sandbox", "notify"],
    &["scope", "calls", "window", "agents"],
    &["name", "environment", "effect", "requires_approval"],
    &["pattern", "match", "description", "action", "notify"],
    &["exact", "prefix", "glob", "regex", "argument"],
    &["any_of", "all_in", "none_of", "outside", "all_of"],
];

/// Lays out a YAML file.
///
/// # Errors
/// That it cannot be read, or not be laid out without losing something.
pub fn yaml(file: &str, text: &str) -> Result<String, Problems> {
    let failed = |problem| Problems::new(file, text, vec![problem]);
    let document = parse(text).map_err(failed)?;
    let mut layout = Layout::new(&document);
    layout.map_or_list(&document.root, 0);
    layout.lines.extend(std::mem::take(&mut layout.footer));
    let laid_out = layout.lines.join("\n") + "\n";
    let lossless = parse(&laid_out).is_ok_and(|after| same(&document.root, &after.root) && kept(&document, &after));
    if lossless {
        return Ok(laid_out);
    }
    let message = "the file cannot be laid out without losing a comment or a value".to_owned();
    let help = "move comments to lines of their own, above what they are about".to_owned();
    Err(failed(Problem {
        message,
        help,
        span: document.comments.first().map_or(Span::default(), |comment| comment.span),
    }))
}

/// Lays out a Cedar file.
///
/// # Errors
/// What Cedar says of it.
pub fn cedar(text: &str) -> Result<String, String> {
    est::formatted(text)
}

/// Whether two trees say the same, in whatever order of keys.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, node)| b.iter().any(|(other, value)| other.text == key.text && same(node, value)))
        }
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (a, b) => a == b,
    }
}

fn kept(before: &Document, after: &Document) -> bool {
    let sorted = |document: &Document| {
        let mut all: Vec<String> = document.comments.iter().map(|comment| comment.text.trim().to_owned()).collect();
        all.sort();
        all
    };
    sorted(before) == sorted(after)
}

/// What stands above and beside an entry.
#[derive(Default)]
struct Beside {
    above: Vec<String>,
    /// Whether an empty line followed what stands above.
    apart: bool,
    right: Vec<String>,
}

struct Layout {
    lines: Vec<String>,
    /// Comments by where the entry that they belong to begins.
    comments: BTreeMap<usize, Beside>,
    footer: Vec<String>,
}

impl Layout {
    fn new(document: &Document) -> Self {
        let mut places = Vec::new();
        entries(&document.root, &mut places);
        places.sort_unstable();
        let mut layout = Self { lines: Vec::new(), comments: BTreeMap::new(), footer: Vec::new() };
        let first = places.first().map_or((0, 0), |place| *place);
        let header = header(&document.comments, first);
        for comment in document.comments.iter().take(header) {
            layout.lines.push(written(comment));
        }
        if let Some(last) = header.checked_sub(1).and_then(|last| document.comments.get(last)) {
            let next = document.comments.get(header).map_or(first.1, |next| next.span.line.min(first.1));
            layout.lines.extend((next > last.span.line.saturating_add(1)).then(String::new));
        }
        for comment in document.comments.iter().skip(header) {
            layout.attach(comment, &places);
        }
        layout
    }

    fn attach(&mut self, comment: &Comment, places: &[(usize, usize)]) {
        let line = written(comment);
        let next = places.iter().find(|(start, _)| *start > comment.span.start);
        if comment.own_line {
            let Some((start, at)) = next else { return self.footer.push(line) };
            let beside = self.comments.entry(*start).or_default();
            beside.above.push(line);
            beside.apart = *at > comment.span.line.saturating_add(1);
            return;
        }
        let same_line = places.iter().find(|(_, at)| *at == comment.span.line);
        let before = places.iter().rev().find(|(start, _)| *start < comment.span.start);
        match same_line.or(before) {
            Some((start, _)) => self.comments.entry(*start).or_default().right.push(line),
            None => self.footer.push(line),
        }
    }

    /// A block of entries or items.
    fn map_or_list(&mut self, node: &Node, indent: usize) {
        match &node.value {
            Value::Map(entries) => {
                for (index, (key, value)) in ordered(entries).into_iter().enumerate() {
                    let opening = format!("{}:", scalar(&key.text, true));
                    let long = !matches!(value.value, Value::Text(_)) && self.inline(value, opening.len()).is_none();
                    if indent == 0 && index > 0 && long {
                        self.lines.push(String::new());
                    }
                    self.entry(key.span.start, &opening, value, indent);
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let long = self.inline(item, indent.saturating_add(1)).is_none();
                    if index > 0 && long && matches!(item.value, Value::Map(_)) {
                        self.lines.push(String::new());
                    }
                    self.entry(item.span.start, "-", item, indent);
                }
            }
            _ => self.entry(node.span.start, "", node, indent),
        }
    }

    /// One entry: what begins its line, and its value beside or below.
    fn entry(&mut self, start: usize, opening: &str, value: &Node, indent: usize) {
        let beside = self.comments.remove(&start).unwrap_or_default();
        let margin = " ".repeat(indent);
        self.lines.extend(beside.above.iter().map(|line| format!("{margin}{line}")));
        if beside.apart {
            self.lines.push(String::new());
        }
        let first = self.lines.len();
        match self.inline(value, indent.saturating_add(opening.len())) {
            Some(text) => self.lines.push(format!("{margin}{opening} {text}").trim_end().to_owned()),
            None if opening == "-" && matches!(value.value, Value::Map(_)) => {
                self.map_or_list(value, indent.saturating_add(2));
                self.dash(first, indent);
            }
            None => {
                self.lines.push(format!("{margin}{opening}"));
                self.below(value, indent.saturating_add(2));
            }
        }
        if !beside.right.is_empty() {
            // Comments above the first key of an item have come before it.
            let line = self.lines.iter_mut().skip(first).find(|line| !line.trim_start().starts_with('#'));
            if let Some(line) = line {
                line.push_str("  ");
                line.push_str(&beside.right.join(" "));
            }
        }
    }

    /// The dash of an item goes before its first key.
    fn dash(&mut self, first: usize, indent: usize) {
        let line =
            self.lines.iter_mut().skip(first).find(|line| !line.is_empty() && !line.trim_start().starts_with('#'));
        if let Some(line) = line {
            *line = format!("{}- {}", " ".repeat(indent), line.trim_start());
        }
    }

    fn below(&mut self, value: &Node, indent: usize) {
        if let Value::Text(text) = &value.value {
            if let Some(last) = self.lines.last_mut() {
                last.push_str(" >-");
            }
            let mut line = " ".repeat(indent);
            for word in text.split(' ') {
                if line.chars().count().saturating_add(word.chars().count()) > WIDTH && line.trim() != "" {
                    self.lines.push(line.trim_end().to_owned());
                    line = " ".repeat(indent);
                }
                line.push_str(word);
                line.push(' ');
            }
            self.lines.push(line.trim_end().to_owned());
        } else {
            self.map_or_list(value, indent);
        }
    }

    /// The value on the line that it begins on, where it may stand there.
    fn inline(&self, value: &Node, used: usize) -> Option<String> {
        let text = match &value.value {
            Value::Map(entries) if !entries.is_empty() && (!value.flow || self.speaks(value)) => return None,
            Value::List(items) if !items.is_empty() && (!value.flow || self.speaks(value)) => return None,
            Value::Text(said) => scalar(said, false),
            _ => flow(value),
        };
        let fits = used.saturating_add(1).saturating_add(text.chars().count()) <= WIDTH;
        match &value.value {
            Value::Map(entries) if !entries.is_empty() => fits.then_some(text),
            Value::List(items) if !items.is_empty() => fits.then_some(text),
            Value::Text(said) => (fits || !foldable(said)).then_some(text),
            _ => Some(text),
        }
    }

    /// Whether a comment belongs to something inside of `node`.
    fn speaks(&self, node: &Node) -> bool {
        self.comments
            .range(node.span.start.saturating_add(1)..node.span.end.max(node.span.start.saturating_add(1)))
            .next()
            .is_some()
    }
}

/// Whether a text can be broken at its spaces and be the same again.
fn foldable(text: &str) -> bool {
    text.split(' ')
        .all(|word| !word.is_empty() && !word.chars().any(char::is_whitespace) && !word.chars().any(char::is_control))
}

/// How many comments at the beginning are about the file: all up to an empty line, and what editors read.
fn header(comments: &[Comment], (start, line): (usize, usize)) -> usize {
    let above: Vec<&Comment> = comments.iter().take_while(|comment| comment.span.start < start).collect();
    let next = above.iter().skip(1).map(|comment| comment.span.line).chain([line]);
    let ends = (1..).zip(above.iter().zip(next)).filter(|(_, (comment, next))| {
        *next > comment.span.line.saturating_add(1) || comment.text.trim_start().starts_with("yaml-language-server:")
    });
    ends.map(|(count, _)| count).last().unwrap_or(0)
}

/// Where entries and items begin, with their lines.
fn entries(node: &Node, places: &mut Vec<(usize, usize)>) {
    match &node.value {
        Value::Map(all) => {
            for (key, value) in all {
                places.push((key.span.start, key.span.line));
                entries(value, places);
            }
        }
        Value::List(items) => {
            for item in items {
                places.push((item.span.start, item.span.line));
                entries(item, places);
            }
        }
        _ => {}
    }
}

fn ordered(entries: &[(Key, Node)]) -> Vec<&(Key, Node)> {
    let mut all: Vec<&(Key, Node)> = entries.iter().collect();
    let fits = |order: &&&[&str]| entries.iter().all(|(key, _)| order.contains(&key.text.as_str()));
    if let Some(order) = ORDERS.iter().find(fits) {
        all.sort_by_key(|(key, _)| order.iter().position(|known| *known == key.text));
    }
    all
}

fn written(comment: &Comment) -> String {
    format!("# {}", comment.text.trim()).trim_end().to_owned()
}

fn flow(node: &Node) -> String {
    match &node.value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Decimal(text) => text.clone(),
        Value::Text(text) => scalar(text, true),
        Value::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Map(entries) => {
            let all = ordered(entries)
                .into_iter()
                .map(|(key, value)| format!("{}: {}", scalar(&key.text, true), flow(value)));
            format!("{{ {} }}", all.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Text as a scalar: without quotes where no reader of YAML could take it for anything else.
fn scalar(text: &str, in_braces: bool) -> String {
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_'));
    let common =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.' | '/' | '*' | '@' | '+' | '\'');
    let outside = |c: char| !in_braces && matches!(c, ',' | ';' | '(' | ')' | '`' | ':' | '<' | '>' | '=' | '|');
    let colons = text.contains(": ") || text.ends_with(':');
    let word = ["yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    let plain = text.chars().all(|c| common(c) || outside(c)) && !colons && !word && !text.ends_with(' ');
    if first && plain && plain_is_text(text) {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}
