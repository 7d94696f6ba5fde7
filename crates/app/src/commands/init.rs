//! `init`: a new installation with its own keys, its first human and its first agent.
//!
//! Every secret is made here, on this machine; nothing has a default. The first human enrols
//! with a signature of their own, and accepts the configuration that was just written.

use std::path::Path;

use anyhow::{Context as _, Result};
use countersign_gate::Gate;
use countersign_kernel::identity::TokenKey;
use countersign_ledger::{Ledger, Store};
use countersign_model::command::Deed;
use countersign_model::id::{AgentId, HumanId, SessionId};
use serde_json::json;

use super::policy;
use crate::cli::Init;
use crate::compose::{self, InForce};
use crate::keys::{HumanKey, private_folder, random, write_new};
use crate::layout::{Layout, file_name};
use crate::sources;
use crate::terminal::{Exit, GOOD, Output, STRONG, new_passphrase, usage};

const CONFIG: &str = include_str!("../templates/countersign.yaml");
const POLICY: (&str, &str) = ("policy.yaml", include_str!("../templates/policy.yaml"));
const TOKEN_MS: u64 = 12 * 60 * 60 * 1_000;

/// What a new installation is made of.
pub(crate) struct Plan<'a> {
    /// The upstream: id, program and arguments, bindings as YAML.
    pub(crate) upstream: (&'a str, Vec<String>, &'a str),
    /// Where agents connect.
    pub(crate) listen: &'a str,
    /// Calls per run.
    pub(crate) run_calls: u64,
    /// The policy: the file's name and its text.
    pub(crate) policy: (&'a str, &'a str),
    /// The first agent.
    pub(crate) agent: &'a str,
}

/// Runs the command.
pub(crate) fn run(init: &Init, out: Output) -> Result<Exit> {
    let layout = Layout::of_config(&init.dir.join("countersign.yaml"));
    let taken = [layout.config(), layout.ledger(), layout.keys()];
    if let Some(there) = taken.iter().find(|path| path.exists()) {
        return Err(usage(format!(
            "`{}` is there already; `init` never overwrites, so choose another folder",
            there.display()
        )));
    }
    layout.check_sockets()?;
    let human = HumanId::new(file_name(&init.human)?).map_err(|error| usage(error.to_string()))?;
    AgentId::new(file_name(&init.agent)?).map_err(|error| usage(error.to_string()))?;
    let command =
        if init.upstream.is_empty() { vec!["replace-with-your-mcp-server".to_owned()] } else { init.upstream.clone() };
    // The only question comes first, so that a wrong answer leaves nothing behind.
    let phrase = new_passphrase(&init.human)?;
    let plan = Plan {
        upstream: ("tools", command, "{}"),
        listen: "127.0.0.1:7411",
        run_calls: 1_000,
        policy: POLICY,
        agent: &init.agent,
    };
    let key = HumanKey::generate(human)?;
    let session = make(&layout, &plan, &key, &phrase)?;
    report(init, &layout, &session, out);
    Ok(Exit::Done)
}

/// Makes the installation: files, keys, ledger, first human, acceptance, first token. Gives the token's session id.
pub(crate) fn make(layout: &Layout, plan: &Plan<'_>, key: &HumanKey, phrase: &str) -> Result<SessionId> {
    private_folder(layout.root())?;
    private_folder(&layout.keys())?;
    let tokens = layout.token(plan.agent);
    private_folder(tokens.parent().unwrap_or(Path::new(".")))?;
    let [a, b, c, d] = random::<4>()?;
    let origin = format!("countersign.local/{a:02x}{b:02x}{c:02x}{d:02x}");
    write_new(&layout.config(), filled(plan, &origin)?.as_bytes())?;
    let (name, text) = plan.policy;
    write_new(&layout.root().join(name), text.as_bytes())?;
    schemas(layout.root())?;
    key.save(&layout.human_key(key.human().as_str()), phrase)?;
    write_new(&layout.token_key(), &TokenKey::from_bytes(&random()?)?.to_bytes())?;
    Ledger::create(&Store::real(layout.ledger()), &origin)?;
    let (config, bundle) = policy::load(layout)?;
    let now = InForce { configuration: config.hash, policy: bundle.hash() };
    sources::keep(layout, (&compose::source(&config)?, &config.policies), now.policy)?;
    policy::write(layout, &policy::sign(key, &origin, now, (1, None))?)?;
    let (gate, _) = compose::open(&config, bundle, layout)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(begin(&gate, layout, (key, &origin, now), plan.agent));
    let closed = gate.close();
    let (token, session) = done?;
    write_new(&tokens, token.as_bytes())?;
    closed?;
    Ok(session)
}

/// What editors check files by. It decides nothing, so one that is there already stays.
fn schemas(root: &Path) -> Result<()> {
    let folder = root.join("schemas");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create the folder `{}`", folder.display()))?;
    for (kind, text) in countersign_policy::schemas::ALL {
        let path = folder.join(format!("{kind}.json"));
        if !path.exists() {
            std::fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
    }
    Ok(())
}

/// The first records: the human, the acceptance, the agent's token.
async fn begin(
    gate: &Gate,
    layout: &Layout,
    (key, origin, now): (&HumanKey, &str, InForce),
    agent: &str,
) -> Result<(String, SessionId)> {
    let refused = |reason: countersign_model::Reason| {
        anyhow::anyhow!("{}", reason.detail.unwrap_or_else(|| reason.code.sentence().to_owned()))
    };
    let challenge = || gate.challenge().context("no randomness to be had");
    let enrol = Deed::Enrol { human: key.human().clone(), key: key.public() };
    gate.command(key.command(origin, challenge()?, enrol)?).await.map_err(refused)?;
    policy::enforce(gate, layout, now).await?;
    let issue = Deed::IssueToken { agent: agent.parse()?, run: None, ttl_ms: TOKEN_MS };
    let carried = gate.command(key.command(origin, challenge()?, issue)?).await.map_err(refused)?;
    carried.token.zip(carried.session).context("no token was issued")
}

fn filled(plan: &Plan<'_>, origin: &str) -> Result<String> {
    let (upstream, command, tools) = &plan.upstream;
    // JSON is YAML: what it quotes needs no other escaping.
    let command = serde_json::to_string(command)?;
    let fields = [
        ("{{tenant}}", "default"),
        ("{{policy}}", plan.policy.0),
        ("{{origin}}", origin),
        ("{{listen}}", plan.listen),
        ("{{agent}}", plan.agent),
        ("{{upstream}}", upstream),
        ("{{command}}", &command),
        ("{{tools}}", tools),
        ("{{run_calls}}", &plan.run_calls.to_string()),
    ];
    Ok(fields.iter().fold(CONFIG.to_owned(), |text, (name, value)| text.replace(name, value)))
}

fn report(init: &Init, layout: &Layout, session: &SessionId, out: Output) {
    let value = json!({
        "config": layout.config(), "human": init.human, "agent": init.agent,
        "token": layout.token(&init.agent), "session": session.as_str(), "log_key": layout.log_vkey(),
    });
    let edit = if init.upstream.is_empty() {
        "name your MCP server under `upstreams`, accept it with `countersign policy activate`, then run `countersign up`"
    } else {
        "run `countersign up`"
    };
    out.result(&value, &format!(
        "{GOOD}made{GOOD:#} {}\n  human {STRONG}{}{STRONG:#}, key {}\n  agent {STRONG}{}{STRONG:#}, token {} (12 h, session {session})\n\
         next: {edit}",
        layout.config().display(), init.human, layout.human_key(&init.human).display(),
        init.agent, layout.token(&init.agent).display(),
    ));
}
