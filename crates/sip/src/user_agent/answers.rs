//! What the other side answers: to our INVITEs, and to what we ask inside calls. One challenge for each request is
//! answered, with the credentials of its call and for their realm (RFC 3261 §22.2).

use std::sync::Arc;

use super::{CallEvent, CallId, Ended, ReferId, State, UserAgent};
use crate::dialog::{Dialog, DialogError};
use crate::digest::{self, Credentials};
use crate::endpoint::{AttemptId, Event, RequestId};
use crate::flow::Flow;
use crate::header::name::Name;
use crate::limits::{CSEQ_MAX, TAKERS_MAX};
use crate::message::Message;
use crate::method::Method;
use crate::status::Status;
use crate::time::Instant;

/// An INVITE of ours that was taken, as long as its 2xx may come again: its ACK was lost, or several took it.
#[derive(Debug)]
pub(super) struct Taken {
    attempt: AttemptId,
    /// What the INVITE said that its ACK has to say again (RFC 3261 §13.2.2.4).
    authorization: Vec<(Name, Vec<u8>)>,
    /// Where the INVITE went.
    uri: Vec<u8>,
    way: Flow,
    credentials: Option<Credentials>,
    takers: Vec<Taker>,
    pub(super) until: Instant,
}

/// One who took it: the tag, and the ACK that is sent as often as the 2xx comes.
#[derive(Debug)]
struct Taker {
    tag: Vec<u8>,
    ack: Option<Message>,
    flow: Flow,
}

/// A request of ours inside a dialog, until its end is known. A BYE outlives its call, so all that another attempt
/// needs stands here.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) attempt: AttemptId,
    pub(super) purpose: Purpose,
    /// Without a Via.
    pub(super) request: Message,
    pub(super) flow: Flow,
    /// Until they are used.
    pub(super) credentials: Option<Credentials>,
}

/// What a request was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Bye,
    Refer { call: CallId, refer: ReferId },
    Notify { call: CallId, refer: ReferId },
}

