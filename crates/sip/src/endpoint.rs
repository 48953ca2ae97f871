//! The engine: bytes and time in; bytes, deadlines and events out.
//!
//! ```text
//!   sockets ── handle_input(now, source, bytes) ──►┐          ┌──► Output::Transmit  to the sockets
//!   clock ──── handle_timeout(now) ───────────────►│ Endpoint │──► Output::Event     to whoever decides
//!   decisions  reply · proxy · request · send ────►┘          └──► Output::Deadline  call handle_timeout then
//! ```
//!
//! There is one contract: before waiting for anything, call [`Endpoint::poll_output`] until it gives
//! [`Output::Deadline`]. Outputs come in the order in which they were caused, so what a peer is told about one call is
//! never reordered by us.
//!
//! Two words: the *owner* is the program that holds an endpoint; the *caller* is whoever sent the INVITE.
//!
//! Around a socket it looks like this:
//!
//! ```no_run
//! # use std::net::UdpSocket;
//! # use std::time::Duration;
//! # use sip::endpoint::{Endpoint, Event, Output};
//! # use sip::{Flow, Instant, Source, Status};
//! # fn run(mut endpoint: Endpoint, socket: UdpSocket, clock: impl Fn() -> Instant) -> std::io::Result<()> {
//! let mut buffer = vec![0; sip::limits::MESSAGE_BYTES_MAX];
//! loop {
//!     let deadline = loop {
//!         match endpoint.poll_output() {
//!             Output::Transmit(transmit) => {
//!                 if socket.send_to(&transmit.bytes, transmit.flow.remote).is_err() {
//!                     endpoint.handle_unreachable(clock(), &transmit);
//!                 }
//!             }
//!             // Decisions: reply, proxy, ignore. What they cause is polled like everything else.
//!             Output::Event(Event::Request { id, .. }) => {
//!                 let _ = endpoint.reply(clock(), id, Status::UNAVAILABLE, &[]);
//!             }
//!             Output::Event(_) => {}
//!             Output::Deadline(deadline) => break deadline,
//!         }
//!     };
//!     // A read time-out of zero is refused, and a wait without end must be possible.
//!     let patience = deadline.map(|at| (at - clock()).max(Duration::from_millis(1)));
//!     socket.set_read_timeout(patience)?;
//!     // When nothing comes in time that is an error here, and no fault.
//!     if let Ok((length, remote)) = socket.recv_from(&mut buffer) {
//!         let source = Source { flow: Flow::udp(socket.local_addr()?, remote), is_known: false };
//!         endpoint.handle_input(clock(), source, &buffer[..length]);
//!     }
//!     // Always, or steady traffic would starve the timers. Early or often does no harm.
//!     endpoint.handle_timeout(clock());
//! }
//! # }
//! ```
//!
//! `examples/edge` is this with decisions, and takes real calls.
//!
//! What may take memory is bounded by [`Limits`]; what a limit turned away is counted in [`Statistics`].

mod config;
mod event;
mod input;
mod machines;
mod own_name;
mod stateless;

pub use config::{Config, Limits, Listener};
pub use event::{Event, Output};
use own_name::OwnName;
pub(crate) use stateless::begins_dialog;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use crate::edit::UnsafeText;
use crate::flow::{Flow, Source, Transmit, Transport};
use crate::header::via::Via;
use crate::keyed::{Key, KeyedMap, Keys, MacMap, Names, hex};
use crate::limits::{OUTPUTS_BY_TIMERS_MAX, OUTPUTS_MAX};
use crate::message::Message;
use crate::print::ResponseBuilder;
use crate::proxy::Call;
use crate::proxy::branch::{Branches, Kind};
use crate::proxy::record_route::Signer;
use crate::slab::{Handle, Slab};
use crate::status::Status;
use crate::time::Instant;
use crate::transaction::key::TransactionKeys;
use crate::transaction::{Input, Owner, Transaction};
use crate::uri::Host;
use crate::wheel::Wheel;

/// A request that came to us and waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RequestId(pub(crate) Handle);

/// A request that we sent and whose answer we wait for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AttemptId(pub(crate) Handle);

