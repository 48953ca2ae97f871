//! RFC 4475 and RFC 5118: every message, with what we do with it and, where the RFC leaves a choice, why.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sip::endpoint::{Config, Endpoint, Event, Listener, Output};
use sip::stream::{Frame, Framer};
use sip::uri::{Host, Uri};
use sip::{Flow, Instant, Keys, Message, Method, MethodSet, Name, Source, Transport, validate};

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// A request that is handed to whoever decides.
    Taken,
    /// A request that is answered with this at once.
    Answered(u16),
    /// A good response, but to no request of ours.
    Stray,
    /// Nothing that could be answered.
    Dropped,
    /// On a stream: the connection is closed.
    Closed,
}
use Verdict::{Answered, Closed, Dropped, Stray, Taken};

/// Name, verdict over UDP, and why where it is our choice.
const VERDICTS: &[(&str, Verdict, &str)] = &[
    // RFC 4475 §3.1.1: valid messages
    ("wsinv", Taken, ""),
    ("intmeth", Answered(405), "the method is well-formed, and none of ours"),
    ("esc01", Taken, ""),
    ("escnull", Taken, ""),
    ("esc02", Answered(405), "RE%47IST%45R is not REGISTER"),
    ("lwsdisp", Taken, ""),
    ("longreq", Taken, "34 Vias are fewer than our limit"),
    ("dblreq", Taken, "over UDP what follows the first message is ignored"),
    ("semiuri", Taken, ""),
    ("transports", Taken, ""),
    ("mpart01", Taken, "a proxy does not look into bodies"),
    ("unreason", Stray, ""),
    ("noreason", Stray, ""),
    // §3.1.2: invalid messages
    ("badinv01", Answered(400), "the answer goes to where it came from, since its Via says nothing"),
    ("clerr", Answered(400), ""),
    ("ncl", Answered(400), ""),
    ("scalar02", Answered(400), ""),
    ("scalarlg", Dropped, "responses are never answered"),
    ("quotbal", Answered(400), ""),
    ("ltgtruri", Answered(400), "we guess at nothing in a request line"),
    ("lwsruri", Answered(400), "the same"),
    ("lwsstart", Answered(400), "the same"),
    ("trws", Answered(400), "the same"),
    ("escruri", Answered(400), "headers may not stand in a request-URI, and are not obeyed"),
    ("baddate", Taken, "we have no use for Date, and forward it as it is"),
    ("regbadct", Answered(400), "nobody can tell whose the question mark is"),
    ("badaspec", Taken, "white space inside the brackets is passed over: it can mean only one thing"),
    ("baddn", Taken, "a comma in From or To separates nothing, and real callers send such names"),
    ("badvers", Answered(505), ""),
    ("mismatch01", Answered(400), ""),
    ("mismatch02", Answered(400), "the mismatch is looked at before the method"),
    ("bigcode", Dropped, "not a status line"),
    // §3.2: transaction layer
    ("badbranch", Taken, "a bare cookie names nothing: matched as RFC 2543 did"),
    // §3.3: application layer
    ("insuf", Answered(400), ""),
    ("unkscm", Answered(416), ""),
    ("novelsc", Answered(416), ""),
    ("unksm2", Taken, "whether it registers an isbn is the registrar's business"),
    ("bext01", Answered(420), ""),
    ("invut", Taken, "415 is for whoever answers the call; a proxy forwards"),
    ("regaut01", Taken, "credentials of an unknown scheme are none"),
    ("multi01", Answered(400), ""),
    ("mcl01", Answered(400), ""),
    ("bcast", Stray, "and never sent to 255.255.255.255"),
    ("zeromf", Taken, "an OPTIONS that may go no further is for us (RFC 3261 §11)"),
    ("cparam01", Taken, ""),
    ("cparam02", Taken, ""),
    ("regescrt", Taken, "the registrar must keep the Route out of what it stores"),
    ("sdp01", Taken, "406 is for whoever answers the call"),
    // §3.4: backward compatibility
    ("inv2543", Taken, "an old caller has no tag and no branch"),
    // RFC 5118 §4
    ("ipv6/good", Taken, ""),
    ("ipv6/bad", Answered(400), "an IPv6 address needs its brackets"),
    ("ipv6/port-ambiguous", Taken, "inside the brackets all is address"),
    ("ipv6/port-unambiguous", Taken, ""),
    ("ipv6/via-received-param-with-delim", Taken, ""),
    ("ipv6/via-received-param-no-delim", Taken, ""),
    ("ipv6/in-sdp", Taken, ""),
    ("ipv6/mult-ip-in-header", Taken, ""),
    ("ipv6/mult-ip-in-sdp", Taken, ""),
    ("ipv6/ipv4-mapped", Taken, ""),
    ("ipv6/bug-abnf-3-colons", Answered(400), "three colons are no address; RFC 5118 §4.10 calls it a bug"),
];