impl UserAgent {
    pub(super) fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Request { id, request, source } => self.handle_request(now, id, &request, source),
            Event::Cancelled { id } => {
                if let Some(call) = self.call_of_request(id) {
                    self.end(call, Ended::ByThem);
                }
            }
            Event::Ack { request, .. } => self.handle_ack(now, &request),
            Event::Response { id, response } => self.handle_response(now, id, response),
            Event::TimedOut { id } => self.handle_silence(id),
            Event::RequestLost { id } => {
                if let Some(call) = self.call_of_request(id) {
                    self.end(call, Ended::NotAcknowledged);
                }
            }
            other => self.events.push_back(CallEvent::Other(other)),
        }
    }

    fn call_of_request(&self, id: RequestId) -> Option<CallId> {
        let is_it = |state: &State| matches!(state, State::Ringing { request } if *request == id);
        self.order.iter().copied().find(|call| self.calls.at(call.0).is_some_and(|found| is_it(&found.state)))
    }

    fn call_of_attempt(&self, id: AttemptId) -> Option<CallId> {
        let is_it = |state: &State| matches!(state, State::Calling { attempt, .. } if *attempt == id);
        self.order.iter().copied().find(|call| self.calls.at(call.0).is_some_and(|found| is_it(&found.state)))
    }

    fn handle_response(&mut self, now: Instant, id: AttemptId, response: Arc<Message>) {
        let Some(status) = response.status() else { return };
        if let Some(call) = self.call_of_attempt(id) {
            return self.handle_invite_response(now, call, id, status, &response);
        }
        if let Some(place) = self.taken.iter().position(|taken| taken.attempt == id) {
            return self.taken_again(now, place, &response);
        }
        if let Some(place) = self.asked.iter().position(|asked| asked.attempt == id)
            && self.handle_asked_response(now, place, status, &response)
        {
            return;
        }
        self.events.push_back(CallEvent::Other(Event::Response { id, response }));
    }

    fn handle_silence(&mut self, id: AttemptId) {
        if let Some(call) = self.call_of_attempt(id) {
            return self.end(call, Ended::TimedOut);
        }
        if let Some(place) = self.asked.iter().position(|asked| asked.attempt == id) {
            let purpose = self.asked.swap_remove(place).purpose;
            // RFC 3261 §8.1.3.1: silence is a 408.
            if self.asked_failed(purpose, Status::REQUEST_TIMEOUT) {
                return;
            }
        }
        self.events.push_back(CallEvent::Other(Event::TimedOut { id }));
    }

    /// An answer to a first INVITE.
    fn handle_invite_response(
        &mut self,
        now: Instant,
        call: CallId,
        id: AttemptId,
        status: Status,
        response: &Message,
    ) {
        let timers = self.endpoint.config.timers;
        let cnonce = self.names.next();
        let Ok(found) = self.call_at(call) else { return };
        let State::Calling { invite, .. } = &found.state else { return };
        let is_given_up = found.is_given_up;
        if status.is_provisional() {
            if is_given_up {
                self.endpoint.cancel(now, id);
            } else if status != Status::TRYING {
                self.events.push_back(CallEvent::Ringing { call, status });
            }
            return;
        }
        if status.is_success() {
            let taken = Taken::of(now, id, invite, found, timers);
            return self.taken_first(now, call, taken, response);
        }
        if is_given_up {
            // A call that nobody wants any more is not placed again for a challenge.
            return self.end(call, Ended::ByUs);
        }
        let credentials = found.credentials.as_ref().filter(|_| !found.has_authenticated);
        let number = invite.cseq().ok().and_then(|cseq| above(cseq.number));
        let next = credentials.zip(number).and_then(|(credentials, number)| {
            with_credentials(invite, response, credentials, number, cnonce)
        });
        let Some(next) = next else { return self.end(call, Ended::Refused(status)) };
        found.has_authenticated = true;
        let way = found.flow;
        let Ok(again) = self.endpoint.request(now, next.clone(), way) else {
            return self.end(call, Ended::Refused(status));
        };
        if let Ok(found) = self.call_at(call)
            && let State::Calling { attempt, invite, .. } = &mut found.state
        {
            *attempt = again;
            *invite = next;
        }
    }

    /// The first 2xx makes the call.
    fn taken_first(&mut self, now: Instant, call: CallId, taken: Taken, response: &Message) {
        self.taken.push(taken);
        let accepted = self.accept(self.taken.len() - 1, response);
        let Ok(found) = self.call_at(call) else { return };
        match accepted {
            Ok(Accepted { dialog, is_usable: true, .. }) if !found.is_given_up => {
                found.dialog = Some(dialog);
                found.state = State::Up;
                self.events.push_back(CallEvent::Up { call, sdp: response.body().to_vec() });
            }
            // Either it crossed our CANCEL, or nothing can be asked of the other side: it was taken, and is ended.
            accepted => {
                let unusable = Ended::Refused(Status::known(502));
                let why = if found.is_given_up { Ended::ByUs } else { unusable };
                let credentials = found.credentials.clone();
                if let Ok(accepted) = accepted {
                    self.say_goodbye(now, accepted, credentials);
                }
                self.end(call, why);
            }
        }
    }

    /// The 2xx came again, so the ACK was lost; or someone else took the call that somebody has already.
    fn taken_again(&mut self, now: Instant, place: usize, response: &Message) {
        if !response.status().is_some_and(Status::is_success) {
            return;
        }
        let taken = &self.taken[place];
        let tag = tag_of(response);
        if let Some(taker) = taken.takers.iter().position(|taker| taker.tag == tag) {
            return self.acknowledge(place, taker);
        }
        if taken.takers.len() >= TAKERS_MAX {
            return;
        }
        let credentials = taken.credentials.clone();
        if let Ok(accepted) = self.accept(place, response) {
            self.say_goodbye(now, accepted, credentials);
        }
    }

    /// Thanks someone who takes a call.
    fn accept(&mut self, place: usize, response: &Message) -> Result<Accepted, DialogError> {
        let taken = &self.taken[place];
        let (dialog, is_usable) = match Dialog::from_answer(response) {
            Ok(dialog) => (dialog, true),
            Err(_) => (Dialog::from_answer_of(response, &taken.uri)?, false),
        };
        let ack = taken.ack_for(&dialog);
        // Who does not say where it is and by which proxies is reached as it was before.
        let is_new_way = |ack: &&Message| is_usable || ack.routes().next().is_some();
        let new_way = ack.as_ref().filter(is_new_way).map(|ack| self.endpoint.next_hop(ack, taken.way));
        let flow = new_way.unwrap_or(taken.way);
        let taken = &mut self.taken[place];
        taken.takers.push(Taker { tag: tag_of(response).to_vec(), ack, flow });
        let taker = taken.takers.len() - 1;
        self.acknowledge(place, taker);
        Ok(Accepted { dialog, is_usable, flow })
    }

    fn acknowledge(&mut self, place: usize, taker: usize) {
        let Taker { ack: Some(ack), flow, .. } = &self.taken[place].takers[taker] else { return };
        // The ACK is sent again when the 2xx comes again; nothing is lost with this one.
        let _ = self.endpoint.send(ack.clone(), *flow);
    }

    fn say_goodbye(&mut self, now: Instant, accepted: Accepted, credentials: Option<Credentials>) {
        let Accepted { mut dialog, flow, .. } = accepted;
        if let Ok(bye) = dialog.request(Method::Bye).build() {
            // If there is no room for it the other side ends by itself.
            let _ = self.ask(now, Purpose::Bye, bye, flow, credentials);
        }
    }

    /// An answer to a request inside a call; false if it is to be told as it is.
    fn handle_asked_response(
        &mut self,
        now: Instant,
        place: usize,
        status: Status,
        response: &Message,
    ) -> bool {
        let is_refer = matches!(self.asked[place].purpose, Purpose::Refer { .. });
        if status.is_provisional() {
            return is_refer;
        }
        let mut asked = self.asked.swap_remove(place);
        let purpose = asked.purpose;
        if let Some((request, number)) = self.asked_again(&mut asked, response)
            && self.ask(now, purpose, request, asked.flow, None).is_ok()
        {
            if let Purpose::Refer { call, refer } = purpose {
                self.refer_renumbered(call, refer, number);
            }
            return true;
        }
        if status.is_success() { is_refer } else { self.asked_failed(purpose, status) }
    }

    /// The request again, if the answer is a challenge that we can meet, and its CSeq.
    fn asked_again(&mut self, asked: &mut Asked, response: &Message) -> Option<(Message, u32)> {
        // Once.
        let credentials = asked.credentials.take()?;
        let number = match asked.purpose {
            // Nothing followed it, and its call is gone.
            Purpose::Bye => above(asked.request.cseq().ok()?.number)?,
            Purpose::Refer { call, .. } | Purpose::Notify { call, .. } => {
                self.call_at(call).ok()?.dialog.as_mut()?.next_number()
            }
        };
        let cnonce = self.names.next();
        Some((with_credentials(&asked.request, response, &credentials, number, cnonce)?, number))
    }

    /// A request of ours inside a call came to nothing; false if that is to be told as it is.
    fn asked_failed(&mut self, purpose: Purpose, status: Status) -> bool {
        match purpose {
            Purpose::Bye => false,
            Purpose::Refer { call, refer } => self.refer_failed(call, refer, status),
            Purpose::Notify { call, refer } => {
                // RFC 6665 §4.2.2: nobody is subscribed any more.
                if matches!(status.code(), 408 | 481 | 489) {
                    self.notify_ended(call, refer);
                }
                false
            }
        }
    }
}

