//! Generated malformed messages: each header of good messages × each anomaly, more than twenty thousand of them.
//!
//! A test of its own kind, inside the crate because it counts the bytes that are looked at and moved ([`crate::work`]):
//! no message may make us look at more than a few times its length, none may make us panic, and none may leave anything
//! behind. What is sent must be readable again.

use std::cell::RefCell;
use std::time::Duration;

use crate::digest::{Asker, Authenticator, Credentials, Refused, Secret, Verdict, answer};
use crate::endpoint::{Config, Endpoint, Event, Listener, Output};
use crate::flow::{Flow, Source, Transport};
use crate::header::address::Address;
use crate::keyed::Keys;
use crate::message::Message;
use crate::method::{Method, MethodSet};
use crate::number::Number;
use crate::stream::Framer;
use crate::stream::tests::frames;
use crate::time::Instant;
use crate::uri::Uri;
use crate::work;

/// Good messages with nearly every header there is.
fn originals() -> Vec<Vec<u8>> {
    let rest = "Route: <sip:192.0.2.9;lr>\r\nRoute: \"P\" <sip:p.example;lr>, <sip:q.example;lr>\r\n\
        Record-Route: <sip:r.example;lr>\r\nRequire: timer, 100rel\r\nProxy-Require: sec\r\nSupported: path\r\n\
        Unsupported: x\r\nAllow: INVITE, ACK\r\nAccept: application/sdp;q=0.5\r\nExpires: 300\r\nMin-Expires: 60\r\n\
        Retry-After: 18 (busy);duration=3\r\nSubject: \"caf\u{e9}\"\r\nDate: Sat, 13 Nov 2010 23:29:00 GMT\r\n\
        Refer-To: <sip:x@y?Replaces=a%40b>\r\nReferred-By: <sip:z@y>\r\nEvent: refer;id=1\r\n\
        Subscription-State: active;expires=60\r\nSession-Expires: 1800;refresher=uac\r\n\
        P-Asserted-Identity: \"A\" <sip:+14385950345@y>, <tel:+14385950345>\r\nDiversion: <sip:d@y>;reason=no-answer\r\n\
        History-Info: <sip:h@y>;index=1\r\nIdentity: abc\r\nWarning: 399 h \"text\"\r\nReason: Q.850;cause=16\r\n\
        Proxy-Authorization: Digest realm=\"r\"\r\nContent-Type: application/sdp\r\n\
        X-Unknown: value\r\nContent-Length: 4\r\n\r\nv=0\n";
    let core = |via: &str, cseq: &str, to: &str| {
        format!(
            "{via}Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@a.example;transport=udp>;tag=77\r\nTo: {to}\r\n\
             Call-ID: 42@a.example\r\nCSeq: {cseq}\r\nContact: \"A\" <sip:alice@192.0.2.5:5060;ob>;expires=60\r\n{rest}"
        )
    };
    let via = "Via: SIP/2.0/UDP 192.0.2.5:5060;rport;branch=z9hG4bK1\r\n";
    let ours = "v: SIP/2.0/UDP 192.0.2.200:5060;branch=z9hG4bKt0123456701234567012345670123456701234567, \
        SIP/2.0/TCP [2001:db8::1]:5060;received=192.0.2.7;branch=z9hG4bK2\r\n";
    let mut all = Vec::new();
    for (method, to) in [
        ("INVITE", "<sip:bob@b>"),
        ("REGISTER", "sip:bob@b"),
        ("BYE", "<sip:bob@b>;tag=9"),
        ("ACK", "<sip:bob@b>;tag=9"),
        ("CANCEL", "<sip:bob@b>"),
        ("OPTIONS", "Bob <sip:bob@b>"),
    ] {
        let uri = "sip:+14385950345;npdi@192.0.2.200:5060;user=phone";
        let start = format!("{method} {uri} SIP/2.0\r\n");
        let right = authorization(method, uri);
        all.push(start + &right + &core(via, &format!("1 {method}"), to));
    }
    for status in ["200 OK", "183 Session Progress", "401 Unauthorized", "503 Service Unavailable"] {
        all.push(format!("SIP/2.0 {status}\r\n") + &core(ours, "1 INVITE", "<sip:bob@b>;tag=9"));
    }
    all.into_iter().map(String::into_bytes).collect()
}

fn keys() -> Keys {
    Keys { shared: [1; 32], unique: [2; 32] }
}

