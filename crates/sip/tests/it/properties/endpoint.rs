//! Datagrams, decisions and times in any order. Nothing panics, what is sent can be read, and when time has passed
//! nothing is left.

use std::time::Duration;

use sip::endpoint::{Config, Endpoint, Event, Listener, Output, RequestId};
use sip::proxy::{Exhausted, Failover, Plan, Target};
use sip::{Flow, Instant, Keys, Message, Name, ResponseBuilder, Source, Status, Transmit, Transport};

/// Messages to begin with, so that the fuzzer need not find SIP by itself. `@` stands for the branch that the
/// endpoint last used, so that responses can meet their transactions.
const SEEDS: [&str; 8] = [
    "INVITE sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5;rport;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nFrom: <sip:c@d>;tag=1\r\nTo: <sip:a@h>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContact: <sip:c@192.0.2.5>\r\n\r\n",
    "ACK sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5;rport;branch=z9hG4bK1\r\nFrom: <sip:c@d>;tag=1\r\nTo: <sip:a@h>;tag=2\r\nCall-ID: x\r\nCSeq: 1 ACK\r\n\r\n",
    "CANCEL sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5;rport;branch=z9hG4bK1\r\nFrom: <sip:c@d>;tag=1\r\nTo: <sip:a@h>\r\nCall-ID: x\r\nCSeq: 1 CANCEL\r\n\r\n",
    "BYE sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5;branch=z9hG4bK2\r\nFrom: <sip:c@d>;tag=1\r\nTo: <sip:a@h>;tag=2\r\nCall-ID: x\r\nCSeq: 2 BYE\r\n\r\n",
    "SIP/2.0 180 Ringing\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=@\r\nVia: SIP/2.0/UDP 192.0.2.5;rport=4444;received=192.0.2.5;branch=z9hG4bK1\r\nFrom: <sip:c@d>;tag=1\r\nTo: <sip:a@h>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n",
    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=@\r\nVia: SIP/2.0/UDP 192.0.2.5;rport=4444;received=192.0.2.5;branch=z9hG4bK1\r\nFrom: <sip:c@d>;tag=1\r\nTo: <sip:a@h>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContact: <sip:b@192.0.2.9>\r\n\r\n",
    "SIP/2.0 486 Busy\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=@\r\nVia: SIP/2.0/UDP 192.0.2.5;rport=4444;received=192.0.2.5;branch=z9hG4bK1\r\nFrom: <sip:c@d>;tag=1\r\nTo: <sip:a@h>;tag=3\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n",
    "SIP/2.0 302 Moved\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=@\r\nFrom: <sip:c@d>;tag=1\r\nTo: <sip:a@h>;tag=4\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContact: <sip:z@192.0.2.7>\r\n\r\n",
];

struct World {
    endpoint: Endpoint,
    now: Instant,
    source: Source,
    waiting: Vec<RequestId>,
    /// The last request that was sent, and its branch.
    sent: Option<Message>,
    branch: Vec<u8>,
    /// The Record-Routes that we put on last: the way into a dialog.
    routes: Vec<u8>,
    last: Option<Transmit>,
}

impl World {
    fn new(keeps_no_state: bool) -> World {
        let local = "192.0.2.1:5060".parse().expect("an address");
        let listener = |transport| Listener { transport, local, sent_by: "192.0.2.1:5060".into() };
        let mut config = Config::new(vec![listener(Transport::Udp), listener(Transport::Tcp)]);
        config.keeps_no_state = keeps_no_state;
        let remote = "192.0.2.5:4444".parse().expect("an address");
        World {
            endpoint: Endpoint::new(config, &Keys { shared: [1; 32], unique: [2; 32] }),
            now: Instant::ZERO,
            source: Source { flow: Flow::udp(local, remote), is_known: true },
            waiting: Vec::new(),
            sent: None,
            branch: Vec::new(),
            routes: Vec::new(),
            last: None,
        }
    }

