//! Minting is the gate's.
use countersign_gate::permit::Permit;

fn main() {
    let _mint = Permit::mint;
}
