//! From a binding and arguments to facts: every declared argument is read by the parser of its kind.
//!
//! What one parser does not understand makes the whole call opaque. It must not know what any parser finds dangerous.

use std::collections::{BTreeMap, BTreeSet};

use countersign_model::facts::{BOUND_BYTES_MAX, Bound, NAME_BYTES_MAX, NAMES_MAX, SQL_BYTES_MAX};
use countersign_model::{Certainty, Effect, Facts, SqlFacts};

use super::place::{below, names};
use super::{ArgumentKind, Binding, Dialect};
use crate::json::Node;
use crate::sql::{self, Opaque};
use crate::{amounts, http, mail, paths, shell};

/// What is known of a call with these `arguments`, read from `input`, under this `binding`.
#[must_use]
pub fn facts(binding: Option<&Binding>, arguments: &Node, input: &[u8]) -> Facts {
    let Some(bound) = binding else {
        return opaque(None, "no binding declares what this tool's arguments are");
    };
    judged(bound, arguments, input).unwrap_or_else(|why| opaque(binding, &why.because))
}

/// The facts of a call about whose arguments nothing is known. What its results are labelled is known all the same.
pub(crate) fn opaque(binding: Option<&Binding>, because: &str) -> Facts {
    let labels: Vec<String> = binding.map_or_else(Vec::new, |binding| binding.labels.iter().cloned().collect());
    let bound = Bound { labels, ..Bound::default() };
    let bound = (bound != Bound::default() && fits(&bound)).then_some(bound);
    Facts { bound, ..Facts::opaque(because) }
}

/// The facts with the ids of the patterns that match; too many make the call opaque. Matches are known of opaque calls
/// too, and are kept there as far as they fit, for a rule that forbids by them must hold.
#[must_use]
pub fn with_matched(facts: Facts, matched: &BTreeSet<String>) -> Facts {
    if matched.is_empty() {
        return facts;
    }
    let mut bound = facts.bound.clone().unwrap_or_default();
    bound.matched = matched.iter().cloned().collect();
    if fits(&bound) {
        return Facts { bound: Some(bound), ..facts };
    }
    let mut kept = Bound { matched: bound.matched, labels: bound.labels, ..Bound::default() };
    while !fits(&kept) && kept.matched.pop().is_some() {}
    Facts { bound: Some(kept), ..Facts::opaque("more patterns match than facts can hold") }
}

/// Whether all lists together are within bounds.
fn fits(bound: &Bound) -> bool {
    let Bound { hosts, paths, recipient_domains, programs, matched, labels, .. } = bound;
    let lists = [hosts, paths, recipient_domains, programs, matched, labels];
    let (names, bytes) = lists
        .into_iter()
        .flatten()
        .fold((0_usize, 0_usize), |(names, bytes), name| (names.saturating_add(1), bytes.saturating_add(name.len())));
    names <= NAMES_MAX
        && bytes <= BOUND_BYTES_MAX
        && lists.into_iter().flatten().all(|name| name.len() <= NAME_BYTES_MAX)
}

fn judged(binding: &Binding, arguments: &Node, input: &[u8]) -> Result<Facts, Opaque> {
    if binding.effect == Some(Effect::Opaque) {
        return Err(Opaque::because("declared opaque"));
    }
    if arguments.as_object().is_none() {
        return Err(Opaque::because("the arguments are not an object"));
    }
    let mut gathered = Gathered { input, ..Gathered::default() };
    gathered.members(&Declared::of(binding), Some(arguments), "")?;
    gathered.facts(binding)
}

/// The declared arguments as the tree that their places make.
#[derive(Default)]
struct Declared {
    kind: Option<ArgumentKind>,
    members: BTreeMap<String, Self>,
}

impl Declared {
    fn of(binding: &Binding) -> Self {
        let mut root = Self::default();
        for (place, kind) in &binding.arguments {
            let leaf = names(place).into_iter().fold(&mut root, |node, name| node.members.entry(name).or_default());
            leaf.kind = Some(*kind);
        }
        root
    }
}

