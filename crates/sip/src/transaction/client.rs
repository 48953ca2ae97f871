//! The client transaction of all other requests (RFC 3261 §17.1.2, Figure 6).

use crate::message::Message;
use crate::time::Instant;
use crate::transaction::{Input, Notice, Resend, Step, Timers, earliest};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Trying,
    Proceeding,
    Completed,
    Terminated,
}

#[derive(Debug)]
pub(crate) struct Client {
    state: State,
    timers: Timers,
    is_reliable: bool,
    request: Vec<u8>,
    /// Timer E.
    resend: Option<Resend>,
    /// Timers F and K, one after the other.
    ends: Instant,
}

impl Client {
    /// The transaction that begins as `request` is sent.
    pub(crate) fn new(now: Instant, request: Vec<u8>, timers: Timers, is_reliable: bool) -> (Client, Step) {
        let step = Step::send(&request);
        let resend = (!is_reliable).then(|| Resend::new(now, timers.t1));
        let ends = now + timers.patience();
        (Client { state: State::Trying, timers, is_reliable, request, resend, ends }, step)
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>) -> Step {
        match self.state {
            State::Trying => self.trying(now, input),
            State::Proceeding => self.proceeding(now, input),
            State::Completed => self.completed(now, input),
            State::Terminated => Step::nothing(),
        }
    }

    /// Nothing has come back: retransmit (timer E, doubling up to T2), give up (timer F).
    ///
    /// RFC 3261 §17.1.2.2
    fn trying(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Response(response) => self.response(now, response),
            Input::Time => self.time(now),
            _ => Step::nothing(),
        }
    }

    /// A provisional response came: retransmit every T2 (timer E), give up (timer F).
    ///
    /// RFC 3261 §17.1.2.2
    fn proceeding(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Response(response) => self.response(now, response),
            Input::Time => self.time(now),
            _ => Step::nothing(),
        }
    }

    /// The final response came: its retransmissions are swallowed (timer K).
    ///
    /// RFC 3261 §17.1.2.2
    fn completed(&mut self, now: Instant, input: Input<'_>) -> Step {
        if matches!(input, Input::Time) && now >= self.ends {
            self.state = State::Terminated;
        }
        Step::nothing()
    }

    fn response(&mut self, now: Instant, response: &Message) -> Step {
        let Some(status) = response.status() else { return Step::nothing() };
        if status.is_provisional() {
            self.state = State::Proceeding;
            // The next retransmission comes when it was to come; from then on T2 lies between them.
            if let Some(resend) = &mut self.resend {
                resend.pause = self.timers.t2;
            }
            return Step::tell(Notice::Response);
        }
        self.resend = None;
        self.request = Vec::new();
        if self.is_reliable {
            self.state = State::Terminated;
        } else {
            self.state = State::Completed;
            self.ends = now + self.timers.t4;
        }
        Step::tell(Notice::Response)
    }

    fn time(&mut self, now: Instant) -> Step {
        if now >= self.ends {
            self.state = State::Terminated;
            return Step::tell(Notice::TimedOut);
        }
        let longest = self.timers.t2;
        if self.resend.as_mut().is_some_and(|resend| resend.is_due(now, longest)) {
            return Step::send(&self.request);
        }
        Step::nothing()
    }

    /// Whether the final response is still to come.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Trying | State::Proceeding)
    }

    /// Whether nothing has come back yet.
    pub(crate) fn is_unheard(&self) -> bool {
        self.state == State::Trying
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        earliest(self.resend.map(|resend| resend.at), Some(self.ends))
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.request.len()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Terminated
    }
}
