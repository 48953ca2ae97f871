//! The engine by itself: what it refuses and in which order, whom it answers, and what it forwards without state. A
//! table of small exchanges.

use sip::digest::{Credentials, Secret};
use sip::endpoint::{Endpoint, Event};
use sip::proxy::Target;
use sip::{Flow, Instant, Message, MethodSet, Name, ResponseBuilder, Status, Transport};

use crate::exchange::{
    AGENT, CALLER, EDGE, address, agent, code, config, drain, input, invite, keys, parse, plan, proxied,
    request_id, respond, source,
};

#[test]
fn requests_are_refused_in_the_rfcs_order() {
    let long_user = format!("sip:{}@192.0.2.1", "u".repeat(5_000));
    let user = format!("sip:{}@192.0.2.1", "u".repeat(300));
    let cases: &[(&str, &str, &str, u16)] = &[
        // RFC 3261 §16.3 steps 1 to 5: each fault with all the later ones.
        ("syntax", "foo:x", "Max-Forwards: x\r\nProxy-Require: sec\r\n", 400),
        ("scheme", "foo:x", "Max-Forwards: 0\r\nProxy-Require: sec\r\n", 416),
        ("hops", "sip:a@192.0.2.1", "Max-Forwards: 0\r\nProxy-Require: sec\r\n", 483),
        ("extension", "sip:a@192.0.2.1", "Max-Forwards: 1\r\nProxy-Require: sec\r\n", 420),
        // The kinds of bad input that are listed elsewhere.
        ("two call ids", "sip:a@192.0.2.1", "Call-ID: other\r\n", 400),
        ("two from", "sip:a@192.0.2.1", "f: <sip:x@y>;tag=1\r\n", 400),
        ("two to", "sip:a@192.0.2.1", "t: <sip:x@y>\r\n", 400),
        ("two cseq", "sip:a@192.0.2.1", "CSeq: 2 INVITE\r\n", 400),
        ("two lengths", "sip:a@192.0.2.1", "l: 0\r\n", 400),
        ("two hops", "sip:a@192.0.2.1", "Max-Forwards: 5\r\nMax-Forwards: 6\r\n", 400),
        ("hops 256", "sip:a@192.0.2.1", "Max-Forwards: 256\r\n", 400),
        ("hops -1", "sip:a@192.0.2.1", "Max-Forwards: -1\r\n", 400),
        ("vertical tab", "sip:a@192.0.2.1", "X-Bypass-me\x0b: lol\r\n", 400),
        ("nul", "sip:a@192.0.2.1", "X-Bypass-me\0: lol\r\n", 400),
        ("no colon", "sip:a@192.0.2.1", "X-Bypass-me\r\n", 400),
        ("bare cr", "sip:a@192.0.2.1", "X: a\rX-Internal: b\r\n", 400),
        ("long uri", &long_user, "", 414),
        ("long user", &user, "", 414),
        ("user not ascii", "sip:\u{e9}@192.0.2.1", "", 400),
        ("user with quotes", "sip:\"a\"@192.0.2.1", "", 400),
        ("host unclosed", "sip:a@[::1", "", 400),
        ("host 256", "sip:a@256.1.1.1", "", 400),
        ("host underscore", "sip:a@under_score.example", "", 400),
        ("port 0", "sip:a@h:0", "", 400),
        ("port 70000", "sip:a@h:70000", "", 400),
        ("tel with letters", "tel:CALLME", "", 400),
    ];
    for &(what, uri, more, expected) in cases {
        let mut edge = Endpoint::new(config(), &keys(1));
        let (sent, events) = input(&mut edge, CALLER, invite(uri, "r", more));
        assert!(events.is_empty(), "{what}: {events:?}");
        assert_eq!(sent.iter().map(code).collect::<Vec<_>>(), [expected], "{what}");
        assert_eq!(edge.statistics().transactions, 0, "{what}");
    }
    for (what, from, to, expected) in [
        ("version", "SIP/2.0\r\n", "SIP/3.0\r\n", 505),
        ("no from tag", ";tag=c1", "", 400),
        ("cseq 2^32", "CSeq: 1 ", "CSeq: 4294967296 ", 400),
        ("cseq method", "1 INVITE", "1 BYE", 400),
        ("method", "INVITE", "FOO", 501),
        ("method we do not take", "INVITE", "SUBSCRIBE", 405),
        ("length -1", "Content-Length: 0", "Content-Length: -1", 400),
        ("length 0x10", "Content-Length: 0", "Content-Length: 0x10", 400),
        ("length too large", "Content-Length: 0", "Content-Length: 99999999999", 400),
        ("body too short", "Content-Length: 0", "Content-Length: 5", 400),
        ("no call id", "Call-ID: call-r\r\n", "", 400),
    ] {
        let mut edge = Endpoint::new(config(), &keys(1));
        let text = invite("sip:a@192.0.2.1", "r", "").replace(from, to);
        let (sent, events) = input(&mut edge, CALLER, &text);
        assert!(events.is_empty(), "{what}: {events:?}");
        assert_eq!(sent.iter().map(code).collect::<Vec<_>>(), [expected], "{what}");
        let answer = parse(&sent[0]);
        assert_eq!(answer.lines(Name::Allow).count(), usize::from(matches!(expected, 405 | 501)), "{what}");
    }
}

