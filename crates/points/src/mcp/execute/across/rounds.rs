//! An action of a legacy client at a modern upstream that asks in its results: the questions go to the client, the answers
//! upstream with the next round, all of it one effect under one permit, as if the upstream had asked within its request.
//!
//! Nothing is sent after a stop: the next round begins under the same effect, whose end every transport looks at before
//! the first byte. It must not know how a question is decided: whoever hears it takes it through the governor.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use countersign_gate::call::Executed;
use countersign_gate::credential::Credential;
use countersign_gate::permit::{Cut, Stop};
use countersign_model::id::UpstreamId;
use countersign_model::record::Status;

use super::client::Client;
use super::refusal;
use crate::mcp::eras::input::Asked;
use crate::mcp::execute::channel::{Answered, Channel, Question, Said};
use crate::mcp::execute::leave::{InFlight, Leave};
use crate::mcp::execute::outbound::{self, Kind, Outbound, Progress, Reply, reading};
use crate::mcp::wire::{Frame, FrameError, INTERNAL_ERROR, Outcome};

/// Rounds of one action.
const ROUNDS_MAX: usize = 8;
/// How long an upstream that only asks to be asked again is left alone.
const PAUSE: Duration = Duration::from_millis(250);

/// Where the means to cut the round in flight lies.
type Knife = Arc<Mutex<Option<Cut>>>;

/// Carries out an action, in as many rounds as the upstream asks for.
pub(super) async fn carry_out<L: Leave>(
    (channel, client): (&Channel, &Client),
    leave: L,
    request: &Outbound,
) -> Executed<Reply> {
    let (knife, effect) = (Knife::default(), Arc::new(OnceLock::new()));
    let (upstream, redacts) = (leave.upstream().clone(), leave.redacts());
    let first = First { leave, knife: Arc::clone(&knife), effect: Arc::clone(&effect) };
    let mut executed = channel.carry_plain(first, request).await;
    for _ in 1..ROUNDS_MAX {
        let (Some(effect), Some(params)) = (effect.get(), &request.params) else { return executed };
        let Some(asked) = asked(&executed) else { return executed };
        let sent = executed.bytes_sent;
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => return ended(&error, executed),
        };
        let answers = tokio::select! {
            biased;
            stop = effect.stopped() => return outbound::unknown(stop.as_str(), as_usize(sent)),
            answers = ask((channel, client), request, &asked) => answers,
        };
        let params = match answers.and_then(|answers| asked.next(params, &answers)) {
            Ok(params) => params,
            Err(error) => return ended(&error, executed),
        };
        let again =
            Again { effect: Arc::clone(effect), knife: Arc::clone(&knife), upstream: upstream.clone(), redacts };
        let next = channel.carry_plain(again, &moved(request, params)).await;
        executed = Executed { bytes_sent: sent.saturating_add(next.bytes_sent), ..next };
        if executed.status == Status::NotStarted {
            // An earlier round was sent.
            executed.status = Status::Unknown;
        }
    }
    match asked(&executed) {
        Some(_) => ended(&failed("the upstream asks again and again"), executed),
        None => executed,
    }
}

fn as_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// What an upstream asks for; none where the action is over.
fn asked(executed: &Executed<Reply>) -> Option<Result<Asked, FrameError>> {
    let reply = executed.reply.as_ref().filter(|reply| reply.kind() == Kind::InputRequired)?;
    match reply.outcome() {
        Outcome::Result(result) => Some(Asked::read(reply.frame().bytes(), result)),
        Outcome::Error(_) => None,
    }
}

/// The request with other parameters; its token for progress stands elsewhere in them.
fn moved(request: &Outbound, params: Bytes) -> Outbound {
    let span = countersign_effects::json::parse(&params, &reading(params.len())).ok().and_then(|node| {
        let token = node.get("_meta")?.get("progressToken")?;
        Some(token.span.clone())
    });
    let progress = request.progress.clone().zip(span).map(|(progress, span)| Progress { span, ..progress });
    Outbound { params: Some(params), progress, ..request.clone() }
}

