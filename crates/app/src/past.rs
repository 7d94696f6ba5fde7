//! The recorded past, for commands that ask what it says about a policy: verified on the way, record by record, in flat
//! memory, offline or beside a running gateway.
//!
//! Policy files of another policy are read here too. It must not know what is asked of the past.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use countersign_effects::binding::{Binding, facts, spoken, texts, with_matched};
use countersign_effects::json::{self, Limits};
use countersign_gate::leaf_of;
use countersign_kernel::policy::{Bundle, PolicySource};
use countersign_kernel::replay::Leaf;
use countersign_ledger::{Record as Stored, Store, Vault, VisitError};
use countersign_model::facts::{Bound, Facts};
use countersign_model::id::{Environment, TargetId};
use countersign_model::record::Attempt;
use countersign_model::{Body, Digest, Record, TimeMs};
use countersign_policy::backtest::{Again, Known};
use countersign_policy::rules::{Original, Rules};
use countersign_policy::yaml::Span;
use countersign_receipt::VerifierKey;
use countersign_receipt::merkle::TreeHead;

use crate::cli::Period;
use crate::commands::log::{is_running, is_there, read_key};
use crate::commands::query::moment;
use crate::compose;
use crate::config::Config;
use crate::context::{Context, progress, wall};
use crate::layout::Layout;
use crate::policies::Policies;
use crate::terminal::{unverified, usage};
use crate::walk::{self, Walker};

/// How often a failed walk is repeated beside a running gateway, which writes the very frame that is read last.
const TRIES: usize = 5;

/// A log and the part of it that is looked at.
pub(crate) struct Past {
    store: Store,
    vault: Option<Vault>,
    key: Option<VerifierKey>,
    /// The first moment of the period.
    pub(crate) since: TimeMs,
    /// The first moment after it.
    pub(crate) until: TimeMs,
    /// The moment at which it was asked.
    pub(crate) now: TimeMs,
}

/// One record with the configuration of the process that wrote it, where its start is still in the log.
pub(crate) struct Entry {
    pub(crate) leaf: Leaf,
    pub(crate) configuration: Option<Digest>,
}

/// Takes records in, in order.
type Visit<'a> = dyn FnMut(&Entry) -> Result<(), VisitError> + 'a;

impl Past {
    /// Opens the log that `period` means, to be looked at from `since` on.
    pub(crate) fn open((since_text, period): (&str, &Period), context: &Context) -> Result<Self> {
        let now = wall();
        let since = moment(since_text, now)?;
        let until = period.until.as_deref().map_or(Ok(TimeMs(u64::MAX)), |text| moment(text, now))?;
        if since >= until {
            return Err(usage(format!("`--since {since_text}` is not before `--until`; nothing lies between")));
        }
        let ledger = period.ledger.clone().unwrap_or_else(|| context.layout.ledger());
        is_there(&ledger)?;
        let store = Store::real(ledger);
        // A copy for an auditor has no vault: then every payload is as good as erased.
        let vault = store.vault().exists().then(|| Vault::open(&store)).transpose()?;
        let key = period.key.as_deref().map(read_key).transpose()?;
        Ok(Self { store, vault, key, since, until, now })
    }

    /// Whether payloads can be read at all.
    pub(crate) const fn has_payloads(&self) -> bool {
        self.vault.is_some()
    }

    /// Hands every record up to the end of the period to `visit`, once and in order, but for attempts before it. The
    /// whole log is verified.
    pub(crate) fn each(&self, context: &Context, visit: &mut Visit<'_>) -> Result<TreeHead> {
        let mut next = 0;
        let mut walked = self.walk(context, &mut next, visit);
        for _ in 0..TRIES {
            if walked.is_ok() || !is_running(context) {
                break;
            }
            std::thread::sleep(Duration::from_millis(200));
            walked = self.walk(context, &mut next, visit);
        }
        walked.map_err(|error| unverified(error.to_string()))
    }