#[test]
fn what_is_no_sip_gets_no_answer() {
    let mut edge = Endpoint::new(config(), &keys(1));
    for noise in [
        &b"\r\n\r\n"[..],
        b"\0\x01\0\0\x21\x12\xa4\x42",
        b"\x80\0\0\x01\0\0\0\xa0",
        b"\x16\x03\x01\x02\0\x01",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"",
        b"\xff",
    ] {
        edge.handle_input(Instant::ZERO, source(CALLER, true), noise);
        let (sent, events) = drain(&mut edge);
        assert!(sent.is_empty() && events.is_empty());
    }
    assert_eq!(edge.statistics().noise, 7);
}

#[test]
fn a_stranger_never_gets_more_than_it_sent() {
    let mut edge = Endpoint::new(config(), &keys(1));
    let short = "X sip:a SIP/2.0\r\nv:SIP/2.0/UDP h;branch=z9hG4bKx\r\nf:a:b;tag=1\r\nt:a:b\r\ni:x\r\nCSeq:1 X\r\n\r\n";
    edge.handle_input(Instant::ZERO, source(CALLER, false), short.as_bytes());
    assert!(drain(&mut edge).0.is_empty(), "the 405 would be longer");
    assert_eq!(
        input(&mut edge, CALLER, short.replace("x\r\nCSeq", "y\r\nCSeq")).0.len(),
        1,
        "a known peer is told"
    );
}

#[test]
fn a_loop_is_found_and_a_spiral_is_not() {
    let (mut edge, at_agent) = proxied(agent());
    // The agent's side sends it back to where it was sent: a loop.
    let mut back = at_agent.clone();
    back.set_uri(b"sip:a@192.0.2.1").unwrap();
    back.push_via(b"SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKback").unwrap();
    back.remove(Name::RecordRoute);
    let (sent, events) = input(&mut edge, AGENT, back.bytes());
    assert!(events.is_empty());
    assert_eq!(code(&sent[0]), 482);
    // To another user: a spiral, which is fine.
    back.set_uri(b"sip:other@192.0.2.1").unwrap();
    let (_, events) = input(&mut edge, AGENT, back.bytes());
    request_id(&events);
}

/// A dialog may come by us twice, with someone between: its requests have the same URI both times, and other Routes.
#[test]
fn a_dialog_may_come_by_us_twice() {
    let (_, at_agent) = proxied(agent());
    let route = String::from_utf8(at_agent.list(Name::RecordRoute).next().unwrap().to_vec()).unwrap();
    let bye = |routes: &str, vias: &str, branch: &str| {
        format!(
            "BYE sip:x@192.0.2.77 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5:4444;branch=z9hG4bK{branch}\r\n{vias}\
             Route: {routes}\r\nMax-Forwards: 60\r\nFrom: <sip:c@d>;tag=c1\r\nTo: <sip:a@h>;tag=a1\r\n\
             Call-ID: call-p\r\nCSeq: 2 BYE\r\n\r\n"
        )
    };
    let mut edge = Endpoint::new(config(), &keys(1));
    let first = bye(&format!("{route}, <sip:192.0.2.50;lr>, {route}"), "", "1");
    let (sent, _) = input(&mut edge, CALLER, first.clone());
    assert_eq!(sent[0].flow.remote, address("192.0.2.50:5060"));
    let forwarded = parse(&sent[0]);
    let vias: String = forwarded
        .list(Name::Via)
        .map(|via| format!("Via: {}\r\n", String::from_utf8_lossy(via)))
        .collect::<Vec<_>>()
        .concat();
    let (sent, _) = input(&mut edge, CALLER, bye(&route, &vias, "2"));
    assert_eq!(sent[0].flow.remote, address("192.0.2.77:5060"), "the second time it goes on");
    // Unchanged it is a loop.
    let looped = bye(&format!("{route}, <sip:192.0.2.50;lr>, {route}"), &vias, "3");
    assert_eq!(code(&input(&mut edge, CALLER, looped).0[0]), 482);
}