/// Counters since the start, and what is there now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Inputs taken.
    pub inputs: u64,
    /// Inputs that were no SIP message.
    pub noise: u64,
    /// Requests whose answer could go nowhere (no usable Via), and unusable responses.
    pub unusable: u64,
    /// Requests refused with 4xx or 5xx before any state was made.
    pub refused: u64,
    /// Retransmissions absorbed.
    pub repeated: u64,
    /// New calls shed with 503 for overload.
    pub shed: u64,
    /// Requests turned away for their source's limit.
    pub source_limited: u64,
    /// Requests forwarded without state.
    pub forwarded: u64,
    /// Responses forwarded without state.
    pub responses_forwarded: u64,
    /// Responses that belonged to nothing.
    pub strays: u64,
    /// Messages sent.
    pub transmitted: u64,
    /// Outputs lost because nobody polled.
    pub outputs_lost: u64,
    /// Transactions that are there now.
    pub transactions: usize,
    /// Those of them whose final response is still to come; the others only know repetitions.
    pub waiting: usize,
    /// Proxied calls that are there now, those included that have ended and still know repetitions.
    pub calls: usize,
    /// Timers that wait now.
    pub timers: usize,
    /// Bytes of messages that transactions and calls hold now.
    pub held_bytes: usize,
}

/// What cannot be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EndpointError {
    /// There is no such request, or it is answered already.
    NotWaiting,
    /// A text would break out of its line.
    UnsafeText,
    /// There are as many transactions as there may be.
    Full,
    /// The message cannot be used for this: no request, or a header is missing.
    Unusable,
}

impl std::fmt::Display for EndpointError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EndpointError::NotWaiting => "no such request waits for an answer",
            EndpointError::UnsafeText => "a text would break out of its line",
            EndpointError::Full => "there are as many transactions as there may be",
            EndpointError::Unusable => "the message cannot be used for this",
        })
    }
}

impl std::error::Error for EndpointError {}

impl From<UnsafeText> for EndpointError {
    fn from(_: UnsafeText) -> EndpointError {
        EndpointError::UnsafeText
    }
}

/// What the wheel wakes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timer {
    Transaction(Handle),
    Call(Handle),
}

/// One SIP endpoint: a proxy, a redirect server, a user agent, or all of them.
pub struct Endpoint {
    pub(crate) config: Config,
    own: Vec<OwnName>,
    pub(crate) transactions: Slab<Transaction>,
    pub(crate) by_key: MacMap<Handle>,
    by_merge_key: MacMap<Handle>,
    per_source: KeyedMap<IpAddr, usize>,
    /// The sum of what stands there.
    of_strangers: usize,
    pub(crate) held_bytes: usize,
    /// Transactions whose final response is still to come.
    waiting: usize,
    pub(crate) calls: Slab<Call>,
    /// Calls by the request that began them.
    pub(crate) call_of: KeyedMap<Handle, Handle>,
    pub(crate) wheel: Wheel<Timer>,
    due: Vec<Timer>,
    /// The latest time we were told. Only for setting the wheel.
    clock: Instant,
    outputs: VecDeque<Output>,
    statistics: Statistics,
    pub(crate) keys: TransactionKeys,
    tags: Key,
    pub(crate) branches: Branches,
    pub(crate) signer: Signer,
    pub(crate) names: Names,
    /// Memory for reading, used again and again.
    scratch: Message,
}

impl Endpoint {
    /// An endpoint that knows nothing yet.
    pub fn new(config: Config, keys: &Keys) -> Endpoint {
        let map_key = |purpose| Key::derive(&keys.unique, purpose);
        Endpoint {
            own: config.listeners.iter().map(OwnName::of).collect(),
            config,
            transactions: Slab::new(),
            by_key: MacMap::default(),
            by_merge_key: MacMap::default(),
            per_source: KeyedMap::with_hasher(map_key("source map")),
            of_strangers: 0,
            held_bytes: 0,
            waiting: 0,
            calls: Slab::new(),
            call_of: KeyedMap::with_hasher(map_key("call map")),
            wheel: Wheel::new(),
            due: Vec::new(),
            clock: Instant::ZERO,
            outputs: VecDeque::new(),
            statistics: Statistics::default(),
            keys: TransactionKeys::new(keys),
            tags: Key::derive(&keys.unique, "tags"),
            branches: Branches::new(keys),
            signer: Signer::new(keys),
            names: Names::new(keys, "branches"),
            scratch: Message::default(),
        }
    }

