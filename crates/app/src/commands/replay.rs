//! `replay`: every recorded decision is made again, and what differs is named.
//!
//! It verifies what it reads on the way and asks nobody. Decisions of another configuration or policy than the one given
//! follow from their own inputs and no more: they are outdated, and a log that has any is not called clean. Kernel versions are compared by what was recorded.

use std::cell::RefCell;

use anyhow::Result;
use countersign_gate::leaf_of;
use countersign_kernel::image::image_digest;
use countersign_kernel::policy::Bundle;
use countersign_kernel::replay::{Found, Line, Replayer};
use countersign_kernel::{Begin, Kernel, Settings};
use countersign_ledger::verify;
use countersign_ledger::{Base, Rebuild, Record, Resumed, Store, StoredRecord, Vault, VisitError};
use countersign_model::unit::LeafIndex;
use countersign_model::{Body, Digest};
use countersign_receipt::VerifierKey;
use countersign_receipt::merkle::TreeHead;
use serde_json::{Value, json};

use super::log::{is_there, payloads_word, read_key};
use super::policy;
use crate::cli;
use crate::compose;
use crate::context::{Context, progress, when};
use crate::payloads::Payloads;
use crate::terminal::{BAD, Exit, GOOD, WAIT, unverified, usage, visible_lines};
use crate::walk::{self, Walker};

/// How many differing records are named one by one.
const NAMED_MAX: usize = 1_000;

/// Runs the command.
pub(crate) fn run(asked: &cli::Replay, context: &Context) -> Result<Exit> {
    let (config, bundle) = policy::load(&context.layout)?;
    let ledger = asked.ledger.clone().unwrap_or_else(|| context.layout.ledger());
    is_there(&ledger)?;
    let store = Store::real(ledger);
    // A snapshot that is passed over is told of on standard error.
    crate::logging::start();
    // A copy for an auditor has no vault: then every payload is as good as erased.
    let vault = store.vault().exists().then(|| Vault::open(&store)).transpose()?;
    let key = asked.key.as_deref().map(read_key).transpose()?;
    // What a start promised is on its record, and no decision rests on it.
    let settings = compose::settings(&config, bundle.hash(), compose::SAME_USER);
    let mut replaying = Replaying::new((&settings, &bundle, vault.as_ref()), asked);
    let (from, head) = if asked.from_snapshot || asked.from.is_some() {
        verify::resume(&store, key.as_ref(), &mut replaying).map_err(|error| unverified(error.to_string()))?
    } else {
        walk(&store, key.as_ref(), &mut replaying, context)?
    };
    if let Some(from) = asked.from.filter(|from| *from >= head.size) {
        return Err(usage(format!("`--from {from}` is not in a log of {} records", head.size)));
    }
    let tally = replaying.finish();
    let mut value = tally.value(from, &head, &settings);
    let mut text = visible_text(&tally, from, &head, &settings);
    if vault.is_none() {
        let missing = store.vault();
        text = format!("{WAIT}payloads not checked{WAIT:#}: there is no `{}`\n{text}", missing.display());
    }
    if let Some(fields) = value.as_object_mut() {
        fields.insert("payloads".to_owned(), payloads_word(vault.as_ref()).into());
    }
    context.out.result(&value, &text);
    Ok(if tally.differs == 0 { Exit::Done } else { Exit::Unverified })
}

fn walk(
    store: &Store,
    key: Option<&VerifierKey>,
    replaying: &mut Replaying<'_>,
    context: &Context,
) -> Result<(u64, TreeHead)> {
    let bar = progress(!context.out.json);
    let moved = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let vault = replaying.vault;
    // Both take turns with it: the base comes before the first record.
    let replaying = RefCell::new(replaying);
    let mut begin = |base: &Base| replaying.borrow_mut().begin(base);
    let mut visit = |record: Record<'_>| replaying.borrow_mut().take(record);
    let walked = walk::walk(store, key, Walker { vault, begin: &mut begin, visit: &mut visit }, moved);
    bar.finish_and_clear();
    let report = walked.map_err(|error| unverified(error.to_string()))?;
    Ok((report.from, report.head))
}

/// What was found so far.
#[derive(Default)]
struct Tally {
    identical: u64,
    differs: u64,
    erased: u64,
    outdated: u64,
    named: Vec<Line>,
    lifetimes: Vec<Lifetime>,
    from: u64,
}

