//! The proxy core (RFC 3261 §16): one call, its targets one after another, and the one answer its caller gets.
//!
//! The owner of the endpoint says which targets there are, in which order, and how long each may take ([`Plan`], handed
//! to [`crate::endpoint::Endpoint::proxy`]); what is done with them is decided here. What happens to a call, and when:
//!
//! * A target that sends nothing within its response time-out is left, one that rings too long is cancelled, and
//!   the next is tried. One that was left is still sent its INVITE until 64·T1 are over, as RFC 3261 wants it, and
//!   cancelled with its first sign of life. Provisional responses (not 100) go to the caller as they come.
//! * A 2xx goes to the caller at once, whoever sent it first; all others are cancelled. A 2xx that comes when the
//!   caller has another answer already is acknowledged and ended by us, so that no target is left talking to nobody.
//! * A 3xx is shown to the owner, who decides ([`crate::endpoint::Event::Redirected`]).
//! * Another final response either ends the call and goes to the caller, or lets the next target be tried, as
//!   [`Failover`] says. When no target is left the best response (§16.7 step 6) or the plan's own answer goes to the
//!   caller; a redirection that nobody followed is not shown to it.

pub(crate) mod branch;
mod conclude;
mod drive;
pub(crate) mod record_route;

use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::digest::Credentials;
use crate::flow::{Flow, Source};
use crate::limits::{TARGETS_MAX, UNWANTED_DIALOGS_MAX};
use crate::message::Message;
use crate::slab::Handle;
use crate::status::Status;
use crate::time::Instant;

/// Where one call may go, and what to do when it does not get there.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tried in this order; at most [`TARGETS_MAX`] are.
    pub targets: Vec<Target>,
    /// Which answers let the next target be tried.
    pub failover: Failover,
    /// What the caller is told when all have failed.
    pub exhausted: Exhausted,
    /// Whether we stay in the path of the dialog.
    pub record_route: bool,
}

/// One place to try.
#[derive(Clone, Debug)]
pub struct Target {
    /// The request-URI it is sent, such as `sip:bob@192.0.2.20:5060`. Where it goes is `flow`; of the URI only
    /// whether it is a `sips:` one is looked at.
    pub uri: Vec<u8>,
    /// The way there.
    pub flow: Flow,
    /// How long to wait for a first response.
    pub response_timeout: Duration,
    /// How long it may ring, from its first provisional response.
    pub ring_timeout: Duration,
    /// Headers for this target only.
    pub headers: Vec<(String, Vec<u8>)>,
    /// For a target that challenges. The call's CSeq cannot be raised by a proxy, so the second try has the same one
    /// on another branch; carriers take it.
    pub credentials: Option<Credentials>,
}

impl Target {
    /// A target with the usual times: two seconds for a first response, thirty to ring.
    pub fn new(uri: impl Into<Vec<u8>>, flow: Flow) -> Target {
        Target {
            uri: uri.into(),
            flow,
            response_timeout: Duration::from_secs(2),
            ring_timeout: Duration::from_secs(30),
            headers: Vec::new(),
            credentials: None,
        }
    }
}

/// Which final responses let the next target be tried. By default 408, 480 and all 5xx do; time-outs and transport
/// errors always do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Failover {
    also: Vec<Status>,
    never: Vec<Status>,
}

impl Failover {
    /// This one too.
    #[must_use]
    pub fn also_on(mut self, status: Status) -> Failover {
        self.also.push(status);
        self
    }

    /// This one not.
    #[must_use]
    pub fn never_on(mut self, status: Status) -> Failover {
        self.never.push(status);
        self
    }

    /// Whether the next target is tried after this answer.
    pub fn goes_on(&self, status: Status) -> bool {
        let usual = matches!(status.code(), 408 | 480 | 500..=599);
        (usual || self.also.contains(&status)) && !self.never.contains(&status)
    }
}

/// What the caller is told when all targets have failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exhausted {
    /// The best response that came (§16.7 step 6). When there was none: 408 if a target was silent or rang too long, 503
    /// if nothing could be sent.
    BestResponse,
    /// This, with a Retry-After.
    Answer {
        /// The status, such as 503.
        status: Status,
        /// When to come again.
        retry_after_s: u32,
    },
}

/// How a target failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureCause {
    /// It said so.
    Answered(Status),
    /// It did not say anything in time.
    Silent,
    /// It rang for too long.
    RangTooLong,
    /// Nothing could be sent there.
    Unreachable,
    /// The request for it could not be made: an unsafe URI or header, or no room for another transaction.
    NotSent,
}

