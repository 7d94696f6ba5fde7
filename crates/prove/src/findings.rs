//! What is proved of one bundle, and what became of it.
//!
//! Built in: no rule can err, `auto` is never wider than `ceiling`, every obligation can apply. Beside them the properties
//! that people state. A claim over many tools is proven only where it is proven for each.

use std::collections::BTreeSet;
use std::time::Instant;

use cedar_policy::Policy;
use cedar_policy_symcc::Env;
use countersign_kernel::policy::{Bundle, PolicySource, Sets};
use serde_json::json;

use crate::counter::{Counterexample, Replayed, is_allowed, replay, tell};
use crate::expr::{self, policy};
use crate::property::{Claim, Property, Scope};
use crate::question::{Answer, Ask, Prover, Question};
use crate::slice::{Group, groups};
use crate::world;

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds for every call.
    Proven,
    /// It does not hold for this call; the real authorizer agrees.
    Refuted(Box<Counterexample>),
    /// It was refuted without a call to show: what was looked for is nowhere.
    Absent(String),
    /// Nobody knows, for these reasons.
    NotProven(Vec<String>),
}

/// One claim and what became of it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Its name: that of the property, or of the rule that it is about.
    pub id: String,
    /// What kind: `errors`, `layers`, `obligation` or `property`.
    pub kind: &'static str,
    /// The claim, for people.
    pub text: String,
    /// What became of it.
    pub verdict: Verdict,
    /// How many questions it took.
    pub questions: usize,
}

/// Everything that was asked.
#[derive(Clone, Debug)]
pub struct Report {
    /// In order.
    pub findings: Vec<Finding>,
    /// How many questions were asked.
    pub questions: usize,
    /// How long it took, in milliseconds.
    pub took_ms: u128,
}

impl Report {
    /// Whether all of it is proven.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict == Verdict::Proven)
    }
}

/// What a counterexample must show when it is played again.
#[derive(Clone, Debug)]
enum Shows {
    Error(String),
    Wider,
    /// Sat is the good answer: the rule applies to a call that can run.
    Applies(String),
    /// Sat is the good answer: some call is in the scope.
    Exists,
    Runs {
        alone: bool,
    },
    Without {
        gates: bool,
        rules: Vec<String>,
    },
}

/// One question with what it is for.
struct Asked<'a> {
    finding: usize,
    question: Question<'a>,
    shows: Shows,
    /// Allows the calls of a property's scope.
    scope: Option<Policy>,
    /// What the property itself reads.
    reads: BTreeSet<String>,
    alike: usize,
}

struct Work<'a> {
    bundle: &'a Bundle,
    sets: Sets<'a>,
    environments: BTreeSet<String>,
    groups: Vec<Group>,
    findings: Vec<(String, &'static str, String)>,
    asked: Vec<Asked<'a>>,
    /// Findings that went wrong before anything was asked.
    wrong: Vec<(usize, String)>,
}

/// Proves what is built in, and the properties. `begin` hears how many questions there are, `each` every answer.
///
/// # Errors
/// The bundle's rules cannot be taken apart, or a property names what is not known.
pub fn prove(
    (bundle, source): (&Bundle, &PolicySource),
    properties: &[Property],
    prover: &Prover,
    (begin, each): (&dyn Fn(usize), &(dyn Fn() + Sync)),
) -> Result<Report, String> {
    let started = Instant::now();
    let environments = source.targets.iter().map(|target| target.environment.to_string()).collect();
    let groups = groups(bundle)?;
    let mut work = Work {
        bundle,
        sets: bundle.sets()?,
        environments,
        groups,
        findings: Vec::new(),
        asked: Vec::new(),
        wrong: Vec::new(),
    };
    work.never_errs()?;
    work.layers()?;
    work.obligations()?;
    for property in properties {
        let checked = property.checked(bundle, source);
        let (claim, scope) = checked.map_err(|error| format!("in property `{}`: {error}", property.id))?;
        work.property(property, &claim, scope)?;
    }
    begin(work.asked.len());
    let questions: Vec<Question<'_>> = work.asked.iter().map(|asked| asked.question.clone()).collect();
    let answers = prover.ask(&questions, each);
    let findings = work.judged(&answers);
    Ok(Report { findings, questions: questions.len(), took_ms: started.elapsed().as_millis() })
}

impl<'a> Work<'a> {
    fn finding(&mut self, id: &str, kind: &'static str, text: String) -> usize {
        self.findings.push((id.to_owned(), kind, text));
        self.findings.len().saturating_sub(1)
    }

    fn add(&mut self, finding: usize, group: &Group, ask: Ask, shows: Shows) {
        let question = Question { schema: self.sets.schema, action: group.action.clone(), ask };
        self.asked.push(Asked {
            finding,
            question,
            shows,
            scope: None,
            reads: BTreeSet::new(),
            alike: group.names.len(),
        });
    }