/// Over a stream some end otherwise: framing needs a Content-Length that can be believed.
const STREAM_VERDICTS: &[(&str, &[Verdict])] = &[
    // The second one's Content-Length is shorter than its body, so what is left over is no message.
    ("dblreq", &[Taken, Taken, Closed]),
    ("clerr", &[]),
    ("ncl", &[Closed]),
    ("mcl01", &[Closed]),
    ("bigcode", &[Closed]),
    ("inv2543", &[Taken, Closed]),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/torture")
}

fn message(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(folder().join(format!("{name}.txt"))).unwrap();
    expand(&text)
}

/// The RFC's notation into bytes (RFC 4475 §2).
fn expand(text: &str) -> Vec<u8> {
    let mut lines: Vec<String> = Vec::new();
    let mut in_one_line = false;
    for line in text.lines() {
        match line {
            "<allOneLine>" => {
                in_one_line = true;
                lines.push(String::new());
            }
            "</allOneLine>" => in_one_line = false,
            line if in_one_line => lines.last_mut().unwrap().push_str(line),
            line => lines.push(line.to_owned()),
        }
    }
    let mut bytes = Vec::new();
    for line in lines {
        expand_line(&line, &mut bytes);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

fn expand_line(line: &str, bytes: &mut Vec<u8>) {
    let mut rest = line;
    while let Some(at) = rest.find("<hex>").into_iter().chain(rest.find("<repeat count=")).min() {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("<hex>") {
            let (digits, after) = after.split_once("</hex>").unwrap();
            for pair in digits.as_bytes().chunks(2) {
                bytes.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            }
            rest = after;
        } else {
            let (count, after) = rest.strip_prefix("<repeat count=").unwrap().split_once('>').unwrap();
            let (piece, after) = after.split_once("</repeat>").unwrap();
            bytes.extend_from_slice(piece.repeat(count.parse().unwrap()).as_bytes());
            rest = after;
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
}

/// An endpoint that takes every method it knows.
fn endpoint() -> Endpoint {
    let listener = |transport| Listener {
        transport,
        local: "192.0.2.200:5060".parse().unwrap(),
        sent_by: "192.0.2.200:5060".into(),
    };
    let mut config = Config::new(vec![listener(Transport::Udp), listener(Transport::Tcp)]);
    config.methods = MethodSet::of(&Method::NAMED);
    Endpoint::new(config, &Keys { shared: [1; 32], unique: [2; 32] })
}

fn judge(endpoint: &mut Endpoint, transport: Transport, bytes: &[u8]) -> Verdict {
    let flow = Flow {
        transport,
        local: "192.0.2.200:5060".parse().unwrap(),
        remote: "192.0.2.5:4444".parse().unwrap(),
    };
    let strays = endpoint.statistics().strays;
    endpoint.handle_input(Instant::ZERO, Source { flow, is_known: true }, bytes);
    let mut verdict = if endpoint.statistics().strays > strays { Stray } else { Dropped };
    loop {
        match endpoint.poll_output() {
            Output::Deadline(_) => return verdict,
            Output::Event(Event::Request { request, .. }) => {
                assert_eq!(verdict, Dropped);
                verdict = Taken;
                assert!(request.cseq().is_ok() && request.via_top().is_ok());
            }
            Output::Event(other) => panic!("{other:?}"),
            Output::Transmit(transmit) => {
                assert_eq!(verdict, Dropped, "one answer");
                let answer = Message::parse(&transmit.bytes).expect("what we send can be read");
                assert_eq!(
                    transmit.flow.remote.ip(),
                    flow.remote.ip(),
                    "answers go back where requests came from"
                );
                verdict = Answered(answer.status().unwrap().code());
            }
        }
    }
}

#[test]
fn every_message_has_its_verdict() {
    let mut wrong = Vec::new();
    for &(name, expected, why) in VERDICTS {
        let verdict = judge(&mut endpoint(), Transport::Udp, &message(name));
        if verdict != expected {
            wrong.push(format!("{name}: {verdict:?} instead of {expected:?} {why}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_is_in_the_list_and_the_rfcs_are_whole() {
    let mut files = BTreeSet::new();
    for (folder, prefix) in [(folder(), ""), (folder().join("ipv6"), "ipv6/")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "txt") {
                files.insert(format!("{prefix}{}", path.file_stem().unwrap().to_str().unwrap()));
            }
        }
    }
    let listed: BTreeSet<String> = VERDICTS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(files, listed);
    assert_eq!(listed.iter().filter(|name| !name.starts_with("ipv6/")).count(), 49);
}

/// What comes out of a stream; `None` is a closed connection.
fn frames(pieces: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
    let mut framer = Framer::default();
    let mut frames = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next_frame() {
                Ok(None) => break,
                Ok(Some(Frame::Ping)) => {}
                Ok(Some(Frame::Message(message))) => frames.push(Some(message.to_vec())),
                Err(_) => {
                    frames.push(None);
                    return frames;
                }
            }
        }
    }
    frames
}

#[test]
fn a_stream_split_at_each_byte_says_the_same() {
    for &(name, over_udp, _) in VERDICTS {
        let bytes = message(name);
        let whole = frames(&[&bytes]);
        let mut endpoint = endpoint();
        let verdicts: Vec<Verdict> = whole
            .iter()
            .map(|frame| frame.as_ref().map_or(Closed, |bytes| judge(&mut endpoint, Transport::Tcp, bytes)))
            .collect();
        let expected = STREAM_VERDICTS.iter().find(|(other, _)| *other == name);
        let expected = expected.map_or(vec![over_udp], |(_, verdicts)| verdicts.to_vec());
        assert_eq!(verdicts, expected, "{name}");
        for at in 0..=bytes.len() {
            assert!(frames(&[&bytes[..at], &bytes[at..]]) == whole, "{name} split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert!(frames(&single) == whole, "{name} byte by byte");
    }
}

/// What is forwarded is what came, but for the lines that a proxy adds.
#[test]
fn what_is_not_edited_is_forwarded_byte_for_byte() {
    for &(name, ..) in VERDICTS {
        let Ok(original) = Message::parse(&message(name)) else { continue };
        let mut forwarded = original.clone();
        forwarded.push_record_route(b"<sip:edge;lr>").unwrap();
        forwarded.push_via(b"SIP/2.0/UDP edge;branch=z9hG4bKx").unwrap();
        assert!(forwarded.pop_via(), "{name}");
        if original.flaw().is_none() {
            forwarded.set_uri(b"sip:somewhere@else").unwrap();
            assert!(!original.is_request() || forwarded.uri_text() == b"sip:somewhere@else");
            let _ = forwarded.set_uri(original.uri_text());
        }
        // Ours was put on top of any other.
        let added = b"Record-Route: <sip:edge;lr>\r\n";
        let at = forwarded.bytes().windows(added.len()).position(|window| window == added).unwrap();
        let without = [&forwarded.bytes()[..at], &forwarded.bytes()[at + added.len()..]].concat();
        assert_eq!(without, original.bytes(), "{name}");
    }
}

#[test]
fn what_the_messages_mean() {
    let parse = |name| Message::parse(&message(name)).unwrap();
    let wsinv = parse("wsinv");
    assert_eq!(wsinv.vias().map(Result::unwrap).filter(|via| via.branch().is_some()).count(), 3);
    assert_eq!((wsinv.cseq().unwrap().number, wsinv.max_forwards().unwrap()), (9, Some(68)));
    assert_eq!(wsinv.from().unwrap().tag(), Some(&b"98asjd8"[..]));
    assert_eq!(wsinv.from().unwrap().display, br#"J Rosenberg \\\""#);
    assert_eq!(wsinv.contacts().next().unwrap().unwrap().params.find("q"), Some(&b"0.33"[..]));
    assert_eq!(wsinv.lines_named("unknownheaderwithunusualvalue").next(), Some(&b";;,,;;,;"[..]));
    assert_eq!(wsinv.lines(Name::Subject).next(), Some(&b""[..]));

    let intmeth = parse("intmeth");
    assert_eq!(intmeth.to().unwrap().display, b"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f");
    assert_eq!(intmeth.call_id().unwrap(), b"intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{");
    assert_eq!(intmeth.lines_named("EXTENSIONHEADER-!.%*+_`'~").count(), 1);

    let Ok(Uri::Sip(uri)) = Uri::parse(b"sip:sips%3Auser%40example.com@example.net") else { panic!() };
    assert_eq!(&*sip::uri::unescape(uri.user.unwrap()), b"sips:user@example.com");
    let esc01 = parse("esc01");
    let contact = esc01.contacts().next().unwrap().unwrap();
    assert!(matches!(contact.uri(), Ok(Uri::Sip(uri)) if uri.host == Host::Name(b"host5.example.net")));
    assert_eq!(parse("esc02").contacts().count(), 2, "C%6Fntact is another header");
    assert_eq!(parse("escnull").contacts().count(), 2);

    let longreq = parse("longreq");
    assert_eq!(longreq.vias().flatten().count(), 34);
    assert_eq!(longreq.content_length().unwrap(), Some(longreq.body().len()));

    assert_eq!(parse("transports").vias().flatten().count(), 5);
    assert!(validate::is_usable_response(&parse("unreason")));
    assert!(parse("unreason").reason().starts_with(b"= 2**3 * 5**2 \xd0\xbd"));
    assert_eq!(parse("noreason").reason(), b"");
    assert!(!validate::is_usable_response(&parse("scalarlg")));

    let cparam01 = parse("cparam01");
    let in_header = cparam01.contacts().next().unwrap().unwrap();
    assert_eq!(in_header.params.find("unknownparam"), Some(&b""[..]));
    let cparam02 = parse("cparam02");
    let in_uri = cparam02.contacts().next().unwrap().unwrap();
    assert_eq!(
        (in_uri.params.find("unknownparam"), in_uri.uri_text.ends_with(b";unknownparam")),
        (None, true)
    );

    let ambiguous = parse("ipv6/port-ambiguous");
    let Ok(Uri::Sip(uri)) = Uri::parse(ambiguous.uri_text()) else { panic!() };
    assert_eq!((uri.host, uri.port), (Host::V6("2001:db8::10:5070".parse().unwrap()), None));
    for name in ["ipv6/via-received-param-with-delim", "ipv6/via-received-param-no-delim"] {
        assert_eq!(
            parse(name).via_top().unwrap().received(),
            Some("2001:db8::9:255".parse().unwrap()),
            "{name}"
        );
    }
}
