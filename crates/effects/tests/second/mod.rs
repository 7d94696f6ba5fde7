//! A second reading of arguments, as a simple client would make it: where the first one is sure, the two agree.
//!
//! Shared by the property tests and by the fuzz target `facts`. The second readings are written anew and know nothing of
//! the first; they are allowed to be naive, for what a naive client would do is what must not be missed.

use std::collections::{BTreeMap, BTreeSet};

use countersign_effects::binding::{ArgumentKind, Binding, facts};
use countersign_effects::json::{Limits, parse};
use countersign_model::facts::{BOUND_BYTES_MAX, Bound, NAMES_MAX};
use countersign_model::{Certainty, Effect, Facts};

/// The law that facts of `bytes` break, if any: as raw arguments, and as the text of an argument of each kind.
pub(crate) fn broken(bytes: &[u8]) -> Option<String> {
    let all = ArgumentKind::WORDS.iter().map(|word| (*word, *word)).collect::<Vec<_>>();
    if let Some(facts) = judged(&all, bytes)
        && let Some(law) = unsound(&facts)
    {
        return Some(law);
    }
    let text = std::str::from_utf8(bytes).ok()?;
    ArgumentKind::WORDS.iter().find_map(|word| {
        let arguments = serde_json::json!({ "x": text }).to_string();
        let facts = judged(&[("x", word)], arguments.as_bytes())?;
        unsound(&facts)
            .or_else(|| contradicted(word, text, &facts))
            .map(|law| format!("{word} {text:?}: {law}\n{facts:?}"))
    })
}

fn judged(arguments: &[(&str, &str)], input: &[u8]) -> Option<Facts> {
    let binding = Binding {
        target: "crm".parse().ok()?,
        environment: "production".parse().ok()?,
        effect: Some(Effect::Write),
        arguments: arguments
            .iter()
            .map(|(name, word)| Some(((*name).to_owned(), word.parse().ok()?)))
            .collect::<Option<BTreeMap<_, _>>>()?,
        subject: None,
        labels: BTreeSet::new(),
        trusted: Vec::new(),
    };
    let node = parse(input, &Limits::default()).ok()?;
    let once = facts(Some(&binding), &node, input);
    assert_eq!(once, facts(Some(&binding), &node, input), "facts are a function of the bytes");
    Some(once)
}

/// What must hold of facts whatever was read.
fn unsound(facts: &Facts) -> Option<String> {
    let is_opaque = facts.certainty == Certainty::Opaque;
    if is_opaque != facts.opaque_because.is_some() || is_opaque != (facts.effect == Effect::Opaque) {
        return Some("opaque facts say so and say why".to_owned());
    }
    let none = Bound::default();
    let bound = facts.bound.as_ref().unwrap_or(&none);
    let lists = [&bound.hosts, &bound.paths, &bound.recipient_domains, &bound.programs, &bound.matched, &bound.labels];
    let names: Vec<&String> = lists.into_iter().flatten().collect();
    let is_bounded = names.len() <= NAMES_MAX && names.iter().map(|name| name.len()).sum::<usize>() <= BOUND_BYTES_MAX;
    let is_sorted = lists.iter().all(|list| list.windows(2).all(|pair| matches!(pair, [a, b] if a < b)));
    let is_clean = names.iter().all(|name| !name.is_empty() && name.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    (!is_bounded || !is_sorted || !is_clean).then(|| "lists are bounded, sorted and printable".to_owned())
}

fn contradicted(word: &str, text: &str, facts: &Facts) -> Option<String> {
    if facts.certainty == Certainty::Opaque {
        return None;
    }
    let bound = facts.bound.clone().unwrap_or_default();
    let holds = match word {
        "host" => bound.hosts == [host(text)],
        "path" => bound.paths == [path(text)],
        "recipient" => recipients(text) == (bound.recipient_domains.into_iter().collect(), bound.recipients),
        "shell" => shell(text, &bound.programs),
        "amount" => bound.amount_micros.is_some_and(|micros| is_near(text, micros, 1e6)),
        "amount.minor" => bound.amount_micros.is_some_and(|micros| is_near(text, micros, 1e4)),
        "count" => bound.count.is_some_and(|count| is_near(text, count, 1.0)),
        "current" => bound.current.is_some_and(|count| is_near(text, count, 1.0)),
        _ => true,
    };
    (!holds).then(|| "a second reading finds something else".to_owned())
}

/// What stands between the slashes, behind the last `@` and before the first colon.
fn host(text: &str) -> String {
    let rest = text.split_once("//").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let name = match authority.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((name, _)) => name,
        None if authority.matches(':').count() > 1 => authority,
        None => authority.split(':').next().unwrap_or_default(),
    };
    let name = name.trim_end_matches('.').to_lowercase();
    if let Ok(address) = name.parse::<std::net::Ipv6Addr>() {
        return wrapped(address);
    }
    let number = |part: &str| match part.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => part.parse::<u64>().ok(),
    };
    let Some(numbers) = name.split('.').map(number).collect::<Option<Vec<u64>>>() else {
        return name;
    };
    let mut bytes = numbers.clone();
    let last = bytes.pop().unwrap_or_default();
    let room = 4 - bytes.len();
    bytes.extend((0..room).rev().map(|at| (last >> (8 * at)) & 255));
    bytes.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

