//! Keeps a registration at a carrier's registrar (RFC 3261 §10.2).
//!
//! A value that is asked what to send and told what came back; whoever owns it sends. It refreshes at half the time
//! that was granted, asks for more time when 423 says so, answers one challenge per request, and comes back ever
//! more slowly while it fails. Whatever a registrar answers, it is sent a handful of requests and then none for
//! [`PAUSE_MIN`]. What is random is handed in.
//!
//! A registration holds when all our contacts hold: the one that ends first says when to refresh. A registrar that
//! lists one of ours must list them all (RFC 3261 §10.3 step 8); if one is missing that is a failure, and all are
//! registered again after its pause. One that lists none of ours, or nothing, is believed: it may have written them anew.

use std::time::Duration;

use crate::digest::{self, Credentials};
use crate::edit::UnsafeText;
use crate::keyed::{Keys, Names};
use crate::limits::CONTACTS_MAX;
use crate::message::Message;
use crate::method::Method;
use crate::print::RequestBuilder;
use crate::status::Status;
use crate::time::Instant;
use crate::uri::Uri;

/// The longest time we let a registrar make us ask for.
pub const EXPIRES_MAX_S: u32 = 24 * 60 * 60;

/// The first pause after a failure; it doubles up to [`BACKOFF_MAX`].
pub const BACKOFF_MIN: Duration = PAUSE_MIN;

/// The shortest pause before a refresh. A registrar that grants less than this makes a registration with gaps.
pub const PAUSE_MIN: Duration = Duration::from_secs(5);

/// The longest pause between attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// What to register, and where.
#[derive(Clone, Debug)]
pub struct RegistrationConfig {
    /// The request-URI: `sip:registrar.example.com`.
    pub registrar: String,
    /// Whom we register: `sip:user@registrar.example.com`.
    pub address: String,
    /// Where calls for it shall go: URIs without brackets.
    pub contacts: Vec<String>,
    /// The time to ask for.
    pub expires_s: u32,
    /// For the challenge.
    pub credentials: Option<Credentials>,
}

/// How a registration is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegistrationHealth {
    /// Nothing has come back yet.
    Unknown,
    /// It holds until then.
    Registered {
        /// When it ends unless it is refreshed.
        until: Instant,
    },
    /// The last attempt failed.
    Failed {
        /// What the registrar said; none when it said nothing. A 2xx that grants no time, or that lists bindings
        /// and leaves one of ours out, is a failure too.
        status: Option<Status>,
        /// The next attempt.
        retry_at: Instant,
    },
    /// It was taken back.
    Ended,
}

/// One registration and its state.
#[derive(Clone, Debug)]
pub struct Registration {
    config: RegistrationConfig,
    call_id: String,
    tag: String,
    number: u32,
    expires_s: u32,
    next_at: Option<Instant>,
    /// What the request that is under way asks for.
    in_flight: Option<u32>,
    is_ending: bool,
    failures: u32,
    /// Whether the request that is under way was asked again for more time.
    has_lengthened: bool,
    /// Challenges answered for the request that is under way.
    answers: u32,
    /// The challenge that our credentials answer, and how often they did.
    challenge: Option<(Message, u32)>,
    cnonces: Names,
    health: RegistrationHealth,
}

impl Registration {
    /// A registration to be made at once. `call_id` and `tag` are unique texts of the caller's.
    pub fn new(
        now: Instant,
        keys: &Keys,
        config: RegistrationConfig,
        call_id: String,
        tag: String,
    ) -> Registration {
        let expires_s = config.expires_s.clamp(1, EXPIRES_MAX_S);
        // No two registrations of one node are to use the same ones.
        let cnonces = Names::new(keys, &format!("cnonces of {call_id}"));
        Registration {
            config,
            call_id,
            tag,
            number: 0,
            expires_s,
            next_at: Some(now),
            in_flight: None,
            is_ending: false,
            failures: 0,
            has_lengthened: false,
            answers: 0,
            challenge: None,
            cnonces,
            health: RegistrationHealth::Unknown,
        }
    }

