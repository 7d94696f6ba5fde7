//! `policy`: check it, and have a human accept it.
//!
//! Configuration and policy are files that an agent of the same user could edit. So the gateway
//! runs only what a human accepted with a signature over their hashes and a serial that counts up.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_console::wire;
use countersign_gate::{Gate, unenforced};
use countersign_kernel::policy::{Bundle, near_environments};
use countersign_model::command::{Deed, Signed};
use countersign_model::verdict::Obligation;
use countersign_model::{Body, Digest, from_canonical, to_canonical};
use serde_json::json;

use crate::cli::Policy;
use crate::compose::{InForce, bundle};
use crate::config::Config;
use crate::context::Context;
use crate::keys::HumanKey;
use crate::layout::Layout;
use crate::policies::drawn;
use crate::terminal::{Exit, WAIT, denied, usage};
use crate::validated::{self, List};

/// Runs the command.
pub(crate) async fn run(command: Policy, context: &Context) -> Result<Exit> {
    match command {
        Policy::Check => check(context),
        Policy::Activate(activate) => super::policy_activate::run(activate, context).await,
        Policy::Test(test) => super::policy_test::run(&test, context),
        Policy::Prove(prove) => super::policy_prove::run(prove, context).await,
        Policy::Diff(diff) => super::policy_diff::run(diff, context).await,
        Policy::Convert(asked) => super::policy_convert::run(&asked, context),
        Policy::Fmt(asked) => super::policy_fmt::run(&asked, context),
        Policy::Schema { kind } => super::policy_schema::run(&kind, context),
        Policy::Backtest(asked) => super::policy_backtest::run(&asked, context),
        Policy::Explain(asked) => super::policy_explain::run(&asked, context),
        Policy::Audit(asked) => super::policy_audit::run(&asked, context),
        Policy::Suggest(asked) => super::policy_suggest::run(&asked, context),
        Policy::Bundles(asked) => super::policy_bundles::run(&asked, context),
    }
}

/// Loads configuration and policy; what is wrong with them is a usage error.
pub(crate) fn load(layout: &Layout) -> Result<(Config, Bundle)> {
    let config = Config::load(&layout.config()).map_err(|error| usage(drawn(&error)))?;
    let bundle = bundle(&config).map_err(|error| usage(format!("{error:#}")))?;
    Ok((config, bundle))
}

/// The same for who serves what a human has signed for: what was validated before is not validated again.
pub(crate) fn load_to_serve(layout: &Layout) -> Result<(Config, Bundle)> {
    let config = Config::load(&layout.config()).map_err(|error| usage(drawn(&error)))?;
    let list = List::of(layout)?;
    let bundle = validated::load(&config, &list).map_err(|error| usage(format!("{error:#}")))?;
    Ok((config, bundle))
}

/// What is well formed and yet cannot be what anybody wants, for people.
pub(crate) fn warnings(config: &Config, bundle: &Bundle) -> Vec<String> {
    let written = config.policies.warnings();
    let unwitnessed = config.witnesses.is_empty().then(|| bundle.demanding(&Obligation::Witness));
    let unwitnessed = unwitnessed.into_iter().flatten().map(|id| {
        format!(
            "policy `{id}` demands a witness and the configuration lists none: every call that it covers is denied; \
             add one under `witnesses:`, or remove the obligation"
        )
    });
    let unkept = bundle.obligations().filter_map(|(id, obligation)| {
        let word = unenforced(obligation)?;
        Some(format!(
            "policy `{id}` demands `{word}`, which nothing of this version can enforce: every call that it covers is \
             denied; remove the obligation, or forbid these calls"
        ))
    });
    // Contradictions between targets are errors of loading, which came before.
    let environments = config.targets().unwrap_or_default();
    let near = near_environments(environments.values()).into_iter().map(|(a, b)| {
        format!(
            "the environments `{a}` and `{b}` have similar names: a policy that names one does not hold in the other; \
             spell them alike if they are meant as one"
        )
    });
    written.into_iter().chain(unwitnessed).chain(unkept).chain(near).collect()
}

/// The same as lines to put under a result.
pub(crate) fn warning_lines(warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("\n{WAIT}warning{WAIT:#}: {warning}")).collect()
}

