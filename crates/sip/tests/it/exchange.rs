//! One endpoint at the edge, a caller and an agent: what goes in, what comes out, and the messages they need.

use std::net::SocketAddr;

use sip::endpoint::{Config, Endpoint, Event, Listener, Output, RequestId};
use sip::proxy::{Exhausted, Failover, Plan, Target};
use sip::{Flow, Instant, Keys, Message, ResponseBuilder, Source, Status, Transmit, Transport};

pub(crate) const EDGE: &str = "192.0.2.1:5060";
pub(crate) const CALLER: &str = "192.0.2.5:4444";
pub(crate) const AGENT: &str = "192.0.2.9:5060";

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn config() -> Config {
    let listener = |transport, port: u16| Listener {
        transport,
        local: SocketAddr::new(address(EDGE).ip(), port),
        sent_by: format!("192.0.2.1:{port}"),
    };
    Config::new(vec![
        listener(Transport::Udp, 5060),
        listener(Transport::Tcp, 5060),
        listener(Transport::Tls, 5061),
    ])
}

pub(crate) fn keys(node: u8) -> Keys {
    Keys { shared: [1; 32], unique: [node; 32] }
}

pub(crate) fn source(from: &str, is_known: bool) -> Source {
    Source { flow: Flow::udp(address(EDGE), address(from)), is_known }
}

/// An INVITE from the caller, with these headers more.
pub(crate) fn invite(uri: &str, branch: &str, more: &str) -> String {
    format!(
        "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5:4444;branch=z9hG4bK{branch};rport\r\n\
         From: <sip:c@d>;tag=c1\r\nTo: <sip:a@192.0.2.1>\r\nCall-ID: call-{branch}\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:c@192.0.2.5:4444>\r\n{more}Content-Length: 0\r\n\r\n"
    )
}

/// Everything that comes out.
pub(crate) fn drain(endpoint: &mut Endpoint) -> (Vec<Transmit>, Vec<Event>) {
    let (mut sent, mut events) = (Vec::new(), Vec::new());
    loop {
        match endpoint.poll_output() {
            Output::Transmit(transmit) => sent.push(transmit),
            Output::Event(event) => events.push(event),
            Output::Deadline(_) => return (sent, events),
        }
    }
}

pub(crate) fn input(
    endpoint: &mut Endpoint,
    from: &str,
    text: impl AsRef<[u8]>,
) -> (Vec<Transmit>, Vec<Event>) {
    endpoint.handle_input(Instant::ZERO, source(from, true), text.as_ref());
    drain(endpoint)
}

pub(crate) fn parse(transmit: &Transmit) -> Message {
    Message::parse(&transmit.bytes).unwrap()
}

pub(crate) fn code(transmit: &Transmit) -> u16 {
    parse(transmit).status().unwrap().code()
}

pub(crate) fn request_id(events: &[Event]) -> (RequestId, Source) {
    match events {
        [Event::Request { id, source, .. }] => (*id, *source),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn plan(targets: Vec<Target>) -> Plan {
    Plan { targets, failover: Failover::default(), exhausted: Exhausted::BestResponse, record_route: true }
}

pub(crate) fn agent() -> Target {
    Target::new("sip:agent@192.0.2.9", Flow::udp(address(EDGE), address(AGENT)))
}

/// A call on its way to the agent: the endpoint and the INVITE that the agent sees.
pub(crate) fn proxied(target: Target) -> (Endpoint, Message) {
    let mut edge = Endpoint::new(config(), &keys(1));
    let (_, events) = input(&mut edge, CALLER, invite("sip:a@192.0.2.1", "p", ""));
    let (id, source) = request_id(&events);
    edge.proxy(Instant::ZERO, id, source, plan(vec![target])).unwrap();
    let (sent, _) = drain(&mut edge);
    assert_eq!(sent.len(), 1);
    (edge, parse(&sent[0]))
}

pub(crate) fn respond(
    edge: &mut Endpoint,
    request: &Message,
    status: u16,
    headers: &[(&str, &str)],
) -> (Vec<Transmit>, Vec<Event>) {
    let mut builder =
        ResponseBuilder::new(request, Status::new(status).unwrap()).to_tag(b"a1").record_routes();
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    edge.handle_input(Instant::ZERO, source(AGENT, true), builder.build().unwrap().bytes());
    drain(edge)
}
