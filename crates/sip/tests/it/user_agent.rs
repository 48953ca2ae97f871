//! A user agent by itself: what it repeats while the other side does not hear it, and that it always comes to an end.

use std::time::Duration;

use sip::endpoint::Limits;
use sip::user_agent::{CallEvent, CallId, CallOutput, Ended, Invitation, UserAgent};
use sip::{Instant, Message, Method, ResponseBuilder, Status};

use crate::exchange::{AGENT, agent, config, invite, keys, parse, source};

fn phone() -> UserAgent {
    UserAgent::new(config(), &keys(1), "sip:me@192.0.2.1".to_owned())
}

fn drain(phone: &mut UserAgent, now: Instant) -> (Vec<Message>, Vec<CallEvent>) {
    let (mut sent, mut events) = (Vec::new(), Vec::new());
    loop {
        match phone.poll_output(now) {
            CallOutput::Transmit(transmit) => sent.push(parse(&transmit)),
            CallOutput::Event(event) => events.push(event),
            CallOutput::Deadline(_) => return (sent, events),
        }
    }
}

/// A call of ours that was taken, and the 200 that said so.
fn taken(phone: &mut UserAgent) -> (CallId, Message) {
    let now = Instant::ZERO;
    let invitation = Invitation {
        to: "sip:agent@192.0.2.9".to_owned(),
        from: "sip:me@example.com".to_owned(),
        flow: agent().flow,
        sdp: Vec::new(),
        credentials: None,
        ring_timeout: Duration::from_secs(60),
    };
    let call = phone.call(now, &invitation).unwrap();
    let (sent, _) = drain(phone, now);
    let contact = "<sip:agent@192.0.2.9>";
    let ok = ResponseBuilder::new(&sent[0], Status::OK).to_tag(b"a1").header("Contact", contact).build();
    (call, ok.unwrap())
}

/// RFC 3261 §13.2.2.4: the 2xx comes again when its ACK was lost.
#[test]
fn each_200_is_acknowledged() {
    let mut phone = phone();
    let (_, ok) = taken(&mut phone);
    for time in 0..3 {
        phone.handle_input(Instant::ZERO, source(AGENT, true), ok.bytes());
        let (sent, events) = drain(&mut phone, Instant::ZERO);
        assert_eq!(sent.iter().map(Message::method).collect::<Vec<_>>(), [Some(Method::Ack)]);
        assert_eq!(events.len(), usize::from(time == 0), "told once: {events:?}");
    }
}

/// RFC 3261 §13.3.1.4: from T1 on, doubling up to T2, for 64·T1; then the call is ended.
#[test]
fn a_200_is_repeated_until_it_is_acknowledged() {
    let mut phone = phone();
    let now = Instant::ZERO;
    phone.handle_input(now, source(AGENT, true), invite("sip:me@192.0.2.1", "i", "").as_bytes());
    let (_, events) = drain(&mut phone, now);
    let [CallEvent::Incoming { call, .. }] = events[..] else { panic!("{events:?}") };
    phone.answer(now, call, b"").unwrap();
    let (mut oks, mut byes, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    for tenth in 0..400 {
        let now = Instant::ZERO + Duration::from_millis(tenth * 100);
        phone.handle_timeout(now);
        let (sent, events) = drain(&mut phone, now);
        for message in sent {
            if message.status() == Some(Status::OK) {
                oks.push(tenth * 100);
            } else if message.method() == Some(Method::Bye) {
                byes.push(tenth * 100);
            }
        }
        ends.extend(events.into_iter().filter_map(|event| match event {
            CallEvent::Ended { why, .. } => Some((tenth * 100, why)),
            _ => None,
        }));
    }
    assert_eq!(oks, [0, 500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
    assert_eq!((byes[0], ends), (32_000, vec![(32_000, Ended::NotAcknowledged)]));
}

/// Hanging up ends a call for us even when there is no room for the BYE.
#[test]
fn a_call_can_be_ended_when_nothing_can_be_sent() {
    let mut phone = phone();
    let (call, ok) = taken(&mut phone);
    phone.handle_input(Instant::ZERO, source(AGENT, true), ok.bytes());
    drain(&mut phone, Instant::ZERO);
    phone.endpoint().set_limits(Limits { transactions: 0, ..Limits::default() });
    phone.hang_up(Instant::ZERO, call).unwrap();
    let (_, events) = drain(&mut phone, Instant::ZERO);
    assert!(matches!(events[..], [CallEvent::Ended { why: Ended::ByUs, .. }]), "{events:?}");
    assert_eq!(phone.calls(), 0);
}
