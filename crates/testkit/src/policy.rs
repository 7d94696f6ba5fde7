//! A policy whose answers can be held back: what hangs, and what is under way while something else happens.
//!
//! It answers what the bundle answers, later. It must not know why a test holds it.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_gate::Evaluate;
use countersign_kernel::policy::{Bundle, EvaluationRequest};
use countersign_model::record::Evaluation;

/// The longest that an answer is held back, so that a test that fails meanwhile ends.
const HELD_MAX: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    held: bool,
    waiting: usize,
}

/// A bundle behind a barrier that holds back everything but reads; clones are the same one.
#[derive(Clone)]
pub struct HeldPolicy {
    bundle: Arc<Bundle>,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl HeldPolicy {
    /// The bundle, not held back yet.
    #[must_use]
    pub fn new(bundle: Arc<Bundle>) -> Self {
        Self { bundle, state: Arc::default() }
    }

    /// Holds back what is not a read from now on, or lets it all go.
    pub fn hold(&self, held: bool) {
        self.lock().held = held;
        self.state.1.notify_all();
    }

    /// Blocks until this many evaluations are held back.
    pub fn wait_for(&self, count: usize) {
        let waiting = self.state.1.wait_while(self.lock(), |state| state.waiting < count);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Evaluate for HeldPolicy {
    fn matched(&self, tool: &str, texts: &[(String, &str)]) -> BTreeSet<String> {
        self.bundle.patterns().matched(tool, texts)
    }

    fn evaluate(&self, request: &EvaluationRequest) -> Evaluation {
        if !request.facts.effect.is_harmless() {
            let mut state = self.lock();
            state.waiting += 1;
            self.state.1.notify_all();
            let released = self.state.1.wait_timeout_while(state, HELD_MAX, |state| state.held);
            state = released.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
        self.bundle.evaluate(request)
    }
}
