//! What the other side asks: new calls, and what belongs to a call.

use std::sync::Arc;

use super::accepting::Accepting;
use super::{ALLOW, Call, CallEvent, CallId, Ended, State, UserAgent};
use crate::endpoint::{EndpointError, RequestId};
use crate::flow::Source;
use crate::limits::CALLS_MAX;
use crate::message::Message;
use crate::method::Method;
use crate::print::ResponseBuilder;
use crate::status::Status;
use crate::time::Instant;

/// RFC 3261 §14.2: who asks too soon comes again after up to this many seconds.
const RETRY_AFTER_MAX_S: u64 = 10;

impl UserAgent {
    pub(super) fn handle_request(
        &mut self,
        now: Instant,
        id: RequestId,
        request: &Arc<Message>,
        source: Source,
    ) {
        // What cannot be answered any more needs no answer.
        let _ = match self.call_of_dialog(request) {
            Some(call) => self.handle_in_dialog(now, call, id, request),
            None => self.handle_outside(now, id, request, source),
        };
    }

    fn call_of_dialog(&self, request: &Message) -> Option<CallId> {
        let is_it = |call: &Call| call.dialog.as_ref().is_some_and(|dialog| dialog.is_of(request));
        self.order.iter().copied().find(|call| self.calls.at(call.0).is_some_and(is_it))
    }

    fn handle_outside(
        &mut self,
        now: Instant,
        id: RequestId,
        request: &Arc<Message>,
        source: Source,
    ) -> Result<(), EndpointError> {
        let in_dialog = request.to().is_ok_and(|to| to.tag().is_some());
        match request.method() {
            _ if in_dialog => self.endpoint.reply(now, id, Status::NO_SUCH_TRANSACTION, &[]),
            Some(Method::Invite) if self.calls.len() >= CALLS_MAX => {
                self.endpoint.reply(now, id, Status::known(486), &[])
            }
            Some(Method::Invite) => {
                let state = State::Ringing { request: id };
                let call = CallId(self.calls.insert(Call::new(state, source.flow)));
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
        }
    }

    fn handle_in_dialog(
        &mut self,
        now: Instant,
        call: CallId,
        id: RequestId,
        request: &Arc<Message>,
    ) -> Result<(), EndpointError> {
        let found = self.call_at(call)?;
        let in_order = found.dialog.as_mut().is_some_and(|dialog| dialog.note_request(request));
        match request.method() {
            _ if !in_order => self.come_again(now, id),
            Some(Method::Bye) => {
                let answered = self.endpoint.reply(now, id, Status::OK, &[]);
                self.end(call, Ended::ByThem);
                answered
            }
            Some(Method::Invite | Method::Update) => self.handle_refresh(now, call, id, request),
            Some(Method::Refer) => self.handle_refer(now, call, id, request),
            Some(Method::Notify) => self.handle_notify(now, call, id, request),
            Some(Method::Info | Method::Options) => {
                let contact = format!("<{}>", self.contact);
                self.endpoint.reply(now, id, Status::OK, &[("Contact", contact.as_bytes())])
            }
            _ => self.endpoint.reply(now, id, Status::known(405), &[("Allow", ALLOW.as_bytes())]),
        }
    }

    /// A re-INVITE or UPDATE gets what was agreed before: as the answer to its offer, or, if an INVITE brings none, as
    /// our own offer (RFC 3261 §14.2, §13.2.1).
    fn handle_refresh(
        &mut self,
        now: Instant,
        call: CallId,
        id: RequestId,
        request: &Arc<Message>,
    ) -> Result<(), EndpointError> {
        let is_invite = request.method() == Some(Method::Invite);
        let has_offer = !request.body().is_empty();
        let found = self.call_at(call)?;
        match &found.accepting {
            // RFC 3261 §14.2, RFC 3311 §5.2: one offer at a time, and ours waits for its answer.
            Some(accepting) if accepting.is_offer && (is_invite || has_offer) => {
                return self.endpoint.reply(now, id, Status::known(491), &[]);
            }
            // The INVITE before is still being answered.
            Some(_) if is_invite => return self.come_again(now, id),
            _ => {}
        }
        let mut builder = ResponseBuilder::new(request, Status::OK)
            .record_routes()
            .header("Contact", format!("<{}>", self.contact))
            .header("Allow", ALLOW);
        let found = self.call_at(call)?;
        if !found.sdp.is_empty() && (is_invite || has_offer) {
            builder = builder.body("application/sdp", &found.sdp);
        }
        let ok = builder.build()?;
        self.endpoint.respond(now, id, &ok)?;
        let timers = self.endpoint.config.timers;
        let found = self.call_at(call)?;
        if let Some(dialog) = &mut found.dialog {
            dialog.refresh(request);
        }
        if is_invite {
            found.accepting = Some(Accepting::new(now, timers, id, request, ok));
        }
        Ok(())
    }

    /// A 500 with a pause that nobody can foresee, so that two who met do not meet again (RFC 3261 §14.2).
    fn come_again(&mut self, now: Instant, id: RequestId) -> Result<(), EndpointError> {
        let seconds = (self.names.next() % (RETRY_AFTER_MAX_S + 1)).to_string();
        self.endpoint.reply(now, id, Status::INTERNAL_ERROR, &[("Retry-After", seconds.as_bytes())])
    }

    pub(super) fn handle_ack(&mut self, now: Instant, request: &Message) {
        let Some(call) = self.call_of_dialog(request) else { return };
        let Ok(found) = self.call_at(call) else { return };
        if found.accepting.take_if(|accepting| accepting.is_of(request)).is_none() {
            return;
        }
        let State::Answering { sdp } = &mut found.state else { return };
        if found.is_given_up {
            return self.bye(now, call, Ended::ByUs);
        }
        let mut sdp = std::mem::take(sdp);
        if !request.body().is_empty() {
            sdp = request.body().to_vec();
        }
        found.state = State::Up;
        self.events.push_back(CallEvent::Up { call, sdp });
    }
}
