//! Orders by humans: kill (unsigned), and everything that carries a signature.

use anyhow::{Context as _, Result};
use countersign_console::wire;
use countersign_gate::kill::KillSwitch;
use countersign_model::command::Deed;
use countersign_model::id::{Environment, HumanId};
use countersign_model::record::KillScope;
use serde_json::json;

use crate::admin::kill_plane;
use crate::cli::{Command, Freeze, Human, Lease, Resume, Scope, Token};
use crate::config::duration_ms;
use crate::context::{Context, wall, when};
use crate::json::at;
use crate::keys::{HumanKey, write_new};
use crate::layout::file_name;
use crate::terminal::{BAD, Exit, new_passphrase, usage};

/// `kill`: says it to the kill plane; where none answers, writes the kill's own file for the next start.
pub(crate) fn kill(scope: &Scope, context: &Context) -> Result<Exit> {
    let scope = scope_of(scope)?.unwrap_or(KillScope::All);
    let words = countersign_gate::kill::plane::scope_words(&scope);
    let order = format!("kill {words}");
    let socket = context.layout.kill_socket();
    let is_running = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
    if is_running() {
        let told = kill_plane(&socket, &order);
        return match told {
            Ok(answer) => acknowledged(&words, &answer, context),
            Err(error) => {
                KillSwitch::kill_stopped(&context.layout.kill(), &scope)?;
                Err(error.context(
                    "the gateway did not acknowledge; the kill is saved for its next start: stop the process now",
                ))
            }
        };
    }
    // Nothing runs that could be stopped; make sure that nothing starts either. One that starts at this very moment
    // reads the file once more when its plane listens, and if it listens already it is told.
    let epoch = KillSwitch::kill_stopped(&context.layout.kill(), &scope)?;
    if is_running() {
        return acknowledged(&words, &kill_plane(&socket, &order)?, context);
    }
    context.out.result(
        &json!({"killed": words, "epoch": epoch, "running": false, "saved": true}),
        &format!("{BAD}killed {words}{BAD:#}: no gateway answers; the kill holds from its next start"),
    );
    Ok(Exit::Done)
}

fn acknowledged(words: &str, answer: &serde_json::Value, context: &Context) -> Result<Exit> {
    let text = format!(
        "{BAD}killed {words}{BAD:#}: {} in flight cancelled, acknowledged after {} ms, {}, {}",
        at(answer, "/cancelled"),
        at(answer, "/took_ms"),
        if at(answer, "/saved") == true { "saved" } else { "NOT SAVED: it does not hold over a restart" },
        if at(answer, "/recorded") == true { "recorded" } else { "not recorded yet" },
    );
    context.out.result(answer, &text);
    Ok(Exit::Done)
}

