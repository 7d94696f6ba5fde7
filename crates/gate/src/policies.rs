//! The policies that calls are asked about, by hash, and the change of the one in force while calls run.
//!
//! The kernel says which hash a question belongs to, and the question goes to exactly that bundle. A new bundle lies ready
//! before the kernel hears of it, and the old one stays until the next change, so that no question finds nothing; a hash
//! that is not here is an error, which denies. Loading happens outside of every lock that a decision takes. It must not
//! know files or how a bundle is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use countersign_kernel::policy::EvaluationRequest;
use countersign_model::command::Signed;
use countersign_model::id::{AgentId, TargetId, ToolName, UpstreamId};
use countersign_model::record::Evaluation;
use countersign_model::{Body, Caller, Digest, Reason, ReasonCode};

use crate::Gate;
use crate::admin::Carried;

/// Answers questions of policy. The bundle of the configuration does; tests put a hanging one in its place.
pub trait Evaluate: Send + Sync + 'static {
    /// A pure function of the request and the bundle.
    fn evaluate(&self, request: &EvaluationRequest) -> Evaluation;

    /// Whether every answer surely ends soon, so that it needs no thread of its own. Whoever does not know says no.
    fn is_bounded(&self) -> bool {
        false
    }

    /// The ids of the patterns that match the tool's name, `UPSTREAM/TOOL`, or texts of the arguments with their places.
    fn matched(&self, tool: &str, texts: &[(String, &str)]) -> BTreeSet<String>;

    /// Whether `agent` may ever call this tool on `target`. For listings only; whoever does not know says yes.
    fn may_ever(&self, _agent: &AgentId, _tool: (&UpstreamId, &ToolName), _target: &TargetId) -> bool {
        true
    }
}

impl Evaluate for countersign_kernel::policy::Bundle {
    fn evaluate(&self, request: &EvaluationRequest) -> Evaluation {
        Self::evaluate(self, request)
    }

    fn is_bounded(&self) -> bool {
        Self::is_bounded(self)
    }

    fn matched(&self, tool: &str, texts: &[(String, &str)]) -> BTreeSet<String> {
        self.patterns().matched(tool, texts)
    }

    fn may_ever(&self, agent: &AgentId, tool: (&UpstreamId, &ToolName), target: &TargetId) -> bool {
        Self::may_ever(self, agent, tool, target)
    }
}

/// Gives what configuration and policy say now. A running gate asks it where a human has accepted another policy.
pub trait Reload: Send + Sync + 'static {
    /// Loads anew. It may block, for it runs on a thread of its own.
    ///
    /// # Errors
    /// Why there is nothing to be had, for the human.
    fn reload(&self) -> Result<Reloaded, String>;
}

/// What was loaded anew.
pub struct Reloaded {
    /// Hash of the configuration.
    pub configuration: Digest,
    /// Hash of the policy bundle.
    pub policy: Digest,
    /// What answers its questions.
    pub bundle: Arc<dyn Evaluate>,
}

/// The policies of a gate.
pub(crate) struct Policies {
    loaded: RwLock<BTreeMap<Digest, Arc<dyn Evaluate>>>,
    source: Option<Arc<dyn Reload>>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Policies {
    pub(crate) fn new((hash, bundle): (Digest, Arc<dyn Evaluate>), source: Option<Arc<dyn Reload>>) -> Self {
        Self { loaded: RwLock::new([(hash, bundle)].into()), source, turn: Default::default() }
    }

    /// The policy with this hash.
    pub(crate) fn of(&self, hash: &Digest) -> Option<Arc<dyn Evaluate>> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).get(hash).cloned()
    }

    fn offer(&self, hash: Digest, bundle: Arc<dyn Evaluate>) {
        self.loaded.write().unwrap_or_else(PoisonError::into_inner).insert(hash, bundle);
    }

    /// Drops all but these two.
    fn keep(&self, kept: [Digest; 2]) {
        self.loaded.write().unwrap_or_else(PoisonError::into_inner).retain(|hash, _| kept.contains(hash));
    }
}

/// The answer where the policy that was asked for is not here.
pub(crate) fn missing(hash: &Digest) -> Evaluation {
    Evaluation::unanswered([format!("the policy {} is not loaded", hash.short())])
}

impl Gate {
    /// Whether `caller` may ever call `tool` of `upstream`, under the policy in force. For listings only.
    #[must_use]
    pub fn may_ever(&self, caller: &Caller, upstream: &UpstreamId, tool: &ToolName) -> bool {
        let narrowed = caller.narrowed.as_ref().and_then(|narrowed| narrowed.refuses((upstream, tool), None));
        if narrowed.is_some() {
            return false;
        }
        let Some(target) = self.catalog().target(upstream, tool) else { return false };
        self.policy().is_some_and(|policy| policy.may_ever(&caller.principal.agent, (upstream, tool), target))
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Option<Arc<dyn Evaluate>> {
        let hash = self.kernel().policy();
        self.0.policies.of(&hash)
    }

    /// Records an acceptance. Where it is of the running configuration with another policy, that policy is loaded first,
    /// and in force once this is on record. Where anything fails the old one stays.
    pub(crate) async fn activate(
        &self,
        signed: Signed,
        (configuration, policy): (Digest, Digest),
    ) -> Result<Carried, Reason> {
        let _turn = self.0.policies.turn.lock().await;
        let (is_running, before, counts) = {
            let kernel = self.kernel();
            (kernel.settings().configuration == configuration, kernel.policy(), kernel.would_count(&signed))
        };
        // Loading costs seconds: not for whoever can open the socket.
        let loaded = match counts {
            Ok(()) if is_running && before != policy => self.load(configuration, policy).await,
            Ok(()) => Ok(()),
            Err(why) => Err(why),
        };
        if let Err(why) = loaded {
            let reason = Reason::because(ReasonCode::OrderRefused, &why);
            self.refuse(countersign_model::action::Point::Admin, None, reason.clone()).await;
            return Err(reason);
        }
        let event = countersign_kernel::Event::Commanded { signed, session: None };
        let committed = self.ordered(event, |body| matches!(body, Body::Commanded(_))).await;
        // Whatever became of the record: the kernel's word is what questions are asked under.
        self.0.policies.keep([before, self.kernel().policy()]);
        Ok(Carried { leaf: committed?.index, token: None, session: None, erased: None, pruned: None })
    }

    /// Lays the policy ready that a human has signed for, if it is the one that lies there.
    async fn load(&self, configuration: Digest, policy: Digest) -> Result<(), String> {
        if self.0.policies.of(&policy).is_some() {
            return Ok(());
        }
        let source = self.0.policies.source.clone();
        let source = source.ok_or("this gateway cannot load a policy while it runs; restart it")?;
        let loading = tokio::task::spawn_blocking(move || source.reload());
        let loaded = loading.await.map_err(|_| "the policy could not be loaded".to_owned())??;
        if loaded.configuration != configuration {
            return Err(
                "the configuration has changed since it was signed for; only a policy can be changed while the \
                        gateway runs"
                    .to_owned(),
            );
        }
        if loaded.policy != policy {
            return Err(format!(
                "the policy that lies there is {}, and {} was signed for; look at what changed, and sign again",
                loaded.policy.short(),
                policy.short()
            ));
        }
        self.0.policies.offer(policy, loaded.bundle);
        Ok(())
    }
}
