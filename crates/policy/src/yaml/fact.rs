//! Conditions on facts: what `when` and `unless` say, and what that is in Cedar.
//!
//! A fact may be unknown: the call was not understood (it is opaque), or it carries no such number. Then a condition is
//! what is worst for the agent, which depends on the rule: true where the rule denies or asks, false where it allows. So
//! every condition is made into Cedar with the answer that the unknown gets. It must not know rules, layers or scopes.

use super::est::Expr;

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// `context.effect` is one of these.
    Effects(Vec<String>),
    /// A set of names.
    Names { attribute: &'static str, test: Names, values: Vec<String> },
    /// Whether a set of names holds anything.
    Any { attribute: &'static str, wanted: bool },
    /// A flag.
    Flag { attribute: &'static str, wanted: bool },
    /// A number, compared.
    Number { attribute: &'static str, than: Than },
    /// Calls or changes within a window, compared.
    Recent { attribute: &'static str, window: &'static str, than: Than },
    /// A text that is one of these.
    OneOf { attribute: &'static str, values: Vec<String> },
    /// The call carries this number.
    Says { attribute: &'static str },
    /// An argument of the call.
    Argument { path: Vec<String>, test: ArgumentTest },
}

/// How the names of a call are held against those of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// A bare list: only these where the rule allows, any of these where it denies or asks.
    Plain,
    /// At least one of the call's is in the list.
    AnyOf,
    /// The call names some, and all of them are in the list.
    AllIn,
    /// The call names some, and none of them is in the list.
    NoneOf,
    /// At least one of the call's is not in the list.
    Outside,
    /// The call's hold all of the list.
    Holds,
}

/// A comparison with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Than {
    pub(crate) operator: Operator,
    pub(crate) number: i64,
}

/// How two numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    More,
    AtLeast,
    Less,
    AtMost,
    Equal,
}

impl Operator {
    /// All, with how they are written; the longer before the shorter that it begins with.
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        (">=", Self::AtLeast),
        ("<=", Self::AtMost),
        ("==", Self::Equal),
        (">", Self::More),
        ("<", Self::Less),
        ("=", Self::Equal),
    ];

    /// The comparison in Cedar. It prints `a > b` as `!(a <= b)`, so `b < a` is what reads well.
    fn expr(self, left: Expr, right: Expr) -> Expr {
        match self {
            Self::More => right.compare("<", left),
            Self::AtLeast => right.compare("<=", left),
            Self::Less => left.compare("<", right),
            Self::AtMost => left.compare("<=", right),
            Self::Equal => left.compare("==", right),
        }
    }

    const fn of_decimals(self) -> Option<&'static str> {
        match self {
            Self::More => Some("greaterThan"),
            Self::AtLeast => Some("greaterThanOrEqual"),
            Self::Less => Some("lessThan"),
            Self::AtMost => Some("lessThanOrEqual"),
            Self::Equal => None,
        }
    }
}

/// What an argument is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ArgumentTest {
    Flag(bool),
    Long(Than),
    /// An operator and a number with a decimal point.
    Decimal(Operator, String),
    OneOf(Vec<String>),
    Like(String),
    /// A list that holds this text.
    Contains(String),
}

impl Fact {
    /// Whether it follows from what was understood of the call; then nothing is known of it where the call is opaque.
    pub(crate) fn understood(&self) -> bool {
        match self {
            // Who names `opaque` speaks of exactly that.
            Self::Effects(effects) => !effects.iter().any(|effect| effect == "opaque"),
            Self::Names { attribute, .. } | Self::Any { attribute, .. } | Self::Number { attribute, .. } => !matches!(
                *attribute,
                "matched" | "labels" | "run_labels" | "leases" | "depth" | "lease_minutes" | "token_minutes_left"
            ),
            Self::Flag { attribute, .. } => !matches!(*attribute, "opaque" | "new_pair"),
            Self::Says { .. } => true,
            Self::Recent { .. } | Self::OneOf { .. } | Self::Argument { .. } => false,
        }
    }

    /// Whether a call may carry nothing that it speaks of.
    pub(crate) fn may_lack(&self) -> bool {
        match self {
            Self::Number { attribute, .. } | Self::OneOf { attribute, .. } => OPTIONAL.contains(attribute),
            Self::Argument { .. } => true,
            _ => false,
        }
    }

