//! Which way requests and responses go: inside a dialog by a signed Route, past old routers, over connections, and
//! past those who would have us send for them.

use sip::endpoint::{Endpoint, Event};
use sip::proxy::Target;
use sip::{Flow, Instant, Message, Method, Name, ResponseBuilder, Source, Status, Transmit, Transport};

use crate::exchange::{
    AGENT, CALLER, EDGE, address, agent, code, config, drain, input, invite, keys, parse, plan, proxied,
    request_id, respond, source,
};

/// Our Record-Route as it stands in an answered call between CALLER and AGENT.
fn signed_route() -> String {
    let (mut edge, at_agent) = proxied(agent());
    let (sent, _) = respond(&mut edge, &at_agent, 200, &[("Contact", "<sip:agent@192.0.2.9>")]);
    let answer = parse(&sent[0]);
    String::from_utf8(answer.list(Name::RecordRoute).next().unwrap().to_vec()).unwrap()
}

/// A request in that call's dialog.
fn in_dialog(method: &str, uri: &str, route: &str, from_tag: &str, to_tag: &str) -> String {
    let to_tag = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5:4444;branch=z9hG4bK{method}{from_tag};rport\r\n\
         {route}Max-Forwards: 70\r\nFrom: <sip:c@d>;tag={from_tag}\r\nTo: <sip:a@h>{to_tag}\r\n\
         Call-ID: call-p\r\nCSeq: 2 {method}\r\nContact: <sip:c@192.0.2.5:4444>\r\n\r\n"
    )
}

/// Whoever has seen a Record-Route of ours (all who take part in a call have) can say it again.
#[test]
fn a_signed_route_opens_no_relay() {
    let route = format!("Route: {}\r\n", signed_route());
    let uri = "sip:+9005550100@198.51.100.7";
    let send = |from: &str, is_known: bool, text: &str| {
        let mut edge = Endpoint::new(config(), &keys(9));
        edge.handle_input(Instant::ZERO, source(from, is_known), text.as_bytes());
        drain(&mut edge)
    };
    let is_forwarded =
        |(sent, _): &(Vec<Transmit>, Vec<Event>)| sent.iter().any(|sent| parse(sent).is_request());
    // A new call is for the owner to decide about.
    let fresh = send(CALLER, true, &in_dialog("INVITE", uri, &route, "c1", ""));
    assert!(!is_forwarded(&fresh) && matches!(fresh.1[..], [Event::Request { .. }]), "{fresh:?}");
    // In a dialog, but not of these two.
    let other = send(CALLER, true, &in_dialog("INVITE", uri, &route, "x1", "x2"));
    assert!(!is_forwarded(&other), "{other:?}");
    // The dialog's tags, from elsewhere.
    let stranger = send("203.0.113.66:5060", false, &in_dialog("INVITE", uri, &route, "c1", "a1"));
    assert!(!is_forwarded(&stranger), "{stranger:?}");
    // A target behind another server, or a phone whose address changed, may end the call and nothing else, towards the
    // other end and nowhere else.
    let ended = send("203.0.113.66:5060", false, &in_dialog("BYE", uri, &route, "c1", "a1"));
    assert_eq!(ended.0[0].flow.remote, address(AGENT));
    // Both ends, and a known peer's other address.
    for (from, is_known, tags) in
        [(CALLER, false, ("c1", "a1")), (AGENT, false, ("a1", "c1")), ("192.0.2.77:5060", true, ("c1", "a1"))]
    {
        let good = send(from, is_known, &in_dialog("BYE", "sip:x@host.invalid", &route, tags.0, tags.1));
        assert!(is_forwarded(&good), "{from}");
    }
}

