//! Tools of upstreams: what a human accepted of them, what changed since, and what their arguments may be.
//!
//! It must not know how an upstream is reached or how a policy is evaluated. Nothing here is decided for the human: a
//! list of accepted tools is written when somebody says so, and bindings are proposals in a file to be edited.

pub(crate) mod compare;
pub(crate) mod lock;
pub(crate) mod propose;
pub(crate) mod spell;
pub(crate) mod suspect;
