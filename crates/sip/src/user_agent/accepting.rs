//! A 2xx of ours to an INVITE, repeated until its ACK comes (RFC 3261 §13.3.1.4, §14.2): the server transaction
//! swallows the INVITE's repetitions and leaves this to us.

use std::time::Duration;

use crate::endpoint::RequestId;
use crate::message::Message;
use crate::time::Instant;
use crate::transaction::Timers;

/// One answer, and when it is sent again.
#[derive(Debug)]
pub(super) struct Accepting {
    request: RequestId,
    ok: Message,
    /// The INVITE's CSeq, which the ACK repeats.
    number: u32,
    /// Whether the answer holds an offer of ours: the INVITE brought none, and the ACK brings the answer.
    pub(super) is_offer: bool,
    again_at: Instant,
    pause: Duration,
    until: Instant,
}

impl Accepting {
    /// An answer that has just been sent for the first time.
    pub(super) fn new(
        now: Instant,
        timers: Timers,
        request: RequestId,
        invite: &Message,
        ok: Message,
    ) -> Accepting {
        Accepting {
            request,
            number: invite.cseq().map_or(0, |cseq| cseq.number),
            is_offer: invite.body().is_empty() && !ok.body().is_empty(),
            ok,
            again_at: now + timers.t1,
            pause: timers.t1,
            until: now + timers.patience(),
        }
    }

    /// Whether this ACK is the one that is waited for.
    pub(super) fn is_of(&self, ack: &Message) -> bool {
        ack.cseq().is_ok_and(|cseq| cseq.number == self.number)
    }

    /// Whether nobody will acknowledge any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until <= now
    }

    pub(super) fn deadline(&self) -> Instant {
        self.again_at.min(self.until)
    }

    /// What to send again, if it is time; the pause doubles up to `longest`.
    pub(super) fn again(&mut self, now: Instant, longest: Duration) -> Option<(RequestId, Message)> {
        if now < self.again_at {
            return None;
        }
        self.pause = (self.pause * 2).min(longest);
        self.again_at = now + self.pause;
        Some((self.request, self.ok.clone()))
    }
}
