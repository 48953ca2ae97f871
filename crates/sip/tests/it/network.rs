//! A network in memory: datagrams that are late, lost, doubled or overtaken, and connections that split bytes
//! anywhere, all by one seed. Time is a number that jumps from one thing to the next.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use sip::endpoint::{Config, Endpoint, Event, Listener, Output};
use sip::stream::{Frame, Framer};
use sip::user_agent::{CallEvent, CallOutput, UserAgent};
use sip::{Flow, Instant, Keys, Message, Source, Transmit, Transport};

/// A small generator (Steele and Vigna's SplitMix64), so that a seed says everything.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        count > 0 && self.below(count) == 0
    }
}

/// What the network does to datagrams. Zero means never.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Faults {
    pub(crate) loses_one_in: u64,
    pub(crate) doubles_one_in: u64,
    pub(crate) delay_ms: u64,
    /// Up to so much more, which is how datagrams overtake each other.
    pub(crate) jitter_ms: u64,
}

pub(crate) enum Machine {
    Proxy(Box<Endpoint>),
    Phone(Box<UserAgent>),
}

pub(crate) struct Node {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) machine: Machine,
    framers: HashMap<SocketAddr, Framer>,
    deadline: Option<Instant>,
}

/// One message on its way, for the ladder.
pub(crate) struct Rung {
    pub(crate) at: Instant,
    /// At the latest: the network may hold it up, or lose it.
    pub(crate) arrives: Instant,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// What a node reported.
pub(crate) enum Report {
    Proxy(Event),
    Phone(CallEvent),
}

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) chance: Chance,
    pub(crate) nodes: Vec<Node>,
    pub(crate) transport: Transport,
    faults: Faults,
    /// By arrival, then by departure.
    in_flight: BTreeMap<(Instant, u64), (SocketAddr, usize, Vec<u8>)>,
    /// When the last bytes of a connection arrive: bytes do not overtake.
    connection_busy: HashMap<(SocketAddr, usize), Instant>,
    sent: u64,
    pub(crate) ladder: Vec<Rung>,
    pub(crate) reports: Vec<(usize, Report)>,
}

impl Network {
    pub(crate) fn new(seed: u64, transport: Transport, faults: Faults) -> Network {
        Network {
            now: Instant::ZERO,
            chance: Chance::new(seed),
            nodes: Vec::new(),
            transport,
            faults,
            in_flight: BTreeMap::new(),
            connection_busy: HashMap::new(),
            sent: 0,
            ladder: Vec::new(),
            reports: Vec::new(),
        }
    }

    fn config(&self, address: SocketAddr) -> (Config, Keys) {
        let listener = Listener {
            transport: self.transport,
            local: address,
            sent_by: format!("{}:{}", address.ip(), address.port()),
        };
        let mut unique = [7; 32];
        unique[0] = u8::try_from(self.nodes.len()).unwrap();
        (Config::new(vec![listener]), Keys { shared: [3; 32], unique })
    }

    pub(crate) fn add_proxy(&mut self, name: &'static str, address: &str) -> usize {
        let address = address.parse().unwrap();
        let (config, keys) = self.config(address);
        self.add(name, address, Machine::Proxy(Box::new(Endpoint::new(config, &keys))))
    }

    pub(crate) fn add_phone(&mut self, name: &'static str, address: &str) -> usize {
        let address: SocketAddr = address.parse().unwrap();
        let (config, keys) = self.config(address);
        let transport = self.transport.as_str().to_ascii_lowercase();
        let contact = format!("sip:{name}@{address};transport={transport}");
        self.add(name, address, Machine::Phone(Box::new(UserAgent::new(config, &keys, contact))))
    }

    fn add(&mut self, name: &'static str, address: SocketAddr, machine: Machine) -> usize {
        self.nodes.push(Node { name, address, machine, framers: HashMap::new(), deadline: None });
        self.nodes.len() - 1
    }

    pub(crate) fn flow(&self, from: usize, to: SocketAddr) -> Flow {
        Flow { transport: self.transport, local: self.nodes[from].address, remote: to }
    }

    pub(crate) fn phone(&mut self, node: usize) -> &mut UserAgent {
        match &mut self.nodes[node].machine {
            Machine::Phone(phone) => phone,
            Machine::Proxy(_) => panic!("node {node} is no phone"),
        }
    }

    pub(crate) fn proxy(&mut self, node: usize) -> &mut Endpoint {
        match &mut self.nodes[node].machine {
            Machine::Proxy(proxy) => proxy,
            Machine::Phone(_) => panic!("node {node} is no proxy"),
        }
    }

    pub(crate) fn statistics(&self, node: usize) -> sip::endpoint::Statistics {
        match &self.nodes[node].machine {
            Machine::Proxy(proxy) => proxy.statistics(),
            Machine::Phone(phone) => phone.statistics(),
        }
    }

    /// Takes what a node has to say, until it says when to come again.
    pub(crate) fn drain(&mut self, node: usize) {
        loop {
            let now = self.now;
            let transmit = match &mut self.nodes[node].machine {
                Machine::Proxy(proxy) => match proxy.poll_output() {
                    Output::Transmit(transmit) => transmit,
                    Output::Event(event) => {
                        self.reports.push((node, Report::Proxy(event)));
                        continue;
                    }
                    Output::Deadline(deadline) => {
                        self.nodes[node].deadline = deadline;
                        return;
                    }
                },
                Machine::Phone(phone) => match phone.poll_output(now) {
                    CallOutput::Transmit(transmit) => transmit,
                    CallOutput::Event(event) => {
                        self.reports.push((node, Report::Phone(event)));
                        continue;
                    }
                    CallOutput::Deadline(deadline) => {
                        self.nodes[node].deadline = deadline;
                        return;
                    }
                },
            };
            self.transmit(node, transmit);
        }
    }

