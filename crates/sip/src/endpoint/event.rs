//! What an endpoint gives: bytes to send, events to look at, and when to come again.

use std::sync::Arc;

use super::{AttemptId, RequestId};
use crate::flow::{Source, Transmit};
use crate::message::Message;
use crate::proxy::FailureCause;
use crate::status::Status;
use crate::time::Instant;

/// What [`super::Endpoint::poll_output`] gives.
#[derive(Debug)]
pub enum Output {
    /// Put this on the wire. If that fails at once, say so with [`super::Endpoint::handle_unreachable`].
    Transmit(Transmit),
    /// Something happened that someone has to know or decide.
    Event(Event),
    /// Nothing more now. Call [`super::Endpoint::handle_timeout`] at this time, if there is one.
    Deadline(Option<Instant>),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A request begins a transaction: answer it with [`super::Endpoint::reply`] or [`super::Endpoint::respond`], or pass it on with
    /// [`super::Endpoint::proxy`]. Never a CANCEL or an ACK.
    Request {
        /// For the answer.
        id: RequestId,
        /// The request, its top Via completed with where it came from, our own Route taken away.
        request: Arc<Message>,
        /// Where it came from.
        source: Source,
    },
    /// With [`super::Config::keeps_no_state`]: an INVITE, CANCEL or ACK that no Route of ours sends on, for
    /// [`super::Endpoint::forward_stateless`] or [`super::Endpoint::reply_stateless`]. The same request must get the
    /// same treatment each time it comes.
    Stateless {
        /// The request, its top Via completed with where it came from.
        request: Arc<Message>,
        /// Where it came from.
        source: Source,
    },
    /// The caller gave up a request that was not proxied. It has been answered with 487.
    Cancelled {
        /// Which request.
        id: RequestId,
    },
    /// An ACK for a 2xx of ours.
    Ack {
        /// The ACK.
        request: Arc<Message>,
        /// Where it came from.
        source: Source,
    },
    /// A request ended without what it needed: an answer from its owner (an INVITE is then answered with 408, ten
    /// minutes after it came; others are not answered any more, 64·T1 after they came), or an ACK.
    RequestLost {
        /// Which request.
        id: RequestId,
    },
    /// A response to a request that [`super::Endpoint::request`] sent, provisional ones too.
    Response {
        /// Which request.
        id: AttemptId,
        /// The response, our Via taken away.
        response: Arc<Message>,
    },
    /// No final response came to a request that [`super::Endpoint::request`] sent.
    TimedOut {
        /// Which request.
        id: AttemptId,
    },
    /// A target of a proxied call sent a provisional response (not 100).
    Ringing {
        /// Which call.
        id: RequestId,
        /// The target's place in the plan.
        target: usize,
        /// What it sent.
        status: Status,
    },
    /// A target of a proxied call failed. The next one is tried, if there is one and [`crate::proxy::Failover`] lets it.
    TargetFailed {
        /// Which call.
        id: RequestId,
        /// The target's place in the plan.
        target: usize,
        /// How.
        cause: FailureCause,
    },
    /// A target redirects the call. Within five seconds, say what next with [`super::Endpoint::proxy_more`] or
    /// [`super::Endpoint::reply`]; otherwise it counts as a failure.
    Redirected {
        /// Which call.
        id: RequestId,
        /// The target's place in the plan.
        target: usize,
        /// The 3xx, with its contacts.
        response: Arc<Message>,
    },
    /// A proxied call has its final answer.
    Concluded {
        /// Which call.
        id: RequestId,
        /// The answer that the caller was given.
        status: Status,
        /// The target it came from; none when it is our own.
        target: Option<usize>,
    },
}
