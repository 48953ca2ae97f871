//! The RFC's own figures, and everything that must not pass.

use super::*;
use crate::print::ResponseBuilder;
use std::time::Duration;

#[test]
fn rfc7616_examples() {
    // RFC 7616 §3.9.1.
    let inputs = Inputs {
        username: b"Mufasa",
        realm: b"http-auth@example.org",
        password: b"Circle of Life",
        nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        method: b"GET",
        uri: b"/dir/index.html",
        counted: Some((b"00000001", b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")),
    };
    assert_eq!(digest(Algorithm::Md5, &inputs), "8ca523f5e9506fed4657c9700eebdbec");
    assert_eq!(
        digest(Algorithm::Sha256, &inputs),
        "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    );
}

const REALM: &str = "trunk-1";
const CNONCE: u64 = 0x0123_4567_89ab_cdef;

fn request(uri: &str, authorization: &str) -> Message {
    let line =
        if authorization.is_empty() { String::new() } else { format!("Authorization: {authorization}\r\n") };
    let text = format!(
        "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
         Call-ID: x\r\nCSeq: 1 REGISTER\r\n{line}\r\n"
    );
    Message::parse(text.as_bytes()).unwrap()
}

fn authenticator() -> Authenticator {
    Authenticator::new(&Keys { shared: [1; 32], unique: [2; 32] })
}

fn challenge(server: &mut Authenticator, now: Instant, realm: &str, stale: bool) -> Message {
    let request = request("sip:example.com", "");
    let mut builder = ResponseBuilder::new(&request, Asker::UserAgent.status());
    for (name, value) in server.challenge(now, Asker::UserAgent, realm, stale) {
        builder = builder.header(name.as_str(), value);
    }
    builder.build().unwrap()
}

fn alice() -> Credentials {
    Credentials { username: "alice".into(), password: Secret::new("secret"), realm: Some(REALM.into()) }
}

fn verify(server: &mut Authenticator, now: Instant, request: &Message) -> Verdict {
    server.verify(now, request, Asker::UserAgent, REALM, |user| {
        (user == "alice").then(|| Secret::new("secret"))
    })
}

fn answer_to(challenge: &Message, uri: &str, count: u32) -> String {
    answer(challenge, &alice(), b"REGISTER", uri.as_bytes(), count, CNONCE).unwrap().1
}

#[test]
fn no_answer_is_taken_twice() {
    let mut server = authenticator();
    let uri = "sip:example.com";
    let mut now = Instant::ZERO;
    for round in 0..2_500u32 {
        now = now + Duration::from_millis(20);
        let challenge = challenge(&mut server, now, REALM, false);
        let good = answer_to(&challenge, uri, 1 + round % 3);
        let accepted = Verdict::Accepted { username: "alice".into() };
        assert_eq!(verify(&mut server, now, &request(uri, &good)), accepted);
        // The same again; for another URI; later; with a count that was used.
        assert_eq!(verify(&mut server, now, &request(uri, &good)), Verdict::Refused(Refused::Replay));
        assert_eq!(
            verify(&mut server, now, &request("sip:other.com", &good)),
            Verdict::Refused(Refused::Uri)
        );
        let late = now + Duration::from_secs(61);
        assert_eq!(verify(&mut server, late, &request(uri, &good)), Verdict::Stale);
        let lower = answer_to(&challenge, uri, 1);
        assert_eq!(
            verify(&mut server, now, &request(uri, &lower)),
            Verdict::Stale,
            "the clock does not run back"
        );
        now = late;
    }
}

#[test]
fn counts_must_rise() {
    let mut server = authenticator();
    let now = Instant::ZERO;
    let challenge = challenge(&mut server, now, REALM, false);
    let mut check = |count, accepted| {
        let verdict = verify(&mut server, now, &request("sip:h", &answer_to(&challenge, "sip:h", count)));
        assert_eq!(matches!(verdict, Verdict::Accepted { .. }), accepted, "{count}: {verdict:?}");
    };
    for (count, accepted) in [(1, true), (2, true), (2, false), (1, false), (9, true), (3, false), (10, true)]
    {
        check(count, accepted);
    }
}

#[test]
fn what_is_refused_and_why() {
    let mut server = authenticator();
    let now = Instant::ZERO;
    let challenge = challenge(&mut server, now, REALM, false);
    let good = answer_to(&challenge, "sip:h", 1);
    let cases = [
        (good.replace("alice", "bob"), Refused::Password),
        (good.replace("response=\"", "response=\"0"), Refused::Password),
        (good.replace("algorithm=SHA-256", "algorithm=SHA-512"), Refused::Algorithm),
        (good.replace("algorithm=SHA-256", "algorithm=MD5"), Refused::Password),
        (good.replace("qop=auth, ", ""), Refused::Qop),
        (good.replace("qop=auth", "qop=auth-int"), Refused::Qop),
        (good.replace("nc=00000001", "nc=00000000"), Refused::Malformed),
        (good.replace("nc=00000001", "nc=1"), Refused::Malformed),
        (good.replace("nc=00000001", "nc=00000002"), Refused::Password),
        (good.replace("nonce=\"", "nonce=\"1"), Refused::Nonce),
        (good.replacen("nonce=\"0", "nonce=\"1", 1), Refused::Nonce),
        (good.replace("username=\"alice\", ", ""), Refused::Malformed),
        (good.replace("uri=\"sip:h\"", "uri=\"sip:i\""), Refused::Password),
    ];
    for (text, why) in cases {
        assert_ne!(text, good);
        assert_eq!(verify(&mut server, now, &request("sip:h", &text)), Verdict::Refused(why), "{text}");
    }
    for twice in ["realm=\"trunk-2\"", "nonce=\"0\"", "URI=\"sip:h\"", "qop=auth", "cnonce=\"1\""] {
        let text = format!("{good}, {twice}");
        assert_eq!(verify(&mut server, now, &request("sip:h", &text)), Verdict::Missing, "{text}");
    }
    let other_realm = good.replace(REALM, "trunk-2");
    assert_eq!(verify(&mut server, now, &request("sip:h", &other_realm)), Verdict::Missing);
    for odd in [
        "Basic YWxpY2U6c2VjcmV0",
        "NoOneKnowsThisScheme opaque-data=here",
        "Digest",
        "Digest realm=\"trunk-1",
        "",
    ] {
        assert_eq!(verify(&mut server, now, &request("sip:h", odd)), Verdict::Missing, "{odd}");
    }
    assert!(
        matches!(verify(&mut server, now, &request("sip:h", &good)), Verdict::Accepted { .. }),
        "still unused"
    );
}

#[test]
fn a_nonce_is_bound_to_its_realm_and_its_node() {
    let mut server = authenticator();
    let now = Instant::ZERO;
    let elsewhere = challenge(&mut server, now, "trunk-2", false);
    let mut bob = alice();
    bob.realm = None;
    let stolen =
        answer(&elsewhere, &bob, b"REGISTER", b"sip:h", 1, CNONCE).unwrap().1.replace("trunk-2", REALM);
    assert_eq!(verify(&mut server, now, &request("sip:h", &stolen)), Verdict::Refused(Refused::Nonce));
    let mut other = Authenticator::new(&Keys { shared: [1; 32], unique: [9; 32] });
    let foreign = challenge(&mut other, now, REALM, false);
    let text = answer_to(&foreign, "sip:h", 1);
    assert_eq!(verify(&mut server, now, &request("sip:h", &text)), Verdict::Refused(Refused::Nonce));
}

#[test]
fn a_flood_of_challenges_evicts_nobody_and_what_is_forgotten_is_stale() {
    let mut server = authenticator();
    let now = Instant::ZERO;
    let mine = challenge(&mut server, now, REALM, false);
    for _ in 0..100_000 {
        server.challenge(now, Asker::UserAgent, REALM, false);
    }
    assert_eq!(server.remembered(), 0);
    let used = request("sip:h", &answer_to(&mine, "sip:h", 1));
    assert!(matches!(verify(&mut server, now, &used), Verdict::Accepted { .. }));
    for _ in 0..crate::limits::NONCES_MAX {
        let one = challenge(&mut server, now, REALM, false);
        assert!(matches!(
            verify(&mut server, now, &request("sip:h", &answer_to(&one, "sip:h", 1))),
            Verdict::Accepted { .. }
        ));
    }
    assert_eq!(server.remembered(), crate::limits::NONCES_MAX);
    assert_eq!(verify(&mut server, now, &used), Verdict::Stale, "forgotten, and never fresh again");
}

#[test]
fn a_client_answers_its_own_realm_and_the_better_algorithm() {
    let mut server = authenticator();
    let ours = challenge(&mut server, Instant::ZERO, REALM, true);
    assert!(is_stale(&ours));
    assert!(answer_to(&ours, "sip:h", 1).contains("algorithm=SHA-256"));
    let theirs = challenge(&mut server, Instant::ZERO, "evil", false);
    assert!(!is_stale(&theirs));
    assert_eq!(answer(&theirs, &alice(), b"REGISTER", b"sip:h", 1, CNONCE), None);
    let one = |value: &str| {
        let request = request("sip:h", "");
        let text =
            ResponseBuilder::new(&request, Asker::Proxy.status()).header("Proxy-Authenticate", value).build();
        answer(&text.unwrap(), &alice(), b"REGISTER", b"sip:h", 1, CNONCE)
    };
    assert_eq!(one("Digest realm=\"trunk-1\", nonce=\"n\", algorithm=SHA-512-256, qop=\"auth\""), None);
    assert_eq!(one("Digest realm=\"trunk-1\", nonce=\"n\", qop=\"auth-int\""), None);
    assert_eq!(one("Digest realm=\"trunk-1\""), None);
    let old = one("Digest realm=\"trunk-1\", nonce=\"n\"").unwrap();
    assert!(old.0 == Name::ProxyAuthorization && !old.1.contains("qop"), "RFC 2069");
    let both = one("Digest realm=\"trunk-1\", nonce=\"n\", qop=\"auth-int, auth\", opaque=\"o\"").unwrap();
    assert!(both.1.contains("qop=auth, nc=00000001") && both.1.contains("opaque=\"o\""));
}

#[test]
fn secrets_are_not_printed() {
    assert!(!format!("{:?}", alice()).contains("secret"));
}

/// Found by fuzzing: a folded nonce went into our answer as it was, which no header can hold; a registration would
/// have asked again and again without ever sending.
#[test]
fn a_challenge_that_cannot_be_repeated_on_one_line_is_not_answered() {
    for value in [
        "Digest realm=\"trunk-1\", nonce=\"n\r\n n\"",
        "Digest realm=\"trunk-1\", nonce=\"n\", opaque=\"\0\"",
    ] {
        let text = format!("SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: {value}\r\n\r\n");
        let challenge = Message::parse(text.as_bytes()).unwrap();
        assert_eq!(answer(&challenge, &alice(), b"REGISTER", b"sip:h", 1, CNONCE), None, "{value:?}");
    }
}

#[test]
fn a_user_name_may_hold_quotes() {
    let mut server = authenticator();
    let challenge = challenge(&mut server, Instant::ZERO, REALM, false);
    let odd = Credentials { username: r#"a "b" \c"#.into(), ..alice() };
    let (_, value) = answer(&challenge, &odd, b"REGISTER", b"sip:h", 1, CNONCE).unwrap();
    assert!(value.starts_with(r#"Digest username="a \"b\" \\c", realm"#), "{value}");
    let request = request("sip:h", &value);
    let verdict = server.verify(Instant::ZERO, &request, Asker::UserAgent, REALM, |user| {
        (user == odd.username).then(|| Secret::new("secret"))
    });
    assert_eq!(verdict, Verdict::Accepted { username: odd.username.clone() });
}

#[test]
fn a_nonce_that_nobody_used_grows_old_too() {
    let mut server = authenticator();
    let challenge = challenge(&mut server, Instant::ZERO, REALM, false);
    let first = request("sip:h", &answer_to(&challenge, "sip:h", 1));
    let late = Instant::ZERO + crate::limits::NONCE_LIFETIME + Duration::from_millis(1);
    assert_eq!(verify(&mut server, late, &first), Verdict::Stale);
    assert_eq!(server.remembered(), 0);
}

/// The URI of the request and that of the credentials were compared each parameter with each, before anything was known
/// of the sender.
#[test]
fn looking_at_credentials_is_linear() {
    let mut server = authenticator();
    let challenge = challenge(&mut server, Instant::ZERO, REALM, false);
    let (long, longer) = (format!("sip:h{}", ";a".repeat(1_020)), format!("sip:h{}", ";b".repeat(3_900)));
    let good = answer_to(&challenge, &longer, 1);
    let many = format!("Digest {}realm=\"{REALM}\"", "a=b, ".repeat(1_600));
    let quotes = format!("Digest realm=\"{REALM}\", username=\"{}\"", "\\\\".repeat(4_000));
    for (text, expected) in [
        (good.replace("alice", "bob"), Verdict::Refused(Refused::Password)),
        (good, Verdict::Refused(Refused::Uri)),
        (many, Verdict::Refused(Refused::Malformed)),
        (quotes, Verdict::Refused(Refused::Malformed)),
    ] {
        let request = request(&long, &text);
        work::take();
        assert_eq!(verify(&mut server, Instant::ZERO, &request), expected);
        let visited = work::take();
        assert!(visited <= 8 * request.bytes().len(), "{visited} for {}", request.bytes().len());
    }
}

/// It was a hash of the password, which a server that always gives one nonce could look up in a table made once.
#[test]
fn a_client_nonce_is_the_callers_and_tells_nothing_of_the_password() {
    let mut server = authenticator();
    let challenge = challenge(&mut server, Instant::ZERO, REALM, false);
    let cnonce_of = |password: &str, cnonce| {
        let me = Credentials { password: Secret::new(password), ..alice() };
        let (_, value) = answer(&challenge, &me, b"REGISTER", b"sip:h", 1, cnonce).unwrap();
        value.split("cnonce=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
    };
    assert_eq!(cnonce_of("secret", 7), "0000000000000007");
    assert_eq!(cnonce_of("other", u64::MAX), "ffffffffffffffff");
}
