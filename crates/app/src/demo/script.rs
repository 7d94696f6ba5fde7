//! The script: what the agent tries, what the humans do, and what must hold at every step.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use countersign_console::wire;
use countersign_ledger::{RealDisk, Store, verify};
use countersign_model::command::Deed;
use countersign_receipt::{Receipt, VerifierKey};

use super::agent::{Agent, Seen};
use super::gateway::Gateway;
use super::story::Story;
use super::upstream::{COMPANIES, EXECUTIVES, TEST_ROWS};
use super::{AGENT, RUN_CALLS, Stage, upstream};
use crate::admin::{Admin, kill_plane};
use crate::commands::approvals;
use crate::context::{Context, wall};
use crate::json::at;
use crate::terminal::Output;

const FREEZE_MS: u64 = 2_500;
const LETTERS: u64 = 60_000;

/// What came of it all.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
    pub(crate) parked: u64,
    pub(crate) approved: u64,
    pub(crate) cancelled: u64,
    pub(crate) rows_before: u64,
    pub(crate) rows_after: u64,
    pub(crate) rows_consented: u64,
    pub(crate) receipts: u64,
    pub(crate) receipts_verified: u64,
    pub(crate) kill_to_last_effect_ms: f64,
    calls: u64,
    broken: Vec<String>,
}

impl Tally {
    /// Whether every expectation held.
    pub(crate) fn held(&self) -> bool {
        self.broken.is_empty()
            && self.rows_before.checked_sub(self.rows_after) == Some(self.rows_consented)
            && self.receipts == self.calls
            && self.receipts_verified == self.receipts
    }
}

struct Play<'a> {
    stage: &'a Stage,
    story: Story,
    tally: Tally,
}