#[test]
fn the_same_request_by_two_ways_is_taken_once() {
    let mut edge = Endpoint::new(config(), &keys(1));
    let first = invite("sip:a@192.0.2.1", "m", "");
    request_id(&input(&mut edge, CALLER, &first).1);
    assert!(input(&mut edge, CALLER, &first).1.is_empty(), "a retransmission");
    let (sent, events) = input(&mut edge, CALLER, first.replace("z9hG4bKm", "z9hG4bKn"));
    assert!(events.is_empty());
    assert_eq!(code(&sent[0]), 482, "merged");
}

#[test]
fn a_restarted_node_forwards_what_is_in_a_dialog() {
    let (mut edge, at_agent) = proxied(agent());
    let (sent, _) = respond(&mut edge, &at_agent, 200, &[("Contact", "<sip:agent@192.0.2.9>")]);
    let answer = parse(&sent[0]);
    let route = String::from_utf8(answer.lines(Name::RecordRoute).next().unwrap().to_vec()).unwrap();
    let bye = |route: &str, from: &str, to: &str| {
        format!(
            "BYE sip:agent@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5:4444;branch=z9hG4bKbye;rport\r\n\
             Route: {route}\r\nMax-Forwards: 70\r\nFrom: <sip:c@d>;tag={from}\r\nTo: <sip:a@h>;tag={to}\r\n\
             Call-ID: call-p\r\nCSeq: 2 BYE\r\n\r\n"
        )
    };
    let mut restarted = Endpoint::new(config(), &keys(9));
    let (sent, events) = input(&mut restarted, CALLER, bye(&route, "c1", "a1"));
    assert!(events.is_empty() && restarted.statistics().transactions == 0);
    let forwarded = parse(&sent[0]);
    assert_eq!((sent[0].flow.remote, forwarded.max_forwards()), (address(AGENT), Ok(Some(69))));
    assert_eq!((forwarded.routes().count(), forwarded.vias().count()), (0, 2));
    // The same bytes again give the same bytes: the next hop can tell it is a retransmission.
    assert_eq!(input(&mut restarted, CALLER, bye(&route, "c1", "a1")).0, sent);
    // Its answer finds back, to where the request truly came from, whichever node it meets.
    let ok = ResponseBuilder::new(&forwarded, Status::OK).build().unwrap();
    let (sent, _) = input(&mut edge, AGENT, ok.bytes());
    assert_eq!((sent[0].flow.remote, parse(&sent[0]).vias().count()), (address(CALLER), 1));
    // The other side's BYE goes to the caller.
    let other = bye(&route, "a1", "c1").replace("sip:agent@192.0.2.9 SIP", "sip:c@caller.invalid SIP");
    assert_eq!(input(&mut restarted, AGENT, &other).0[0].flow.remote, address(CALLER));
    // Nobody else can make us forward: another call's Route, or one that is not signed.
    for forged in [route.replace("sb=0", "sb=1"), "<sip:192.0.2.1:5060;lr>".to_owned()] {
        let (sent, events) =
            input(&mut restarted, CALLER, bye(&forged, "c1", "a1").replace("Kbye", "Kforged"));
        assert!(
            sent.is_empty() && matches!(events[..], [Event::Request { .. }] | []),
            "{forged}: {events:?}"
        );
    }
}

#[test]
fn a_response_is_forwarded_only_where_its_request_came_from() {
    let mut edge = Endpoint::new(config(), &keys(1));
    for branch in ["z9hG4bKx".to_owned(), format!("z9hG4bKf{}", "0".repeat(42))] {
        let forged = format!(
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch={branch}\r\n\
             Via: SIP/2.0/UDP victim.example;received=198.51.100.7;branch=z9hG4bKv\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n"
        );
        assert!(input(&mut edge, AGENT, &forged).0.is_empty());
    }
    assert_eq!(edge.statistics().strays, 2);
}

#[test]
fn maddr_and_received_from_outside_are_not_believed() {
    let mut edge = Endpoint::new(config(), &keys(1));
    let text = invite("sip:a@192.0.2.1", "v", "Max-Forwards: 0\r\n")
        .replace(";rport", ";maddr=198.51.100.7;received=198.51.100.8;rport=99");
    let (sent, _) = input(&mut edge, CALLER, &text);
    assert_eq!(sent[0].flow.remote, address(CALLER));
    let answer = parse(&sent[0]);
    let via = answer.via_top().unwrap();
    assert_eq!((via.received(), via.rport()), (Some(address(CALLER).ip()), Some(Some(4444))));
}

