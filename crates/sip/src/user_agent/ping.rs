//! Asks a peer with OPTIONS whether it is there (RFC 3261 §11).
//!
//! Any final response but 408 and 503 is life. A miss is followed by another question at once, so that two misses
//! are known within a few seconds although questions are usually far apart.

use std::time::Duration;

use crate::edit::UnsafeText;
use crate::message::Message;
use crate::method::Method;
use crate::print::RequestBuilder;
use crate::status::Status;
use crate::time::Instant;

/// Whom to ask, and how patiently.
#[derive(Clone, Debug)]
pub struct PingConfig {
    /// The request-URI: `sip:gateway.example.com`.
    pub uri: String,
    /// Who asks: `sip:ping@us.example.com`.
    pub from: String,
    /// Between questions while it is up.
    pub interval: Duration,
    /// Between questions while it is down.
    pub interval_down: Duration,
    /// How long to wait for an answer.
    pub patience: Duration,
    /// Misses in a row that make it down.
    pub down_after: u32,
    /// Answers in a row that make it up.
    pub up_after: u32,
}

impl PingConfig {
    /// The usual: each 15 s, down after two misses (within 4 s), up after two answers.
    pub fn new(uri: String, from: String) -> PingConfig {
        PingConfig {
            uri,
            from,
            interval: Duration::from_secs(15),
            interval_down: Duration::from_secs(5),
            patience: Duration::from_secs(2),
            down_after: 2,
            up_after: 2,
        }
    }
}

/// Whether the peer is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reachability {
    /// Not known yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// One peer and what is known of it.
#[derive(Clone, Debug)]
pub struct Ping {
    config: PingConfig,
    call_id: String,
    tag: String,
    number: u32,
    state: Reachability,
    /// In a row: misses while up or unknown, answers while down.
    against: u32,
    next_at: Instant,
    /// Sent and not answered.
    asked_at: Option<Instant>,
    last_status: Option<Status>,
    round_trip: Option<Duration>,
}

impl Ping {
    /// A peer to be asked at once. `call_id` and `tag` are unique texts of the caller's.
    pub fn new(now: Instant, config: PingConfig, call_id: String, tag: String) -> Ping {
        Ping {
            config,
            call_id,
            tag,
            number: 0,
            state: Reachability::Unknown,
            against: 0,
            next_at: now,
            asked_at: None,
            last_status: None,
            round_trip: None,
        }
    }

    /// Whether the peer is there.
    pub fn state(&self) -> Reachability {
        self.state
    }

    /// What it last said.
    pub fn last_status(&self) -> Option<Status> {
        self.last_status
    }

    /// How long its last answer took.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// When to call [`Ping::poll`] next.
    pub fn deadline(&self) -> Instant {
        self.asked_at.map_or(self.next_at, |at| at + self.config.patience)
    }

    /// Counts a miss if one is due, and gives the next question if it is time. The state may have changed after.
    pub fn poll(&mut self, now: Instant) -> Result<Option<Message>, UnsafeText> {
        if let Some(at) = self.asked_at {
            if now < at + self.config.patience {
                return Ok(None);
            }
            self.handle_loss(now);
        }
        if now < self.next_at {
            return Ok(None);
        }
        self.number += 1;
        let request = RequestBuilder::new(Method::Options, &self.config.uri)
            .header("Max-Forwards", "70")
            .header("From", format!("<{}>;tag={}", self.config.from, self.tag))
            .header("To", format!("<{}>", self.config.uri))
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{} OPTIONS", self.number))
            .header("Accept", "application/sdp")
            .build()?;
        self.asked_at = Some(now);
        Ok(Some(request))
    }

    /// Notes a response. Those to earlier questions do not count.
    pub fn handle_response(&mut self, now: Instant, response: &Message) {
        let Some(status) = response.status().filter(|status| status.is_final()) else { return };
        let is_current = response.cseq().is_ok_and(|cseq| cseq.number == self.number);
        let (Some(asked_at), true) = (self.asked_at, is_current) else { return };
        self.last_status = Some(status);
        if matches!(status.code(), 408 | 503) {
            return self.handle_loss(now);
        }
        self.round_trip = Some(now - asked_at);
        self.asked_at = None;
        self.count(Reachability::Up, self.config.up_after);
        self.plan(now);
    }

    /// Notes that the question could not be sent, or that nothing came back.
    pub fn handle_loss(&mut self, now: Instant) {
        self.asked_at = None;
        self.count(Reachability::Down, self.config.down_after);
        // Certainty is wanted soon.
        self.next_at = if self.state == Reachability::Down { now + self.config.interval_down } else { now };
    }

    fn plan(&mut self, now: Instant) {
        let pause = match self.state {
            Reachability::Up => self.config.interval,
            Reachability::Unknown | Reachability::Down => self.config.interval_down.min(self.config.interval),
        };
        self.next_at = now + pause;
    }

    /// One more sign of `to`. From unknown, one answer is enough to be up.
    fn count(&mut self, to: Reachability, needed: u32) {
        if self.state == to {
            self.against = 0;
            return;
        }
        if self.state == Reachability::Unknown && to == Reachability::Up {
            self.state = to;
            self.against = 0;
            return;
        }
        self.against += 1;
        if self.against >= needed {
            self.state = to;
            self.against = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::ResponseBuilder;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn answer(request: &Message, code: u16) -> Message {
        ResponseBuilder::new(request, Status::new(code).unwrap()).to_tag(b"x").build().unwrap()
    }

    #[test]
    fn down_within_six_seconds_and_up_within_twelve() {
        let config = PingConfig::new("sip:gw".into(), "sip:us".into());
        let mut ping = Ping::new(at(0), config, "c".into(), "t".into());
        let question = ping.poll(at(0)).unwrap().unwrap();
        ping.handle_response(at(30), &answer(&question, 405));
        assert_eq!((ping.state(), ping.round_trip()), (Reachability::Up, Some(Duration::from_millis(30))));
        assert_eq!(ping.deadline(), at(15_030));
        // It dies right after: the next question at 15.03 s is missed, and the one after it.
        let mut now = at(15_030);
        let first_miss = now;
        while ping.state() == Reachability::Up {
            ping.poll(now).unwrap();
            now = ping.deadline();
        }
        assert!(now - first_miss <= Duration::from_secs(9) && ping.state() == Reachability::Down);
        let revived = now;
        while ping.state() == Reachability::Down {
            if let Some(question) = ping.poll(now).unwrap() {
                ping.handle_response(now, &answer(&question, 200));
            }
            now = ping.deadline();
        }
        assert!(now - revived <= Duration::from_secs(12 + 15));
    }

    #[test]
    fn one_miss_is_forgiven_and_late_answers_do_not_count() {
        let mut ping =
            Ping::new(at(0), PingConfig::new("sip:gw".into(), "sip:us".into()), "c".into(), "t".into());
        let first = ping.poll(at(0)).unwrap().unwrap();
        let second = ping.poll(at(2_000)).unwrap().unwrap();
        assert_eq!(ping.state(), Reachability::Unknown);
        ping.handle_response(at(2_001), &answer(&first, 200));
        assert_eq!(ping.state(), Reachability::Unknown, "too late");
        ping.handle_response(at(2_002), &answer(&second, 503));
        assert_eq!((ping.state(), ping.last_status().map(Status::code)), (Reachability::Down, Some(503)));
    }
}
