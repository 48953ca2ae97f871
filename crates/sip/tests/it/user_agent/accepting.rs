//! INVITEs and what follows them: a 2xx is repeated until its ACK comes, is always acknowledged, and no BYE overtakes.

use expect_test::expect;
use sip::Method;
use sip::limits::TAKERS_MAX;

use super::{CONTACT, OFFER, Stage};

/// RFC 3261 §14.2, §13.3.1.4: a call is not lost with one 200.
#[test]
fn the_200_to_a_re_invite_is_repeated_until_it_is_acknowledged() {
    let mut stage = Stage::talking();
    stage.hear(Method::Invite, 2, &[CONTACT], OFFER);
    stage.run(1600);
    stage.hear(Method::Ack, 1, &[], "");
    stage.run(4000);
    stage.hear(Method::Ack, 2, &[], "");
    stage.run(60_000);
    expect![[r#"
        0      200 OK (2 INVITE) [v=0 ours]
        500    200 OK (2 INVITE) [v=0 ours]
        1500   200 OK (2 INVITE) [v=0 ours]
        3500   200 OK (2 INVITE) [v=0 ours]
    "#]]
    .assert_eq(&stage.ladder());
    assert_eq!(stage.phone.calls(), 1);
}

#[test]
fn a_re_invite_that_nobody_acknowledges_ends_the_call() {
    let mut stage = Stage::talking();
    stage.hear(Method::Invite, 2, &[CONTACT], OFFER);
    stage.run(31_900);
    stage.lines.clear();
    stage.run(32_100);
    expect![[r#"
        32000  ended: NotAcknowledged
        32000  1 BYE sip:agent@192.0.2.9
    "#]]
    .assert_eq(&stage.ladder());
}

/// RFC 3261 §14.2, §13.2.1: who brings no offer gets one. RFC 3311 §5.1: an UPDATE without one asks for nothing.
#[test]
fn a_re_invite_without_an_offer_gets_ours() {
    let mut stage = Stage::talking();
    stage.hear(Method::Invite, 2, &[CONTACT], "");
    stage.hear(Method::Ack, 2, &[], OFFER);
    stage.hear(Method::Update, 3, &[CONTACT], "");
    stage.hear(Method::Update, 4, &[CONTACT], OFFER);
    stage.run(60_000);
    expect![[r#"
        0      200 OK (2 INVITE) [v=0 ours]
        0      200 OK (3 UPDATE)
        0      200 OK (4 UPDATE) [v=0 ours]
    "#]]
    .assert_eq(&stage.ladder());
}

/// RFC 3261 §14.2: one INVITE after the other; RFC 3311 §5.2: one offer after the other.
#[test]
fn a_second_re_invite_waits_for_the_first_ones_ack() {
    let mut stage = Stage::talking();
    stage.hear(Method::Invite, 2, &[CONTACT], OFFER);
    stage.hear(Method::Invite, 3, &[("Contact", "<sip:elsewhere@192.0.2.9>")], OFFER);
    stage.hear(Method::Update, 4, &[CONTACT], OFFER);
    stage.hear(Method::Ack, 2, &[], "");
    stage.hear(Method::Ack, 3, &[], "");
    stage.hear(Method::Invite, 5, &[CONTACT], "");
    stage.hear(Method::Invite, 6, &[CONTACT], OFFER);
    stage.hear(Method::Update, 7, &[CONTACT], OFFER);
    stage.hear(Method::Update, 8, &[CONTACT], "");
    stage.hear(Method::Ack, 5, &[], OFFER);
    stage.hear(Method::Ack, 6, &[], "");
    // What was refused moved nobody.
    stage.hang_up();
    expect![[r#"
        0      200 OK (2 INVITE) [v=0 ours]
        0      500 Server Internal Error (3 INVITE) Retry-After: 7
        0      200 OK (4 UPDATE) [v=0 ours]
        0      200 OK (5 INVITE) [v=0 ours]
        0      491 Request Pending (6 INVITE)
        0      491 Request Pending (7 UPDATE)
        0      200 OK (8 UPDATE)
        0      ended: ByUs
        0      1 BYE sip:agent@192.0.2.9
    "#]]
    .assert_eq(&stage.ladder());
}

/// RFC 3261 §15: the callee sends no BYE before the ACK.
#[test]
fn a_callee_who_hangs_up_waits_for_the_ack() {
    let mut stage = Stage::called(OFFER);
    stage.run(200);
    stage.hang_up();
    stage.run(2000);
    stage.hear(Method::Ack, 1, &[], "");
    stage.answer(200, &[]);
    stage.run(60_000);
    expect![[r#"
        0      200 OK (1 INVITE) [v=0 ours]
        500    200 OK (1 INVITE) [v=0 ours]
        1500   200 OK (1 INVITE) [v=0 ours]
        2000   ended: ByUs
        2000   1 BYE sip:agent@192.0.2.9
        2000   told of 200 OK (1 BYE)
    "#]]
    .assert_eq(&stage.ladder());
    assert_eq!(stage.phone.calls(), 0);
}

#[test]
fn a_callee_who_hangs_up_waits_for_the_ack_no_longer_than_it_may_take() {
    let mut stage = Stage::called(OFFER);
    stage.hang_up();
    let call = stage.the_call();
    assert!(stage.phone.refer(stage.now, call, "sip:else@h").is_err(), "nothing is asked of whom one leaves");
    stage.run(31_900);
    stage.lines.clear();
    stage.run(32_100);
    expect![[r#"
        32000  ended: ByUs
        32000  1 BYE sip:agent@192.0.2.9
    "#]]
    .assert_eq(&stage.ladder());
}

#[test]
fn a_caller_who_hangs_up_before_its_ack_ends_the_call() {
    let mut stage = Stage::called(OFFER);
    stage.hang_up();
    stage.lines.clear();
    stage.hear(Method::Bye, 2, &[], "");
    stage.run(60_000);
    expect![[r#"
        0      ended: ByThem
        0      200 OK (2 BYE)
    "#]]
    .assert_eq(&stage.ladder());
    assert_eq!((stage.phone.calls(), stage.phone.statistics().transactions), (0, 0));
}

/// RFC 3261 §12.1.2: old callees have no tag.
#[test]
fn a_200_without_a_tag_makes_a_call() {
    let mut stage = Stage::calling(None);
    stage.answer_as("", 200, &[CONTACT]);
    stage.hang_up();
    expect![[r#"
        0      1 INVITE sip:agent@192.0.2.9 [v=0 ours]
        0      up []
        0      1 ACK sip:agent@192.0.2.9
        0      ended: ByUs
        0      2 BYE sip:agent@192.0.2.9
    "#]]
    .assert_eq(&stage.ladder());
}

/// It is acknowledged and ended where the INVITE went; otherwise it would be repeated to us for half a minute.
#[test]
fn a_200_that_does_not_say_where_is_ended() {
    let said = expect![[r#"
        0      1 INVITE sip:agent@192.0.2.9 [v=0 ours]
        0      ended: Refused(502)
        0      1 ACK sip:agent@192.0.2.9
        0      2 BYE sip:agent@192.0.2.9
        0      told of 200 OK (2 BYE)
        0      1 ACK sip:agent@192.0.2.9
    "#]];
    for headers in [&[][..], &[("Contact", "\u{1}")], &[CONTACT, ("Record-Route", "<sip:\u{1}@192.0.2.7>")]] {
        let mut stage = Stage::calling(None);
        let invite = stage.asked.clone();
        stage.answer(200, headers);
        stage.answer(200, &[]);
        stage.asked = invite;
        stage.answer(200, headers);
        said.assert_eq(&stage.ladder());
    }
}

/// The INVITE went by a proxy that is not in its URI.
#[test]
fn a_200_that_does_not_say_where_is_ended_by_the_same_way() {
    let mut stage = Stage::calling_to("sip:agent@198.51.100.7", None);
    stage.answer(200, &[]);
    stage.answer(200, &[]);
    expect![[r#"
        0      1 INVITE sip:agent@198.51.100.7 [v=0 ours]
        0      ended: Refused(502)
        0      1 ACK sip:agent@198.51.100.7
        0      2 BYE sip:agent@198.51.100.7
        0      told of 200 OK (2 BYE)
    "#]]
    .assert_eq(&stage.ladder());
    let mut stage = Stage::calling_to("sip:agent@198.51.100.7", None);
    stage.answer(200, &[("Contact", "<sip:agent@198.51.100.8>")]);
    stage.hang_up();
    expect![[r#"
        0      1 INVITE sip:agent@198.51.100.7 [v=0 ours]
        0      up []
        0      1 ACK sip:agent@198.51.100.8 by 198.51.100.8:5060
        0      ended: ByUs
        0      2 BYE sip:agent@198.51.100.8 by 198.51.100.8:5060
    "#]]
    .assert_eq(&stage.ladder());
}

/// RFC 3261 §13.2.2.4: each who takes the call is thanked; whoever comes too late is told goodbye, once. That holds
/// after the call, too.
#[test]
fn another_callee_who_takes_the_call_is_thanked_and_ended() {
    let mut stage = Stage::calling(None);
    let invite = stage.asked.clone();
    stage.answer(200, &[CONTACT]);
    for tag in ["a2", "a2", "a1"] {
        stage.asked.clone_from(&invite);
        stage.answer_as(tag, 200, &[("Contact", &format!("<sip:{tag}@192.0.2.9>"))]);
    }
    stage.hang_up();
    for tag in ["a3", "a1"] {
        stage.asked.clone_from(&invite);
        stage.answer_as(tag, 200, &[("Contact", &format!("<sip:{tag}@192.0.2.9>"))]);
    }
    expect![[r#"
        0      1 INVITE sip:agent@192.0.2.9 [v=0 ours]
        0      up []
        0      1 ACK sip:agent@192.0.2.9
        0      1 ACK sip:a2@192.0.2.9
        0      2 BYE sip:a2@192.0.2.9
        0      1 ACK sip:a2@192.0.2.9
        0      1 ACK sip:agent@192.0.2.9
        0      ended: ByUs
        0      2 BYE sip:agent@192.0.2.9
        0      1 ACK sip:a3@192.0.2.9
        0      2 BYE sip:a3@192.0.2.9
        0      1 ACK sip:agent@192.0.2.9
    "#]]
    .assert_eq(&stage.ladder());
}

/// Nobody makes us say goodbye to any number of callees.
#[test]
fn only_so_many_callees_are_thanked() {
    let mut stage = Stage::calling(None);
    let invite = stage.asked.clone();
    for tag in 0..=TAKERS_MAX {
        stage.lines.clear();
        stage.asked.clone_from(&invite);
        stage.answer_as(&format!("a{tag}"), 200, &[CONTACT]);
        let is_thanked = stage.ladder().contains("ACK");
        assert_eq!(is_thanked, tag < TAKERS_MAX, "{tag}");
    }
}
