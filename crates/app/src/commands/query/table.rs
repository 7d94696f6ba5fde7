//! Rows as a table that fits the terminal, and as CSV.
//!
//! What may come from an agent is escaped for the terminal; in CSV a field that a spreadsheet would take for a formula
//! gets an apostrophe in front. It must not know where rows come from.

use countersign_index::{Ranking, Row};
use countersign_model::preview::visible;

use crate::context::when;
use crate::terminal::{BAD, GOOD, STRONG, WAIT};

/// Below this many characters no column is cut.
const NARROWEST: usize = 6;
const GAP: usize = 2;

/// The table, with a heading; at most `width` characters wide where that is given.
pub(super) fn rows(rows: &[Row], width: Option<usize>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heading = ["INDEX", "TIME", "VERDICT", "REASON", "AGENT", "RUN", "TOOL", "ENVIRONMENT", "STATUS"];
    let cells: Vec<Vec<String>> = rows.iter().map(cells).collect();
    let mut widths: Vec<usize> = heading.iter().map(|text| text.len()).collect();
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    fit(&mut widths, width);
    let mut out = format!("{STRONG}{}{STRONG:#}\n", joined(heading.iter().copied(), &widths));
    for (row, cells) in rows.iter().zip(&cells) {
        let style = match row.verdict {
            Some("allow" | "modify") => GOOD,
            Some("deny") => BAD,
            _ => WAIT,
        };
        let line = joined(cells.iter().map(String::as_str), &widths);
        // The verdict alone is coloured: it is the third cell.
        let start: usize = widths.iter().take(2).map(|width| width + GAP).sum();
        let end = start + widths.get(2).copied().unwrap_or_default();
        let part = |from: usize, to: usize| line.chars().skip(from).take(to.saturating_sub(from)).collect::<String>();
        out.push_str(&format!("{}{style}{}{style:#}{}\n", part(0, start), part(start, end), part(end, usize::MAX)));
    }
    out
}

fn cells(row: &Row) -> Vec<String> {
    let text = |text: &Option<String>| visible(text.as_deref().unwrap_or("-"));
    let count = if row.count > 1 { format!(" ×{}", row.count) } else { String::new() };
    vec![
        row.leaf.to_string(),
        when(row.at_ms),
        row.verdict.unwrap_or(row.kind).to_owned(),
        format!("{}{count}", row.reasons.first().unwrap_or(&"-")),
        text(&row.agent),
        text(&row.run),
        text(&row.tool),
        text(&row.environment),
        row.status().or(row.ticket.as_deref()).unwrap_or("-").to_owned(),
    ]
}

/// Cuts the widest columns until all fit; index and time stay whole.
fn fit(widths: &mut [usize], width: Option<usize>) {
    let Some(width) = width else { return };
    loop {
        let total: usize = widths.iter().map(|width| width + GAP).sum::<usize>().saturating_sub(GAP);
        let widest = widths.iter_mut().skip(2).max_by_key(|width| **width);
        match widest {
            Some(widest) if total > width && *widest > NARROWEST => *widest -= 1,
            _ => return,
        }
    }
}

fn joined<'a>(cells: impl Iterator<Item = &'a str>, widths: &[usize]) -> String {
    let cells: Vec<String> = cells.zip(widths).map(|(cell, width)| cut(cell, *width)).collect();
    cells.join(&" ".repeat(GAP)).trim_end().to_owned()
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:<width$}");
    }
    let head: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{head}…")
}

/// The rows as CSV (RFC 4180) with a heading.
pub(super) fn csv(rows: &[Row]) -> String {
    let mut out =
        "index,time,kind,verdict,reasons,agent,run,session,upstream,tool,target,environment,effect,tables,hosts,\
                   approvers,ticket,count,human,status,outcome,rows,bytes_sent,duration_ms,cost_microusd,continues\r\n"
            .to_owned();
    for row in rows {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let word = |word: Option<&'static str>| word.unwrap_or_default().to_owned();
        let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        let ended = row.ended.as_ref();
        let fields = [
            row.leaf.to_string(),
            when(row.at_ms),
            row.kind.to_owned(),
            word(row.verdict),
            row.reasons.join(" "),
            text(&row.agent),
            text(&row.run),
            text(&row.session),
            text(&row.upstream),
            text(&row.tool),
            text(&row.target),
            text(&row.environment),
            word(row.effect),
            row.tables.join(" "),
            row.hosts.join(" "),
            row.approvers.join(" "),
            text(&row.ticket),
            row.count.to_string(),
            text(&row.human),
            word(row.status()),
            number(ended.map(|ended| ended.leaf)),
            number(ended.and_then(|ended| ended.rows)),
            number(ended.map(|ended| ended.bytes_sent)),
            number(ended.map(|ended| ended.duration_ms)),
            number(ended.and_then(|ended| ended.cost_microusd)),
            number(row.continues),
        ];
        out.push_str(&fields.map(|field| quoted(&field)).join(","));
        out.push_str("\r\n");
    }
    out
}

fn quoted(field: &str) -> String {
    let harmless = if field.starts_with(['=', '+', '-', '@']) { format!("'{field}") } else { field.to_owned() };
    if harmless.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", harmless.replace('"', "\"\"")) } else { harmless }
}

/// A ranking for people.
pub(super) fn ranking(ranking: &Ranking, of: &str, by: &str) -> String {
    let widest = ranking.lines.iter().map(|line| visible(&line.name).chars().count()).max().unwrap_or(0).max(of.len());
    let mut out = format!("{STRONG}{:<widest$}  {by}{STRONG:#}\n", of);
    for line in &ranking.lines {
        out.push_str(&format!("{:<widest$}  {}\n", visible(&line.name), line.amount));
    }
    out
}

/// A ranking as CSV.
pub(super) fn ranking_csv(ranking: &Ranking, of: &str, by: &str) -> String {
    let lines = ranking.lines.iter().map(|line| format!("{},{}\r\n", quoted(&line.name), line.amount));
    format!("{of},{by}\r\n{}", lines.collect::<String>())
}
