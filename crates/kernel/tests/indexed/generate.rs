//! Random worlds, policies and requests from a seed. Names overlap often, so that scopes meet requests.

use countersign_kernel::policy::EvaluationRequest;
use countersign_model::action::Point;
use countersign_model::facts::{Bound, Effect, Facts, SqlFacts};
use countersign_model::record::{History, Recent};
use countersign_model::{Effect as Declared, TimeMs};

use super::model::{
    Action, ActionName, ENVIRONMENTS, Expr, GROUPS, Layer, Number, Principal, Resource, Rule, Words, World,
};
use super::reference::Asked;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

const EFFECTS: [Effect; 4] = [Effect::Read, Effect::Write, Effect::Destructive, Effect::Opaque];
const WORDS: [&str; 5] = ["alpha", "beta", "gamma", "delta", "Alpha"];

pub(crate) fn world(random: &mut Random) -> World {
    let groups = |random: &mut Random| (0..GROUPS).filter(|_| random.one_in(3)).collect();
    World {
        agents: (0..3 + random.below(4)).map(|_| groups(random)).collect(),
        targets: (0..2 + random.below(4)).map(|_| random.below(ENVIRONMENTS)).collect(),
        tools: (0..2 + random.below(9)).map(|_| (!random.one_in(4)).then(|| random.pick(&EFFECTS))).collect(),
    }
}

pub(crate) fn rules(random: &mut Random, world: &World) -> Vec<Rule> {
    // Some sets are so dense that more gates and obligations fire than one decision can hold.
    let count = if random.one_in(12) { 60 } else { 4 + random.below(22) };
    (0..count).map(|number| rule(random, world, number)).collect()
}

fn rule(random: &mut Random, world: &World, number: usize) -> Rule {
    let layer = match random.below(16) {
        0..=6 => Layer::Permit,
        7..=9 => Layer::Forbid,
        10..=12 => Layer::Gate,
        _ => Layer::Obligation(random.below(40) as u64),
    };
    // A forbid without a condition decides everything that it covers: few are enough.
    let least = usize::from(matches!(layer, Layer::Forbid) && !random.one_in(5));
    let conditions = (0..least + random.below(3)).map(|_| (!random.one_in(4), expr(random, world, 3))).collect();
    Rule {
        id: format!("p{number}"),
        layer,
        principal: principal(random, world),
        action: action(random, world),
        resource: resource(random, world),
        conditions,
    }
}

fn principal(random: &mut Random, world: &World) -> Principal {
    match random.below(9) {
        0..=2 => Principal::Any,
        3 => Principal::IsAgent,
        4 => Principal::Is(random.below(world.agents.len())),
        5 => Principal::Within(random.below(world.agents.len())),
        6..=7 => Principal::InGroup(random.below(GROUPS)),
        _ => Principal::AgentInGroup(random.below(GROUPS)),
    }
}

/// An action that a request can be about, or a group of such.
fn action_name(random: &mut Random, world: &World) -> ActionName {
    match random.below(6) {
        0..=2 => ActionName::Tool(random.below(world.tools.len())),
        3 => ActionName::Unbound,
        4 => ActionName::Call,
        _ => {
            let declared: Vec<Declared> = world.tools.iter().flatten().copied().chain([Declared::Opaque]).collect();
            ActionName::Declared(random.pick(&declared))
        }
    }
}

fn action(random: &mut Random, world: &World) -> Action {
    match random.below(8) {
        0..=1 => Action::Any,
        2..=3 => match action_name(random, world) {
            name @ (ActionName::Tool(_) | ActionName::Unbound) => Action::Is(name),
            group => Action::In(group),
        },
        4..=6 => Action::In(action_name(random, world)),
        _ => Action::InSet((0..1 + random.below(3)).map(|_| action_name(random, world)).collect()),
    }
}

fn resource(random: &mut Random, world: &World) -> Resource {
    match random.below(9) {
        0..=2 => Resource::Any,
        3 => Resource::IsTarget,
        4 => Resource::Is(random.below(world.targets.len())),
        5 => Resource::Within(random.below(world.targets.len())),
        6..=7 => Resource::InEnvironment(random.below(ENVIRONMENTS)),
        _ => Resource::TargetInEnvironment(random.below(ENVIRONMENTS)),
    }
}

