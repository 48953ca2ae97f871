//! Challenges inside and outside calls: each request gets one answer, for the configured realm, and a call that nobody
//! wants any more gets none.

use std::collections::BTreeSet;

use expect_test::expect;
use sip::digest::{Credentials, Secret};
use sip::user_agent::register::{Registration, RegistrationConfig};
use sip::{Instant, Message, Name, ResponseBuilder, Status};

use super::{CONTACT, Stage};

const CHALLENGE: (&str, &str) =
    ("Proxy-Authenticate", "Digest realm=\"carrier.example\", nonce=\"n\", qop=\"auth\"");

fn credentials() -> Credentials {
    let realm = Some("carrier.example".to_owned());
    Credentials { username: "me".to_owned(), password: Secret::new("pw"), realm }
}

/// RFC 3261 §22.2, §13.2.2.4: the INVITE again with credentials, and the same credentials in its ACK.
#[test]
fn a_challenged_call() {
    let mut stage = Stage::calling(Some(credentials()));
    stage.answer(407, &[CHALLENGE]);
    let given = stage.asked.clone().unwrap();
    let given = given.lines(Name::ProxyAuthorization).next().unwrap();
    stage.answer(200, &[CONTACT]);
    // The ACK was lost.
    stage.answer(200, &[CONTACT]);
    expect![[r#"
        0      1 INVITE sip:agent@192.0.2.9 [v=0 ours]
        0      1 ACK sip:agent@192.0.2.9
        0      2 INVITE sip:agent@192.0.2.9 with Proxy-Authorization [v=0 ours]
        0      up []
        0      2 ACK sip:agent@192.0.2.9 with Proxy-Authorization
        0      2 ACK sip:agent@192.0.2.9 with Proxy-Authorization
    "#]]
    .assert_eq(&stage.ladder());
    assert!(String::from_utf8_lossy(given).contains("username=\"me\", realm=\"carrier.example\""));
}

#[test]
fn a_challenged_goodbye_is_said_once_more() {
    let mut stage = Stage::calling(Some(credentials()));
    stage.answer(200, &[CONTACT]);
    stage.hang_up();
    stage.answer(407, &[CHALLENGE]);
    stage.answer(407, &[CHALLENGE]);
    stage.run(60_000);
    expect![[r#"
        0      1 INVITE sip:agent@192.0.2.9 [v=0 ours]
        0      up []
        0      1 ACK sip:agent@192.0.2.9
        0      ended: ByUs
        0      2 BYE sip:agent@192.0.2.9
        0      3 BYE sip:agent@192.0.2.9 with Proxy-Authorization
        0      told of 407 Proxy Authentication Required (3 BYE)
    "#]]
    .assert_eq(&stage.ladder());
}

#[test]
fn whoever_never_has_enough_is_answered_once() {
    let mut stage = Stage::calling(Some(credentials()));
    stage.answer(407, &[CHALLENGE]);
    stage.answer(407, &[CHALLENGE]);
    stage.run(60_000);
    expect![[r#"
        0      1 INVITE sip:agent@192.0.2.9 [v=0 ours]
        0      1 ACK sip:agent@192.0.2.9
        0      2 INVITE sip:agent@192.0.2.9 with Proxy-Authorization [v=0 ours]
        0      2 ACK sip:agent@192.0.2.9
        0      ended: Refused(407)
    "#]]
    .assert_eq(&stage.ladder());
}

#[test]
fn another_realm_is_told_nothing() {
    let evil = ("Proxy-Authenticate", "Digest realm=\"evil.example\", nonce=\"n\", qop=\"auth\"");
    let mut stage = Stage::calling(Some(credentials()));
    stage.answer(407, &[evil]);
    stage.run(60_000);
    expect![[r#"
        0      1 INVITE sip:agent@192.0.2.9 [v=0 ours]
        0      1 ACK sip:agent@192.0.2.9
        0      ended: Refused(407)
    "#]]
    .assert_eq(&stage.ladder());
    let mut stage = Stage::calling(Some(credentials()));
    stage.answer(200, &[CONTACT]);
    stage.hang_up();
    stage.answer(407, &[evil]);
    stage.run(60_000);
    expect![[r#"
        0      1 INVITE sip:agent@192.0.2.9 [v=0 ours]
        0      up []
        0      1 ACK sip:agent@192.0.2.9
        0      ended: ByUs
        0      2 BYE sip:agent@192.0.2.9
        0      told of 407 Proxy Authentication Required (2 BYE)
    "#]]
    .assert_eq(&stage.ladder());
}

/// The challenge crossed our CANCEL.
#[test]
fn a_call_that_was_given_up_is_not_placed_again() {
    let mut stage = Stage::calling(Some(credentials()));
    let invite = stage.asked.clone();
    stage.answer(180, &[]);
    stage.hang_up();
    stage.asked = invite;
    stage.answer(407, &[CHALLENGE]);
    expect![[r#"
        0      1 INVITE sip:agent@192.0.2.9 [v=0 ours]
        0      ringing: 180 Ringing
        0      1 CANCEL sip:agent@192.0.2.9
        0      1 ACK sip:agent@192.0.2.9
        0      ended: ByUs
    "#]]
    .assert_eq(&stage.ladder());
}

/// The other side names a REFER by the CSeq under which it took it.
#[test]
fn a_challenged_refer_is_heard_of() {
    let mut stage = Stage::calling(Some(credentials()));
    stage.answer(200, &[CONTACT]);
    stage.lines.clear();
    let call = stage.the_call();
    stage.phone.refer(stage.now, call, "sip:else@192.0.2.9").unwrap();
    stage.drain();
    stage.answer(407, &[CHALLENGE]);
    stage.answer(202, &[]);
    let progress = |event| [("Event", event), ("Subscription-State", "active")];
    stage.hear(sip::Method::Notify, 1, &progress("refer;id=2"), "SIP/2.0 100 Trying");
    stage.hear(sip::Method::Notify, 2, &progress("refer;id=3"), "SIP/2.0 100 Trying");
    stage.hang_up();
    expect![[r#"
        0      2 REFER sip:agent@192.0.2.9
        0      3 REFER sip:agent@192.0.2.9 with Proxy-Authorization
        0      481 Call/Transaction Does Not Exist (1 NOTIFY)
        0      progress of ReferId(2): 100 Trying
        0      200 OK (2 NOTIFY)
        0      ended: ByUs
        0      4 BYE sip:agent@192.0.2.9
    "#]]
    .assert_eq(&stage.ladder());
}

fn cnonce(request: &Message) -> String {
    let given = request.lines(Name::ProxyAuthorization).next().unwrap();
    let given = String::from_utf8_lossy(given).into_owned();
    given.split("cnonce=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
}

/// RFC 7616 §5.10: a registrar that gives all of them one nonce must not know beforehand what they will answer, or it
/// could look their passwords up in a table made once.
#[test]
fn no_two_answers_to_one_nonce_are_made_with_the_same_client_nonce() {
    let config = RegistrationConfig {
        registrar: "sip:carrier.example".into(),
        address: "sip:me@carrier.example".into(),
        contacts: vec!["sip:me@192.0.2.1".into()],
        expires_s: 600,
        credentials: Some(credentials()),
    };
    let mut seen = BTreeSet::new();
    for (node, call_id) in [(1, "a"), (1, "b"), (2, "a")] {
        let keys = crate::exchange::keys(node);
        let mut it = Registration::new(Instant::ZERO, &keys, config.clone(), call_id.into(), "tag".into());
        let answer = |request: &Message, code, (name, value)| {
            ResponseBuilder::new(request, Status::new(code).unwrap()).header(name, value).build().unwrap()
        };
        let first = it.poll(Instant::ZERO).unwrap().unwrap();
        let second = it.handle_response(Instant::ZERO, &answer(&first, 407, CHALLENGE), 0).unwrap();
        assert_eq!(it.handle_response(Instant::ZERO, &answer(&second, 200, ("Expires", "600")), 0), None);
        let third = it.poll(it.deadline().unwrap()).unwrap().unwrap();
        assert!(seen.insert(cnonce(&second)) && seen.insert(cnonce(&third)), "{seen:?}");
    }
}
