//! What the engine holds, and for how long: overload, strangers, peers that never come to an end.

use std::time::Duration;

use sip::endpoint::{Endpoint, EndpointError, Event, Limits, Output};
use sip::proxy::Target;
use sip::{Flow, Instant, Name, ResponseBuilder, Source, Status};

use crate::exchange::{
    AGENT, CALLER, address, agent, code, config, drain, input, invite, keys, parse, plan, proxied,
    request_id, source,
};

#[test]
fn overload_sheds_early_and_recovers_at_once() {
    let mut edge = Endpoint::new(config(), &keys(1));
    edge.set_limits(Limits {
        transactions: 12,
        shed_at: 10,
        transactions_per_source: 5,
        ..Limits::default()
    });
    let mut ids = Vec::new();
    for number in 0..10 {
        let (_, events) = input(&mut edge, CALLER, invite("sip:a@192.0.2.1", &format!("o{number}"), ""));
        ids.push(request_id(&events).0);
    }
    for number in 10..1_000 {
        let (sent, events) = input(&mut edge, CALLER, invite("sip:a@192.0.2.1", &format!("o{number}"), ""));
        assert!(events.is_empty());
        assert_eq!((code(&sent[0]), parse(&sent[0]).retry_after()), (503, Ok(Some(5))));
        let ack = invite("sip:a@192.0.2.1", &format!("o{number}"), "").replace("INVITE", "ACK").replace(
            "To: <sip:a@192.0.2.1>",
            &format!("To: {}", String::from_utf8_lossy(parse(&sent[0]).lines(Name::To).next().unwrap())),
        );
        assert!(input(&mut edge, CALLER, &ack).1.is_empty(), "the ACK for it is nobody's");
    }
    assert_eq!((edge.statistics().transactions, edge.statistics().shed), (10, 990));
    // Inside a dialog there is still room.
    let bye = invite("sip:a@192.0.2.1", "bye", "")
        .replace("INVITE", "BYE")
        .replace("1>\r\nCall", "1>;tag=t\r\nCall");
    request_id(&input(&mut edge, CALLER, &bye).1);
    // One is answered and there is room for one, although it lingers for half a minute yet.
    edge.reply(Instant::ZERO, ids[0], Status::OK, &[]).unwrap();
    edge.reply(Instant::ZERO, ids[1], Status::OK, &[]).unwrap();
    drain(&mut edge);
    assert_eq!((edge.statistics().transactions, edge.statistics().waiting), (11, 9));
    edge.set_limits(Limits { transactions: 20, shed_at: 10, ..Limits::default() });
    request_id(&input(&mut edge, CALLER, invite("sip:a@192.0.2.1", "after", "")).1);
    assert_eq!(code(&input(&mut edge, CALLER, invite("sip:a@192.0.2.1", "full", "")).0[0]), 503);
    for id in &ids[2..] {
        edge.reply(Instant::ZERO, *id, Status::OK, &[]).unwrap();
    }
    let later = Instant::ZERO + Duration::from_secs(33);
    edge.handle_timeout(later);
    drain(&mut edge);
    assert_eq!((edge.statistics().transactions, edge.statistics().waiting), (1, 1), "the call that waits");
}

#[test]
fn many_timers_at_once_lose_no_event() {
    let mut edge = Endpoint::new(config(), &keys(1));
    let calls = 50_000;
    for number in 0..calls {
        let (_, events) = input(&mut edge, CALLER, invite("sip:a@192.0.2.1", &format!("t{number}"), ""));
        let (id, source) = request_id(&events);
        edge.proxy(Instant::ZERO, id, source, plan(vec![agent()])).unwrap();
        drain(&mut edge);
    }
    // Nobody answers, and nobody looked for a long time.
    let late = Instant::ZERO + Duration::from_secs(60);
    let mut concluded = 0;
    loop {
        edge.handle_timeout(late);
        let deadline = loop {
            match edge.poll_output() {
                Output::Event(Event::Concluded { .. }) => concluded += 1,
                Output::Deadline(deadline) => break deadline,
                Output::Event(_) | Output::Transmit(_) => {}
            }
        };
        if deadline.is_none_or(|deadline| deadline > late) {
            break;
        }
    }
    assert_eq!((concluded, edge.statistics().outputs_lost), (calls, 0));
}

