//! Annotations: which layer a policy is in, and what its gate or obligation asks for.
//!
//! Cedar does not check annotations, so we do: an unknown or misplaced one is an error, for a misspelt
//! `@gate` would silently turn an approval into a denial, or a wish into nothing.

use std::collections::BTreeMap;

use cedar_policy::Effect;
use countersign_model::id::{HumanId, PolicyId};
use countersign_model::verdict::{APPROVERS_MAX, Gate, Obligation};

/// The longest name of a gate in bytes.
pub const GATE_BYTES_MAX: usize = 160;
/// The longest name of a channel in bytes.
pub const CHANNEL_BYTES_MAX: usize = 64;
const TIMEOUT_MS_DEFAULT: u64 = 15 * 60_000;
/// The longest timeout in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 30 * 24 * 3_600_000;

/// What is wrong with a policy, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) problem: String,
    pub(super) remedy: String,
}

pub(super) fn complaint(problem: impl Into<String>, remedy: impl Into<String>) -> Complaint {
    Complaint { problem: problem.into(), remedy: remedy.into() }
}

/// The id that `@id` gives.
pub(super) fn id(annotations: &BTreeMap<&str, &str>) -> Result<PolicyId, Complaint> {
    let Some(text) = annotations.get("id") else {
        return Err(complaint("the policy has no `@id`", "give it one, such as `@id(\"no-drops\")`"));
    };
    PolicyId::new(text).map_err(|error| complaint(error.to_string(), "use letters, digits and dashes"))
}

/// Which set a policy belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// G or F: it permits or forbids.
    Rule,
    /// A: an approval lifts it.
    Gate(Gate),
    /// O: it can never grant; it says what must hold if the others allow.
    Obligation(Obligation),
}

/// The layer of a policy.
pub(super) fn layer(
    id: &PolicyId,
    effect: Effect,
    annotations: &BTreeMap<&str, &str>,
    humans: Option<&[HumanId]>,
) -> Result<Layer, Complaint> {
    for name in annotations.keys() {
        known(name)?;
    }
    let gate = gate(id, effect, annotations, humans)?;
    let Some(name) = annotations.get("obligation") else {
        if annotations.contains_key("value") {
            return Err(complaint("`@value` stands without `@obligation`", "add `@obligation(\"…\")`, or remove it"));
        }
        return Ok(gate.map_or(Layer::Rule, Layer::Gate));
    };
    if gate.is_some() {
        return Err(complaint("`@obligation` stands beside `@gate`", "write two policies, each with its own `@id`"));
    }
    if effect == Effect::Forbid {
        return Err(complaint(
            "`@obligation` stands on a `forbid`",
            "an obligation says what must hold where others allow: write it as a `permit`, which then grants nothing",
        ));
    }
    obligation(name, annotations.get("value").copied()).map(Layer::Obligation)
}

/// The obligation of this name and `@value`.
fn obligation(name: &str, value: Option<&str>) -> Result<Obligation, Complaint> {
    let plain = match name {
        "witness" => Some(Obligation::Witness),
        "redact" => Some(Obligation::Redact),
        "undo" => Some(Obligation::Undo),
        "sandbox" => Some(Obligation::Sandbox),
        _ => None,
    };
    match (plain, name, value) {
        (Some(plain), _, None) => Ok(plain),
        (Some(_), _, Some(_)) => Err(complaint(format!("`@obligation(\"{name}\")` takes no `@value`"), "remove it")),
        (None, "max_rows", Some(rows)) => number(rows).map(|rows| Obligation::MaxRows { rows }).ok_or_else(|| {
            complaint(format!("`@value(\"{rows}\")` is no number of rows"), "write digits, such as `@value(\"100\")`")
        }),
        (None, "timeout", Some(limit)) => timeout_ms(limit).map(|ms| Obligation::Timeout { ms }),
        (None, "notify", Some(channel)) => channel_of(channel).map(|channel| Obligation::Notify { channel }),
        (None, "max_rows" | "timeout" | "notify", None) => Err(complaint(
            format!("`@obligation(\"{name}\")` has no `@value`"),
            "say how many rows, how long or whom, such as `@value(\"100\")`, `@value(\"30s\")` or `@value(\"ops\")`",
        )),
        (None, other, _) => Err(complaint(
            format!("`@obligation(\"{other}\")` is unknown"),
            "known are max_rows, timeout, witness, redact, undo, sandbox and notify",
        )),
    }
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn channel_of(text: &str) -> Result<String, Complaint> {
    if text.trim().is_empty() || text.len() > CHANNEL_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(complaint(
            format!("a channel's name has 1 to {CHANNEL_BYTES_MAX} bytes and no control characters"),
            "name whom to tell, such as `#ops`",
        ));
    }
    Ok(text.to_owned())
}

