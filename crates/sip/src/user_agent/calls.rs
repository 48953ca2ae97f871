//! What happens in calls: answers to ours, requests of theirs, time.

use std::sync::Arc;

use super::{ALLOW, Call, CallEvent, CallId, Ended, State, UserAgent};
use crate::dialog::Dialog;
use crate::digest;
use crate::endpoint::{AttemptId, EndpointError, Event, RequestId};
use crate::flow::{Flow, Source};
use crate::header::name::Name;
use crate::limits::CALLS_MAX;
use crate::message::Message;
use crate::method::Method;
use crate::print::ResponseBuilder;
use crate::status::Status;
use crate::time::Instant;

impl UserAgent {
    /// Tells the caller that it rings.
    pub fn ring(&mut self, now: Instant, call: CallId) -> Result<(), EndpointError> {
        let State::Ringing { request } = self.call_at(call)?.state else {
            return Err(EndpointError::NotWaiting);
        };
        let contact = format!("<{}>", self.contact);
        self.endpoint.reply(now, request, Status::RINGING, &[("Contact", contact.as_bytes())])
    }

    /// Takes a call.
    pub fn answer(&mut self, now: Instant, call: CallId, sdp: &[u8]) -> Result<(), EndpointError> {
        let State::Ringing { request } = self.call_at(call)?.state else {
            return Err(EndpointError::NotWaiting);
        };
        let invite = self.endpoint.waiting(request)?;
        let tag = self.endpoint.to_tag(request);
        let dialog = Dialog::from_request(&invite, &tag).map_err(|_| EndpointError::Unusable)?;
        let mut builder = ResponseBuilder::new(&invite, Status::OK)
            .to_tag(&tag)
            .record_routes()
            .header("Contact", format!("<{}>", self.contact))
            .header("Allow", ALLOW);
        if !sdp.is_empty() {
            builder = builder.body("application/sdp", sdp);
        }
        let ok = builder.build()?;
        self.endpoint.respond(now, request, &ok)?;
        let timers = self.endpoint.config.timers;
        let theirs = invite.body().to_vec();
        let found = self.call_at(call)?;
        found.dialog = Some(dialog);
        found.sdp = sdp.to_vec();
        found.state = State::Answering {
            request,
            ok,
            again_at: now + timers.t1,
            pause: timers.t1,
            until: now + timers.patience(),
            sdp: theirs,
        };
        Ok(())
    }

    /// Refuses a call.
    pub fn reject(&mut self, now: Instant, call: CallId, status: Status) -> Result<(), EndpointError> {
        let State::Ringing { request } = self.call_at(call)?.state else {
            return Err(EndpointError::NotWaiting);
        };
        self.endpoint.reply(now, request, status, &[])?;
        self.end(call, Ended::ByUs);
        Ok(())
    }

    /// Ends a call, whatever state it is in: CANCEL, a refusal, or BYE.
    pub fn hang_up(&mut self, now: Instant, call: CallId) -> Result<(), EndpointError> {
        let found = self.call_at(call)?;
        match &mut found.state {
            State::Calling { attempt, is_given_up, .. } => {
                let attempt = *attempt;
                *is_given_up = true;
                // If nothing came back yet the CANCEL follows the first provisional response (RFC 3261 §9.1).
                self.endpoint.cancel(now, attempt);
                Ok(())
            }
            State::Ringing { .. } => {
                let busy = Status::known(486);
                self.reject(now, call, busy)
            }
            State::Answering { .. } | State::Up => {
                // A BYE that cannot be made or sent leaves nothing to be done about it: the call is over for us.
                let _ = self.bye(now, call);
                self.end(call, Ended::ByUs);
                Ok(())
            }
        }
    }

    /// Asks the other side to call someone else (RFC 3515).
    pub fn refer(&mut self, now: Instant, call: CallId, to: &str) -> Result<(), EndpointError> {
        let contact = format!("<{}>", self.contact);
        let (flow, request) = self.in_dialog(call, Method::Refer, |builder| {
            builder.header("Contact", &contact).header("Refer-To", format!("<{to}>"))
        })?;
        let attempt = self.endpoint.request(now, request, flow)?;
        self.call_at(call)?.refer = Some(attempt);
        Ok(())
    }

    /// Tells the other side how it goes with what it asked for; a final status ends the subscription.
    pub fn refer_result(&mut self, now: Instant, call: CallId, status: Status) -> Result<(), EndpointError> {
        let state = if status.is_final() { "terminated;reason=noresource" } else { "active;expires=60" };
        let body = format!("SIP/2.0 {status}\r\n");
        let contact = format!("<{}>", self.contact);
        let (flow, request) = self.in_dialog(call, Method::Notify, |builder| {
            builder
                .header("Contact", &contact)
                .header("Event", "refer")
                .header("Subscription-State", state)
                .body("message/sipfrag;version=2.0", body.as_bytes())
        })?;
        self.endpoint.request(now, request, flow)?;
        Ok(())
    }

