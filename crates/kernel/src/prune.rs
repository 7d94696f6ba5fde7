//! Pruning: whether an order to stop keeping records counts, as far as the state can tell.
//!
//! Nothing may be pruned that a hold could mean, that something live points to, or while it is not sure what time it is or
//! what has to be erased. Any hold refuses, whatever it covers: a run's records stand among all others. It must not know
//! where the log is cut into files, who else has seen it, and retention: those are the gate's to ask.

use countersign_model::unit::LeafIndex;

use crate::kernel::Kernel;

#[cfg(test)]
mod tests;

impl Kernel {
    /// Whether an order to begin at `minimum` counts.
    ///
    /// # Errors
    /// Why it does not, for the human.
    pub(crate) fn can_prune(&self, minimum: LeafIndex) -> Result<(), String> {
        let state = &self.state;
        if let Some((name, _)) = state.keep.holds.first_key_value() {
            return Err(format!("the hold `{name}` is in force: nothing is pruned until it is released"));
        }
        if !state.keep.erasures.is_empty() {
            return Err("an erasure is ordered and not done: it comes first".to_owned());
        }
        if state.clock_doubt.is_some() {
            return Err("the clock is in doubt, and with it how old records are; confirm it first".to_owned());
        }
        let begins = state.pruned.map_or(LeafIndex(0), |begin| begin.minimum);
        if minimum <= begins {
            return Err(format!("the log begins at record `{begins}` already"));
        }
        self.is_live_below(minimum).map_or(Ok(()), Err)
    }

    /// What still points to a record below `minimum`.
    fn is_live_below(&self, minimum: LeafIndex) -> Option<String> {
        let state = &self.state;
        let below = |leaf: &LeafIndex| *leaf < minimum;
        if let Some(parked) = state.parked.values().find(|parked| parked.leaf.as_ref().is_some_and(below)) {
            let what = if parked.granted() { "its grant is not used" } else { "it waits for consent" };
            return Some(format!("`{}` was proposed before record `{minimum}`, and {what}", parked.ticket));
        }
        if let Some(refused) = state.refused.values().find(|refused| below(&refused.leaf)) {
            return Some(format!("`{}` was proposed before record `{minimum}`, and its refusal holds", refused.ticket));
        }
        let open = state.open.values().find_map(|open| open.leaf.filter(below));
        open.map(|leaf| format!("the call of record `{leaf}` has no outcome yet"))
    }
}
