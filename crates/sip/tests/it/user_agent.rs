//! A user agent by itself: what it repeats while the other side does not hear it, and that it always comes to an end.
//! Its stories have a [`Stage`]: we play the other side by hand.

mod accepting;
mod credentials;
mod refers;

use std::fmt::Write as _;

use std::time::Duration;

use sip::digest::Credentials;
use sip::endpoint::{Event, Limits};
use sip::user_agent::{CallEvent, CallId, CallOutput, Ended, Invitation, ReferId, UserAgent};
use sip::{Instant, Message, Method, Name, RequestBuilder, ResponseBuilder, Status};

use crate::exchange::{AGENT, address, agent, config, invite, keys, parse, source};

fn phone() -> UserAgent {
    UserAgent::new(config(), &keys(1), "sip:me@192.0.2.1".to_owned())
}

fn drain(phone: &mut UserAgent, now: Instant) -> (Vec<Message>, Vec<CallEvent>) {
    let (mut sent, mut events) = (Vec::new(), Vec::new());
    loop {
        match phone.poll_output(now) {
            CallOutput::Transmit(transmit) => sent.push(parse(&transmit)),
            CallOutput::Event(event) => events.push(event),
            CallOutput::Deadline(_) => return (sent, events),
        }
    }
}

/// A call of ours that was taken, and the 200 that said so.
fn taken(phone: &mut UserAgent) -> (CallId, Message) {
    let now = Instant::ZERO;
    let invitation = Invitation {
        to: "sip:agent@192.0.2.9".to_owned(),
        from: "sip:me@example.com".to_owned(),
        flow: agent().flow,
        sdp: Vec::new(),
        credentials: None,
        ring_timeout: Duration::from_secs(60),
    };
    let call = phone.call(now, &invitation).unwrap();
    let (sent, _) = drain(phone, now);
    let contact = "<sip:agent@192.0.2.9>";
    let ok = ResponseBuilder::new(&sent[0], Status::OK).to_tag(b"a1").header("Contact", contact).build();
    (call, ok.unwrap())
}

/// RFC 3261 §13.2.2.4: the 2xx comes again when its ACK was lost.
#[test]
fn each_200_is_acknowledged() {
    let mut phone = phone();
    let (_, ok) = taken(&mut phone);
    for time in 0..3 {
        phone.handle_input(Instant::ZERO, source(AGENT, true), ok.bytes());
        let (sent, events) = drain(&mut phone, Instant::ZERO);
        assert_eq!(sent.iter().map(Message::method).collect::<Vec<_>>(), [Some(Method::Ack)]);
        assert_eq!(events.len(), usize::from(time == 0), "told once: {events:?}");
    }
}

