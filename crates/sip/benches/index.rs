//! What it costs to index one INVITE, beside a bare search for line ends over the same bytes.
//!
//! `cargo bench -p sip --bench index`. Figures are printed, never asserted: they belong to the machine they were
//! measured on.

use std::hint::black_box;
use std::time::Duration;

use sip::Message;

const ROUNDS: usize = 40;
const REPEATS: u32 = 50_000;

fn main() {
    let invite = invite();
    println!("one INVITE of {} bytes, best of {ROUNDS} rounds of {REPEATS}", invite.len());
    let mut message = Message::parse(&invite).expect("a good INVITE");
    let headers = message.index_again().expect("a good INVITE");
    // Rounds alternate, so that a busy moment of the machine falls on all of them alike.
    let mut best = [Duration::MAX; 3];
    for _ in 0..ROUNDS {
        best[0] = best[0].min(time(|| memchr::memchr_iter(b'\n', black_box(&invite)).count()));
        best[1] = best[1].min(time(|| black_box(&mut message).index_again().unwrap_or(0)));
        best[2] = best[2].min(time(|| {
            black_box(&mut message).read(black_box(&invite)).map_or(0, |()| message.bytes().len())
        }));
    }
    let allocations = allocation_counter::measure(|| {
        black_box(message.read(black_box(&invite)).is_ok());
    });
    let ns = |duration: Duration| duration.as_secs_f64() * 1e9 / f64::from(REPEATS);
    println!("memchr line scan          {:7.1} ns", ns(best[0]));
    println!(
        "index ({headers} headers)        {:7.1} ns   {:4.2} × the scan",
        ns(best[1]),
        ns(best[1]) / ns(best[0])
    );
    println!(
        "copy in and index         {:7.1} ns   {:4.2} × the scan",
        ns(best[2]),
        ns(best[2]) / ns(best[0])
    );
    println!("allocations a message     {:7}", allocations.count_total);
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time; nothing depends on what it reads")]
fn time(mut work: impl FnMut() -> usize) -> Duration {
    let start = std::time::Instant::now();
    for _ in 0..REPEATS {
        black_box(work());
    }
    start.elapsed()
}

/// What a carrier sends: 800 bytes with a short SDP.
fn invite() -> Vec<u8> {
    let mut text = String::from(
        "INVITE sip:+14385950345@edge.example.net:5060 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 203.0.113.7:5060;branch=z9hG4bK-524287-1-0a7b\r\n\
         Max-Forwards: 68\r\n\
         From: \"+15145550100\" <sip:+15145550100@carrier.example.com>;tag=gK0c2f1a\r\n\
         To: <sip:+14385950345@edge.example.net>\r\n\
         Call-ID: 1-2216@203.0.113.7\r\n\
         CSeq: 52417 INVITE\r\n\
         Contact: <sip:+15145550100@203.0.113.7:5060>\r\n\
         Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE\r\n\
         Supported: timer, 100rel\r\n\
         P-Asserted-Identity: <sip:+15145550100@carrier.example.com>\r\n\
         Content-Type: application/sdp\r\n\
         Content-Length:   127\r\n\
         \r\n\
         v=0\r\no=- 8721 1 IN IP4 203.0.113.8\r\ns=-\r\nc=IN IP4 203.0.113.8\r\nt=0 0\r\n\
         m=audio 16384 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n",
    );
    while text.len() < 798 {
        text.push('a');
    }
    text.push_str("\r\n");
    text.into_bytes()
}