    /// How it is.
    pub fn health(&self) -> RegistrationHealth {
        self.health
    }

    /// When to call [`Registration::poll`] next.
    pub fn deadline(&self) -> Option<Instant> {
        if self.in_flight.is_some() { None } else { self.next_at }
    }

    /// The request to send now, if one is due.
    pub fn poll(&mut self, now: Instant) -> Result<Option<Message>, UnsafeText> {
        if self.in_flight.is_some() || self.next_at.is_none_or(|at| at > now) {
            return Ok(None);
        }
        self.answers = 0;
        self.has_lengthened = false;
        self.build().map(Some)
    }

    /// Takes the registration back: the next [`Registration::poll`] asks for no time at all. If a request is under
    /// way, that is once it has been answered.
    pub fn end(&mut self, now: Instant) {
        self.is_ending = true;
        self.next_at = Some(now);
    }

    /// Notes the answer; gives the request to send at once, if there is one (credentials, or more time).
    ///
    /// Provisional responses, and answers to anything but the request that is under way, change nothing: all may be
    /// handed in as they come. `chance` is a random number; it spreads refreshes so that a thousand registrations do
    /// not come together.
    pub fn handle_response(&mut self, now: Instant, response: &Message, chance: u32) -> Option<Message> {
        let status = response.status().filter(|status| status.is_final())?;
        response.cseq().ok().filter(|cseq| cseq.number == self.number)?;
        let asked_s = self.in_flight.take()?;
        match status.code() {
            200..=299 => self.succeeded(now, status, response, asked_s, chance),
            401 | 407 => {
                // Once, and once more if only the nonce was too old.
                let may_answer = self.answers == 0 || (self.answers == 1 && digest::is_stale(response));
                if may_answer && self.answers_challenge(response) {
                    self.answers += 1;
                    self.challenge = Some((response.clone(), 0));
                    return self.build().ok();
                }
                self.challenge = None;
                self.failed(now, Some(status), None, asked_s, chance);
            }
            423 => {
                let wanted = response.min_expires().ok().flatten().unwrap_or(0);
                let is_more = wanted > self.expires_s && wanted <= EXPIRES_MAX_S && !self.is_ending;
                if is_more {
                    self.expires_s = wanted;
                }
                // Once; a registrar that always wants a little more is asked again as after any failure.
                if is_more && !self.has_lengthened {
                    self.has_lengthened = true;
                    return self.build().ok();
                }
                self.failed(now, Some(status), None, asked_s, chance);
            }
            _ => {
                let wait = response.retry_after().ok().flatten();
                self.failed(now, Some(status), wait, asked_s, chance);
            }
        }
        None
    }

    /// Notes that no answer came to the request that is under way, or that it could not be sent.
    pub fn handle_loss(&mut self, now: Instant, chance: u32) {
        if let Some(asked_s) = self.in_flight.take() {
            self.failed(now, None, None, asked_s, chance);
        }
    }

    fn answers_challenge(&self, response: &Message) -> bool {
        self.config.credentials.as_ref().is_some_and(|credentials| {
            let uri = self.config.registrar.as_bytes();
            // Only whether there is one: it is not sent.
            digest::answer(response, credentials, b"REGISTER", uri, 1, 0).is_some()
        })
    }

