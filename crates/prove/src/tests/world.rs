//! What is assumed of every call holds of every request that the kernel makes.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use cedar_policy::{Authorizer, Decision, PolicySet};
use countersign_kernel::policy::{Bundle, EvaluationRequest};
use countersign_model::TimeMs;
use countersign_model::action::Point;
use countersign_model::facts::{Bound, Effect, Facts, SqlFacts};
use countersign_model::record::{History, Recent};
use proptest::prelude::*;

use super::fixture::{POLICY, loaded};
use crate::{expr, world};

fn words() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[a-c]", 0..3)
}

fn facts() -> impl Strategy<Value = Facts> {
    let sql = (words(), any::<bool>(), 0..9_u64, 0..4_u32).prop_map(|(kinds, has_where, rows_spelled, statements)| {
        SqlFacts { kinds, has_where, rows_spelled, statements, ..SqlFacts::default() }
    });
    let number = || proptest::option::of(0..i64::MAX as u64);
    let bound = (number(), number(), number(), 0..9_u64).prop_map(|(amount_micros, count, current, recipients)| {
        Bound { amount_micros, count, current, recipients, ..Bound::default() }
    });
    let effect = (0..Effect::ALL.len()).prop_map(|index| Effect::ALL[index]);
    (effect, any::<bool>(), proptest::option::of(sql), proptest::option::of(bound)).prop_map(
        |(effect, opaque, sql, bound)| {
            let base = if opaque { Facts::opaque("x") } else { Facts::declared(effect) };
            Facts { effect, sql, bound, ..base }
        },
    )
}

fn requests() -> impl Strategy<Value = EvaluationRequest> {
    let places = prop_oneof![Just(("crm", "production")), Just(("lab", "staging"))];
    let tools = prop_oneof![Just(("crm", "query")), Just(("lab", "query")), Just(("crm", "new"))];
    let recent = (0..9_u64, 0..9_u64).prop_map(|(minute, day)| Recent { minute, day, ..Recent::default() });
    let points = prop_oneof![Just(Point::Mcp), Just(Point::Admin), Just(Point::Mail)];
    (facts(), places, tools, recent, (0..i64::MAX as u64, any::<u64>()), points).prop_map(
        |(facts, (target, environment), (upstream, tool), calls, (now, expires), point)| EvaluationRequest {
            agent: "shop".parse().unwrap(),
            depth: 3,
            point,
            upstream: upstream.parse().unwrap(),
            tool: tool.parse().unwrap(),
            target: target.parse().unwrap(),
            environment: environment.parse().unwrap(),
            facts,
            leases: vec![],
            token_expires: TimeMs(expires),
            now: TimeMs(now),
            history: History { calls, growing: 2, ..History::default() },
            arguments: vec![],
        },
    )
}

fn bundle() -> &'static Bundle {
    static BUNDLE: OnceLock<Bundle> = OnceLock::new();
    BUNDLE.get_or_init(|| loaded(POLICY).1)
}

proptest! {
    #[test]
    fn what_is_assumed_holds(asked in requests()) {
        let bundle = bundle();
        let sets = bundle.sets().unwrap();
        let request = bundle.in_cedar(&asked).unwrap().0;
        let action = bundle.action_of(&asked);
        let everything: BTreeSet<String> = [
            "statements", "rows_spelled", "recipients", "growing", "depth", "token_minutes_left", "now_ms", "amount_micros",
            "count", "percent_of_current", "percent_of_previous", "lease_minutes", "calls", "changes", "effect", "point",
            "sql", "upstream", "tool",
        ].map(str::to_owned).into();
        let environments = ["production", "staging"].map(str::to_owned).into();
        let condition = world::condition(&action, &environments, &everything);
        let set = PolicySet::from_policies([expr::policy("world", "permit", &condition).unwrap()]).unwrap();
        let response = Authorizer::new().is_authorized(&request, &set, sets.entities);
        prop_assert_eq!(response.decision(), Decision::Allow, "{:?}", response.diagnostics());
    }
}
