//! The index: what the record says, in tables that answer a question in milliseconds.
//!
//! It is a fold of the log and nothing else: it can be thrown away and made again at any time, and the same log gives
//! the same answers however it was fed. It keeps the Merkle root over every leaf that it has read, so each answer states
//! exactly which tree it covers, and an index of another log, or of one that was rolled back, is noticed.
//!
//! It must not know how the log is stored, who asks or how payloads are sealed: leaves, and arguments where they may be
//! searched, are handed in. An answer proves nothing by itself. A row names its leaf, which a receipt proves; that no row
//! is missing only a walk over the whole log shows.

mod error;
mod filter;
mod fold;
mod query;
mod row;
mod schema;
mod scrub;
mod top;
mod words;

pub use error::IndexError;
pub use filter::{CALLS, Filter};
pub use fold::{Batch, Fed};
pub use query::Answer;
pub use row::{Ended, Row};
pub use schema::{Index, Options};
pub use top::{By, Of, Ranked, Ranking};
pub use words::{StatusWord, VerdictWord, kinds};
