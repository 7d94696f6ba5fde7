//! The command line: what can be asked, in words a newcomer understands.
//!
//! It only names things; `commands` does them. Every command takes `--json` and `--config`.

mod child;
mod history;
mod people;
mod policy;
mod stdio;
mod tools;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use child::Child;
pub(crate) use history::{Audit, Backtest, Explain, Period, Suggest};
pub(crate) use people::{Attenuate, Human, Lease, Token};
pub(crate) use policy::{Activate, Bundles, Convert, Diff, Fmt, Policy, Prove, Solving, Test};
pub(crate) use stdio::Stdio;
pub(crate) use tools::Tools;

/// Nothing an agent does takes effect until it is countersigned.
#[derive(Debug, Parser)]
#[command(
    name = "countersign",
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 denied, 4 pending approval, 5 verification failed."
)]
pub(crate) struct Cli {
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The configuration; everything else lies in its folder.
    #[arg(long, global = true, value_name = "FILE", default_value = "countersign.yaml")]
    pub(crate) config: PathBuf,

    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Play the published database incident against a throw-away gateway.
    Demo(Demo),
    /// Write a configuration, make keys, enrol the first human and the first agent.
    Init(Init),
    /// Run the gateway in front of the upstream of the configuration.
    Up,
    /// Speak MCP on standard input and output in place of a server: what a client starts to reach the running gateway.
    Stdio(Stdio),
    /// Watch other logs and vouch that each only ever grows (C2SP tlog-witness).
    Witness(Witness),
    /// See, approve or deny what waits for consent.
    #[command(subcommand)]
    Approvals(Approvals),
    /// Stop everything, one agent or one run, now. Needs no signature.
    Kill(Scope),
    /// Lift a kill. Needs a human's signature.
    Resume(Resume),
    /// Let nothing but reads run in an environment until a time. Needs a human's signature.
    Freeze(Freeze),
    /// End a freeze early. Needs a human's signature.
    Thaw(Thaw),
    /// Destroy the keys of what was proposed: the records and their proofs stay. Needs a human's signature.
    Erase(Erase),
    /// Forbid to erase, or allow it again: a legal hold.
    #[command(subcommand)]
    Hold(Hold),
    /// Read and check the record.
    #[command(subcommand)]
    Log(Log),
    /// Decide every recorded call again and say what differs. Exit code 5 if anything does.
    Replay(Replay),
    /// Check, test, prove, question and accept policy.
    #[command(subcommand)]
    Policy(Policy),
    /// See what upstreams offer, what changed of it, and accept it.
    #[command(subcommand)]
    Tools(Tools),
    /// Issue or revoke tokens of agents.
    #[command(subcommand)]
    Token(Token),
    /// Enrol another human.
    #[command(subcommand)]
    Human(Human),
    /// Lend a session an elevated right until a time. Needs a human's signature.
    Lease(Lease),
    /// Confirm that the clock is right after a jump. Needs a human's signature.
    ConfirmClock(Signer),
    /// Hold the log's key in a process of its own, for a gateway of another user.
    Signer(SignerProcess),
    /// Become a program under limits (used by `up`).
    #[command(hide = true)]
    Child(Child),
    /// Serve the demo's database over MCP (used by `demo`).
    #[command(hide = true)]
    DemoUpstream {
        /// The SQLite file.
        database: PathBuf,
    },
}

/// `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Keep everything that the demo makes in this folder, which must not exist yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// `init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder to make the installation in.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The first human's name.
    #[arg(long, value_name = "NAME", default_value = "owner")]
    pub(crate) human: String,
    /// The first agent's name.
    #[arg(long, value_name = "NAME", default_value = "agent")]
    pub(crate) agent: String,
    /// The upstream MCP server: program and arguments, after `--`.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) upstream: Vec<String>,
}

/// `witness`.
#[derive(Debug, Args)]
pub(crate) struct Witness {
    /// Where it keeps its key and what it has cosigned; made at the first start.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where it takes submissions. There is no TLS: put a proxy in front where strangers listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7420")]
    pub(crate) listen: std::net::SocketAddr,
    /// A log to watch: its verifier key, as text or as a file. Give it once for each log; after a change of the log's key
    /// give its `log.keys` instead, or each key once, the oldest first.
    #[arg(long = "log", value_name = "VKEY", required = true)]
    pub(crate) logs: Vec<String>,
    /// The witness's name, set at the first start; best a URL of yours without the scheme.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Keep marks here instead of in the directory: on another disk they notice that the directory was set back.
    #[arg(long, value_name = "DIR")]
    pub(crate) marks: Option<PathBuf>,
}

