//! Bundles of any size in which every request meets ten policies, and requests to them.
//!
//! Ten policies are about one tool, in ten shapes: whoever calls it meets all ten scopes, however many other tools there
//! are. The same rules can be written in Rego (`rego`). It must not know how anything is measured.

use anyhow::Result;
use countersign_kernel::policy::{AgentDef, EvaluationRequest, PolicySource, TargetDef, ToolDef};
use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::{Bound, Effect, Facts, SqlFacts};
use countersign_model::record::{History, Recent};

/// Policies that one request meets.
pub(super) const APPLICABLE: usize = 10;
const AGENTS_OF_A_GROUP: usize = 5;
pub(super) const UPSTREAM: &str = "office";
const EFFECTS: [Effect; 4] = [Effect::Read, Effect::Write, Effect::Outbound, Effect::Destructive];

/// How much of everything there is.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) policies: usize,
    /// Tools that are bound; each has at least ten policies where there are enough.
    pub(super) tools: usize,
    /// Whether every second policy is about all tools, and every tool has arguments of its own: what loading finds
    /// hardest, for such a policy has to be checked against every tool.
    pub(super) is_hard: bool,
}

impl Size {
    /// As many tools as get ten policies each.
    pub(super) const fn of(policies: usize) -> Self {
        Self { policies, tools: policies.div_ceil(APPLICABLE), is_hard: false }
    }

    fn groups(self) -> usize {
        self.tools.div_ceil(5).clamp(1, 200)
    }

    /// The group of an agent.
    #[cfg(feature = "rego")]
    pub(super) fn group_of_agent(self, agent: usize) -> String {
        format!("g{}", agent / AGENTS_OF_A_GROUP)
    }

    /// The group whose agents use a tool.
    pub(super) fn group_of(self, tool: usize) -> usize {
        tool % self.groups()
    }
}

/// One policy: which tool it is about, its number, and its shape.
#[derive(Clone, Copy)]
pub(super) struct Rule {
    pub(super) number: usize,
    pub(super) tool: usize,
    pub(super) group: usize,
    pub(super) shape: usize,
}

/// All policies of a bundle.
pub(super) fn rules(size: Size) -> impl Iterator<Item = Rule> {
    (0..size.policies).map(move |number| {
        let tool = (number / APPLICABLE) % size.tools;
        Rule { number, tool, group: size.group_of(tool), shape: number % APPLICABLE }
    })
}

impl Rule {
    /// What makes two policies of one shape differ.
    pub(super) fn bound(self) -> usize {
        self.number % 7 + 3
    }

    fn cedar(self, is_hard: bool) -> String {
        let Self { number, tool, group, shape } = self;
        let bound = self.bound();
        let who = format!("principal in AgentGroup::\"g{group}\"");
        let what = match is_hard && number.is_multiple_of(2) {
            true => "action in Action::\"call\"".to_owned(),
            false => format!("action == Action::\"{UPSTREAM}/t{tool}\""),
        };
        let (effect, who, condition) = match shape {
            0 => ("permit", &*who, "when { context.effect == \"read\" }".to_owned()),
            1 => ("permit", "principal", format!("when {{ context.rows_spelled < {bound} && context.has_where }}")),
            2 => ("permit", &*who, "when { context.kinds.contains(\"insert\") && !context.opaque }".to_owned()),
            3 => ("forbid", "principal", "when { context.tables.contains(\"secrets\") }".to_owned()),
            4 => ("forbid", &*who, format!("when {{ context.calls.minute > {bound}00 || context.depth > {bound} }}")),
            5 => (
                "@gate(\"changes in production\") @quorum(\"2\") forbid",
                "principal",
                "when { resource.environment == \"production\" && context.effect == \"destructive\" }".to_owned(),
            ),
            6 => (
                "@gate(\"large amounts\") forbid",
                &*who,
                format!("when {{ context has amount_micros && context.amount_micros > {bound}000000 }}"),
            ),
            7 => (
                "@obligation(\"max_rows\") @value(\"100\") permit",
                "principal",
                "when { context.effect == \"read\" && context.sql }".to_owned(),
            ),
            8 => ("permit", "principal", "when { context.hosts.contains(\"api.example.com\") }".to_owned()),
            _ => ("forbid", &*who, "unless { context.token_minutes_left > 1 }".to_owned()),
        };
        format!("@id(\"p{number}\")\n{effect} ({who}, {what}, resource)\n{condition};\n")
    }
}