fn expr(random: &mut Random, world: &World, depth: usize) -> Expr {
    let number = |random: &mut Random| {
        random.pick(&[
            Number::Statements,
            Number::Rows,
            Number::Depth,
            Number::Now,
            Number::Growing,
            Number::CallsMinute,
            Number::ChangesHour,
        ])
    };
    let inner = |random: &mut Random| Box::new(expr(random, world, depth.saturating_sub(1)));
    match random.below(if depth == 0 { 12 } else { 18 }) {
        0 => Expr::Opaque,
        1 => Expr::NewPair,
        2 => Expr::Effect(random.pick(&EFFECTS)),
        3 => Expr::Environment(random.below(ENVIRONMENTS)),
        4 => Expr::InGroup(random.below(GROUPS)),
        5 => Expr::TargetIs(random.below(world.targets.len())),
        6 => Expr::InEnvironment(random.below(ENVIRONMENTS)),
        7..=8 => {
            let set = random.pick(&[Words::Kinds, Words::Tables, Words::Labels, Words::Hosts]);
            Expr::Contains(set, random.pick(&WORDS).to_owned())
        }
        9 => Expr::AtLeast(number(random), random.pick(&[0, 1, 2, 5, 1_000, i64::MAX])),
        10 => {
            let factor = random.pick(&[2, -3, 1_000_000_007, i64::MAX]);
            let add = random.pick(&[0, 17, i64::MAX - 3, i64::MIN + 3]);
            Expr::Sum(number(random), (factor, add), random.pick(&[0, 100, -5]))
        }
        11 => Expr::Amount(random.pick(&[0, 1_000, 5_000_000])),
        12..=13 => Expr::Not(inner(random)),
        14..=15 => Expr::And(inner(random), inner(random)),
        16 => Expr::Or(inner(random), inner(random)),
        _ => Expr::If(inner(random), inner(random), inner(random)),
    }
}

pub(crate) fn asked(random: &mut Random, world: &World) -> Asked {
    let agent = random.below(world.agents.len());
    let target = random.below(world.targets.len());
    let tool = (!random.one_in(6)).then(|| random.below(world.tools.len()));
    let named = tool.unwrap_or(99);
    let request = EvaluationRequest {
        agent: format!("a{agent}").parse().unwrap(),
        depth: u32::try_from(random.below(4)).unwrap(),
        point: Point::Mcp,
        upstream: World::upstream(named).parse().unwrap(),
        tool: format!("t{named}").parse().unwrap(),
        target: format!("d{target}").parse().unwrap(),
        environment: format!("e{}", world.targets[target]).parse().unwrap(),
        facts: facts(random),
        leases: vec![],
        token_expires: TimeMs(3_600_000),
        now: TimeMs(random.pick(&[0, 7, 60_000, 1_800_000_000_000])),
        history: history(random),
        arguments: vec![],
    };
    Asked { agent, tool, target, request }
}

fn some_words(random: &mut Random) -> Vec<String> {
    WORDS.iter().filter(|_| random.one_in(3)).map(|word| (*word).to_owned()).collect()
}

fn facts(random: &mut Random) -> Facts {
    let effect = random.pick(&EFFECTS);
    let mut facts = if effect == Effect::Opaque { Facts::opaque("random") } else { Facts::declared(effect) };
    if random.one_in(2) {
        facts.sql = Some(SqlFacts {
            dialect: "sqlite".to_owned(),
            statements: u32::try_from(random.below(3)).unwrap(),
            kinds: some_words(random),
            tables: some_words(random),
            functions: vec![],
            has_where: random.one_in(2),
            rows_spelled: random.pick(&[0, 1, 5, 4_000_000_000_000]),
        });
    }
    if random.one_in(2) {
        let amount_micros = random.one_in(2).then(|| random.pick(&[0, 1_000, 9_000_000]));
        facts.bound = Some(Bound { hosts: some_words(random), amount_micros, ..Bound::default() });
    }
    facts
}

fn history(random: &mut Random) -> History {
    let recent = |random: &mut Random| Recent {
        minute: random.below(3) as u64,
        ten_minutes: 3,
        hour: random.pick(&[0, 5, 9_000]),
        day: 9_000,
    };
    History {
        new_pair: random.one_in(2),
        growing: random.below(4) as u64,
        calls: recent(random),
        changes: recent(random),
        labels: some_words(random),
        ..History::default()
    }
}
