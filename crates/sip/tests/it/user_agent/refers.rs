//! REFERs inside a call: several at once are told apart, and who tells of nothing we asked is told so.

use expect_test::expect;
use sip::endpoint::EndpointError;
use sip::limits::REFERS_MAX;
use sip::{Method, Status};

use super::{CONTACT, Stage};

/// RFC 3515 §2.4.6: the NOTIFYs of all but the first name their REFER.
#[test]
fn two_refers_of_theirs_are_told_apart() {
    let mut stage = Stage::talking();
    let call = stage.the_call();
    stage.hear(Method::Refer, 2, &[CONTACT, ("Refer-To", "<sip:one@h>")], "");
    let first = stage.refer.unwrap();
    stage.hear(Method::Refer, 7, &[CONTACT, ("Refer-To", "<sip:two@h>")], "");
    let second = stage.refer.unwrap();
    stage.phone.refer_result(stage.now, call, second, Status::RINGING).unwrap();
    stage.phone.refer_result(stage.now, call, first, Status::OK).unwrap();
    stage.phone.refer_result(stage.now, call, second, Status::OK).unwrap();
    let again = stage.phone.refer_result(stage.now, call, second, Status::OK);
    assert!(again.is_err(), "a final result is the last");
    stage.drain();
    expect![[r#"
        0      asked to call sip:one@h
        0      202 Accepted (2 REFER)
        0      1 NOTIFY sip:agent@192.0.2.9 Event: refer Subscription-State: active;expires=600 [SIP/2.0 100 Trying]
        0      asked to call sip:two@h
        0      202 Accepted (7 REFER)
        0      2 NOTIFY sip:agent@192.0.2.9 Event: refer;id=7 Subscription-State: active;expires=600 [SIP/2.0 100 Trying]
        0      3 NOTIFY sip:agent@192.0.2.9 Event: refer;id=7 Subscription-State: active;expires=600 [SIP/2.0 180 Ringing]
        0      4 NOTIFY sip:agent@192.0.2.9 Event: refer Subscription-State: terminated;reason=noresource [SIP/2.0 200 OK]
        0      5 NOTIFY sip:agent@192.0.2.9 Event: refer;id=7 Subscription-State: terminated;reason=noresource [SIP/2.0 200 OK]
    "#]].assert_eq(&stage.ladder());
}

/// RFC 6665 §4.2.2: nobody is told who does not want to hear.
#[test]
fn a_result_that_is_refused_is_the_last() {
    let mut stage = Stage::talking();
    let call = stage.the_call();
    stage.hear(Method::Refer, 2, &[CONTACT, ("Refer-To", "<sip:one@h>")], "");
    stage.answer(481, &[]);
    assert!(stage.phone.refer_result(stage.now, call, stage.refer.unwrap(), Status::OK).is_err());
}

#[test]
fn a_notify_tells_of_a_refer_of_ours_or_is_refused() {
    let mut stage = Stage::talking();
    let call = stage.the_call();
    let active = ("Subscription-State", "active;expires=60");
    let ended = ("Subscription-State", "Terminated;reason=noresource");
    let trying = "SIP/2.0 100 Trying\r\n";
    stage.hear(Method::Notify, 2, &[("Event", "refer"), active], trying);
    stage.phone.refer(stage.now, call, "sip:one@192.0.2.9").unwrap();
    stage.phone.refer(stage.now, call, "sip:two@192.0.2.9").unwrap();
    stage.drain();
    // Before the 202, too.
    stage.hear(Method::Notify, 3, &[("Event", "refer"), active], trying);
    stage.hear(Method::Notify, 4, &[("Event", "refer;id=2"), ended], "SIP/2.0 486 Busy Here");
    stage.hear(Method::Notify, 5, &[("Event", "refer;id=2"), ended], "SIP/2.0 486 Busy Here");
    stage.hear(Method::Notify, 6, &[("Event", "refer;id=x"), active], trying);
    stage.hear(Method::Notify, 7, &[("Event", "presence"), active], trying);
    stage.hear(Method::Notify, 8, &[active], trying);
    stage.hear(Method::Notify, 9, &[("o", "Refer"), ended], "SIP/2.0 200 OK");
    stage.hear(Method::Notify, 10, &[("Event", "refer"), active], trying);
    expect![[r#"
        0      481 Call/Transaction Does Not Exist (2 NOTIFY)
        0      1 REFER sip:agent@192.0.2.9
        0      2 REFER sip:agent@192.0.2.9
        0      progress of ReferId(1): 100 Trying
        0      200 OK (3 NOTIFY)
        0      progress of ReferId(2): 486 Busy Here
        0      200 OK (4 NOTIFY)
        0      481 Call/Transaction Does Not Exist (5 NOTIFY)
        0      481 Call/Transaction Does Not Exist (6 NOTIFY)
        0      489 Bad Event (7 NOTIFY) Allow-Events: refer
        0      489 Bad Event (8 NOTIFY) Allow-Events: refer
        0      progress of ReferId(1): 200 OK
        0      200 OK (9 NOTIFY)
        0      481 Call/Transaction Does Not Exist (10 NOTIFY)
    "#]]
    .assert_eq(&stage.ladder());
}

#[test]
fn a_refer_that_is_refused_or_not_answered_has_an_end() {
    let mut stage = Stage::talking();
    let call = stage.the_call();
    stage.phone.refer(stage.now, call, "sip:one@192.0.2.9").unwrap();
    stage.drain();
    stage.answer(603, &[]);
    stage.phone.refer(stage.now, call, "sip:two@192.0.2.9").unwrap();
    stage.run(31_900);
    stage.lines.clear();
    stage.run(60_000);
    stage.hear(Method::Notify, 2, &[("Event", "refer")], "SIP/2.0 200 OK");
    expect![[r#"
        32000  progress of ReferId(2): 408 Request Timeout
        60000  481 Call/Transaction Does Not Exist (2 NOTIFY)
    "#]]
    .assert_eq(&stage.ladder());
}

#[test]
fn there_are_only_so_many_at_once() {
    let mut stage = Stage::talking();
    let call = stage.the_call();
    for number in 2u32.. {
        stage.hear(Method::Refer, number, &[CONTACT, ("Refer-To", "<sip:one@h>")], "");
        if number as usize == 2 + REFERS_MAX {
            break;
        }
        assert!(stage.ladder().contains("202"), "{number}");
        stage.phone.refer(stage.now, call, "sip:one@192.0.2.9").unwrap();
        stage.drain();
        stage.lines.clear();
    }
    expect![[r#"
        0      603 Decline (18 REFER)
    "#]]
    .assert_eq(&stage.ladder());
    assert_eq!(stage.phone.refer(stage.now, call, "sip:one@192.0.2.9"), Err(EndpointError::Full));
    stage.phone.refer_result(stage.now, call, stage.refer.unwrap(), Status::OK).unwrap();
    stage.hear(Method::Refer, 99, &[CONTACT, ("Refer-To", "<sip:one@h>")], "");
    assert!(stage.ladder().contains("202"), "one has ended");
}
