//! Words by which a tool's text orders a model about, and verbs by which a name says that it changes something.
//!
//! The list is short on purpose: each entry is one that an honest description has no use for. What honest servers also
//! write (`you must`, `important`, `before calling`) is not on it; `tools accept` points at such words besides.

use super::Sign;

/// Marks of a prompt's frame.
const FRAMES: [&str; 14] = [
    "<important>",
    "</important>",
    "<system>",
    "</system>",
    "<secret>",
    "<instructions>",
    "<hidden>",
    "<|im_start|>",
    "<|im_end|>",
    "<|system|>",
    "[inst]",
    "[system]",
    "<<sys>>",
    "### system",
];

/// Two words that make an order when the second follows the first within a few words.
const ORDERS: [(&[&str], &[&str]); 9] = [
    (
        &["ignore", "disregard", "forget", "override"],
        &[
            "previous instructions",
            "prior instructions",
            "all instructions",
            "your instructions",
            "other instructions",
            "above instructions",
            "earlier instructions",
            "system prompt",
            "the instructions",
        ],
    ),
    (
        &["do not", "don't", "never", "must not"],
        &[
            "tell the user",
            "inform the user",
            "mention this",
            "mention it",
            "mention to the user",
            "show the user",
            "show this to",
            "reveal this",
            "notify the user",
            "alert the user",
            "let the user know",
            "ask the user for confirmation",
            "disclose this",
        ],
    ),
    (
        &["without"],
        &[
            "telling the user",
            "informing the user",
            "asking the user",
            "notifying the user",
            "the user knowing",
            "the user noticing",
            "mentioning it to",
            "user consent",
            "user's consent",
            "user confirmation",
        ],
    ),
    (&["keep", "hide"], &["secret from the user", "hidden from the user", "this from the user", "it from the user"]),
    (
        &["before", "instead of"],
        &[
            "using any other tool",
            "calling any other tool",
            "any other tool call",
            "using other tools",
            "calling other tools",
            "every other tool",
        ],
    ),
    (
        &["always", "must", "only"],
        &["call this tool first", "call this tool before", "use this tool first", "use this tool instead of"],
    ),
    (
        &["do not", "don't", "never"],
        &["use any other tool", "use other tools", "call other tools", "use the other tools"],
    ),
    (
        &["reveal", "print", "repeat", "send", "include", "pass", "return", "output"],
        &[
            "your system prompt",
            "the system prompt",
            "your instructions",
            "conversation history",
            "previous messages",
            "chat history",
            "entire conversation",
        ],
    ),
    (
        &["you are now", "act as", "pretend to be"],
        &["an unrestricted", "jailbroken", "developer mode", "the system", "an administrator"],
    ),
];
/// How many bytes may lie between the two.
const APART_BYTES_MAX: usize = 48;

/// Places where secrets of people and machines lie.
const SECRETS: [&str; 12] = [
    "~/.ssh",
    "/.ssh/",
    "id_rsa",
    "id_ed25519",
    "~/.aws",
    ".aws/credentials",
    "~/.kube",
    "~/.cursor",
    "~/.gnupg",
    "/etc/shadow",
    ".bash_history",
    "private key of the user",
];

/// Verbs at the head of a name that say that something changes.
const CHANGING: [&str; 21] = [
    "delete",
    "remove",
    "drop",
    "destroy",
    "purge",
    "wipe",
    "erase",
    "truncate",
    "overwrite",
    "write",
    "send",
    "post",
    "execute",
    "exec",
    "kill",
    "terminate",
    "revoke",
    "transfer",
    "pay",
    "publish",
    "deploy",
];

/// Verbs that look: what follows them is what they look at.
const LOOKING: [&str; 12] =
    ["get", "list", "read", "find", "search", "fetch", "show", "describe", "count", "check", "view", "query"];

/// What a text says that it should not.
pub(super) fn of(text: &str) -> Vec<(Sign, String)> {
    let plain: String = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ").replace('\u{2019}', "'");
    let mut out: Vec<(Sign, String)> = Vec::new();
    let frames = FRAMES.into_iter().filter(|frame| plain.contains(frame));
    out.extend(frames.map(|frame| (Sign::Instruction, format!("it frames words as a prompt: `{frame}`"))));
    let orders = ORDERS.iter().filter_map(|(heads, tails)| order(&plain, heads, tails));
    out.extend(orders.map(|order| (Sign::Instruction, format!("it orders a model about: `{order}`"))));
    let secrets = SECRETS.into_iter().filter(|place| plain.contains(place));
    out.extend(secrets.map(|place| (Sign::Secret, format!("it names a place of secrets: `{place}`"))));
    out
}

fn order(plain: &str, heads: &[&str], tails: &[&str]) -> Option<String> {
    heads.iter().find_map(|head| {
        plain.match_indices(head).find_map(|(at, _)| {
            let after = at.saturating_add(head.len());
            let begins = plain.get(..at).unwrap_or_default().chars().next_back().is_none_or(|c| !c.is_alphanumeric());
            let rest = plain.get(after..).unwrap_or_default();
            let near = |tail: &&&str| rest.find(**tail).is_some_and(|gap| gap <= APART_BYTES_MAX);
            let tail = tails.iter().find(near).filter(|_| begins && rest.starts_with(' '))?;
            Some(format!("{head} … {tail}"))
        })
    })
}

/// The verb at the head of a name, where it is one that changes something: `delete_file`, `deleteFile`, `fs.delete-file`.
pub(super) fn changing_verb(name: &str) -> Option<&'static str> {
    let mut words = Vec::new();
    let mut word = String::new();
    for c in name.chars() {
        let ends =
            !c.is_alphanumeric() || (c.is_uppercase() && word.chars().next_back().is_some_and(char::is_lowercase));
        if ends && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.push(c);
        }
    }
    words.push(word);
    // The first word, or the one behind a server's own prefix: `get_post` says what it gets.
    let heads: Vec<String> = words.iter().take(2).map(|word| word.to_lowercase()).collect();
    if heads.first().is_some_and(|head| LOOKING.contains(&head.as_str())) {
        return None;
    }
    CHANGING.into_iter().find(|verb| heads.iter().any(|head| head == verb))
}
