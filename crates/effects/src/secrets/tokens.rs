//! Tokens that say what they are: a fixed beginning, an alphabet, a length.
//!
//! A table for review. It must not know where in a text a token may begin: `scan` does.

use super::rule::Rule;

/// What the rest of a token is made of.
#[derive(Clone, Copy, Debug)]
enum Alphabet {
    /// `A-Z 0-9`.
    Upper,
    /// `A-Z a-z 0-9`.
    Alnum,
    /// `A-Z a-z 0-9 _ -`.
    Url,
    /// `A-Z a-z 0-9 _ - .`.
    Dotted,
}

impl Alphabet {
    const fn holds(self, byte: u8) -> bool {
        match self {
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'),
        }
    }
}

/// How much of a token decides whether it is one.
const DECIDING_MAX: usize = 256;

struct Shape {
    rule: Rule,
    starts: &'static [&'static str],
    alphabet: Alphabet,
    /// How many bytes follow the start: at least, and at most where the number is fixed.
    least: usize,
    most: Option<usize>,
}

const fn open(rule: Rule, starts: &'static [&'static str], alphabet: Alphabet, least: usize) -> Shape {
    Shape { rule, starts, alphabet, least, most: None }
}

/// The first that fits counts, so longer starts stand before shorter ones.
const SHAPES: &[Shape] = &[
    Shape {
        rule: Rule::AwsAccessKey,
        starts: &["AKIA", "ASIA", "ABIA", "ACCA"],
        alphabet: Alphabet::Upper,
        least: 16,
        most: Some(16),
    },
    open(Rule::GithubToken, &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], Alphabet::Dotted, 30),
    open(Rule::GithubToken, &["github_pat_"], Alphabet::Url, 22),
    open(
        Rule::GitlabToken,
        &[
            "glpat-",
            "gldt-",
            "glrt-",
            "glcbt-",
            "glptt-",
            "glft-",
            "glsoat-",
            "glimt-",
            "glagent-",
            "gloas-",
            "glffct-",
            "GR1348941",
        ],
        Alphabet::Dotted,
        20,
    ),
    open(
        Rule::SlackToken,
        &["xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe-", "xoxe.xox", "xapp-"],
        Alphabet::Url,
        10,
    ),
    open(Rule::StripeKey, &["sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_"], Alphabet::Alnum, 16),
    open(Rule::AnthropicKey, &["sk-ant-"], Alphabet::Url, 20),
    open(Rule::OpenaiKey, &["sk-proj-", "sk-svcacct-", "sk-admin-", "sk-or-", "sk-"], Alphabet::Url, 20),
    open(Rule::GoogleKey, &["AIza"], Alphabet::Url, 35),
    open(Rule::GoogleKey, &["ya29."], Alphabet::Dotted, 20),
    open(Rule::GoogleKey, &["GOCSPX-"], Alphabet::Url, 20),
    open(Rule::ServiceToken, &["npm_"], Alphabet::Alnum, 36),
    open(Rule::ServiceToken, &["pypi-AgE"], Alphabet::Url, 40),
    open(
        Rule::ServiceToken,
        &["hf_", "glsa_", "dop_v1_", "doo_v1_", "shpat_", "shpss_", "lin_api_"],
        Alphabet::Url,
        30,
    ),
    open(Rule::ServiceToken, &["SG."], Alphabet::Dotted, 40),
    open(Rule::ServiceToken, &["hvs.", "hvb."], Alphabet::Url, 24),
    open(Rule::ServiceToken, &["AGE-SECRET-KEY-1"], Alphabet::Upper, 50),
    open(Rule::PrivateKey, &["ed25519-private/"], Alphabet::Alnum, 64),
];

/// The rule and length of the token with which `text` begins.
pub(super) fn token(text: &[u8]) -> Option<(Rule, usize)> {
    SHAPES.iter().find_map(|shape| {
        let start = shape.starts.iter().find(|start| text.starts_with(start.as_bytes()))?;
        let rest = text.get(start.len()..)?;
        let run = rest.iter().take_while(|byte| shape.alphabet.holds(**byte));
        let count = match shape.most {
            // One more than may follow is enough to know that it is another thing.
            Some(most) => Some(run.clone().take(most.saturating_add(1)).count()).filter(|count| *count <= most)?,
            // A run that fails is passed again by every start in it, so what decides is read within bounds.
            None => run.clone().take(DECIDING_MAX).count(),
        };
        let is_drawn = shape.most.is_some() || is_drawn(rest.get(..count)?);
        if count < shape.least || !is_drawn {
            return None;
        }
        let count = if shape.most.is_some() { count } else { run.count() };
        Some((shape.rule, start.len().saturating_add(count)))
    })
}

/// Whether a machine may have drawn this: words joined by dashes have neither digits nor mixed case.
fn is_drawn(rest: &[u8]) -> bool {
    let has = |class: fn(&u8) -> bool| rest.iter().any(class);
    has(u8::is_ascii_digit) || (has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase))
}

/// The length of the JSON Web Token with which `text` begins: two or more parts after a header that is an object.
pub(super) fn jwt(text: &[u8]) -> Option<usize> {
    const PART_MIN: usize = 8;
    let part = |text: &[u8]| text.iter().take_while(|byte| Alphabet::Url.holds(**byte)).count();
    if !text.starts_with(b"eyJ") {
        return None;
    }
    let head = part(text);
    let body_at = head.checked_add(1).filter(|_| text.get(head) == Some(&b'.'))?;
    let body = part(text.get(body_at..)?);
    if head < PART_MIN || body < PART_MIN {
        return None;
    }
    let mut end = body_at.saturating_add(body);
    // A signature, or the further parts of an encrypted one; any of them may be empty.
    for _ in 0..3 {
        if text.get(end) != Some(&b'.') {
            break;
        }
        end = end.saturating_add(1);
        end = end.saturating_add(part(text.get(end..)?));
    }
    Some(end)
}
