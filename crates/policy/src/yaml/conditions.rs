//! Reading `when` and `unless`: each key is one fact, each value what it is compared with.
//!
//! It knows the words of a policy file and what they are called in Cedar. It must not know what a rule then does.

use super::fact::{ArgumentTest, Fact, Names, Operator, Than};
use super::node::{Node, Value};
use super::read::{Fields, Reader, Spoken};

/// Sets of names, with what they are called in Cedar and how a bare list is read.
const SETS: [(&str, &str, Names); 12] = [
    ("tables", "tables", Names::Plain),
    ("kinds", "kinds", Names::Plain),
    ("functions", "functions", Names::Plain),
    ("hosts", "hosts", Names::Plain),
    ("paths", "paths", Names::Plain),
    ("recipient_domains", "recipient_domains", Names::Plain),
    ("programs", "programs", Names::Plain),
    ("new_hosts", "new_hosts", Names::AnyOf),
    ("labels", "labels", Names::AnyOf),
    ("matched", "matched", Names::AnyOf),
    ("run_labels", "run_labels", Names::Holds),
    ("lease", "leases", Names::AnyOf),
];
const FLAGS: [&str; 4] = ["sql", "has_where", "opaque", "new_pair"];
/// Numbers, with what they are called in Cedar.
const NUMBERS: [(&str, &str); 8] = [
    ("statements", "statements"),
    ("rows", "rows_spelled"),
    ("recipients", "recipients"),
    ("count", "count"),
    ("growing", "growing"),
    ("depth", "depth"),
    ("lease_minutes", "lease_minutes"),
    ("token_minutes_left", "token_minutes_left"),
];
const WINDOWS: [(&str, &str); 6] =
    [("1m", "minute"), ("60s", "minute"), ("10m", "ten_minutes"), ("1h", "hour"), ("1d", "day"), ("24h", "day")];
const TESTS: [(&str, Names); 5] = [
    ("any_of", Names::AnyOf),
    ("all_in", Names::AllIn),
    ("none_of", Names::NoneOf),
    ("outside", Names::Outside),
    ("all_of", Names::Holds),
];
const OTHERS: [&str; 7] = ["amount", "replicas", "calls", "changes", "previous_tool", "says", "args"];
/// Numbers that a call may lack, by the key that compares them.
const SAYABLE: [(&str, &str); 3] =
    [("amount", "amount_micros"), ("count", "count"), ("replicas", "percent_of_current")];

/// Every key that a condition may have.
pub(crate) fn keys() -> Vec<&'static str> {
    let sets = SETS.iter().map(|(key, ..)| *key);
    sets.chain(FLAGS).chain(NUMBERS.iter().map(|(key, _)| *key)).chain(OTHERS).collect()
}

impl Reader {
    /// The conditions of a map.
    pub(crate) fn conditions(&mut self, node: &Node, what: &str) -> Vec<Fact> {
        let Some(fields) = self.fields(node, what, &keys()) else { return Vec::new() };
        if fields.all().next().is_none() {
            self.fault(node.span, format!("{what} has no condition"), "name a fact, or leave the key out");
        }
        self.of_fields(fields)
    }

    fn of_fields(&mut self, fields: Fields<'_>) -> Vec<Fact> {
        let mut facts = Vec::new();
        for (key, node) in fields.all() {
            let key = key.text.as_str();
            match key {
                "args" => facts.extend(self.arguments(node)),
                "says" => facts.extend(self.says(node)),
                _ => facts.extend(self.condition(key, node)),
            }
        }
        facts
    }

    fn condition(&mut self, key: &str, node: &Node) -> Option<Fact> {
        if let Some((_, attribute, plain)) = SETS.iter().find(|(known, ..)| *known == key) {
            return self.names(key, attribute, *plain, node);
        }
        if let Some(attribute) = FLAGS.iter().find(|known| **known == key) {
            return self.flag(node, &format!("`{key}`")).map(|wanted| Fact::Flag { attribute, wanted });
        }
        if let Some((_, attribute)) = NUMBERS.iter().find(|(known, _)| *known == key) {
            return self.comparison(node, key).map(|than| Fact::Number { attribute, than });
        }
        match key {
            "amount" => self.amount(node),
            "replicas" => self.ratio(node),
            "calls" => self.recent(node, "calls"),
            "changes" => self.recent(node, "changes"),
            "previous_tool" => {
                let values = texts(self.texts(node, "`previous_tool`"));
                (!values.is_empty()).then_some(Fact::OneOf { attribute: "previous_tool", values })
            }
            _ => None,
        }
    }

