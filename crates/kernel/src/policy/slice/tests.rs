//! What is kept is bounded, shared, and changes no answer.

use std::sync::Arc;

use super::{PLACES_KEPT_MAX, POLICIES_KEPT_MAX, Slice, Slices};

fn none(_: &[u32]) -> Result<Slice, String> {
    Ok(Slice::default())
}

#[test]
fn a_slice_is_made_once_for_a_place_and_once_for_its_policies() {
    let slices = Slices::default();
    assert!(slices.kept((1, 1, 1)).is_none());
    let first = slices.keep((1, 1, 1), vec![3, 4], none).unwrap();
    assert!(Arc::ptr_eq(&first, &slices.kept((1, 1, 1)).unwrap()));
    let never = |_: &[u32]| -> Result<Slice, String> { panic!("it is there already") };
    let same = slices.keep((2, 1, 1), vec![3, 4], never).unwrap();
    assert!(Arc::ptr_eq(&first, &same));
    assert_eq!(slices.sizes(), (2, 2));
    slices.keep((2, 2, 2), vec![3], |_| Err("no".to_owned())).unwrap_err();
    assert!(slices.kept((2, 2, 2)).is_none(), "what failed is not kept");
}

#[test]
fn what_is_kept_has_a_bound() {
    let slices = Slices::default();
    let members: Vec<u32> = (0..40_000).collect();
    for number in 0..20 {
        slices.keep((number, 0, 0), members.iter().map(|member| member + number).collect(), none).unwrap();
        assert!(slices.sizes().0 <= POLICIES_KEPT_MAX, "{:?}", slices.sizes());
    }
    let places = Slices::default();
    for number in 0..u32::try_from(PLACES_KEPT_MAX).unwrap() + 5 {
        places.keep((number, 0, 0), vec![], none).unwrap();
    }
    assert_eq!(places.sizes(), (0, 5));
}