/// One process that wrote to the log.
struct Lifetime {
    leaf: u64,
    at_ms: u64,
    version: String,
    is_same_version: bool,
    is_same_configuration: bool,
    is_same_policy: bool,
}

struct Replaying<'a> {
    settings: &'a Settings,
    bundle: &'a Bundle,
    vault: Option<&'a Vault>,
    replayer: Replayer<'a>,
    /// The latest snapshot that may be begun at.
    from_max: u64,
    /// The snapshot that it went on from, and whether a record has committed to it.
    resumed: Option<(u64, Digest, bool)>,
    /// What a pruned log begins with, and the last record that commits to any such thing.
    begun: Option<Begin>,
    recorded: Option<Begin>,
    /// Checks payloads where no walk does.
    payloads: Payloads<'a>,
    tally: Tally,
}

impl<'a> Replaying<'a> {
    fn new((settings, bundle, vault): (&'a Settings, &'a Bundle, Option<&'a Vault>), asked: &cli::Replay) -> Self {
        let replayer = Replayer::new(Kernel::new(settings.clone()), 0, bundle);
        let tally = Tally { from: asked.from.unwrap_or(0), ..Tally::default() };
        let from_max = asked.from.unwrap_or(u64::MAX);
        let payloads = Payloads::new(vault);
        Self {
            settings,
            bundle,
            vault,
            replayer,
            from_max,
            resumed: None,
            begun: None,
            recorded: None,
            payloads,
            tally,
        }
    }

    /// Begins where a pruned log does.
    fn begin(&mut self, base: &Base) -> Result<(), VisitError> {
        let find = |leaf: LeafIndex| base.carried.iter().find(|stored| stored.index == leaf.0).cloned();
        self.begin_at((base.minimum, &base.state), &find)
    }

    fn begin_at(
        &mut self,
        (size, state): (u64, &[u8]),
        find: &dyn Fn(LeafIndex) -> Option<StoredRecord>,
    ) -> Result<(), VisitError> {
        let mut read = |leaf: LeafIndex| leaf_of(self.vault, find(leaf)?.as_record()).ok();
        let kernel = Kernel::restore_base(self.settings.clone(), state, &mut read)?;
        self.restart();
        self.replayer = Replayer::new(kernel, size, self.bundle);
        self.begun = Some(Begin { minimum: LeafIndex(size), state: image_digest(state) });
        Ok(())
    }

    /// Takes a record in whose payload was checked.
    fn take(&mut self, record: Record<'_>) -> Result<(), VisitError> {
        let leaf = leaf_of(self.vault, record)?;
        if let Body::Pruned(pruned) = &leaf.record.body {
            self.recorded = Some(Begin { minimum: pruned.minimum, state: pruned.state });
        }
        if let Body::Started(started) = &leaf.record.body {
            self.tally.lifetimes.push(Lifetime {
                leaf: leaf.leaf.0,
                at_ms: leaf.record.at.0,
                version: started.version.clone(),
                is_same_version: started.version == self.settings.version,
                is_same_configuration: started.configuration == self.settings.configuration,
                is_same_policy: started.policy == self.settings.policy,
            });
        }
        if let (Some((size, digest, is_recorded)), Body::Snapshot(found)) = (&mut self.resumed, &leaf.record.body) {
            *is_recorded |= found.size == *size && found.state == *digest;
        }
        let tally = &mut self.tally;
        self.replayer.feed(leaf, &mut |line| tally.take(line));
        Ok(())
    }

    fn finish(self) -> Tally {
        let Self { replayer, mut tally, .. } = self;
        replayer.finish(&mut |line| tally.take(line));
        tally.named.sort_by_key(|line| line.leaf);
        tally
    }
}

impl Rebuild for Replaying<'_> {
    fn takes_snapshots(&self) -> bool {
        true
    }

    fn restart(&mut self) {
        self.replayer = Replayer::new(Kernel::new(self.settings.clone()), 0, self.bundle);
        self.tally = Tally { from: self.tally.from, ..Tally::default() };
        (self.resumed, self.begun, self.recorded) = (None, None, None);
        self.payloads = Payloads::new(self.vault);
    }