/// A phone that was told to come by us twice over, and one from before RFC 3261.
#[test]
fn routes_without_a_signature_and_peers_without_a_tag() {
    let mut edge = Endpoint::new(config(), &keys(1));
    let text = invite("sip:a@192.0.2.1", "bare", "Route: <sip:192.0.2.1;lr>, <sip:192.0.2.1:5060;lr>\r\n");
    let (_, events) = input(&mut edge, CALLER, text);
    let [Event::Request { request, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(request.routes().count(), 0);
    let route = format!("Route: <sip:192.0.2.1;lr>\r\nRoute: {}\r\n", signed_route());
    for method in ["ACK", "BYE"] {
        let text = in_dialog(method, "sip:agent@192.0.2.9", &route, "c1", "");
        assert_eq!(input(&mut edge, CALLER, text).0[0].flow.remote, address(AGENT), "{method}");
    }
}

#[test]
fn a_body_is_announced_on_a_connection() {
    let tcp = |local: &str, remote: &str| Flow {
        transport: Transport::Tcp,
        local: address(local),
        remote: address(remote),
    };
    let (mut edge, at_agent) = proxied(Target::new("sip:agent@192.0.2.9;transport=tcp", tcp(EDGE, AGENT)));
    let (sent, _) = respond(&mut edge, &at_agent, 200, &[("Contact", "<sip:agent@192.0.2.9;transport=tcp>")]);
    let answer = parse(&sent[0]);
    let route = answer.list(Name::RecordRoute).fold(String::new(), |routes, value| {
        format!("Route: {}\r\n{routes}", String::from_utf8_lossy(value))
    });
    // On UDP the body is all the rest. On a connection this one would be read as the next request.
    let hidden = "INVITE sip:premium@example.com SIP/2.0\r\n\r\n";
    let uri = "sip:agent@192.0.2.9;transport=tcp";
    let text = in_dialog("INFO", uri, &route, "c1", "a1") + hidden;
    let (sent, _) = input(&mut edge, CALLER, text);
    assert_eq!(sent[0].flow.transport, Transport::Tcp);
    assert_eq!(parse(&sent[0]).content_length(), Ok(Some(hidden.len())));

    // The same for what the owner sends by itself.
    let ack = in_dialog("ACK", uri, "", "c1", "a1");
    let bare: String = ack.split_inclusive("\r\n").filter(|line| !line.starts_with("Via")).collect();
    let ack = Message::parse((bare + hidden).as_bytes()).unwrap();
    edge.send(ack, tcp(EDGE, AGENT)).unwrap();
    assert_eq!(parse(&drain(&mut edge).0[0]).content_length(), Ok(Some(hidden.len())));

    // The same for the answers that a caller on a connection gets, with a transaction and without.
    let text = invite("sip:a@192.0.2.1", "tcp", "").replace("SIP/2.0/UDP", "SIP/2.0/TCP");
    for keeps_no_state in [false, true] {
        let mut config = config();
        config.keeps_no_state = keeps_no_state;
        let mut edge = Endpoint::new(config, &keys(1));
        let source = Source { flow: tcp(EDGE, CALLER), is_known: true };
        edge.handle_input(Instant::ZERO, source, text.as_bytes());
        match drain(&mut edge).1.remove(0) {
            Event::Request { id, source, .. } => {
                edge.proxy(Instant::ZERO, id, source, plan(vec![agent()])).unwrap();
            }
            Event::Stateless { request, source } => {
                edge.forward_stateless(&request, source, &agent(), true).unwrap();
            }
            other => panic!("{other:?}"),
        }
        let at_agent = parse(&drain(&mut edge).0[0]);
        let mut ok = ResponseBuilder::new(&at_agent, Status::OK).to_tag(b"a1").build().unwrap();
        ok.remove(Name::ContentLength);
        let (sent, _) = input(&mut edge, AGENT, [ok.bytes(), b"v=0\r\n"].concat());
        assert_eq!(parse(&sent[0]).content_length(), Ok(Some(5)), "without state: {keeps_no_state}");
        assert_eq!(sent[0].flow, tcp(EDGE, CALLER));
    }
}

/// Behind a NAT a connection ends at a port that stands in no header, and a host may have several sockets.
#[test]
fn a_response_without_state_leaves_as_its_request_came() {
    let mut config = config();
    config.keeps_no_state = true;
    let mut second = config.listeners[0].clone();
    second.local = address("192.0.2.1:5070");
    "192.0.2.1:5070".clone_into(&mut second.sent_by);
    config.listeners.push(second);
    let flow = |transport, local: &str| Flow {
        transport,
        local: address(local),
        remote: address("203.0.113.9:40123"),
    };
    for came in [flow(Transport::Tls, "192.0.2.1:5061"), flow(Transport::Udp, "192.0.2.1:5070")] {
        let mut edge = Endpoint::new(config.clone(), &keys(1));
        let via = if came.transport == Transport::Tls {
            "SIP/2.0/TLS 10.0.0.7:5061;branch"
        } else {
            "SIP/2.0/UDP 10.0.0.7:5060;rport;branch"
        };
        let text = invite("sip:a@192.0.2.1", "nat", "")
            .replace("SIP/2.0/UDP 192.0.2.5:4444;branch", via)
            .replace("Knat;rport", "Knat");
        edge.handle_input(Instant::ZERO, Source { flow: came, is_known: true }, text.as_bytes());
        let Some(Event::Stateless { request, source }) = drain(&mut edge).1.pop() else { panic!() };
        edge.forward_stateless(&request, source, &agent(), true).unwrap();
        let at_agent = parse(&drain(&mut edge).0[0]);
        let ok = ResponseBuilder::new(&at_agent, Status::OK).to_tag(b"a1").build().unwrap();
        // Another node of ours knows the way as well.
        let mut other = Endpoint::new(config.clone(), &keys(2));
        assert_eq!(input(&mut other, AGENT, ok.bytes()).0[0].flow, came);
    }
}

/// A firewall lets in only what comes from where something was sent to.
#[test]
fn a_dialog_keeps_to_its_socket() {
    let mut config = config();
    let mut second = config.listeners[0].clone();
    second.local = address("192.0.2.1:5070");
    "192.0.2.1:5070".clone_into(&mut second.sent_by);
    config.listeners.push(second);
    let mut edge = Endpoint::new(config, &keys(1));
    let by_second =
        |from: &str| Source { flow: Flow::udp(address("192.0.2.1:5070"), address(from)), is_known: true };
    let text = invite("sip:a@192.0.2.1", "p", "");
    edge.handle_input(Instant::ZERO, by_second(CALLER), text.as_bytes());
    let (id, source) = request_id(&drain(&mut edge).1);
    let target = Target::new("sip:agent@192.0.2.9", by_second(AGENT).flow);
    edge.proxy(Instant::ZERO, id, source, plan(vec![target])).unwrap();
    let at_agent = parse(&drain(&mut edge).0[0]);
    let route = String::from_utf8_lossy(at_agent.list(Name::RecordRoute).next().unwrap()).into_owned();
    // The caller is now reached at another address than it called from.
    let bye = in_dialog("BYE", "sip:c@198.51.100.7:5066", &format!("Route: {route}\r\n"), "a1", "c1");
    edge.handle_input(Instant::ZERO, by_second(AGENT), bye.as_bytes());
    let expected = Flow::udp(address("192.0.2.1:5070"), address("198.51.100.7:5066"));
    assert_eq!(drain(&mut edge).0[0].flow, expected);
}

/// RFC 3261 §16.11: an INVITE, its CANCEL and its ACK share a branch, also when their sender connected again between them.
#[test]
fn without_state_a_call_has_one_branch() {
    let mut config = config();
    config.keeps_no_state = true;
    let branch_of = |method: &str, port: u16| {
        let mut edge = Endpoint::new(config.clone(), &keys(1));
        let text = invite("sip:a@192.0.2.1", "one", "")
            .replace("INVITE", method)
            .replace("SIP/2.0/UDP", "SIP/2.0/TCP")
            .replace(";rport", "");
        let remote = std::net::SocketAddr::new(address(CALLER).ip(), port);
        let flow = Flow { transport: Transport::Tcp, local: address(EDGE), remote };
        edge.handle_input(Instant::ZERO, Source { flow, is_known: true }, text.as_bytes());
        let Some(Event::Stateless { request, source }) = drain(&mut edge).1.pop() else { panic!("{method}") };
        edge.forward_stateless(&request, source, &agent(), true).unwrap();
        parse(&drain(&mut edge).0[0]).via_top().unwrap().branch().unwrap().to_vec()
    };
    let invite = branch_of("INVITE", 40_001);
    assert_eq!(branch_of("CANCEL", 40_002), invite);
    assert_eq!(branch_of("ACK", 40_003), invite);
}

/// RFC 3261 §16.4 and §16.12.1.1: routers from before it put the next hop into the request-URI.
#[test]
fn routers_from_before_rfc_3261_are_understood() {
    let route = signed_route();
    let ours = route.trim_matches(['<', '>']);
    let from_strict = in_dialog("BYE", ours, "Route: <sip:agent@192.0.2.9>\r\n", "c1", "a1");
    let mut edge = Endpoint::new(config(), &keys(9));
    let (sent, events) = input(&mut edge, CALLER, from_strict);
    assert!(events.is_empty(), "{events:?}");
    let forwarded = parse(&sent[0]);
    assert_eq!((forwarded.uri_text(), forwarded.routes().count()), (&b"sip:agent@192.0.2.9"[..], 0));
    assert_eq!(sent[0].flow.remote, address(AGENT));

    let routes = format!("Route: {route}\r\nRoute: <sip:old@192.0.2.66>, <sip:192.0.2.67;lr>\r\n");
    let to_strict = in_dialog("BYE", "sip:agent@192.0.2.9", &routes, "c1", "a1");
    let (sent, _) = input(&mut edge, CALLER, to_strict);
    let forwarded = parse(&sent[0]);
    assert_eq!(sent[0].flow.remote, address("192.0.2.66:5060"));
    assert_eq!(forwarded.uri_text(), b"sip:old@192.0.2.66");
    let routes: Vec<_> = forwarded.list(Name::Route).collect();
    assert_eq!(routes, [&b"<sip:192.0.2.67;lr>"[..], b"<sip:agent@192.0.2.9>"]);
}

#[test]
fn a_call_to_a_sips_uri_stays_in_tls() {
    let tls = |remote: &str| Flow {
        transport: Transport::Tls,
        local: address("192.0.2.1:5061"),
        remote: address(remote),
    };
    let routes = |asked: &str, came: Flow, target: &str, goes: Flow| -> Vec<String> {
        let mut edge = Endpoint::new(config(), &keys(1));
        let text = invite(asked, "s", "").replace("SIP/2.0/UDP", &format!("SIP/2.0/{}", came.transport));
        edge.handle_input(Instant::ZERO, Source { flow: came, is_known: true }, text.as_bytes());
        let (id, source) = request_id(&drain(&mut edge).1);
        edge.proxy(Instant::ZERO, id, source, plan(vec![Target::new(target, goes)])).unwrap();
        let sent = parse(&drain(&mut edge).0[0]);
        let begins = |route: &[u8]| String::from_utf8_lossy(route).split(";lr").next().unwrap().to_owned();
        sent.list(Name::RecordRoute).map(begins).collect()
    };
    let (sips, secure) = ("sips:a@192.0.2.1", "<sips:192.0.2.1:5061;transport=tcp");
    assert_eq!(routes(sips, tls(CALLER), "sips:agent@192.0.2.9", tls(AGENT)), [secure]);
    // Who called by UDP could do nothing with a sips: URI.
    let udp = Flow::udp(address(EDGE), address(CALLER));
    let plain = "<sip:192.0.2.1:5060;transport=udp";
    assert_eq!(routes("sip:a@192.0.2.1", udp, "sips:agent@192.0.2.9", tls(AGENT)), [secure, plain]);
}

#[test]
fn a_fork_to_two_of_our_numbers_and_a_second_try_are_no_merge() {
    let mut edge = Endpoint::new(config(), &keys(1));
    let first = invite("sip:a@192.0.2.1", "fork", "");
    request_id(&input(&mut edge, CALLER, &first).1);
    let second = first.replace("INVITE sip:a@", "INVITE sip:b@").replace("z9hG4bKfork", "z9hG4bKfork2");
    let (id, _) = request_id(&input(&mut edge, CALLER, &second).1);
    // A proxy tries again with the same CSeq after a challenge.
    edge.reply(Instant::ZERO, id, Status::new(407).unwrap(), &[]).unwrap();
    drain(&mut edge);
    request_id(&input(&mut edge, CALLER, second.replace("z9hG4bKfork2", "z9hG4bKfork3")).1);
}

/// The caller gave up while two phones behind a forking, record-routing proxy answered.
#[test]
fn each_dialog_that_nobody_wants_is_ended_once() {
    let more = "Record-Route: <sip:192.0.2.44;lr>\r\n";
    let mut edge = Endpoint::new(config(), &keys(1));
    let text = invite("sip:a@192.0.2.1", "p", more);
    let (id, source) = request_id(&input(&mut edge, CALLER, &text).1);
    edge.proxy(Instant::ZERO, id, source, plan(vec![agent()])).unwrap();
    let at_agent = parse(&drain(&mut edge).0[0]);
    respond(&mut edge, &at_agent, 180, &[]);
    let cancel = text.replace("INVITE", "CANCEL");
    input(&mut edge, CALLER, &cancel);
    let mut answer = |tag: &str| -> Vec<(Method, Vec<String>)> {
        let mut ok = ResponseBuilder::new(&at_agent, Status::OK)
            .to_tag(tag.as_bytes())
            .record_routes()
            .header("Contact", "<sip:agent@192.0.2.9>")
            .build()
            .unwrap();
        ok.push_record_route(b"<sip:192.0.2.55;lr>").unwrap();
        let sent = input(&mut edge, AGENT, ok.bytes()).0;
        let routes = |message: &Message| {
            message.list(Name::Route).map(|route| String::from_utf8_lossy(route).into_owned()).collect()
        };
        sent.iter().map(parse).map(|sent| (sent.method().unwrap(), routes(&sent))).collect()
    };
    let below = vec!["<sip:192.0.2.55;lr>".to_owned()];
    let ended = vec![(Method::Ack, below.clone()), (Method::Bye, below.clone())];
    assert_eq!(answer("one"), ended, "only the router behind us is on the way");
    assert_eq!(answer("two"), ended);
    assert_eq!(answer("one"), [(Method::Ack, below)], "again: its ACK was lost");
}

/// An answer that is lost must not leave a phone ringing that nobody can stop.
#[test]
fn a_silent_target_is_asked_again_after_the_caller_gave_up() {
    let (mut edge, at_agent) = proxied(agent());
    let cancel = invite("sip:a@192.0.2.1", "p", "").replace("INVITE", "CANCEL");
    let (sent, _) = input(&mut edge, CALLER, &cancel);
    assert!(sent.iter().all(|sent| sent.flow.remote == address(CALLER)), "nothing to cancel yet (§9.1)");
    edge.handle_timeout(Instant::ZERO + std::time::Duration::from_millis(501));
    let again = drain(&mut edge).0.iter().filter(|sent| sent.flow.remote == address(AGENT)).map(parse).next();
    assert_eq!(again.and_then(|message| message.method()), Some(Method::Invite));
    let (sent, _) = respond(&mut edge, &at_agent, 180, &[]);
    assert_eq!(parse(&sent[0]).method(), Some(Method::Cancel));
}

#[test]
fn a_late_transport_error_ends_nothing_that_was_answered() {
    let (mut edge, at_agent) = proxied(agent());
    let lost = Transmit { flow: Flow::udp(address(EDGE), address(AGENT)), bytes: at_agent.bytes().to_vec() };
    respond(&mut edge, &at_agent, 180, &[]);
    edge.handle_unreachable(Instant::ZERO, &lost);
    assert!(drain(&mut edge).0.is_empty());
    let (sent, _) = respond(&mut edge, &at_agent, 200, &[("Contact", "<sip:agent@192.0.2.9>")]);
    assert_eq!((code(&sent[0]), sent[0].flow.remote), (200, address(CALLER)));
}
