//! Calls as ladders.

use expect_test::expect;

use crate::story::{check_call, check_call_tcp};

#[test]
fn a_call() {
    check_call(
        "edge tries bob
         0ms alice calls
         100ms bob rings
         2s bob answers
         9s alice hangs up",
        &expect![[r#"
            0      alice → edge → bob: INVITE sip:support@edge
            100    bob → edge → alice: 180 Ringing (INVITE)
            2000   bob → edge → alice: 200 OK (INVITE)
            2010   edge: concluded with 200 OK of target Some(0)
            2020   alice → edge → bob: ACK sip:bob@bob;transport=udp
            2020   alice: up
            2040   bob: up
            9000   alice → edge → bob: BYE sip:bob@bob;transport=udp
            9000   alice: ended: ByUs
            9020   bob → edge → alice: 200 OK (BYE)
            9020   bob: ended: ByThem
        "#]],
    );
}

#[test]
fn a_call_over_connections() {
    check_call_tcp(
        "edge tries bob
         0ms alice calls
         50ms bob answers
         1s bob hangs up",
        &expect![[r#"
            0      alice → edge → bob: INVITE sip:support@edge
            50     bob → edge → alice: 200 OK (INVITE)
            60     edge: concluded with 200 OK of target Some(0)
            70     alice → edge → bob: ACK sip:bob@bob;transport=tcp
            70     alice: up
            90     bob: up
            1000   bob → edge → alice: BYE sip:alice@alice;transport=tcp
            1000   bob: ended: ByUs
            1020   alice → edge → bob: 200 OK (BYE)
            1020   alice: ended: ByThem
        "#]],
    );
}

#[test]
fn a_slow_target_makes_a_100() {
    check_call(
        "edge tries bob
         0ms alice calls
         900ms bob is busy",
        &expect![[r#"
            0      alice → edge → bob: INVITE sip:support@edge
            210    edge → alice: 100 Trying (INVITE)
            220    bob → edge: 100 Trying (INVITE)
            900    bob → edge → alice: 486 Busy Here (INVITE)
            900    bob: ended: ByUs
            910    edge → bob: ACK sip:bob@bob
            910    edge: target 0 failed: Answered(486)
            910    edge: concluded with 486 Busy Here of target Some(0)
            920    alice → edge: ACK sip:support@edge
            920    alice: ended: Refused(486)
        "#]],
    );
}

#[test]
fn the_next_target_is_tried() {
    check_call(
        "edge tries nobody, bob for 3s, carol
         0ms alice calls
         3s bob rings
         7s carol rings
         8s carol answers
         10s carol hangs up",
        &expect![[r#"
            0      alice → edge → nobody: INVITE sip:support@edge
            210    edge → alice: 100 Trying (INVITE)
            510    edge → nobody: INVITE sip:nobody@192.0.2.99:5060
            1510   edge → nobody: INVITE sip:nobody@192.0.2.99:5060
            2010   edge → bob: INVITE sip:bob@bob
            2010   edge: target 0 failed: Silent
            2220   bob → edge: 100 Trying (INVITE)
            3000   bob → edge → alice: 180 Ringing (INVITE)
            3510   edge → nobody: INVITE sip:nobody@192.0.2.99:5060
            5230   edge → bob: CANCEL sip:bob@bob
            5230   edge → carol: INVITE sip:carol@carol
            5230   edge: target 1 failed: RangTooLong
            5240   bob → edge: 200 OK (CANCEL)
            5240   bob → edge: 487 Request Terminated (INVITE)
            5240   bob: ended: ByThem
            5250   edge → bob: ACK sip:bob@bob
            5440   carol → edge: 100 Trying (INVITE)
            7000   carol → edge → alice: 180 Ringing (INVITE)
            7510   edge → nobody: INVITE sip:nobody@192.0.2.99:5060
            8000   carol → edge → alice: 200 OK (INVITE)
            8010   edge: concluded with 200 OK of target Some(2)
            8020   alice → edge → carol: ACK sip:carol@carol;transport=udp
            8020   alice: up
            8040   carol: up
            10000  carol → edge → alice: BYE sip:alice@alice;transport=udp
            10000  carol: ended: ByUs
            10020  alice → edge → carol: 200 OK (BYE)
            10020  alice: ended: ByThem
            15510  edge → nobody: INVITE sip:nobody@192.0.2.99:5060
            31510  edge → nobody: INVITE sip:nobody@192.0.2.99:5060
        "#]],
    );
}

#[test]
fn busy_is_final() {
    check_call(
        "edge tries bob, carol
         0ms alice calls
         50ms bob rings
         900ms bob is busy",
        &expect![[r#"
            0      alice → edge → bob: INVITE sip:support@edge
            50     bob → edge → alice: 180 Ringing (INVITE)
            900    bob → edge → alice: 486 Busy Here (INVITE)
            900    bob: ended: ByUs
            910    edge → bob: ACK sip:bob@bob
            910    edge: target 0 failed: Answered(486)
            910    edge: concluded with 486 Busy Here of target Some(0)
            920    alice → edge: ACK sip:support@edge
            920    alice: ended: Refused(486)
        "#]],
    );
}

#[test]
fn all_fail_and_the_caller_may_come_again() {
    check_call(
        "edge tries nobody, bob
         0ms alice calls
         2100ms bob fails",
        &expect![[r#"
            0      alice → edge → nobody: INVITE sip:support@edge
            210    edge → alice: 100 Trying (INVITE)
            510    edge → nobody: INVITE sip:nobody@192.0.2.99:5060
            1510   edge → nobody: INVITE sip:nobody@192.0.2.99:5060
            2010   edge → bob: INVITE sip:bob@bob
            2010   edge: target 0 failed: Silent
            2100   bob → edge: 500 Server Internal Error (INVITE)
            2100   bob: ended: ByUs
            2110   edge → bob: ACK sip:bob@bob
            2110   edge → alice: 503 Service Unavailable (INVITE)
            2110   edge: target 1 failed: Answered(500)
            2110   edge: concluded with 503 Service Unavailable of target None
            2120   alice → edge: ACK sip:support@edge
            2120   alice: ended: Refused(503)
            3510   edge → nobody: INVITE sip:nobody@192.0.2.99:5060
            7510   edge → nobody: INVITE sip:nobody@192.0.2.99:5060
            15510  edge → nobody: INVITE sip:nobody@192.0.2.99:5060
            31510  edge → nobody: INVITE sip:nobody@192.0.2.99:5060
        "#]],
    );
}

#[test]
fn the_caller_gives_up() {
    check_call(
        "edge tries bob, carol
         0ms alice calls
         50ms bob rings
         900ms alice hangs up",
        &expect![[r#"
            0      alice → edge → bob: INVITE sip:support@edge
            50     bob → edge → alice: 180 Ringing (INVITE)
            900    alice → edge: CANCEL sip:support@edge
            910    edge → alice: 200 OK (CANCEL)
            910    edge → bob: CANCEL sip:bob@bob
            910    edge → alice: 487 Request Terminated (INVITE)
            910    edge: concluded with 487 Request Terminated of target None
            920    bob → edge: 200 OK (CANCEL)
            920    bob → edge: 487 Request Terminated (INVITE)
            920    bob: ended: ByThem
            920    alice → edge: ACK sip:support@edge
            920    alice: ended: ByUs
            930    edge → bob: ACK sip:bob@bob
        "#]],
    );
}

#[test]
fn a_200_crosses_the_cancel() {
    check_call(
        "edge tries bob
         0ms alice calls
         50ms bob rings
         900ms alice hangs up
         915ms bob answers",
        &expect![[r#"
            0      alice → edge → bob: INVITE sip:support@edge
            50     bob → edge → alice: 180 Ringing (INVITE)
            900    alice → edge: CANCEL sip:support@edge
            910    edge → alice: 200 OK (CANCEL)
            910    edge → bob: CANCEL sip:bob@bob
            910    edge → alice: 487 Request Terminated (INVITE)
            910    edge: concluded with 487 Request Terminated of target None
            915    bob → edge: 200 OK (INVITE)
            920    bob → edge: 200 OK (CANCEL)
            920    alice → edge: ACK sip:support@edge
            920    alice: ended: ByUs
            925    edge → bob: ACK sip:bob@bob;transport=udp
            925    edge → bob: BYE sip:bob@bob;transport=udp
            935    bob: up
            935    bob → edge: 200 OK (BYE)
            935    bob: ended: ByThem
        "#]],
    );
}

#[test]
fn an_answer_comes_after_the_ring_time() {
    check_call(
        "edge tries bob for 1s, carol
         0ms alice calls
         50ms bob rings
         1065ms bob answers
         2s alice hangs up",
        &expect![[r#"
            0      alice → edge → bob: INVITE sip:support@edge
            50     bob → edge → alice: 180 Ringing (INVITE)
            1060   edge → bob: CANCEL sip:bob@bob
            1060   edge → carol: INVITE sip:carol@carol
            1060   edge: target 0 failed: RangTooLong
            1065   bob → edge → alice: 200 OK (INVITE)
            1070   bob → edge: 200 OK (CANCEL)
            1075   edge: concluded with 200 OK of target Some(0)
            1085   alice → edge → bob: ACK sip:bob@bob;transport=udp
            1085   alice: up
            1105   bob: up
            1270   carol → edge: 100 Trying (INVITE)
            1280   edge → carol: CANCEL sip:carol@carol
            1290   carol → edge: 200 OK (CANCEL)
            1290   carol → edge: 487 Request Terminated (INVITE)
            1290   carol: ended: ByThem
            1300   edge → carol: ACK sip:carol@carol
            2000   alice → edge → bob: BYE sip:bob@bob;transport=udp
            2000   alice: ended: ByUs
            2020   bob → edge → alice: 200 OK (BYE)
            2020   bob: ended: ByThem
        "#]],
    );
}

#[test]
fn a_redirection_is_the_owners_to_follow() {
    check_call(
        "edge tries bob
         edge follows to carol
         0ms alice calls
         50ms bob redirects
         200ms carol answers
         1s alice hangs up",
        &expect![[r#"
            0      alice → edge → bob: INVITE sip:support@edge
            50     bob → edge: 302 Moved Temporarily (INVITE)
            50     bob: ended: ByUs
            60     edge → bob: ACK sip:bob@bob
            60     edge: target 0 redirects
            60     edge → carol: INVITE sip:carol@carol
            200    carol → edge → alice: 200 OK (INVITE)
            210    edge: concluded with 200 OK of target Some(1)
            220    alice → edge → carol: ACK sip:carol@carol;transport=udp
            220    alice: up
            240    carol: up
            1000   alice → edge → carol: BYE sip:carol@carol;transport=udp
            1000   alice: ended: ByUs
            1020   carol → edge → alice: 200 OK (BYE)
            1020   carol: ended: ByThem
        "#]],
    );
}

#[test]
fn a_redirection_nobody_follows_is_a_failure() {
    check_call(
        "edge tries bob, carol
         0ms alice calls
         50ms bob redirects
         5100ms carol is busy",
        &expect![[r#"
            0      alice → edge → bob: INVITE sip:support@edge
            50     bob → edge: 302 Moved Temporarily (INVITE)
            50     bob: ended: ByUs
            60     edge → bob: ACK sip:bob@bob
            60     edge: target 0 redirects
            210    edge → alice: 100 Trying (INVITE)
            5060   edge → carol: INVITE sip:carol@carol
            5060   edge: target 0 failed: Answered(302)
            5100   carol → edge → alice: 486 Busy Here (INVITE)
            5100   carol: ended: ByUs
            5110   edge → carol: ACK sip:carol@carol
            5110   edge: target 1 failed: Answered(486)
            5110   edge: concluded with 486 Busy Here of target Some(1)
            5120   alice → edge: ACK sip:support@edge
            5120   alice: ended: Refused(486)
        "#]],
    );
}

#[test]
fn a_handoff() {
    check_call(
        "edge tries bob
         0ms alice calls
         50ms bob answers
         1s bob refers to carol
         2s alice reports success
         3s bob hangs up",
        &expect![[r#"
            0      alice → edge → bob: INVITE sip:support@edge
            50     bob → edge → alice: 200 OK (INVITE)
            60     edge: concluded with 200 OK of target Some(0)
            70     alice → edge → bob: ACK sip:bob@bob;transport=udp
            70     alice: up
            90     bob: up
            1000   bob → edge → alice: REFER sip:alice@alice;transport=udp
            1020   alice → edge → bob: 202 Accepted (REFER)
            1020   alice → edge → bob: NOTIFY sip:bob@bob;transport=udp
            1020   alice: asked to call sip:carol@192.0.2.30
            1040   bob → edge → alice: 200 OK (NOTIFY)
            1040   bob: refer: 100 Trying
            2000   alice → edge → bob: NOTIFY sip:bob@bob;transport=udp
            2020   bob → edge → alice: 200 OK (NOTIFY)
            2020   bob: refer: 200 OK
            3000   bob → edge → alice: BYE sip:alice@alice;transport=udp
            3000   bob: ended: ByUs
            3020   alice → edge → bob: 200 OK (BYE)
            3020   alice: ended: ByThem
        "#]],
    );
}
