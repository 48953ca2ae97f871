//! What the owner does with calls, and what time does with them.

use super::accepting::Accepting;
use super::answers::{Asked, Purpose};
use super::{ALLOW, Call, CallId, Ended, State, UserAgent};
use crate::dialog::Dialog;
use crate::endpoint::EndpointError;
use crate::flow::Flow;
use crate::message::Message;
use crate::method::Method;
use crate::print::{RequestBuilder, ResponseBuilder};
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
        let found = self.call_at(call)?;
        found.dialog = Some(dialog);
        found.sdp = sdp.to_vec();
        found.accepting = Some(Accepting::new(now, timers, request, &invite, ok));
        found.state = State::Answering { sdp: invite.body().to_vec() };
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

    /// Ends a call, whatever state it is in: CANCEL, a refusal, or BYE. [`super::CallEvent::Ended`] follows: at once, or
    /// once the other side has heard what it must hear before.
    pub fn hang_up(&mut self, now: Instant, call: CallId) -> Result<(), EndpointError> {
        let found = self.call_at(call)?;
        match found.state {
            State::Calling { attempt, .. } => {
                found.is_given_up = true;
                // If nothing came back yet the CANCEL follows the first provisional response (RFC 3261 §9.1).
                self.endpoint.cancel(now, attempt);
                Ok(())
            }
            State::Ringing { .. } => {
                let busy = Status::known(486);
                self.reject(now, call, busy)
            }
            State::Answering { .. } => {
                // RFC 3261 §15: no BYE before the ACK, or before nobody waits for it any more.
                found.is_given_up = true;
                Ok(())
            }
            // A re-INVITE whose ACK is missing is no reason to wait: the BYE ends it with the call.
            State::Up => {
                self.bye(now, call, Ended::ByUs);
                Ok(())
            }
        }
    }

    pub(super) fn call_at(&mut self, call: CallId) -> Result<&mut Call, EndpointError> {
        self.calls.at_mut(call.0).ok_or(EndpointError::NotWaiting)
    }

    /// Sends a request inside a call.
    pub(super) fn ask_in(
        &mut self,
        now: Instant,
        call: CallId,
        method: Method,
        purpose: impl FnOnce(u32) -> Purpose,
        complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<(), EndpointError> {
        let found = self.call_at(call)?;
        let (way, credentials) = (found.flow, found.credentials.clone());
        let dialog = found.dialog.as_mut().ok_or(EndpointError::NotWaiting)?;
        let request = complete(dialog.request(method)).build()?;
        let number = request.cseq().map_err(|_| EndpointError::Unusable)?.number;
        let flow = self.endpoint.next_hop(&request, way);
        self.ask(now, purpose(number), request, flow, credentials)
    }

    /// Sends a request whose end is to be heard of.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        purpose: Purpose,
        request: Message,
        flow: Flow,
        credentials: Option<crate::digest::Credentials>,
    ) -> Result<(), EndpointError> {
        let attempt = self.endpoint.request(now, request.clone(), flow)?;
        self.asked.push(Asked { attempt, purpose, request, flow, credentials });
        Ok(())
    }

    /// Sends BYE and ends the call.
    pub(super) fn bye(&mut self, now: Instant, call: CallId, why: Ended) {
        // A BYE that cannot be made or sent leaves nothing to be done about it: the call is over for us.
        let _ = self.ask_in(now, call, Method::Bye, |_| Purpose::Bye, |builder| builder);
        self.end(call, why);
    }

    pub(super) fn call_deadline(&self, call: CallId) -> Option<Instant> {
        let found = self.calls.at(call.0)?;
        match found.state {
            State::Calling { until, .. } if !found.is_given_up => Some(until),
            _ => found.accepting.as_ref().map(Accepting::deadline),
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
            let Some(accepting) = &mut found.accepting else {
                // It rang for too long.
                let _ = self.hang_up(now, call);
                continue;
            };
            if accepting.is_over(now) {
                // RFC 3261 §13.3.1.4, §14.2: without an ACK the session is ended.
                let why = if found.is_given_up { Ended::ByUs } else { Ended::NotAcknowledged };
                self.bye(now, call, why);
            } else if let Some((request, ok)) = accepting.again(now, longest) {
                let _ = self.endpoint.respond(now, request, &ok);
            }
        }
    }
}
