//! An effect comes from a permit only.
use countersign_gate::permit::Effect;

fn main() {
    let _effect = Effect {};
}
