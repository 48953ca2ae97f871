//! The pieces of a user agent: registrations, pings, and calls simple enough for a test call.
//!
//! [`register`] and [`ping`] are values that anyone may own. [`UserAgent`] is an [`Endpoint`] that also makes and
//! takes calls: it is driven as the endpoint is, but that its `poll_output` takes the time. It carries session descriptions and does not read them; media is
//! none of this crate's business.

mod accepting;
mod answers;
mod calls;
pub mod ping;
mod refer;
pub mod register;
mod requests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use accepting::Accepting;
use answers::{Asked, Taken};
use refer::{Referred, Referring};

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

/// One REFER inside a call: ours ([`UserAgent::refer`]) or theirs ([`CallEvent::ReferAsked`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ReferId(u32);

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
    /// For challenges: of the INVITE, and of what we ask inside the call. Each request is given one answer.
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
        /// For the results.
        refer: ReferId,
        /// The Refer-To URI.
        to: Vec<u8>,
    },
    /// How it goes with what we asked by [`UserAgent::refer`]: the first line of a NOTIFY's body.
    ReferProgress {
        /// Which call.
        call: CallId,
        /// What [`UserAgent::refer`] gave.
        refer: ReferId,
        /// The status that the other side reports, or that it refused us with; 408 if it said nothing.
        status: Status,
    },
    /// What is no part of any call, and the ends of a call's BYE and NOTIFYs: answers, or that none came. A challenge
    /// that is answered is not told.
    Other(Event),
}

/// Why a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// We hung up.
    ByUs,
    /// The other side hung up, or gave its call up.
    ByThem,
    /// It was refused; with 502, it was taken by someone who does not say where to send what follows.
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
    /// What we offered or answered.
    sdp: Vec<u8>,
    credentials: Option<Credentials>,
    has_authenticated: bool,
    /// Our owner hung up, and the call cannot be ended at once.
    is_given_up: bool,
    dialog: Option<Dialog>,
    /// A 2xx of ours whose ACK has not come.
    accepting: Option<Accepting>,
    /// REFERs of ours whose end is not known.
    referring: Vec<Referring>,
    /// REFERs of theirs that are owed a result.
    referred: Vec<Referred>,
    was_referred: bool,
}

#[derive(Debug)]
enum State {
    /// We call: the INVITE under way, what it said, and when we give it up.
    Calling { attempt: AttemptId, invite: Message, until: Instant },
    /// They call: their request, not answered yet.
    Ringing { request: RequestId },
    /// They call and we answered: their session description, until the ACK comes.
    Answering { sdp: Vec<u8> },
    /// It is up.
    Up,
}

impl Call {
    fn new(state: State, flow: Flow) -> Call {
        Call {
            state,
            flow,
            sdp: Vec::new(),
            credentials: None,
            has_authenticated: false,
            is_given_up: false,
            dialog: None,
            accepting: None,
            referring: Vec::new(),
            referred: Vec::new(),
            was_referred: false,
        }
    }
}

/// An endpoint that makes and takes calls.
pub struct UserAgent {
    endpoint: Endpoint,
    /// `sip:user@host:port`: where we are reached inside dialogs.
    contact: String,
    calls: Slab<Call>,
    /// In the order in which they began; few, so that a search is cheap.
    order: Vec<CallId>,
    /// INVITEs of ours that were taken, as long as their 2xx may come again.
    taken: Vec<Taken>,
    /// Requests of ours inside calls whose end is not known.
    asked: Vec<Asked>,
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
            taken: Vec::new(),
            asked: Vec::new(),
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
        self.taken.retain(|taken| taken.until > now);
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
                    let calls = self.order.iter().filter_map(|id| self.call_deadline(*id));
                    let taken = self.taken.iter().map(|taken| taken.until);
                    return CallOutput::Deadline(deadline.into_iter().chain(calls).chain(taken).min());
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
            sdp: invitation.sdp.clone(),
            credentials: invitation.credentials.clone(),
            ..Call::new(State::Calling { attempt, invite, until }, invitation.flow)
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
