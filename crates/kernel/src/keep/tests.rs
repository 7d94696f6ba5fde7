//! What may be held, and when.

use countersign_model::command::Deed;
use countersign_model::record::VaultScope;
use countersign_model::unit::LeafIndex;

use crate::Event;
use crate::tests::fixture::*;

#[test]
fn nothing_is_held_while_an_erasure_is_not_done() {
    let mut rig = Rig::with_humans(vec![]);
    let run = || VaultScope::Run("r-1".parse().unwrap());
    assert!(rig.order("ana", Deed::Erase { scope: run() }));
    let command = LeafIndex(rig.log.len() as u64 - 1);
    for scope in [None, Some(run()), Some(VaultScope::Run("r-2".parse().unwrap()))] {
        rig.restart();
        assert!(!rig.order("ana", Deed::Hold { name: "case".parse().unwrap(), scope }));
        let why = rig.refusals.last().unwrap();
        assert!(why.contains("the erasure of the run `r-1` is ordered and not done"), "{why}");
    }
    rig.step(Event::Erased { scope: run(), command, keys: 0, payloads: 0, tickets: Default::default() });
    assert!(rig.order("ana", Deed::Hold { name: "case".parse().unwrap(), scope: None }));
    assert!(!rig.order("ana", Deed::Erase { scope: run() }));
}