    fn world(&self, group: &Group, also: &BTreeSet<String>) -> serde_json::Value {
        let reads: BTreeSet<String> = group.slice.reads.union(also).cloned().collect();
        world::condition(&group.action, &self.environments, &reads)
    }

    fn never_errs(&mut self) -> Result<(), String> {
        for id in rules(self.sets) {
            let finding = self.finding(&id, "errors", format!("rule `{id}` cannot err"));
            for group in self.groups.clone() {
                let of_group = group.slice.auto.iter().chain(&group.slice.obliging);
                for seen in of_group.filter(|policy| policy.id().to_string() == id) {
                    let within = self.world(&group, &BTreeSet::new());
                    let ask = Ask::NeverErrs(Box::new(guarded(seen, &within)?));
                    self.add(finding, &group, ask, Shows::Error(id.clone()));
                }
            }
        }
        Ok(())
    }

    fn layers(&mut self) -> Result<(), String> {
        let finding = self.finding("layers", "layers", "what runs without consent could run with it".to_owned());
        for group in self.groups.clone() {
            let ask = Ask::Implies(group.slice.auto.clone(), group.slice.ceiling.clone());
            self.add(finding, &group, ask, Shows::Wider);
        }
        Ok(())
    }

    fn obligations(&mut self) -> Result<(), String> {
        let all: Vec<String> = self.sets.obligations.keys().cloned().collect();
        for id in all {
            let text = format!("the obligation of rule `{id}` applies to some call that can run");
            let finding = self.finding(&id, "obligation", text);
            for group in self.groups.clone() {
                let Some(rule) = group.slice.obliging.iter().find(|policy| policy.id().to_string() == id) else {
                    continue;
                };
                let within = self.world(&group, &BTreeSet::new());
                let ask = Ask::Disjoint(only(&group.slice.ceiling, &within)?, vec![rule.clone()]);
                self.add(finding, &group, ask, Shows::Applies(id.clone()));
            }
        }
        Ok(())
    }

    fn property(&mut self, property: &Property, claim: &Claim, scope: &Scope) -> Result<(), String> {
        let finding = self.finding(&property.id, "property", property.text.clone());
        let condition = scope.condition();
        let mut read = BTreeSet::new();
        expr::read(&condition, &mut read);
        for mut group in self.groups.clone() {
            group.names.retain(|name| scope.means(name));
            let Some(name) = group.names.first() else { continue };
            group.action = crate::counter::action(name)?;
            let within = expr::all([self.world(&group, &read), condition.clone()]);
            let scope = policy("scope", "permit", &within)?;
            let can_run = only(&group.slice.ceiling, &within)?;
            let named = |rules: &[Policy], ids: &[String]| -> Result<Vec<Policy>, String> {
                rules.iter().filter(|rule| ids.contains(&rule.id().to_string())).map(permitting).collect()
            };
            let (ask, shows) = match claim {
                Claim::NeverAlone => {
                    (Ask::Disjoint(group.slice.auto.clone(), vec![scope.clone()]), Shows::Runs { alone: true })
                }
                Claim::Never => {
                    (Ask::Disjoint(group.slice.ceiling.clone(), vec![scope.clone()]), Shows::Runs { alone: false })
                }
                Claim::Gated(ids) => {
                    let ask = Ask::Implies(can_run, named(&group.slice.auto, ids)?);
                    (ask, Shows::Without { gates: true, rules: ids.clone() })
                }
                Claim::Obliged(ids) => {
                    let ask = Ask::Implies(can_run, named(&group.slice.obliging, ids)?);
                    (ask, Shows::Without { gates: false, rules: ids.clone() })
                }
            };
            let exists = Ask::Disjoint(vec![scope.clone()], vec![scope.clone()]);
            for (ask, shows) in [(ask, shows), (exists, Shows::Exists)] {
                self.add(finding, &group, ask, shows);
                if let Some(asked) = self.asked.last_mut() {
                    asked.scope = Some(scope.clone());
                    asked.reads.clone_from(&read);
                }
            }
        }
        if self.asked.iter().all(|asked| asked.finding != finding) {
            self.wrong.push((finding, "its scope names no tool".to_owned()));
        }
        Ok(())
    }

