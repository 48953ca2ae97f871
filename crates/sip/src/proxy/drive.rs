//! Carries a plan out: starts branches, passes responses up, ends what is left over.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::{Best, Branch, BranchState, Call, FailureCause, Phase, Plan, Target};
use crate::dialog;
use crate::digest;
use crate::edit::UnsafeText;
use crate::endpoint::{Endpoint, EndpointError, Event, RequestId, begins_dialog};
use crate::flow::{Flow, Source, Transport};
use crate::header::name::Name;
use crate::limits::{REDIRECT_DECISION_MAX, TARGETS_MAX};
use crate::message::Message;
use crate::method::Method;
use crate::proxy::branch::{Kind, Marks};
use crate::proxy::record_route::{PARAM, Ways};
use crate::slab::Handle;
use crate::status::Status;
use crate::time::Instant;
use crate::transaction::{Input, Owner, one_line};

impl Endpoint {
    /// Passes a waiting request on to the targets of a plan. One that may go no further is answered with 483 instead
    /// (RFC 3261 §16.3 step 3): with Max-Forwards 0 only an OPTIONS or a REGISTER comes so far as to be asked about.
    pub fn proxy(
        &mut self,
        now: Instant,
        id: RequestId,
        source: Source,
        plan: Plan,
    ) -> Result<(), EndpointError> {
        let message = self.waiting(id)?;
        if self.call_of.contains_key(&id.0) {
            return Err(EndpointError::NotWaiting);
        }
        if message.max_forwards() == Ok(Some(0)) {
            let status = Status::known(483);
            self.reply(now, id, status, &[])?;
            self.tell(Event::Concluded { id, status, target: None });
            return Ok(());
        }
        let call = self.calls.insert(Call {
            request: id.0,
            message,
            source,
            plan,
            next: 0,
            branches: Vec::new(),
            best: None,
            phase: Phase::Trying,
            is_cancelled: false,
            is_request_over: false,
            armed: None,
            held: 0,
        });
        self.call_of.insert(id.0, call);
        self.call_try_next(now, call);
        Ok(())
    }

    /// Adds targets to a call whose target redirected it, and goes on with them. Those the plan still has come after, and
    /// later events count the places anew.
    pub fn proxy_more(
        &mut self,
        now: Instant,
        id: RequestId,
        targets: Vec<Target>,
    ) -> Result<(), EndpointError> {
        let handle = self.call_of.get(&id.0).copied().ok_or(EndpointError::NotWaiting)?;
        let call = self.calls.at_mut(handle).ok_or(EndpointError::NotWaiting)?;
        if !matches!(call.phase, Phase::Redirected { .. }) {
            return Err(EndpointError::NotWaiting);
        }
        call.phase = Phase::Trying;
        let next = call.next;
        call.plan.targets.splice(next..next, targets);
        call.plan.targets.truncate(TARGETS_MAX);
        self.call_try_next(now, handle);
        Ok(())
    }

    /// Tries the next target; when there is none and nobody is left to answer, the call ends.
    fn call_try_next(&mut self, now: Instant, handle: Handle) {
        loop {
            let Some(call) = self.calls.at_mut(handle) else { return };
            if call.phase != Phase::Trying || call.has_live_branch() {
                break;
            }
            if call.is_cancelled || !call.has_target_left() {
                // Those given up may still bring a 2xx; only a caller who gave up waits for them.
                if !(call.is_cancelled && call.has_unfinished_branch()) {
                    self.call_conclude(now, handle);
                }
                break;
            }
            let target = call.next;
            call.next += 1;
            match self.call_branch(now, handle, target, None) {
                Ok(()) => break,
                Err(_) => self.call_target_failed(handle, target, FailureCause::NotSent, None),
            }
        }
        self.call_settle(handle);
    }

