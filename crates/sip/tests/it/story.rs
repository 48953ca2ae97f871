//! Stories in plain words, played on the network.
//!
//! ```text
//! edge tries bob, carol        the plan of the proxy; `bob for 3s` gives a ring time
//! 0ms alice calls
//! 100ms bob rings
//! 2s bob answers
//! 9s alice hangs up
//! ```
//!
//! What is said of a phone (alice, bob, carol) happens at its time, to the call it has then:
//!
//! | words | what it does |
//! |---|---|
//! | `calls` | INVITE to the edge |
//! | `rings`, `answers` | 180, 200 with an SDP |
//! | `is busy`, `fails`, `declines`, `redirects` | 486, 500, 603, 302 |
//! | `hangs up` | BYE; before it is up, the caller's CANCEL or the callee's 486 |
//! | `refers to carol`, `reports success` | REFER; the NOTIFY of the one who was asked |
//!
//! The edge's targets are phones or `nobody`, an address where nothing is; `edge follows to carol` is what it does with
//! the next 3xx. Times are `100ms` or `2s`. A phone says 100 by itself after 200 ms.
//!
//! The ladder that comes out has a line for each message, at the time at which its first hop sent it (each hop takes
//! 10 ms), and one for each thing that someone was told, behind the messages of its moment. A message that the edge
//! passes on as it came (our Via on top of the sender's) stands on one line with what it passed on, and addresses are
//! written as names.

use std::fmt::Write as _;
use std::time::Duration;

use expect_test::Expect;
use sip::endpoint::{Event, RequestId};
use sip::proxy::{Exhausted, Failover, Plan, Target};
use sip::user_agent::{CallEvent, CallId, Invitation, ReferId};
use sip::{Instant, Message, Source, Status, Transport};

use crate::network::{Faults, Network, Report, Rung};

pub(crate) const SDP: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

/// A phone, the call it has, and what it was asked last.
struct Phone {
    name: &'static str,
    node: usize,
    call: Option<CallId>,
    refer: Option<ReferId>,
}

struct Stage {
    network: Network,
    edge: usize,
    phones: Vec<Phone>,
    plan: Vec<(String, Duration)>,
    redirect_to: Option<String>,
    /// What was told, and how many messages had been sent by then.
    notes: Vec<(usize, String)>,
}

/// Plays a story on a good network with 10 ms of delay, and compares the ladder.
#[track_caller]
pub(crate) fn check_call(story: &str, ladder: &Expect) {
    ladder.assert_eq(&play(story, Transport::Udp, Faults { delay_ms: 10, ..Faults::default() }));
}

/// As [`check_call`], over connections.
#[track_caller]
pub(crate) fn check_call_tcp(story: &str, ladder: &Expect) {
    ladder.assert_eq(&play(story, Transport::Tcp, Faults { delay_ms: 10, ..Faults::default() }));
}

#[track_caller]
fn play(story: &str, transport: Transport, faults: Faults) -> String {
    let mut network = Network::new(1, transport, faults);
    let edge = network.add_proxy("edge", "192.0.2.1:5060");
    let phones = [("alice", "192.0.2.10:5060"), ("bob", "192.0.2.20:5060"), ("carol", "192.0.2.30:5060")]
        .map(|(name, address)| Phone {
            name,
            node: network.add_phone(name, address),
            call: None,
            refer: None,
        })
        .into();
    let mut stage = Stage { network, edge, phones, plan: Vec::new(), redirect_to: None, notes: Vec::new() };
    for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
        stage.tell(line);
    }
    // Whatever is left ends by itself.
    stage.run_until(stage.network.now + Duration::from_secs(400));
    for node in 0..stage.network.nodes.len() {
        let left = stage.network.statistics(node);
        assert_eq!(
            (left.transactions, left.calls),
            (0, 0),
            "something stays in {}",
            stage.network.nodes[node].name
        );
    }
    stage.ladder()
}

fn duration(text: &str) -> Duration {
    let (digits, unit) = text.split_at(text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len()));
    match (digits.parse(), unit) {
        (Ok(number), "ms") => Duration::from_millis(number),
        (Ok(number), "s") => Duration::from_secs(number),
        _ => panic!("{text:?} is no time: it is written 100ms or 2s"),
    }
}