#[test]
fn a_call_between_transports_has_two_record_routes() {
    let tcp = Flow { transport: Transport::Tcp, local: address(EDGE), remote: address(AGENT) };
    let (_, at_agent) = proxied(Target::new("sip:agent@192.0.2.9;transport=tcp", tcp));
    let routes: Vec<String> =
        at_agent.list(Name::RecordRoute).map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    assert!(routes[0].contains("transport=tcp") && routes[1].contains("transport=udp"), "{routes:?}");
    assert_eq!(at_agent.content_length(), Ok(Some(0)), "a stream needs it");
}

#[test]
fn a_challenge_is_answered_once_and_only_for_its_realm() {
    let credentials =
        Credentials { username: "us".into(), password: Secret::new("pw"), realm: Some("carrier".into()) };
    let target = || Target { credentials: Some(credentials.clone()), ..agent() };
    let challenge =
        |realm: &str| format!("Digest realm=\"{realm}\", nonce=\"n\", qop=\"auth\", algorithm=MD5");

    let (mut edge, at_agent) = proxied(target());
    let (sent, events) = respond(&mut edge, &at_agent, 407, &[("Proxy-Authenticate", &challenge("carrier"))]);
    assert!(events.is_empty(), "{events:?}");
    let again = sent.iter().map(parse).find(|message| message.method() == Some(sip::Method::Invite)).unwrap();
    assert_eq!(again.lines(Name::ProxyAuthorization).count(), 1);
    assert_ne!(again.via_top().unwrap().branch(), at_agent.via_top().unwrap().branch());
    let (sent, _) = respond(&mut edge, &again, 407, &[("Proxy-Authenticate", &challenge("carrier"))]);
    assert!(
        sent.iter().any(|transmit| transmit.flow.remote == address(CALLER) && code(transmit) == 407),
        "given up"
    );

    let (mut edge, at_agent) = proxied(target());
    let (sent, _) = respond(&mut edge, &at_agent, 401, &[("WWW-Authenticate", &challenge("another trunk"))]);
    assert!(sent.iter().all(|transmit| parse(transmit).lines(Name::Authorization).count() == 0));
}

#[test]
fn a_target_that_cannot_be_reached_is_left_at_once() {
    let mut edge = Endpoint::new(config(), &keys(1));
    let (_, events) = input(&mut edge, CALLER, invite("sip:a@192.0.2.1", "u", ""));
    let (id, source) = request_id(&events);
    let dead = Target::new("sip:dead@192.0.2.66", Flow::udp(address(EDGE), address("192.0.2.66:5060")));
    edge.proxy(Instant::ZERO, id, source, plan(vec![dead, agent()])).unwrap();
    let (sent, _) = drain(&mut edge);
    edge.handle_unreachable(Instant::ZERO, &sent[0]);
    let (sent, events) = drain(&mut edge);
    assert_eq!(sent[0].flow.remote, address(AGENT));
    assert!(matches!(events[..], [Event::TargetFailed { target: 0, .. }]));
}

#[test]
fn a_cancel_from_elsewhere_cancels_nothing() {
    let (mut edge, _) = proxied(agent());
    let cancel = invite("sip:a@192.0.2.1", "p", "").replace("INVITE", "CANCEL");
    let (sent, _) = input(&mut edge, "198.51.100.7:4444", &cancel);
    assert_eq!(sent.iter().map(code).collect::<Vec<_>>(), [481]);
    let (sent, events) = input(&mut edge, CALLER, &cancel);
    assert_eq!(sent.iter().map(code).collect::<Vec<_>>(), [200, 487]);
    assert!(matches!(events[..], [Event::Concluded { .. }]));
}