    fn build(&mut self) -> Result<Message, UnsafeText> {
        self.number += 1;
        let expires = if self.is_ending { 0 } else { self.expires_s };
        let mut builder = RequestBuilder::new(Method::Register, &self.config.registrar)
            .header("Max-Forwards", "70")
            .header("From", format!("<{}>;tag={}", self.config.address, self.tag))
            .header("To", format!("<{}>", self.config.address))
            .header("Call-ID", &self.call_id)
            .header("CSeq", format!("{} REGISTER", self.number));
        for contact in &self.config.contacts {
            builder = builder.header("Contact", format!("<{contact}>"));
        }
        builder = builder.header("Expires", expires.to_string());
        // A nonce that worked is used again with the next count, which saves a round trip while it lives.
        if let (Some((challenge, count)), Some(credentials)) = (&mut self.challenge, &self.config.credentials)
        {
            *count += 1;
            let uri = self.config.registrar.as_bytes();
            let cnonce = self.cnonces.next();
            let answer = digest::answer(challenge, credentials, b"REGISTER", uri, *count, cnonce);
            if let Some((name, value)) = answer {
                builder = builder.header(name.as_str(), value);
            }
        }
        let request = builder.build()?;
        self.in_flight = Some(expires);
        Ok(request)
    }

    fn succeeded(&mut self, now: Instant, status: Status, response: &Message, asked_s: u32, chance: u32) {
        if asked_s == 0 {
            self.failures = 0;
            self.next_at = None;
            self.health = RegistrationHealth::Ended;
            return;
        }
        let Some(granted) = self.granted_s(response, asked_s).filter(|&seconds| seconds > 0) else {
            return self.failed(now, Some(status), None, asked_s, chance);
        };
        self.failures = 0;
        let granted = Duration::from_secs(u64::from(granted.min(EXPIRES_MAX_S)));
        // Half the time, and up to a tenth of that earlier.
        let half = granted / 2;
        let early = half / 10 * (chance % 1000) / 1000;
        let pause = half.saturating_sub(early).max(PAUSE_MIN);
        // Someone who wants it taken back has waited for this answer.
        self.next_at = Some(if self.is_ending { now } else { now + pause });
        self.health = RegistrationHealth::Registered { until: now + granted };
    }

    /// What the registrar granted all our contacts (RFC 3261 §10.2.4): each its own time, else that of the whole
    /// answer, else what was asked for. `None` if it lists some of ours and not all. One that lists none of ours, or
    /// nothing, has taken them all under other names (border controllers write them anew): then the longest time counts
    /// that we may have been granted.
    fn granted_s(&self, response: &Message, asked_s: u32) -> Option<u32> {
        let all = response.expires().ok().flatten().unwrap_or(asked_s);
        let listed = || response.contacts().take(CONTACTS_MAX).filter_map(Result::ok);
        let ours = self.config.contacts.iter().filter_map(|contact| Uri::parse(contact.as_bytes()).ok());
        let (mut missing, mut least) = (false, None::<u32>);
        for our in ours {
            let found = listed().find(|contact| contact.uri().is_ok_and(|uri| our.is_equivalent(&uri)));
            missing |= found.is_none();
            if let Some(contact) = found {
                let granted = contact.expires().unwrap_or(all);
                least = Some(least.map_or(granted, |least| least.min(granted)));
            }
        }
        if let Some(least) = least {
            return (!missing).then_some(least);
        }
        // Those of other phones may stand there, too, at any age: the freshest is ours.
        let fresh = listed().filter_map(|contact| contact.expires()).filter(|&one| one > 0 && one <= all);
        Some(fresh.max().unwrap_or(all))
    }

    fn failed(
        &mut self,
        now: Instant,
        status: Option<Status>,
        wait_s: Option<u32>,
        asked_s: u32,
        chance: u32,
    ) {
        let doubled = BACKOFF_MIN * 2u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let asked = Duration::from_secs(u64::from(wait_s.unwrap_or(0)));
        // Taking it back was not tried yet: that waits no longer than the registrar wants it to.
        let is_owed = self.is_ending && asked_s > 0;
        let pause = if is_owed { asked } else { doubled.max(asked) }.min(BACKOFF_MAX);
        // Up to a fifth later, so that those who failed together do not come back together.
        let pause = pause + pause / 5 * (chance % 1000) / 1000;
        let retry_at = now + pause;
        self.next_at = Some(retry_at);
        self.health = RegistrationHealth::Failed { status, retry_at };
    }
}

#[cfg(test)]
mod tests;
