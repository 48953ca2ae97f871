//! The end of a call: its one final answer, and giving its memory back.

use std::sync::Arc;

use super::{Best, Exhausted, Phase};
use crate::endpoint::{Endpoint, Event, RequestId, Timer};
use crate::print::ResponseBuilder;
use crate::slab::Handle;
use crate::status::Status;
use crate::time::Instant;
use crate::transaction::Input;

impl Endpoint {
    /// Gives the caller its final answer (RFC 3261 §16.7 steps 6 to 9).
    pub(super) fn call_conclude(&mut self, now: Instant, handle: Handle) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        if matches!(call.phase, Phase::Concluded { .. }) {
            return;
        }
        call.phase = Phase::Concluded { winner: None };
        let request = call.request;
        let best = call.best.take();
        let is_final_answer = best.as_ref().is_some_and(|best| !call.plan.failover.goes_on(best.status));
        let own = match call.plan.exhausted {
            _ if call.is_cancelled => Some((Status::REQUEST_TERMINATED, None)),
            Exhausted::Answer { status, retry_after_s } if !is_final_answer => {
                Some((status, Some(retry_after_s)))
            }
            _ => None,
        };
        let (status, retry_after, target, response) = match (own, best) {
            (Some((status, retry_after)), _) => (status, retry_after, None, None),
            (None, Some(Best { status, response: Some(response), target })) => {
                (status, None, Some(target), Some(response))
            }
            (None, Some(best)) => (best.status, None, None, None),
            (None, None) => (Status::REQUEST_TIMEOUT, None, None, None),
        };
        let message = Arc::clone(&call.message);
        let response = response.or_else(|| {
            let tag = self.to_tag(RequestId(request));
            let mut builder = ResponseBuilder::new(&message, status).to_tag(&tag);
            if let Some(seconds) = retry_after {
                builder = builder.header("Retry-After", seconds.to_string());
            }
            builder.build().ok()
        });
        if let Some(response) = response {
            self.run(now, request, Input::Response(&response));
        }
        self.tell(Event::Concluded { id: RequestId(request), status, target });
        self.call_give_up_others(now, handle);
        self.call_settle(handle);
    }

    /// The owner answered a proxied request itself.
    pub(crate) fn call_answered_by_owner(&mut self, now: Instant, handle: Handle, status: Status) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        if matches!(call.phase, Phase::Concluded { .. }) {
            return;
        }
        call.phase = Phase::Concluded { winner: None };
        let id = RequestId(call.request);
        self.tell(Event::Concluded { id, status, target: None });
        self.call_give_up_others(now, handle);
        self.call_settle(handle);
    }

    /// A branch's client transaction is over.
    pub(crate) fn call_branch_over(&mut self, handle: Handle, branch: u32) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        if let Some(found) = call.branches.get_mut(branch as usize) {
            found.is_over = true;
        }
        self.call_settle(handle);
    }

    /// The server transaction is over.
    pub(crate) fn call_request_over(&mut self, handle: Handle) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        call.is_request_over = true;
        // A request that ended without an answer has nobody left to answer.
        if !matches!(call.phase, Phase::Concluded { .. }) {
            call.phase = Phase::Concluded { winner: None };
        }
        self.call_settle(handle);
    }

    /// Sets the call's timer; when nothing of it is left, its memory goes back.
    pub(super) fn call_settle(&mut self, handle: Handle) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        let held = call.held_now();
        self.held_bytes = self.held_bytes + held - std::mem::replace(&mut call.held, held);
        if call.is_request_over && call.branches.iter().all(|branch| branch.is_over) {
            let request = call.request;
            self.held_bytes -= held;
            self.calls.remove(handle);
            self.call_of.remove(&request);
            if self.calls.len() == 0 {
                self.call_of.shrink_to(1024);
            }
            return;
        }
        let (deadline, armed) = (call.deadline(), call.armed);
        let armed = self.arm(deadline, armed, Timer::Call(handle));
        if let Some(call) = self.calls.at_mut(handle) {
            call.armed = armed;
        }
    }
}
