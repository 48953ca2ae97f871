//! Equivalence as the RFC tells it, what is refused, and that comparing stays linear.

use super::*;

#[test]
fn addresses_are_read_as_the_standard_library_reads_them() {
    let parts = ["", "0", "00", "01", "7", "10", "99", "249", "255", "256", "1000", "a", "-1", " 1"];
    for a in parts {
        for b in parts {
            for text in
                [format!("{a}.{b}.1.2"), format!("1.2.{a}.{b}"), format!("{a}.{b}"), format!("1.{a}.3.4{b}")]
            {
                assert_eq!(read_v4(text.as_bytes()), text.parse().ok(), "{text}");
            }
        }
    }
    assert_eq!((read_v4(b"1.2.3.4.5"), read_v4(b"1.2.3.4."), read_v4(b".1.2.3")), (None, None, None));
}

fn same(a: &str, b: &str) -> bool {
    Uri::parse(a.as_bytes()).unwrap().is_equivalent(&Uri::parse(b.as_bytes()).unwrap())
}

#[test]
fn equivalence_is_the_rfcs() {
    // RFC 3261 §19.1.4's own examples.
    for (a, b) in [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
        ("tel:+1-438-595-0345", "tel:+14385950345"),
    ] {
        assert!(same(a, b) && same(b, a), "{a} {b}");
    }
    for (a, b) in [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:a@b", "sips:a@b"),
    ] {
        assert!(!same(a, b) && !same(b, a), "{a} {b}");
    }
}

#[test]
fn a_third_colon_is_forgiven_before_an_ipv4_address_only() {
    let v6 = |text: &'static str| Host::parse(text.as_bytes());
    let meant = Some(Host::V6("2001:db8::192.0.2.1".parse().unwrap()));
    assert_eq!(v6("[2001:db8:::192.0.2.1]"), meant);
    assert_eq!(v6("[2001:db8::192.0.2.1]"), meant);
    for bad in ["[2001:db8:::1]", "[:::]", "[2001:::1:::192.0.2.1]", "[2001:db8::::192.0.2.1]", "[]"] {
        assert_eq!(v6(bad), None, "{bad}");
    }
}

#[test]
fn parameters_compare_wherever_they_stand() {
    let many = (0..URI_PARAMS_MAX).map(|place| format!(";p{place}=x")).collect::<Vec<_>>().concat();
    let turned = (0..URI_PARAMS_MAX).rev().map(|place| format!(";P{place}=X")).collect::<Vec<_>>().concat();
    for (a, b) in [
        ("sip:h;a=1;b=2;lr;transport=tcp", "sip:h;transport=TCP;LR;B=2;A=1"),
        ("sip:h;lr;a=1;zz", "sip:h;a=1;b;c=3"),
        (&format!("sip:h{many}"), &format!("sip:h{turned}")),
    ] {
        assert!(same(a, b) && same(b, a), "{a} {b}");
    }
    for (a, b) in [
        ("sip:h;a=1;b=2", "sip:h;b=2;a=2"),
        ("sip:h;a=1;ttl=1", "sip:h;a=1"),
        ("sip:h;zz;user=phone", "sip:h;aa"),
        ("sip:h;maddr=h;a", "sip:h;a;b"),
        ("sip:h;a=1;method=INVITE", "sip:h;method=BYE;a=1"),
        ("sip:h;a=1;a=2", "sip:h;a=2;a=1"),
        (&format!("sip:h{many};y=1"), &format!("sip:h{turned};y=1")),
    ] {
        assert!(!same(a, b) && !same(b, a), "{a} {b}");
    }
}

#[test]
fn what_decides_stands_once() {
    for twice in [
        "transport=udp;transport=tcp",
        "lr;a;LR=on",
        "maddr=a;MADDR=b",
        "user=phone;user=ip",
        "method=BYE;a;method=ACK",
        "ttl=1;ttl=2",
    ] {
        assert_eq!(Uri::parse(format!("sip:h;{twice}").as_bytes()).unwrap_err(), UriError::Param, "{twice}");
    }
    for again in ["sip:h;lr;lr", "sip:h;user=phone;a;USER=Phone", "tel:1;npdi;npdi;ext=1;ext=1"] {
        assert!(Uri::parse(again.as_bytes()).is_ok(), "{again}");
    }
    for twice in ["phone-context=+1;phone-context=+44", "rn=1;RN=2", "ext=1;a;ext=2", "npdi;npdi=1"] {
        assert_eq!(Uri::parse(format!("tel:1;{twice}").as_bytes()).unwrap_err(), UriError::Param, "{twice}");
    }
}

#[test]
fn comparing_is_linear() {
    let list = |of: &dyn Fn(usize) -> String, count| (0..count).map(of).collect::<String>();
    let (short, long) = (|_| ";a".to_owned(), |_| ";b".to_owned());
    let like = |place| format!(";{}{place:02}", "x".repeat(200));
    for (a, b) in [
        (list(&short, 1020), list(&long, 3900)),
        (list(&like, URI_PARAMS_MAX), list(&|place| like(URI_PARAMS_MAX - 1 - place), URI_PARAMS_MAX)),
        (list(&like, URI_PARAMS_MAX), list(&|place| like(place + 1), URI_PARAMS_MAX)),
        (list(&like, URI_PARAMS_MAX), list(&|place| like(place * 13 % URI_PARAMS_MAX), URI_PARAMS_MAX)),
    ] {
        let (a, b) = (format!("sip:h{a}"), format!("sip:h{b}"));
        work::take();
        same(&a, &b);
        let visited = work::take();
        assert!(visited <= 16 * (a.len() + b.len()), "{visited} for {} and {}", a.len(), b.len());
    }
}

/// Found by fuzzing: a parameter that stands twice with two values made a URI differ from itself.
#[test]
fn a_uri_is_itself_even_with_a_parameter_twice() {
    assert!(same("sip:h;a=1;a=2", "sip:h;a=1;a=2"));
}