#[test]
fn a_stranger_can_be_left_in_silence() {
    let mut edge = Endpoint::new(config(), &keys(1));
    let text = invite("sip:a@192.0.2.1", "quiet", "");
    edge.handle_input(Instant::ZERO, source(CALLER, false), text.as_bytes());
    let (id, _) = request_id(&drain(&mut edge).1);
    edge.ignore(id).unwrap();
    assert_eq!(edge.ignore(id), Err(EndpointError::NotWaiting));
    for second in 0..700 {
        edge.handle_timeout(Instant::ZERO + Duration::from_secs(second));
        let (sent, events) = drain(&mut edge);
        assert!(sent.is_empty() && events.is_empty());
    }
    assert_eq!((edge.statistics().transactions, edge.statistics().timers), (0, 0));
}

#[test]
fn a_strangers_limit_is_not_a_known_peers() {
    let mut edge = Endpoint::new(config(), &keys(1));
    edge.set_limits(Limits { transactions_per_source: 3, ..Limits::default() });
    let mut taken = [0, 0];
    for number in 0..10 {
        for (place, is_known) in [(0, false), (1, true)] {
            let text = invite("sip:a@192.0.2.1", &format!("s{number}{place}"), "");
            edge.handle_input(Instant::ZERO, source(CALLER, is_known), text.as_bytes());
            taken[place] += drain(&mut edge).1.len();
        }
    }
    assert_eq!(taken, [3, 10]);
    assert_eq!(edge.statistics().source_limited, 7);
    // What is over does not count any more.
    for second in 0..700 {
        edge.handle_timeout(Instant::ZERO + Duration::from_secs(second));
        drain(&mut edge);
    }
    let text = invite("sip:a@192.0.2.1", "later", "");
    edge.handle_input(Instant::ZERO + Duration::from_secs(700), source(CALLER, false), text.as_bytes());
    request_id(&drain(&mut edge).1);
}

#[test]
fn memory_is_where_it_was_after_many_calls() {
    let mut edge = Endpoint::new(config(), &keys(1));
    let mut now = Instant::ZERO;
    let mut play = |round: u32, count: u32| {
        for number in 0..count {
            let text = invite("sip:a@192.0.2.1", &format!("{round}x{number}"), "");
            edge.handle_input(now, source(CALLER, true), text.as_bytes());
            let (id, caller) = request_id(&drain(&mut edge).1);
            edge.proxy(now, id, caller, plan(vec![agent()])).unwrap();
            let at_agent = parse(&drain(&mut edge).0[0]);
            let busy =
                ResponseBuilder::new(&at_agent, Status::new(486).unwrap()).to_tag(b"a1").build().unwrap();
            edge.handle_input(now, source(AGENT, true), busy.bytes());
            drain(&mut edge);
        }
        for _ in 0..4 {
            now = now + Duration::from_secs(40);
            edge.handle_timeout(now);
            drain(&mut edge);
        }
        let left = edge.statistics();
        assert_eq!((left.transactions, left.calls, left.timers), (0, 0, 0));
    };
    // The first round makes the tables as large as they get; the second leaves nothing more behind.
    play(0, 2_000);
    let info = allocation_counter::measure(|| play(1, 2_000));
    assert!(info.bytes_current.abs() < 64 * 1024, "{} bytes stay", info.bytes_current);
}

#[test]
fn large_messages_are_shed_by_their_bytes() {
    let mut edge = Endpoint::new(config(), &keys(1));
    edge.set_limits(Limits { held_bytes: 200_000, ..Limits::default() });
    let big = |number: u32| {
        let body = "x".repeat(30_000);
        let text = invite("sip:a@192.0.2.1", &format!("b{number}"), "");
        text.replace("Content-Length: 0", "Content-Length: 30000") + &body
    };
    let mut ids = Vec::new();
    while ids.len() < 100 {
        let (sent, events) = input(&mut edge, CALLER, big(u32::try_from(ids.len()).unwrap()));
        if events.is_empty() {
            assert_eq!(code(&sent[0]), 503);
            break;
        }
        ids.push(request_id(&events).0);
    }
    assert_eq!(ids.len(), 6, "{:?}", edge.statistics());
    assert!(edge.statistics().held_bytes > 180_000);
    // Once they are answered their bodies are not held any more, and there is room at once.
    for id in ids {
        edge.reply(Instant::ZERO, id, Status::UNAVAILABLE, &[]).unwrap();
    }
    drain(&mut edge);
    assert!(edge.statistics().held_bytes < 6_000);
    request_id(&input(&mut edge, CALLER, big(100)).1);
}

