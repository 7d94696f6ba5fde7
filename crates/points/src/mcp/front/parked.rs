//! A call that waits for a human, in the form that its client speaks: a task, a page to open, or the ticket.
//!
//! Nothing here consents: a task runs the identical call through the governor again once its ticket changed, and a page is
//! only an address. It must not know how consent is given. It does not cover the words: those are in [`crate::mcp::parked`].

use std::sync::Arc;
use std::time::Duration;

use countersign_effects::json::{Limits, parse};
use countersign_gate::TicketState;
use countersign_model::id::TicketId;

use super::Front;
use super::given::{Given, capabilities};
use super::session::Session;
use super::work::Work;
use crate::Governor;
use crate::mcp::adapt::{Parked, RECEIPT, VERDICT};
use crate::mcp::parked::{self as forms, Declared, Form, Waiting};
use crate::mcp::state::State;
use crate::mcp::wire::{Era, error_frame, notification_frame, response_frame};

/// How long a call that comes again from the approval page waits for the consent. Longer, and clients would give it up.
const CONSENT_WAIT: Duration = Duration::from_secs(20);

impl<G: Governor<Work>> Front<G> {
    /// Waits a little for the consent to a call whose client has been at the approval page: it would ask again at once.
    pub(super) async fn await_consent(&self, given: &Given) {
        let Some(ticket) = given.round.state.ticket.as_ref().filter(|_| !given.round.is_declined) else { return };
        let known = self.governor.ticket(&given.proposed.caller, ticket);
        if !matches!(known, TicketState::Waiting { .. }) {
            return;
        }
        tokio::select! {
            biased;
            () = given.cancel.cancelled() => {}
            () = self.shutdown.cancelled() => {}
            _ = self.governor.ticket_changed(&given.proposed.caller, ticket, &known) => {}
            () = tokio::time::sleep(CONSENT_WAIT) => {}
        }
    }

    /// The response to a call that waits for consent.
    pub(super) async fn parked(self: &Arc<Self>, given: Given, parked: Parked) -> Vec<u8> {
        let (approvals, declared) = (self.config.approvals(), declared(&given));
        if let Form::Task { .. } = declared.form(&given.method, approvals) {
            let given = Arc::new(given);
            let made = self.task_of(Arc::clone(&given), &parked, declared);
            return made.unwrap_or_else(|| parked.response(&given.id, given.form()));
        }
        // Whoever was sent to the page once is not sent there again: but for a call that goes on with another, which only
        // the state can bring back.
        let may_ask = !given.round.is_declined && (!parked.repeated || given.proposed.continues.is_some());
        let verdict = parked.verdict().to_string();
        let waiting = Waiting { ticket: &parked.ticket, gates: &parked.gates };
        match (declared.form(&given.method, approvals), approvals) {
            (Form::InputRequired, Some(approvals)) if may_ask => {
                let state = State {
                    ticket: Some(parked.ticket.clone()),
                    asked: Vec::new(),
                    answers: Some(given.proposed.input.clone()).filter(|input| !input.is_empty()),
                    ..given.round.state.clone()
                };
                let meta = [(VERDICT, verdict.as_str()), (RECEIPT, parked.receipt.as_str())];
                match self.carried(&given, state) {
                    Ok(state) => {
                        let result = forms::input_required(&waiting, approvals, &state, &meta);
                        response_frame(&given.id, "result", &result)
                    }
                    Err(_) => parked.response(&given.id, given.form()),
                }
            }
            (Form::UrlRequired, Some(approvals)) if may_ask => {
                let more = [("countersign", verdict.as_str()), (RECEIPT, parked.receipt.as_str())];
                let (code, message, data) = forms::url_required(&waiting, approvals, &more);
                if let Some(session) = &given.session {
                    tokio::spawn(Arc::clone(self).announce(Arc::clone(session), parked.ticket.clone()));
                }
                error_frame(Some(&given.id), code, &message, Some(&data))
            }
            _ => parked.response(&given.id, given.form()),
        }
    }

    /// Tells a session once its ticket waits no more. There are as many as there are proposals, which are bounded.
    async fn announce(self: Arc<Self>, session: Arc<Session>, ticket: TicketId) {
        let known = self.governor.ticket(&session.owner, &ticket);
        tokio::select! {
            () = session.ended.cancelled() => return,
            () = self.shutdown.cancelled() => return,
            _ = self.governor.ticket_changed(&session.owner, &ticket, &known) => {}
        }
        let params = forms::elicitation_complete(&ticket);
        session.outbox.push(notification_frame("notifications/elicitation/complete", Some(&params)).into());
    }
}

/// What the client of a call can do.
fn declared(given: &Given) -> Declared {
    match (given.era, &given.session) {
        (Era::Modern, _) => Declared::modern(capabilities(&given.params)),
        (Era::Legacy, session) => {
            let raw = session.as_ref().map(|session| &session.seats.client().capabilities);
            let all = raw.and_then(|raw| parse(raw, &Limits::default()).ok());
            Declared::legacy(all.as_ref(), given.params.node(), given.params.input())
        }
    }
}
