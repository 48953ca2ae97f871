//! Every timer of RFC 3261 §17 (Table 4) and RFC 6026 by its value, for datagrams and for connections, and with other
//! base times than the usual ones.

use super::client::Client;
use super::client_invite::ClientInvite;
use super::server::Server;
use super::server_invite::ServerInvite;
use super::*;
use crate::print::ResponseBuilder;
use crate::status::Status;
use expect_test::{Expect, expect};

fn request(method: Method) -> Message {
    let text = format!(
        "{method} sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
         From: <sip:c@d>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: x\r\nCSeq: 1 {method}\r\n\r\n"
    );
    Message::parse(text.as_bytes()).unwrap()
}

fn response(method: Method, code: u16) -> Message {
    let request = request(method);
    ResponseBuilder::new(&request, Status::new(code).unwrap()).to_tag(b"t").build().unwrap()
}

const USUAL: Timers =
    Timers { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) };

const SHORT: Timers =
    Timers { t1: Duration::from_millis(100), t2: Duration::from_millis(400), t4: Duration::from_secs(1) };

/// A machine, what it did, and when.
struct Bench {
    machine: Machine,
    now: Instant,
    method: Method,
    /// What was sent or told, and each time it was.
    log: Vec<(String, Vec<u128>)>,
}

impl Bench {
    fn new(kind: &str, timers: Timers, is_reliable: bool) -> Bench {
        let now = Instant::ZERO;
        let is_invite = kind.contains("invite");
        let method = if is_invite { Method::Invite } else { Method::Options };
        let machine = match kind {
            "client invite" => {
                Machine::ClientInvite(ClientInvite::new(now, request(method), timers, is_reliable).0)
            }
            "client" => {
                Machine::Client(Client::new(now, request(method).into_bytes(), timers, is_reliable).0)
            }
            "server invite" => {
                Machine::ServerInvite(ServerInvite::new(now, request(method).into(), timers, is_reliable))
            }
            _ => Machine::Server(Server::new(now, timers, is_reliable)),
        };
        Bench { machine, now, method, log: Vec::new() }
    }

    fn handle(&mut self, input: Input<'_>) {
        let step = self.machine.handle(self.now, input);
        if let Some(bytes) = step.send {
            let sent = Message::parse(&bytes).unwrap();
            let method = String::from_utf8_lossy(sent.method_text()).into_owned();
            self.note(sent.status().map_or(method, |status| status.code().to_string()));
        }
        if let Some(notice @ (Notice::TimedOut | Notice::AckMissing)) = step.notice {
            self.note(format!("{notice:?}"));
        }
        if self.machine.is_over() {
            self.note("over".to_owned());
        }
    }

    fn note(&mut self, what: String) {
        let millis = self.now.since_epoch().as_millis();
        match self.log.last_mut() {
            Some((last, times)) if *last == what => times.push(millis),
            _ => self.log.push((what, vec![millis])),
        }
    }

    /// Lets the time pass from deadline to deadline.
    fn wait(&mut self, until_ms: u64) {
        let until = Instant::from_millis(until_ms);
        while !self.machine.is_over()
            && let Some(deadline) = self.machine.deadline()
            && deadline <= until
        {
            self.now = deadline;
            self.handle(Input::Time);
        }
        self.now = until;
    }

    /// `200ms` waits until then; a number is a response; `again` and `ack` are what they say.
    fn play(&mut self, story: &str) {
        for word in story.split_whitespace() {
            match word.strip_suffix("ms") {
                Some(millis) => self.wait(millis.parse().unwrap()),
                None if word == "again" => self.handle(Input::Again),
                None if word == "ack" => self.handle(Input::Ack),
                None => {
                    let response = response(self.method, word.parse().unwrap());
                    self.handle(Input::Response(&response));
                }
            }
        }
        // Longer than anything lives.
        self.wait(10_000_000);
    }
}

fn check(kind: &str, timers: Timers, is_reliable: bool, story: &str, expected: &Expect) {
    let mut bench = Bench::new(kind, timers, is_reliable);
    bench.play(story);
    let lines: Vec<String> = bench
        .log
        .iter()
        .map(|(what, times)| {
            let times: Vec<String> = times.iter().map(u128::to_string).collect();
            format!("{what} at {}\n", times.join(" "))
        })
        .collect();
    expected.assert_eq(&lines.concat());
}