/// Who signs a command.
#[derive(Debug, Args)]
pub(crate) struct Signer {
    /// The human who signs; the passphrase is asked for on the terminal.
    #[arg(long = "as", value_name = "HUMAN", default_value = "owner")]
    pub(crate) human: String,
}

/// `approvals`.
#[derive(Debug, Subcommand)]
pub(crate) enum Approvals {
    /// List what waits. Exit code 4 if anything does.
    List,
    /// Show one proposal exactly as it would be signed.
    Show {
        /// The ticket.
        ticket: String,
    },
    /// Consent to one proposal: it then runs once, when the agent repeats the identical call.
    Approve {
        /// The ticket.
        ticket: String,
        /// Who signs.
        #[command(flatten)]
        signer: Signer,
    },
    /// Refuse one proposal.
    Deny {
        /// The ticket.
        ticket: String,
        /// Who signs.
        #[command(flatten)]
        signer: Signer,
    },
}

/// What a kill or a resume covers.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Scope {
    /// One agent, in all its runs.
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// One run.
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Everything (the default for `kill`).
    #[arg(long)]
    pub(crate) all: bool,
}

/// `resume`.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Exactly what was killed.
    #[command(flatten)]
    pub(crate) scope: Scope,
    /// Who signs.
    #[command(flatten)]
    pub(crate) signer: Signer,
}

/// `freeze`.
#[derive(Debug, Args)]
pub(crate) struct Freeze {
    /// The environment, such as `production`.
    pub(crate) environment: String,
    /// For how long, such as `8h` or `3d`.
    #[arg(long = "for", value_name = "DURATION")]
    pub(crate) duration: String,
    /// Who signs.
    #[command(flatten)]
    pub(crate) signer: Signer,
}

/// `thaw`.
#[derive(Debug, Args)]
pub(crate) struct Thaw {
    /// The environment.
    pub(crate) environment: String,
    /// Who signs.
    #[command(flatten)]
    pub(crate) signer: Signer,
}

/// `signer`.
#[derive(Debug, Args)]
pub(crate) struct SignerProcess {
    /// Its folder: the key and the high-water lie there. Only its user may enter it.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Listen on this Unix socket.
    #[arg(long, value_name = "PATH", required_unless_present = "take_key")]
    pub(crate) socket: Option<PathBuf>,
    /// A user who may ask for signatures; repeat for more. Without it only the signer's own user may.
    #[arg(long, value_name = "UID")]
    pub(crate) allow_uid: Vec<u32>,
    /// Instead of serving: move the key of this ledger into DIR, which must hold none yet, and end.
    #[arg(long, value_name = "LEDGER", conflicts_with_all = ["socket", "allow_uid", "pkcs11"])]
    pub(crate) take_key: Option<PathBuf>,
    /// Where the keys lie, if not in files.
    #[command(flatten)]
    pub(crate) pkcs11: Pkcs11,
}

/// A PKCS#11 token to keep the log's keys in: all of these or none. A program that was built without the feature knows
/// them too, and says so.
#[derive(Debug, Args)]
#[group(id = "pkcs11", multiple = true)]
pub(crate) struct Pkcs11 {
    /// Keep the keys in a token: its PKCS#11 module, a shared library. A log moves there at the next `log rotate-key`.
    #[arg(long = "pkcs11-module", value_name = "PATH", requires_all = ["token", "key", "pin_file"])]
    pub(crate) module: Option<PathBuf>,
    /// The label of the token.
    #[arg(long = "pkcs11-token", value_name = "LABEL", requires = "module")]
    pub(crate) token: Option<String>,
    /// The label of this log's keys in the token; no other log's keys may carry it.
    #[arg(long = "pkcs11-key", value_name = "LABEL", requires = "module")]
    pub(crate) key: Option<String>,
    /// The file with the token's PIN; nobody but its owner may have any right to it.
    #[arg(long = "pkcs11-pin-file", value_name = "FILE", requires = "module")]
    pub(crate) pin_file: Option<PathBuf>,
}

/// Whose payloads are meant.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct Whose {
    /// Those of one run.
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Those about one person or thing, by its name as it stood in the argument that the binding calls the subject.
    #[arg(long, value_name = "TEXT")]
    pub(crate) subject: Option<String>,
}