const REALM: &str = "r";
const PASSWORD: &str = "pw";

/// Credentials that an authenticator with our keys takes, so that odd ones come as far as they can.
fn authorization(method: &str, uri: &str) -> String {
    let challenges = Authenticator::new(&keys()).challenge(Instant::ZERO, Asker::UserAgent, REALM, false);
    let challenge = format!("SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: {}\r\n\r\n", challenges[0].1);
    let me = Credentials { username: "a".into(), password: Secret::new(PASSWORD), realm: Some(REALM.into()) };
    let challenge = Message::parse(challenge.as_bytes()).unwrap();
    let (_, value) = answer(&challenge, &me, method.as_bytes(), uri.as_bytes(), 1, 7).unwrap();
    format!("Authorization: {value}\r\n")
}

/// What is done to a line: it is given anew, or several times, or not at all.
type Anomaly = fn(&[u8]) -> Vec<u8>;

fn anomalies() -> Vec<Anomaly> {
    fn value_of(line: &[u8]) -> usize {
        memchr::memchr(b':', line).map_or(0, |colon| colon + 1)
    }
    fn with_value(line: &[u8], value: &[u8]) -> Vec<u8> {
        [&line[..value_of(line)], b" ", value].concat()
    }
    fn with_tail(line: &[u8], tail: &[u8]) -> Vec<u8> {
        [line, tail].concat()
    }
    fn with_separator(line: &[u8], separator: &[u8]) -> Vec<u8> {
        let at = value_of(line);
        [&line[..at.saturating_sub(1)], separator, &line[at..]].concat()
    }
    vec![
        |_| Vec::new(),
        |line| [line, b"\r\n", line].concat(),
        |line| with_value(line, b""),
        |line| with_value(line, b" \t "),
        |line| with_value(line, b","),
        |line| with_value(line, b";;,;,,"),
        |line| with_value(line, b"-1"),
        |line| with_value(line, b"4294967296"),
        |line| with_value(line, b"99999999999999999999999999999999"),
        |line| with_value(line, b"0x10"),
        |line| with_value(line, b"256"),
        |line| with_value(line, b"0 INVITE"),
        |line| with_value(line, b"2147483648 INVITE"),
        |line| with_value(line, b"1 NEWMETHOD"),
        |line| with_value(line, b"\"unclosed"),
        |line| with_value(line, b"<sip:unclosed"),
        |line| with_value(line, b"\"\\\" <sip:a@b>"),
        |line| with_value(line, b"<<sip:a@b>>"),
        |line| with_value(line, b"<sip:a@b@c>"),
        |line| with_value(line, b"<sip:a@[::1>"),
        |line| with_value(line, b"<sip:a@256.1.1.1>"),
        |line| with_value(line, b"<sip:a@b:0>"),
        |line| with_value(line, b"<sip:a@b:70000>"),
        |line| with_value(line, b"<sip:%@b>"),
        |line| with_value(line, b"<sip:%zz@b>"),
        |line| with_value(line, b"sip:a_b@under_score"),
        |line| with_value(line, b"tel:"),
        |line| with_value(line, b"tel:+++"),
        |line| with_value(line, b"SIP/2.0/UDP"),
        |line| with_value(line, b"SIP/2.0/UDP [::1"),
        |line| with_value(line, b"SIP / 2.0 / UDP h : 5060 ; branch = z9hG4bK"),
        |line| with_value(line, b"SIP/2.0/UDP 192.0.2.5;branch=z9hG4bK1;received=nonsense;rport=99999"),
        |line| with_value(line, b"SIP/2.0/UDP 192.0.2.5;branch=;rport=;maddr=255.255.255.255"),
        |line| with_value(line, b"Digest"),
        |line| with_value(line, b"Digest realm=\"r"),
        |line| with_value(line, b"Digest ,,,=,=\"\""),
        |line| with_value(line, b"\xff\xfe\x80"),
        |line| with_value(line, b"\0"),
        |line| with_value(line, &b"x".repeat(8_000)),
        |line| with_value(line, &b"x".repeat(9_000)),
        |line| with_value(line, &b"a,".repeat(3_000)),
        |line| with_value(line, &b";a=b".repeat(2_000)),
        |line| with_value(line, &b"\"\\".repeat(3_000)),
        |line| with_value(line, &b"<".repeat(5_000)),
        |line| with_value(line, &b"(".repeat(5_000)),
        |line| with_value(line, &b"SIP/2.0/UDP h;branch=z9hG4bK, ".repeat(250)),
        |line| with_tail(line, b";tag=1;tag=2"),
        |line| with_tail(line, &b";a".repeat(3_900)),
        |line| with_tail(line, &b";a=\"".repeat(1_900)),
        |line| [&b"Via: ,\r\nRoute: ,\r\nX-Y: ,\r\n".repeat(70), line].concat(),
        |line| with_tail(line, b";"),
        |line| with_tail(line, b","),
        |line| with_tail(line, b"\""),
        |line| with_tail(line, b">"),
        |line| with_tail(line, b" \t"),
        |line| with_tail(line, b"\r\n folded"),
        |line| with_tail(line, b"\r\n\t\r\n "),
        |line| with_tail(line, b"\rX-Smuggled: 1"),
        |line| with_tail(line, b"\nX-Smuggled: 1"),
        |line| with_tail(line, b"\r\n\r\n"),
        |line| with_tail(line, &b"\r\n ".repeat(1_000)),
        |line| with_separator(line, b" :"),
        |line| with_separator(line, b"\t:"),
        |line| with_separator(line, b"\x0b:"),
        |line| with_separator(line, b"\0:"),
        |line| with_separator(line, b""),
        |line| with_separator(line, b"::"),
        |line| [b" ", line].concat(),
        |line| [b"\r\n", line].concat(),
        |line| [b":", line].concat(),
        |line| [b"\xc3\xa9", line].concat(),
        |line| line.to_ascii_uppercase(),
        |line| line.iter().rev().copied().collect(),
        |line| line[..line.len() / 2].to_vec(),
        |line| line.iter().map(|byte| byte ^ 0x80).collect(),
        |line| line.iter().flat_map(|byte| [*byte, 0]).collect(),
    ]
}