/// One proxied request.
#[derive(Debug)]
pub(crate) struct Call {
    /// The server transaction; it may be over before the call is.
    pub(crate) request: Handle,
    pub(crate) message: Arc<Message>,
    pub(crate) source: Source,
    pub(crate) plan: Plan,
    /// The target to try next.
    pub(crate) next: usize,
    pub(crate) branches: Vec<Branch>,
    pub(crate) best: Option<Best>,
    pub(crate) phase: Phase,
    pub(crate) is_cancelled: bool,
    /// Whether the server transaction is over.
    pub(crate) is_request_over: bool,
    pub(crate) armed: Option<Instant>,
    /// How much of it was counted as held when it was last looked at.
    pub(crate) held: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Targets are being tried.
    Trying,
    /// The owner thinks about this target's redirection, until then.
    Redirected { until: Instant, target: usize, status: Status },
    /// The caller has a final answer; if it was a 2xx, this branch's.
    Concluded { winner: Option<u32> },
}

#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) client: Handle,
    pub(crate) target: usize,
    pub(crate) flow: Flow,
    pub(crate) state: BranchState,
    /// When it is given up; only while it is live.
    pub(crate) until: Instant,
    pub(crate) has_authenticated: bool,
    /// How many Record-Routes stood in the request as it was sent, ours included.
    pub(crate) record_routes: usize,
    /// The dialogs that were ended because nobody wanted them: their tags, hashed.
    pub(crate) ended: ArrayVec<u32, UNWANTED_DIALOGS_MAX>,
    /// Whether its client transaction is gone.
    pub(crate) is_over: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BranchState {
    /// Sent, nothing heard.
    Silent,
    /// Something provisional was heard.
    Ringing,
    /// Given up: its CANCEL is sent, or will be with its first provisional response. Only a 2xx still matters.
    GivenUp,
    /// Its final response came, or its time ran out.
    Done,
}

#[derive(Debug)]
pub(crate) struct Best {
    pub(crate) status: Status,
    pub(crate) response: Option<Message>,
    pub(crate) target: usize,
}

impl Call {
    /// Whether another answer is better than the best so far (§16.7 step 6): a 6xx beats all, then the lowest class;
    /// within a class those that tell the caller what to do about it.
    pub(crate) fn is_better(&self, status: Status) -> bool {
        self.best.as_ref().is_none_or(|best| rank(status) < rank(best.status))
    }

    /// Bytes of messages that it keeps: the request, and the best answer so far.
    pub(crate) fn held_now(&self) -> usize {
        let best = self.best.as_ref().and_then(|best| best.response.as_ref());
        self.message.bytes().len() + best.map_or(0, |response| response.bytes().len())
    }

    /// The branches that may still bring an answer.
    pub(crate) fn has_live_branch(&self) -> bool {
        self.branches.iter().any(|branch| matches!(branch.state, BranchState::Silent | BranchState::Ringing))
    }

    pub(crate) fn has_unfinished_branch(&self) -> bool {
        self.branches.iter().any(|branch| branch.state != BranchState::Done)
    }

    pub(crate) fn has_target_left(&self) -> bool {
        self.next < self.plan.targets.len().min(TARGETS_MAX)
    }

    /// The next time something has to be decided without a message.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Concluded { .. } => None,
            Phase::Redirected { until, .. } => Some(until),
            Phase::Trying => self
                .branches
                .iter()
                .filter(|branch| matches!(branch.state, BranchState::Silent | BranchState::Ringing))
                .map(|branch| branch.until)
                .min(),
        }
    }
}

fn rank(status: Status) -> (u16, u8) {
    let class = status.code() / 100;
    let tells_what_to_do = matches!(status.code(), 401 | 407 | 415 | 420 | 484);
    (if class == 6 { 0 } else { class }, u8::from(!tells_what_to_do))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failover_goes_on_where_it_may() {
        let status = |code| Status::new(code).unwrap();
        let failover = Failover::default().also_on(status(486)).never_on(status(501));
        let on: Vec<u16> = [302, 401, 404, 408, 480, 486, 487, 500, 501, 503, 600, 603]
            .into_iter()
            .filter(|&code| failover.goes_on(status(code)))
            .collect();
        assert_eq!(on, [408, 480, 486, 500, 503]);
    }

    #[test]
    fn the_best_answer_is_the_rfcs() {
        let mut order: Vec<u16> = vec![500, 404, 486, 407, 302, 603, 503, 420];
        order.sort_by_key(|&code| rank(Status::new(code).unwrap()));
        assert_eq!(order, [603, 302, 407, 420, 404, 486, 500, 503]);
    }
}
