//! A user agent, a registration and a ping among peers who answer and ask as they like. Nothing panics, what is sent
//! can be read, and when all has been hung up and time has passed nothing is left.

use std::time::Duration;

use sip::digest::{Credentials, Secret};
use sip::endpoint::{Config, Listener};
use sip::user_agent::ping::{Ping, PingConfig};
use sip::user_agent::register::{PAUSE_MIN, Registration, RegistrationConfig};
use sip::user_agent::{CallEvent, CallId, CallOutput, Invitation, ReferId, UserAgent};
use sip::{Flow, Instant, Keys, Message, Method, RequestBuilder, ResponseBuilder, Source, Status, Transport};

const CHALLENGE: &str = "Digest realm=\"r\", nonce=\"n\", qop=\"auth\"";

struct World {
    agent: UserAgent,
    registration: Registration,
    ping: Ping,
    now: Instant,
    flow: Flow,
    calls: Vec<CallId>,
    refer: Option<(CallId, ReferId)>,
    sent: Option<Message>,
    number: u32,
}

impl World {
    fn new() -> World {
        let local = "192.0.2.1:5060".parse().expect("an address");
        let remote = "192.0.2.5:4444".parse().expect("an address");
        let listener = Listener { transport: Transport::Udp, local, sent_by: "192.0.2.1:5060".into() };
        let keys = Keys { shared: [1; 32], unique: [2; 32] };
        let registration = RegistrationConfig {
            registrar: "sip:r".into(),
            address: "sip:me@r".into(),
            contacts: vec!["sip:me@192.0.2.1".into()],
            expires_s: 600,
            credentials: Some(credentials()),
        };
        let ping = PingConfig::new("sip:gw".into(), "sip:us@h".into());
        World {
            agent: UserAgent::new(Config::new(vec![listener]), &keys, "sip:me@192.0.2.1".into()),
            registration: Registration::new(Instant::ZERO, &keys, registration, "call".into(), "tag".into()),
            ping: Ping::new(Instant::ZERO, ping, "call".into(), "tag".into()),
            now: Instant::ZERO,
            flow: Flow::udp(local, remote),
            calls: Vec::new(),
            refer: None,
            sent: None,
            number: 1,
        }
    }

    fn drain(&mut self) {
        loop {
            match self.agent.poll_output(self.now) {
                CallOutput::Transmit(transmit) => {
                    let sent = Message::parse(&transmit.bytes).expect("what we send can be read");
                    self.sent = Some(sent);
                }
                CallOutput::Event(CallEvent::Incoming { call, .. }) => self.calls.push(call),
                CallOutput::Event(CallEvent::ReferAsked { call, refer, .. }) => {
                    self.refer = Some((call, refer));
                }
                CallOutput::Event(CallEvent::Ended { call, .. }) => {
                    self.calls.retain(|other| *other != call);
                }
                CallOutput::Event(_) => {}
                CallOutput::Deadline(_) => return,
            }
        }
    }

    fn input(&mut self, message: &Message) {
        let source = Source { flow: self.flow, is_known: true };
        self.agent.handle_input(self.now, source, message.bytes());
    }

    /// The other side answers what was sent last, with a header of its choice.
    fn answer(&mut self, value: u8, rest: &[u8]) {
        let status = Status::new(100 + u16::from(value) * 2).unwrap_or(Status::OK);
        let names =
            ["Contact", "WWW-Authenticate", "Proxy-Authenticate", "Min-Expires", "Retry-After", "Expires"];
        let name = names[rest.first().map_or(0, |byte| usize::from(*byte) % names.len())];
        let challenge = [CHALLENGE.as_bytes(), rest].concat();
        let text =
            if name.ends_with("Authenticate") { &challenge[..] } else { rest.get(1..).unwrap_or_default() };
        let answer_to = |request: &Message| {
            ResponseBuilder::new(request, status).to_tag(b"t").record_routes().header(name, text).build().ok()
        };
        if let Some(response) = self.sent.as_ref().filter(|sent| sent.is_request()).and_then(answer_to) {
            self.input(&response);
        }
        // The keepers are asked and answered by hand: their answers need no way through the network.
        let now = self.now;
        if let Ok(Some(request)) = self.registration.poll(now) {
            let mut next = Some(request);
            let mut asked = 0;
            while let Some(request) = next {
                asked += 1;
                assert!(asked <= 4, "a registrar's answers end");
                // Each answer is another one, and the registrar looks at what it is asked.
                let kind = rest.get(asked).copied().unwrap_or(value) % 8;
                let more = request.expires().ok().flatten().unwrap_or(0).saturating_add(1).to_string();
                let response = match kind {
                    0 => registrar_answer(&request, 423, "Min-Expires", more.as_bytes()),
                    1 => registrar_answer(
                        &request,
                        401,
                        "WWW-Authenticate",
                        &[CHALLENGE.as_bytes(), b", stale=true"].concat(),
                    ),
                    2 => registrar_answer(&request, 200, "Expires", (value / 64).to_string().as_bytes()),
                    _ => answer_to(&request),
                };
                let chance = u32::from(value);
                next =
                    response.and_then(|response| self.registration.handle_response(now, &response, chance));
            }
            if self.registration.deadline().is_none() {
                self.registration.handle_loss(now, u32::from(value));
            }
            let next_at = self.registration.deadline();
            assert!(next_at.is_some_and(|at| at >= now + PAUSE_MIN), "a registrar waits for us: {next_at:?}");
        }
        if let Ok(Some(question)) = self.ping.poll(now)
            && let Some(response) = answer_to(&question)
        {
            self.ping.handle_response(now, &response);
        }
    }