/// What must be seen of a call.
enum Want<'a> {
    Allowed,
    Denied(&'a str),
    Parked,
    ParkedAs(&'a str),
    ParkedAnew(&'a str),
}

/// Plays it all.
pub(crate) async fn run(stage: &Stage, story: Story) -> Result<Tally> {
    let mut play = Play { stage, story, tally: Tally::default() };
    play.tally.rows_before = upstream::rows(&stage.database())?;
    let begun = Instant::now();
    let gateway = Gateway::start(&stage.layout).await?;
    play.story.chapter("A coding agent, a customer database, and Countersign between them");
    play.story.human(
        "a throw-away human is enrolled for this demo; the gateway is a child process",
        &format!("{} in {} ms", gateway.url, begun.elapsed().as_millis()),
    );
    let token = std::fs::read_to_string(stage.layout.token(AGENT))?;
    let agent = Agent::connect(&gateway.url, &token, &stage.receipts()).await?;
    play.frozen(&agent).await?;
    play.parked(&agent).await?;
    play.spent(&agent).await?;
    let night = play.killed(&gateway).await?;
    gateway.stop().await?;
    play.restarted(&night).await?;
    play.verified()?;
    Ok(play.tally)
}

impl Play<'_> {
    async fn frozen(&mut self, agent: &Agent) -> Result<()> {
        self.story.chapter("The code freeze");
        self.expect(agent, "SELECT count(*) AS executives FROM executives", Want::Allowed).await?;
        self.expect(agent, "SELECT count(*) AS companies FROM companies", Want::Allowed).await?;
        let until = wall().saturating_add_ms(FREEZE_MS);
        let deed = Deed::Freeze { environment: "production".parse()?, until };
        self.admin().command(&self.stage.key, deed).await?;
        self.story.human("signs a freeze of production", &format!("for {FREEZE_MS} ms"));
        self.expect(agent, "DROP TABLE executives", Want::Denied("code_freeze")).await?;
        let left = until.since_ms(wall()).saturating_add(200);
        self.story.wait("the freeze holds", Duration::from_millis(left)).await;
        Ok(())
    }

    async fn parked(&mut self, agent: &Agent) -> Result<()> {
        self.story.chapter("What changes things waits for a human");
        let everything = "DELETE FROM executives";
        let first = self.expect(agent, everything, Want::Parked).await?;
        self.expect(agent, everything, Want::ParkedAs(&first)).await?;
        self.expect(agent, &invented_users(), Want::Parked).await?;
        self.expect(agent, "SELECT name FROM companies LIMIT 3", Want::Allowed).await?;
        let names: Vec<_> = (1..=TEST_ROWS).map(|n| format!("'test-{n}'")).collect();
        let some = format!("DELETE FROM executives WHERE name IN ({})", names.join(", "));
        let ticket = self.expect(agent, &some, Want::Parked).await?;
        self.consent(&ticket).await?;
        self.expect(agent, &some, Want::Allowed).await?;
        self.tally.rows_consented += u64::from(TEST_ROWS);
        self.expect(agent, &some, Want::ParkedAnew(&ticket)).await?;
        Ok(())
    }

    /// Reads until the run's budget is used up.
    async fn spent(&mut self, agent: &Agent) -> Result<()> {
        self.story.chapter(&format!("A hard limit: {RUN_CALLS} calls in this run"));
        let read = "SELECT max(id) FROM executives";
        while self.tally.allowed < RUN_CALLS {
            self.expect(agent, read, Want::Allowed).await?;
        }
        self.expect(agent, read, Want::Denied("budget_exhausted")).await?;
        Ok(())
    }

    /// The kill switch, while letters are going out. Returns the token of the run.
    async fn killed(&mut self, gateway: &Gateway) -> Result<String> {
        self.story.chapter("The kill switch");
        let deed = Deed::IssueToken { agent: AGENT.parse()?, run: Some("night-shift".parse()?), ttl_ms: 3_600_000 };
        let issued = self.admin().command(&self.stage.key, deed).await?;
        let token = issued.token.context("no token was issued")?;
        self.story.human("issues a token for another run", "night-shift");
        let agent = Agent::connect(&gateway.url, &token, &self.stage.receipts()).await?;
        let letters = serde_json::json!({ "letters": LETTERS });
        let slow = agent.call("mail_merge", &letters);
        let (seen, killed) = tokio::join!(slow, self.kill_when_under_way());
        let (ordered_us, ack) = killed?;
        self.tally.calls += 1;
        let what = "mail_merge, 60,000 letters";
        match seen? {
            Seen::Cancelled => {
                self.tally.cancelled += 1;
                self.story.cancelled(what, &format!("acknowledged after {} ms", at(&ack, "/took_ms")));
            }
            other => self.broke(&format!("{what}: {other:?}")),
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (last_us, count) = self.last_effect()?;
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one demo are far below 2^52")]
        let after_ms = last_us.saturating_sub(ordered_us) as f64 / 1_000.0;
        self.tally.kill_to_last_effect_ms = after_ms;
        self.story.checked(
            count < LETTERS,
            &format!("{count} letters had gone out; the last one {after_ms:.1} ms after the order"),
        );
        self.expect(&agent, "SELECT 1", Want::Denied("killed")).await?;
        Ok(token)
    }

    async fn kill_when_under_way(&self) -> Result<(u64, serde_json::Value)> {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if self.letters()? > 20 {
                break;
            }
            if begun.elapsed() > Duration::from_secs(30) {
                bail!("the letters never began to go out");
            }
        }
        let socket = self.stage.layout.kill_socket();
        let ordered = micros()?;
        let ack = tokio::task::spawn_blocking(move || kill_plane(&socket, "kill all")).await??;
        Ok((ordered, ack))
    }

    async fn restarted(&mut self, token: &str) -> Result<()> {
        let gateway = Gateway::start(&self.stage.layout).await?;
        self.story.human("restarts the gateway", &gateway.url);
        let agent = Agent::connect(&gateway.url, token, &self.stage.receipts()).await?;
        self.expect(&agent, "SELECT 1", Want::Denied("killed")).await?;
        gateway.stop().await
    }

    /// Everything again, from files alone.
    fn verified(&mut self) -> Result<()> {
        self.story.chapter("The record, checked offline");
        let key = std::fs::read_to_string(self.stage.layout.log_vkey())?;
        let key = VerifierKey::parse(key.trim())?;
        for file in std::fs::read_dir(self.stage.receipts())? {
            self.tally.receipts += 1;
            let receipt = Receipt::parse(&std::fs::read_to_string(file?.path())?)?;
            match receipt.verify(&key) {
                Ok(_) => self.tally.receipts_verified += 1,
                Err(error) => self.broke(&error.to_string()),
            }
        }
        let Tally { calls, receipts, receipts_verified, .. } = self.tally;
        self.story.checked(
            calls == receipts && receipts == receipts_verified,
            &format!("{calls} calls, {receipts_verified} receipts verified"),
        );
        let ledger = self.stage.layout.ledger();
        let report = verify::walk(&Store::real(&ledger), Some(&key), |_, _| {})?;
        verify::walk_public(&RealDisk, &ledger.join("public"), &key, |_, _| {})?;
        self.story
            .checked(true, &format!("{} records, every one in the tree, every checkpoint signed", report.head.size));
        self.tally.rows_after = upstream::rows(&self.stage.database())?;
        let gone = self.tally.rows_before.saturating_sub(self.tally.rows_after);
        let total = EXECUTIVES + COMPANIES;
        self.story.checked(
            gone == self.tally.rows_consented,
            &format!("of {total} rows {gone} are gone: the {} that a human consented to", self.tally.rows_consented),
        );
        Ok(())
    }

    /// Calls `query` and checks what comes; gives the ticket where there is one.
    async fn expect(&mut self, agent: &Agent, sql: &str, want: Want<'_>) -> Result<String> {
        let seen = agent.query(sql).await?;
        self.tally.calls += 1;
        let what = shortened(sql);
        match &seen {
            Seen::Allowed(text) => {
                self.tally.allowed += 1;
                self.story.allowed(&what, text);
            }
            Seen::Denied(code) => {
                self.tally.denied += 1;
                self.story.denied(&what, code);
            }
            Seen::Parked(ticket, repeated) => {
                self.tally.parked += 1;
                let again = if *repeated { "the same ticket" } else { "" };
                self.story.parked(&what, &format!("{ticket} {again}"));
            }
            Seen::Cancelled => self.tally.cancelled += 1,
        }
        let (holds, ticket) = match (want, seen) {
            (Want::Allowed, Seen::Allowed(_)) => (true, String::new()),
            (Want::Denied(want), Seen::Denied(code)) => (want == code, String::new()),
            (Want::Parked, Seen::Parked(ticket, false)) => (true, ticket),
            (Want::ParkedAs(want), Seen::Parked(ticket, true)) => (want == ticket, ticket),
            (Want::ParkedAnew(old), Seen::Parked(ticket, false)) => (old != ticket, ticket),
            _ => (false, String::new()),
        };
        if !holds {
            self.broke(&format!("not what was expected of: {what}"));
        }
        Ok(ticket)
    }

    /// A human looks at exactly what would run, and signs.
    async fn consent(&mut self, ticket: &str) -> Result<()> {
        let context = Context { layout: self.stage.layout.clone(), out: Output { json: false } };
        let waiting: wire::Waiting = self.admin().get(&format!("/approvals/{ticket}")).await?;
        let checked = approvals::check(&waiting)?;
        let status: wire::Status = self.admin().get("/status").await?;
        approvals::submit(&self.stage.key, &status.log, (ticket, &checked.leaf_hash, true), &context).await?;
        self.tally.approved += 1;
        self.story.human(&format!("reads the proposal and signs consent to {ticket}"), &checked.leaf_hash.short());
        Ok(())
    }

    fn broke(&mut self, what: &str) {
        self.story.checked(false, what);
        self.tally.broken.push(what.to_owned());
    }

    fn admin(&self) -> Admin {
        Admin::new(self.stage.layout.admin_socket())
    }

    fn letters(&self) -> Result<u64> {
        Ok(self.last_effect()?.1)
    }

    /// When the last letter went out, and how many did.
    fn last_effect(&self) -> Result<(u64, u64)> {
        let text = std::fs::read_to_string(self.stage.effects()).unwrap_or_default();
        let times = text.lines().filter_map(|line| line.strip_suffix(" letter")?.parse().ok());
        Ok(times.fold((0, 0), |(_, count), at: u64| (at, count + 1)))
    }
}

fn invented_users() -> String {
    let rows: Vec<_> = (0..4_000).map(|n| format!("({}, 'Invented {n}', 1)", 10_000 + n)).collect();
    format!("INSERT INTO executives VALUES {}", rows.join(", "))
}

fn shortened(sql: &str) -> String {
    if sql.chars().count() <= 60 {
        return sql.to_owned();
    }
    let head: String = sql.chars().take(57).collect();
    format!("{head}…")
}

fn micros() -> Result<u64> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(u64::try_from(since.as_micros())?)
}