/// Everything that carries a signature.
pub(crate) async fn run(command: Command, context: &Context) -> Result<Exit> {
    match command {
        Command::Resume(Resume { scope, signer }) => {
            let scope = scope_of(&scope)?.ok_or_else(|| {
                usage("say what to resume: --all, --agent NAME or --run ID, exactly as it was killed")
            })?;
            let words = countersign_gate::kill::plane::scope_words(&scope);
            order(&signer.human, Deed::Resume { scope }, &format!("resumed {words}"), context).await
        }
        Command::Freeze(Freeze { environment, duration, signer }) => {
            let until = wall().saturating_add_ms(duration_ms(&duration).map_err(|e| usage(e.to_string()))?);
            let done = format!("{environment} is frozen until {}: nothing but reads runs", when(until.0));
            let deed = Deed::Freeze { environment: Environment::new(&environment)?, until };
            order(&signer.human, deed, &done, context).await
        }
        Command::Thaw(thaw) => {
            let deed = Deed::Thaw { environment: Environment::new(&thaw.environment)? };
            order(&thaw.signer.human, deed, &format!("{} is no longer frozen", thaw.environment), context).await
        }
        Command::Lease(Lease { session, name, duration, signer }) => {
            let until = wall().saturating_add_ms(duration_ms(&duration).map_err(|e| usage(e.to_string()))?);
            let done = format!("{session} holds `{name}` until {}", when(until.0));
            let deed = Deed::Lease { session: session.parse()?, name: name.parse()?, until };
            order(&signer.human, deed, &done, context).await
        }
        Command::ConfirmClock(signer) => {
            order(&signer.human, Deed::ConfirmClock, "the clock is confirmed; leases hold again", context).await
        }
        Command::Token(Token::Issue { agent, run, ttl, out, signer }) => {
            let ttl_ms = duration_ms(&ttl).map_err(|e| usage(e.to_string()))?;
            let run = run.map(|run| run.parse()).transpose()?;
            let deed = Deed::IssueToken { agent: agent.parse()?, run, ttl_ms };
            issue(&signer.human, deed, out.as_deref(), context).await
        }
        Command::Token(Token::Revoke { session: Some(session), signer, .. }) => {
            let deed = Deed::RevokeToken { session: session.parse()? };
            order(&signer.human, deed, &format!("{session} is revoked"), context).await
        }
        Command::Token(Token::Revoke { block: Some(block), signer, .. }) => {
            let deed = Deed::RevokeBlock { block: super::token::block(&block)? };
            let done = "the narrowed token is revoked, and all that was narrowed from it; what it was made from lives";
            order(&signer.human, deed, done, context).await
        }
        Command::Human(Human::Enrol { name, signer }) => enrol(&name, &signer.human, context).await,
        _ => Err(usage("this command is not an order")),
    }
}

pub(crate) async fn order(human: &str, deed: Deed, done: &str, context: &Context) -> Result<Exit> {
    let key = context.open_key(human)?;
    let recorded = context.admin().command(&key, deed).await?;
    context
        .out
        .result(&json!({"done": done, "leaf": recorded.leaf}), &format!("{done}, on record at {}", recorded.leaf));
    Ok(Exit::Done)
}

async fn issue(human: &str, deed: Deed, out: Option<&std::path::Path>, context: &Context) -> Result<Exit> {
    let key = context.open_key(human)?;
    let recorded: wire::Recorded = context.admin().command(&key, deed).await?;
    let token = recorded.token.context("the gateway issued no token")?;
    let session = recorded.session.unwrap_or_default();
    match out {
        Some(path) => {
            write_new(path, token.as_bytes())?;
            context.out.result(
                &json!({"session": session, "file": path, "leaf": recorded.leaf}),
                &format!("token {session} written to {}", path.display()),
            );
        }
        None => context.out.result(&json!({"session": session, "token": token, "leaf": recorded.leaf}), &token),
    }
    Ok(Exit::Done)
}

async fn enrol(name: &str, human: &str, context: &Context) -> Result<Exit> {
    let signer = context.open_key(human)?;
    let new = HumanKey::generate(HumanId::new(file_name(name)?)?)?;
    let path = context.layout.human_key(name);
    new.save(&path, &new_passphrase(name)?)?;
    let deed = Deed::Enrol { human: new.human().clone(), key: new.public() };
    let recorded = context.admin().command(&signer, deed).await;
    if recorded.is_err() {
        // A key that is not enrolled must not lie about as if it were.
        let _ = std::fs::remove_file(&path);
    }
    let recorded = recorded?;
    context.out.result(
        &json!({"human": name, "key": path, "leaf": recorded.leaf}),
        &format!("{name} is enrolled, on record at {}; the key is {}", recorded.leaf, path.display()),
    );
    Ok(Exit::Done)
}

fn scope_of(scope: &Scope) -> Result<Option<KillScope>> {
    Ok(match (&scope.agent, &scope.run, scope.all) {
        (Some(agent), _, _) => Some(KillScope::Agent(agent.parse()?)),
        (_, Some(run), _) => Some(KillScope::Run(run.parse()?)),
        (_, _, true) => Some(KillScope::All),
        _ => None,
    })
}
