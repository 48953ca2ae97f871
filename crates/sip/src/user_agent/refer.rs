//! REFER inside calls (RFC 3515): who asked whom to call someone else, and how it goes. Each REFER makes a
//! subscription that ends with its last NOTIFY, or with the call.

use std::sync::Arc;

use super::answers::Purpose;
use super::{CallEvent, CallId, ReferId, UserAgent};
use crate::endpoint::{EndpointError, RequestId};
use crate::header::name::Name;
use crate::limits::REFERS_MAX;
use crate::message::Message;
use crate::method::Method;
use crate::scan::{Params, trim};
use crate::status::Status;
use crate::time::Instant;
use crate::transaction::RINGING_MAX;

/// A REFER of ours.
#[derive(Debug)]
pub(super) struct Referring {
    id: ReferId,
    /// Its CSeq; another one after a challenge.
    number: u32,
}

/// A REFER of theirs: its id is its CSeq.
#[derive(Debug)]
pub(super) struct Referred {
    id: ReferId,
    /// Whether NOTIFYs name it: all but the first REFER of a dialog must be named (RFC 3515 §2.4.6), and the first
    /// need not be, which older telephones understand better.
    is_named: bool,
}

impl UserAgent {
    /// Asks the other side to call someone else. [`CallEvent::ReferProgress`] tells how it goes.
    pub fn refer(&mut self, now: Instant, call: CallId, to: &str) -> Result<ReferId, EndpointError> {
        let contact = format!("<{}>", self.contact);
        let found = self.call_at(call)?;
        if found.is_given_up {
            return Err(EndpointError::NotWaiting);
        }
        if found.referring.len() >= REFERS_MAX {
            return Err(EndpointError::Full);
        }
        let mut number = 0;
        let purpose = |cseq| {
            number = cseq;
            Purpose::Refer { call, refer: ReferId(cseq) }
        };
        self.ask_in(now, call, Method::Refer, purpose, |builder| {
            builder.header("Contact", &contact).header("Refer-To", format!("<{to}>"))
        })?;
        let refer = ReferId(number);
        self.call_at(call)?.referring.push(Referring { id: refer, number });
        Ok(refer)
    }

    /// Tells the other side how it goes with what it asked for; a final status is the last.
    pub fn refer_result(
        &mut self,
        now: Instant,
        call: CallId,
        refer: ReferId,
        status: Status,
    ) -> Result<(), EndpointError> {
        let found = self.call_at(call)?;
        let is_it = |referred: &&Referred| referred.id == refer;
        let Some(referred) = found.referred.iter().find(is_it).filter(|_| !found.is_given_up) else {
            return Err(EndpointError::NotWaiting);
        };
        let event = if referred.is_named { format!("refer;id={}", refer.0) } else { "refer".to_owned() };
        let state = if status.is_final() {
            "terminated;reason=noresource".to_owned()
        } else {
            // As long as whom they want called may ring, or they would not hear of the end.
            format!("active;expires={}", RINGING_MAX.as_secs())
        };
        let body = format!("SIP/2.0 {status}\r\n");
        let contact = format!("<{}>", self.contact);
        self.ask_in(
            now,
            call,
            Method::Notify,
            |_| Purpose::Notify { call, refer },
            |builder| {
                builder
                    .header("Contact", &contact)
                    .header("Event", event)
                    .header("Subscription-State", state)
                    .body("message/sipfrag;version=2.0", body.as_bytes())
            },
        )?;
        if status.is_final() {
            self.notify_ended(call, refer);
        }
        Ok(())
    }

    /// A REFER of theirs.
    pub(super) fn handle_refer(
        &mut self,
        now: Instant,
        call: CallId,
        id: RequestId,
        request: &Arc<Message>,
    ) -> Result<(), EndpointError> {
        let contact = format!("<{}>", self.contact);
        let found = self.call_at(call)?;
        let is_named = std::mem::replace(&mut found.was_referred, true);
        let (Ok(to), Ok(cseq)) = (request.address(Name::ReferTo), request.cseq()) else {
            return self.endpoint.reply(now, id, Status::BAD_REQUEST, &[]);
        };
        if found.is_given_up || found.referred.len() >= REFERS_MAX {
            return self.endpoint.reply(now, id, Status::known(603), &[]);
        }
        let refer = ReferId(cseq.number);
        found.referred.push(Referred { id: refer, is_named });
        self.endpoint.reply(now, id, Status::known(202), &[("Contact", contact.as_bytes())])?;
        self.events.push_back(CallEvent::ReferAsked { call, refer, to: to.uri_text.to_vec() });
        self.refer_result(now, call, refer, Status::TRYING)
    }

    /// A NOTIFY, which tells of a REFER of ours or of nothing that we know.
    pub(super) fn handle_notify(
        &mut self,
        now: Instant,
        call: CallId,
        id: RequestId,
        request: &Message,
    ) -> Result<(), EndpointError> {
        let (event, params) = split_params(request.single(Name::Event).unwrap_or_default());
        if !event.eq_ignore_ascii_case(b"refer") {
            return self.endpoint.reply(now, id, Status::known(489), &[("Allow-Events", b"refer")]);
        }
        let found = self.call_at(call)?;
        // Who names none means the first one.
        let place = match params.find("id") {
            Some(name) => {
                let is_it = |one: &Referring| one.number.to_string().as_bytes() == name;
                found.referring.iter().position(is_it)
            }
            None => (!found.referring.is_empty()).then_some(0),
        };
        let Some(place) = place else {
            return self.endpoint.reply(now, id, Status::NO_SUCH_TRANSACTION, &[]);
        };
        let refer = found.referring[place].id;
        let (state, _) = split_params(request.single(Name::SubscriptionState).unwrap_or_default());
        if state.eq_ignore_ascii_case(b"terminated") {
            found.referring.remove(place);
        }
        // The body is a piece of a message: its first line is a status line.
        let text = [request.body().trim_ascii_end(), b"\r\n"].concat();
        if let Some(status) = Message::parse(&text).ok().and_then(|fragment| fragment.status()) {
            self.events.push_back(CallEvent::ReferProgress { call, refer, status });
        }
        self.endpoint.reply(now, id, Status::OK, &[])
    }

    /// Our REFER goes out again with another CSeq, by which the other side will name it.
    pub(super) fn refer_renumbered(&mut self, call: CallId, refer: ReferId, number: u32) {
        let Ok(found) = self.call_at(call) else { return };
        if let Some(one) = found.referring.iter_mut().find(|one| one.id == refer) {
            one.number = number;
        }
    }

    /// Our REFER was refused, or nobody answered it; false if nobody cares any more.
    pub(super) fn refer_failed(&mut self, call: CallId, refer: ReferId, status: Status) -> bool {
        let Ok(found) = self.call_at(call) else { return false };
        let before = found.referring.len();
        found.referring.retain(|one| one.id != refer);
        let is_known = found.referring.len() < before;
        if is_known {
            self.events.push_back(CallEvent::ReferProgress { call, refer, status });
        }
        is_known
    }

    /// No more NOTIFYs about their REFER: the last was sent, or nobody takes them.
    pub(super) fn notify_ended(&mut self, call: CallId, refer: ReferId) {
        if let Ok(found) = self.call_at(call) {
            found.referred.retain(|one| one.id != refer);
        }
    }
}

/// A word, and the parameters behind it.
fn split_params(value: &[u8]) -> (&[u8], Params<'_>) {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    (trim(&value[..end]), Params::of(&value[end..]))
}
