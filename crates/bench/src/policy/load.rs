//! Loading of 10,000 policies about 500 tools, and the scope of 1,000 tools for a listing.
//!
//! The policies are the hard kind: every second one is about all tools, and every tool has arguments of its own.

use std::time::Instant;

use anyhow::{Result, ensure};
use countersign_kernel::policy::{Bundle, Validated};
use serde::Serialize;

use super::workload::{Size, request, source};

const LOADED: Size = Size { policies: 10_000, tools: 500, is_hard: true };
/// Policies of which a swap brings another version.
const SWAPPED: usize = 100;
const LISTED: Size = Size { policies: 10_000, tools: 1_000, is_hard: false };
const REPEATED: usize = 3;

/// One repetition, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Loading {
    /// Everything is parsed and validated.
    pub(super) cold_s: f64,
    /// Everything is parsed, and known to be valid.
    pub(super) known_s: f64,
    /// Everything is parsed, and a hundred policies are new.
    pub(super) swap_s: f64,
}

/// One repetition, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Listing {
    /// The agent's first listing under the bundle.
    pub(super) first_ms: f64,
    /// Every later one.
    pub(super) later_ms: f64,
}

pub(super) fn measure() -> Result<(Vec<Loading>, Vec<Listing>)> {
    let mut loading = Vec::new();
    for number in 0..REPEATED {
        eprint!("\rloading 10,000 policies, {} of {REPEATED}        ", number + 1);
        loading.push(load()?);
    }
    eprintln!();
    let bundle = Bundle::load(&source(LISTED, |_| false)?)?;
    let listing = (0..REPEATED).map(|number| list(&bundle, number)).collect::<Result<_>>()?;
    Ok((loading, listing))
}

fn load() -> Result<Loading> {
    let old = source(LOADED, |_| false)?;
    let new = source(LOADED, |number| number % (LOADED.policies / SWAPPED) == 0)?;
    let begun = Instant::now();
    let (_, known) = Bundle::load_knowing(&old, &Validated::default())?;
    let cold_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    let (_, again) = Bundle::load_knowing(&old, &known)?;
    let known_s = begun.elapsed().as_secs_f64();
    ensure!(again == known, "what was known was not taken");
    let begun = Instant::now();
    let (_, swapped) = Bundle::load_knowing(&new, &known)?;
    let swap_s = begun.elapsed().as_secs_f64();
    ensure!(swapped.digests().filter(|digest| !known.contains(digest)).count() == SWAPPED, "not {SWAPPED} are new");
    Ok(Loading { cold_s, known_s, swap_s })
}

fn list(bundle: &Bundle, number: usize) -> Result<Listing> {
    let asked = (0..LISTED.tools).map(|tool| request(LISTED, tool)).collect::<Result<Vec<_>>>()?;
    // Another agent each time: what one found does not help the next.
    let agent = format!("a{number}").parse()?;
    let count = || {
        let begun = Instant::now();
        let may = asked.iter().filter(|asked| bundle.may_ever(&agent, (&asked.upstream, &asked.tool), &asked.target));
        let listed = may.count();
        (listed, begun.elapsed().as_secs_f64() * 1_000.0)
    };
    let (first, later) = (count(), count());
    ensure!(first.0 == later.0 && first.0 > 0, "a listing changed: {} tools, then {}", first.0, later.0);
    Ok(Listing { first_ms: first.1, later_ms: later.1 })
}
