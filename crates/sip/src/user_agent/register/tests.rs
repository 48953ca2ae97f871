//! Registrations against registrars of all kinds, by hand: no network, no clock.

use super::*;
use crate::digest::Secret;
use crate::header::name::Name;
use crate::print::ResponseBuilder;

fn registration() -> Registration {
    let keys = Keys { shared: [1; 32], unique: [2; 32] };
    let config = RegistrationConfig {
        registrar: "sip:carrier.example".into(),
        address: "sip:me@carrier.example".into(),
        contacts: vec!["sip:me@192.0.2.1:5060".into(), "sip:me@192.0.2.2:5060".into()],
        expires_s: 600,
        credentials: Some(Credentials {
            username: "me".into(),
            password: Secret::new("pw"),
            realm: Some("carrier.example".into()),
        }),
    };
    Registration::new(Instant::ZERO, &keys, config, "call".into(), "tag".into())
}

fn answer(request: &Message, code: u16, headers: &[(&str, &str)]) -> Message {
    let request = {
        let mut with_via = request.clone();
        with_via.push_via(b"SIP/2.0/UDP h;branch=z9hG4bK1").unwrap();
        with_via
    };
    let mut builder = ResponseBuilder::new(&request, Status::new(code).unwrap()).to_tag(b"x");
    for (name, value) in headers {
        builder = builder.header(name, value);
    }
    builder.build().unwrap()
}

const CHALLENGE: (&str, &str) =
    ("WWW-Authenticate", "Digest realm=\"carrier.example\", nonce=\"n1\", qop=\"auth\"");

#[test]
fn refreshes_at_half_time_of_what_was_granted() {
    let mut it = registration();
    let first = it.poll(Instant::ZERO).unwrap().unwrap();
    assert_eq!(it.poll(Instant::ZERO).unwrap(), None, "one at a time");
    assert_eq!(first.contacts().count(), 2);
    let contact = (
        "Contact",
        "<sip:other@h>;expires=9, <sip:ME@h>, <sip:me@192.0.2.1:5060>;expires=300, <sip:me@192.0.2.2:5060>;expires=120",
    );
    assert_eq!(it.handle_response(Instant::ZERO, &answer(&first, 200, &[contact]), 0), None);
    let at = |seconds| Instant::ZERO + Duration::from_secs(seconds);
    assert_eq!(
        (it.deadline(), it.health()),
        (Some(at(60)), RegistrationHealth::Registered { until: at(120) })
    );
    let second = it.poll(at(60)).unwrap().unwrap();
    assert_eq!(second.cseq().unwrap().number, 2);
    it.handle_response(at(60), &answer(&second, 200, &[("Expires", "200")]), 999);
    assert!(
        it.deadline() > Some(at(150)) && it.deadline() < Some(at(152)),
        "a tenth earlier: {:?}",
        it.deadline()
    );
    // One has a time of its own, the other the answer's.
    let third = it.poll(at(152)).unwrap().unwrap();
    let contact = ("Contact", "<sip:me@192.0.2.2:5060>;expires=90, <sip:me@192.0.2.1:5060>");
    it.handle_response(at(152), &answer(&third, 200, &[contact, ("Expires", "40")]), 0);
    assert_eq!(it.health(), RegistrationHealth::Registered { until: at(192) });
}

#[test]
fn answers_one_challenge_and_keeps_the_nonce() {
    let mut it = registration();
    let first = it.poll(Instant::ZERO).unwrap().unwrap();
    let second = it.handle_response(Instant::ZERO, &answer(&first, 401, &[CHALLENGE]), 0).unwrap();
    let count = |request: &Message, nc: &str| {
        request.lines(Name::Authorization).next().is_some_and(|v| String::from_utf8_lossy(v).contains(nc))
    };
    assert!(count(&second, "nc=00000001"));
    it.handle_response(Instant::ZERO, &answer(&second, 200, &[]), 0);
    let later = Instant::ZERO + Duration::from_secs(300);
    let third = it.poll(later).unwrap().unwrap();
    assert!(count(&third, "nc=00000002"));
    let stale = (CHALLENGE.0, "Digest realm=\"carrier.example\", nonce=\"n2\", qop=\"auth\", stale=true");
    let fourth = it.handle_response(later, &answer(&third, 401, &[stale]), 0).unwrap();
    assert!(count(&fourth, "nc=00000001") && count(&fourth, "n2"));
}