    fn transmit(&mut self, node: usize, transmit: Transmit) {
        let Transmit { flow, bytes } = transmit;
        assert_eq!(flow.local, self.nodes[node].address, "sent from a socket that is not there");
        let to = self.nodes.iter().position(|other| other.address == flow.remote);
        let (from, name) = (self.nodes[node].name, to.map_or("nobody", |to| self.nodes[to].name));
        let arrives = self.now + Duration::from_millis(self.faults.delay_ms + self.faults.jitter_ms);
        self.ladder.push(Rung { at: self.now, arrives, from, to: name, bytes: bytes.clone() });
        let Some(to) = to else { return };
        let from = self.nodes[node].address;
        if self.transport.is_reliable() {
            return self.stream(from, to, &bytes);
        }
        if self.chance.one_in(self.faults.loses_one_in) {
            return;
        }
        self.post(from, to, bytes.clone());
        if self.chance.one_in(self.faults.doubles_one_in) {
            self.post(from, to, bytes);
        }
    }

    fn arrival(&mut self) -> Instant {
        let jitter = if self.faults.jitter_ms > 0 { self.chance.below(self.faults.jitter_ms) } else { 0 };
        self.now + Duration::from_millis(self.faults.delay_ms + jitter)
    }

    fn post(&mut self, from: SocketAddr, to: usize, bytes: Vec<u8>) {
        let arrival = self.arrival();
        self.sent += 1;
        self.in_flight.insert((arrival, self.sent), (from, to, bytes));
    }

    /// In order, whole, and split anywhere.
    fn stream(&mut self, from: SocketAddr, to: usize, bytes: &[u8]) {
        let busy = self.connection_busy.get(&(from, to)).copied().unwrap_or_default();
        let arrival = self.arrival().max(busy);
        self.connection_busy.insert((from, to), arrival);
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = 1 + usize::try_from(self.chance.below(rest.len() as u64)).unwrap();
            let (piece, after) = rest.split_at(length);
            self.sent += 1;
            self.in_flight.insert((arrival, self.sent), (from, to, piece.to_vec()));
            rest = after;
        }
    }

    /// The next time something happens.
    pub(crate) fn next(&self) -> Option<Instant> {
        let timers = self.nodes.iter().filter_map(|node| node.deadline);
        let arrivals = self.in_flight.keys().next().map(|(at, _)| *at);
        timers.chain(arrivals).min()
    }

    /// Lets the time pass up to `until`, or to the next report.
    pub(crate) fn run(&mut self, until: Instant) {
        while self.reports.is_empty()
            && let Some(next) = self.next()
            && next <= until
        {
            self.now = self.now.max(next);
            self.step();
        }
        if self.reports.is_empty() {
            self.now = self.now.max(until);
        }
    }

    fn step(&mut self) {
        if let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= self.now
        {
            let (from, to, bytes) = entry.remove();
            return self.arrive(from, to, &bytes);
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].deadline.is_some_and(|deadline| deadline <= self.now) {
                match &mut self.nodes[node].machine {
                    Machine::Proxy(proxy) => proxy.handle_timeout(self.now),
                    Machine::Phone(phone) => phone.handle_timeout(self.now),
                }
                self.drain(node);
            }
        }
    }

    fn arrive(&mut self, from: SocketAddr, to: usize, bytes: &[u8]) {
        let flow = self.flow(to, from);
        if !self.transport.is_reliable() {
            return self.input(to, flow, bytes);
        }
        let mut framer = self.nodes[to].framers.remove(&from).unwrap_or_default();
        framer.push(bytes);
        while let Some(frame) = framer.next_frame().expect("we frame what we send") {
            if let Frame::Message(message) = frame {
                let message = message.to_vec();
                self.input(to, flow, &message);
            }
        }
        self.nodes[to].framers.insert(from, framer);
    }

    fn input(&mut self, node: usize, flow: Flow, bytes: &[u8]) {
        let source = Source { flow, is_known: true };
        match &mut self.nodes[node].machine {
            Machine::Proxy(proxy) => proxy.handle_input(self.now, source, bytes),
            Machine::Phone(phone) => phone.handle_input(self.now, source, bytes),
        }
        self.drain(node);
    }

    /// The ladder as text.
    pub(crate) fn ladder(&self) -> String {
        self.ladder.iter().map(rung_text).collect()
    }
}

fn rung_text(rung: &Rung) -> String {
    let message = Message::parse(&rung.bytes).expect("we send what we can read");
    let what = if message.is_request() {
        let uri = String::from_utf8_lossy(message.uri_text()).into_owned();
        format!("{} {uri}", String::from_utf8_lossy(message.method_text()))
    } else {
        let method = message.cseq().expect("a CSeq").method;
        format!(
            "{} {} ({method})",
            message.status().expect("a status").code(),
            String::from_utf8_lossy(message.reason())
        )
    };
    let millis = rung.at.since_epoch().as_millis();
    format!("{millis:<6} {:>5} → {:<5} {what}\n", rung.from, rung.to)
}
