//! Names in a rule, looked up in what the configuration knows.
//!
//! It finds what is misspelt; it must not know what a rule does with a name.

use std::collections::BTreeSet;

use countersign_model::id::PolicyId;

use super::known::{Known, ToolGlob};
use super::node::{Node, Value};
use super::problem::{Span, suggestion};
use super::read::{Reader, Spoken};
use super::rule::Choice;

/// The longest id of a rule: policies that it becomes add to it.
const RULE_ID_BYTES_MAX: usize = 96;

impl Reader {
    /// An id of a rule or pattern.
    pub(crate) fn id(&mut self, said: &Spoken, what: &str) -> Option<PolicyId> {
        match PolicyId::new(&said.text) {
            Ok(id) if said.text.len() <= RULE_ID_BYTES_MAX => Some(id),
            Ok(_) => {
                self.fault(said.span, format!("{what} has more than {RULE_ID_BYTES_MAX} bytes"), "shorten it");
                None
            }
            Err(error) => {
                self.fault(said.span, format!("{what}: {error}"), "use letters, digits and dashes");
                None
            }
        }
    }

    /// Names, or `none_of` names. Where `known` is given, each must be in it.
    pub(crate) fn choice(&mut self, node: &Node, what: &str, known: Option<&BTreeSet<String>>) -> Choice {
        let mut choice = Choice::default();
        if let Value::Map(_) = node.value {
            let Some(fields) = self.fields(node, what, &["any_of", "none_of"]) else { return choice };
            if fields.all().next().is_none() {
                self.fault(node.span, format!("{what} names nothing"), "write `any_of` or `none_of` and a list");
            }
            choice.any = fields.get("any_of").map_or_else(Vec::new, |node| self.known_names(node, what, known));
            choice.none = fields.get("none_of").map_or_else(Vec::new, |node| self.known_names(node, what, known));
        } else {
            choice.any = self.known_names(node, what, known);
        }
        choice
    }

    fn known_names(&mut self, node: &Node, what: &str, known: Option<&BTreeSet<String>>) -> Vec<String> {
        let said = self.texts(node, what);
        for name in &said {
            let Some(known) = known.filter(|known| !known.contains(&name.text)) else { continue };
            let listed: Vec<&str> = known.iter().take(12).map(String::as_str).collect();
            let otherwise =
                format!("known are {}; add it to the configuration, or correct the name", listed.join(", "));
            let help = suggestion(&name.text, known.iter().map(String::as_str), &otherwise);
            let message = format!("{what} names `{}`, which the configuration does not know", name.text.escape_debug());
            self.fault(name.span, message, help);
        }
        said.into_iter().map(|name| name.text).collect()
    }

    /// Tools: exact names must be bound; a glob that covers none is warned of.
    pub(crate) fn tools(&mut self, node: &Node, known: &Known) -> (Option<Vec<ToolGlob>>, Vec<ToolGlob>) {
        if let Value::Map(_) = node.value {
            let Some(fields) = self.fields(node, "`tools`", &["any_of", "none_of"]) else { return (None, Vec::new()) };
            let any = fields.get("any_of").map(|node| self.globs(node, known));
            let none = fields.get("none_of").map_or_else(Vec::new, |node| self.globs(node, known));
            return (any, none);
        }
        (Some(self.globs(node, known)), Vec::new())
    }

    fn globs(&mut self, node: &Node, known: &Known) -> Vec<ToolGlob> {
        let said = self.texts(node, "`tools`");
        said.iter().map(|text| self.tool(text, known)).collect()
    }

    /// One tool or glob of tools.
    pub(crate) fn tool(&mut self, said: &Spoken, known: &Known) -> ToolGlob {
        let glob = ToolGlob::new(&said.text);
        if known.tools.iter().any(|(upstream, tool)| glob.covers(upstream, tool)) {
            return glob;
        }
        let shown = said.text.escape_debug();
        if glob.glob {
            self.warn(
                said.span,
                format!("no bound tool is like `{shown}`"),
                "bind the tools that it is meant for; where the rule forbids, it still covers tools without a binding",
            );
        } else {
            let full: Vec<String> = known.tools.iter().map(|(upstream, tool)| format!("{upstream}/{tool}")).collect();
            let bare = known.tools.iter().map(|(_, tool)| tool.as_str());
            let names = full.iter().map(String::as_str).chain(bare);
            let help =
                suggestion(&said.text, names, "bind the tool under its upstream, or write a glob such as `crm/*`");
            self.fault(said.span, format!("no tool `{shown}` is bound"), help);
        }
        glob
    }

    /// A human, where humans are known.
    pub(crate) fn humans(&mut self, said: &[Spoken], known: &Known, span: Span) -> Vec<String> {
        for human in said {
            if let Err(error) = countersign_model::id::HumanId::new(&human.text) {
                self.fault(human.span, error.to_string(), "write the name that the human is enrolled under");
            } else if let Some(humans) = known.humans.as_ref().filter(|humans| !humans.contains(&human.text)) {
                let help =
                    suggestion(&human.text, humans.iter().map(String::as_str), "enrol the human, or correct the name");
                self.fault(human.span, format!("no human is called `{}`", human.text), help);
            }
        }
        if said.len() > countersign_model::verdict::APPROVERS_MAX {
            let message = format!("a gate names at most {} approvers", countersign_model::verdict::APPROVERS_MAX);
            self.fault(span, message, "leave `approvers` out to let any enrolled human approve");
        }
        said.iter().map(|human| human.text.clone()).collect()
    }
}