#[test]
fn an_endless_challenger_gets_one_answer() {
    let mut it = registration();
    let first = it.poll(Instant::ZERO).unwrap().unwrap();
    let second = it.handle_response(Instant::ZERO, &answer(&first, 401, &[CHALLENGE]), 0).unwrap();
    assert_eq!(it.handle_response(Instant::ZERO, &answer(&second, 401, &[CHALLENGE]), 0), None);
    assert!(matches!(it.health(), RegistrationHealth::Failed { .. }));
    let mut it = registration();
    let first = it.poll(Instant::ZERO).unwrap().unwrap();
    let evil = (CHALLENGE.0, "Digest realm=\"evil.example\", nonce=\"n\"");
    assert_eq!(it.handle_response(Instant::ZERO, &answer(&first, 401, &[evil]), 0), None, "not our realm");
}

#[test]
fn asks_for_more_time_and_backs_off() {
    let mut it = registration();
    let first = it.poll(Instant::ZERO).unwrap().unwrap();
    let brief = answer(&first, 423, &[("Min-Expires", "1800")]);
    let second = it.handle_response(Instant::ZERO, &brief, 0).unwrap();
    assert_eq!(second.expires().unwrap(), Some(1800));
    let brief = answer(&second, 423, &[("Min-Expires", "1800")]);
    assert_eq!(it.handle_response(Instant::ZERO, &brief, 0), None, "it has what it asked for");
    let mut now = Instant::ZERO;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let at = it.deadline().unwrap();
        pauses.push((at - now).as_secs());
        now = at;
        it.poll(now).unwrap().unwrap();
        it.handle_loss(now, 0);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    let last = it.poll(it.deadline().unwrap()).unwrap().unwrap();
    let busy = answer(&last, 503, &[("Retry-After", "99999999")]);
    it.handle_response(now, &busy, 0);
    assert_eq!(it.deadline().unwrap() - now, BACKOFF_MAX, "nobody sends us away for ever");
}

#[test]
fn ends_when_it_is_told_to() {
    let mut it = registration();
    let first = it.poll(Instant::ZERO).unwrap().unwrap();
    it.handle_response(Instant::ZERO, &answer(&first, 200, &[]), 0);
    it.end(Instant::ZERO);
    let last = it.poll(Instant::ZERO).unwrap().unwrap();
    assert_eq!(last.expires().unwrap(), Some(0));
    it.handle_response(Instant::ZERO, &answer(&last, 200, &[]), 0);
    assert_eq!((it.health(), it.deadline()), (RegistrationHealth::Ended, None));
}

/// A registrar that never has enough, and one that gives nothing, are asked ever more slowly.
#[test]
fn nobody_makes_it_send_without_pause() {
    let check = |what: &str, response: &dyn Fn(&Message) -> Message, most: usize| {
        let mut it = registration();
        let mut sent = 0;
        while let Some(at) = it.deadline().filter(|at| *at < Instant::ZERO + Duration::from_secs(600)) {
            let mut next = it.poll(at).unwrap();
            while let Some(request) = next {
                sent += 1;
                assert!(sent <= most, "{what}: {sent} requests");
                next = it.handle_response(at, &response(&request), 0);
            }
            assert!(it.deadline().unwrap() >= at + PAUSE_MIN, "{what}: {:?}", it.deadline());
        }
    };
    let briefly = |request: &Message| {
        let more = request.expires().unwrap().unwrap() + 1;
        answer(request, 423, &[("Min-Expires", &more.to_string())])
    };
    check("a little more", &briefly, 16);
    check("no time", &|request| answer(request, 200, &[("Expires", "0")]), 8);
    check("a second", &|request| answer(request, 200, &[("Expires", "1")]), 120);
}