    /// Sends the request to one target (RFC 3261 §16.6).
    fn call_branch(
        &mut self,
        now: Instant,
        handle: Handle,
        target: usize,
        authorization: Option<(Name, String)>,
    ) -> Result<(), EndpointError> {
        let Some(call) = self.calls.at(handle) else { return Err(EndpointError::NotWaiting) };
        let place = call.plan.targets.get(target).ok_or(EndpointError::Unusable)?;
        let (flow, until) = (place.flow, now + place.response_timeout);
        let mut request = call.message.copy_to_forward();
        request.set_uri(&place.uri)?;
        request.decrement_max_forwards();
        for (name, value) in &place.headers {
            request.add(name, value)?;
        }
        let has_authenticated = authorization.is_some();
        if let Some((name, value)) = authorization {
            request.set(name, value.as_bytes())?;
        }
        if call.plan.record_route && begins_dialog(&call.message) {
            self.record_route(&mut request, &call.message, call.source.flow, flow)?;
        }
        let record_routes = request.list(Name::RecordRoute).count();
        let branch = crate::parse::offset(call.branches.len());
        let message = Arc::clone(&call.message);
        let unique = self.names.next();
        let text = self.branches.make(&message, Kind::Transaction, unique);
        let client = self.start_branch(now, request, &text, flow, Owner::Call { call: handle, branch })?;
        if let Some(call) = self.calls.at_mut(handle) {
            let state = BranchState::Silent;
            call.branches.push(Branch {
                client,
                target,
                flow,
                state,
                until,
                has_authenticated,
                record_routes,
                ended: ArrayVec::new(),
                is_over: false,
            });
        }
        Ok(())
    }