    fn resume(&mut self, resumed: &Resumed<'_>) -> Result<(), VisitError> {
        if resumed.size > self.from_max {
            return Err(VisitError::new("it lies above the record that was asked for"));
        }
        let mut read = |leaf: LeafIndex| leaf_of(self.vault, resumed.record(leaf.0).ok()?.as_record()).ok();
        let kernel = Kernel::restore(self.settings.clone(), resumed.state, &mut read)?;
        self.restart();
        self.replayer = Replayer::new(kernel, resumed.size, self.bundle);
        self.resumed = Some((resumed.size, image_digest(resumed.state), false));
        Ok(())
    }

    fn rebase(&mut self, base: &Resumed<'_>) -> Result<(), VisitError> {
        self.begin_at((base.size, base.state), &|leaf| base.record(leaf.0).ok())
    }

    fn visit(&mut self, record: Record<'_>) -> Result<(), VisitError> {
        let checked = self.payloads.check(record);
        checked.map_err(|what| VisitError::new(format!("record `{}`: {what}", record.index)))?;
        self.take(record)
    }

    fn finish(&mut self) -> Result<(), VisitError> {
        // Whoever can write the file could otherwise choose the state that everything behind it follows from.
        let is_uncommitted = matches!(self.resumed, Some((_, _, false)));
        if is_uncommitted || (self.begun.is_some() && self.begun != self.recorded) {
            return Err(VisitError::new("no record of the log commits to it"));
        }
        let unordered = |(index, why)| VisitError::new(format!("record `{index}`: {why}"));
        self.payloads.finish().map_err(unordered)
    }
}

impl Tally {
    fn take(&mut self, line: Line) {
        if line.leaf.0 < self.from {
            return;
        }
        match line.found {
            Found::Identical => self.identical += 1,
            Found::Erased => self.erased += 1,
            Found::Outdated => self.outdated += 1,
            Found::Differs { .. } => {
                self.differs += 1;
                if self.named.len() < NAMED_MAX {
                    self.named.push(line);
                }
            }
        }
    }

    fn value(&self, from: u64, head: &TreeHead, settings: &Settings) -> Value {
        let lifetimes = self.lifetimes.iter().map(|lifetime| {
            json!({
                "leaf": lifetime.leaf, "at_ms": lifetime.at_ms, "version": lifetime.version,
                "same_version": lifetime.is_same_version, "same_configuration": lifetime.is_same_configuration,
                "same_policy": lifetime.is_same_policy,
            })
        });
        let differing = self
            .named
            .iter()
            .map(|line| json!({"leaf": line.leaf.0, "seq": line.seq.0, "kind": line.kind, "what": differences(line)}));
        json!({
            "clean": self.differs == 0 && self.outdated == 0, "version": settings.version, "from": from, "size": head.size,
            "root": head.root.to_string(), "identical": self.identical, "differs": self.differs,
            "erased": self.erased, "outdated": self.outdated,
            "lifetimes": lifetimes.collect::<Vec<_>>(), "differing": differing.collect::<Vec<_>>(),
        })
    }
}

fn differences(line: &Line) -> &[String] {
    match &line.found {
        Found::Differs { what } => what,
        _ => &[],
    }
}

fn visible_text(tally: &Tally, from: u64, head: &TreeHead, settings: &Settings) -> String {
    let mut lines = Vec::new();
    for line in &tally.named {
        lines.push(format!("{BAD}record {} ({}) differs{BAD:#}", line.leaf.0, line.kind));
        lines.extend(differences(line).iter().map(|what| format!("  {}", visible_lines(what))));
    }
    if tally.differs > tally.named.len() as u64 {
        lines.push(format!("… and {} more", tally.differs - tally.named.len() as u64));
    }
    for lifetime in tally.lifetimes.iter().filter(|lifetime| !lifetime.is_same_version) {
        lines.push(format!(
            "{WAIT}version{WAIT:#}: the start at record {} ({}) was of version {}, this is {}",
            lifetime.leaf,
            when(lifetime.at_ms),
            visible_lines(&lifetime.version),
            settings.version
        ));
    }
    let word = match (tally.differs, tally.outdated) {
        (0, 0) => format!("{GOOD}clean{GOOD:#}"),
        (0, outdated) => format!("{WAIT}{outdated} outdated{WAIT:#}: not judged again, the rest does not differ"),
        _ => format!("{BAD}differs{BAD:#}"),
    };
    lines.push(format!(
        "{word}: {} identical, {} different, {} erased, {} outdated; records {from} to {}, root {}",
        tally.identical, tally.differs, tally.erased, tally.outdated, head.size, head.root
    ));
    lines.join("\n")
}
