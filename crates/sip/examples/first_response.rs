//! Makes calls one after another and says how long the first response takes, in microseconds. It is no part of the
//! product; `benches/kamailio/run.sh` runs it, since SIPp's own clock moves in steps of 4 ms.
//!
//! ```text
//! cargo run --release -p sip --example first_response -- 127.0.0.1:5060 10000
//! ```
//!
//! Prints `p50 p99 lost`. A 100 does not count: it says only that a proxy is there. An answered call is acknowledged
//! and ended, so that nobody repeats anything; a call without a first response in time is lost.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use sip::dialog::Dialog;
use sip::{Message, Method, RequestBuilder, Status};

/// Before anything would be sent again (T1).
const PATIENCE: Duration = Duration::from_millis(450);

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [server, calls] = words.as_slice() else { return Err("usage: first_response SERVER CALLS".into()) };
    let server: SocketAddr = server.parse()?;
    let socket = UdpSocket::bind((server.ip(), 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let caller = Caller { local: socket.local_addr()?.to_string(), socket, server };
    let (mut times, mut lost) = (Vec::new(), 0);
    for number in 0..calls.parse()? {
        match caller.call(number)? {
            Some(time) => times.push(time),
            None => lost += 1,
        }
    }
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0, Duration::as_micros);
    println!("{} {} {lost}", at(50), at(99));
    Ok(())
}

struct Caller {
    socket: UdpSocket,
    local: String,
    server: SocketAddr,
}

impl Caller {
    /// One call from INVITE to its end; the time to the first response.
    fn call(&self, number: u32) -> Result<Option<Duration>, Box<dyn Error>> {
        let invite = self.invite(number)?;
        let start = clock();
        self.socket.send(invite.bytes())?;
        let Some(first) = self.response(&invite, |status| status != Status::TRYING)? else { return Ok(None) };
        let time = start.elapsed();
        let answer = if first.status().is_some_and(Status::is_final) {
            first
        } else {
            let Some(answer) = self.response(&invite, Status::is_final)? else { return Ok(None) };
            answer
        };
        if answer.status().is_some_and(Status::is_success) {
            let mut dialog = Dialog::from_answer(&answer)?;
            self.send(dialog.ack()?, number, "ack")?;
            let bye = self.send(dialog.request(Method::Bye).build()?, number, "bye")?;
            self.response(&bye, Status::is_final)?;
        } else {
            // The ACK of a refusal is on the INVITE's branch and carries the answer's To.
            let to = answer.lines(sip::Name::To).next().unwrap_or_default().to_vec();
            let ack = self.request(Method::Ack, number, &to).build()?;
            self.send(ack, number, "invite")?;
        }
        Ok(Some(time))
    }

    /// The next response to this request that is wanted.
    fn response(
        &self,
        request: &Message,
        wanted: impl Fn(Status) -> bool,
    ) -> Result<Option<Message>, Box<dyn Error>> {
        let mut buffer = vec![0; 65_536];
        loop {
            let Ok(length) = self.socket.recv(&mut buffer) else { return Ok(None) };
            let response = Message::parse(&buffer[..length])?;
            let is_its_own = response.via_top()?.branch() == request.via_top()?.branch();
            if is_its_own && response.status().is_some_and(&wanted) {
                return Ok(Some(response));
            }
        }
    }

    fn send(&self, mut request: Message, number: u32, branch: &str) -> Result<Message, Box<dyn Error>> {
        request
            .push_via(format!("SIP/2.0/UDP {};branch=z9hG4bK-{number}-{branch}", self.local).as_bytes())?;
        self.socket.send(request.bytes())?;
        Ok(request)
    }

    fn invite(&self, number: u32) -> Result<Message, Box<dyn Error>> {
        let to = format!("<sip:+14385950345@{}>", self.server);
        let offer = format!(
            "v=0\r\no=- {number} 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio 6000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
        );
        let mut invite = self
            .request(Method::Invite, number, to.as_bytes())
            .header("Contact", format!("<sip:caller@{}>", self.local))
            .body("application/sdp", offer.as_bytes())
            .build()?;
        let branch = format!("SIP/2.0/UDP {};branch=z9hG4bK-{number}-invite", self.local);
        invite.push_via(branch.as_bytes())?;
        Ok(invite)
    }

    fn request(&self, method: Method, number: u32, to: &[u8]) -> RequestBuilder {
        RequestBuilder::new(method, format!("sip:+14385950345@{}", self.server))
            .header("Max-Forwards", "70")
            .header("From", format!("<sip:+15145550100@{}>;tag=c{number}", self.local))
            .header("To", to)
            .header("Call-ID", format!("{number}-{}", self.local))
            .header("CSeq", format!("1 {method}"))
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time; nothing depends on what it reads")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}
