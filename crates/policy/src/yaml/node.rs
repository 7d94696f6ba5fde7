//! A YAML text as a tree in which every node knows where it stands.
//!
//! It knows no keys and no meaning. It is stricter than YAML: what could make a text mean something else than it seems
//! (anchors, tags, a key that stands twice, several documents, directives) is refused. A word without quotes is a number,
//! `true`, `false` or `null` as YAML 1.2 says; everything else is text, `no` and `on` too.

use granit_parser::{Event, Options, Parser, ScalarStyle, StructureStyle};

use super::problem::{Problem, Span};

/// The longest text that is read, in bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// The most nodes that one text holds.
const NODES_MAX: usize = 50_000;
/// How deep lists and maps stand in one another.
const DEPTH_MAX: usize = 16;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// Whether it is written with brackets or braces.
    pub(crate) flow: bool,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// Digits, a point and digits, as written.
    Decimal(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// The key of an entry.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// Nodes are compared by what they say, not by where they stand.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Value {
    /// What it is, for people.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) => "a whole number",
            Self::Decimal(_) => "a decimal number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// A comment of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    /// All after the `#`.
    pub(crate) text: String,
    pub(crate) span: Span,
    /// Whether nothing else stands on its line.
    pub(crate) own_line: bool,
}

/// A text that was read.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) root: Node,
    pub(crate) comments: Vec<Comment>,
}

/// Reads one document.
pub(crate) fn parse(text: &str) -> Result<Document, Problem> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the file has {} bytes, more than the {TEXT_BYTES_MAX} that are read", text.len());
        return Err(Problem { message, help: "split it into several".to_owned(), span: Span::default() });
    }
    let mut options = Options::default();
    options.disallow_directives = true;
    options.strict_indentation = true;
    options.max_buffered_comment_events = 4_096;
    let mut reading = Reading {
        parser: Parser::new_from_str_with_options(text, options),
        text,
        comments: Vec::new(),
        nodes: 0,
        last: Span { line: 1, last_line: 1, ..Span::default() },
    };
    let root = reading.document()?;
    Ok(Document { root, comments: reading.comments })
}

struct Reading<'a> {
    parser: Parser<'a, granit_parser::StrInput<'a>>,
    text: &'a str,
    comments: Vec<Comment>,
    nodes: usize,
    last: Span,
}

impl<'a> Reading<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        loop {
            let Some(next) = self.parser.next_event() else {
                return Err(self.fault("the text ends too early", "complete it"));
            };
            let (event, span) = next.map_err(|error| {
                let at = error.marker().byte_offset().unwrap_or(0).min(self.text.len());
                let line = error.marker().line();
                let span = Span { start: at, end: at, line, last_line: line };
                Problem {
                    message: format!("this is no YAML: {}", error.info()),
                    help: "look at the indentation, colons, quotes and brackets around it".to_owned(),
                    span,
                }
            })?;
            self.last = self.span(&span);
            match event {
                Event::Comment(text, _) => {
                    let before = self.text.get(..self.last.start).unwrap_or("");
                    let own_line = before.chars().rev().find(|c| *c != ' ').is_none_or(|c| c == '\n');
                    self.comments.push(Comment { text: text.into_owned(), span: self.last, own_line });
                }
                other => return Ok((other, self.last)),
            }
        }
    }

    fn span(&self, span: &granit_parser::Span) -> Span {
        let range = span.byte_range().unwrap_or(0..0);
        let end = range.end.min(self.text.len()).max(range.start);
        // A block ends where the next thing begins; what lies between is not its own.
        let own = self.text.get(range.start..end).map_or(end, |own| range.start.saturating_add(own.trim_end().len()));
        let lines = self.text.get(range.start..own).map_or(0, |own| own.matches('\n').count());
        let line = span.start.line();
        Span { start: range.start, end: own, line, last_line: line.saturating_add(lines) }
    }

    fn fault(&self, message: &str, help: &str) -> Problem {
        Problem { message: message.to_owned(), help: help.to_owned(), span: self.last }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            match self.next()?.0 {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(self.fault("a second document begins here", "write one document in one file"));
                }
                Event::DocumentStart(..) => {
                    let first = self.next()?;
                    root = Some(self.node(first, 0)?);
                }
                Event::StreamEnd => break,
                _ => return Err(self.fault("this stands outside of the document", "remove it")),
            }
        }
        root.ok_or_else(|| self.fault("the file says nothing", "write what it is to say, or do not name it"))
    }

    fn node(&mut self, (event, span): (Event<'a>, Span), depth: usize) -> Result<Node, Problem> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > NODES_MAX || depth > DEPTH_MAX {
            let help = format!("at most {NODES_MAX} values, {DEPTH_MAX} deep, are read");
            return Err(self.fault("the file is too large or too deep", &help));
        }
        match event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(_, anchor, tag)
            | Event::MappingStart(_, anchor, tag)
                if anchor != 0 || tag.is_some() =>
            {
                Err(self.fault(
                    "anchors and tags are not read",
                    "write the value out, in quotes if it begins with `&` or `!`",
                ))
            }
            Event::Scalar(text, style, ..) => Ok(Node { span, value: scalar(&text, style), flow: false }),
            Event::SequenceStart(style, ..) => self.list(span, style == StructureStyle::Flow, depth),
            Event::MappingStart(style, ..) => self.map(span, style == StructureStyle::Flow, depth),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                Err(self.fault("aliases are not read", "write the value out, in quotes if it begins with `*`"))
            }
            _ => Err(self.fault("a value is missing here", "write one")),
        }
    }

    fn list(&mut self, from: Span, flow: bool, depth: usize) -> Result<Node, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => break,
                first => items.push(self.node(first, depth.saturating_add(1))?),
            }
        }
        let span = self.to_here(from, items.last().map(|node| node.span), flow);
        Ok(Node { span, value: Value::List(items), flow })
    }

    fn map(&mut self, from: Span, flow: bool, depth: usize) -> Result<Node, Problem> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(text, _, 0, None), span) => Key { text: text.into_owned(), span },
                _ => return Err(self.fault("a key is a word", "write the key as plain text")),
            };
            if entries.iter().any(|(other, _)| other.text == key.text) {
                let message = format!("`{}` stands here twice", key.text.escape_debug());
                return Err(Problem { message, help: "remove one of the two".to_owned(), span: key.span });
            }
            let first = self.next()?;
            entries.push((key, self.node(first, depth.saturating_add(1))?));
        }
        let last = entries.last().map(|(key, node)| if node.span.end > key.span.end { node.span } else { key.span });
        let span = self.to_here(from, last, flow);
        Ok(Node { span, value: Value::Map(entries), flow })
    }

    /// From where something began to where its last part ended, or its bracket closed.
    const fn to_here(&self, from: Span, last: Option<Span>, flow: bool) -> Span {
        let end = match (last, flow) {
            (Some(last), false) => last,
            (None, false) => from,
            (_, true) => self.last,
        };
        Span { start: from.start, end: end.end, line: from.line, last_line: end.last_line }
    }
}

/// What a scalar is.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    match unsigned.split_once('.') {
        None if digits(unsigned) => text.parse().map_or_else(|_| Value::Text(text.to_owned()), Value::Int),
        Some((whole, part)) if digits(whole) && digits(part) => Value::Decimal(text.to_owned()),
        _ => Value::Text(text.to_owned()),
    }
}

/// Whether a word without quotes is this text and nothing else.
pub(crate) fn plain_is_text(text: &str) -> bool {
    scalar(text, ScalarStyle::Plain) == Value::Text(text.to_owned())
}
