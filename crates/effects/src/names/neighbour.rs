//! One server's tools beside another's: names that pass for one of them, and texts that send a model to one.
//!
//! Behind one gateway names carry the id of their server, so two servers may each have a `search`, spelled however they
//! like: nobody takes one for the other. What a server has no honest reason for is the prefix of another, a spelling that
//! only looks like another's name, or a word about a tool that it cannot know of. It must not know who was there first:
//! of two names that read alike the stranger spelling is the copy.
//!
//! # Not covered
//! A text that names another server's tool without its prefix: such words are too common to mean anything.

use std::collections::{BTreeMap, BTreeSet};

use super::{Flag, Sign, letters, shown, skeleton};
use crate::json::{Node, Value};

/// Between the id of a server and the name of its tool.
pub const BETWEEN: &str = "__";
/// The most mentions of one tool that are looked at; one with more is taken to mention everything.
pub const MENTIONS_MAX: usize = 64;
/// The longest id that can be a prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 32;
/// The longest name that is looked for in a text, in characters.
const NAME_CHARS_MAX: usize = 128;

/// Tools under prefixes that a definition speaks of, whosever they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Prefix in lower case, and what the name reads like.
    names: BTreeSet<(String, String)>,
}

impl Mentions {
    /// Reads every text and every key of a definition.
    #[must_use]
    pub fn of(definition: &Node) -> Self {
        let mut mentions = Self::default();
        mentions.walk(definition);
        mentions
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    fn walk(&mut self, node: &Node) {
        match &node.value {
            Value::String(text) => self.read(text),
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(members) => {
                for (key, member) in members {
                    self.read(key);
                    self.walk(member);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number => {}
        }
    }

    fn read(&mut self, text: &str) {
        for (at, _) in text.match_indices(BETWEEN) {
            if self.names.len() > MENTIONS_MAX {
                return;
            }
            let (before, after) = (text.get(..at), text.get(at.saturating_add(BETWEEN.len())..));
            let (Some(before), Some(after)) = (before, after) else { continue };
            let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-';
            let prefix = before.rsplit(|c| !is_id(c)).next().unwrap_or_default();
            let name: String = after.chars().take_while(|c| is_of_name(*c)).take(NAME_CHARS_MAX).collect();
            // What ends a sentence ends no name.
            let name = skeleton(name.trim_end_matches(['.', '-', '/', '_']));
            if !prefix.is_empty() && prefix.len() <= PREFIX_BYTES_MAX && !name.is_empty() {
                self.names.insert((prefix.to_ascii_lowercase(), name));
            }
        }
    }

    fn of_prefix<'m>(&'m self, prefix: &'m str) -> impl Iterator<Item = &'m str> {
        self.names.iter().filter(move |(of, _)| of == prefix).map(|(_, name)| name.as_str())
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/') || letters::hides(c).is_some()
}

/// The tools of one server, as tools of others are compared with them.
#[derive(Clone, Debug, Default)]
pub struct Neighbour {
    id: String,
    /// By what they read like.
    tools: BTreeMap<String, Vec<String>>,
}

impl Neighbour {
    /// The tools of the server `id`.
    #[must_use]
    pub fn new<'a>(id: &str, tools: impl IntoIterator<Item = &'a str>) -> Self {
        let mut by_skeleton: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for tool in tools {
            by_skeleton.entry(skeleton(tool)).or_default().push(tool.to_owned());
        }
        Self { id: id.to_owned(), tools: by_skeleton }
    }

    /// How a tool of another server, with this name and these mentions, passes for one of these or speaks of one.
    #[must_use]
    pub fn shadowed(&self, name: &str, mentions: &Mentions) -> Option<Flag> {
        let flag = |place: &str, what| Some(Flag { sign: Sign::Shadow, place: place.to_owned(), what });
        let id = shown(&self.id);
        let own = skeleton(name);
        if own.strip_prefix(&skeleton(&self.id)).is_some_and(|rest| rest.starts_with(BETWEEN)) {
            return flag("/name", format!("`{}` begins like the tools of upstream `{id}`", shown(name)));
        }
        if let Some(tool) = self.tools.get(&own).and_then(|all| all.iter().find(|tool| is_copy(name, tool))) {
            let what = format!("`{}` reads like the tool `{}` of upstream `{id}`", shown(name), shown(tool));
            return flag("/name", what);
        }
        if mentions.names.len() > MENTIONS_MAX {
            return flag("", format!("it names more than {MENTIONS_MAX} tools by their servers"));
        }
        let lower = self.id.to_ascii_lowercase();
        let tool = mentions.of_prefix(&lower).find_map(|name| self.tools.get(name)?.first())?;
        flag("", format!("it speaks of the tool `{}` of upstream `{id}`", shown(tool)))
    }
}

/// Whether `name`, which reads like `tool`, is the copy of the two: spelled otherwise than by case and separators, and
/// with no fewer strange letters.
fn is_copy(name: &str, tool: &str) -> bool {
    plain(name) != plain(tool) && strange(name) >= strange(tool)
}

fn plain(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '-' | '.' | ' ' | '/') { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// How many letters of a name are not what they look like.
fn strange(name: &str) -> usize {
    let odd = name.chars().filter(|c| !c.is_ascii() || matches!(c, '0' | '1' | '|' | 'I')).count();
    odd.saturating_add(name.matches("vv").count()).saturating_add(name.matches("rn").count())
}