#[test]
fn timers_a_and_b() {
    check(
        "client invite",
        USUAL,
        false,
        "",
        &expect![[r#"
        INVITE at 500 1500 3500 7500 15500 31500
        TimedOut at 32000
        over at 32000
    "#]],
    );
    check(
        "client invite",
        USUAL,
        true,
        "",
        &expect![[r#"
        TimedOut at 32000
        over at 32000
    "#]],
    );
    check(
        "client invite",
        SHORT,
        false,
        "",
        &expect![[r#"
        INVITE at 100 300 700 1500 3100 6300
        TimedOut at 6400
        over at 6400
    "#]],
    );
    // Nothing is repeated once someone is at it; after a last provisional response the limit is our own.
    check(
        "client invite",
        USUAL,
        false,
        "600ms 180",
        &expect![[r#"
        INVITE at 500
        TimedOut at 600600
        over at 600600
    "#]],
    );
}

#[test]
fn timer_d() {
    check(
        "client invite",
        USUAL,
        false,
        "100ms 486 31000ms 486",
        &expect![[r#"
        ACK at 100 31000
        over at 32100
    "#]],
    );
    check(
        "client invite",
        USUAL,
        true,
        "100ms 486",
        &expect![[r#"
        ACK at 100
        over at 100
    "#]],
    );
    // At least 32 seconds, however short T1 is.
    check(
        "client invite",
        SHORT,
        false,
        "100ms 486",
        &expect![[r#"
        INVITE at 100
        ACK at 100
        over at 32100
    "#]],
    );
}

#[test]
fn timer_m() {
    check(
        "client invite",
        USUAL,
        false,
        "100ms 200 20000ms 200",
        &expect![[r#"
        over at 32100
    "#]],
    );
    check(
        "client invite",
        USUAL,
        true,
        "100ms 200",
        &expect![[r#"
        over at 32100
    "#]],
    );
}

#[test]
fn timers_e_and_f() {
    check(
        "client",
        USUAL,
        false,
        "",
        &expect![[r#"
        OPTIONS at 500 1500 3500 7500 11500 15500 19500 23500 27500 31500
        TimedOut at 32000
        over at 32000
    "#]],
    );
    check(
        "client",
        USUAL,
        true,
        "",
        &expect![[r#"
        TimedOut at 32000
        over at 32000
    "#]],
    );
    check(
        "client",
        SHORT,
        false,
        "",
        &expect![[r#"
        OPTIONS at 100 300 700 1100 1500 1900 2300 2700 3100 3500 3900 4300 4700 5100 5500 5900 6300
        TimedOut at 6400
        over at 6400
    "#]],
    );
    // After a provisional response T2 lies between repetitions, and timer F goes on.
    check(
        "client",
        USUAL,
        false,
        "600ms 100",
        &expect![[r#"
        OPTIONS at 500 1500 5500 9500 13500 17500 21500 25500 29500
        TimedOut at 32000
        over at 32000
    "#]],
    );
}

#[test]
fn timer_k() {
    check(
        "client",
        USUAL,
        false,
        "100ms 200 3000ms 200",
        &expect![[r#"
        over at 5100
    "#]],
    );
    check(
        "client",
        USUAL,
        true,
        "100ms 200",
        &expect![[r#"
        over at 100
    "#]],
    );
}

#[test]
fn timers_g_and_h() {
    check(
        "server invite",
        USUAL,
        false,
        "50ms 486",
        &expect![[r#"
        486 at 50 550 1550 3550 7550 11550 15550 19550 23550 27550 31550
        AckMissing at 32050
        over at 32050
    "#]],
    );
    check(
        "server invite",
        USUAL,
        true,
        "50ms 486",
        &expect![[r#"
        486 at 50
        AckMissing at 32050
        over at 32050
    "#]],
    );
    check(
        "server invite",
        SHORT,
        false,
        "50ms 486",
        &expect![[r#"
        486 at 50 150 350 750 1150 1550 1950 2350 2750 3150 3550 3950 4350 4750 5150 5550 5950 6350
        AckMissing at 6450
        over at 6450
    "#]],
    );
    check(
        "server invite",
        USUAL,
        false,
        "50ms 486 600ms again",
        &expect![[r#"
        486 at 50 550 600 1550 3550 7550 11550 15550 19550 23550 27550 31550
        AckMissing at 32050
        over at 32050
    "#]],
    );
}

#[test]
fn timer_i() {
    check(
        "server invite",
        USUAL,
        false,
        "50ms 486 100ms ack 4000ms ack again",
        &expect![[r#"
        486 at 50
        over at 5100
    "#]],
    );
    check(
        "server invite",
        USUAL,
        true,
        "50ms 486 100ms ack",
        &expect![[r#"
        486 at 50
        over at 100
    "#]],
    );
}

#[test]
fn timer_l() {
    check(
        "server invite",
        USUAL,
        false,
        "50ms 200 600ms again 20000ms 200",
        &expect![[r#"
        200 at 50 20000
        over at 32050
    "#]],
    );
}

#[test]
fn a_hundred_after_200_ms_of_silence() {
    check(
        "server invite",
        USUAL,
        false,
        "500ms again 600ms 180 700ms again 800ms 200",
        &expect![[r#"
        100 at 200 500
        180 at 600 700
        200 at 800
        over at 32800
    "#]],
    );
    check(
        "server invite",
        USUAL,
        false,
        "100ms 180",
        &expect![[r#"
        180 at 100
        TimedOut at 600000
        over at 600000
    "#]],
    );
    check(
        "server invite",
        USUAL,
        false,
        "100ms again 300ms 200",
        &expect![[r#"
        100 at 100
        200 at 300
        over at 32300
    "#]],
    );
}

#[test]
fn timer_j() {
    check(
        "server",
        USUAL,
        false,
        "100ms again 200ms 200 300ms again 20000ms again",
        &expect![[r#"
        200 at 200 300 20000
        over at 32200
    "#]],
    );
    check(
        "server",
        USUAL,
        true,
        "100ms 200",
        &expect![[r#"
        200 at 100
        over at 100
    "#]],
    );
    // Nobody answers: whoever asked gave up at the same time (their timer F).
    check(
        "server",
        USUAL,
        false,
        "100ms 100 200ms again",
        &expect![[r#"
        100 at 100 200
        TimedOut at 32000
        over at 32000
    "#]],
    );
}
