//! What comes in, sorted: retransmissions to their transactions, what is in a dialog onward, the rest to whoever
//! decides. The order matters: what costs least is done first.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use arrayvec::ArrayString;

use super::machines::{Turned, reply_flow};
use super::stateless::Onward;
use super::{AttemptId, Endpoint, Event, RequestId};
use crate::flow::Source;
use crate::header::name::Name;
use crate::header::via::Via;
use crate::message::Message;
use crate::method::Method;
use crate::print::ResponseBuilder;
use crate::proxy::branch::{Below, is_stateless};
use crate::status::Status;
use crate::time::Instant;
use crate::transaction::{Input, Machine, Notice, Owner};
use crate::validate::{
    Refusal, Rules, check_proxy_require, check_request_from, check_require, read_response,
};

/// What is asked about a request more than once, read once as it came.
struct Facts {
    merge_key: Option<u128>,
    in_dialog: bool,
    is_loop: bool,
    /// If its first Route names us.
    onward: Option<Onward>,
}

impl Endpoint {
    pub(super) fn handle_request(&mut self, now: Instant, source: Source, request: &mut Message) {
        let (Some(method), Ok(via)) = (request.method(), request.via_top()) else {
            // Without a Via that can be read there is no transaction. A known peer is told, at the address it sent
            // from, what is wrong with it; others are not worth an answer.
            self.statistics.unusable += 1;
            if source.is_known && request.lines(Name::Via).next().is_some() {
                self.answer_without_state(source, request, &refusal(400, "Invalid Via Header"));
            }
            return;
        };
        // Whoever keeps no state has nothing to look for.
        let key = if self.by_key.is_empty() { None } else { self.keys.server(request, &via, method).ok() };
        if let Some(key) = key
            && let Some(&handle) = self.by_key.get(&key)
            && self.repeat(now, handle, method)
        {
            return;
        }
        let rules = Rules { methods: self.config.methods, proxy_extensions: &self.config.proxy_extensions };
        let is_stateless =
            self.config.keeps_no_state && matches!(method, Method::Invite | Method::Cancel | Method::Ack);
        // What is noted in the Via below is not what is asked here, so all can be read before.
        let note = SourceNote::of(&via, source);
        let facts = check_request_from(request, via, &rules).map(|checked| {
            let read = &checked.essentials;
            Facts {
                merge_key: if is_stateless { None } else { self.keys.merge(request.uri_text(), read) },
                in_dialog: read.to.tag().is_some(),
                is_loop: self.branches.is_loop(request, read, |via| self.is_our_via(via)),
                onward: self.onward(source, request, &checked, &note),
            }
        });
        note.write(request);
        let mut facts = match facts {
            Err(refusal) => return self.refuse(source, request, &refusal),
            Ok(facts) => facts,
        };
        request.cut_to_content_length();
        if facts.is_loop {
            return self.refuse(source, request, &refusal(482, "Loop Detected"));
        }
        if let Err(refusal) = check_proxy_require(request, &rules) {
            return self.refuse(source, request, &refusal);
        }
        if let Some(onward) = facts.onward.take()
            && self.forward_in_dialog(source, request, onward)
        {
            return;
        }
        if is_stateless {
            let request = Arc::new(std::mem::take(request));
            return self.tell(Event::Stateless { request, source });
        }
        let key = key.or_else(|| self.keys.server(request, &request.via_top().ok()?, method).ok());
        let Some(key) = key else {
            self.statistics.unusable += 1;
            return;
        };
        match method {
            Method::Ack => self.handle_ack(source, request, key),
            Method::Cancel => self.handle_cancel(now, source, request),
            _ => self.begin(now, source, request, key, &facts),
        }
    }

    /// A request whose transaction is known; false if it is none of that transaction's business after all.
    fn repeat(&mut self, now: Instant, handle: crate::slab::Handle, method: Method) -> bool {
        let Some(transaction) = self.transactions.at(handle) else { return false };
        match (&transaction.machine, method) {
            // An ACK for a 2xx is a request of its own that only shares an old caller's branch.
            (Machine::ServerInvite(machine), Method::Ack) => {
                if !machine.takes_ack() {
                    return false;
                }
                self.run(now, handle, Input::Ack);
                true
            }
            (Machine::ServerInvite(_) | Machine::Server(_), _) => {
                // A forged repetition could only make us repeat ourselves to the true sender.
                self.statistics.repeated += 1;
                self.run(now, handle, Input::Again);
                true
            }
            _ => false,
        }
    }