    fn drain(&mut self) {
        loop {
            match self.endpoint.poll_output() {
                Output::Transmit(transmit) => {
                    let sent = Message::parse(&transmit.bytes).expect("what we send can be read");
                    if sent.is_request()
                        && let Ok(via) = sent.via_top()
                    {
                        self.branch = via.branch().unwrap_or_default().to_vec();
                        let routes: Vec<_> = sent.lines(Name::RecordRoute).collect();
                        if !routes.is_empty() {
                            self.routes = routes.join(&b", "[..]);
                        }
                        self.sent = Some(sent);
                    }
                    self.last = Some(transmit);
                }
                Output::Event(Event::Request { id, .. }) => self.waiting.push(id),
                Output::Event(Event::Redirected { id, .. }) => {
                    let target = Target::new("sip:next@192.0.2.7", self.source.flow);
                    let _ = self.endpoint.proxy_more(self.now, id, vec![target]);
                }
                Output::Event(Event::Stateless { request, source }) => {
                    let mut target = Target::new("sip:agent@192.0.2.9", self.source.flow);
                    target.flow.transport =
                        if request.body().len() % 2 == 0 { Transport::Udp } else { Transport::Tcp };
                    let _ = self.endpoint.forward_stateless(&request, source, &target, true);
                }
                Output::Event(Event::Ack { request, .. }) => {
                    let _ = self.endpoint.forward_to(&request, self.source.flow);
                }
                Output::Event(_) => {}
                Output::Deadline(_) => return,
            }
        }
    }

    fn input(&mut self, bytes: &[u8]) {
        let mut text = Vec::with_capacity(bytes.len() + 64);
        for &byte in bytes {
            if byte == b'@' && text.ends_with(b"branch=") {
                text.extend_from_slice(&self.branch);
            } else {
                text.push(byte);
            }
        }
        self.endpoint.handle_input(self.now, self.source, &text);
    }

    /// A request in the dialog that was begun last, by our own Routes; or one that says so.
    fn in_dialog(&mut self, value: u8, route: &[u8]) {
        let methods = if value & 64 == 0 {
            ["BYE", "INVITE", "ACK", "INFO"]
        } else {
            ["BYE", "CANCEL", "PRACK", "UPDATE"]
        };
        let method = methods[usize::from(value % 4)];
        if value & 128 != 0 {
            self.source.flow.remote = "203.0.113.66:5070".parse().expect("an address");
        }
        let (from, to) = if value & 4 == 0 { ("1", ";tag=t0") } else { ("t0", ";tag=1") };
        let to = if value & 8 == 0 { to } else { "" };
        let uri: &[u8] = if value & 16 == 0 { b"sip:x@198.51.100.7" } else { self.routes.trim_ascii() };
        let uri = uri.strip_prefix(b"<").unwrap_or(uri);
        let uri = uri.split(|&byte| byte == b'>').next().unwrap_or_default();
        let more = if value & 32 == 0 { &b""[..] } else { route };
        let parts: [&[u8]; 14] = [
            method.as_bytes(),
            b" ",
            uri,
            b" SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5;branch=z9hG4bK9\r\nRoute: ",
            &self.routes,
            b"\r\nRoute: ",
            more,
            b"\r\nFrom: <sip:c@d>;tag=",
            from.as_bytes(),
            b"\r\nTo: <sip:a@h>",
            to.as_bytes(),
            b"\r\nCall-ID: x\r\nCSeq: 7 ",
            method.as_bytes(),
            b"\r\n\r\nbody",
        ];
        self.endpoint.handle_input(self.now, self.source, &parts.concat());
        self.source.flow.remote = "192.0.2.5:4444".parse().expect("an address");
    }

    /// The other side answers what was sent last.
    fn answer(&mut self, value: u8, header: &[u8]) {
        let Some(sent) = &self.sent else { return };
        let status = Status::new(100 + u16::from(value) * 2).unwrap_or(Status::OK);
        let tag = [b't', b'0' + value % 4];
        let response =
            ResponseBuilder::new(sent, status).to_tag(&tag).record_routes().header("Contact", header).build();
        if let Ok(mut response) = response {
            if value & 128 != 0 {
                // A router behind us.
                response.push_record_route(b"<sip:192.0.2.55;lr>").expect("one line");
            }
            self.endpoint.handle_input(self.now, self.source, response.bytes());
        }
    }