fn wrapped(address: std::net::Ipv6Addr) -> String {
    let [a, b, c, d, e, f, g, h, ..] = address.octets();
    let last: [u8; 4] = address.octets()[12..].try_into().unwrap_or_default();
    let zeros = |range: std::ops::Range<usize>| address.octets()[range].iter().all(|byte| *byte == 0);
    let inner = std::net::Ipv4Addr::from(last).to_string();
    if address.to_ipv4_mapped().is_some() || ([a, b, c, d] == [0, 0x64, 0xff, 0x9b] && zeros(4..12)) {
        return inner;
    }
    if zeros(0..8) && address.octets()[8..12] == [0xff, 0xff, 0, 0] {
        return inner;
    }
    if [a, b] == [0x20, 0x02] {
        return std::net::Ipv4Addr::from([c, d, e, f]).to_string();
    }
    let _ = (g, h);
    if zeros(0..12) && !address.is_loopback() && !address.is_unspecified() {
        return inner;
    }
    address.to_string()
}

fn path(text: &str) -> String {
    let mut walked: Vec<String> = Vec::new();
    for part in std::path::Path::new(text).components() {
        match part {
            std::path::Component::ParentDir => drop(walked.pop()),
            std::path::Component::Normal(name) => walked.push(name.to_string_lossy().into_owned()),
            _ => {}
        }
    }
    let root = if text.starts_with('/') { "/" } else { "" };
    let joined = format!("{root}{}", walked.join("/"));
    if joined.is_empty() { ".".to_owned() } else { joined }
}

/// What follows the last `@` of each entry, cut at commas outside of quotes.
fn recipients(text: &str) -> (BTreeSet<String>, u64) {
    if text.is_empty() {
        return (BTreeSet::new(), 0);
    }
    let mut quoted = false;
    let entries: Vec<&str> = text
        .split(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        })
        .collect();
    let domain = |entry: &&str| {
        let tail = entry.rsplit('@').next().unwrap_or_default();
        tail.trim_matches([' ', '>']).trim_end_matches('.').to_lowercase()
    };
    (entries.iter().map(domain).collect(), entries.len() as u64)
}

/// Each program that was found stands in the text, but for quotes inside it, and a text without any special character
/// starts its first word.
fn shell(text: &str, programs: &[String]) -> bool {
    let bare: String = text.chars().filter(|c| !"'\"\\".contains(*c)).collect();
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || " -_./".contains(c));
    let first = text.split_ascii_whitespace().next().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let found: BTreeSet<&str> = programs.iter().map(String::as_str).collect();
    !programs.is_empty() && found.iter().all(|name| bare.contains(name)) && (!is_plain || found.contains(first))
}

fn is_near(text: &str, found: u64, scale: f64) -> bool {
    let Ok(float) = text.parse::<f64>() else { return false };
    #[expect(clippy::cast_precision_loss, reason = "a float is what the second reader has")]
    let found = found as f64;
    (float * scale - found).abs() <= found.abs() * 1e-12
}