    fn handle_ack(&mut self, source: Source, request: &Message, key: u128) {
        // The ACK for an answer that we gave without state carries the tag that we gave then.
        let is_for_refusal = request.to().is_ok_and(|to| to.tag() == Some(&self.tag_of(key)[..]));
        if !is_for_refusal {
            self.tell(Event::Ack { request: Arc::new(request.clone()), source });
        }
    }

    /// RFC 3261 §9.2, §16.10.
    fn handle_cancel(&mut self, now: Instant, source: Source, request: &Message) {
        let Ok(via) = request.via_top() else { return };
        let key = self.keys.server(request, &via, Method::Invite).ok();
        let invite = key.and_then(|key| self.by_key.get(&key).copied());
        let Some(transaction) = invite.and_then(|handle| self.transactions.at(handle)) else {
            return self.refuse(source, request, &refusal(481, "Call/Transaction Does Not Exist"));
        };
        let Some(handle) = invite else { return };
        // Only from where the INVITE came: a Via can be copied.
        if transaction.flow.remote.ip() != source.flow.remote.ip() {
            return self.refuse(source, request, &refusal(481, "Call/Transaction Does Not Exist"));
        }
        let waits = match &transaction.machine {
            Machine::ServerInvite(machine) => !machine.is_answered(),
            _ => false,
        };
        let tag = self.tag_of(transaction.key);
        if let Ok(ok) = ResponseBuilder::new(request, Status::OK).to_tag(&tag).build_bytes() {
            self.transmit(reply_flow(&via, source.flow), ok);
        }
        if !waits {
            return;
        }
        if let Some(call) = self.call_of.get(&handle).copied() {
            self.call_cancelled(now, call);
        } else {
            let id = RequestId(handle);
            if self.reply(now, id, Status::REQUEST_TERMINATED, &[]).is_ok() {
                self.tell(Event::Cancelled { id });
            }
        }
    }

    /// A new transaction, if there is room.
    fn begin(&mut self, now: Instant, source: Source, request: &mut Message, key: u128, facts: &Facts) {
        if !facts.in_dialog && self.is_nearly_full() {
            self.statistics.shed += 1;
            return self.shed(source, request);
        }
        if let Some(extensions) = &self.config.extensions
            && let Err(refusal) = check_require(request, extensions)
        {
            return self.refuse(source, request, &refusal);
        }
        // RFC 3261 §8.2.2.2: the same request by another way, and not by way of ourselves (that is a spiral).
        if let Some(merge_key) = facts.merge_key
            && self.by_merge_key.contains_key(&merge_key)
            && !request.vias().any(|via| via.is_ok_and(|via| self.is_our_via(&via)))
        {
            return self.refuse(source, request, &refusal(482, "Merged Request"));
        }
        match self.admit(source) {
            Ok(counted) => {
                let Ok(via) = request.via_top() else { return };
                let flow = reply_flow(&via, source.flow);
                let request = Arc::new(std::mem::take(request));
                let handle = self.start_server(now, key, facts.merge_key, &request, flow, counted);
                self.tell(Event::Request { id: RequestId(handle), request, source });
            }
            Err(Turned::Full) => {
                self.statistics.shed += 1;
                self.shed(source, request);
            }
            Err(Turned::SourceLimit) => {
                self.statistics.source_limited += 1;
                self.shed(source, request);
            }
        }
    }

    /// Whether what room there is belongs to what is in progress.
    fn is_nearly_full(&self) -> bool {
        let limits = &self.config.limits;
        self.waiting >= limits.shed_at
            || self.transactions.len() >= limits.transactions - limits.transactions / 10
            || self.held_bytes >= limits.held_bytes / 10 * 9
    }

    /// Overload: a 503 that says when to come again. It costs one message and no memory.
    fn shed(&mut self, source: Source, request: &Message) {
        let seconds = self.config.retry_after_s.to_string();
        let refusal =
            Refusal { header: Some((Name::RetryAfter, seconds)), ..refusal(503, "Service Unavailable") };
        self.answer_without_state(source, request, &refusal);
    }

    /// Says no without making state.
    pub(super) fn refuse(&mut self, source: Source, request: &Message, refusal: &Refusal) {
        self.statistics.refused += 1;
        self.answer_without_state(source, request, refusal);
    }