    fn reply(&mut self, value: u8) {
        let Some(id) = self.waiting.pop() else { return };
        let status = Status::new(100 + u16::from(value) * 2).unwrap_or(Status::OK);
        let _ = self.endpoint.reply(self.now, id, status, &[]);
        if status.is_provisional() {
            self.waiting.push(id);
        }
    }

    fn proxy(&mut self, value: u8) {
        let Some(id) = self.waiting.pop() else { return };
        let uri = if value & 16 == 0 { "sip:agent@192.0.2.9" } else { "sips:agent@192.0.2.9" };
        let targets = (0..=value % 3).map(|_| Target::new(uri, self.source.flow)).collect();
        let exhausted = if value & 8 == 0 {
            Exhausted::BestResponse
        } else {
            Exhausted::Answer { status: Status::UNAVAILABLE, retry_after_s: 5 }
        };
        let plan =
            Plan { targets, failover: Failover::default(), exhausted, record_route: value.is_multiple_of(2) };
        let _ = self.endpoint.proxy(self.now, id, self.source, plan);
    }
}

/// Each step: what to do, a parameter, and for bytes their length.
pub(crate) fn check(bytes: &[u8]) {
    let mut world = World::new(bytes.first().is_some_and(|first| first & 0x20 != 0));
    let mut rest = bytes;
    while let [kind, value, after @ ..] = rest {
        rest = after;
        // Who it comes from: a stranger now and then, over a connection now and then.
        world.source.is_known = kind & 0x80 == 0;
        world.source.flow.transport = if kind & 0x40 == 0 { Transport::Udp } else { Transport::Tcp };
        match kind % 12 {
            0 => {
                let length = (usize::from(*value) * 8).min(rest.len());
                let (datagram, after) = rest.split_at(length);
                rest = after;
                world.input(datagram);
            }
            1..=3 => {
                // A seed with a few bytes changed by what follows.
                let mut text = SEEDS[usize::from(*value) % SEEDS.len()].as_bytes().to_vec();
                let changes = usize::from(value >> 3) % 4;
                for _ in 0..changes {
                    let [place, byte, after @ ..] = rest else { break };
                    rest = after;
                    let at = usize::from(*place) * text.len() / 256;
                    text[at] = *byte;
                }
                world.input(&text);
            }
            4 => {
                world.now = world.now + Duration::from_millis(1 << (value % 18));
                world.endpoint.handle_timeout(world.now);
            }
            5 => world.reply(*value),
            6 => world.proxy(*value),
            7 => {
                let (header, after) = rest.split_at(rest.len().min(16));
                rest = after;
                world.answer(*value, header);
            }
            8 => {
                let (route, after) = rest.split_at(rest.len().min(24));
                rest = after;
                world.in_dialog(*value, route);
            }
            9 => {
                if let Some(id) = world.waiting.pop() {
                    let _ = world.endpoint.ignore(id);
                }
            }
            10 => {
                if let Some(last) = world.last.take() {
                    world.endpoint.handle_unreachable(world.now, &last);
                }
            }
            _ => {
                if let Ok(request) = Message::parse(SEEDS[0].as_bytes()) {
                    let _ = world.endpoint.request(world.now, request, world.source.flow);
                }
            }
        }
        world.drain();
    }
    // More than the longest of our time-outs, in steps as a clock would take them.
    for _ in 0..60 {
        world.now = world.now + Duration::from_secs(32);
        world.endpoint.handle_timeout(world.now);
        world.drain();
    }
    let left = world.endpoint.statistics();
    assert_eq!((left.transactions, left.waiting, left.calls), (0, 0, 0));
    assert_eq!((left.timers, left.held_bytes), (0, 0));
}