/// The gate of a policy, if it is one.
fn gate(
    id: &PolicyId,
    effect: Effect,
    annotations: &BTreeMap<&str, &str>,
    humans: Option<&[HumanId]>,
) -> Result<Option<Gate>, Complaint> {
    let Some(name) = annotations.get("gate") else {
        return match ["approvers", "quorum", "timeout", "notify"].iter().find(|n| annotations.contains_key(*n)) {
            Some(orphan) => {
                Err(complaint(format!("`@{orphan}` stands without `@gate`"), "add `@gate(\"name\")`, or remove it"))
            }
            None => Ok(None),
        };
    };
    if effect == Effect::Permit {
        return Err(complaint(
            "`@gate` stands on a `permit`",
            "a gate is a `forbid` that an approval lifts: write `permit` for what may be approved and a gated `forbid` beside it",
        ));
    }
    if name.trim().is_empty() || name.len() > GATE_BYTES_MAX {
        return Err(complaint(
            format!("a gate's name has 1 to {GATE_BYTES_MAX} bytes"),
            "name what the approver decides, such as `@gate(\"bulk change\")`",
        ));
    }
    let approvers = annotations.get("approvers").map_or(Ok(Vec::new()), |text| approvers(text, humans))?;
    let quorum = annotations.get("quorum").map_or(Ok(1), |text| quorum(text, &approvers))?;
    let timeout_ms = annotations.get("timeout").map_or(Ok(TIMEOUT_MS_DEFAULT), |text| timeout_ms(text))?;
    let notify = annotations.get("notify").map(|channel| channel_of(channel)).transpose()?;
    Ok(Some(Gate { policy: id.clone(), name: (*name).to_owned(), approvers, quorum, timeout_ms, notify }))
}

fn known(name: &str) -> Result<(), Complaint> {
    match name {
        "id" | "gate" | "approvers" | "quorum" | "timeout" | "notify" | "obligation" | "value" | "description" => {
            Ok(())
        }
        _ if name.starts_with("effect") => Err(complaint(
            format!("the annotation `@{name}` does nothing: effects are facts, not annotations"),
            "write a condition, such as `when { context.effect == \"destructive\" }`",
        )),
        _ => Err(complaint(
            format!("the annotation `@{name}` is unknown"),
            "known are @id, @gate, @approvers, @quorum, @timeout, @notify, @obligation, @value and @description",
        )),
    }
}

fn approvers(text: &str, humans: Option<&[HumanId]>) -> Result<Vec<String>, Complaint> {
    let mut all = Vec::new();
    for name in text.split(',').map(str::trim) {
        let human = HumanId::new(name).map_err(|error| {
            complaint(format!("`@approvers(\"{text}\")`: {error}"), "write humans with commas between")
        })?;
        if humans.is_some_and(|humans| !humans.contains(&human)) {
            return Err(complaint(
                format!("`@approvers` names `{human}`, who is not in the configuration"),
                "add the human, or correct the name",
            ));
        }
        if all.contains(&human.to_string()) {
            return Err(complaint(format!("`@approvers` names `{human}` twice"), "name everyone once"));
        }
        all.push(human.to_string());
    }
    if all.len() > APPROVERS_MAX {
        return Err(complaint(
            format!("a gate names at most {APPROVERS_MAX} approvers, this one names {}", all.len()),
            "leave `@approvers` out to let any enrolled human approve",
        ));
    }
    Ok(all)
}

fn quorum(text: &str, approvers: &[String]) -> Result<u32, Complaint> {
    let quorum = text
        .parse::<u32>()
        .ok()
        .filter(|quorum| *quorum > 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .ok_or_else(|| complaint(format!("`@quorum(\"{text}\")` is no number above zero"), "write `@quorum(\"1\")`"))?;
    let enough = usize::try_from(quorum).is_ok_and(|quorum| approvers.is_empty() || quorum <= approvers.len());
    if !enough {
        return Err(complaint(
            format!("`@quorum(\"{text}\")` asks for more than the {} approvers", approvers.len()),
            "name more approvers, or lower the quorum",
        ));
    }
    Ok(quorum)
}

fn timeout_ms(text: &str) -> Result<u64, Complaint> {
    duration_ms(text).filter(|ms| *ms <= TIMEOUT_MS_MAX).ok_or_else(|| {
        complaint(
            format!("`@timeout(\"{text}\")` is no duration from 1s to 30d"),
            "write a number and s, m, h or d, such as `@timeout(\"15m\")`",
        )
    })
}

/// Reads `90s`, `15m`, `2h` or `7d` into milliseconds; nothing where it is no such text, or zero.
#[must_use]
pub fn duration_ms(text: &str) -> Option<u64> {
    let units = [('s', 1_000_u64), ('m', 60_000), ('h', 3_600_000), ('d', 86_400_000)];
    units.iter().find_map(|(unit, ms)| {
        let number = text.strip_suffix(*unit)?;
        let number = number.bytes().all(|b| b.is_ascii_digit()).then(|| number.parse::<u64>().ok())??;
        number.checked_mul(*ms).filter(|ms| *ms > 0)
    })
}