    fn answer_without_state(&mut self, source: Source, request: &Message, refusal: &Refusal) {
        if request.method() == Some(Method::Ack) {
            return;
        }
        let method = request.method().unwrap_or(Method::Other);
        let via = request.via_top().ok();
        let key = via.and_then(|via| self.keys.server(request, &via, method).ok());
        let tag = self.tag_of(key.unwrap_or(0));
        let mut builder = ResponseBuilder::new(request, refusal.status).reason(&refusal.text).to_tag(&tag);
        if let Some((name, value)) = &refusal.header {
            builder = builder.header(name.as_str(), value);
        }
        // What was wrong with the request may stand in the headers that an answer has to repeat.
        let Ok(response) = builder.build() else { return };
        if response.flaw().is_some() {
            return;
        }
        // Nobody makes us send more to a forged address than they sent us.
        if !source.is_known
            && !source.flow.transport.is_reliable()
            && response.bytes().len() > request.bytes().len()
        {
            return;
        }
        let flow = via.map_or(source.flow, |via| reply_flow(&via, source.flow));
        self.transmit(flow, response.into_bytes());
    }

    pub(super) fn handle_response(&mut self, now: Instant, response: &mut Message) {
        let Some(read) = read_response(response) else {
            self.statistics.unusable += 1;
            return;
        };
        if !self.is_our_via(&read.via) {
            self.statistics.strays += 1;
            return;
        }
        let branch = read.via.branch().unwrap_or_default();
        // What was forwarded without state has no transaction to look for.
        let key = (!is_stateless(branch)).then(|| self.keys.client(branch, read.cseq.method_text));
        let Some(&handle) = key.and_then(|key| self.by_key.get(&key)) else {
            let way = self.way_back(response, branch);
            response.cut_to_content_length();
            return self.forward_response(response, way);
        };
        response.cut_to_content_length();
        let Some(owner) = self.transactions.at(handle).map(|transaction| transaction.owner) else { return };
        let notice = self.run(now, handle, Input::Response(response));
        if notice != Some(Notice::Response) {
            return;
        }
        response.pop_via();
        match owner {
            Owner::Nobody => {}
            Owner::Caller => {
                let response = Arc::new(response.clone());
                self.tell(Event::Response { id: AttemptId(handle), response });
            }
            Owner::Call { call, branch } => self.call_response(now, call, branch, response),
        }
    }
}

/// For a request that may go no further.
pub(crate) fn too_many_hops() -> Refusal {
    refusal(483, "Too Many Hops")
}

fn refusal(code: u16, text: &'static str) -> Refusal {
    Refusal { status: Status::known(code), text: text.into(), header: None }
}

/// RFC 3261 §18.2.1 and RFC 3581 §4: the top Via is told where the request truly came from.
pub(super) struct SourceNote {
    received: Option<IpAddr>,
    rport: Option<u16>,
}

impl SourceNote {
    fn of(via: &Via<'_>, source: Source) -> SourceNote {
        let remote = source.flow.remote;
        let is_same_host = via.host.ip() == Some(remote.ip());
        let wants_port = via.rport().is_some();
        // What the sender wrote there itself is not believed.
        let claims = via.received().is_some_and(|ip| ip != remote.ip());
        SourceNote {
            received: (!is_same_host || wants_port || claims).then_some(remote.ip()),
            // On a connection its far end has to be known to whoever sends the response (§18.2.2): after a restart,
            // or without state, the Via is all there is.
            rport: (wants_port || source.flow.transport.is_reliable()).then_some(remote.port()),
        }
    }

    /// What the Via says once it has been told.
    pub(super) fn told_to<'a>(&self, below: Below<'a>) -> Below<'a> {
        Below { received: self.received.or(below.received), rport: self.rport.or(below.rport), ..below }
    }

    fn write(&self, request: &mut Message) {
        // Digits, dots and colons are safe text, and no address is longer than the room for it.
        let mut text = ArrayString::<64>::new();
        if let Some(ip) = self.received {
            let _ = write!(text, "{ip}");
            let _ = request.set_via_param("received", text.as_bytes());
        }
        if let Some(port) = self.rport {
            text.clear();
            let _ = write!(text, "{port}");
            let _ = request.set_via_param("rport", text.as_bytes());
        }
    }
}