    fn call_at(&mut self, call: CallId) -> Result<&mut Call, EndpointError> {
        self.calls.at_mut(call.0).ok_or(EndpointError::NotWaiting)
    }

    fn in_dialog(
        &mut self,
        call: CallId,
        method: Method,
        complete: impl FnOnce(crate::RequestBuilder) -> crate::RequestBuilder,
    ) -> Result<(Flow, Message), EndpointError> {
        let found = self.call_at(call)?;
        let flow = found.flow;
        let dialog = found.dialog.as_mut().ok_or(EndpointError::NotWaiting)?;
        let request = complete(dialog.request(method)).build()?;
        Ok((self.endpoint.next_hop(&request, flow), request))
    }

    fn bye(&mut self, now: Instant, call: CallId) -> Result<(), EndpointError> {
        let (flow, request) = self.in_dialog(call, Method::Bye, |builder| builder)?;
        self.endpoint.request(now, request, flow)?;
        Ok(())
    }

    pub(super) fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Request { id, request, source } => self.handle_request(now, id, &request, source),
            Event::Cancelled { id } => {
                if let Some(call) = self.call_of_request(id) {
                    self.end(call, Ended::ByThem);
                }
            }
            Event::Ack { request, .. } => self.handle_ack(&request),
            Event::Response { id, response } => self.handle_response(now, id, &response),
            Event::TimedOut { id } => match self.call_of_attempt(id) {
                Some(call) => self.end(call, Ended::TimedOut),
                None => self.events.push_back(CallEvent::Other(Event::TimedOut { id })),
            },
            Event::RequestLost { id } => {
                if let Some(call) = self.call_of_request(id) {
                    self.end(call, Ended::NotAcknowledged);
                }
            }
            other => self.events.push_back(CallEvent::Other(other)),
        }
    }

    fn call_of_request(&self, id: RequestId) -> Option<CallId> {
        let is_it = |call: &Call| matches!(call.state, State::Ringing { request } if request == id);
        self.order.iter().copied().find(|call| self.calls.at(call.0).is_some_and(is_it))
    }

    fn call_of_attempt(&self, id: AttemptId) -> Option<CallId> {
        let is_it = |call: &Call| matches!(call.state, State::Calling { attempt, .. } if attempt == id);
        self.order.iter().copied().find(|call| self.calls.at(call.0).is_some_and(is_it))
    }

    fn call_of_dialog(&self, request: &Message) -> Option<CallId> {
        let is_it = |call: &Call| call.dialog.as_ref().is_some_and(|dialog| dialog.is_of(request));
        self.order.iter().copied().find(|call| self.calls.at(call.0).is_some_and(is_it))
    }

    fn handle_request(&mut self, now: Instant, id: RequestId, request: &Arc<Message>, source: Source) {
        if let Some(call) = self.call_of_dialog(request) {
            return self.handle_in_dialog(now, call, id, request);
        }
        let in_dialog = request.to().is_ok_and(|to| to.tag().is_some());
        // What cannot be answered any more needs no answer.
        let _ = match request.method() {
            _ if in_dialog => self.endpoint.reply(now, id, Status::NO_SUCH_TRANSACTION, &[]),
            Some(Method::Invite) if self.calls.len() >= CALLS_MAX => {
                self.endpoint.reply(now, id, Status::known(486), &[])
            }
            Some(Method::Invite) => {
                let call = CallId(self.calls.insert(Call {
                    state: State::Ringing { request: id },
                    flow: source.flow,
                    sdp: Vec::new(),
                    credentials: None,
                    has_authenticated: false,
                    dialog: None,
                    refer: None,
                }));
                self.order.push(call);
                self.events.push_back(CallEvent::Incoming { call, request: Arc::clone(request) });
                Ok(())
            }
            Some(Method::Options) => {
                let headers: [(&str, &[u8]); 2] =
                    [("Allow", ALLOW.as_bytes()), ("Accept", b"application/sdp")];
                self.endpoint.reply(now, id, Status::OK, &headers)
            }
            Some(Method::Bye | Method::Update | Method::Info | Method::Notify | Method::Refer) => {
                self.endpoint.reply(now, id, Status::NO_SUCH_TRANSACTION, &[])
            }
            _ => self.endpoint.reply(now, id, Status::known(405), &[("Allow", ALLOW.as_bytes())]),
        };
    }

    fn handle_in_dialog(&mut self, now: Instant, call: CallId, id: RequestId, request: &Arc<Message>) {
        let Ok(found) = self.call_at(call) else { return };
        let in_order = found.dialog.as_mut().is_some_and(|dialog| dialog.note_request(request));
        let sdp = found.sdp.clone();
        let contact = format!("<{}>", self.contact);
        let headers: [(&str, &[u8]); 1] = [("Contact", contact.as_bytes())];
        let _ = match request.method() {
            _ if !in_order => self.endpoint.reply(now, id, Status::INTERNAL_ERROR, &[("Retry-After", b"1")]),
            Some(Method::Bye) => {
                let answered = self.endpoint.reply(now, id, Status::OK, &[]);
                self.end(call, Ended::ByThem);
                answered
            }
            // A re-INVITE or UPDATE gets what was agreed before.
            Some(Method::Invite | Method::Update) => {
                let mut builder = ResponseBuilder::new(request, Status::OK)
                    .record_routes()
                    .header("Contact", &contact)
                    .header("Allow", ALLOW);
                if !sdp.is_empty() && !request.body().is_empty() {
                    builder = builder.body("application/sdp", &sdp);
                }
                match builder.build() {
                    Ok(ok) => self.endpoint.respond(now, id, &ok),
                    Err(error) => Err(error.into()),
                }
            }
            Some(Method::Refer) => match request.address(Name::ReferTo).map(|to| to.uri_text.to_vec()) {
                Ok(to) => {
                    let answered = self.endpoint.reply(now, id, Status::known(202), &headers);
                    self.events.push_back(CallEvent::ReferAsked { call, to });
                    answered.and_then(|()| self.refer_result(now, call, Status::TRYING))
                }
                Err(_) => self.endpoint.reply(now, id, Status::BAD_REQUEST, &[]),
            },
            Some(Method::Notify) => {
                // The body is a piece of a message: its first line is a status line.
                let text = [request.body().trim_ascii_end(), b"\r\n"].concat();
                if let Some(status) = Message::parse(&text).ok().and_then(|fragment| fragment.status()) {
                    self.events.push_back(CallEvent::ReferProgress { call, status });
                }
                self.endpoint.reply(now, id, Status::OK, &[])
            }
            Some(Method::Info | Method::Options) => self.endpoint.reply(now, id, Status::OK, &headers),
            _ => self.endpoint.reply(now, id, Status::known(405), &[("Allow", ALLOW.as_bytes())]),
        };
    }

    fn handle_ack(&mut self, request: &Message) {
        let Some(call) = self.call_of_dialog(request) else { return };
        let Ok(found) = self.call_at(call) else { return };
        if let State::Answering { sdp, .. } = &mut found.state {
            let mut sdp = std::mem::take(sdp);
            if !request.body().is_empty() {
                sdp = request.body().to_vec();
            }
            found.state = State::Up;
            self.events.push_back(CallEvent::Up { call, sdp });
        }
    }

    fn handle_response(&mut self, now: Instant, id: AttemptId, response: &Arc<Message>) {
        let Some(status) = response.status() else { return };
        let Some(call) = self.call_of_attempt(id) else {
            return self.handle_other_response(now, id, status, response);
        };
        let cnonce = self.names.next();
        let Ok(found) = self.call_at(call) else { return };
        let State::Calling { invite, is_given_up, .. } = &found.state else { return };
        let is_given_up = *is_given_up;
        if status.is_provisional() {
            if is_given_up {
                self.endpoint.cancel(now, id);
            } else if status != Status::TRYING {
                self.events.push_back(CallEvent::Ringing { call, status });
            }
        } else if status.is_success() {
            self.answered(now, call, response, is_given_up);
        } else if let Some(next) = Self::with_credentials(found, response, invite, cnonce) {
            found.has_authenticated = true;
            let flow = found.flow;
            match self.endpoint.request(now, next.clone(), flow) {
                Ok(attempt) => {
                    if let Ok(found) = self.call_at(call)
                        && let State::Calling { attempt: old, invite, .. } = &mut found.state
                    {
                        *old = attempt;
                        *invite = next;
                    }
                }
                Err(_) => self.end(call, Ended::Refused(status)),
            }
        } else {
            self.end(call, if is_given_up { Ended::ByUs } else { Ended::Refused(status) });
        }
    }

    /// The INVITE again with credentials and a higher CSeq (RFC 3261 §22.2), once.
    fn with_credentials(call: &Call, response: &Message, invite: &Message, cnonce: u64) -> Option<Message> {
        let credentials = call.credentials.as_ref().filter(|_| !call.has_authenticated)?;
        let (name, value) = digest::answer(response, credentials, b"INVITE", invite.uri_text(), 1, cnonce)?;
        let number = invite.cseq().ok()?.number.checked_add(1)?;
        let mut next = invite.clone();
        next.set(name, value.as_bytes()).ok()?;
        next.set(Name::CSeq, format!("{number} INVITE").as_bytes()).ok()?;
        Some(next)
    }

    fn answered(&mut self, now: Instant, call: CallId, response: &Message, is_given_up: bool) {
        let Ok(dialog) = Dialog::from_answer(response) else {
            return self.end(call, Ended::Refused(Status::known(502)));
        };
        let Ok(found) = self.call_at(call) else { return };
        let flow = found.flow;
        found.dialog = Some(dialog);
        found.state = State::Up;
        self.acknowledge(call, flow);
        if is_given_up {
            // It crossed our CANCEL: it was taken, and is ended.
            let _ = self.bye(now, call);
            return self.end(call, Ended::ByUs);
        }
        self.events.push_back(CallEvent::Up { call, sdp: response.body().to_vec() });
    }

    fn acknowledge(&mut self, call: CallId, flow: Flow) {
        let ack = self.calls.at(call.0).and_then(|found| found.dialog.as_ref()?.ack().ok());
        if let Some(ack) = ack {
            let flow = self.endpoint.next_hop(&ack, flow);
            // The ACK is sent again when the 2xx comes again; nothing is lost with this one.
            let _ = self.endpoint.send(ack, flow);
        }
    }

    /// An answer to something else than a first INVITE.
    fn handle_other_response(
        &mut self,
        now: Instant,
        id: AttemptId,
        status: Status,
        response: &Arc<Message>,
    ) {
        let refers = |call: &CallId| self.calls.at(call.0).is_some_and(|found| found.refer == Some(id));
        if let Some(call) = self.order.iter().copied().find(refers) {
            if status.is_final() && !status.is_success() {
                self.events.push_back(CallEvent::ReferProgress { call, status });
            }
            return;
        }
        let is_invite = response.cseq().is_ok_and(|cseq| cseq.method == Method::Invite);
        if is_invite && status.is_success() {
            // The 2xx came again, so the ACK was lost; or another callee answered a call that has one already.
            let Ok(dialog) = Dialog::from_answer(response) else { return };
            let same = |call: &CallId| {
                self.calls.at(call.0).is_some_and(|found| {
                    found.dialog.as_ref().is_some_and(|own| own.call_id() == dialog.call_id())
                })
            };
            let known = self.order.iter().copied().find(same);
            let Some(call) = known else { return };
            let flow = self.calls.at(call.0).map(|found| found.flow);
            let Some(flow) = flow else { return };
            let is_same = self
                .calls
                .at(call.0)
                .is_some_and(|found| found.dialog.as_ref().is_some_and(|own| own.is_same_dialog(&dialog)));
            if is_same {
                return self.acknowledge(call, flow);
            }
            let mut other = dialog;
            if let Ok(ack) = other.ack() {
                let flow = self.endpoint.next_hop(&ack, flow);
                let _ = self.endpoint.send(ack, flow);
            }
            if let Ok(bye) = other.request(Method::Bye).build() {
                let flow = self.endpoint.next_hop(&bye, flow);
                let _ = self.endpoint.request(now, bye, flow);
            }
            return;
        }
        self.events.push_back(CallEvent::Other(Event::Response { id, response: Arc::clone(response) }));
    }

    pub(super) fn call_deadline(&self, call: CallId) -> Option<Instant> {
        match &self.calls.at(call.0)?.state {
            State::Calling { until, is_given_up: false, .. } => Some(*until),
            State::Answering { again_at, until, .. } => Some((*again_at).min(*until)),
            _ => None,
        }
    }

    pub(super) fn wake_calls(&mut self, now: Instant) {
        let due: Vec<CallId> = self
            .order
            .iter()
            .copied()
            .filter(|call| self.call_deadline(*call).is_some_and(|deadline| deadline <= now))
            .collect();
        let longest = self.endpoint.config.timers.t2;
        for call in due {
            let Ok(found) = self.call_at(call) else { continue };
            match &mut found.state {
                State::Calling { .. } => {
                    let _ = self.hang_up(now, call);
                }
                State::Answering { until, .. } if *until <= now => {
                    // RFC 3261 §13.3.1.4: without an ACK the session is ended.
                    let _ = self.bye(now, call);
                    self.end(call, Ended::NotAcknowledged);
                }
                State::Answering { request, ok, again_at, pause, .. } => {
                    let (request, ok) = (*request, ok.clone());
                    *pause = (*pause * 2).min(longest);
                    *again_at = now + *pause;
                    let _ = self.endpoint.respond(now, request, &ok);
                }
                State::Ringing { .. } | State::Up => {}
            }
        }
    }
}