    /// The condition in Cedar, with `unknown` where a number or argument is not there.
    pub(crate) fn expr(&self, unknown: bool) -> Expr {
        match self {
            Self::Effects(effects) => one_of(Expr::fact("effect"), effects),
            Self::Names { attribute, test, values } => names(attribute, *test, values, unknown),
            Self::Any { attribute, wanted } => {
                let empty = Expr::fact(attribute).emptiness();
                if *wanted { empty.not() } else { empty }
            }
            Self::Flag { attribute, wanted } => {
                let flag = Expr::fact(attribute);
                if *wanted { flag } else { flag.not() }
            }
            Self::Number { attribute, than } => {
                let test = than.operator.expr(Expr::fact(attribute), Expr::long(than.number));
                if OPTIONAL.contains(attribute) {
                    if_there([(Expr::context(), *attribute)], test, unknown)
                } else {
                    test
                }
            }
            Self::Recent { attribute, window, than } => {
                than.operator.expr(Expr::fact(attribute).dot(window), Expr::long(than.number))
            }
            Self::OneOf { attribute, values } => {
                let test = one_of(Expr::fact(attribute), values);
                if OPTIONAL.contains(attribute) {
                    if_there([(Expr::context(), *attribute)], test, unknown)
                } else {
                    test
                }
            }
            Self::Says { attribute } => Expr::context().has(attribute),
            Self::Argument { path, test } => argument(path, test, unknown),
        }
    }
}

/// Attributes that a call may lack.
const OPTIONAL: [&str; 6] =
    ["amount_micros", "count", "percent_of_current", "percent_of_previous", "previous_tool", "lease_minutes"];

/// All conditions together, `unknown` being the answer of those of which nothing is known.
pub(crate) fn all(facts: &[Fact], unknown: bool) -> Option<Expr> {
    let understood = Expr::all(facts.iter().filter(|fact| fact.understood()).map(|fact| fact.expr(unknown)));
    let opaque = Expr::fact("opaque");
    let understood =
        understood.map(|all| if unknown { opaque.compare("||", all) } else { opaque.not().compare("&&", all) });
    let known = facts.iter().filter(|fact| !fact.understood()).map(|fact| fact.expr(unknown));
    Expr::all(known.chain(understood))
}

fn one_of(subject: Expr, values: &[String]) -> Expr {
    match values {
        [only] => subject.compare("==", Expr::text(only)),
        many => Expr::texts(many.iter().map(String::as_str)).compare("contains", subject),
    }
}

fn names(attribute: &'static str, test: Names, values: &[String], unknown: bool) -> Expr {
    let listed = || Expr::texts(values.iter().map(String::as_str));
    let named = || Expr::fact(attribute);
    let any = || match values {
        [only] => named().compare("contains", Expr::text(only)),
        _ => named().compare("containsAny", listed()),
    };
    let within = || listed().compare("containsAll", named());
    let some = || named().emptiness().not();
    match test {
        Names::Plain if unknown => any(),
        Names::AnyOf => any(),
        Names::Plain | Names::AllIn => some().compare("&&", within()),
        Names::NoneOf => some().compare("&&", any().not()),
        Names::Outside => within().not(),
        Names::Holds => match values {
            [_] => any(),
            _ => named().compare("containsAll", listed()),
        },
    }
}

/// `test` where every attribute on the way is there, else `unknown`.
fn if_there<'a>(way: impl IntoIterator<Item = (Expr, &'a str)>, test: Expr, unknown: bool) -> Expr {
    let has = Expr::all(way.into_iter().map(|(of, name)| of.has(name)));
    match has {
        None => test,
        // Cedar's validator follows `if` and `&&`, and nothing else, to know that an attribute is there.
        Some(has) if unknown => has.choose(test, Expr::flag(true)),
        Some(has) => has.compare("&&", test),
    }
}

fn argument(path: &[String], test: &ArgumentTest, unknown: bool) -> Expr {
    let mut way = vec![(Expr::context(), "args")];
    let mut value = Expr::fact("args");
    for part in path {
        way.push((value.clone(), part.as_str()));
        value = value.dot(part);
    }
    let test = match test {
        ArgumentTest::Flag(true) => value,
        ArgumentTest::Flag(false) => value.not(),
        ArgumentTest::Long(than) => than.operator.expr(value, Expr::long(than.number)),
        ArgumentTest::Decimal(operator, number) => match operator.of_decimals() {
            Some(method) => value.method(method, Expr::decimal(number)),
            None => value.compare("==", Expr::decimal(number)),
        },
        ArgumentTest::OneOf(values) => one_of(value, values),
        ArgumentTest::Like(glob) => value.like(glob),
        ArgumentTest::Contains(text) => value.compare("contains", Expr::text(text)),
    };
    if_there(way, test, unknown)
}