    fn walk(
        &self,
        context: &Context,
        next: &mut u64,
        visit: &mut Visit<'_>,
    ) -> Result<TreeHead, countersign_ledger::verify::WalkError> {
        let bar = progress(!context.out.json);
        let mut configuration = None;
        let mut take = |stored: Stored<'_>| {
            let index = stored.index;
            let record = Record::from_leaf(stored.leaf)?;
            if let Body::Started(started) = &record.body {
                configuration = Some(started.configuration);
            }
            // What an earlier try has handed on already.
            if index < *next || !self.is_wanted(&record) {
                return Ok(());
            }
            *next = index.saturating_add(1);
            visit(&Entry { leaf: leaf_of(self.vault.as_ref(), stored)?, configuration })
        };
        let walker = Walker { vault: self.vault.as_ref(), begin: &mut |_| Ok(()), visit: &mut take };
        let walked = walk::walk(&self.store, self.key.as_ref(), walker, |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        walked.map(|report| report.head)
    }

    fn is_wanted(&self, record: &Record) -> bool {
        record.at < self.until && (record.body.attempt().is_none() || record.at >= self.since)
    }
}

/// A policy that is asked about: its configuration, what its bundle is made of, and the bundle.
pub(crate) struct Asked {
    pub(crate) config: Config,
    pub(crate) source: PolicySource,
    pub(crate) bundle: Bundle,
    pub(crate) rules: Rules,
}

impl Asked {
    /// The current configuration and policy.
    pub(crate) fn current(layout: &Layout) -> Result<Self> {
        let config = Config::load(&layout.config()).map_err(|error| usage(format!("{error:#}")))?;
        Self::of(config)
    }

    /// What `new` names: nothing, a configuration, a folder with one, or policy files.
    pub(crate) fn new(new: &[PathBuf], layout: &Layout) -> Result<Self> {
        let [first, rest @ ..] = new else { return Self::current(layout) };
        let failed = |error: anyhow::Error| usage(format!("{error:#}"));
        if let Some(path) = configuration(first).map_err(failed)? {
            if let Some(more) = rest.first() {
                return Err(usage(format!(
                    "`{}` is a configuration and `{}` stands beside it; name one configuration, or policy files alone",
                    first.display(),
                    more.display()
                )));
            }
            return Self::of(Config::load(&path).map_err(failed)?);
        }
        let mut config = Config::load(&layout.config()).map_err(failed)?;
        let names: Vec<String> = new.iter().map(|path| path.display().to_string()).collect();
        config.policies = Policies::read(&names, Path::new(""), &config.known()).map_err(failed)?;
        Self::of(config)
    }

    fn of(config: Config) -> Result<Self> {
        let failed = |error: anyhow::Error| usage(format!("{error:#}"));
        let source = compose::source(&config).map_err(failed)?;
        let bundle = Bundle::load(&source).map_err(|error| usage(error.to_string()))?;
        let mut rules = Rules::read(&source.policies).map_err(|error| usage(error.to_string()))?;
        for (compiled, text) in &config.policies.compiled {
            rules.written_as(&compiled.file, &|id| place(compiled.sources.get(id)?, text));
        }
        Ok(Self { config, source, bundle, rules })
    }
}

/// Lines and text of a rule in YAML.
fn place(span: &Span, text: &str) -> Option<Original> {
    let own = text.get(span.start..span.end)?.trim_end();
    Some(Original { lines: (span.line, span.last_line), text: own.to_owned() })
}

/// The configuration that `path` names, if it names one.
fn configuration(path: &Path) -> Result<Option<PathBuf>> {
    if path.is_dir() {
        let inside = path.join("countersign.yaml");
        if !inside.exists() {
            bail!("there is no `countersign.yaml` in `{}`; name a configuration or policy files", path.display());
        }
        return Ok(Some(inside));
    }
    if path.extension().is_none_or(|extension| extension != "yaml" && extension != "yml") {
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    // A policy in YAML has no upstreams.
    Ok(text.lines().any(|line| line.starts_with("upstreams:")).then(|| path.to_owned()))
}

/// Makes facts again where the record's are not those of the new configuration and policy.
#[derive(Clone, Copy)]
pub(crate) struct Recall<'a> {
    new: &'a Asked,
    current: &'a Asked,
}

