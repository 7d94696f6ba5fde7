//! From records to rows: one transaction a batch, and the tree over what was read.
//!
//! An outcome completes its intent's row. An erasure takes the text of its scope out, a pruning takes rows out, each in
//! the same transaction as the record that says so. It must not know where leaves come from.

use countersign_model::encoding::clipped;
use countersign_model::id::{AgentId, HumanId, RunId};
use countersign_model::record::{Attempt, Consent, KillScope, Outcome, Refused, VaultScope};
use countersign_model::{Body, Principal, Record};
use countersign_receipt::merkle::{TreeHead, leaf_hash};
use rusqlite::{Transaction, TransactionBehavior};

use crate::error::IndexError;
use crate::schema::{Covered, Index, cover, covered, signed};
use crate::scrub::Owed;
use crate::words::{StatusWord, VerdictWord, effect_number, kind_number, reason_number};

/// What a row mentions besides its columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mention {
    Table = 0,
    Host = 1,
    Approver = 2,
    /// Reasons after the first.
    Reason = 3,
}

/// The longest text of one call that is searched, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// How many numbers of words are kept in memory.
const WORDS_MAX: usize = 200_000;

/// What a batch was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    /// It is in the batch now.
    New,
    /// The index covered it already.
    Known,
}

/// Records on their way into the index: all of them, or none.
pub struct Batch<'a> {
    transaction: Transaction<'a>,
    words: &'a mut std::collections::HashMap<String, i64>,
    covered: Covered,
}

/// The columns of one row.
#[derive(Default)]
struct Columns<'a> {
    verdict: Option<VerdictWord>,
    reason: Option<i64>,
    principal: Option<&'a Principal>,
    agent: Option<&'a str>,
    run: Option<&'a str>,
    session: Option<&'a str>,
    call: Option<&'a Attempt>,
    count: u64,
    ticket: Option<&'a str>,
    human: Option<&'a HumanId>,
}

impl Index {
    /// Starts a batch. Other writers wait until it is committed or dropped.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn batch(&mut self) -> Result<Batch<'_>, IndexError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let covered = covered(&transaction)?;
        if covered.generation != self.generation || self.words.len() > WORDS_MAX {
            self.words.clear();
            self.generation = covered.generation;
        }
        Ok(Batch { transaction, words: &mut self.words, covered })
    }
}

