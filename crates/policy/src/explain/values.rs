//! What a path of a rule is in one question, as text.

use cedar_policy::EvalResult;
use countersign_kernel::policy::EvaluationRequest;

use super::Posed;

/// The most characters of one value that are shown.
const CHARS_MAX: usize = 200;

/// The value of `path`, or `absent`.
pub(super) fn shown(path: &str, asked: &EvaluationRequest, posed: &Posed<'_>) -> String {
    let mut parts = path.split('.');
    let value = match (parts.next(), parts.next()) {
        (Some("principal"), None) => Some(format!("Agent::\"{}\"", asked.agent)),
        (Some("action"), None) => Some(format!("\"{}/{}\"", asked.upstream, asked.tool)),
        (Some("resource"), None) => Some(format!("Target::\"{}\"", asked.target)),
        (Some("resource"), Some("environment")) => Some(format!("\"{}\"", asked.environment)),
        (Some("context"), Some(first)) => {
            let start = posed.request.context().and_then(|context| context.get(first));
            parts.fold(start, |value, part| member(value?, part)).map(|value| value.to_string())
        }
        _ => None,
    };
    let text = value.unwrap_or_else(|| "absent".to_owned());
    if text.chars().count() <= CHARS_MAX {
        return text;
    }
    let cut: String = text.chars().take(CHARS_MAX).collect();
    format!("{cut}…")
}

fn member(value: EvalResult, name: &str) -> Option<EvalResult> {
    match value {
        EvalResult::Record(record) => record.get(name).cloned(),
        _ => None,
    }
}
