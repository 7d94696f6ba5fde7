//! Proofs about policies.
//!
//! It asks a solver that runs in a process of its own, within a time. Only an explicit "unsatisfiable" is a proof; everything
//! else reads "not proven". It must not know how policies are written or activated, and is never on the way of a call.