#[test]
fn without_state_a_call_is_forwarded_and_forgotten() {
    let mut config = config();
    config.keeps_no_state = true;
    config.methods = MethodSet::of(&[sip::Method::Invite]);
    let mut edge = Endpoint::new(config, &keys(1));
    let mut forward = |text: &str| {
        let (_, events) = input(&mut edge, CALLER, text);
        let [Event::Stateless { request, source }] = &events[..] else { panic!("{events:?}") };
        edge.forward_stateless(request, *source, &agent(), true).unwrap();
        assert_eq!(edge.statistics().transactions, 0);
        parse(&drain(&mut edge).0[0])
    };
    let text = invite("sip:a@192.0.2.1", "n", "");
    let (first, again) = (forward(&text), forward(&text));
    assert_eq!(first, again);
    assert_eq!(first.list(Name::RecordRoute).count(), 1);
    let cancel = forward(&text.replace("INVITE", "CANCEL"));
    let ack = forward(&text.replace("INVITE", "ACK").replace("1>\r\nCall", "1>;tag=t\r\nCall"));
    for follower in [&cancel, &ack] {
        assert_eq!(follower.via_top().unwrap().branch(), first.via_top().unwrap().branch());
        assert_eq!(follower.uri_text(), first.uri_text());
    }
    let ringing = ResponseBuilder::new(&first, Status::RINGING).to_tag(b"t").build().unwrap();
    let (sent, _) = input(&mut edge, AGENT, ringing.bytes());
    assert_eq!((sent[0].flow.remote, code(&sent[0])), (address(CALLER), 180));
}

/// An address that means many hosts, or one inside our network whatever its dress, is not sent to because a message
/// in a dialog says so: then the way is the one that was seen.
#[test]
fn a_dialogs_requests_go_to_one_host_outside() {
    let (mut edge, at_agent) = proxied(agent());
    let (sent, _) = respond(&mut edge, &at_agent, 200, &[("Contact", "<sip:agent@192.0.2.9>")]);
    let route = String::from_utf8(parse(&sent[0]).lines(Name::RecordRoute).next().unwrap().to_vec()).unwrap();
    let mut way = |host: &str| {
        let bye = format!(
            "BYE sip:agent@{host} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5:4444;branch=z9hG4bK{};rport\r\n\
             Route: {route}\r\nMax-Forwards: 70\r\nFrom: <sip:c@d>;tag=c1\r\nTo: <sip:a@h>;tag=a1\r\n\
             Call-ID: call-p\r\nCSeq: 2 BYE\r\n\r\n",
            host.len()
        );
        input(&mut edge, CALLER, bye).0[0].flow.remote
    };
    assert_eq!(way("198.51.100.4:5070"), address("198.51.100.4:5070"));
    for host in [
        "255.255.255.255",
        "224.0.0.5",
        "0.0.0.0",
        "[ff02::1]",
        "[::]",
        "10.0.0.1",
        "127.0.0.1",
        "[::ffff:10.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:255.255.255.255]",
        "[fe80::1]",
    ] {
        assert_eq!(way(host), address(AGENT), "{host}");
    }
}

/// What may go no further does not, by whichever way it would; only whoever answers OPTIONS itself may take it.
#[test]
fn nothing_is_forwarded_at_the_end_of_its_hops() {
    let options = |to: &str, more: &str, branch: &str| {
        invite("sip:a@192.0.2.1", branch, &format!("Max-Forwards: 0\r\n{more}"))
            .replace("INVITE", "OPTIONS")
            .replace("To: <sip:a@192.0.2.1>", to)
    };
    let (mut edge, at_agent) = proxied(agent());
    let route = String::from_utf8(at_agent.lines(Name::RecordRoute).next().unwrap().to_vec()).unwrap();
    // In a dialog.
    let in_dialog = options("To: <sip:a@192.0.2.1>;tag=t", &format!("Route: {route}\r\n"), "in")
        .replace("call-in", "call-p");
    let (sent, events) = input(&mut edge, CALLER, in_dialog);
    assert_eq!((code(&sent[0]), sent.len(), events.len()), (483, 1, 0));
    // By the owner's plan.
    let (_, events) = input(&mut edge, CALLER, options("To: <sip:a@192.0.2.1>", "", "out"));
    let (id, caller) = request_id(&events);
    edge.proxy(Instant::ZERO, id, caller, plan(vec![agent()])).unwrap();
    let (sent, events) = drain(&mut edge);
    assert_eq!((code(&sent[0]), sent.len()), (483, 1));
    assert!(matches!(events[..], [Event::Concluded { target: None, .. }]), "{events:?}");
    // Without state, and by hand.
    let request = Message::parse(options("To: <sip:a@192.0.2.1>", "", "by").as_bytes()).unwrap();
    edge.forward_stateless(&request, caller, &agent(), true).unwrap();
    assert_eq!(drain(&mut edge).0.iter().map(code).collect::<Vec<_>>(), [483]);
    assert!(edge.forward_to(&request, agent().flow).is_err());
    let further =
        Message::parse(options("To: <sip:a@192.0.2.1>", "", "by").replace("s: 0", "s: 9").as_bytes());
    edge.forward_to(&further.unwrap(), agent().flow).unwrap();
    assert_eq!(parse(&drain(&mut edge).0[0]).max_forwards(), Ok(Some(8)));
}
