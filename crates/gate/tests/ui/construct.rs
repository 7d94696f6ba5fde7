//! The fields are private.
use countersign_gate::permit::Permit;

fn main() {
    let _permit = Permit { upstream: "crm".parse().unwrap() };
}
