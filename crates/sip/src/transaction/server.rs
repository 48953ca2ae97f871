//! The server transaction of all other requests (RFC 3261 §17.2.2, Figure 8).

use crate::message::Message;
use crate::time::Instant;
use crate::transaction::{Input, Notice, Step, Timers};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Debug)]
pub(crate) struct Server {
    state: State,
    timers: Timers,
    is_reliable: bool,
    /// The last response sent.
    response: Vec<u8>,
    /// Timer J, and our own limit before: whoever asked has given up by then (their timer F).
    ends: Instant,
}

impl Server {
    /// The transaction that begins as a request comes.
    pub(crate) fn new(now: Instant, timers: Timers, is_reliable: bool) -> Server {
        let ends = now + timers.patience();
        Server { state: State::Trying, timers, is_reliable, response: Vec::new(), ends }
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>) -> Step {
        match self.state {
            State::Trying => self.trying(now, input),
            State::Proceeding => self.proceeding(now, input),
            State::Completed => self.completed(now, input),
            State::Terminated => Step::nothing(),
        }
    }

    /// Nothing was said: retransmissions are swallowed.
    ///
    /// RFC 3261 §17.2.2
    fn trying(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Response(response) => self.respond(now, response),
            Input::Time => self.time(now),
            _ => Step::nothing(),
        }
    }

    /// A provisional response was sent: retransmissions get it again.
    ///
    /// RFC 3261 §17.2.2
    fn proceeding(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Again => Step::send(&self.response),
            Input::Response(response) => self.respond(now, response),
            Input::Time => self.time(now),
            Input::Ack => Step::nothing(),
        }
    }

    /// The final response was sent: retransmissions get it again (timer J).
    ///
    /// RFC 3261 §17.2.2
    fn completed(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Again => Step::send(&self.response),
            Input::Time if now >= self.ends => {
                self.state = State::Terminated;
                Step::nothing()
            }
            _ => Step::nothing(),
        }
    }

    fn respond(&mut self, now: Instant, response: &Message) -> Step {
        let Some(status) = response.status() else { return Step::nothing() };
        self.response = response.bytes().to_vec();
        if status.is_provisional() {
            self.state = State::Proceeding;
        } else if self.is_reliable {
            self.state = State::Terminated;
        } else {
            self.state = State::Completed;
            self.ends = now + self.timers.patience();
        }
        Step::send(response.bytes())
    }

    fn time(&mut self, now: Instant) -> Step {
        if now < self.ends {
            return Step::nothing();
        }
        self.state = State::Terminated;
        Step::tell(Notice::TimedOut)
    }

    /// Whether a final response was sent.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.state, State::Completed | State::Terminated)
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.ends
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.response.len()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Terminated
    }
}
