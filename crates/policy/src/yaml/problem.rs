//! What is wrong with a file, where, and what to do about it.
//!
//! It knows positions in a text and nothing of what the text means. Problems are collected, never thrown one by one: who
//! corrects a file wants to see all of them. Drawing them for a terminal is here because it is a pure function.

use countersign_model::near::nearest;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceSpan};

/// A stretch of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
    /// The line of the first byte, counted from one.
    pub line: usize,
    /// The line of the last byte.
    pub last_line: usize,
}

/// One problem, or one warning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// What is wrong, in the words of the domain.
    pub message: String,
    /// What to do about it.
    pub help: String,
    /// Where.
    pub span: Span,
}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(&self.help))
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let length = self.span.end.saturating_sub(self.span.start);
        let span = SourceSpan::new(self.span.start.into(), length);
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some("here".to_owned()), span))))
    }
}

/// Everything that is wrong with one file.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", self.lines())]
pub struct Problems {
    /// The file's name.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The problems, in the order of the text. Never empty.
    pub problems: Vec<Problem>,
}

impl Problems {
    /// The problems of a file, in the order of its text.
    pub(crate) fn new(file: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (a.span, &a.message).cmp(&(b.span, &b.message)));
        problems.dedup();
        Self { file: file.to_owned(), text: text.to_owned(), problems }
    }

    /// One line for each problem: file, line, what is wrong, what to do.
    #[must_use]
    pub fn lines(&self) -> String {
        let lines = self.problems.iter().map(|problem| line(&self.file, problem));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The problems drawn into the text around them, for a terminal.
    #[must_use]
    pub fn drawn(&self, colour: bool) -> String {
        drawn(&self.file, &self.text, &self.problems, colour)
    }
}

/// One problem of `file` as a line.
#[must_use]
pub fn line(file: &str, problem: &Problem) -> String {
    format!("{file}:{}: {}; {}", problem.span.line, problem.message, problem.help)
}

/// Problems or warnings of `file`, drawn into its text for a terminal.
#[must_use]
pub fn drawn(file: &str, text: &str, problems: &[Problem], colour: bool) -> String {
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110);
    let source = NamedSource::new(file, text.to_owned());
    let mut out = String::new();
    for problem in problems {
        let placed = Placed { problem, source: &source };
        if handler.render_report(&mut out, &placed).is_err() {
            out.push_str(&line(file, problem));
            out.push('\n');
        }
    }
    out
}

/// A problem together with the text that it is in.
#[derive(Debug)]
struct Placed<'a> {
    problem: &'a Problem,
    source: &'a NamedSource<String>,
}

impl std::fmt::Display for Placed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.problem.fmt(f)
    }
}

impl std::error::Error for Placed<'_> {}

impl Diagnostic for Placed<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.problem.help()
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        self.problem.labels()
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        Some(self.source)
    }
}

/// "did you mean" where a name is near, else the `otherwise`.
pub(crate) fn suggestion<'a>(given: &str, known: impl IntoIterator<Item = &'a str>, otherwise: &str) -> String {
    nearest(given, known).map_or_else(|| otherwise.to_owned(), |name| format!("did you mean `{name}`?"))
}
