//! A small edge on real sockets, so that real peers can meet the engine. It is no part of the product.
//!
//! ```text
//! cargo run -p sip --example edge -- redirect  127.0.0.1:5060 127.0.0.1:5070
//! cargo run -p sip --example edge -- stateless 127.0.0.1:5060 127.0.0.1:5070
//! cargo run -p sip --example edge -- stateful  127.0.0.1:5060 127.0.0.1:5070 127.0.0.1:5072
//! ```
//!
//! `redirect` answers each INVITE with a 302 to the target. `stateful` forwards it in transactions, stays in the
//! dialog by a signed Record-Route, and tries the targets one after another. `stateless` forwards with a Record-Route
//! and keeps nothing, as the fastest proxies do. OPTIONS gets 200, other requests 405. UDP only; one thread; runs until
//! it is killed. With port 0 it takes a free port and says which. Once a second a line of figures goes to standard
//! error when something has changed.
//!
//! A call through it, with SIPp (Debian: sip-tester) as the agent and then as the caller (`redirected.xml` for
//! `redirect`); `crates/sip/smoke.sh` does that in all three modes:
//!
//! ```text
//! sipp -sf crates/sip/tests/sipp/uas.xml -i 127.0.0.1 -p 5070
//! sipp 127.0.0.1:5060 -sf crates/sip/tests/sipp/routed.xml -i 127.0.0.1 -m 1
//! ```

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
    /// Each with its address as text.
    targets: Vec<(SocketAddr, String)>,
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
    let [mode, local, targets @ ..] = words.as_slice() else { usage() };
    if targets.is_empty() {
        usage();
    }
    let mode = match mode.as_str() {
        "redirect" => Mode::Redirect,
        "stateless" => Mode::Stateless,
        "stateful" => Mode::Stateful,
        _ => usage(),
    };
    let targets = targets.iter().map(|text| (address(text), text.clone())).collect();
    let local = address(local);
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
    Edge { mode, local, targets, endpoint, datagrams, outbox: Vec::new(), start }.run()
}

fn usage() -> ! {
    eprintln!("usage: edge redirect|stateless|stateful LISTEN TARGET...");
    eprintln!("LISTEN and each TARGET are an address and a port, such as 127.0.0.1:5060");
    std::process::exit(2)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        eprintln!("{text:?} is no address with a port, such as 127.0.0.1:5060 or [::1]:5060");
        usage()
    })
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
                let contact = [b"<", &self.target_of(&request, 0).uri[..], b">"].concat();
                let moved = Status::new(302).expect("a status");
                self.endpoint.reply_stateless(&request, source, moved, &[("Contact", &contact)])
            }
            Event::Stateless { request, source } => {
                let target = self.target_of(&request, 0);
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
            targets: (0..self.targets.len()).map(|place| self.target_of(request, place)).collect(),
            failover: Failover::default(),
            exhausted: Exhausted::Answer { status: Status::UNAVAILABLE, retry_after_s: 5 },
            record_route: true,
        };
        self.endpoint.proxy(now, id, source, plan)
    }
}

impl Edge {
    /// The same user at one of the targets.
    fn target_of(&self, request: &Message, place: usize) -> Target {
        let (address, text) = &self.targets[place];
        let uri = sip::uri::Uri::parse(request.uri_text()).ok();
        let user = uri.and_then(|uri| uri.as_sip().and_then(|uri| uri.user)).unwrap_or(b"agent");
        let uri = [b"sip:", user, b"@", text.as_bytes()].concat();
        Target::new(uri, Flow::udp(self.local, *address))
    }
}

fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), ConnectionRefused | Interrupted | TimedOut | WouldBlock)
}