/// What the arguments have said so far.
#[derive(Default)]
struct Gathered<'a> {
    input: &'a [u8],
    sql: Option<(Effect, SqlFacts)>,
    hosts: BTreeSet<String>,
    paths: BTreeSet<String>,
    domains: BTreeSet<String>,
    recipients: u64,
    /// Absent where no argument is shell text.
    programs: Option<BTreeSet<String>>,
    amount: Option<u64>,
    count: Option<u64>,
    current: Option<u64>,
}

impl Gathered<'_> {
    /// Reads the members of an object, which must all be declared unless the object itself is plain data.
    fn members(&mut self, declared: &Declared, node: Option<&Node>, place: &str) -> Result<(), Opaque> {
        let node = node.filter(|node| !node.is_null());
        let members = match node {
            Some(node) => node.as_object().ok_or_else(|| Opaque::naming("not an object: the argument", place))?,
            None => &[],
        };
        if declared.kind.is_none()
            && let Some((name, _)) = members.iter().find(|(name, _)| !declared.members.contains_key(name))
        {
            return Err(Opaque::naming("no binding declares the argument", &below(place, name)));
        }
        for (name, declared) in &declared.members {
            let (node, place) = (node.and_then(|node| node.get(name)), below(place, name));
            match declared.kind {
                Some(kind) if declared.members.is_empty() => self.argument(kind, node, &place)?,
                None | Some(ArgumentKind::Plain) => self.members(declared, node, &place)?,
                Some(_) => {
                    return Err(Opaque::naming("declared both as a value and as an object: the argument", &place));
                }
            }
        }
        Ok(())
    }

    fn argument(&mut self, kind: ArgumentKind, node: Option<&Node>, place: &str) -> Result<(), Opaque> {
        let named = |why: Opaque| Opaque::naming(&format!("{}, in the argument", why.because), place);
        match kind {
            ArgumentKind::Plain => return Ok(()),
            ArgumentKind::Sql(dialect) => return self.sql(dialect, node, place),
            ArgumentKind::Shell => {
                let node = node.ok_or_else(|| Opaque::naming("missing the shell argument", place))?;
                return self.shell(node, place);
            }
            _ => {}
        }
        // What a call leaves out, it says nothing about.
        let Some(node) = node.filter(|node| !node.is_null()) else {
            return Ok(());
        };
        match kind {
            ArgumentKind::Path | ArgumentKind::Host | ArgumentKind::Recipient => {
                for text in strings(node, place)? {
                    self.name(kind, text).map_err(named)?;
                }
            }
            ArgumentKind::Amount(unit) => {
                let amount = amounts::micros(self.number(node, place)?, unit).map_err(named)?;
                let sum = self.amount.unwrap_or(0).checked_add(amount).filter(|sum| i64::try_from(*sum).is_ok());
                self.amount = Some(sum.ok_or_else(|| Opaque::because("amounts larger than can be counted"))?);
            }
            _ => {
                let count = amounts::count(self.number(node, place)?).map_err(named)?;
                let field = if kind == ArgumentKind::Count { &mut self.count } else { &mut self.current };
                if field.replace(count).is_some() {
                    return Err(Opaque::because("two counts of one kind in one call"));
                }
            }
        }
        Ok(())
    }

    fn name(&mut self, kind: ArgumentKind, text: &str) -> Result<(), Opaque> {
        match kind {
            ArgumentKind::Path => {
                self.paths.insert(paths::path(text)?);
            }
            ArgumentKind::Host => {
                self.hosts.insert(http::host(text)?);
            }
            _ => {
                let found = mail::recipients(text)?;
                self.domains.extend(found.domains);
                self.recipients = self.recipients.saturating_add(found.count);
            }
        }
        Ok(())
    }

    /// The spelling of a number, or of a text that may spell one.
    fn number<'b>(&self, node: &'b Node, place: &str) -> Result<&'b str, Opaque>
    where
        Self: 'b,
    {
        node.as_str()
            .or_else(|| node.as_number(self.input))
            .ok_or_else(|| Opaque::naming("no number: the argument", place))
    }

    fn shell(&mut self, node: &Node, place: &str) -> Result<(), Opaque> {
        let found = match node.as_str() {
            Some(text) => shell::programs(text),
            None => shell::programs_of_words(&strings(node, place)?),
        };
        let found = found.map_err(|why| Opaque::naming(&format!("{}, in the argument", why.because), place))?;
        self.programs.get_or_insert_default().extend(found);
        Ok(())
    }

    fn sql(&mut self, dialect: Dialect, node: Option<&Node>, place: &str) -> Result<(), Opaque> {
        let node = node.ok_or_else(|| Opaque::naming("missing the sql argument", place))?;
        let text = node.as_str().ok_or_else(|| Opaque::naming("not a string: the sql argument", place))?;
        let next = match dialect {
            Dialect::Sqlite => sql::sqlite(text)?,
        };
        self.sql = Some(match self.sql.take() {
            Some(before) => merged(before, next)?,
            None => next,
        });
        Ok(())
    }

    fn facts(self, binding: &Binding) -> Result<Facts, Opaque> {
        let spawned = self.programs.is_some().then_some(Effect::Spawn);
        let (read, sql) = self.sql.unzip();
        let effect = [spawned, read, binding.effect].into_iter().flatten().max();
        let effect = effect
            .ok_or_else(|| Opaque::because("the binding declares no effect and no argument that has one of its own"))?;
        let bound = Bound {
            hosts: listed(self.hosts),
            paths: listed(self.paths),
            recipient_domains: listed(self.domains),
            recipients: self.recipients,
            programs: listed(self.programs.unwrap_or_default()),
            amount_micros: self.amount,
            count: self.count,
            current: self.current,
            matched: Vec::new(),
            labels: listed(binding.labels.clone()),
        };
        let sql_bytes =
            sql.iter().flat_map(|sql| sql.tables.iter().chain(&sql.functions)).map(String::len).sum::<usize>();
        if !fits(&bound) || sql_bytes > SQL_BYTES_MAX {
            return Err(Opaque::because("more names than facts can hold"));
        }
        let bound = (bound != Bound::default()).then_some(bound);
        Ok(Facts { effect, certainty: Certainty::Exact, opaque_because: None, sql, bound })
    }
}

