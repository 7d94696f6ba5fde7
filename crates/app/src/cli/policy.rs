//! `policy`: what can be asked of it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Audit, Backtest, Explain, Signer, Suggest};

/// `policy`.
#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Check configuration and policy, and say whether they are the accepted ones.
    Check,
    /// Accept configuration and policy as they are now. Needs a human's signature.
    Activate(Activate),
    /// Run cases: an action, its facts, and what must become of it. Exit code 1 if one fails.
    Test(Test),
    /// Prove what is true of every call, with the solver cvc5. Exit code 5 unless all of it is proven.
    Prove(Prove),
    /// Prove that nothing became wider from one policy to another, or show what did, and which rule did it. Exit code 1
    /// if something did, 5 if it is not known.
    Diff(Diff),
    /// Show the Cedar that a policy file in YAML becomes: exactly what is loaded.
    Convert(Convert),
    /// Lay out policy files, Cedar and YAML, without changing what they mean.
    Fmt(Fmt),
    /// Print the JSON Schema of one kind of YAML file, for editors.
    Schema {
        /// The kind: policy, bindings, cases, properties or config.
        #[arg(default_value = "policy")]
        kind: String,
    },
    /// Decide the recorded calls again under another policy and list every verdict that changes.
    Backtest(Backtest),
    /// Say why a call gets its verdict, and the nearest change that would give it another.
    Explain(Explain),
    /// Compare what is granted with what was used, and write a policy that grants no more than that as a diff.
    Audit(Audit),
    /// Learn a first policy from what ran: what is more than a read or a write waits for a human.
    Suggest(Suggest),
    /// List the policies that come with Countersign, or show one.
    #[command(subcommand)]
    Bundles(Bundles),
}

/// `policy activate`.
#[derive(Debug, Args)]
pub(crate) struct Activate {
    /// Consent to exactly what became wider: the digest that the command shows.
    #[arg(long, value_name = "DIGEST")]
    pub(crate) accept_wider: Option<String>,
    /// How the solver is called.
    #[command(flatten)]
    pub(crate) solving: Solving,
    /// Who signs.
    #[command(flatten)]
    pub(crate) signer: Signer,
}

/// `policy diff`.
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The old policy: `active`, the hash of an accepted one, a configuration or its folder, a policy file, or `bundle:NAME`.
    pub(crate) old: String,
    /// The new policy, in the same ways; by default that of the configuration.
    pub(crate) new: Option<String>,
    /// How the solver is called.
    #[command(flatten)]
    pub(crate) solving: Solving,
}

/// `policy test`.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// Files of cases; by default `policy/tests/*.yaml` beside the configuration.
    pub(crate) files: Vec<PathBuf>,
    /// List the rules that no case reaches, and those that hold in every case that they can see.
    #[arg(long)]
    pub(crate) coverage: bool,
    /// Fail if fewer rules of a hundred are reached.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) min_coverage: Option<u8>,
    /// Change every rule in every way, and list the changes that no case notices.
    #[arg(long)]
    pub(crate) mutate: bool,
    /// With `--mutate`: fail if a change goes unnoticed.
    #[arg(long, requires = "mutate")]
    pub(crate) strict: bool,
}

/// `policy prove`.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// A file of properties; by default `policy/properties.yaml` beside the configuration, where it is there.
    #[arg(long = "property", value_name = "FILE")]
    pub(crate) properties: Vec<PathBuf>,
    /// How the solver is called.
    #[command(flatten)]
    pub(crate) solving: Solving,
}

/// How the solver is called.
#[derive(Clone, Debug, Args)]
pub(crate) struct Solving {
    /// The solver's program; by default COUNTERSIGN_CVC5, else `cvc5` on PATH.
    #[arg(long, value_name = "FILE")]
    pub(crate) solver: Option<PathBuf>,
    /// How long one question may take; what takes longer is not proven.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) time_limit: String,
}

/// `policy convert`.
#[derive(Debug, Args)]
#[command(
    after_help = "The agents, tools and targets that the file names are those of the configuration. Warnings go to standard error.\n\
    Three forms are read: our own (`version: 1`), Sekuire's (`actions:`) and Expacti's (rules with a `pattern`)."
)]
pub(crate) struct Convert {
    /// The file, or `bundle:NAME` for one that comes with Countersign.
    pub(crate) file: String,
    /// Write the Cedar to this file, which must not exist, instead of printing it.
    #[arg(long, value_name = "OUT")]
    pub(crate) write: Option<PathBuf>,
}

/// `policy fmt`.
#[derive(Debug, Args)]
pub(crate) struct Fmt {
    /// The files, `.cedar` or `.yaml`; they are laid out in place.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Change nothing; exit code 1 if a file is not laid out.
    #[arg(long)]
    pub(crate) check: bool,
}

/// `policy bundles`.
#[derive(Debug, Subcommand)]
pub(crate) enum Bundles {
    /// List them.
    List,
    /// Show what one does, and its policy.
    Show {
        /// Its name.
        name: String,
    },
}
