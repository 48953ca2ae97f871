//! The INVITE client transaction (RFC 3261 §17.1.1, Figure 5; RFC 6026 §8.4).

use std::time::Duration;

use crate::message::Message;
use crate::status::Status;
use crate::time::Instant;
use crate::transaction::{Input, Notice, RINGING_MAX, Resend, Step, Timers, ack_for, earliest};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Calling,
    Proceeding,
    Accepted,
    Completed,
    Terminated,
}

#[derive(Debug)]
pub(crate) struct ClientInvite {
    state: State,
    timers: Timers,
    is_reliable: bool,
    /// The INVITE as sent; empty once it is answered.
    invite: Message,
    /// The ACK for a final response that was no 2xx.
    ack: Vec<u8>,
    /// Timer A.
    resend: Option<Resend>,
    /// Timers B, D and M, one after another.
    ends: Instant,
    /// Whether a CANCEL was sent: it is sent once, and nothing that comes behind it but an answer gains time.
    is_cancelled: bool,
}

impl ClientInvite {
    /// The transaction that begins as `invite` is sent.
    pub(crate) fn new(
        now: Instant,
        invite: Message,
        timers: Timers,
        is_reliable: bool,
    ) -> (ClientInvite, Step) {
        let step = Step::send(invite.bytes());
        let resend = (!is_reliable).then(|| Resend::new(now, timers.t1));
        let ends = now + timers.patience();
        let state = State::Calling;
        (
            ClientInvite {
                state,
                timers,
                is_reliable,
                invite,
                ack: Vec::new(),
                resend,
                ends,
                is_cancelled: false,
            },
            step,
        )
    }

    pub(crate) fn handle(&mut self, now: Instant, input: Input<'_>) -> Step {
        match self.state {
            State::Calling => self.calling(now, input),
            State::Proceeding => self.proceeding(now, input),
            State::Accepted => self.accepted(now, input),
            State::Completed => self.completed(now, input),
            State::Terminated => Step::nothing(),
        }
    }

    /// Nothing has come back: retransmit (timer A), give up (timer B).
    ///
    /// RFC 3261 §17.1.1.2
    fn calling(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Response(response) => self.response(now, response),
            Input::Time if now >= self.ends => self.time_out(),
            Input::Time if self.resend.as_mut().is_some_and(|resend| resend.is_due(now, Duration::MAX)) => {
                Step::send(self.invite.bytes())
            }
            _ => Step::nothing(),
        }
    }

    /// Someone is at it: nothing is retransmitted, and there is no time limit but ours.
    ///
    /// RFC 3261 §17.1.1.2
    fn proceeding(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Response(response) => self.response(now, response),
            Input::Time if now >= self.ends => self.time_out(),
            _ => Step::nothing(),
        }
    }

    /// A 2xx came: more may come, from other branches or again (timer M). Each goes to the owner, who acknowledges.
    ///
    /// RFC 6026 §7.2
    fn accepted(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Response(response) if response.status().is_some_and(Status::is_success) => {
                Step::tell(Notice::Response)
            }
            Input::Time if now >= self.ends => self.terminate(),
            _ => Step::nothing(),
        }
    }

    /// Another final response came: it is acknowledged as often as it comes (timer D).
    ///
    /// RFC 3261 §17.1.1.2
    fn completed(&mut self, now: Instant, input: Input<'_>) -> Step {
        match input {
            Input::Response(response)
                if response.status().is_some_and(|status| status.is_final() && !status.is_success()) =>
            {
                Step::send(&self.ack)
            }
            Input::Time if now >= self.ends => self.terminate(),
            _ => Step::nothing(),
        }
    }

    /// A response while none was final.
    fn response(&mut self, now: Instant, response: &Message) -> Step {
        let Some(status) = response.status() else { return Step::nothing() };
        self.resend = None;
        if status.is_provisional() {
            self.state = State::Proceeding;
            if !self.is_cancelled {
                self.ends = now + RINGING_MAX;
            }
            return Step::tell(Notice::Response);
        }
        if status.is_success() {
            self.state = State::Accepted;
            self.ends = now + self.timers.patience();
            self.invite = Message::default();
            return Step::tell(Notice::Response);
        }
        self.state = State::Completed;
        self.ends = if self.is_reliable { now } else { now + self.timers.d() };
        let invite = std::mem::take(&mut self.invite);
        // What cannot be printed on one line cannot have been parsed from a good response.
        self.ack = ack_for(&invite, response).map(Message::into_bytes).unwrap_or_default();
        if self.is_reliable {
            self.state = State::Terminated;
        }
        Step { send: Some(self.ack.clone()), notice: Some(Notice::Response) }
    }

    fn time_out(&mut self) -> Step {
        self.terminate();
        Step::tell(Notice::TimedOut)
    }

    fn terminate(&mut self) -> Step {
        self.state = State::Terminated;
        Step::nothing()
    }

    /// The INVITE, while a CANCEL for it makes sense: after a provisional and before a final response (§9.1), once.
    pub(crate) fn cancellable(&self) -> Option<&Message> {
        (self.state == State::Proceeding && !self.is_cancelled).then_some(&self.invite)
    }

    /// Whether the final response is still to come.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Calling | State::Proceeding)
    }

    /// Whether nothing has come back yet.
    pub(crate) fn is_unheard(&self) -> bool {
        self.state == State::Calling
    }

    /// A CANCEL was sent: if no final response follows within 64·T1 the transaction is over (§9.1).
    pub(crate) fn cancelled(&mut self, now: Instant) {
        self.is_cancelled = true;
        self.ends = now + self.timers.patience();
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        earliest(self.resend.map(|resend| resend.at), Some(self.ends))
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.invite.bytes().len() + self.ack.len()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Terminated
    }
}
