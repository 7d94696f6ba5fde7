//! The policy files, read anew by a running gateway.
//!
//! Only policies may differ from what the gateway was started with: agents, targets, tools and whatever else stands in the
//! configuration were built into its other parts, which a change of policy does not reach. What differs there needs a
//! restart. It must not know whether a human has accepted what lies there: the gate compares hashes.

use std::sync::Arc;

use anyhow::Result;
use countersign_gate::{Reload, Reloaded};
use countersign_kernel::BudgetRule;
use countersign_kernel::policy::PolicySource;
use countersign_model::Digest;

use crate::compose::source;
use crate::config::Config;
use crate::layout::Layout;
use crate::validated::{self, List};

/// Where policy comes from, and what must not change with it.
pub(crate) struct Files {
    layout: Layout,
    list: List,
    configuration: Digest,
    rest: (PolicySource, Vec<BudgetRule>),
}

impl Files {
    /// The files of a gateway that was started with `config`.
    pub(crate) fn of(config: &Config, layout: &Layout) -> Result<Self> {
        let list = List::of(layout)?;
        Ok(Self { layout: layout.clone(), list, configuration: config.hash, rest: rest(config)? })
    }

    fn load(&self) -> Result<Reloaded> {
        let config = Config::load(&self.layout.config())?;
        // Which configuration was signed for is the gate's to compare; that this part is the same is ours.
        if config.hash == self.configuration && rest(&config)? != self.rest {
            anyhow::bail!(
                "agents, targets, tools, patterns or budgets have changed with the policy; restart the gateway to run them"
            );
        }
        let bundle = validated::load(&config, &self.list)?;
        Ok(Reloaded { configuration: config.hash, policy: bundle.hash(), bundle: Arc::new(bundle) })
    }
}

impl Reload for Files {
    fn reload(&self) -> Result<Reloaded, String> {
        self.load().map_err(|error| format!("{error:#}"))
    }
}

/// All but the policies. Limits may stand in policy files too, and the kernel was set up with them.
fn rest(config: &Config) -> Result<(PolicySource, Vec<BudgetRule>)> {
    Ok((PolicySource { policies: Vec::new(), ..source(config)? }, config.budgets.clone()))
}