    /// The other side asks something in the dialog of what was sent last, or outside any.
    fn ask(&mut self, value: u8, rest: &[u8]) {
        let methods = [
            Method::Invite,
            Method::Bye,
            Method::Ack,
            Method::Cancel,
            Method::Refer,
            Method::Notify,
            Method::Update,
            Method::Options,
        ];
        let method = methods[usize::from(value) % methods.len()];
        if !matches!(method, Method::Ack | Method::Cancel) {
            self.number += 1;
        }
        let header = |name| {
            let line =
                self.sent.as_ref().filter(|_| value & 0x40 == 0).and_then(|sent| sent.lines(name).next());
            line.map(<[u8]>::to_vec)
        };
        let is_request = self.sent.as_ref().is_some_and(Message::is_request);
        let (mut from, mut to) = (header(sip::Name::From), header(sip::Name::To));
        if is_request {
            std::mem::swap(&mut from, &mut to);
        }
        let branch = format!("SIP/2.0/UDP 192.0.2.5:4444;branch=z9hG4bK{}", self.number);
        let request = RequestBuilder::new(method, "sip:me@192.0.2.1")
            .header("Via", branch)
            .header("From", from.unwrap_or_else(|| b"<sip:c@d>;tag=1".to_vec()))
            .header("To", to.unwrap_or_else(|| b"<sip:me@h>".to_vec()))
            .header("Call-ID", header(sip::Name::CallId).unwrap_or_else(|| b"x".to_vec()))
            .header("CSeq", format!("{} {method}", self.number))
            .header("Contact", "<sip:c@192.0.2.5>")
            .header("Refer-To", rest)
            .header("Event", if value & 0x20 == 0 { &b"refer"[..] } else { rest })
            .header("Subscription-State", if value & 0x10 == 0 { "active" } else { "terminated" })
            .body("message/sipfrag", rest)
            .build();
        if let Ok(request) = request {
            self.input(&request);
        }
    }

    fn act(&mut self, value: u8) {
        let now = self.now;
        if value.is_multiple_of(8) {
            let invitation = Invitation {
                to: "sip:them@h".into(),
                from: "sip:me@h".into(),
                flow: self.flow,
                sdp: b"v=0\r\n".to_vec(),
                credentials: Some(credentials()),
                ring_timeout: Duration::from_secs(20),
            };
            self.calls.extend(self.agent.call(now, &invitation));
            return;
        }
        if let Some((call, refer)) = self.refer.filter(|_| value % 8 >= 6) {
            let _ = self.agent.refer_result(
                now,
                call,
                refer,
                if value % 8 == 6 { Status::OK } else { Status::RINGING },
            );
            return;
        }
        let Some(&call) = self.calls.get(usize::from(value >> 4) % self.calls.len().max(1)) else { return };
        // What cannot be done in a call's state is refused, which is fine.
        let _ = match value % 8 {
            1 => self.agent.ring(now, call),
            2 => self.agent.answer(now, call, b"v=0\r\n"),
            3 => self.agent.reject(now, call, Status::UNAVAILABLE),
            4 => self.agent.hang_up(now, call),
            5 => self.agent.refer(now, call, "sip:else@h").map(drop),
            _ => Ok(()),
        };
    }
}

fn registrar_answer(request: &Message, code: u16, name: &str, text: &[u8]) -> Option<Message> {
    ResponseBuilder::new(request, Status::new(code)?).to_tag(b"t").header(name, text).build().ok()
}

fn credentials() -> Credentials {
    Credentials { username: "me".into(), password: Secret::new("pw"), realm: Some("r".into()) }
}

/// Each step: what to do, a parameter, and for headers their text.
pub(crate) fn check(bytes: &[u8]) {
    let mut world = World::new();
    let mut rest = bytes;
    while let [kind, value, after @ ..] = rest {
        rest = after;
        match kind % 6 {
            0 | 1 => {
                let (text, after) = rest.split_at((usize::from(kind >> 3)).min(rest.len()));
                rest = after;
                world.answer(*value, text);
            }
            2 => {
                let (text, after) = rest.split_at((usize::from(kind >> 3)).min(rest.len()));
                rest = after;
                world.ask(*value, text);
            }
            3 | 4 => world.act(*value),
            _ => {
                world.now = world.now + Duration::from_millis(1 << (value % 16));
                world.agent.handle_timeout(world.now);
            }
        }
        world.drain();
    }
    for call in std::mem::take(&mut world.calls) {
        let _ = world.agent.hang_up(world.now, call);
        world.drain();
    }
    for _ in 0..60 {
        world.now = world.now + Duration::from_secs(32);
        world.agent.handle_timeout(world.now);
        world.drain();
    }
    let last = world.agent.poll_output(world.now);
    assert!(matches!(last, CallOutput::Deadline(None)), "something is still to be done: {last:?}");
    let left = world.agent.statistics();
    assert_eq!((left.transactions, left.timers, left.held_bytes, world.agent.calls()), (0, 0, 0, 0));
}