fn endpoint() -> Endpoint {
    let listener = |transport| Listener {
        transport,
        local: "192.0.2.200:5060".parse().unwrap(),
        sent_by: "192.0.2.200:5060".into(),
    };
    let mut config = Config::new(vec![listener(Transport::Udp), listener(Transport::Tcp)]);
    config.methods = MethodSet::of(&Method::NAMED);
    Endpoint::new(config, &keys())
}

/// Looks at everything that a message offers.
fn look_at_all(message: &Message) {
    let _ = (message.from(), message.to(), message.call_id(), message.cseq(), message.max_forwards());
    let _ = (message.content_length(), message.expires(), message.min_expires(), message.retry_after());
    if let Ok(uri) = Uri::parse(message.uri_text()) {
        let _ = Number::read(&uri);
    }
    let _ = message.vias().filter_map(Result::ok).count();
    for name in [crate::Name::Contact, crate::Name::Route, crate::Name::PAssertedIdentity] {
        for address in message.addresses(name).filter_map(Result::ok) {
            let _: Option<Number> = Address::uri(&address).ok().and_then(|uri| Number::read(&uri));
        }
    }
}

/// What a proxy may do to a request, and each of it on a copy as it came.
fn edits() -> [fn(&mut Message); 9] {
    [
        |message| message.push_via(b"SIP/2.0/UDP h;branch=z9hG4bK1").unwrap(),
        |message| _ = message.pop_via(),
        |message| message.set_via_param("received", b"192.0.2.1").unwrap(),
        |message| message.push_record_route(b"<sip:h;lr>").unwrap(),
        |message| _ = message.pop_route(),
        |message| _ = message.decrement_max_forwards(),
        |message| message.set_uri(b"sip:a@b").unwrap(),
        |message| _ = message.remove_prefixed("X-"),
        |message| message.set(crate::Name::Contact, b"<sip:a@b>").unwrap(),
    ]
}

/// How often each byte may be looked at or moved: by framing, by all views of a message together, by looking at its
/// credentials, by one edit.
const TIMES_MAX: usize = 8;

/// The same for a message that comes in. Reading it is as above; noting in its top Via where it came from is two edits
/// more, each of which looks for its place and moves what is behind that.
const TIMES_MAX_INPUT: usize = 12;

/// No real message is shorter than 200 bytes, and where one is its line counts more than once by right.
fn check_work(what: &str, bytes: &[u8]) {
    let (visited, length) = (work::take(), bytes.len().max(200));
    let text = || String::from_utf8_lossy(bytes);
    assert!(visited <= TIMES_MAX * length, "{what}: {visited} for {length}: {:.300}", text());
}