/// A string, or the strings of a list.
fn strings<'a>(node: &'a Node, place: &str) -> Result<Vec<&'a str>, Opaque> {
    let all = match node.as_array() {
        Some(items) => items.iter().map(Node::as_str).collect::<Option<Vec<_>>>(),
        None => node.as_str().map(|text| vec![text]),
    };
    all.ok_or_else(|| Opaque::naming("neither a string nor a list of strings: the argument", place))
}

fn listed(names: BTreeSet<String>) -> Vec<String> {
    names.into_iter().collect()
}

/// The facts of two texts of one call: every list is the union, so a policy sees all of both.
fn merged((effect_a, a): (Effect, SqlFacts), (effect_b, b): (Effect, SqlFacts)) -> Result<(Effect, SqlFacts), Opaque> {
    let dialects: BTreeSet<String> = [a.dialect, b.dialect].into();
    let overflow = || Opaque::because("more rows or statements than can be counted");
    let sql = SqlFacts {
        dialect: dialects.into_iter().collect::<Vec<_>>().join("+"),
        statements: a.statements.checked_add(b.statements).ok_or_else(overflow)?,
        kinds: united(a.kinds, b.kinds)?,
        tables: united(a.tables, b.tables)?,
        functions: united(a.functions, b.functions)?,
        has_where: a.has_where && b.has_where,
        rows_spelled: a.rows_spelled.checked_add(b.rows_spelled).ok_or_else(overflow)?,
    };
    Ok((effect_a.max(effect_b), sql))
}

fn united(a: Vec<String>, b: Vec<String>) -> Result<Vec<String>, Opaque> {
    let all: BTreeSet<String> = a.into_iter().chain(b).collect();
    if all.len() > NAMES_MAX {
        return Err(Opaque::because("more names than facts can hold"));
    }
    Ok(all.into_iter().collect())
}
