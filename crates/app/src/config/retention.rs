//! `retention`: classes by environment, checked. What a class means is `kernel`'s.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use countersign_kernel::{KEEP_DAYS_MIN, Retention, RetentionClass};
use countersign_model::id::Environment;

use super::raw;

pub(super) fn checked(raw: Vec<raw::Retention>) -> Result<Retention> {
    let mut classes = BTreeMap::new();
    let mut rest = None;
    for class in raw {
        let made = checked_class(&class)?;
        if class.environments.is_empty() && !class.default {
            bail!("a class of `retention` names no `environments`; list those that it is for, or say `default: true`");
        }
        if class.default && rest.replace(made.clone()).is_some() {
            bail!("`retention` has two classes with `default: true`; one class decides");
        }
        for name in &class.environments {
            let environment = Environment::new(name).context("in `retention`")?;
            if classes.insert(environment, made.clone()).is_some() {
                bail!("`retention` names the environment `{name}` twice; one class decides");
            }
        }
    }
    Ok(Retention { classes, rest: rest.unwrap_or_default() })
}

fn checked_class(raw: &raw::Retention) -> Result<RetentionClass> {
    let keep_days = raw.keep_days.unwrap_or(KEEP_DAYS_MIN);
    let is_explained = raw.reason.as_ref().is_some_and(|reason| !reason.trim().is_empty());
    match (keep_days < KEEP_DAYS_MIN, raw.below_minimum) {
        (true, false) => bail!(
            "`keep_days: {keep_days}` is below the least of {KEEP_DAYS_MIN} days (EU AI Act, articles 19 and 26); keep longer, \
             or say `below_minimum: true` with a `reason`"
        ),
        (true, true) if !is_explained => bail!("`below_minimum: true` needs a `reason`: an auditor will ask for it"),
        (false, true) => {
            bail!("`below_minimum: true`, and `keep_days: {keep_days}` is not below the minimum; take it out")
        }
        _ => Ok(RetentionClass { keep_days, erasable: raw.erasable }),
    }
}