#[test]
fn contacts_under_other_names_are_taken_at_their_word() {
    let mut registration = registration();
    let sent = registration.poll(Instant::ZERO).unwrap().unwrap();
    let contact = "<sip:us@198.51.100.7:40001>;expires=120, <sip:other@198.51.100.8>;expires=0";
    registration.handle_response(Instant::ZERO, &answer(&sent, 200, &[("Contact", contact)]), 0);
    let until = Instant::ZERO + Duration::from_secs(120);
    assert_eq!(registration.health(), RegistrationHealth::Registered { until });
}

#[test]
fn one_of_our_contacts_that_is_not_listed_is_a_failure() {
    let mut it = registration();
    let first = it.poll(Instant::ZERO).unwrap().unwrap();
    let contact = ("Contact", "<sip:me@192.0.2.1:5060>;expires=300");
    it.handle_response(Instant::ZERO, &answer(&first, 200, &[contact]), 0);
    let retry_at = Instant::ZERO + BACKOFF_MIN;
    assert_eq!(it.health(), RegistrationHealth::Failed { status: Some(Status::OK), retry_at });
    assert_eq!(it.deadline(), Some(retry_at));
}

#[test]
fn what_is_no_answer_to_the_request_under_way_changes_nothing() {
    let mut it = registration();
    let first = it.poll(Instant::ZERO).unwrap().unwrap();
    assert_eq!(it.handle_response(Instant::ZERO, &answer(&first, 100, &[]), 0), None);
    assert_eq!((it.health(), it.deadline()), (RegistrationHealth::Unknown, None), "still under way");
    let second = it.handle_response(Instant::ZERO, &answer(&first, 401, &[CHALLENGE]), 0).unwrap();
    it.handle_response(Instant::ZERO, &answer(&first, 403, &[]), 0);
    assert_eq!((it.health(), it.deadline()), (RegistrationHealth::Unknown, None), "that was answered");
    it.handle_response(Instant::ZERO, &answer(&second, 200, &[]), 0);
    let good = (it.health(), it.deadline());
    assert!(matches!(good.0, RegistrationHealth::Registered { .. }));
    it.handle_response(Instant::ZERO, &answer(&second, 403, &[]), 0);
    it.handle_loss(Instant::ZERO, 0);
    assert_eq!((it.health(), it.deadline()), good, "nothing was under way");
}

/// The REGISTER that asks for time does not take anything back.
#[test]
fn an_end_while_a_request_is_under_way_follows_it() {
    for code in [200, 403, 423, 503] {
        let mut it = registration();
        let first = it.poll(Instant::ZERO).unwrap().unwrap();
        it.end(Instant::ZERO);
        assert_eq!(it.poll(Instant::ZERO).unwrap(), None, "one at a time");
        let headers = [("Min-Expires", "1800")];
        assert_eq!(it.handle_response(Instant::ZERO, &answer(&first, code, &headers), 0), None);
        assert_ne!(it.health(), RegistrationHealth::Ended, "{code}");
        let last = it.poll(Instant::ZERO).unwrap().expect("it is owed at once");
        assert_eq!(last.expires().unwrap(), Some(0));
        it.handle_response(Instant::ZERO, &answer(&last, 200, &[]), 0);
        assert_eq!((it.health(), it.deadline()), (RegistrationHealth::Ended, None));
    }
    // A challenge is answered by what is wanted now.
    let mut it = registration();
    let first = it.poll(Instant::ZERO).unwrap().unwrap();
    it.end(Instant::ZERO);
    let last = it.handle_response(Instant::ZERO, &answer(&first, 401, &[CHALLENGE]), 0).unwrap();
    assert_eq!(last.expires().unwrap(), Some(0));
    it.handle_response(Instant::ZERO, &answer(&last, 200, &[]), 0);
    assert_eq!((it.health(), it.deadline()), (RegistrationHealth::Ended, None));
}
