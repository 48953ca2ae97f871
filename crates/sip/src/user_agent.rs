//! The pieces of a user agent: registrations, pings, and calls simple enough for a test call.
//!
//! [`register`] and [`ping`] are values that anyone may own. [`UserAgent`] is an [`Endpoint`] that also makes and
//! takes calls: it is driven as the endpoint is. It carries session descriptions and does not read them; media is
//! none of this crate's business.

mod calls;
pub mod ping;
pub mod register;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::dialog::Dialog;
use crate::digest::Credentials;
use crate::edit::UnsafeText;
use crate::endpoint::{AttemptId, Config, Endpoint, EndpointError, Event, Output, RequestId, Statistics};
use crate::flow::{Flow, Source, Transmit};
use crate::keyed::{Keys, Names};
use crate::limits::CALLS_MAX;
use crate::message::Message;
use crate::slab::{Handle, Slab};
use crate::status::Status;
use crate::time::Instant;

/// One call of a [`UserAgent`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CallId(pub(crate) Handle);

/// What a call to make needs.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// The request-URI and To: `sip:support@example.com`.
    pub to: String,
    /// The From: `sip:alice@example.com`.
    pub from: String,
    /// The way to send it.
    pub flow: Flow,
    /// A session description, or nothing.
    pub sdp: Vec<u8>,
    /// For a challenge.
    pub credentials: Option<Credentials>,
    /// After this time without an answer it is cancelled.
    pub ring_timeout: Duration,
}

/// What a [`UserAgent`] tells.
#[derive(Clone, Debug)]
pub enum CallEvent {
    /// Someone calls. Say [`UserAgent::ring`], [`UserAgent::answer`] or [`UserAgent::reject`].
    Incoming {
        /// The new call.
        call: CallId,
        /// The INVITE.
        request: Arc<Message>,
    },
    /// The other side sent a provisional response.
    Ringing {
        /// Which call.
        call: CallId,
        /// What it sent.
        status: Status,
    },
    /// The call is up: a 2xx came (outgoing) or its ACK did (incoming).
    Up {
        /// Which call.
        call: CallId,
        /// The other side's session description.
        sdp: Vec<u8>,
    },
    /// The call is over and its id means nothing any more.
    Ended {
        /// Which call.
        call: CallId,
        /// Why.
        why: Ended,
    },
    /// The other side asks us to call someone else (RFC 3515). It was told 202; say how it goes with
    /// [`UserAgent::refer_result`].
    ReferAsked {
        /// Which call.
        call: CallId,
        /// The Refer-To URI.
        to: Vec<u8>,
    },
    /// How it goes with what we asked by [`UserAgent::refer`]: the first line of a NOTIFY's body.
    ReferProgress {
        /// Which call.
        call: CallId,
        /// The status that the other side reports, or that it refused us with.
        status: Status,
    },
    /// A request that is no part of any call, and that the user agent does not answer by itself.
    Other(Event),
}

/// Why a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// We hung up.
    ByUs,
    /// The other side hung up, or gave its call up.
    ByThem,
    /// It was refused.
    Refused(Status),
    /// Nothing came back.
    TimedOut,
    /// Our 2xx was never acknowledged.
    NotAcknowledged,
}

/// What [`UserAgent::poll_output`] gives; as [`Output`].
#[derive(Debug)]
pub enum CallOutput {
    /// Put this on the wire.
    Transmit(Transmit),
    /// Something happened.
    Event(CallEvent),
    /// Nothing more now; call [`UserAgent::handle_timeout`] then.
    Deadline(Option<Instant>),
}

#[derive(Debug)]
struct Call {
    state: State,
    flow: Flow,
    sdp: Vec<u8>,
    credentials: Option<Credentials>,
    has_authenticated: bool,
    dialog: Option<Dialog>,
    /// A REFER of ours that is under way.
    refer: Option<AttemptId>,
}

#[derive(Debug)]
enum State {
    /// We call: the INVITE under way, what it said, and when we give it up.
    Calling { attempt: AttemptId, invite: Message, is_given_up: bool, until: Instant },
    /// They call: their request, not answered yet.
    Ringing { request: RequestId },
    /// They call and we answered: the 2xx again and again until its ACK comes (RFC 3261 §13.3.1.4).
    Answering {
        request: RequestId,
        ok: Message,
        again_at: Instant,
        pause: Duration,
        until: Instant,
        sdp: Vec<u8>,
    },
    /// It is up.
    Up,
}

