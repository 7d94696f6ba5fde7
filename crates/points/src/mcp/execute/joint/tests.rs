//! Several permits for one request: all of them begin or none, and each of them can stop it.

use std::sync::Arc;

use countersign_gate::permit::Stop;
use tokio_util::sync::CancellationToken;

use super::{AnyLeave, Joint};
use crate::mcp::execute::leave::{InFlight, Leave};
use crate::mcp::execute::testing::{TestLeave, id};

fn leaves(count: usize) -> Vec<TestLeave> {
    (0..count).map(|_| TestLeave::new(CancellationToken::new())).collect()
}

fn joint(leaves: &[TestLeave]) -> Option<Joint> {
    Joint::of(&id(), leaves.iter().map(|leave| Box::new(leave.clone()) as Box<dyn AnyLeave>).collect())
}

#[test]
fn one_that_may_not_begin_keeps_all_from_beginning() {
    for at in 0..3 {
        let leaves = leaves(3);
        leaves[at].killed.cancel();
        let begun = joint(&leaves).unwrap().begin(Arc::new(|| ()));
        assert!(matches!(begun, Err(Stop::Killed)), "{at}");
        assert!(leaves.iter().all(|leave| Arc::strong_count(&leave.alive) == 1), "nothing is in flight: {at}");
    }
}

#[tokio::test]
async fn any_of_them_stops_it_before_and_after_it_began() {
    for at in 0..3 {
        let leaves = leaves(3);
        leaves[at].cancel.cancel();
        assert_eq!(Leave::stopped(&joint(&leaves).unwrap()).await, Stop::Cancelled);
        let leaves = self::leaves(3);
        let effect = joint(&leaves).unwrap().begin(Arc::new(|| ())).ok().unwrap();
        assert!(leaves.iter().all(|leave| leave.has_begun() && Arc::strong_count(&leave.alive) == 2));
        leaves[at].killed.cancel();
        assert_eq!(effect.stopped().await, Stop::Killed);
        drop(effect);
        assert!(leaves.iter().all(|leave| Arc::strong_count(&leave.alive) == 1), "all ended with it");
    }
}

#[test]
fn there_is_none_without_a_leave_or_with_anothers() {
    assert!(joint(&[]).is_none());
    let mut leaves = leaves(2);
    leaves[1].upstream = countersign_model::id::UpstreamId::new("files").unwrap();
    assert!(joint(&leaves).is_none());
}
