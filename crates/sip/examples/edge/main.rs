//! A small edge on real sockets, so that real peers can meet the engine. It is no part of the product.
//!
//! ```text
//! cargo run -p sip --example edge -- redirect  127.0.0.1:5060 127.0.0.1:5070
//! cargo run -p sip --example edge -- stateless 127.0.0.1:5060 127.0.0.1:5070
//! cargo run -p sip --example edge -- stateful  127.0.0.1:5060 127.0.0.1:5070
//! ```
//!
//! `redirect` answers each INVITE with a 302 to the target. `stateful` forwards it in transactions and stays in the
//! dialog by a signed Record-Route. `stateless` forwards with a Record-Route and keeps nothing, as the fastest
//! proxies do. Others get 200 to OPTIONS and 405 to the rest. UDP only; one thread; ends with its parent's signal.
//! Once a second a line of figures goes to standard error when something has changed.

mod datagrams;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use datagrams::Datagrams;

use sip::endpoint::{Config, Endpoint, Event, Listener, Output, RequestId, Statistics};
use sip::proxy::{Exhausted, Failover, Plan, Target};
use sip::{Flow, Instant, Keys, Message, Method, Source, Status, Transmit, Transport};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Redirect,
    Stateless,
    Stateful,
}

struct Edge {
    mode: Mode,
    local: SocketAddr,
    target: SocketAddr,
    target_text: String,
    endpoint: Endpoint,
    datagrams: Datagrams,
    /// What was to be sent since it was last done.
    outbox: Vec<Transmit>,
    start: std::time::Instant,
}

/// Each call allocates some small things that live for half a minute. Where they are freed the usual allocator keeps the
/// memory, because something small still stands at its end; this one gives each page back as it empties, with
/// `MIMALLOC_PURGE_DELAY=0` at once and otherwise when it is next asked for something.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How late a timer may be. A product asks its poll for the true deadline; this keeps the example short.
const TICK: Duration = Duration::from_millis(10);

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [mode, local, target] = words.as_slice() else {
        eprintln!("usage: edge redirect|stateless|stateful LISTEN TARGET");
        std::process::exit(2);
    };
    let mode = match mode.as_str() {
        "redirect" => Mode::Redirect,
        "stateless" => Mode::Stateless,
        "stateful" => Mode::Stateful,
        other => {
            eprintln!("unknown mode {other}");
            std::process::exit(2);
        }
    };
    let (local, target) = (address(local)?, address(target)?);
    let datagrams = Datagrams::bind(local, TICK)?;
    // Port 0 asks the system for a free one; who started us reads it here.
    let local = datagrams.local()?;
    println!("listening on {local}");
    let listener = Listener { transport: Transport::Udp, local, sent_by: local.to_string() };
    let mut config = Config::new(vec![listener]);
    // A test drives us with tens of thousands of calls from one address.
    config.limits.transactions_per_source = config.limits.transactions;
    config.keeps_no_state = mode != Mode::Stateful;
    let start = start();
    // Unique enough for an example: two of them never live at the same nanosecond. The product has better secrets.
    let mut unique = [0; 32];
    let nanos = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_nanos());
    unique[..16].copy_from_slice(&nanos.to_le_bytes());
    let endpoint = Endpoint::new(config, &Keys { shared: [1; 32], unique });
    let (target_text, outbox) = (target.to_string(), Vec::new());
    Edge { mode, local, target, target_text, endpoint, datagrams, outbox, start }.run()
}

