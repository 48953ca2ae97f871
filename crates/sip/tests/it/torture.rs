//! RFC 4475 and RFC 5118: every message, with what we do with it and, where the RFC leaves a choice, why.

use std::collections::BTreeSet;
use std::iter::once;
use std::path::{Path, PathBuf};

use sip::endpoint::{Config, Endpoint, Event, Listener, Output};
use sip::uri::{Host, Uri};
use sip::{Flow, Instant, Keys, Message, Method, MethodSet, Name, Source, Transport, validate};

use crate::properties::stream::frames;

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
    ("rfc4475/wsinv", Taken, ""),
    ("rfc4475/intmeth", Answered(501), "the method is well-formed, and none of ours"),
    ("rfc4475/esc01", Taken, ""),
    ("rfc4475/escnull", Taken, ""),
    ("rfc4475/esc02", Answered(501), "RE%47IST%45R is not REGISTER"),
    ("rfc4475/lwsdisp", Taken, ""),
    ("rfc4475/longreq", Taken, "34 Vias are fewer than our limit"),
    ("rfc4475/dblreq", Taken, "over UDP what follows the first message is ignored"),
    ("rfc4475/semiuri", Taken, ""),
    ("rfc4475/transports", Taken, ""),
    ("rfc4475/mpart01", Taken, "a proxy does not look into bodies"),
    ("rfc4475/unreason", Stray, ""),
    ("rfc4475/noreason", Stray, ""),
    // §3.1.2: invalid messages
    ("rfc4475/badinv01", Answered(400), "the answer goes to where it came from, since its Via says nothing"),
    ("rfc4475/clerr", Answered(400), ""),
    ("rfc4475/ncl", Answered(400), ""),
    ("rfc4475/scalar02", Answered(400), ""),
    ("rfc4475/scalarlg", Dropped, "responses are never answered"),
    ("rfc4475/quotbal", Answered(400), ""),
    ("rfc4475/ltgtruri", Answered(400), "we guess at nothing in a request line"),
    ("rfc4475/lwsruri", Answered(400), "the same"),
    ("rfc4475/lwsstart", Answered(400), "the same"),
    ("rfc4475/trws", Answered(400), "the same"),
    ("rfc4475/escruri", Answered(400), "headers may not stand in a request-URI, and are not obeyed"),
    ("rfc4475/baddate", Taken, "we have no use for Date, and forward it as it is"),
    ("rfc4475/regbadct", Answered(400), "nobody can tell whose the question mark is"),
    (
        "rfc4475/badaspec",
        Taken,
        "white space inside the brackets can mean only one thing; it is passed over here and forwarded as it is",
    ),
    (
        "rfc4475/baddn",
        Answered(400),
        "the archive's copy has no empty line behind its headers; see below for one that has",
    ),
    ("rfc4475/badvers", Answered(505), ""),
    ("rfc4475/mismatch01", Answered(400), ""),
    (
        "rfc4475/mismatch02",
        Answered(400),
        "501 would do as well; but whose CSeq is wrong is not asked for its method",
    ),
    ("rfc4475/bigcode", Dropped, "not a status line, and nobody answers a response"),
    // §3.2: transaction layer
    ("rfc4475/badbranch", Taken, "a bare cookie names nothing: matched as RFC 2543 did"),
    // §3.3: application layer
    ("rfc4475/insuf", Answered(400), ""),
    ("rfc4475/unkscm", Answered(416), ""),
    ("rfc4475/novelsc", Answered(416), ""),
    ("rfc4475/unksm2", Taken, "whether it registers an isbn is the registrar's business"),
    ("rfc4475/bext01", Answered(420), ""),
    ("rfc4475/invut", Taken, "415 is for whoever answers the call; a proxy forwards"),
    ("rfc4475/regaut01", Taken, "credentials of an unknown scheme are none"),
    ("rfc4475/multi01", Answered(400), ""),
    ("rfc4475/mcl01", Answered(400), ""),
    ("rfc4475/bcast", Stray, "and never sent to 255.255.255.255"),
    (
        "rfc4475/zeromf",
        Taken,
        "an OPTIONS that may go no further is for us (RFC 3261 §11); whoever would proxy it all the same answers 483",
    ),
    ("rfc4475/cparam01", Taken, ""),
    ("rfc4475/cparam02", Taken, ""),
    ("rfc4475/regescrt", Taken, "the registrar must keep the Route out of what it stores"),
    ("rfc4475/sdp01", Taken, "406 is for whoever answers the call"),
    // §3.4: backward compatibility
    ("rfc4475/inv2543", Taken, "an old caller has no tag and no branch"),
    // RFC 5118 §4
    ("rfc5118/ipv6-good", Taken, ""),
    ("rfc5118/ipv6-bad", Answered(400), "an IPv6 address needs its brackets"),
    ("rfc5118/port-ambiguous", Taken, "inside the brackets all is address"),
    ("rfc5118/port-unambiguous", Taken, ""),
    ("rfc5118/via-received-param-with-delim", Taken, ""),
    ("rfc5118/via-received-param-no-delim", Taken, ""),
    (
        "rfc5118/ipv6-in-sdp",
        Answered(400),
        "its Content-Length of 268 announces more than its 251 bytes of body",
    ),
    ("rfc5118/mult-ip-in-header", Taken, ""),
    (
        "rfc5118/mult-ip-in-sdp",
        Taken,
        "its Content-Length leaves eight bytes of the body over, which are cut off",
    ),
    ("rfc5118/ipv4-mapped-ipv6", Taken, "the same, with nine bytes: its lines were counted with LF alone"),
    ("rfc5118/ipv6-bug-abnf-3-colons", Taken, "RFC 3261's own grammar wrote it so once"),
    ("rfc5118/ipv6-correct-abnf-2-colons", Taken, ""),
];

