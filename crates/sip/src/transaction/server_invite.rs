//! The INVITE server transaction (RFC 3261 §17.2.1, Figure 7; RFC 6026 §8.3).

use std::sync::Arc;

use crate::message::Message;
use crate::print::ResponseBuilder;
use crate::status::Status;
use crate::time::Instant;
use crate::transaction::{Input, Notice, RINGING_MAX, Resend, Step, TRYING_AFTER, Timers, earliest};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Proceeding,
    Accepted,
    Completed,
    Confirmed,
    Terminated,
}

#[derive(Debug)]
pub(crate) struct ServerInvite {
    state: State,
    timers: Timers,
    is_reliable: bool,
    /// The request, for a 100, until that or another response is sent.
    request: Option<Arc<Message>>,
    trying_at: Instant,
    /// The last response sent.
    response: Vec<u8>,
    /// Timer G.
    resend: Option<Resend>,
    /// Timers H, I and L, and our own limit while it rings.
    ends: Instant,
}

impl ServerInvite {
    /// The transaction that begins as an INVITE comes.
    pub(crate) fn new(
        now: Instant,
        request: Arc<Message>,
        timers: Timers,
        is_reliable: bool,
    ) -> ServerInvite {
        ServerInvite {
            state: State::Proceeding,
            timers,
            is_reliable,
            request: Some(request),
            trying_at: now + TRYING_AFTER,
            response: Vec::new(),
            resend: None,
            ends: now + RINGING_MAX,
        }
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>) -> Step {
        match self.state {
            State::Proceeding => self.proceeding(now, input),
            State::Accepted => self.accepted(now, input),
            State::Completed => self.completed(now, input),
            State::Confirmed => self.confirmed(now, input),
            State::Terminated => Step::nothing(),
        }
    }

    /// No final response yet: retransmissions get the last provisional one; after 200 ms of silence a 100 is sent.
    ///
    /// RFC 3261 §17.2.1
    fn proceeding(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Again if !self.response.is_empty() => Step::send(&self.response),
            // The peer is already asking again: there is nothing to wait for.
            Input::Again => self.send_trying(),
            Input::Time if now >= self.ends => {
                self.state = State::Terminated;
                Step::tell(Notice::TimedOut)
            }
            Input::Time if self.request.is_some() && now >= self.trying_at => self.send_trying(),
            Input::Response(response) => self.respond(now, response),
            _ => Step::nothing(),
        }
    }

    /// A 2xx was sent: the INVITE's retransmissions are swallowed, the owner repeats the 2xx until an ACK (timer L).
    ///
    /// RFC 6026 §7.1
    fn accepted(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Response(response) if response.status().is_some_and(Status::is_success) => {
                Step::send(response.bytes())
            }
            Input::Time if now >= self.ends => self.terminate(),
            _ => Step::nothing(),
        }
    }

    /// Another final response was sent: repeat it (timer G) until an ACK comes or patience ends (timer H).
    ///
    /// RFC 3261 §17.2.1
    fn completed(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Again => Step::send(&self.response),
            Input::Ack => {
                self.resend = None;
                self.response = Vec::new();
                self.ends = now + self.timers.t4;
                self.state = if self.is_reliable { State::Terminated } else { State::Confirmed };
                Step::nothing()
            }
            Input::Time if now >= self.ends => {
                self.state = State::Terminated;
                Step::tell(Notice::AckMissing)
            }
            Input::Time => {
                let longest = self.timers.t2;
                if self.resend.as_mut().is_some_and(|resend| resend.is_due(now, longest)) {
                    return Step::send(&self.response);
                }
                Step::nothing()
            }
            Input::Response(_) => Step::nothing(),
        }
    }

    /// The ACK came: its retransmissions are swallowed (timer I).
    ///
    /// RFC 3261 §17.2.1
    fn confirmed(&mut self, now: Instant, input: Input<'_>) -> Step {
        if matches!(input, Input::Time) && now >= self.ends { self.terminate() } else { Step::nothing() }
    }

    fn send_trying(&mut self) -> Step {
        let Some(request) = self.request.take() else { return Step::nothing() };
        // A request that cannot be answered was refused before it came here.
        self.response = ResponseBuilder::new(&request, Status::TRYING).build_bytes().unwrap_or_default();
        Step::send(&self.response)
    }

    fn respond(&mut self, now: Instant, response: &Message) -> Step {
        let Some(status) = response.status() else { return Step::nothing() };
        self.request = None;
        if status.is_success() {
            self.state = State::Accepted;
            self.response = Vec::new();
            self.ends = now + self.timers.patience();
        } else {
            self.response = response.bytes().to_vec();
            if status.is_final() {
                self.state = State::Completed;
                self.resend = (!self.is_reliable).then(|| Resend::new(now, self.timers.t1));
                self.ends = now + self.timers.patience();
            }
        }
        Step::send(response.bytes())
    }

    fn terminate(&mut self) -> Step {
        self.state = State::Terminated;
        Step::nothing()
    }

    /// Whether nobody answered for so long that nobody will.
    pub(crate) fn is_forgotten(&self, now: Instant) -> bool {
        self.state == State::Proceeding && now >= self.ends
    }

    /// Whether a final response was sent.
    pub(crate) fn is_answered(&self) -> bool {
        self.state != State::Proceeding
    }

    /// Whether an ACK on the INVITE's own branch is for us: it is unless we sent a 2xx.
    pub(crate) fn takes_ack(&self) -> bool {
        matches!(self.state, State::Proceeding | State::Completed | State::Confirmed)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let trying = self.request.is_some().then_some(self.trying_at);
        earliest(earliest(self.resend.map(|resend| resend.at), trying), Some(self.ends))
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.response.len()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Terminated
    }
}