    fn judged(&self, answers: &[Answer]) -> Vec<Finding> {
        let all = self.findings.iter().enumerate();
        all.map(|(index, (id, kind, text))| {
            let mine: Vec<(&Asked<'_>, &Answer)> =
                self.asked.iter().zip(answers).filter(|(asked, _)| asked.finding == index).collect();
            let wrong = self.wrong.iter().filter(|(finding, _)| *finding == index).map(|(_, why)| why.clone());
            let verdict = self.verdict(&mine, wrong.collect());
            Finding { id: id.clone(), kind, text: text.clone(), verdict, questions: mine.len() }
        })
        .collect()
    }

    fn verdict(&self, mine: &[(&Asked<'_>, &Answer)], mut open: Vec<String>) -> Verdict {
        let looked_for = mine.iter().any(|(asked, _)| matches!(asked.shows, Shows::Applies(_) | Shows::Exists));
        let mut found = false;
        for (asked, answer) in mine {
            let is_search = matches!(asked.shows, Shows::Applies(_) | Shows::Exists);
            match answer {
                Answer::Holds => {}
                Answer::Open(why) => open.push(format!("{}: {why}", asked.question.action.id().unescaped())),
                Answer::Fails(env) => match self.shown(asked, env) {
                    Ok(_) if is_search => found = true,
                    Ok(counterexample) => return Verdict::Refuted(Box::new(counterexample)),
                    Err(why) => open.push(format!("counterexample did not replay: {why}")),
                },
            }
        }
        open.sort();
        open.dedup();
        let is_obligation = mine.iter().any(|(asked, _)| matches!(asked.shows, Shows::Applies(_)));
        match (looked_for && !found, open.is_empty(), is_obligation) {
            // What was found is enough; other tools do not matter.
            (false, _, true) => Verdict::Proven,
            (false, true, false) => Verdict::Proven,
            (true, true, _) => Verdict::Absent(if is_obligation {
                "it applies to no call that can run: correct or remove it".to_owned()
            } else {
                "no call is in its scope, so it says nothing: correct the scope".to_owned()
            }),
            _ => Verdict::NotProven(open),
        }
    }

    /// The counterexample, where the real authorizer agrees that it is one.
    fn shown(&self, asked: &Asked<'_>, env: &Env) -> Result<Counterexample, String> {
        let seen = replay(env, self.bundle)?;
        let schema = self.sets.schema;
        if let Some(scope) = &asked.scope
            && !is_allowed(env, scope, schema)?
        {
            return Err("the call is not in the scope".to_owned());
        }
        let rules = asked.shows.rules(&seen)?;
        tell(env, self.bundle, (&rules, &asked.reads), asked.alike)
    }
}

impl Shows {
    /// The rules that show it, or why the call does not.
    fn rules(&self, seen: &Replayed) -> Result<BTreeSet<String>, String> {
        let runs = |allowed: bool, what: &str| {
            if !seen.errors.is_empty() {
                let who = seen.errors.iter().cloned().collect::<Vec<_>>().join(", ");
                return Err(format!("the call is denied, for {who} errs"));
            }
            if allowed { Ok(seen.determining.clone()) } else { Err(format!("the call does not {what}")) }
        };
        let one = |id: &String| BTreeSet::from([id.clone()]);
        match self {
            Self::Exists => Ok(BTreeSet::new()),
            Self::Error(id) if seen.errors.contains(id) => Ok(one(id)),
            Self::Error(id) => Err(format!("{id} does not err")),
            Self::Wider => runs(seen.auto && !seen.ceiling, "pass one layer only"),
            Self::Runs { alone: true } => runs(seen.auto, "run without consent"),
            Self::Runs { alone: false } => runs(seen.ceiling, "run with consent"),
            Self::Applies(id) => {
                runs(seen.ceiling && seen.obliging.contains(id), "run under the obligation").map(|_| one(id))
            }
            Self::Without { gates, rules } => {
                let fired = if *gates { &seen.gates } else { &seen.obliging };
                runs(seen.ceiling && !rules.iter().any(|id| fired.contains(id)), "run without it")
            }
        }
    }
}

/// The ids of all rules, in order.
fn rules(sets: Sets<'_>) -> BTreeSet<String> {
    sets.auto.policies().chain(sets.obliging.policies()).map(|policy| policy.id().to_string()).collect()
}

/// A rule that is asked only within a condition.
pub(crate) fn guarded(rule: &Policy, within: &serde_json::Value) -> Result<Policy, String> {
    let mut spelled = rule.to_json().map_err(|error| error.to_string())?;
    if let Some(conditions) = spelled.get_mut("conditions").and_then(serde_json::Value::as_array_mut) {
        conditions.insert(0, json!({"kind": "when", "body": within}));
    }
    Policy::from_json(Some(rule.id().clone()), spelled).map_err(|error| error.to_string())
}

/// A rule as a permit, whatever it was.
pub(crate) fn permitting(rule: &Policy) -> Result<Policy, String> {
    let mut spelled = rule.to_json().map_err(|error| error.to_string())?;
    if let Some(members) = spelled.as_object_mut() {
        members.insert("effect".to_owned(), json!("permit"));
    }
    Policy::from_json(Some(rule.id().clone()), spelled).map_err(|error| error.to_string())
}

/// Rules that allow nothing outside of a condition.
pub(crate) fn only(rules: &[Policy], within: &serde_json::Value) -> Result<Vec<Policy>, String> {
    let mut all = rules.to_vec();
    all.push(policy("within", "forbid", &expr::not(within.clone()))?);
    Ok(all)
}