/// What a 2xx makes.
struct Accepted {
    dialog: Dialog,
    /// Whether the other side said where it is reached. If not, it is said goodbye to where the INVITE went.
    is_usable: bool,
    /// The way to it.
    flow: Flow,
}

impl Taken {
    fn of(
        now: Instant,
        attempt: AttemptId,
        invite: &Message,
        call: &super::Call,
        timers: crate::transaction::Timers,
    ) -> Taken {
        let names = [Name::Authorization, Name::ProxyAuthorization];
        let lines =
            names.into_iter().flat_map(|name| invite.lines(name).map(move |value| (name, value.to_vec())));
        Taken {
            attempt,
            authorization: lines.collect(),
            uri: invite.uri_text().to_vec(),
            way: call.flow,
            credentials: call.credentials.clone(),
            takers: Vec::new(),
            // Timer M, and a moment.
            until: now + timers.patience() + timers.t1,
        }
    }

    /// The ACK, with the same credentials as the INVITE.
    fn ack_for(&self, dialog: &Dialog) -> Option<Message> {
        let mut ack = dialog.ack().ok()?;
        for (name, value) in &self.authorization {
            ack.add(name.as_str(), value).ok()?;
        }
        Some(ack)
    }
}

fn tag_of(response: &Message) -> &[u8] {
    response.to().ok().and_then(|to| to.tag()).unwrap_or_default()
}

/// The next CSeq number, if there is one.
fn above(number: u32) -> Option<u32> {
    number.checked_add(1).filter(|number| *number <= CSEQ_MAX)
}

/// The request again, with this CSeq number and credentials for the challenge (RFC 3261 §22.2).
fn with_credentials(
    request: &Message,
    response: &Message,
    credentials: &Credentials,
    number: u32,
    cnonce: u64,
) -> Option<Message> {
    let method = request.method_text();
    let (name, value) = digest::answer(response, credentials, method, request.uri_text(), 1, cnonce)?;
    let mut next = request.clone();
    next.set(name, value.as_bytes()).ok()?;
    let cseq = [number.to_string().as_bytes(), b" ", method].concat();
    next.set(Name::CSeq, &cseq).ok()?;
    Some(next)
}