/// What a configuration says of a tool.
#[derive(PartialEq, Eq)]
struct Declared<'a> {
    binding: Option<&'a Binding>,
    target: &'a TargetId,
    environment: &'a Environment,
}

impl<'a> Recall<'a> {
    /// From records under `current` or before it to `new`.
    pub(crate) const fn new(new: &'a Asked, current: &'a Asked) -> Self {
        Self { new, current }
    }

    /// What is known of this attempt under the new configuration and policy. `then` is the configuration under which it
    /// was decided, where that is known.
    pub(crate) fn known(&self, attempt: &Attempt, (then, arguments): (Option<Digest>, Option<&[u8]>)) -> Known {
        let Some(declared) = declared(&self.new.config, attempt) else {
            return Known::Missing(format!("its upstream `{}` is not in the new configuration", attempt.upstream));
        };
        if self.has_same_bindings(&declared, attempt, then) && self.has_same_patterns(attempt) {
            return without_patterns(attempt, self.new);
        }
        let Some(arguments) = arguments else {
            let why =
                "payload erased, and it was decided under other bindings or patterns, or under ones not known here";
            return Known::Missing(why.to_owned());
        };
        if attempt.redactions.total > 0 {
            let why = "its arguments held secrets that are not on record, and they would have to be read again";
            return Known::Missing(why.to_owned());
        }
        let node = match json::parse(arguments, &Limits::default()) {
            Ok(node) => node,
            Err(error) => return Known::Missing(format!("its arguments cannot be read again: {error}")),
        };
        let tool = format!("{}/{}", attempt.upstream, attempt.tool);
        let spoken = spoken(declared.binding, &node);
        let matched = self.new.bundle.patterns().matched(&tool, &texts(&node, &spoken));
        Known::Again(Box::new(Again {
            facts: with_matched(facts(declared.binding, &node, arguments), &matched),
            target: declared.target.clone(),
            environment: declared.environment.clone(),
        }))
    }

    /// Whether the new configuration says of the tool what that of then said.
    fn has_same_bindings(&self, new: &Declared<'_>, attempt: &Attempt, then: Option<Digest>) -> bool {
        let declares = |asked: &Asked| declared(&asked.config, attempt).as_ref() == Some(new);
        then == Some(self.new.config.hash) || (then == Some(self.current.config.hash) && declares(self.current))
    }

    /// Whether the new policy has the patterns of then, or none at all.
    fn has_same_patterns(&self, attempt: &Attempt) -> bool {
        let then = attempt.inputs.policy;
        let patterns = &self.new.source.patterns;
        patterns.is_empty()
            || then == self.new.bundle.hash()
            || (then == self.current.bundle.hash() && *patterns == self.current.source.patterns)
    }
}

/// The facts of the record; what matched patterns of then matches nothing of a policy without patterns.
fn without_patterns(attempt: &Attempt, new: &Asked) -> Known {
    match &attempt.facts.bound {
        Some(bound) if new.source.patterns.is_empty() && !bound.matched.is_empty() => {
            let bound = Bound { matched: Vec::new(), ..bound.clone() };
            Known::Again(Box::new(Again {
                facts: Facts { bound: (bound != Bound::default()).then_some(bound), ..attempt.facts.clone() },
                target: attempt.target.clone(),
                environment: attempt.environment.clone(),
            }))
        }
        _ => Known::AsRecorded,
    }
}

fn declared<'a>(config: &'a Config, attempt: &Attempt) -> Option<Declared<'a>> {
    let upstream = config.upstreams.iter().find(|upstream| upstream.id == attempt.upstream)?;
    let binding = upstream.tools.get(&attempt.tool);
    let (target, environment) =
        binding.map_or((&upstream.target, &upstream.environment), |bound| (&bound.target, &bound.environment));
    Some(Declared { binding, target, environment })
}
