//! The kinds of statements, by the names that facts give them.
//!
//! It is for whoever reads names of kinds: one that is not here is in no facts. It must not know what a kind does.

/// Every kind that facts of SQL can hold, sorted.
pub const KINDS: [&str; 13] = [
    "alter_table",
    "create_index",
    "create_table",
    "create_view",
    "delete",
    "drop_index",
    "drop_table",
    "drop_view",
    "explain",
    "insert",
    "select",
    "update",
    "upsert",
];

/// Kinds of statements that SQLite lacks, sorted. A text that holds one is opaque, so no facts hold them yet; a policy may
/// name them all the same, for a rule that denies takes what is opaque for the worst.
pub const FOREIGN_KINDS: [&str; 3] = ["drop_database", "drop_schema", "truncate"];