/// Asks the client, all at once, and waits for all answers.
async fn ask(
    (channel, client): (&Channel, &Client),
    request: &Outbound,
    asked: &Asked,
) -> Result<Vec<(String, Bytes)>, FrameError> {
    let to = request.aside.as_ref().unwrap_or(&client.said);
    let mut waiting = Vec::new();
    for (key, question) in &asked.questions {
        let (question, answered) = Question::of(Frame::read(question.clone(), &reading(usize::MAX))?);
        if to.try_send(Said::Question(question)).is_err() {
            return Err(failed("the client takes no question now"));
        }
        waiting.push((key, answered));
    }
    if waiting.is_empty() {
        tokio::time::sleep(PAUSE).await;
    }
    let within = channel.upstream().limits().call_timeout;
    let late = tokio::time::Instant::now() + within;
    let mut answers = Vec::new();
    for (key, answered) in waiting {
        match tokio::time::timeout_at(late, answered.answer()).await {
            Ok(Some(Answered::Result(raw))) => answers.push((key.clone(), raw)),
            Ok(Some(Answered::Error(raw))) => {
                let said = String::from_utf8_lossy(&raw).into_owned();
                return Err(failed(&format!("the upstream asked for more and got no answer: {said}")));
            }
            Ok(None) => return Err(failed("the client did not take the upstream's question")),
            Err(_) => return Err(failed("the client did not answer in time")),
        }
    }
    Ok(answers)
}

fn failed(detail: &str) -> FrameError {
    FrameError { code: INTERNAL_ERROR, ..FrameError::shape(detail) }
}

/// The action ended before the upstream had what it asked for.
fn ended(error: &FrameError, executed: Executed<Reply>) -> Executed<Reply> {
    let note = Some(error.detail.clone());
    match refusal(error) {
        Ok(reply) => Executed { status: Status::Failed, note, reply: Some(reply), ..executed },
        Err(_) => Executed { status: Status::Failed, note, reply: None, ..executed },
    }
}

/// The leave for the first round.
struct First<L: Leave> {
    leave: L,
    knife: Knife,
    effect: Arc<OnceLock<Arc<L::InFlight>>>,
}

impl<L: Leave> Leave for First<L> {
    type InFlight = Round<L::InFlight>;

    fn upstream(&self) -> &UpstreamId {
        self.leave.upstream()
    }

    fn redacts(&self) -> bool {
        self.leave.redacts()
    }

    fn begin(self, cut: Cut) -> Result<Self::InFlight, Stop> {
        let knife = Arc::clone(&self.knife);
        put(&knife, cut);
        let effect = self.leave.begin(Arc::new(move || {
            let cut = knife.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(cut) = cut {
                cut();
            }
        }))?;
        Ok(Round(Arc::clone(self.effect.get_or_init(|| Arc::new(effect)))))
    }

    fn stopped(&self) -> impl Future<Output = Stop> + Send {
        self.leave.stopped()
    }
}

/// The leave for a later one: that of the effect which is in flight.
struct Again<F> {
    effect: Arc<F>,
    knife: Knife,
    upstream: UpstreamId,
    redacts: bool,
}

impl<F: InFlight> Leave for Again<F> {
    type InFlight = Round<F>;

    fn upstream(&self) -> &UpstreamId {
        &self.upstream
    }

    fn redacts(&self) -> bool {
        self.redacts
    }

    fn begin(self, cut: Cut) -> Result<Round<F>, Stop> {
        put(&self.knife, cut);
        Ok(Round(self.effect))
    }

    fn stopped(&self) -> impl Future<Output = Stop> + Send {
        self.effect.stopped()
    }
}

fn put(knife: &Knife, cut: Cut) {
    *knife.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut);
}

/// The effect during one round.
struct Round<F>(Arc<F>);

impl<F: InFlight> InFlight for Round<F> {
    fn credential(&self) -> Option<&Credential> {
        self.0.credential()
    }

    fn stopped(&self) -> impl Future<Output = Stop> + Send {
        self.0.stopped()
    }

    fn revoked(&self) -> impl Future<Output = Stop> + Send {
        self.0.revoked()
    }
}