    fn names(&mut self, key: &str, attribute: &'static str, plain: Names, node: &Node) -> Option<Fact> {
        let what = format!("`{key}`");
        if let Value::Bool(wanted) = node.value {
            return Some(Fact::Any { attribute, wanted });
        }
        let (test, node) = if let Value::Map(_) = node.value {
            let known: Vec<&str> = TESTS.iter().map(|(word, _)| *word).collect();
            let fields = self.fields(node, &what, &known)?;
            let mut found = TESTS.iter().filter_map(|(word, test)| fields.get(word).map(|node| (*test, node)));
            let (Some(one), None) = (found.next(), found.next()) else {
                self.fault(node.span, format!("{what} needs one test"), format!("write one of {}", known.join(", ")));
                return None;
            };
            one
        } else {
            (plain, node)
        };
        let said = self.texts(node, &what);
        for text in &said {
            self.name_of(key, text);
        }
        let values = texts(said);
        (!values.is_empty()).then_some(Fact::Names { attribute, test, values })
    }

    fn comparison(&mut self, node: &Node, key: &str) -> Option<Than> {
        if let Value::Int(number) = node.value {
            return Some(Than { operator: Operator::Equal, number });
        }
        self.compared(node, key, "\"> 10\"", |operator, rest| Some(Than { operator, number: whole(rest)? }))
    }

    /// A text that begins with an operator, the rest read by `rest`.
    fn compared<T>(
        &mut self,
        node: &Node,
        key: &str,
        example: &str,
        rest: impl FnOnce(Operator, &str) -> Option<T>,
    ) -> Option<T> {
        let text = match &node.value {
            Value::Text(text) => text.as_str(),
            other => other.kind(),
        };
        let read = operator(text).and_then(|(operator, after)| rest(operator, after));
        if read.is_none() {
            self.fault(
                node.span,
                format!("`{key}` cannot be compared with `{}`", text.escape_debug()),
                format!("write an operator (>, >=, <, <=, ==) and a number, such as {example}"),
            );
        }
        read
    }

    fn amount(&mut self, node: &Node) -> Option<Fact> {
        let than = self.compared(node, "amount", "\"> 100.50\"", |operator, rest| {
            Some(Than { operator, number: micros(rest)? })
        })?;
        Some(Fact::Number { attribute: "amount_micros", than })
    }

    fn ratio(&mut self, node: &Node) -> Option<Fact> {
        self.compared(node, "replicas", "\"> 2x current\" or \"> 1.5x previous\"", |operator, rest| {
            let (times, of) = rest.split_once('x')?;
            let attribute = match of.trim() {
                "current" => "percent_of_current",
                "previous" => "percent_of_previous",
                _ => return None,
            };
            let number = scaled(times.trim(), 2)?;
            Some(Fact::Number { attribute, than: Than { operator, number } })
        })
    }

    fn recent(&mut self, node: &Node, attribute: &'static str) -> Option<Fact> {
        let example = "\"> 2 in 10m\" (windows are 1m, 10m, 1h and 1d)";
        self.compared(node, attribute, example, |operator, rest| {
            let (number, window) = rest.split_once(" in ")?;
            let number = whole(number.trim())?;
            let (_, window) = WINDOWS.iter().find(|(word, _)| *word == window.trim())?;
            Some(Fact::Recent { attribute, window, than: Than { operator, number } })
        })
    }

    fn says(&mut self, node: &Node) -> Vec<Fact> {
        let words: Vec<&str> = SAYABLE.iter().map(|(word, _)| *word).collect();
        let said = self.texts(node, "`says`");
        let known: Vec<&str> =
            said.iter().filter_map(|text| self.among(text, "a number that calls carry", &words)).collect();
        let chosen = SAYABLE.iter().filter(|(word, _)| known.contains(word));
        chosen.map(|(_, attribute)| Fact::Says { attribute }).collect()
    }