/// Over a stream some end otherwise: framing needs a Content-Length that can be believed, and where one message's end
/// is not known nothing behind it can be (RFC 4475 §3.1.2.3).
const STREAM_VERDICTS: &[(&str, &[Verdict])] = &[
    // The second one's Content-Length is shorter than its body, so what is left over is no message.
    ("rfc4475/dblreq", &[Taken, Taken, Closed]),
    // The rest of the body is waited for.
    ("rfc4475/clerr", &[]),
    ("rfc4475/ncl", &[Closed]),
    ("rfc4475/mcl01", &[Closed]),
    // What does not begin with a status line may be anything; it is not searched for a length.
    ("rfc4475/bigcode", &[Closed]),
    // Without a length there is no body on a stream, so what follows is no message.
    ("rfc4475/inv2543", &[Taken, Closed]),
    // The empty line is waited for.
    ("rfc4475/baddn", &[]),
    ("rfc5118/ipv6-in-sdp", &[]),
    ("rfc5118/mult-ip-in-sdp", &[Taken, Closed]),
    ("rfc5118/ipv4-mapped-ipv6", &[Taken, Closed]),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/torture")
}

pub(crate) fn message(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(format!("{name}.dat"))).unwrap()
}

/// All messages of both RFCs.
pub(crate) fn messages() -> impl Iterator<Item = Vec<u8>> {
    VERDICTS.iter().map(|(name, ..)| message(name))
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
    for rfc in ["rfc4475", "rfc5118"] {
        for entry in std::fs::read_dir(folder().join(rfc)).unwrap() {
            let path = entry.unwrap().path();
            files.insert(format!("{rfc}/{}", path.file_stem().unwrap().to_str().unwrap()));
        }
    }
    let listed: BTreeSet<String> = VERDICTS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(files, listed);
    let count = |rfc| listed.iter().filter(|name| name.starts_with(rfc)).count();
    assert_eq!((count("rfc4475"), count("rfc5118")), (49, 12));
}