impl Batch<'_> {
    /// The record that comes next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.covered.edge.size()
    }

    /// The tree over everything up to now, this batch with it.
    #[must_use]
    pub fn head(&self) -> TreeHead {
        self.covered.edge.head()
    }

    /// Whether [`Batch::push`] has a use for arguments.
    #[must_use]
    pub fn wants_text(&self) -> bool {
        self.covered.full_text
    }

    /// Takes the record at `leaf`; `arguments` where they may be searched.
    ///
    /// # Errors
    /// Refuses what is no record, what does not come next and what goes back in time.
    pub fn push(&mut self, leaf: u64, bytes: &[u8], arguments: Option<&[u8]>) -> Result<Fed, IndexError> {
        let next = self.next();
        if leaf < next {
            return Ok(Fed::Known);
        }
        if leaf > next {
            return Err(IndexError::Hole { covered: next, leaf });
        }
        let record = Record::from_leaf(bytes).map_err(|source| IndexError::Record { leaf, source })?;
        let at = signed(record.at.0);
        if at < self.covered.latest {
            return Err(IndexError::Time { leaf });
        }
        self.take(leaf, &record)?;
        if let Some(arguments) = arguments.filter(|_| self.covered.full_text && record.body.attempt().is_some()) {
            let text = clipped(&String::from_utf8_lossy(arguments), TEXT_BYTES_MAX);
            let sql = "INSERT INTO arguments (rowid, text) VALUES (?1, ?2)";
            self.transaction.prepare_cached(sql)?.execute((signed(leaf), text))?;
        }
        self.covered.latest = at;
        self.covered.edge.push(leaf_hash(bytes));
        Ok(Fed::New)
    }

    /// Makes the batch part of the index.
    ///
    /// # Errors
    /// [`IndexError`]; nothing of the batch is in the index then.
    pub fn commit(self) -> Result<(), IndexError> {
        let Self { transaction, words, covered } = self;
        let done = cover(&transaction, &covered).and_then(|()| Ok(transaction.commit()?));
        if done.is_err() {
            // Numbers that this batch gave out were given back.
            words.clear();
        }
        done
    }

    /// Drops the batch.
    pub fn abandon(self) {
        self.words.clear();
    }

    fn take(&mut self, leaf: u64, record: &Record) -> Result<(), IndexError> {
        let mut columns = Columns { count: 1, ..Columns::default() };
        match &record.body {
            Body::Outcome(outcome) => return self.complete(leaf, outcome),
            Body::Intent(attempt) | Body::Denial(attempt) | Body::Waiting(attempt) => {
                self.mention_call(leaf, attempt)?;
                columns.call(attempt);
            }
            Body::Proposal(proposal) => {
                self.mention_call(leaf, &proposal.attempt)?;
                columns.call(&proposal.attempt);
            }
            Body::Refused(refused) => columns.refused(refused),
            Body::Consent(consent) => {
                self.consented(consent)?;
                columns.ticket = Some(consent.ticket.as_str());
                columns.human = Some(&consent.human);
            }
            Body::Expired(expired) => columns.ticket = Some(expired.ticket.as_str()),
            Body::Killed(killed) => match &killed.scope {
                KillScope::All => {}
                KillScope::Agent(agent) => columns.agent = Some(agent.as_str()),
                KillScope::Run(run) => columns.run = Some(run.as_str()),
            },
            Body::Commanded(commanded) => columns.commanded(commanded),
            Body::Erased(erased) => {
                if let VaultScope::Run(run) = &erased.scope {
                    columns.run = Some(run.as_str());
                }
                self.forget(leaf, &erased.scope)?;
            }
            Body::Pruned(pruned) => self.prune(pruned.minimum.0)?,
            Body::Started(_)
            | Body::Stopped
            | Body::Gap(_)
            | Body::ClockJump(_)
            | Body::Snapshot(_)
            | Body::KeyRotated(_) => {}
        }
        self.insert(leaf, record, &columns)
    }

    fn insert(&mut self, leaf: u64, record: &Record, columns: &Columns<'_>) -> Result<(), IndexError> {
        let kind = kind_number(record.body.kind()).ok_or(IndexError::Damaged { what: "a kind has no number" })?;
        let principal = columns.principal;
        let agent = self.word(columns.agent.or(principal.map(|who| who.agent.as_str())))?;
        let run = self.word(columns.run.or(principal.map(|who| who.run.as_str())))?;
        let session = self.word(columns.session.or(principal.map(|who| who.session.as_str())))?;
        let upstream = self.word(columns.call.map(|call| call.upstream.as_str()))?;
        let tool = self.word(columns.call.map(|call| call.tool.as_str()))?;
        let target = self.word(columns.call.map(|call| call.target.as_str()))?;
        let environment = self.word(columns.call.map(|call| call.environment.as_str()))?;
        let human = self.word(columns.human.map(HumanId::as_str))?;
        let effect = columns.call.and_then(|call| effect_number(call.facts.effect));
        let sql = "INSERT INTO record (leaf, kind, at, verdict, reason, agent, run, session, upstream, tool, target, \
                   environment, effect, count, ticket, human, continues) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";
        self.transaction.prepare_cached(sql)?.execute(rusqlite::params![
            signed(leaf),
            kind,
            signed(record.at.0),
            columns.verdict.map(VerdictWord::number),
            columns.reason,
            agent,
            run,
            session,
            upstream,
            tool,
            target,
            environment,
            effect,
            signed(columns.count),
            columns.ticket,
            human,
            columns.call.and_then(|call| call.continues.as_ref()).map(|continued| signed(continued.intent.0)),
        ])?;
        Ok(())
    }

    /// What became of an intent goes into the intent's row. One whose intent was pruned has none.
    fn complete(&mut self, leaf: u64, outcome: &Outcome) -> Result<(), IndexError> {
        let sql = "UPDATE record SET outcome = ?2, status = ?3, rows = ?4, bytes_sent = ?5, duration_ms = ?6, \
                   cost_microusd = ?7 WHERE leaf = ?1";
        self.transaction.prepare_cached(sql)?.execute((
            signed(outcome.intent.0),
            signed(leaf),
            StatusWord::of(outcome.status).number(),
            outcome.rows.map(|rows| signed(rows.0)),
            signed(outcome.bytes_sent.0),
            signed(outcome.duration_ms),
            outcome.cost_microusd.map(signed),
        ))?;
        Ok(())
    }

    fn mention_call(&mut self, leaf: u64, attempt: &Attempt) -> Result<(), IndexError> {
        for table in attempt.facts.sql.iter().flat_map(|sql| &sql.tables) {
            self.mention(Mention::Table, table, leaf)?;
        }
        for reason in attempt.reasons.iter().skip(1) {
            self.mention(Mention::Reason, reason.code.as_str(), leaf)?;
        }
        // The consents that a redeemed grant was made of.
        let grant =
            attempt.inputs.standing.grant.as_ref().filter(|grant| attempt.ticket.as_ref() == Some(&grant.ticket));
        for human in grant.iter().flat_map(|grant| &grant.humans) {
            self.mention(Mention::Approver, human.as_str(), leaf)?;
        }
        Ok(())
    }

    /// A human who answered a proposal is found with the proposal. A refusal is an answer too.
    fn consented(&mut self, consent: &Consent) -> Result<(), IndexError> {
        self.mention(Mention::Approver, consent.human.as_str(), consent.leaf.0)
    }

    fn mention(&mut self, kind: Mention, name: &str, leaf: u64) -> Result<(), IndexError> {
        let name = self.word(Some(name))?;
        let sql = "INSERT OR IGNORE INTO mention (kind, name, leaf) VALUES (?1, ?2, ?3)";
        self.transaction.prepare_cached(sql)?.execute((kind as i64, name, signed(leaf)))?;
        Ok(())
    }

    /// Takes the text of erased payloads out. Whose payloads a subject's are the index cannot know: all text goes, and
    /// what is still readable comes back when the index is fed again.
    fn forget(&mut self, leaf: u64, scope: &VaultScope) -> Result<(), IndexError> {
        if !self.covered.full_text {
            return Ok(());
        }
        match scope {
            VaultScope::Run(run) => {
                let run = self.word(Some(run.as_str()))?;
                let sql = "DELETE FROM arguments WHERE rowid IN (SELECT leaf FROM record WHERE run = ?1)";
                self.transaction.prepare_cached(sql)?.execute([run])?;
                self.covered.owes = Owed::Words;
            }
            VaultScope::Subject(_) if leaf >= self.covered.erased_before => {
                self.transaction.execute("DELETE FROM arguments", [])?;
                self.covered.stale = true;
                self.covered.owes = Owed::Words;
            }
            // Text of records below was read after this erasure.
            VaultScope::Subject(_) => {}
        }
        Ok(())
    }

    fn prune(&mut self, minimum: u64) -> Result<(), IndexError> {
        let minimum = signed(minimum);
        if self.covered.full_text {
            self.transaction.execute("DELETE FROM arguments WHERE rowid < ?1", [minimum])?;
            self.covered.owes = Owed::Words;
        }
        self.transaction.execute("DELETE FROM mention WHERE leaf < ?1", [minimum])?;
        self.transaction.execute("DELETE FROM record WHERE leaf < ?1", [minimum])?;
        Ok(())
    }

    /// The number of a word, a new one where it is new.
    fn word(&mut self, text: Option<&str>) -> Result<Option<i64>, IndexError> {
        let Some(text) = text else { return Ok(None) };
        if let Some(number) = self.words.get(text) {
            return Ok(Some(*number));
        }
        self.transaction.prepare_cached("INSERT OR IGNORE INTO word (text) VALUES (?1)")?.execute([text])?;
        let mut found = self.transaction.prepare_cached("SELECT id FROM word WHERE text = ?1")?;
        let number = found.query_row([text], |row| row.get(0))?;
        self.words.insert(text.to_owned(), number);
        Ok(Some(number))
    }
}