fn check(context: &Context) -> Result<Exit> {
    let (config, bundle) = load(&context.layout)?;
    let now = InForce { configuration: config.hash, policy: bundle.hash() };
    let separation = super::policy_separation::findings(&config, &bundle)?;
    let mut warnings = warnings(&config, &bundle);
    warnings.extend(separation.iter().map(super::policy_separation::Finding::line));
    let accepted = read(&context.layout)?.is_some_and(|signed| accepts(&signed, now));
    let value = json!({
        "configuration": now.configuration.hex(), "policy": now.policy.hex(), "acceptance_found": accepted,
        "agents": config.agents.len(), "upstreams": config.upstreams.len(), "policies": config.policies.texts.len(),
        "warnings": warnings, "separation": separation.iter().map(|found| found.json()).collect::<Vec<_>>(),
    });
    let state = if accepted {
        "an acceptance of both is there; `countersign up` checks its signature and runs them"
    } else {
        "not accepted yet: a human must run `countersign policy activate` before `countersign up`"
    };
    context.out.result(
        &value,
        &format!(
            "configuration {} and policy {} are well formed\n{state}{}",
            now.configuration.short(),
            now.policy.short(),
            warning_lines(&warnings)
        ),
    );
    Ok(Exit::Done)
}

/// The last acceptance on record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recorded {
    /// Its serial: the next one is later.
    pub(crate) serial: u64,
    /// What it accepts.
    pub(crate) accepted: InForce,
}

/// Reads the last acceptance, from the running gateway or from the log.
pub(crate) async fn recorded(context: &Context) -> Result<Option<Recorded>> {
    use super::policy_diff::digest;
    if let Ok(status) = context.admin().get::<wire::Status>("/status").await {
        let hashes = (status.activation_configuration, status.activation_policy);
        let hashes = hashes.0.as_deref().and_then(digest).zip(hashes.1.as_deref().and_then(digest));
        return Ok(hashes.map(|(configuration, policy)| Recorded {
            serial: status.activation_serial,
            accepted: InForce { configuration, policy },
        }));
    }
    let layout = context.layout.clone();
    tokio::task::spawn_blocking(move || {
        let mut last: Option<Recorded> = None;
        super::log::each_offline(&layout, |record| {
            if let Body::Commanded(commanded) = &record.body
                && let Deed::Activate { configuration, policy, serial, .. } = commanded.signed.command.deed
                && last.is_none_or(|before| before.serial < serial)
            {
                last = Some(Recorded { serial, accepted: InForce { configuration, policy } });
            }
        })?;
        Ok(last)
    })
    .await?
}

/// Signs the acceptance of what is in force now.
pub(crate) fn sign(
    key: &HumanKey,
    origin: &str,
    now: InForce,
    (serial, widening): (u64, Option<Digest>),
) -> Result<Signed> {
    let deed = Deed::Activate { configuration: now.configuration, policy: now.policy, serial, widening };
    // No challenge: the serial is what keeps an old acceptance from coming back.
    key.command(origin, Digest([0; 32]), deed)
}

/// Writes the acceptance file.
pub(crate) fn write(layout: &Layout, signed: &Signed) -> Result<()> {
    let path = layout.activation();
    let aside = path.with_extension("new");
    let _ = std::fs::remove_file(&aside);
    crate::keys::write_new(&aside, STANDARD.encode(to_canonical(signed)?).as_bytes())?;
    std::fs::rename(&aside, &path).with_context(|| format!("cannot replace `{}`", path.display()))
}

fn read(layout: &Layout) -> Result<Option<Signed>> {
    let path = layout.activation();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    };
    let damaged = || format!("`{}` is damaged; run `countersign policy activate`", path.display());
    let bytes = STANDARD.decode(text.trim()).with_context(damaged)?;
    Ok(Some(from_canonical(&bytes).with_context(damaged)?))
}

fn accepts(signed: &Signed, now: InForce) -> bool {
    matches!(&signed.command.deed, Deed::Activate { configuration, policy, .. }
        if *configuration == now.configuration && *policy == now.policy)
}

/// Refuses to serve what no human accepted; records a new acceptance.
pub(crate) async fn enforce(gate: &Gate, layout: &Layout, now: InForce) -> Result<()> {
    let not_accepted = || {
        denied(format!(
            "configuration {} and policy {} were not accepted by a human; look at what changed, then run `countersign policy activate`",
            now.configuration.short(),
            now.policy.short()
        ))
    };
    let recorded = gate.activation();
    if recorded.is_some_and(|a| InForce { configuration: a.configuration, policy: a.policy } == now) {
        return Ok(());
    }
    let signed = read(layout)?.filter(|signed| accepts(signed, now)).ok_or_else(not_accepted)?;
    gate.command(signed).await.map_err(|reason| {
        let why = reason.detail.unwrap_or_else(|| reason.code.sentence().to_owned());
        denied(format!("the acceptance of configuration and policy does not count: {why}"))
    })?;
    Ok(())
}