/// An endpoint that makes and takes calls.
pub struct UserAgent {
    endpoint: Endpoint,
    /// `sip:user@host:port`: where we are reached inside dialogs.
    contact: String,
    calls: Slab<Call>,
    /// In the order in which they began; few, so that a search is cheap.
    order: Vec<CallId>,
    names: Names,
    events: VecDeque<CallEvent>,
}

impl UserAgent {
    /// A user agent that is reached at `contact` (a URI without brackets).
    pub fn new(mut config: Config, keys: &Keys, contact: String) -> UserAgent {
        use crate::method::Method::{Ack, Bye, Cancel, Info, Invite, Notify, Options, Refer, Update};
        config.methods =
            crate::method::MethodSet::of(&[Invite, Ack, Cancel, Bye, Options, Update, Info, Refer, Notify]);
        config.extensions.get_or_insert_default();
        UserAgent {
            endpoint: Endpoint::new(config, keys),
            contact,
            calls: Slab::new(),
            order: Vec::new(),
            names: Names::new(keys, "user agent"),
            events: VecDeque::new(),
        }
    }

    /// Takes one message.
    pub fn handle_input(&mut self, now: Instant, source: Source, bytes: &[u8]) {
        self.endpoint.handle_input(now, source, bytes);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.wake_calls(now);
    }

    /// What to do next. It takes `now`, because what the endpoint reports may need an answer at once.
    pub fn poll_output(&mut self, now: Instant) -> CallOutput {
        loop {
            if let Some(event) = self.events.pop_front() {
                return CallOutput::Event(event);
            }
            match self.endpoint.poll_output() {
                Output::Transmit(transmit) => return CallOutput::Transmit(transmit),
                Output::Event(event) => self.handle_event(now, event),
                Output::Deadline(deadline) => {
                    let own = self.order.iter().filter_map(|id| self.call_deadline(*id)).min();
                    let both = [deadline, own].into_iter().flatten().min();
                    return CallOutput::Deadline(both);
                }
            }
        }
    }

    /// The endpoint below, for pings, registrations and other requests of the owner's.
    pub fn endpoint(&mut self) -> &mut Endpoint {
        &mut self.endpoint
    }

    /// Counters of the endpoint below.
    pub fn statistics(&self) -> Statistics {
        self.endpoint.statistics()
    }

    /// How many calls there are.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Calls someone.
    pub fn call(&mut self, now: Instant, invitation: &Invitation) -> Result<CallId, EndpointError> {
        if self.calls.len() >= CALLS_MAX {
            return Err(EndpointError::Full);
        }
        let invite = self.invite(invitation)?;
        let attempt = self.endpoint.request(now, invite.clone(), invitation.flow)?;
        let until = now + invitation.ring_timeout;
        let call = CallId(self.calls.insert(Call {
            state: State::Calling { attempt, invite, is_given_up: false, until },
            flow: invitation.flow,
            sdp: invitation.sdp.clone(),
            credentials: invitation.credentials.clone(),
            has_authenticated: false,
            dialog: None,
            refer: None,
        }));
        self.order.push(call);
        Ok(call)
    }

    fn invite(&mut self, invitation: &Invitation) -> Result<Message, UnsafeText> {
        let mut builder = crate::RequestBuilder::new(crate::Method::Invite, &invitation.to)
            .header("Max-Forwards", "70")
            .header("From", format!("<{}>;tag={}", invitation.from, self.names.next_text()))
            .header("To", format!("<{}>", invitation.to))
            .header("Call-ID", self.names.next_text())
            .header("CSeq", "1 INVITE")
            .header("Contact", format!("<{}>", self.contact))
            .header("Allow", ALLOW);
        if !invitation.sdp.is_empty() {
            builder = builder.body("application/sdp", &invitation.sdp);
        }
        builder.build()
    }

    fn end(&mut self, call: CallId, why: Ended) {
        if self.calls.remove(call.0).is_some() {
            self.order.retain(|other| *other != call);
            self.events.push_back(CallEvent::Ended { call, why });
        }
    }
}

/// What we take inside and outside dialogs.
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, REFER, NOTIFY";

impl std::fmt::Debug for UserAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserAgent").field("calls", &self.calls.len()).finish_non_exhaustive()
    }
}