/// However many strangers there are, they leave room for those that are known.
#[test]
fn strangers_together_take_their_share_and_no_more() {
    let mut edge = Endpoint::new(config(), &keys(1));
    edge.set_limits(Limits { transactions_of_strangers: 5, ..Limits::default() });
    let mut taken = 0;
    for number in 0..20 {
        let text = invite("sip:a@192.0.2.1", &format!("s{number}"), "");
        edge.handle_input(
            Instant::ZERO,
            source(&format!("198.51.100.{number}:5060"), false),
            text.as_bytes(),
        );
        taken += drain(&mut edge).1.len();
    }
    assert_eq!((taken, edge.statistics().source_limited), (5, 15));
    request_id(&input(&mut edge, CALLER, invite("sip:a@192.0.2.1", "known", "")).1);
}

/// A network of 64 bits is one host's to take addresses from.
#[test]
fn a_strangers_limit_counts_its_whole_network() {
    let mut edge = Endpoint::new(config(), &keys(1));
    edge.set_limits(Limits { transactions_per_source: 2, ..Limits::default() });
    let mut take = |from: &str, branch: &str| {
        let flow = Flow::udp(address("[2001:db8::1]:5060"), address(from));
        let text = invite("sip:a@192.0.2.1", branch, "");
        edge.handle_input(Instant::ZERO, Source { flow, is_known: false }, text.as_bytes());
        drain(&mut edge).1.len()
    };
    assert_eq!((take("[2001:db8:0:1::1]:1", "1"), take("[2001:db8:0:1:9::9]:2", "2")), (1, 1));
    assert_eq!(take("[2001:db8:0:1:ffff::7]:3", "3"), 0, "the same network");
    assert_eq!(take("[2001:db8:0:2::1]:1", "4"), 1, "another one");
    assert_eq!((take("192.0.2.77:1", "5"), take("[::ffff:192.0.2.77]:1", "6")), (1, 1));
    assert_eq!(take("192.0.2.77:2", "7"), 0, "an IPv4 address in either dress");
}

/// A target that was given up and goes on ringing is sent one CANCEL, and is forgotten in its time.
#[test]
fn a_target_that_rings_on_and_on_gains_nothing() {
    let (mut edge, at_agent) = proxied(Target { ring_timeout: Duration::from_secs(1), ..agent() });
    let ringing = ResponseBuilder::new(&at_agent, Status::RINGING).to_tag(b"a1").build().unwrap();
    let mut cancels = 0;
    for second in 0..100 {
        let now = Instant::ZERO + Duration::from_secs(second);
        edge.handle_timeout(now);
        edge.handle_input(now, source(AGENT, true), ringing.bytes());
        let branches: Vec<Vec<u8>> = drain(&mut edge)
            .0
            .iter()
            .map(parse)
            .filter(|sent| sent.method() == Some(sip::Method::Cancel))
            .map(|sent| sent.via_top().unwrap().branch().unwrap().to_vec())
            .collect();
        cancels += branches.len();
        assert!(edge.statistics().transactions <= 3, "{:?}", edge.statistics());
    }
    // One transaction's worth: sent, and repeated by timer E until timer F, here at whole seconds.
    assert_eq!(cancels, 10);
    let left = edge.statistics();
    assert_eq!((left.transactions, left.calls), (0, 0));
}

/// Nobody decides about a call: in the end its caller is told so, and it is forgotten.
#[test]
fn a_call_that_nobody_decides_about_is_answered_in_the_end() {
    let mut edge = Endpoint::new(config(), &keys(1));
    let (_, events) = input(&mut edge, CALLER, invite("sip:a@192.0.2.1", "x", ""));
    let (id, _) = request_id(&events);
    let (mut answers, mut lost) = (Vec::new(), Vec::new());
    for second in 0..700 {
        edge.handle_timeout(Instant::ZERO + Duration::from_secs(second));
        let (sent, events) = drain(&mut edge);
        answers.extend(sent.iter().map(|transmit| (second, code(transmit))));
        lost.extend(events.iter().map(|event| matches!(event, Event::RequestLost { id: of } if *of == id)));
    }
    assert_eq!(answers[..2], [(1, 100), (600, 408)]);
    assert!(answers[2..].iter().all(|(_, code)| *code == 408), "repeated until timer H");
    // Once when nobody had decided, once when nobody acknowledged.
    assert_eq!(lost, [true, true]);
    assert_eq!((edge.statistics().transactions, edge.statistics().timers), (0, 0));
}
