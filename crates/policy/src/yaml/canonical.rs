//! Names as facts spell them: a rule that names anything else would load, and never hold.
//!
//! It knows the spelling of each fact; it must not know what a rule does with a name, nor which names exist.

use countersign_effects::sql::{FOREIGN_KINDS, KINDS};
use countersign_effects::{Opaque, http, mail, paths};

use super::problem::suggestion;
use super::read::{Reader, Spoken};

/// What is said of a host, path or domain that has no spelling in facts.
const HOST_HELP: &str =
    "write the host alone, in ASCII (punycode), without scheme, user, port and path; no call can name another";
const PATH_HELP: &str =
    "write a plain path in ASCII; a call that names another is opaque, and `patterns` look at its text";

impl Reader {
    /// What can be seen to be no name of its kind: such a condition would never hold.
    pub(crate) fn name_of(&mut self, key: &str, said: &Spoken) {
        let text = said.text.as_str();
        if text.contains('*') && key != "matched" {
            self.fault(
                said.span,
                format!("`{key}` are compared whole, and `{}` has a `*`", text.escape_debug()),
                "list the names, or give `patterns` a glob or a regex and name it in `matched`",
            );
            return;
        }
        match key {
            "hosts" | "new_hosts" => self.spelled(said, "host", &http::host(text), HOST_HELP),
            "recipient_domains" => self.spelled(said, "domain of a recipient", &domain(text), HOST_HELP),
            "paths" => self.spelled(said, "path", &paths::path(text), PATH_HELP),
            "programs" => self.program(said),
            "kinds" => self.kind(said),
            "tables" | "functions" => self.sql_name(key, said),
            _ => {}
        }
    }

    fn spelled(&mut self, said: &Spoken, what: &str, canonical: &Result<String, Opaque>, otherwise: &str) {
        let help = match canonical {
            Ok(same) if *same == said.text => return,
            Ok(other) => format!("write `{}`", other.escape_debug()),
            Err(_) => otherwise.to_owned(),
        };
        self.fault(said.span, format!("`{}` is no {what} as facts spell it", said.text.escape_debug()), help);
    }

    fn program(&mut self, said: &Spoken) {
        let text = said.text.as_str();
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('-')
                && name != ".."
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
        };
        if is_name(text) {
            return;
        }
        let first = text.split_whitespace().next().unwrap_or_default();
        let base = first.rsplit('/').next().unwrap_or_default();
        let help = if is_name(base) {
            format!("write `{base}`; for what follows it, give `patterns` a text and name it in `matched`")
        } else {
            "write the name alone, without folder and arguments".to_owned()
        };
        let message = format!("`programs` are base names, and `{}` is none", text.escape_debug());
        self.fault(said.span, message, help);
    }

    fn kind(&mut self, said: &Spoken) {
        let text = said.text.as_str();
        if KINDS.contains(&text) || FOREIGN_KINDS.contains(&text) {
            return;
        }
        let known = || KINDS.into_iter().chain(FOREIGN_KINDS);
        let plain = text.trim().to_ascii_lowercase().split([' ', '-']).collect::<Vec<_>>().join("_");
        let begun: Vec<&str> =
            known().filter(|kind| kind.strip_prefix(&plain).is_some_and(|rest| rest.starts_with('_'))).collect();
        let help = if known().any(|kind| kind == plain) {
            format!("did you mean `{plain}`?")
        } else if begun.is_empty() {
            suggestion(&plain, known(), &format!("write one of {}", KINDS.join(", ")))
        } else {
            format!("write one of {}", begun.join(", "))
        };
        let message = format!("`{}` is not known as a kind of statement", text.escape_debug());
        self.fault(said.span, message, help);
    }

    /// Facts fold ASCII only, and leave out the schema `main`.
    fn sql_name(&mut self, key: &str, said: &Spoken) {
        let lower = said.text.to_ascii_lowercase();
        if lower != said.text {
            self.fault(
                said.span,
                format!("`{key}` are spelled in lower case, and `{}` is not", said.text.escape_debug()),
                format!("write `{}`", lower.escape_debug()),
            );
        } else if let Some(bare) = lower.strip_prefix("main.").filter(|_| key == "tables") {
            self.fault(
                said.span,
                format!("`tables` leave out the schema `main`, and `{}` has it", said.text.escape_debug()),
                format!("write `{}`", bare.escape_debug()),
            );
        }
    }
}

/// The canonical domain of a recipient.
fn domain(text: &str) -> Result<String, Opaque> {
    let host = http::host(text)?;
    mail::recipients(&format!("a@{host}"))?;
    Ok(host)
}
