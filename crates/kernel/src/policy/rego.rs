//! Rego: one more layer that can only forbid, for teams that have such policies.
//!
//! Files that end in `.rego` are part of the bundle and of its hash. `data.countersign.deny` is a set of sentences; a call
//! for which it is not empty is denied, and so is one for which it is not a set of texts, is not defined, or errs. What it
//! says never allows anything: it is asked beside the layers of Cedar, of the same facts. It must not know those layers.
//!
//! A decision has to come out the same again, so what is random is refused when the bundle is loaded, and the build has no
//! clock, no network and no files to offer. Without the feature `rego` such a file is a problem of the bundle.

#[cfg(feature = "rego")]
pub(super) use self::with::Rego;
#[cfg(not(feature = "rego"))]
pub(super) use self::without::Rego;

#[cfg(test)]
#[cfg(feature = "rego")]
mod tests;

/// Whether a policy file is Rego.
pub(super) fn is_rego(file: &str) -> bool {
    file.ends_with(".rego")
}

/// A build that knows no Rego.
#[cfg(not(feature = "rego"))]
mod without {
    use std::collections::BTreeSet;

    use cedar_policy::{Entities, Request};

    use super::super::annotation::{Complaint, complaint};

    /// There is none.
    #[derive(Debug)]
    pub(in super::super) enum Rego {}

    impl Rego {
        /// Refuses every such file.
        pub(in super::super) fn load(files: &[(&str, &str)]) -> Result<Option<Self>, (String, Complaint)> {
            files.first().map_or(Ok(None), |(file, _)| {
                let problem = "this build knows no Rego";
                let remedy = "use a build with the feature `rego`, or remove the file from `policy:`";
                Err(((*file).to_owned(), complaint(problem, remedy)))
            })
        }

        /// Never asked.
        pub(in super::super) fn denials(&self, _: &Request, _: &Entities) -> Result<BTreeSet<String>, String> {
            match *self {}
        }
    }
}

/// A build that does.
#[cfg(feature = "rego")]
mod with {
    use std::collections::BTreeSet;

    use cedar_policy::{Entities, EntityUid, Request};
    use countersign_model::encoding::clipped;
    use regorus::{CompiledPolicy, Engine, Value};
    use serde_json::json;

    use super::super::annotation::{Complaint, complaint};

    const PACKAGE: &str = "data.countersign";
    const RULE: &str = "data.countersign.deny";
    /// The longest sentence that a denial names, in bytes.
    const SENTENCE_BYTES_MAX: usize = 120;

    /// The compiled files.
    #[derive(Debug)]
    pub(in super::super) struct Rego(CompiledPolicy);

    impl Rego {
        /// Compiles `files`, names and texts; none where there is none.
        pub(in super::super) fn load(files: &[(&str, &str)]) -> Result<Option<Self>, (String, Complaint)> {
            let Some((first, _)) = files.first() else { return Ok(None) };
            let mut engine = Engine::new();
            engine.set_strict_builtin_errors(true);
            let mut denies = false;
            for (file, text) in files {
                let unread = |error: &dyn std::fmt::Display| {
                    let problem = format!("it cannot be read as Rego: {}", clipped(&error.to_string(), 400));
                    ((*file).to_owned(), complaint(problem, "correct it; it is read as Rego v1"))
                };
                if is_random(text) {
                    let random = complaint("it names `rand`, and a decision must come out the same again", "remove it");
                    return Err(((*file).to_owned(), random));
                }
                let package = engine.add_policy((*file).to_owned(), (*text).to_owned());
                if package.map_err(|error| unread(&error))? == PACKAGE {
                    // A name within the file's own package.
                    denies |= engine.has_declared_rule_rooted_at(file, "deny").map_err(|error| unread(&error))?;
                }
            }
            let wrong = |problem: String| {
                let remedy = "write `package countersign` and `deny contains \"why\" if { … }`";
                ((*first).to_owned(), complaint(problem, remedy))
            };
            if !denies {
                return Err(wrong(format!("no Rego file has a rule `{RULE}`")));
            }
            let compiled = engine.compile_with_entrypoint(&RULE.into());
            compiled.map(|compiled| Some(Self(compiled))).map_err(|error| wrong(clipped(&error.to_string(), 400)))
        }

        /// Why the call is denied; empty where it is not.
        pub(in super::super) fn denials(
            &self,
            request: &Request,
            entities: &Entities,
        ) -> Result<BTreeSet<String>, String> {
            let asked = Value::from_json_str(&input(request, entities)?).map_err(|error| erred(&error))?;
            let said = self.0.eval_with_input(asked).map_err(|error| erred(&error))?;
            let said = said.as_set().map_err(|_| format!("`{RULE}` is no set"))?;
            said.iter()
                .map(|sentence| match sentence.as_string() {
                    Ok(sentence) => Ok(format!("rego:{}", clipped(sentence, SENTENCE_BYTES_MAX))),
                    Err(_) => Err(format!("`{RULE}` holds something that is no text")),
                })
                .collect()
        }
    }

    fn erred(error: &dyn std::fmt::Display) -> String {
        format!("rego: {}", clipped(&error.to_string(), SENTENCE_BYTES_MAX))
    }

    /// Whether the word `rand` stands in a text, whatever is around it.
    fn is_random(text: &str) -> bool {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "rand")
    }

    /// The question as Cedar has it, with the agent's groups and the target's environment.
    fn input(request: &Request, entities: &Entities) -> Result<String, String> {
        let missing = || "the question is incomplete".to_owned();
        let name = |uid: &EntityUid| uid.id().unescaped().to_owned();
        let within = |uid: &EntityUid| -> Vec<String> {
            let above: BTreeSet<String> = entities.ancestors(uid).into_iter().flatten().map(name).collect();
            above.into_iter().collect()
        };
        let agent = request.principal().ok_or_else(missing)?;
        let target = request.resource().ok_or_else(missing)?;
        let action = request.action().ok_or_else(missing)?;
        let context = request.context().ok_or_else(missing)?.to_json_value().map_err(|error| error.to_string())?;
        let asked = json!({
            "principal": { "agent": name(agent), "groups": within(agent) },
            "action": { "name": name(action), "groups": within(action) },
            "resource": { "target": name(target), "environment": within(target).first() },
            "context": context,
        });
        Ok(asked.to_string())
    }
}