/// The bundle; `changed` says of which policies another version is in it.
pub(super) fn source(size: Size, changed: impl Fn(usize) -> bool) -> Result<PolicySource> {
    let text: String = rules(size)
        .map(|rule| {
            let cedar = rule.cedar(size.is_hard);
            if changed(rule.number) { cedar.replace(";\n", " when { context.depth < 9 };\n") } else { cedar }
        })
        .collect();
    let agents = (0..size.groups() * AGENTS_OF_A_GROUP).map(|agent| {
        let groups = vec![format!("g{}", agent / AGENTS_OF_A_GROUP), "everybody".to_owned()];
        Ok(AgentDef { id: format!("a{agent}").parse()?, groups })
    });
    let target = |id: &str, environment: &str| -> Result<TargetDef> {
        Ok(TargetDef { id: id.parse()?, environment: environment.parse()? })
    };
    let tools = (0..size.tools).map(|tool| {
        let schema = || {
            format!(r#"{{"type":"object","properties":{{"n{tool}":{{"type":"integer"}},"to":{{"type":"string"}}}}}}"#)
        };
        let named = ToolDef::named(UPSTREAM.parse()?, format!("t{tool}").parse()?);
        Ok(ToolDef { input_schema: size.is_hard.then(schema), ..named })
    });
    Ok(PolicySource {
        policies: vec![("bench.cedar".to_owned(), text)],
        agents: agents.collect::<Result<_>>()?,
        targets: vec![target("crm", "production")?, target("lab", "staging")?],
        tools: tools.collect::<Result<_>>()?,
        ..PolicySource::default()
    })
}

/// One request: the agent, the tool and the facts change from one to the next.
pub(super) fn request(size: Size, number: usize) -> Result<EvaluationRequest> {
    let tool = number % size.tools;
    let agent = size.group_of(tool) * AGENTS_OF_A_GROUP + number / size.tools % AGENTS_OF_A_GROUP;
    let effect = EFFECTS.get(number / 3 % EFFECTS.len()).copied().unwrap_or(Effect::Read);
    let (target, environment) = if number.is_multiple_of(3) { ("crm", "production") } else { ("lab", "staging") };
    let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let sql = SqlFacts {
        dialect: "sqlite".to_owned(),
        statements: 1,
        kinds: words(if number.is_multiple_of(2) { &["insert"] } else { &["select"] }),
        tables: words(if number.is_multiple_of(11) { &["customers", "secrets"] } else { &["customers", "orders"] }),
        functions: words(&["count", "lower"]),
        has_where: !number.is_multiple_of(4),
        rows_spelled: (number % 9) as u64,
    };
    let bound = Bound {
        hosts: words(&["api.example.com"]),
        amount_micros: Some((number % 12) as u64 * 1_000_000),
        ..Bound::default()
    };
    let recent = Recent { minute: (number % 50) as u64, ten_minutes: 80, hour: 200, day: 900 };
    Ok(EvaluationRequest {
        agent: format!("a{agent}").parse()?,
        depth: u32::try_from(number % 3)?,
        point: Point::Mcp,
        upstream: UPSTREAM.parse()?,
        tool: format!("t{tool}").parse()?,
        target: target.parse()?,
        environment: environment.parse()?,
        facts: Facts { sql: Some(sql), bound: Some(bound), ..Facts::declared(effect) },
        leases: vec![],
        token_expires: TimeMs(3_600_000),
        now: TimeMs(60_000),
        history: History { calls: recent, changes: recent, new_pair: number.is_multiple_of(5), ..History::default() },
        arguments: b"{}".to_vec(),
    })
}