impl Stage {
    fn tell(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["edge", "tries", ..] => {
                let list = line.trim_start_matches("edge tries");
                self.plan = list
                    .split(',')
                    .map(|one| match one.trim().split_once(" for ") {
                        Some((name, time)) => (name.to_owned(), duration(time)),
                        None => (one.trim().to_owned(), Duration::from_secs(30)),
                    })
                    .collect();
            }
            ["edge", "follows", "to", name] => self.redirect_to = Some((*name).to_owned()),
            [at, name, action @ ..] => {
                self.run_until(Instant::ZERO + duration(at));
                self.act(line, name, &action.join(" "));
            }
            _ => panic!("what does {line:?} mean?"),
        }
    }

    fn act(&mut self, line: &str, name: &str, action: &str) {
        let at = self.phones.iter().position(|phone| phone.name == name);
        let at = at.unwrap_or_else(|| panic!("there is no phone {name:?}: alice, bob, carol"));
        let (node, call, refer) = (self.phones[at].node, self.phones[at].call, self.phones[at].refer);
        let now = self.network.now;
        let edge = self.network.nodes[self.edge].address;
        let flow = self.network.flow(node, edge);
        let phone = self.network.phone(node);
        let the_call = || call.unwrap_or_else(|| panic!("{name} has no call"));
        match action {
            "calls" => {
                let invitation = Invitation {
                    to: format!("sip:support@{edge}"),
                    from: format!("sip:{name}@example.com"),
                    flow,
                    sdp: SDP.to_vec(),
                    credentials: None,
                    ring_timeout: Duration::from_secs(120),
                };
                self.phones[at].call = Some(phone.call(now, &invitation).expect(line));
            }
            "rings" => phone.ring(now, the_call()).expect(line),
            "answers" => phone.answer(now, the_call(), SDP).expect(line),
            "is busy" => phone.reject(now, the_call(), Status::new(486).unwrap()).expect(line),
            "fails" => phone.reject(now, the_call(), Status::new(500).unwrap()).expect(line),
            "declines" => phone.reject(now, the_call(), Status::new(603).unwrap()).expect(line),
            "hangs up" => phone.hang_up(now, the_call()).expect(line),
            "refers to carol" => drop(phone.refer(now, the_call(), "sip:carol@192.0.2.30").expect(line)),
            "reports success" => {
                let refer = refer.unwrap_or_else(|| panic!("{name} was not asked to call anybody"));
                phone.refer_result(now, the_call(), refer, Status::OK).expect(line);
            }
            // A user agent has no 302 of its own; it is refused with one.
            "redirects" => phone.reject(now, the_call(), Status::new(302).unwrap()).expect(line),
            other => panic!("nobody can {other:?}: the words are in this file's first lines"),
        }
        self.network.drain(node);
    }

    fn run_until(&mut self, until: Instant) {
        loop {
            self.network.run(until);
            let reports = std::mem::take(&mut self.network.reports);
            if reports.is_empty() && self.network.now >= until {
                return;
            }
            for (node, report) in reports {
                match report {
                    Report::Proxy(event) => self.edge_event(&event),
                    Report::Phone(event) => self.phone_event(node, &event),
                }
                self.network.drain(node);
            }
        }
    }

    fn target(&self, name: &str, ring_timeout: Duration) -> Target {
        let address = match name {
            "nobody" => "192.0.2.99:5060".parse().unwrap(),
            name => {
                let phone = self.phones.iter().find(|phone| phone.name == name);
                let phone = phone.unwrap_or_else(|| panic!("there is no phone {name:?}: alice, bob, carol"));
                self.network.nodes[phone.node].address
            }
        };
        let flow = self.network.flow(self.edge, address);
        Target { ring_timeout, ..Target::new(format!("sip:{name}@{address}"), flow) }
    }

    fn edge_event(&mut self, event: &Event) {
        let now = self.network.now;
        match event {
            Event::Request { id, request, source } => self.edge_request(now, *id, request, *source),
            Event::Redirected { id, target, .. } => {
                self.note(format!("edge: target {target} redirects"));
                if let Some(name) = self.redirect_to.take() {
                    let target = self.target(&name, Duration::from_secs(30));
                    self.network.proxy(self.edge).proxy_more(now, *id, vec![target]).unwrap();
                }
            }
            Event::TargetFailed { target, cause, .. } => {
                self.note(format!("edge: target {target} failed: {cause:?}"));
            }
            Event::Concluded { status, target, .. } => {
                self.note(format!("edge: concluded with {status} of target {target:?}"));
            }
            Event::Ringing { .. } | Event::RequestLost { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn edge_request(&mut self, now: Instant, id: RequestId, request: &Message, source: Source) {
        if request.method() != Some(sip::Method::Invite) {
            self.network.proxy(self.edge).reply(now, id, Status::OK, &[]).unwrap();
            return;
        }
        let targets = self.plan.iter().map(|(name, ring)| self.target(name, *ring)).collect();
        let plan = Plan {
            targets,
            failover: Failover::default(),
            exhausted: Exhausted::Answer { status: Status::UNAVAILABLE, retry_after_s: 5 },
            record_route: true,
        };
        self.network.proxy(self.edge).proxy(now, id, source, plan).unwrap();
    }

    fn phone_event(&mut self, node: usize, event: &CallEvent) {
        let phone = self.phones.iter_mut().find(|phone| phone.node == node).expect("a phone");
        let name = phone.name;
        match event {
            CallEvent::Incoming { call, .. } => phone.call = Some(*call),
            CallEvent::Up { .. } => self.note(format!("{name}: up")),
            CallEvent::Ended { why, .. } => self.note(format!("{name}: ended: {why:?}")),
            CallEvent::ReferAsked { refer, to, .. } => {
                phone.refer = Some(*refer);
                self.note(format!("{name}: asked to call {}", String::from_utf8_lossy(to)));
            }
            CallEvent::ReferProgress { status, .. } => self.note(format!("{name}: refer: {status}")),
            CallEvent::Ringing { .. } | CallEvent::Other(_) => {}
        }
    }

    fn note(&mut self, text: impl std::fmt::Display) {
        let millis = self.network.now.since_epoch().as_millis();
        self.notes.push((self.network.ladder.len(), format!("{millis:<6} {text}\n")));
    }

    fn ladder(&self) -> String {
        let rungs = &self.network.ladder;
        let mut notes = self.notes.iter().peekable();
        let mut text = String::new();
        let mut passed_on = Vec::new();
        for (place, rung) in rungs.iter().enumerate() {
            while let Some((_, note)) = notes.next_if(|(before, _)| *before <= place) {
                text.push_str(note);
            }
            if passed_on.contains(&place) {
                continue;
            }
            let message = Message::parse(&rung.bytes).expect("we send what we can read");
            let next = (place + 1..rungs.len()).find(|&other| is_passed_on(rung, &message, &rungs[other]));
            passed_on.extend(next);
            let millis = rung.at.since_epoch().as_millis();
            let way = next.map_or(rung.to.to_owned(), |next| format!("{} → {}", rung.to, rungs[next].to));
            let what = self.what(&message);
            writeln!(text, "{millis:<6} {} → {way}: {what}", rung.from).expect("a String takes all");
        }
        text.extend(notes.map(|(_, note)| note.as_str()));
        text
    }

    fn what(&self, message: &Message) -> String {
        let uri = String::from_utf8_lossy(message.uri_text());
        let nodes = self.network.nodes.iter();
        let named =
            nodes.fold(uri.into_owned(), |uri, node| uri.replace(&node.address.to_string(), node.name));
        match message.status() {
            None => format!("{} {named}", String::from_utf8_lossy(message.method_text())),
            Some(status) => format!("{status} ({})", message.cseq().expect("a CSeq").method),
        }
    }
}

/// Whether `later` is what the edge made of a message at once: a request with its Via on top, a response without it.
fn is_passed_on(rung: &Rung, message: &Message, later: &Rung) -> bool {
    let Ok(made) = Message::parse(&later.bytes) else { return false };
    if rung.to != "edge" || later.from != "edge" || later.at != rung.arrives {
        return false;
    }
    let branch = |message: &Message, place: usize| {
        message.vias().nth(place).and_then(Result::ok).and_then(|via| via.branch()).map(<[u8]>::to_vec)
    };
    let (above, below) = if message.is_request() { (&made, message) } else { (message, &made) };
    made.is_request() == message.is_request()
        && branch(above, 1).is_some()
        && branch(above, 1) == branch(below, 0)
        && made.status() == message.status()
        && made.method() == message.method()
        && made.cseq() == message.cseq()
}