/// `erase`.
#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// Whose payloads.
    #[command(flatten)]
    pub(crate) whose: Whose,
    /// Who signs.
    #[command(flatten)]
    pub(crate) signer: Signer,
}

/// `hold`.
#[derive(Debug, Subcommand)]
pub(crate) enum Hold {
    /// Keep a run's or a subject's payloads, or everything. Needs a human's signature.
    Add {
        /// The hold's name, such as the number of a case.
        name: String,
        /// What it covers; everything where nothing is said.
        #[command(flatten)]
        whose: Whose,
        /// Who signs.
        #[command(flatten)]
        signer: Signer,
    },
    /// List the holds in force.
    List,
    /// End a hold. Needs a human's signature.
    Release {
        /// The hold's name.
        name: String,
        /// Who signs.
        #[command(flatten)]
        signer: Signer,
    },
}

/// `log prune`.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Up to where; rounded down to whole segments of the log.
    #[command(flatten)]
    pub(crate) up_to: UpTo,
    /// Who signs.
    #[command(flatten)]
    pub(crate) signer: Signer,
}

/// Up to where the log is pruned.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct UpTo {
    /// Prune below this record.
    #[arg(long, value_name = "INDEX")]
    pub(crate) below: Option<u64>,
    /// Prune what is older than this, such as `200d`.
    #[arg(long, value_name = "DURATION")]
    pub(crate) older_than: Option<String>,
}