    /// Puts our Record-Route on, or two of them when the call comes in by one transport and leaves by another
    /// (RFC 5658). The caller's side stands below.
    pub(crate) fn record_route(
        &self,
        request: &mut Message,
        received: &Message,
        caller: Flow,
        callee: Flow,
    ) -> Result<(), UnsafeText> {
        let marks = Marks::of(received);
        let ways = Ways { caller, callee, caller_tag: self.signer.tag_hash(marks.from_tag) };
        let signed = self.signer.sign(&ways, marks.call_id);
        // RFC 3261 §16.6 step 4: a call to a sips: URI stays in TLS, and `transport` then means what carries that. Each
        // side by what it was asked for: who called by UDP could do nothing with a sips: URI.
        let is_secure = |uri: &[u8]| uri.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"sips:"));
        let (asked, asks) = (is_secure(received.uri_text()), is_secure(request.uri_text()));
        let value = |flow: &Flow, is_secure: bool| {
            let host = self.name_of(flow);
            let mut value = Vec::with_capacity(256);
            let (scheme, transport) = match flow.transport {
                Transport::Tls if is_secure => ("<sips:", "tcp"),
                other => ("<sip:", other.as_param()),
            };
            for part in [scheme, &host, ";transport=", transport, ";lr;", PARAM, "="] {
                value.extend_from_slice(part.as_bytes());
            }
            value.extend_from_slice(&signed);
            value.push(b'>');
            value
        };
        request.push_record_route(&value(&caller, asked))?;
        if asked != asks
            || caller.transport != callee.transport
            || self.name_of(&caller) != self.name_of(&callee)
        {
            request.push_record_route(&value(&callee, asks))?;
        }
        Ok(())
    }

    /// A response on one of the branches, our Via taken away (RFC 3261 §16.7).
    pub(crate) fn call_response(&mut self, now: Instant, handle: Handle, branch: u32, response: &Message) {
        let Some(status) = response.status() else { return };
        if status.is_provisional() {
            self.call_provisional(now, handle, branch, status, response);
        } else if status.is_success() {
            self.call_success(now, handle, branch, status, response);
        } else {
            self.call_failure(now, handle, branch, status, response);
        }
    }

    fn call_provisional(
        &mut self,
        now: Instant,
        handle: Handle,
        branch: u32,
        status: Status,
        response: &Message,
    ) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        let Some(found) = call.branches.get_mut(branch as usize) else { return };
        let (client, target, request) = (found.client, found.target, call.request);
        match found.state {
            BranchState::Silent => {
                found.state = BranchState::Ringing;
                let ring_timeout =
                    call.plan.targets.get(target).map_or_else(Default::default, |t| t.ring_timeout);
                found.until = now + ring_timeout;
            }
            // The CANCEL that had to wait for this (§9.1).
            BranchState::GivenUp => {
                self.cancel_client(now, client);
                return;
            }
            BranchState::Ringing | BranchState::Done => {}
        }
        let passes_on = status != Status::TRYING && call.phase == Phase::Trying && !call.is_cancelled;
        if passes_on {
            self.run(now, request, Input::Response(response));
            self.tell(Event::Ringing { id: RequestId(request), target, status });
        }
        self.call_settle(handle);
    }

    fn call_success(
        &mut self,
        now: Instant,
        handle: Handle,
        branch: u32,
        status: Status,
        response: &Message,
    ) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        let Some(found) = call.branches.get_mut(branch as usize) else { return };
        let (target, request) = (found.target, call.request);
        found.state = BranchState::Done;
        match call.phase {
            Phase::Trying | Phase::Redirected { .. } => {
                call.phase = Phase::Concluded { winner: Some(branch) };
                self.run(now, request, Input::Response(response));
                self.tell(Event::Concluded { id: RequestId(request), status, target: Some(target) });
                self.call_give_up_others(now, handle);
            }
            // The 2xx again: its ACK was lost, or ours was. It takes the same way (RFC 6026 §7.2).
            Phase::Concluded { winner: Some(winner) } if winner == branch => {
                self.run(now, request, Input::Response(response));
            }
            // The caller has another answer: this dialog is acknowledged and ended by us.
            Phase::Concluded { .. } => {
                self.end_dialog(now, handle, branch, response);
            }
        }
        self.call_settle(handle);
    }

    /// ACK, and BYE the first time, for a 2xx to an INVITE that nobody wants any more. A target that forked may bring
    /// several, each with a tag of its own (RFC 3261 §13.2.2.4).
    fn end_dialog(&mut self, now: Instant, handle: Handle, branch: u32, response: &Message) {
        let is_invite = response.cseq().is_ok_and(|cseq| cseq.method == Method::Invite);
        let tag = self.signer.tag_hash(response.to().ok().and_then(|to| to.tag()).unwrap_or_default());
        let call = self.calls.at_mut(handle);
        let Some(found) = call.and_then(|call| call.branches.get_mut(branch as usize)) else { return };
        let (flow, above) = (found.flow, found.record_routes);
        // The routers between us and the caller are not on our way: only those that came on top of ours are.
        let mut response = response.clone();
        keep_record_routes_below(&mut response, above);
        let Ok(mut dialog) = dialog::Dialog::from_answer(&response) else { return };
        if !is_invite {
            return;
        }
        let is_new = !found.ended.contains(&tag) && found.ended.try_push(tag).is_ok();
        if let Ok(ack) = dialog.ack() {
            // What goes wrong here ends by the target's own timer.
            let _ = self.send(ack, flow);
        }
        if is_new && let Ok(bye) = dialog.request(Method::Bye).build() {
            let _ = self.start_client(now, bye, flow, Owner::Nobody);
        }
    }

    fn call_failure(
        &mut self,
        now: Instant,
        handle: Handle,
        branch: u32,
        status: Status,
        response: &Message,
    ) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        let Some(found) = call.branches.get_mut(branch as usize) else { return };
        let (target, request) = (found.target, call.request);
        let was = std::mem::replace(&mut found.state, BranchState::Done);
        let has_authenticated = found.has_authenticated;
        if matches!(call.phase, Phase::Concluded { .. }) {
            return self.call_settle(handle);
        }
        if was == BranchState::GivenUp {
            // Its failure was counted when it was given up.
            return self.call_try_next(now, handle);
        }
        if matches!(status.code(), 401 | 407) && !has_authenticated && !call.is_cancelled {
            let answer = authorization(call, target, response, self.names.next());
            if answer.is_some() && self.call_branch(now, handle, target, answer).is_ok() {
                return self.call_settle(handle);
            }
        }
        let Some(call) = self.calls.at_mut(handle) else { return };
        if status.is_redirect() && !call.is_cancelled {
            call.phase = Phase::Redirected { until: now + REDIRECT_DECISION_MAX, target, status };
            let response = Arc::new(response.clone());
            self.tell(Event::Redirected { id: RequestId(request), target, response });
            return self.call_settle(handle);
        }
        let goes_on = call.plan.failover.goes_on(status);
        self.call_target_failed(handle, target, FailureCause::Answered(status), Some(response));
        if !goes_on && let Some(call) = self.calls.at_mut(handle) {
            // It is the answer, whatever others said before.
            call.best = Some(Best { status, response: Some(response.clone()), target });
        }
        if goes_on { self.call_try_next(now, handle) } else { self.call_conclude(now, handle) }
    }

    fn call_target_failed(
        &mut self,
        handle: Handle,
        target: usize,
        cause: FailureCause,
        response: Option<&Message>,
    ) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        let status = match cause {
            FailureCause::Answered(status) => status,
            FailureCause::Silent | FailureCause::RangTooLong => Status::REQUEST_TIMEOUT,
            FailureCause::Unreachable | FailureCause::NotSent => Status::UNAVAILABLE,
        };
        if !status.is_redirect() {
            note_best(call, status, target, response);
        }
        let id = RequestId(call.request);
        self.tell(Event::TargetFailed { id, target, cause });
    }

    /// A branch's client transaction gave up (timer B or F, or our limit).
    pub(crate) fn call_timed_out(&mut self, now: Instant, handle: Handle, branch: u32) {
        self.call_branch_lost(now, handle, branch, FailureCause::Silent);
    }

    /// Nothing can be sent on a branch.
    pub(crate) fn call_unreachable(&mut self, now: Instant, handle: Handle, branch: u32) {
        self.call_branch_lost(now, handle, branch, FailureCause::Unreachable);
    }

    fn call_branch_lost(&mut self, now: Instant, handle: Handle, branch: u32, cause: FailureCause) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        let Some(found) = call.branches.get_mut(branch as usize) else { return };
        let target = found.target;
        let was = std::mem::replace(&mut found.state, BranchState::Done);
        if matches!(was, BranchState::Silent | BranchState::Ringing) && call.phase == Phase::Trying {
            self.call_target_failed(handle, target, cause, None);
        }
        self.call_try_next(now, handle);
    }

    /// A timer of the call came: a target was silent, rang too long, or the owner did not decide.
    pub(crate) fn call_wake(&mut self, now: Instant, handle: Handle) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        if call.armed.is_some_and(|armed| armed <= now) {
            call.armed = None;
        }
        match call.phase {
            Phase::Redirected { until, target, status } if until <= now => {
                call.phase = Phase::Trying;
                self.call_target_failed(handle, target, FailureCause::Answered(status), None);
            }
            Phase::Concluded { .. } | Phase::Redirected { .. } => return self.call_settle(handle),
            Phase::Trying => self.call_give_up_late(now, handle),
        }
        self.call_try_next(now, handle);
    }

    fn call_give_up_late(&mut self, now: Instant, handle: Handle) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        let mut late = Vec::new();
        for branch in &mut call.branches {
            let cause = match branch.state {
                _ if branch.until > now => continue,
                BranchState::Silent => FailureCause::Silent,
                BranchState::Ringing => FailureCause::RangTooLong,
                BranchState::GivenUp | BranchState::Done => continue,
            };
            branch.state = BranchState::GivenUp;
            late.push((branch.client, branch.target, cause));
        }
        for (client, target, cause) in late {
            self.cancel_client(now, client);
            self.call_target_failed(handle, target, cause, None);
        }
    }

    /// The caller sent CANCEL (RFC 3261 §16.10): it reaches whatever is pending. Whoever has not said anything yet
    /// is cancelled with its first provisional response.
    pub(crate) fn call_cancelled(&mut self, now: Instant, handle: Handle) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        call.is_cancelled = true;
        if matches!(call.phase, Phase::Redirected { .. }) {
            call.phase = Phase::Trying;
        }
        self.call_give_up_others(now, handle);
        // The caller has heard 200 to the CANCEL and waits for the INVITE's end. If a target should still answer
        // with 2xx, that dialog is ended by us.
        self.call_conclude(now, handle);
    }

    /// Cancels all branches that are not done.
    pub(crate) fn call_give_up_others(&mut self, now: Instant, handle: Handle) {
        let Some(call) = self.calls.at_mut(handle) else { return };
        let mut live = Vec::new();
        for branch in &mut call.branches {
            if matches!(branch.state, BranchState::Silent | BranchState::Ringing) {
                branch.state = BranchState::GivenUp;
                live.push(branch.client);
            }
        }
        for client in live {
            self.cancel_client(now, client);
        }
    }
}

/// Takes the last Record-Routes away: those that a request carried when it left us.
fn keep_record_routes_below(response: &mut Message, above: usize) {
    let all: Vec<Vec<u8>> = response.list(Name::RecordRoute).map(<[u8]>::to_vec).collect();
    let kept = all.len().saturating_sub(above);
    response.remove(Name::RecordRoute);
    for value in all.get(..kept).unwrap_or_default().iter().rev() {
        response.push_record_route(&one_line(value)).expect("it has no line ends");
    }
}

fn note_best(call: &mut Call, status: Status, target: usize, response: Option<&Message>) {
    if call.is_better(status) {
        call.best = Some(Best { status, response: response.cloned(), target });
    }
}

/// The answer to a target's challenge, if the target has credentials for it.
fn authorization(call: &Call, target: usize, response: &Message, cnonce: u64) -> Option<(Name, String)> {
    let place = call.plan.targets.get(target)?;
    let credentials = place.credentials.as_ref()?;
    digest::answer(response, credentials, call.message.method_text(), &place.uri, 1, cnonce)
}
