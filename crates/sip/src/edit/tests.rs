//! Each edit changes its own bytes and no other, and looks at no byte more than a few times.

use super::*;

const INVITE: &str = "INVITE sip:a@b SIP/2.0\r\n\
    v: SIP/2.0/UDP h1;rport;branch=z9hG4bK1 , SIP/2.0/UDP h2;branch=z9hG4bK2\r\n\
    Subject: caf\u{e9}\r\n folded\r\n\
    Max-Forwards: 0070\r\n\
    Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>, <sip:p3;lr>\r\n\
    x-thing: 1\r\nX-Thing : 2\r\n\
    \r\nbody";

/// After an edit the index must say what a fresh reading of the bytes says.
fn check(edit: impl FnOnce(&mut Message)) -> String {
    let mut message = Message::parse(INVITE.as_bytes()).unwrap();
    edit(&mut message);
    let fresh = Message::parse(message.bytes()).unwrap();
    assert!(message.headers().eq(fresh.headers()), "{:?}", String::from_utf8_lossy(message.bytes()));
    assert_eq!(message.body(), fresh.body());
    assert_eq!(message.uri_text(), fresh.uri_text());
    String::from_utf8(message.into_bytes()).unwrap()
}

#[test]
fn each_edit_touches_only_its_own_bytes() {
    let replaced = |old: &str, new: &str| INVITE.replacen(old, new, 1);
    assert_eq!(
        check(|m| m.set_uri(b"sip:longer@example.com").unwrap()),
        replaced("sip:a@b", "sip:longer@example.com")
    );
    assert_eq!(
        check(|m| m.push_via(b"SIP/2.0/UDP me").unwrap()),
        replaced("v:", "Via: SIP/2.0/UDP me\r\nv:")
    );
    assert_eq!(check(|m| assert!(m.pop_via())), replaced("SIP/2.0/UDP h1;rport;branch=z9hG4bK1 , ", ""));
    assert_eq!(check(|m| assert!(m.pop_via() && m.pop_via() && !m.pop_via())), {
        let via = &INVITE[INVITE.find("v:").unwrap()..INVITE.find("Subject").unwrap()];
        replaced(via, "")
    });
    assert_eq!(check(|m| assert!(m.pop_route())), replaced("Route: <sip:p1;lr>\r\n", ""));
    assert_eq!(
        check(|m| assert!(m.pop_route() && m.pop_route())),
        replaced("Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>, ", "Route: ")
    );
    assert_eq!(check(|m| assert!(m.decrement_max_forwards())), replaced("0070", "69"));
    let at_zero = |m: &mut Message| {
        m.set(Name::MaxForwards, b"0").unwrap();
        assert!(!m.decrement_max_forwards());
    };
    assert_eq!(check(at_zero), replaced("0070", "0"));
    assert_eq!(
        check(|m| assert_eq!(m.remove_named("X-THING"), 2)),
        replaced("x-thing: 1\r\nX-Thing : 2\r\n", "")
    );
    assert_eq!(
        check(|m| assert_eq!(m.remove_prefixed("X-T"), 2)),
        replaced("x-thing: 1\r\nX-Thing : 2\r\n", "")
    );
    assert_eq!(
        check(|m| assert_eq!(m.remove(Name::Subject), 1)),
        replaced("Subject: caf\u{e9}\r\n folded\r\n", "")
    );
    assert_eq!(
        check(|m| m.push_record_route(b"<sip:me;lr>").unwrap()),
        replaced("Subject", "Record-Route: <sip:me;lr>\r\nSubject")
    );
    assert_eq!(
        check(|m| m.push_route(b"<sip:p0;lr>").unwrap()),
        replaced("Route", "Route: <sip:p0;lr>\r\nRoute")
    );
    assert_eq!(check(|m| m.add("X-New", b"1").unwrap()), replaced("\r\n\r\n", "\r\nX-New: 1\r\n\r\n"));
    assert_eq!(check(|m| m.set_body(b"new")), replaced("\r\n\r\nbody", "\r\nContent-Length: 3\r\n\r\nnew"));
    assert_eq!(check(|m| m.set_via_param("rport", b"99").unwrap()), replaced(";rport", ";rport=99"));
    assert_eq!(
        check(|m| m.set_via_param("received", b"::1").unwrap()),
        replaced("K1 ,", "K1;received=::1 ,")
    );
}

#[test]
fn bytes_that_are_not_utf8_survive() {
    let mut message = Message::parse(b"OPTIONS sip:a@b SIP/2.0\nVia: x\nSubject: \xe9\xff\n\n\xfe").unwrap();
    message.push_via(b"SIP/2.0/UDP me").unwrap();
    assert_eq!(
        message.bytes(),
        b"OPTIONS sip:a@b SIP/2.0\nVia: SIP/2.0/UDP me\r\nVia: x\nSubject: \xe9\xff\n\n\xfe"
    );
}