/// RFC 4475's messages are the bytes of its own archive (Appendix A): whoever changes one changes this sum, which
/// was taken from the archive. A checkout that turns line ends would show here too.
#[test]
fn the_archives_bytes_are_untouched() {
    let mut names: Vec<&str> =
        VERDICTS.iter().map(|(name, ..)| *name).filter(|name| name.starts_with("rfc4475/")).collect();
    names.sort_unstable();
    let sum = names.iter().flat_map(|name| message(name)).fold(0xcbf2_9ce4_8422_2325u64, |sum, byte| {
        // FNV-1a (Fowler, Noll and Vo): enough to notice an accident.
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    assert_eq!(format!("{sum:016x}"), "3e77d5df369f8ce1");
}

/// Unquoted display names with odd bytes are taken: real callers send such names, and a comma in From or To separates
/// nothing. §3.1.2.15 would have a proxy put the quotes in before it sends them on; we do not, because what is not
/// ours to edit is forwarded byte for byte, and an Identity signature may cover it.
#[test]
fn odd_display_names_are_taken_when_the_headers_end() {
    let whole = [message("rfc4475/baddn"), b"\r\n".to_vec()].concat();
    assert_eq!(judge(&mut endpoint(), Transport::Udp, &whole), Taken);
    assert_eq!(frames(once(&whole[..])), [Some(whole.clone())]);
    assert_eq!(Message::parse(&whole).unwrap().from().unwrap().display, b"Bell, Alexander");
}

/// Three of RFC 5118's bodies are not as long as their Content-Length says. With the length mended they mean what the
/// RFC says of them: they are well-formed.
#[test]
fn with_their_true_lengths_all_session_descriptions_pass() {
    for name in ["rfc5118/ipv6-in-sdp", "rfc5118/mult-ip-in-sdp", "rfc5118/ipv4-mapped-ipv6"] {
        let mut mended = Message::parse(&message(name)).unwrap();
        let body = mended.body().to_vec();
        mended.set_body(&body);
        assert_eq!(judge(&mut endpoint(), Transport::Udp, mended.bytes()), Taken, "{name}");
        assert_eq!(frames(once(mended.bytes())), [Some(mended.bytes().to_vec())], "{name}");
    }
}

#[test]
fn a_stream_split_at_each_byte_says_the_same() {
    for &(name, over_udp, _) in VERDICTS {
        let bytes = message(name);
        let whole = frames(once(&bytes[..]));
        let mut endpoint = endpoint();
        let verdicts: Vec<Verdict> = whole
            .iter()
            .map(|frame| frame.as_ref().map_or(Closed, |bytes| judge(&mut endpoint, Transport::Tcp, bytes)))
            .collect();
        let expected = STREAM_VERDICTS.iter().find(|(other, _)| *other == name);
        let expected = expected.map_or(vec![over_udp], |(_, verdicts)| verdicts.to_vec());
        assert_eq!(verdicts, expected, "{name}");
        for at in 0..=bytes.len() {
            assert!(frames([&bytes[..at], &bytes[at..]].into_iter()) == whole, "{name} split at {at}");
        }
        assert!(frames(bytes.chunks(1)) == whole, "{name} byte by byte");
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
    let wsinv = parse("rfc4475/wsinv");
    assert_eq!(wsinv.vias().map(Result::unwrap).filter(|via| via.branch().is_some()).count(), 3);
    assert_eq!((wsinv.cseq().unwrap().number, wsinv.max_forwards().unwrap()), (9, Some(68)));
    assert_eq!(wsinv.from().unwrap().tag(), Some(&b"98asjd8"[..]));
    assert_eq!(wsinv.from().unwrap().display, br#"J Rosenberg \\\""#);
    assert_eq!(wsinv.contacts().next().unwrap().unwrap().params.find("q"), Some(&b"0.33"[..]));
    assert_eq!(wsinv.lines_named("unknownheaderwithunusualvalue").next(), Some(&b";;,,;;,;"[..]));
    assert_eq!(wsinv.lines(Name::Subject).next(), Some(&b""[..]));

    let intmeth = parse("rfc4475/intmeth");
    assert_eq!(intmeth.to().unwrap().display, b"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f");
    assert_eq!(intmeth.call_id().unwrap(), b"intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{");
    assert_eq!(intmeth.lines_named("EXTENSIONHEADER-!.%*+_`'~").count(), 1);

    let Ok(Uri::Sip(uri)) = Uri::parse(b"sip:sips%3Auser%40example.com@example.net") else { panic!() };
    assert_eq!(&*sip::uri::unescape(uri.user.unwrap()), b"sips:user@example.com");
    let esc01 = parse("rfc4475/esc01");
    let contact = esc01.contacts().next().unwrap().unwrap();
    assert!(matches!(contact.uri(), Ok(Uri::Sip(uri)) if uri.host == Host::Name(b"host5.example.net")));
    assert_eq!(parse("rfc4475/esc02").contacts().count(), 2, "C%6Fntact is another header");
    assert_eq!(parse("rfc4475/escnull").contacts().count(), 2);

    let longreq = parse("rfc4475/longreq");
    assert_eq!(longreq.vias().flatten().count(), 34);
    assert_eq!(longreq.content_length().unwrap(), Some(longreq.body().len()));

    assert_eq!(parse("rfc4475/transports").vias().flatten().count(), 5);
    assert!(validate::is_usable_response(&parse("rfc4475/unreason")));
    assert!(parse("rfc4475/unreason").reason().starts_with(b"= 2**3 * 5**2 \xd0\xbd"));
    assert_eq!(parse("rfc4475/noreason").reason(), b"");
    assert!(!validate::is_usable_response(&parse("rfc4475/scalarlg")));

    let cparam01 = parse("rfc4475/cparam01");
    let in_header = cparam01.contacts().next().unwrap().unwrap();
    assert_eq!(in_header.params.find("unknownparam"), Some(&b""[..]));
    let cparam02 = parse("rfc4475/cparam02");
    let in_uri = cparam02.contacts().next().unwrap().unwrap();
    assert_eq!(
        (in_uri.params.find("unknownparam"), in_uri.uri_text.ends_with(b";unknownparam")),
        (None, true)
    );

    let ambiguous = parse("rfc5118/port-ambiguous");
    let Ok(Uri::Sip(uri)) = Uri::parse(ambiguous.uri_text()) else { panic!() };
    assert_eq!((uri.host, uri.port), (Host::V6("2001:db8::10:5070".parse().unwrap()), None));
    for name in ["rfc5118/via-received-param-with-delim", "rfc5118/via-received-param-no-delim"] {
        assert_eq!(
            parse(name).via_top().unwrap().received(),
            Some("2001:db8::9:255".parse().unwrap()),
            "{name}"
        );
    }
}
