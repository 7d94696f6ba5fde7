//! A file of cases as it is spelled. Unknown keys are refused.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: Spanned<String>,
    pub(super) action: Action,
    pub(super) facts: Option<Facts>,
    pub(super) history: Option<History>,
    pub(super) arguments: Option<serde_json::Value>,
    pub(super) expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Action {
    pub(super) agent: String,
    pub(super) tool: String,
    /// The tool has no binding: then any name will do.
    #[serde(default)]
    pub(super) unbound: bool,
    pub(super) target: Option<String>,
    pub(super) environment: Option<String>,
    pub(super) effect: Option<String>,
    #[serde(default)]
    pub(super) leases: Vec<String>,
    #[serde(default)]
    pub(super) depth: u32,
    pub(super) now: Option<String>,
    pub(super) token_minutes_left: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Facts {
    pub(super) sql: Option<String>,
    #[serde(default)]
    pub(super) opaque: bool,
    pub(super) hosts: Option<Vec<String>>,
    pub(super) paths: Option<Vec<String>>,
    pub(super) recipient_domains: Option<Vec<String>>,
    pub(super) recipients: Option<u64>,
    pub(super) programs: Option<Vec<String>>,
    pub(super) amount: Option<String>,
    pub(super) count: Option<u64>,
    pub(super) current: Option<u64>,
    pub(super) matched: Option<Vec<String>>,
    pub(super) labels: Option<Vec<String>>,
    pub(super) kinds: Option<Vec<String>>,
    pub(super) tables: Option<Vec<String>>,
    pub(super) functions: Option<Vec<String>>,
    pub(super) has_where: Option<bool>,
    pub(super) rows_spelled: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    #[serde(default)]
    pub(super) new_hosts: Vec<String>,
    pub(super) previous: Option<String>,
    #[serde(default)]
    pub(super) new_pair: bool,
    #[serde(default)]
    pub(super) calls: Recent,
    #[serde(default)]
    pub(super) changes: Recent,
    #[serde(default)]
    pub(super) growing: u64,
    pub(super) previous_count: Option<u64>,
    pub(super) lease_minutes: Option<u64>,
    #[serde(default)]
    pub(super) labels: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recent {
    #[serde(default)]
    pub(super) minute: u64,
    #[serde(default)]
    pub(super) ten_minutes: u64,
    #[serde(default)]
    pub(super) hour: u64,
    #[serde(default)]
    pub(super) day: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) verdict: Option<Verdict>,
    pub(super) policies: Option<Vec<String>>,
    pub(super) gates: Option<Vec<String>>,
    pub(super) obligations: Option<Vec<Obligation>>,
    #[serde(default)]
    pub(super) error: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Allow,
    RequireApproval,
    Deny,
}

/// `witness`, or `{max_rows: 100}`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Obligation {
    Plain(String),
    Valued(BTreeMap<String, serde_json::Value>),
}