fn address(text: &str) -> io::Result<SocketAddr> {
    text.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

#[expect(clippy::disallowed_methods, reason = "an example stands where the product has its clock")]
fn start() -> std::time::Instant {
    std::time::Instant::now()
}

impl Edge {
    fn now(&self) -> Instant {
        Instant::from_epoch(self.start.elapsed())
    }

    fn run(mut self) -> io::Result<()> {
        let mut told = (Instant::ZERO, Statistics::default());
        let mut deadline = None;
        loop {
            match self.datagrams.receive() {
                Ok(()) => {}
                // Nothing came, or somebody was not there: what was sent is repeated or times out.
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error),
            }
            // The clock is looked at once for all that came together.
            let now = self.now();
            let mut place = 0;
            while let Some((bytes, remote)) = self.datagrams.received(place) {
                let source = Source { flow: Flow::udp(self.local, remote), is_known: true };
                self.endpoint.handle_input(now, source, bytes);
                deadline = self.drain(now);
                place += 1;
            }
            if deadline.is_some_and(|at| at <= now) {
                self.endpoint.handle_timeout(now);
                deadline = self.drain(now);
            }
            while !self.outbox.is_empty() {
                // A full socket buffer or a peer that is not there: datagrams get lost, that is what they do.
                for transmit in self.datagrams.send(&std::mem::take(&mut self.outbox)) {
                    self.endpoint.handle_unreachable(now, &transmit);
                    deadline = self.drain(now);
                }
            }
            if now - told.0 >= Duration::from_secs(1) {
                let figures = self.endpoint.statistics();
                if figures != told.1 {
                    // In one piece: what goes to standard error is not gathered.
                    let line = format!("{now:?} {figures:?}\n");
                    io::stderr().write_all(line.as_bytes())?;
                }
                told = (now, figures);
            }
        }
    }

    fn drain(&mut self, now: Instant) -> Option<Instant> {
        loop {
            match self.endpoint.poll_output() {
                Output::Transmit(transmit) => self.outbox.push(transmit),
                Output::Event(event) => self.decide(now, event),
                Output::Deadline(deadline) => return deadline,
            }
        }
    }

    fn decide(&mut self, now: Instant, event: Event) {
        let outcome = match event {
            Event::Request { id, request, source } => match (request.method(), self.mode) {
                (Some(Method::Invite), Mode::Stateful) => self.forward(now, id, &request, source),
                (Some(Method::Options), _) => self.endpoint.reply(now, id, Status::OK, &[]),
                _ => self.endpoint.reply(
                    now,
                    id,
                    Status::new(405).expect("a status"),
                    &[("Allow", b"INVITE, ACK, CANCEL, BYE, OPTIONS")],
                ),
            },
            Event::Stateless { request, source } if self.mode == Mode::Redirect => {
                // An ACK is answered by nobody, and a CANCEL has nothing left to cancel.
                if request.method() != Some(Method::Invite) {
                    return;
                }
                let contact = [b"<", &self.target_uri(&request)[..], b">"].concat();
                let moved = Status::new(302).expect("a status");
                self.endpoint.reply_stateless(&request, source, moved, &[("Contact", &contact)])
            }
            Event::Stateless { request, source } => {
                let target = self.target_of(&request);
                self.endpoint.forward_stateless(&request, source, &target, true)
            }
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            eprintln!("{error}");
        }
    }

    fn forward(
        &mut self,
        now: Instant,
        id: RequestId,
        request: &Message,
        source: Source,
    ) -> Result<(), sip::endpoint::EndpointError> {
        let plan = Plan {
            targets: vec![self.target_of(request)],
            failover: Failover::default(),
            exhausted: Exhausted::Answer { status: Status::UNAVAILABLE, retry_after_s: 5 },
            record_route: true,
        };
        self.endpoint.proxy(now, id, source, plan)
    }
}

impl Edge {
    fn target_of(&self, request: &Message) -> Target {
        Target::new(self.target_uri(request), Flow::udp(self.local, self.target))
    }

    /// The same user at the target.
    fn target_uri(&self, request: &Message) -> Vec<u8> {
        let uri = sip::uri::Uri::parse(request.uri_text()).ok();
        let user = uri.and_then(|uri| uri.as_sip().and_then(|uri| uri.user)).unwrap_or(b"agent");
        [b"sip:", user, b"@", self.target_text.as_bytes()].concat()
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionRefused | Interrupted | TimedOut | WouldBlock)
}
