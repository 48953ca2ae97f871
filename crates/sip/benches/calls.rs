//! What the engine costs for one call, without sockets: redirected, forwarded without state, and proxied.
//!
//! `cargo bench -p sip --bench calls [-- stateless]`. One thread, virtual time, best of some rounds; allocations counted. Only the
//! engine is measured, from `handle_input` to the last output: what its peers do to make their messages is not. What
//! the kernel takes for each datagram comes on top; `benches/kamailio/run.sh` measures all of it.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use sip::endpoint::{Config, Endpoint, Event, Listener, Output};
use sip::proxy::{Exhausted, Failover, Plan, Target};
use sip::{Flow, Instant, Keys, Message, Method, ResponseBuilder, Source, Status, Transport};

const ROUNDS: usize = 400;
const CALLS: u32 = 25;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    for (name, mode) in
        [("redirected", Mode::Redirect), ("stateless", Mode::Stateless), ("proxied", Mode::Proxy)]
    {
        if !wanted.is_empty() && !wanted.iter().any(|word| word == name) {
            continue;
        }
        let mut best = Duration::MAX;
        let mut world = World::new(mode);
        world.calls(CALLS);
        world.allocations = 0;
        world.calls(CALLS);
        let allocations = world.allocations;
        for _ in 0..ROUNDS {
            world.spent = Duration::ZERO;
            world.calls(CALLS);
            best = best.min(world.spent);
        }
        println!(
            "{name:<11} {:6.2} µs and {:5.1} allocations a call of {} messages in, {} out",
            best.as_secs_f64() * 1e6 / f64::from(CALLS),
            f64::from(u32::try_from(allocations).unwrap_or(u32::MAX)) / f64::from(CALLS),
            world.messages,
            world.sent,
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time; nothing depends on what it reads")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Redirect,
    Stateless,
    Proxy,
}

struct World {
    mode: Mode,
    endpoint: Endpoint,
    now: Instant,
    number: u64,
    /// Messages of one call.
    messages: usize,
    sent: usize,
    /// Time and allocations within the engine.
    spent: Duration,
    allocations: u64,
}

const EDGE: &str = "192.0.2.1:5060";
const CARRIER: &str = "192.0.2.5:5060";
const AGENT: &str = "192.0.2.9:5060";

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

impl World {
    fn new(mode: Mode) -> World {
        let listener = Listener { transport: Transport::Udp, local: at(EDGE), sent_by: EDGE.into() };
        let mut config = Config::new(vec![listener]);
        config.keeps_no_state = mode != Mode::Proxy;
        let endpoint = Endpoint::new(config, &Keys { shared: [1; 32], unique: [2; 32] });
        World {
            mode,
            endpoint,
            now: Instant::ZERO,
            number: 0,
            messages: 0,
            sent: 0,
            spent: Duration::ZERO,
            allocations: 0,
        }
    }

    /// Calls as a carrier and an agent would make them; all transactions end within.
    fn calls(&mut self, count: u32) {
        for _ in 0..count {
            self.call();
            self.now = self.now + Duration::from_millis(1);
        }
        self.now = self.now + Duration::from_secs(40);
        let start = clock();
        self.endpoint.handle_timeout(self.now);
        self.drain();
        self.spent += start.elapsed();
    }

    fn call(&mut self) {
        self.number += 1;
        (self.messages, self.sent) = (0, 0);
        let sent = self.input(CARRIER, request("INVITE", self.number, "", "").as_bytes());
        if self.mode == Mode::Redirect {
            self.input(CARRIER, request("ACK", self.number, ";tag=x", "").as_bytes());
            return;
        }
        let invite = Message::parse(&sent).expect("an INVITE");
        let answer = |status| {
            ResponseBuilder::new(&invite, status)
                .to_tag(b"agent")
                .record_routes()
                .header("Contact", "<sip:agent@192.0.2.9:5060>")
                .build()
                .expect("an answer")
        };
        self.input(AGENT, answer(Status::RINGING).bytes());
        self.input(AGENT, answer(Status::OK).bytes());
        let route = String::from_utf8_lossy(invite.list(sip::Name::RecordRoute).next().expect("a route"))
            .into_owned();
        let route = format!("Route: {route}\r\n");
        self.input(CARRIER, request("ACK", self.number, ";tag=agent", &route).as_bytes());
        let bye = self.input(CARRIER, request("BYE", self.number, ";tag=agent", &route).as_bytes());
        let bye = Message::parse(&bye).expect("a BYE");
        let ok = ResponseBuilder::new(&bye, Status::OK).build().expect("an answer");
        self.input(AGENT, ok.bytes());
    }

    /// Takes a message; gives the last thing sent.
    fn input(&mut self, from: &str, bytes: &[u8]) -> Vec<u8> {
        self.messages += 1;
        let source = Source { flow: Flow::udp(at(EDGE), at(from)), is_known: true };
        let mut last = Vec::new();
        let allocations = allocation_counter::measure(|| {
            let start = clock();
            self.endpoint.handle_input(self.now, source, black_box(bytes));
            last = self.drain();
            self.spent += start.elapsed();
        });
        self.allocations += allocations.count_total;
        last
    }

    fn drain(&mut self) -> Vec<u8> {
        let mut last = Vec::new();
        loop {
            match self.endpoint.poll_output() {
                Output::Transmit(transmit) => {
                    self.sent += 1;
                    last = transmit.bytes;
                }
                Output::Event(event) => self.decide(event),
                Output::Deadline(_) => return last,
            }
        }
    }

    fn decide(&mut self, event: Event) {
        let target = || Target::new("sip:agent@192.0.2.9:5060", Flow::udp(at(EDGE), at(AGENT)));
        let outcome = match event {
            Event::Stateless { request, source } if self.mode == Mode::Redirect => {
                if request.method() != Some(Method::Invite) {
                    return;
                }
                let moved = Status::new(302).expect("a status");
                self.endpoint.reply_stateless(
                    &request,
                    source,
                    moved,
                    &[("Contact", b"<sip:agent@192.0.2.9>")],
                )
            }
            Event::Stateless { request, source } => {
                self.endpoint.forward_stateless(&request, source, &target(), true)
            }
            Event::Request { id, source, .. } => {
                let plan = Plan {
                    targets: vec![target()],
                    failover: Failover::default(),
                    exhausted: Exhausted::BestResponse,
                    record_route: true,
                };
                self.endpoint.proxy(self.now, id, source, plan)
            }
            _ => Ok(()),
        };
        outcome.expect("nothing is refused");
    }
}

/// A carrier's request, as in `benches/index.rs` but shorter.
fn request(method: &str, number: u64, to_tag: &str, route: &str) -> String {
    let (cseq, branch) = if method == "BYE" { (2, "bye") } else { (1, "call") };
    format!(
        "{method} sip:+14385950345@192.0.2.1 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.5:5060;branch=z9hG4bK-{branch}-{method:.1}{number}\r\n\
         Max-Forwards: 68\r\n{route}\
         From: \"+15145550100\" <sip:+15145550100@carrier.example.com>;tag=c{number}\r\n\
         To: <sip:+14385950345@192.0.2.1>{to_tag}\r\n\
         Call-ID: {number}@192.0.2.5\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:+15145550100@192.0.2.5:5060>\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE\r\nSupported: timer, 100rel\r\n\
         Content-Type: application/sdp\r\nContent-Length: 133\r\n\r\n\
         v=0\r\no=- 8721 1 IN IP4 203.0.113.8\r\ns=-\r\nc=IN IP4 203.0.113.8\r\nt=0 0\r\n\
         m=audio 16384 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
    )
}