    fn arguments(&mut self, node: &Node) -> Vec<Fact> {
        let Some(fields) = self.map(node, "`args`") else { return Vec::new() };
        let mut facts = Vec::new();
        for (key, node) in fields.all() {
            let path: Vec<String> = key.text.split('.').map(str::to_owned).collect();
            if path.iter().any(String::is_empty) {
                self.fault(key.span, "the path of an argument has an empty part", "write it as `outer.inner`");
                continue;
            }
            facts.extend(self.argument(&key.text, node).map(|test| Fact::Argument { path, test }));
        }
        facts
    }

    fn argument(&mut self, name: &str, node: &Node) -> Option<ArgumentTest> {
        let what = format!("the argument `{}`", name.escape_debug());
        match &node.value {
            Value::Bool(flag) => Some(ArgumentTest::Flag(*flag)),
            Value::Int(number) => Some(ArgumentTest::Long(Than { operator: Operator::Equal, number: *number })),
            Value::Decimal(text) => self.decimal(node, Operator::Equal, text),
            Value::Text(text) => match operator(text) {
                Some((operator, rest)) if whole(rest).is_some() => {
                    Some(ArgumentTest::Long(Than { operator, number: whole(rest)? }))
                }
                Some((operator, rest)) => self.decimal(node, operator, rest),
                None => self.text(node, &what).map(|text| ArgumentTest::OneOf(vec![text.text])),
            },
            Value::List(_) => {
                let values = texts(self.texts(node, &what));
                (!values.is_empty()).then_some(ArgumentTest::OneOf(values))
            }
            Value::Map(_) => {
                let fields = self.fields(node, &what, &["like", "contains", "is"])?;
                let tests = [("like", true), ("contains", false)];
                let found = tests.into_iter().find_map(|(word, like)| fields.get(word).map(|node| (node, like)));
                if let Some((node, like)) = found {
                    let text = self.text(node, &what)?.text;
                    return Some(if like { ArgumentTest::Like(text) } else { ArgumentTest::Contains(text) });
                }
                let is = fields.get("is").map(|node| self.texts(node, &what));
                is.map(|values| ArgumentTest::OneOf(texts(values)))
            }
            Value::Null => None,
        }
    }

    fn decimal(&mut self, node: &Node, operator: Operator, text: &str) -> Option<ArgumentTest> {
        if scaled(text, 4).is_some() {
            // Cedar wants a point.
            let text = if text.contains('.') { text.to_owned() } else { format!("{text}.0") };
            return Some(ArgumentTest::Decimal(operator, text));
        }
        let message = format!("`{}` is no number that policy can hold", text.escape_debug());
        self.fault(
            node.span,
            message,
            "write digits, and at most four after the point; text that begins so goes under `is`",
        );
        None
    }
}

fn texts(all: Vec<Spoken>) -> Vec<String> {
    all.into_iter().map(|spoken| spoken.text).collect()
}

/// The operator that a text begins with, and the rest.
fn operator(text: &str) -> Option<(Operator, &str)> {
    let text = text.trim();
    Operator::ALL.iter().find_map(|(word, operator)| Some((*operator, text.strip_prefix(word)?.trim())))
}

fn whole(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A decimal number times ten to the power of `places`; nothing where it has more places than that.
fn scaled(text: &str, places: usize) -> Option<i64> {
    let (whole_part, part) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole_part.starts_with('-');
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let whole_digits = whole_part.strip_prefix('-').unwrap_or(whole_part);
    if whole_digits.is_empty() || !digits(whole_digits) || !digits(part) || part.len() > places {
        return None;
    }
    if text.ends_with('.') {
        return None;
    }
    let number: i64 = format!("{whole_digits}{part:0<places$}").parse().ok()?;
    if negative { number.checked_neg() } else { Some(number) }
}

/// An amount in millionths.
fn micros(text: &str) -> Option<i64> {
    scaled(text, 6)
}
