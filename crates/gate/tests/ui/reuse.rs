//! Beginning consumes it.
use std::sync::Arc;

use countersign_gate::permit::Permit;

fn twice(permit: Permit) {
    let _first = permit.begin(Arc::new(|| {}));
    let _second = permit.begin(Arc::new(|| {}));
}

fn main() {}