struct Judge {
    endpoint: Endpoint,
    authenticator: Authenticator,
    count: usize,
    /// Messages with credentials that were right.
    right: usize,
    worst: (usize, Vec<u8>),
}

impl Judge {
    fn new() -> Judge {
        let authenticator = Authenticator::new(&keys());
        Judge { endpoint: endpoint(), authenticator, count: 0, right: 0, worst: (0, Vec::new()) }
    }

    /// Looks at a request's credentials.
    fn look_at_credentials(&mut self, message: &Message) {
        for asker in [Asker::UserAgent, Asker::Proxy] {
            let password = |_: &str| Some(Secret::new(PASSWORD));
            let verdict = self.authenticator.verify(Instant::ZERO, message, asker, REALM, password);
            let is_right = matches!(verdict, Verdict::Accepted { .. } | Verdict::Refused(Refused::Replay));
            self.right += usize::from(is_right);
        }
    }

    /// Takes one message; looks at the work, then lets whatever began come to its end.
    fn take(&mut self, transport: Transport, bytes: &[u8]) {
        let now = Instant::ZERO;
        let flow = Flow {
            transport,
            local: "192.0.2.200:5060".parse().unwrap(),
            remote: "192.0.2.5:4444".parse().unwrap(),
        };
        work::take();
        self.endpoint.handle_input(now, Source { flow, is_known: true }, bytes);
        let visited = work::take();
        // In tenths of the length.
        let times = visited * 10 / bytes.len().max(200);
        if times > self.worst.0 {
            self.worst = (times, bytes.to_vec());
        }
        self.count += 1;
        let mut begun = Vec::new();
        loop {
            match self.endpoint.poll_output() {
                Output::Transmit(transmit) => {
                    let sent = Message::parse(&transmit.bytes).expect("what we send can be read");
                    assert_eq!(
                        sent.flaw(),
                        None,
                        "and has no flaw: {:?}",
                        String::from_utf8_lossy(&transmit.bytes)
                    );
                    assert_ne!(transmit.flow.remote.ip().to_string(), "255.255.255.255");
                }
                Output::Event(Event::Request { id, .. }) => begun.push(id),
                Output::Event(_) => {}
                Output::Deadline(_) => break,
            }
        }
        for id in begun {
            self.endpoint.reply(now, id, crate::Status::OK, &[]).unwrap();
        }
        if let Ok(message) = Message::parse(bytes) {
            work::take();
            look_at_all(&message);
            check_work("views", bytes);
            for edit in edits() {
                let mut edited = message.clone();
                edit(&mut edited);
                check_work("an edit", bytes);
            }
            self.look_at_credentials(&message);
            check_work("credentials", bytes);
        }
        let mut framer = Framer::default();
        framer.push(bytes);
        work::take();
        while let Ok(Some(_)) = framer.next_frame() {}
        check_work("framing", bytes);
    }
}

/// Calls back with each header of each good message × each anomaly; says when one message's are all done.
fn for_each_odd_message(mut odd: impl FnMut(&[u8]), mut done: impl FnMut()) {
    for original in originals() {
        let text = original.as_slice();
        let body = memchr::memmem::find(text, b"\r\n\r\n").unwrap() + 4;
        let lines: Vec<&[u8]> =
            text[..body - 4].split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii_end).collect();
        for at in 0..lines.len() {
            for anomaly in anomalies() {
                let mut bytes = Vec::new();
                for (place, line) in lines.iter().enumerate() {
                    let line = if place == at { anomaly(line) } else { line.to_vec() };
                    if !line.is_empty() {
                        bytes.extend_from_slice(&line);
                        bytes.extend_from_slice(b"\r\n");
                    }
                }
                bytes.extend_from_slice(b"\r\n");
                bytes.extend_from_slice(&text[body..]);
                odd(&bytes);
            }
        }
        done();
    }
}

