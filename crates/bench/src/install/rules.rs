//! Many rules about arguments: for a thousand tools, of which one is called, each with the same number of rules.
//!
//! Policy reads arguments only of tools that were accepted, so the list of accepted tools belongs to it. None of the
//! rules ever fires: what is measured is asking them.

use countersign_kernel::policy::ToolDef;
use countersign_model::Digest;
use countersign_model::id::ToolName;

use super::{TOOL, UPSTREAM};

/// Rules of one tool.
const RULES_OF_A_TOOL: usize = 10;
/// What the upstream lists of its one tool, to the byte: `upstream` answers with it.
pub(crate) const DEFINITION: &str = r#"{"name":"echo","description":"Says it again.","inputSchema":{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}}"#;
const SCHEMA: &str = r#"{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}"#;

/// How many rules there are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules(pub(crate) usize);

impl Rules {
    fn names(self) -> impl Iterator<Item = String> {
        (0..self.0.div_ceil(RULES_OF_A_TOOL).max(1)).map(|tool| match tool {
            0 => TOOL.to_owned(),
            tool => format!("t{tool}"),
        })
    }

    /// The rules as Cedar; empty where there are none.
    pub(super) fn cedar(self) -> String {
        let tools: Vec<String> = self.names().collect();
        (0..self.0)
            .zip(tools.iter().cycle())
            .map(|(rule, tool)| {
                format!(
                    "@id(\"argument-{rule}\")\nforbid (principal, action == Action::\"{UPSTREAM}/{tool}\", resource)\n\
                     when {{ context has args && context.args.text == \"refused {rule}\" }};\n"
                )
            })
            .collect()
    }

    /// The tools of the configuration.
    pub(super) fn bindings(self) -> String {
        let bound = self.names().map(|tool| format!("{tool}: {{ effect: read, arguments: {{ text: plain }} }}"));
        bound.collect::<Vec<_>>().join(", ")
    }

    /// The tools as policy knows them.
    pub(super) fn tools(self) -> anyhow::Result<Vec<ToolDef>> {
        let schema = (self.0 > 0).then(|| SCHEMA.to_owned());
        self.names()
            .map(|tool| {
                let named = ToolDef::named(UPSTREAM.parse()?, tool.parse()?);
                Ok(ToolDef { effect: Some(countersign_model::Effect::Read), input_schema: schema.clone(), ..named })
            })
            .collect()
    }

    fn definitions(self) -> Vec<(String, String)> {
        let of = |tool: String| {
            let definition = DEFINITION.replacen("echo", &tool, 1);
            (tool, definition)
        };
        if self.0 == 0 { Vec::new() } else { self.names().map(of).collect() }
    }

    /// The hashes of the accepted tools.
    pub(super) fn manifests(self) -> anyhow::Result<Vec<(ToolName, Digest)>> {
        let of = |(tool, definition): (String, String)| Ok((tool.parse()?, manifest(&definition)));
        self.definitions().into_iter().map(of).collect()
    }

    /// The list of accepted tools as a file; none where there are no rules.
    pub(super) fn lock(self) -> Option<String> {
        let tools: Vec<String> = self
            .definitions()
            .into_iter()
            .map(|(tool, definition)| {
                format!(r#""{tool}":{{"manifest":"{}","definition":{definition}}}"#, manifest(&definition).hex())
            })
            .collect();
        let server = r#"{"name":"echo","version":"1","instructions":""}"#;
        let tools = (!tools.is_empty()).then(|| tools.join(","))?;
        Some(format!(r#"{{"version":1,"upstream":"{UPSTREAM}","server":{server},"tools":{{{tools}}}}}"#))
    }
}

/// The hash of a tool's definition, as the gateway takes it.
fn manifest(definition: &str) -> Digest {
    Digest::of("countersign tool v1", &[definition.as_bytes()])
}
