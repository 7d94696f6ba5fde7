//! `erase`, `hold` and `log prune`: what may no longer be read, what must stay readable, and what is no longer kept.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_console::wire;
use countersign_model::Digest;
use countersign_model::command::Deed;
use countersign_model::id::RunId;
use countersign_model::record::VaultScope;
use countersign_model::unit::LeafIndex;
use serde_json::json;

use crate::cli::{Erase, Hold, Prune, Whose};
use crate::commands::orders::order;
use crate::config::duration_ms;
use crate::context::{Context, when};
use crate::terminal::{Exit, usage, visible_lines};

/// `erase`: destroys the keys of a scope's payloads.
pub(crate) async fn erase(Erase { whose, signer }: Erase, context: &Context) -> Result<Exit> {
    let scope = scope_of(&whose, context).await?;
    let scope = scope.ok_or_else(|| usage("say what to erase: --run RUN or --subject TEXT"))?;
    let key = context.open_key(&signer.human)?;
    let recorded = context.admin().command(&key, Deed::Erase { scope }).await?;
    let wire::Erased { keys, payloads } = recorded.erased.context("the gateway does not say what was destroyed")?;
    let done =
        format!("erased: {payloads} payloads under {keys} keys can no longer be read, on record at {}", recorded.leaf);
    context.out.result(&json!({"payloads": payloads, "keys": keys, "leaf": recorded.leaf}), &done);
    Ok(Exit::Done)
}

/// `hold`: adds, lists and releases legal holds.
pub(crate) async fn hold(command: Hold, context: &Context) -> Result<Exit> {
    match command {
        Hold::Add { name, whose, signer } => {
            let scope = scope_of(&whose, context).await?;
            let deed = Deed::Hold { name: name.parse()?, scope };
            order(&signer.human, deed, &format!("the hold {name} is in force"), context).await
        }
        Hold::Release { name, signer } => {
            let deed = Deed::Release { name: name.parse()? };
            order(&signer.human, deed, &format!("the hold {name} is released"), context).await
        }
        Hold::List => list(context).await,
    }
}

/// `log prune`: lets the log begin later.
pub(crate) async fn prune(Prune { up_to, signer }: Prune, context: &Context) -> Result<Exit> {
    let older_than = up_to.older_than.as_deref().map(duration_ms).transpose();
    let older_than_ms = older_than.map_err(|error| usage(error.to_string()))?;
    let asked = wire::PruneBelow { index: up_to.below, older_than_ms };
    let plan: wire::PrunePlan = context.admin().post("/prune-plan", &asked).await?;
    let Some(minimum) = plan.minimum else {
        let why = plan.why.unwrap_or_default();
        let value = json!({"pruned": 0, "nothing_to_prune": true, "minimum": plan.begins, "why": why});
        context.out.result(&value, &format!("nothing to prune: {why}"));
        return Ok(Exit::Done);
    };
    let key = context.open_key(&signer.human)?;
    let recorded = context.admin().command(&key, Deed::Prune { minimum: LeafIndex(minimum) }).await?;
    let wire::Pruned { minimum, records, newest_ms } =
        recorded.pruned.context("the gateway does not say what was pruned")?;
    let done = format!(
        "pruned: {records} records, the newest of {}; the log is kept from record {minimum} on, ordered on record at {}",
        when(newest_ms),
        recorded.leaf
    );
    let value = json!({
        "pruned": records, "nothing_to_prune": false, "minimum": minimum, "newest_ms": newest_ms, "leaf": recorded.leaf,
    });
    context.out.result(&value, &done);
    Ok(Exit::Done)
}

async fn list(context: &Context) -> Result<Exit> {
    let holds: Vec<wire::Hold> = context.admin().get("/holds").await?;
    let line = |hold: &wire::Hold| {
        let whose = match (&hold.run, &hold.subject) {
            (Some(run), _) => format!("run {run}"),
            (None, Some(subject)) => format!("subject {subject}"),
            (None, None) => "everything".to_owned(),
        };
        format!("{}  {whose}, by {} since {}", hold.name, hold.human, when(hold.since_ms))
    };
    let lines: Vec<String> = holds.iter().map(line).collect();
    let text = if lines.is_empty() { "no holds".to_owned() } else { lines.join("\n") };
    context.out.result(&json!({ "holds": holds }), &visible_lines(&text));
    Ok(Exit::Done)
}

/// The scope that is meant. A subject's name is hashed by the gateway, which alone has the vault's secret.
async fn scope_of(whose: &Whose, context: &Context) -> Result<Option<VaultScope>> {
    match (&whose.run, &whose.subject) {
        (Some(run), _) => Ok(Some(VaultScope::Run(RunId::new(run).map_err(|error| usage(error.to_string()))?))),
        (None, Some(name)) => {
            let asked = wire::Subject { name: name.clone() };
            let hashed: wire::SubjectHash = context.admin().post("/subject", &asked).await?;
            let hash: [u8; 32] = STANDARD
                .decode(&hashed.hash)?
                .try_into()
                .map_err(|_| anyhow::anyhow!("the gateway answered with what is no hash"))?;
            Ok(Some(VaultScope::Subject(Digest(hash))))
        }
        (None, None) => Ok(None),
    }
}