#[test]
fn twenty_thousand_malformed_messages() {
    let judge = RefCell::new(Judge::new());
    let mut start = Instant::ZERO;
    for_each_odd_message(
        |bytes| {
            let mut judge = judge.borrow_mut();
            let transport = if judge.count.is_multiple_of(2) { Transport::Udp } else { Transport::Tcp };
            judge.take(transport, bytes);
        },
        || {
            // All that began ends, and nothing stays.
            let endpoint = &mut judge.borrow_mut().endpoint;
            for _ in 0..3 {
                start = start + Duration::from_secs(40);
                endpoint.handle_timeout(start);
                while !matches!(endpoint.poll_output(), Output::Deadline(_)) {}
            }
            let left = endpoint.statistics();
            assert_eq!((left.transactions, left.timers, left.outputs_lost), (0, 0, 0));
        },
    );
    let judge = judge.into_inner();
    assert!(judge.count >= 20_000, "only {}", judge.count);
    assert!(judge.right >= judge.count / 2, "only {} came as far as they can", judge.right);
    assert!(
        judge.worst.0 <= 10 * TIMES_MAX_INPUT,
        "{} tenths: {:.300}",
        judge.worst.0,
        String::from_utf8_lossy(&judge.worst.1)
    );
}

/// On a stream it makes no difference where a message is cut: once at each byte of the good ones; the others in pieces
/// of 1 to 32 bytes, and once in a wandering place, with a good one behind them.
#[test]
fn malformed_messages_split_anywhere_say_the_same() {
    let goods = originals();
    for good in &goods {
        let whole = frames(std::iter::once(&good[..]));
        assert_eq!(whole, (vec![good.clone()], None));
        for at in 0..=good.len() {
            assert!(frames([&good[..at], &good[at..]].into_iter()) == whole, "split at {at}");
        }
    }
    let mut count = 0;
    for_each_odd_message(
        |bytes| {
            count += 1;
            let stream = [bytes, &goods[count % goods.len()]].concat();
            let whole = frames(std::iter::once(&stream[..]));
            let told = || String::from_utf8_lossy(bytes);
            let length = 1 + count % 32;
            assert!(frames(stream.chunks(length)) == whole, "{length} bytes each: {}", told());
            let at = count * 31 % stream.len();
            assert!(frames([&stream[..at], &stream[at..]].into_iter()) == whole, "at {at}: {}", told());
        },
        || {},
    );
    assert!(count >= 20_000, "only {count}");
}

/// Each byte of a good message, gone or turned, and each length it could be cut to.
#[test]
fn every_byte_gone_or_turned() {
    let mut judge = Judge::new();
    let original = &originals()[0];
    for at in 0..original.len() {
        let mut bytes = original.clone();
        bytes.remove(at);
        judge.take(Transport::Udp, &bytes);
        bytes = original.clone();
        bytes[at] ^= 1 << (at % 8);
        judge.take(Transport::Tcp, &bytes);
        judge.take(Transport::Udp, &original[..at]);
    }
    assert!(
        judge.worst.0 <= 10 * TIMES_MAX_INPUT,
        "{} tenths: {:.300}",
        judge.worst.0,
        String::from_utf8_lossy(&judge.worst.1)
    );
}

/// What is done for each Route that names us, or each Via, must not cost the whole message each time.
#[test]
fn many_routes_and_vias_of_ours_cost_no_more() {
    let request = |vias: &str, routes: &str| {
        format!(
            "BYE sip:a@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.5;branch=z9hG4bK1\r\n{vias}{routes}\
             Max-Forwards: 70\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>;tag=2\r\nCall-ID: x\r\nCSeq: 1 BYE\r\n\r\n"
        )
    };
    let own_route = format!("Route: {}<sip:192.0.2.200>\r\n", "<sip:192.0.2.200>,".repeat(400));
    let own_branch = format!("z9hG4bK{}", "0".repeat(43));
    let own_via = format!("Via: SIP/2.0/UDP 192.0.2.200:5060;branch={own_branch}\r\n");
    let far_route = format!("Route: <sip:h;{}>\r\n", "x".repeat(7_000));
    for (vias, routes) in [
        (String::new(), own_route.repeat(8)),
        (own_via.repeat(98), far_route.repeat(6)),
        (own_via.repeat(98), own_route.repeat(6)),
    ] {
        let text = request(&vias, &routes);
        assert!(text.len() < crate::limits::MESSAGE_BYTES_MAX);
        let mut judge = Judge::new();
        judge.take(Transport::Udp, text.as_bytes());
        assert!(judge.worst.0 <= 10 * TIMES_MAX_INPUT, "{} tenths of {}", judge.worst.0, text.len());
    }
}