/// RFC 3261 §13.3.1.4: from T1 on, doubling up to T2, for 64·T1; then the call is ended.
#[test]
fn a_200_is_repeated_until_it_is_acknowledged() {
    let mut phone = phone();
    let now = Instant::ZERO;
    phone.handle_input(now, source(AGENT, true), invite("sip:me@192.0.2.1", "i", "").as_bytes());
    let (_, events) = drain(&mut phone, now);
    let [CallEvent::Incoming { call, .. }] = events[..] else { panic!("{events:?}") };
    phone.answer(now, call, b"").unwrap();
    let (mut oks, mut byes, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for tenth in 0..400 {
        let now = Instant::ZERO + Duration::from_millis(tenth * 100);
        phone.handle_timeout(now);
        let (sent, events) = drain(&mut phone, now);
        for message in sent {
            if message.status() == Some(Status::OK) {
                oks.push(tenth * 100);
            } else if message.method() == Some(Method::Bye) {
                byes.push(tenth * 100);
            }
        }
        ends.extend(events.into_iter().filter_map(|event| match event {
            CallEvent::Ended { why, .. } => Some((tenth * 100, why)),
            _ => None,
        }));
    }
    assert_eq!(oks, [0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
    assert_eq!((byes[0], ends), (32_000, vec![(32_000, Ended::NotAcknowledged)]));
}

/// Hanging up ends a call for us even when there is no room for the BYE.
#[test]
fn a_call_can_be_ended_when_nothing_can_be_sent() {
    let mut phone = phone();
    let (call, ok) = taken(&mut phone);
    phone.handle_input(Instant::ZERO, source(AGENT, true), ok.bytes());
    drain(&mut phone, Instant::ZERO);
    phone.endpoint().set_limits(Limits { transactions: 0, ..Limits::default() });
    phone.hang_up(Instant::ZERO, call).unwrap();
    let (_, events) = drain(&mut phone, Instant::ZERO);
    assert!(matches!(events[..], [CallEvent::Ended { why: Ended::ByUs, .. }]), "{events:?}");
    assert_eq!(phone.calls(), 0);
}

/// A phone and its last call; the other side is whoever writes the test. All that the phone says is noted, by line.
struct Stage {
    phone: UserAgent,
    now: Instant,
    call: Option<CallId>,
    refer: Option<ReferId>,
    /// The last request that the phone sent, as an answer to it needs it.
    asked: Option<Message>,
    /// Both sides of the dialog as they stand in From and To, and its Call-ID.
    us: String,
    them: String,
    call_id: String,
    requests: u32,
    lines: String,
}

const OFFER: &str = "v=0 theirs";
const OURS: &[u8] = b"v=0 ours";
const CONTACT: (&str, &str) = ("Contact", "<sip:agent@192.0.2.9>");

impl Stage {
    fn new() -> Stage {
        Stage {
            phone: phone(),
            now: Instant::ZERO,
            call: None,
            refer: None,
            asked: None,
            us: "<sip:me@192.0.2.1>".to_owned(),
            them: "<sip:agent@192.0.2.9>;tag=a1".to_owned(),
            call_id: "theirs".to_owned(),
            requests: 0,
            lines: String::new(),
        }
    }

    /// The phone calls.
    fn calling(credentials: Option<Credentials>) -> Stage {
        Stage::calling_to("sip:agent@192.0.2.9", credentials)
    }

    fn calling_to(to: &str, credentials: Option<Credentials>) -> Stage {
        let mut stage = Stage::new();
        let invitation = Invitation {
            to: to.to_owned(),
            from: "sip:me@example.com".to_owned(),
            flow: agent().flow,
            sdp: OURS.to_vec(),
            credentials,
            ring_timeout: Duration::from_secs(20),
        };
        stage.call = Some(stage.phone.call(stage.now, &invitation).unwrap());
        stage.drain();
        stage
    }

    /// The phone is called and takes the call.
    fn called(offer: &str) -> Stage {
        let mut stage = Stage::new();
        stage.hear(Method::Invite, 1, &[CONTACT], offer);
        let call = stage.the_call();
        stage.phone.answer(stage.now, call, OURS).unwrap();
        stage.drain();
        stage
    }

    /// The phone is called, takes the call, and is thanked.
    fn talking() -> Stage {
        let mut stage = Stage::called(OFFER);
        stage.hear(Method::Ack, 1, &[], "");
        stage.lines.clear();
        stage
    }

    fn the_call(&self) -> CallId {
        self.call.expect("a call")
    }

    /// The other side asks.
    fn hear(&mut self, method: Method, number: u32, headers: &[(&str, &str)], body: &str) {
        self.requests += 1;
        let mut builder = RequestBuilder::new(method, "sip:me@192.0.2.1")
            .header("Via", format!("SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK{}", self.requests))
            .header("From", &self.them)
            .header("To", &self.us)
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{number} {method}"));
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        if !body.is_empty() {
            builder = builder.body("text/plain", body.as_bytes());
        }
        self.input(&builder.build().unwrap());
    }

    /// The other side answers what it was asked last.
    fn answer(&mut self, code: u16, headers: &[(&str, &str)]) {
        self.answer_as("a1", code, headers);
    }

    fn answer_as(&mut self, tag: &str, code: u16, headers: &[(&str, &str)]) {
        let asked = self.asked.clone().expect("a request");
        let mut builder = ResponseBuilder::new(&asked, Status::new(code).unwrap());
        if !tag.is_empty() {
            builder = builder.to_tag(tag.as_bytes());
        }
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        self.input(&builder.build().unwrap());
    }

    fn input(&mut self, message: &Message) {
        self.phone.handle_input(self.now, source(AGENT, true), message.bytes());
        self.drain();
    }

    fn hang_up(&mut self) {
        let call = self.the_call();
        self.phone.hang_up(self.now, call).unwrap();
        self.drain();
    }

    /// Time passes.
    fn run(&mut self, until_ms: u64) {
        let until = Instant::ZERO + Duration::from_millis(until_ms);
        while let Some(at) = self.drain().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.phone.handle_timeout(self.now);
        }
        self.now = until;
    }

    fn drain(&mut self) -> Option<Instant> {
        loop {
            match self.phone.poll_output(self.now) {
                CallOutput::Transmit(transmit) => {
                    let message = parse(&transmit);
                    let remote = transmit.flow.remote;
                    let way = if remote == address(AGENT) { String::new() } else { format!(" by {remote}") };
                    self.note(&format!("{}{way}", line_of(&message)));
                    self.keep(message);
                }
                CallOutput::Event(event) => self.tell(&event),
                CallOutput::Deadline(deadline) => return deadline,
            }
        }
    }

    fn keep(&mut self, message: Message) {
        let text = |name| String::from_utf8(message.lines(name).next().unwrap().to_vec()).unwrap();
        if message.status() == Some(Status::OK) && message.to().unwrap().uri_text == b"sip:me@192.0.2.1" {
            self.us = text(Name::To);
        } else if message.method() == Some(Method::Invite) {
            (self.us, self.call_id) = (text(Name::From), text(Name::CallId));
        }
        if message.is_request() && message.method() != Some(Method::Ack) {
            self.asked = Some(message);
        }
    }

    fn tell(&mut self, event: &CallEvent) {
        match event {
            CallEvent::Incoming { call, .. } => self.call = Some(*call),
            CallEvent::Ringing { status, .. } => self.note(&format!("ringing: {status}")),
            CallEvent::Up { sdp, .. } => self.note(&format!("up [{}]", String::from_utf8_lossy(sdp))),
            CallEvent::Ended { why, .. } => self.note(&format!("ended: {why:?}")),
            CallEvent::ReferAsked { refer, to, .. } => {
                self.refer = Some(*refer);
                self.note(&format!("asked to call {}", String::from_utf8_lossy(to)));
            }
            CallEvent::ReferProgress { refer, status, .. } => {
                self.note(&format!("progress of {refer:?}: {status}"));
            }
            CallEvent::Other(Event::Response { response, .. }) => {
                self.note(&format!("told of {}", line_of(response)));
            }
            CallEvent::Other(other) => self.note(&format!("told of {other:?}")),
        }
    }

    fn note(&mut self, line: &str) {
        writeln!(self.lines, "{:<6} {line}", self.now.since_epoch().as_millis()).unwrap();
    }

    /// What was noted since it was asked the last time.
    fn ladder(&mut self) -> String {
        std::mem::take(&mut self.lines)
    }
}

/// What matters here of a message.
fn line_of(message: &Message) -> String {
    let cseq = message.cseq().unwrap();
    let mut line = match message.status() {
        Some(status) => format!("{status} ({} {})", cseq.number, cseq.method),
        None => format!("{} {} {}", cseq.number, cseq.method, String::from_utf8_lossy(message.uri_text())),
    };
    for name in ["Retry-After", "Event", "Subscription-State", "Allow-Events"] {
        for value in message.lines_named(name) {
            write!(line, " {name}: {}", String::from_utf8_lossy(value)).unwrap();
        }
    }
    for name in [Name::Authorization, Name::ProxyAuthorization] {
        if message.lines(name).next().is_some() {
            write!(line, " with {}", name.as_str()).unwrap();
        }
    }
    if !message.body().is_empty() {
        write!(line, " [{}]", String::from_utf8_lossy(message.body()).trim_end()).unwrap();
    }
    line
}