impl<'a> Columns<'a> {
    fn call(&mut self, attempt: &'a Attempt) {
        self.verdict = Some(VerdictWord::of(&attempt.verdict));
        self.reason = attempt.reasons.first().and_then(|reason| reason_number(reason.code));
        self.principal = Some(&attempt.principal);
        self.ticket = attempt.ticket.as_ref().map(|ticket| ticket.as_str());
        self.call = Some(attempt);
    }

    /// A request that never became an action is a denial to whoever counts denials.
    fn refused(&mut self, refused: &'a Refused) {
        self.verdict = Some(VerdictWord::Deny);
        self.reason = reason_number(refused.reason.code);
        self.principal = refused.principal.as_ref();
        self.count = refused.count;
    }

    fn commanded(&mut self, commanded: &'a countersign_model::record::Commanded) {
        use countersign_model::command::Deed;
        let command = &commanded.signed.command;
        self.human = Some(&command.human);
        self.session = commanded.session.as_ref().map(|session| session.as_str());
        match &command.deed {
            Deed::IssueToken { agent, run, .. } => {
                self.agent = Some(AgentId::as_str(agent));
                self.run = run.as_ref().map(RunId::as_str);
            }
            Deed::RevokeToken { session } | Deed::Lease { session, .. } => self.session = Some(session.as_str()),
            Deed::Resume { scope: KillScope::Agent(agent) } => self.agent = Some(agent.as_str()),
            Deed::Resume { scope: KillScope::Run(run) } => self.run = Some(run.as_str()),
            _ => {}
        }
    }
}