#[test]
fn nothing_breaks_out_of_its_line() {
    let mut message = Message::parse(INVITE.as_bytes()).unwrap();
    assert_eq!(message.add("X", b"a\r\nEvil: 1"), Err(UnsafeText));
    assert_eq!(message.add("X\nY", b"a"), Err(UnsafeText));
    assert_eq!(message.set_uri(b"sip:a b"), Err(UnsafeText));
    assert_eq!(message.push_via(b"\n"), Err(UnsafeText));
    assert_eq!(message.bytes(), INVITE.as_bytes());
}

#[test]
fn a_message_that_just_ends_can_be_edited() {
    let mut message = Message::parse(b"OPTIONS sip:a@b SIP/2.0\r\nVia: x").unwrap();
    message.add("To", b"y").unwrap();
    assert_eq!(message.bytes(), b"OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\nTo: y\r\n");
}

type Edit = fn(&mut Message) -> bool;

/// What is removed line by line, or put in value by value, moved all that followed each time.
#[test]
fn editing_is_linear() {
    let via = format!("Via: SIP/2.0/UDP h{};rport\r\n", ";a".repeat(3_900));
    let routes = format!("Route: {}\r\n", "<sip:r;lr>,".repeat(700));
    let cases: [(&str, String, Edit); 10] = [
        ("all of a name", "Subject: x\r\n".repeat(240), |m| m.remove(Name::Subject) == 240),
        ("all of a text", "X-Y: z\r\n".repeat(240), |m| m.remove_named("x-y") == 240),
        ("each second", "X-Y: 1\r\nSubject: 2\r\n".repeat(120), |m| m.remove_prefixed("X-") == 120),
        ("all but the first", "Subject: x\r\n".repeat(240), |m| m.set(Name::Subject, b"y").is_ok()),
        ("empty lines alone", "Via: ,\r\n".repeat(240), |m| !m.pop_via()),
        ("empty lines above", "Route: ,\r\n".repeat(240) + "Route: <sip:a>, <sip:b>\r\n", |m| {
            m.pop_route() && m.lines(Name::Route).eq([b"<sip:b>"])
        }),
        ("a new parameter", via.clone(), |m| m.set_via_param("received", b"h").is_ok()),
        ("the last parameter", via, |m| m.set_via_param("rport", b"1").is_ok()),
        ("the last Route", routes.repeat(3), |m| {
            m.take_uri_from_last_route();
            m.uri_text() == b"sip:r;lr" && m.list(Name::Route).count() == 2_099
        }),
        ("the first Route", routes.repeat(3), |m| {
            m.give_uri_to_last_route();
            m.uri_text() == b"sip:r;lr" && m.list(Name::Route).count() == 2_100
        }),
    ];
    for (what, lines, edit) in cases {
        let text = format!("INVITE sip:a@b SIP/2.0\r\n{lines}\r\n{}", "x".repeat(20_000));
        let mut message = Message::parse(text.as_bytes()).unwrap();
        work::take();
        assert!(edit(&mut message), "{what}");
        let visited = work::take();
        assert!(visited <= 8 * text.len(), "{what}: {visited} for {}", text.len());
        assert!(Message::parse(message.bytes()).unwrap().headers().eq(message.headers()), "{what}");
    }
}

#[test]
fn routers_from_before_loose_routing() {
    let taken = |m: &mut Message| m.take_uri_from_last_route();
    let given = |m: &mut Message| m.give_uri_to_last_route();
    for (lines, edit, uri, routes) in [
        (
            "Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr> , \"x,\" <sip:p3;lr>,\r\n",
            taken as fn(&mut Message),
            "sip:p3;lr",
            "<sip:p1;lr> <sip:p2;lr>",
        ),
        ("Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>\r\nRoute: ,\r\n", taken, "sip:p2;lr", "<sip:p1;lr>"),
        ("Route: <sip:p1;lr>\r\n", taken, "sip:p1;lr", ""),
        ("Subject: x\r\n", taken, "sip:us", ""),
        ("Route: <sip:p1>, <sip:p2>\r\nRoute: <sip:p3>\r\n", given, "sip:p1", "<sip:p2> <sip:p3> <sip:us>"),
        ("Route: <sip:p1>\r\nSubject: x\r\n", given, "sip:p1", "<sip:us>"),
        ("Subject: x\r\n", given, "sip:us", ""),
    ] {
        let text = format!("BYE sip:us SIP/2.0\r\nVia: SIP/2.0/UDP h\r\n{lines}\r\n");
        let mut message = Message::parse(text.as_bytes()).unwrap();
        edit(&mut message);
        let fresh = Message::parse(message.bytes()).unwrap();
        assert!(message.headers().eq(fresh.headers()), "{lines}");
        assert_eq!(message.uri_text(), uri.as_bytes(), "{lines}");
        let left: Vec<String> =
            fresh.list(Name::Route).map(|value| String::from_utf8_lossy(value).into()).collect();
        assert_eq!(left.join(" "), routes, "{lines}");
    }
}