    /// Takes one datagram, or one message that [`crate::stream::Framer`] framed.
    pub fn handle_input(&mut self, now: Instant, source: Source, bytes: &[u8]) {
        self.clock = self.clock.max(now);
        self.statistics.inputs += 1;
        let mut message = std::mem::take(&mut self.scratch);
        if message.read(bytes).is_ok() {
            if message.is_request() {
                self.handle_request(now, source, &mut message);
            } else {
                self.handle_response(now, &mut message);
            }
        } else {
            self.statistics.noise += 1;
        }
        self.scratch = message;
    }

    /// Does what is due. Calling it early or late harms nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.clock = self.clock.max(now);
        let mut due = std::mem::take(&mut self.due);
        if due.is_empty() {
            self.wheel.pop(now, &mut due);
            // The last of them is served first.
            due.reverse();
        }
        while self.outputs.len() < OUTPUTS_BY_TIMERS_MAX
            && let Some(timer) = due.pop()
        {
            match timer {
                Timer::Transaction(handle) => self.wake(now, handle),
                Timer::Call(handle) => self.call_wake(now, handle),
            }
        }
        self.due = due;
    }

    /// What to do next: send, look at an event, or wait.
    pub fn poll_output(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| {
            // Timers that had to wait for room are late already.
            Output::Deadline(if self.due.is_empty() { self.wheel.next() } else { Some(self.clock) })
        })
    }

    /// Answers a request with a status and headers; the To tag is ours. What makes a dialog (a 2xx to an INVITE) needs a
    /// Contact among them and the request's Record-Routes: [`Endpoint::respond`] with
    /// [`ResponseBuilder::record_routes`].
    pub fn reply(
        &mut self,
        now: Instant,
        id: RequestId,
        status: Status,
        headers: &[(&str, &[u8])],
    ) -> Result<(), EndpointError> {
        let request = self.waiting(id)?;
        let tag = self.to_tag(id);
        let mut builder = ResponseBuilder::new(&request, status);
        if status != Status::TRYING {
            builder = builder.to_tag(&tag);
        }
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        let response = builder.build()?;
        self.respond(now, id, &response)
    }

    /// Answers a request with a response of the owner's making. A final one ends what is still being tried for it.
    pub fn respond(&mut self, now: Instant, id: RequestId, response: &Message) -> Result<(), EndpointError> {
        let status = response.status().ok_or(EndpointError::Unusable)?;
        // RFC 6026: a 2xx to an INVITE may be repeated until it is acknowledged.
        if !status.is_success() {
            self.waiting(id)?;
        }
        if self.transactions.at(id.0).is_none() {
            return Err(EndpointError::NotWaiting);
        }
        if status.is_final()
            && let Some(call) = self.call_of.get(&id.0).copied()
        {
            self.call_answered_by_owner(now, call, status);
        }
        self.run(now, id.0, Input::Response(response));
        Ok(())
    }

    /// Says nothing to a request, now or later: strangers get silence (RFC 3261 has no such answer, but an answer is
    /// what a scanner looks for, and what a forged source would be sent). Its repetitions come as new requests.
    pub fn ignore(&mut self, id: RequestId) -> Result<(), EndpointError> {
        self.waiting(id)?;
        if self.call_of.contains_key(&id.0) {
            return Err(EndpointError::NotWaiting);
        }
        self.forget(id.0);
        Ok(())
    }

    /// The tag that our responses to this request carry in To.
    pub fn to_tag(&self, id: RequestId) -> [u8; 16] {
        let key = self.transactions.at(id.0).map_or(0, |transaction| transaction.key);
        self.tag_of(key)
    }

    /// The request behind an id, while it waits for its final answer.
    pub fn waiting(&self, id: RequestId) -> Result<Arc<Message>, EndpointError> {
        let transaction = self.transactions.at(id.0).ok_or(EndpointError::NotWaiting)?;
        transaction.request.clone().ok_or(EndpointError::NotWaiting)
    }

    /// Sends a request of our own, in a transaction. It comes without Via; ours is put on.
    pub fn request(
        &mut self,
        now: Instant,
        request: Message,
        flow: Flow,
    ) -> Result<AttemptId, EndpointError> {
        self.start_client(now, request, flow, Owner::Caller).map(AttemptId)
    }

    /// Sends a request without a transaction: the ACK for a 2xx. It comes without Via; ours is put on.
    pub fn send(&mut self, mut request: Message, flow: Flow) -> Result<(), EndpointError> {
        let unique = self.names.next();
        let branch = self.branches.make(&request, Kind::Transaction, unique);
        request.push_via(&self.via_value(&flow, &branch))?;
        request.frame_for(flow.transport);
        self.transmit(flow, request.into_bytes());
        Ok(())
    }

    /// Gives an INVITE of ours up: sends CANCEL if it has been answered provisionally; says whether it did.
    pub fn cancel(&mut self, now: Instant, id: AttemptId) -> bool {
        self.cancel_client(now, id.0)
    }

    /// A message that was to be sent cannot be: connection refused, no route, an ICMP error. If it is a request that
    /// waits for a first response, it is as if it had been answered with 503 (RFC 3261 §8.1.3.1).
    pub fn handle_unreachable(&mut self, now: Instant, transmit: &Transmit) {
        self.unreachable(now, transmit);
    }

    /// Counters, and how much there is of what takes memory.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            transactions: self.transactions.len(),
            waiting: self.waiting,
            calls: self.calls.len(),
            timers: self.wheel.len() + self.due.len(),
            held_bytes: self.held_bytes,
            ..self.statistics
        }
    }

    /// Changes the limits while running; what is there stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.config.limits = limits;
    }

    // What the parts share.

    pub(crate) fn tag_of(&self, key: u128) -> [u8; 16] {
        hex(self.tags.mac(&[&key.to_be_bytes()]))
    }

    fn push(&mut self, output: Output) {
        if self.outputs.len() >= OUTPUTS_MAX {
            self.statistics.outputs_lost += 1;
        } else {
            self.outputs.push_back(output);
        }
    }

    /// Sets the wheel for a deadline that is earlier than what is `armed`; says when it will come.
    ///
    /// Nothing is ever taken off the wheel, so nothing is put far ahead: what has a distant deadline is woken once in
    /// a while, looks, and is set again. What is over leaves its timer behind for half a minute at most.
    pub(crate) fn arm(
        &mut self,
        deadline: Option<Instant>,
        armed: Option<Instant>,
        timer: Timer,
    ) -> Option<Instant> {
        let Some(deadline) = deadline else { return armed };
        let deadline = deadline.min(self.clock + self.config.timers.patience());
        if armed.is_some_and(|armed| armed <= deadline) {
            return armed;
        }
        self.wheel.set(deadline, timer);
        Some(deadline)
    }

    pub(crate) fn transmit(&mut self, flow: Flow, bytes: Vec<u8>) {
        self.statistics.transmitted += 1;
        self.push(Output::Transmit(Transmit { flow, bytes }));
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.push(Output::Event(event));
    }

    /// The listener that a flow goes through, or the first of its transport.
    pub(crate) fn listener(&self, flow: &Flow) -> Option<&Listener> {
        let of_transport = |listener: &&Listener| listener.transport == flow.transport;
        self.config
            .listeners
            .iter()
            .find(|listener| listener.transport == flow.transport && listener.local == flow.local)
            .or_else(|| self.config.listeners.iter().find(of_transport))
    }

    pub(crate) fn via_value(&self, flow: &Flow, branch: &[u8]) -> Vec<u8> {
        let sent_by = self.name_of(flow);
        // RFC 3581: behind a NAT only the answer to `rport` finds back.
        let rport = if flow.transport == Transport::Udp { ";rport" } else { "" };
        let transport = flow.transport.as_str();
        let mut value = Vec::with_capacity(128);
        for part in ["SIP/2.0/", transport, " ", &sent_by, ";branch="] {
            value.extend_from_slice(part.as_bytes());
        }
        value.extend_from_slice(branch);
        value.extend_from_slice(rport.as_bytes());
        value
    }

    /// What others call our end of a flow.
    pub(crate) fn name_of(&self, flow: &Flow) -> Cow<'_, str> {
        self.listener(flow).map_or_else(|| flow.local.to_string().into(), |found| (&found.sent_by).into())
    }

    /// Whether a host and port are one of our listeners'.
    pub(crate) fn is_us(&self, host: &Host<'_>, port: Option<u16>) -> bool {
        self.own.iter().any(|own| own.is(host, port))
    }

    pub(crate) fn is_our_via(&self, via: &Via<'_>) -> bool {
        self.is_us(&via.host, via.port)
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}
