//! Reason codes: why a verdict is what it is.
//!
//! A code is stable and for machines; its sentence is for people and safe to show to an agent:
//! it never quotes policy text, other agents or secrets. `detail` is for humans and the record.

use minicbor::{Decode, Encode};

use crate::encoding::{Bounded, clipped};

macro_rules! codes {
    ($($number:literal $name:ident $code:literal $sentence:literal)*) => {
        /// Why, for machines. The words are stable; new ones may be added.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        #[cbor(index_only)]
        pub enum ReasonCode {
            $(#[doc = $sentence] #[n($number)] $name,)*
        }

        impl ReasonCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// A plain sentence, safe to show to the agent.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence,)* }
            }
        }
    };
}

codes! {
    0 PolicyPermit "policy_permit" "A policy permits this action."
    1 PolicyForbid "policy_forbid" "A policy forbids this action."
    2 NoPermit "no_permit" "No policy permits this action."
    3 Gate "approval_required" "A human must consent to exactly this action before it runs."
    4 PolicyError "policy_error" "The policy could not be evaluated, so the action is denied."
    5 EvaluationTimeout "evaluation_timeout" "The policy was not evaluated in time, so the action is denied."
    6 CodeFreeze "code_freeze" "A code freeze is in force for this environment: nothing but reads may run."
    7 BudgetExhausted "budget_exhausted" "A hard limit on calls is used up."
    8 Killed "killed" "The kill switch is on for this scope: nothing runs until a human resumes it."
    9 TokenExpired "token_expired" "The token has expired."
    10 TokenInvalid "token_invalid" "The token is missing, forged, revoked or not one of ours."
    11 UnknownTool "unknown_tool" "This tool is not one that the upstream has listed."
    12 Malformed "malformed" "The request is ambiguous or malformed, so it is refused whole."
    13 Oversize "oversize" "The request is larger than the limit."
    14 LedgerUnavailable "ledger_unavailable" "The record cannot be written, so nothing runs."
    15 Overloaded "overloaded" "Too many actions are in flight; try again later."
    16 ConsentDenied "consent_denied" "A human refused this action."
    17 ConsentExpired "consent_expired" "Nobody consented in time."
    18 UpstreamUnavailable "upstream_unavailable" "The upstream is not reachable."
    19 TooManyPending "too_many_pending" "Too many actions of this agent wait for consent already."
    20 GrantRedeemed "grant_redeemed" "A human consented to exactly this action; the consent is now used up."
    21 Unsupported "unsupported" "This verdict needs an enforcement that this version does not have, so the action is denied."
    22 UnknownAgent "unknown_agent" "The agent is not one of the configuration."
    23 DiskFull "disk_full" "The disk of the record is full, so nothing runs."
    24 Internal "internal" "Something that must hold did not, so the action is denied."
    25 Waiting "waiting" "The same action already waits for consent under this ticket."
    26 RecordTooLong "record_too_long" "The record of this action would not fit its bound, so it is denied."
    27 ClockSuspended "clock_suspended" "The clock jumped forward: leases are suspended until a human confirms the time."
    28 Abandoned "abandoned" "The caller went away before the decision."
    29 OrderRefused "order_refused" "The order by a human does not count."
    30 TooManyDenials "too_many_denials" "Too many calls of this agent were denied within a second; its calls are refused for the rest of it."
    31 WitnessUnavailable "witness_unavailable" "The record was not witnessed in time, so nothing ran."
    32 SignerUnavailable "signer_unavailable" "Nobody signs the record at the moment, so nothing runs."
    33 LogContradicted "log_contradicted" "A witness has seen another record than this one, so nothing runs until a human finds out why."
    34 ToolChanged "tool_changed" "The tool is not what a human accepted, so it is denied until somebody looks at what changed."
    35 ContinuationInvalid "continuation_invalid" "This continues no call of yours that waits for an answer, so it is denied; make the call anew."
    36 Continued "continued" "A human consented to this action, and this goes on with it."
    37 TokenNarrowed "token_narrowed" "The token was narrowed to less than this action."
    38 ToolFlagged "tool_flagged" "Something in what the tool says of itself does not belong there, so it is held back until a human accepts it."
    39 UpstreamRefused "upstream_refused" "The upstream's program is not the one that was pinned, so it is not started."
}

/// One reason of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Reason {
    /// The code.
    #[n(0)]
    pub code: ReasonCode,
    /// For humans and the record: which budget, which environment, what the parser said. At most 240 bytes.
    #[n(1)]
    pub detail: Option<String>,
    /// Policies that determined it, sorted.
    #[n(2)]
    pub policies: Bounded,
}

impl Reason {
    /// The longest detail in bytes.
    pub const DETAIL_BYTES_MAX: usize = 240;

    /// A reason with nothing to add.
    #[must_use]
    pub fn plain(code: ReasonCode) -> Self {
        Self { code, detail: None, policies: Bounded::default() }
    }

    /// A reason with a detail, clipped to its bound.
    #[must_use]
    pub fn because(code: ReasonCode, detail: &str) -> Self {
        Self { code, detail: Some(clipped(detail, Self::DETAIL_BYTES_MAX)), policies: Bounded::default() }
    }

    /// A reason with the policies that determined it.
    #[must_use]
    pub fn by_policies<I: IntoIterator<Item = String>>(code: ReasonCode, policies: I) -> Self {
        Self { code, detail: None, policies: Bounded::new(policies) }
    }
}
