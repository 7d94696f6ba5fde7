//! The positive lists: functions and tables of SQLite that read and nothing else.
//!
//! A name that is not here makes a statement opaque, however harmless it may be. It must not know
//! the operator's schema. It does not cover functions that a host redefines under a built-in name.

use std::collections::BTreeSet;

use countersign_model::Effect;

use super::Opaque;

/// Built-in functions without side effects, of the core, dates, aggregates, windows, mathematics,
/// JSON and the full-text auxiliaries; sorted. Not here on purpose: `load_extension`, `readfile`,
/// `writefile`, `edit`, `fts3_tokenizer`, `optimize`, `sqlite_log`, and all that is undocumented.
const FUNCTIONS: &[&str] = &[
    "->",
    "->>",
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "avg",
    "bm25",
    "ceil",
    "ceiling",
    "changes",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "cosh",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "highlight",
    "if",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_insert",
    "json_array_length",
    "json_error_position",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_insert",
    "json_object",
    "json_patch",
    "json_pretty",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_type",
    "json_valid",
    "jsonb",
    "jsonb_array",
    "jsonb_array_insert",
    "jsonb_extract",
    "jsonb_group_array",
    "jsonb_group_object",
    "jsonb_insert",
    "jsonb_object",
    "jsonb_patch",
    "jsonb_remove",
    "jsonb_replace",
    "jsonb_set",
    "julianday",
    "lag",
    "last_insert_rowid",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "match",
    "max",
    "median",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "percentile",
    "percentile_cont",
    "percentile_disc",
    "pi",
    "pow",
    "power",
    "printf",
    "quote",
    "radians",
    "random",
    "randomblob",
    "rank",
    "regexp",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "sin",
    "sinh",
    "snippet",
    "soundex",
    "sqlite_version",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "sum",
    "tan",
    "tanh",
    "time",
    "timediff",
    "total",
    "total_changes",
    "trim",
    "trunc",
    "typeof",
    "unhex",
    "unicode",
    "unistr",
    "unistr_quote",
    "unixepoch",
    "unlikely",
    "upper",
    "zeroblob",
];

/// Table-valued functions without side effects; sorted.
const TABLE_FUNCTIONS: &[&str] = &[
    "json_each",
    "json_tree",
    "jsonb_each",
    "jsonb_tree",
    "pragma_foreign_key_list",
    "pragma_index_info",
    "pragma_index_list",
    "pragma_index_xinfo",
    "pragma_table_info",
    "pragma_table_list",
    "pragma_table_xinfo",
];

/// Tables of the `sqlite_` name space that may be read; sorted.
const SYSTEM_TABLES: &[&str] = &[
    "sqlite_master",
    "sqlite_schema",
    "sqlite_sequence",
    "sqlite_stat1",
    "sqlite_stat4",
    "sqlite_temp_master",
    "sqlite_temp_schema",
];

/// Virtual tables that exist without being created and reach beyond the database; sorted.
/// They can be read like any table: `SELECT * FROM fsdir WHERE path = '/'`.
const REACHING_TABLES: &[&str] = &["completion", "csv", "fsdir", "sqlar", "vfsstat", "zipfile"];

/// Keywords of SQLite after which a parenthesis opens something other than a call; sorted.
const KEYWORDS: &[&str] = &[
    "all",
    "and",
    "as",
    "between",
    "by",
    "case",
    "cast",
    "check",
    "collate",
    "conflict",
    "default",
    "distinct",
    "else",
    "escape",
    "except",
    "exists",
    "filter",
    "from",
    "having",
    "in",
    "intersect",
    "is",
    "isnull",
    "join",
    "key",
    "limit",
    "materialized",
    "not",
    "notnull",
    "offset",
    "on",
    "or",
    "over",
    "returning",
    "select",
    "set",
    "then",
    "union",
    "unique",
    "using",
    "values",
    "when",
    "where",
];

/// Words that call a function without a parenthesis after them; sorted.
const OPERATOR_FUNCTIONS: &[&str] =
    &["current_date", "current_time", "current_timestamp", "glob", "like", "match", "regexp"];

fn has(sorted: &[&str], name: &str) -> bool {
    sorted.binary_search(&name).is_ok()
}

pub(super) fn is_harmless_call(name: &str) -> bool {
    has(FUNCTIONS, name) || has(TABLE_FUNCTIONS, name)
}

pub(super) fn is_keyword(word: &str) -> bool {
    has(KEYWORDS, word)
}

pub(super) fn is_operator_function(word: &str) -> bool {
    has(OPERATOR_FUNCTIONS, word)
}

/// The tables as facts give them, if a statement of this effect may name them.
pub(super) fn checked_tables(mut tables: BTreeSet<String>, effect: Effect) -> Result<BTreeSet<String>, Opaque> {
    for table in &tables {
        let bare = table.rsplit('.').next().unwrap_or_default();
        let system = bare.starts_with("sqlite_");
        let reads_only = effect.is_harmless();
        let refused = (system && !(reads_only && has(SYSTEM_TABLES, bare)))
            || (bare.starts_with("pragma_") && !(reads_only && has(TABLE_FUNCTIONS, bare)))
            || has(REACHING_TABLES, bare);
        if refused {
            return Err(Opaque::naming("outside the tables that are understood:", table));
        }
    }
    // Two names of one table.
    for (alias, name) in [("sqlite_schema", "sqlite_master"), ("sqlite_temp_schema", "sqlite_temp_master")] {
        if tables.iter().any(|table| table.rsplit('.').next() == Some(alias)) {
            tables.insert(name.to_owned());
        }
    }
    Ok(tables)
}

#[cfg(test)]
pub(super) fn lists() -> [&'static [&'static str]; 6] {
    [FUNCTIONS, TABLE_FUNCTIONS, SYSTEM_TABLES, REACHING_TABLES, KEYWORDS, OPERATOR_FUNCTIONS]
}