/// `log`.
#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// Print the last records.
    Tail {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20)]
        count: u64,
    },
    /// Print one record in full, or a whole run as a timeline.
    Show {
        /// A record's index in the log, or a run's id.
        #[arg(value_name = "INDEX|RUN")]
        what: String,
        /// Take it for a run's id even where it is a number.
        #[arg(long)]
        run: bool,
    },
    /// Find calls by agent, run, tool, verdict, reason, time and more.
    Query(Box<Query>),
    /// Write the record in a format of other tools: OCSF or OpenTelemetry, one JSON object a line, or Parquet.
    Export(Export),
    /// Show chosen fields of one call's arguments, provably and without the others.
    Disclose(Disclose),
    /// List actions whose outcome is not known: what the gateway left open when it ended, and what was lost on the way.
    Unknown,
    /// Stop keeping old records: the log then begins later, and all that is left still verifies. Needs a human's signature.
    Prune(Prune),
    /// Check the whole ledger, or one receipt or disclosure, offline.
    Verify {
        /// A receipt (JSON or COSE) or a disclosure to check; without one the whole ledger is walked.
        receipt: Option<PathBuf>,
        /// The log's verifier key, as text or as a file; by default the installation's own.
        #[arg(long, value_name = "VKEY")]
        key: Option<String>,
        /// For a receipt and `--key`: the log's list of keys (`log.keys`), which leads from that key to later ones.
        #[arg(long, value_name = "FILE", requires = "receipt")]
        keys: Option<PathBuf>,
        /// A witness that must have cosigned what the receipt proves: its key, as text or as a file.
        #[arg(long = "witness", value_name = "VKEY", requires = "receipt")]
        witnesses: Vec<String>,
    },
    /// Compare what two parties saw of a log. Exit code 5 if the log lied to one of them.
    Monitor {
        /// What the one saw: a checkpoint or receipt, a folder of tiles, or the URL of one.
        #[arg(long, value_name = "FILE|URL")]
        a: String,
        /// What the other saw.
        #[arg(long, value_name = "FILE|URL")]
        b: String,
        /// The log's verifier key, as text or as a file; by default the installation's own.
        #[arg(long, value_name = "VKEY")]
        key: Option<String>,
        /// `--b` was seen after `--a`: then a smaller tree is a rollback. A file against a URL is always in order.
        #[arg(long)]
        in_order: bool,
        /// Where the evidence goes if there is any.
        #[arg(long, value_name = "FILE", default_value = "evidence.json")]
        evidence: PathBuf,
    },
    /// Check evidence of a log's misbehaviour, offline.
    Evidence {
        /// The evidence.
        file: PathBuf,
        /// The verifier key that the log is known by, as text or as a file.
        #[arg(long, value_name = "VKEY")]
        key: Option<String>,
    },
    /// Change the log's key: the old key signs the new one, and is destroyed. Needs a human's signature.
    RotateKey(Signer),
    /// Print the receipt of the call whose intent or decision is at this index.
    Receipt {
        /// Its index in the log.
        index: u64,
        /// As a COSE Receipt (RFC 9942) of the one record at this index, whatever it is.
        #[arg(long)]
        cose: bool,
        /// Write it to this file.
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// `log query`.
#[derive(Debug, Default, Args)]
pub(crate) struct Query {
    /// Calls of this agent.
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Calls of this run.
    #[arg(long, value_name = "RUN")]
    pub(crate) run: Option<String>,
    /// Calls of this session.
    #[arg(long, value_name = "SESSION")]
    pub(crate) session: Option<String>,
    /// Calls of this tool.
    #[arg(long, value_name = "TOOL")]
    pub(crate) tool: Option<String>,
    /// Calls towards this upstream.
    #[arg(long, value_name = "UPSTREAM")]
    pub(crate) upstream: Option<String>,
    /// Calls in this environment.
    #[arg(long, value_name = "ENVIRONMENT")]
    pub(crate) environment: Option<String>,
    /// With this verdict: allow, require_approval, deny, modify or defer.
    #[arg(long, value_name = "VERDICT")]
    pub(crate) verdict: Option<String>,
    /// With this reason code, such as `code_freeze`.
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Option<String>,
    /// At or after this time: RFC 3339, or how long ago, such as `2h` or `1d`.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Before this time.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Whose SQL names this table.
    #[arg(long, value_name = "TABLE")]
    pub(crate) table: Option<String>,
    /// That would reach this host. No fact of this version names a host yet, so nothing matches.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
    /// That this human answered, or whose consent was redeemed.
    #[arg(long, value_name = "HUMAN")]
    pub(crate) approver: Option<String>,
    /// Under this ticket.
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket: Option<String>,
    /// That ended like this: done, failed, not_started, unknown, or open (allowed, without an outcome in the log).
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<String>,
    /// Whose arguments hold all of these words; needs `index: { full_text: true }` in the configuration.
    #[arg(long, value_name = "WORDS")]
    pub(crate) text: Option<String>,
    /// Records of this kind instead of calls, such as `consent`, `killed` or `commanded`; may be repeated.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<String>,
    /// At most this many, the newest.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) limit: u64,
    /// Count instead of listing: tools, agents, runs, upstreams, targets, environments, reasons, tables or approvers.
    #[arg(long, value_name = "WHAT")]
    pub(crate) top: Option<String>,
    /// What `--top` counts: calls, denials, approvals, failures, unknowns, rows or cost.
    #[arg(long, value_name = "MEASURE")]
    pub(crate) by: Option<String>,
    /// Print CSV; what the answer covers goes to standard error.
    #[arg(long)]
    pub(crate) csv: bool,
}

/// `log export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The format: ocsf, otel, or parquet where that was built in.
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: String,
    /// Calls proposed at or after this time: RFC 3339, or how long ago, such as `1d`.
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Calls proposed before this time.
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// Write to this file, which must not exist, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `log disclose`.
#[derive(Debug, Args)]
pub(crate) struct Disclose {
    /// The index of the call's intent or decision in the log.
    pub(crate) index: u64,
    /// A member of the arguments to show; may be given more than once.
    #[arg(long, value_name = "NAME", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) field: Vec<String>,
    /// Show all of them, and the listed `_meta`.
    #[arg(long)]
    pub(crate) all: bool,
    /// Write it to this file.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `replay`.
#[derive(Debug, Args)]
#[command(
    after_help = "Offline. Without --from and --from-snapshot the whole log is verified on the way: checksums, roots,\n\
    signatures, tiles. Records of another configuration count as outdated; to replay them too, give that older\n\
    configuration with --config and this ledger with --ledger."
)]
pub(crate) struct Replay {
    /// The ledger's folder; by default that of the configuration.
    #[arg(long, value_name = "DIR")]
    pub(crate) ledger: Option<PathBuf>,
    /// Begin at the newest snapshot; what lies below it is neither verified nor replayed.
    #[arg(long, conflicts_with = "from")]
    pub(crate) from_snapshot: bool,
    /// Report records from this index on, beginning at the newest snapshot at or below it, else at the first record.
    #[arg(long, value_name = "INDEX")]
    pub(crate) from: Option<u64>,
    /// The log's verifier key, as text or as a file; by default the ledger's own.
    #[arg(long, value_name = "VKEY")]
    pub(crate) key: Option<String>,
}
