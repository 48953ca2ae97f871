//! `<Dial>`: calls the document's numbers and SIP addresses, joins the one that answers, and reports how it went.
//!
//! Nobody real is called. `destinations` says who answers.

use std::time::Duration;

use serde_json::json;

use super::call::{Flow, Follower, Interrupt, Party, Source};
use super::callbacks::{StatusReports, Via};
use super::calls::{Call, Status};
use super::destinations::{Behaviour, Destination};
use super::form::{Form, is_e164, sid};
use super::placing::{end, write_placed};
use super::twiml::Element;

/// How long it rings, and how long a call may last, where the document does not say.
const TIMEOUT_DEFAULT_S: u64 = 30;
const TIMEOUT_MAX_S: u64 = 600;
const TIME_LIMIT_DEFAULT_S: u64 = 14_400;

/// One leg that is dialled.
struct Leg {
    sid: String,
    address: String,
    is_sip: bool,
    destination: Destination,
    reports: StatusReports,
}

/// How dialling ended.
struct Outcome {
    /// In the words of `DialCallStatus`.
    status: Status,
    leg_sid: String,
    sip: Option<u16>,
    duration_s: u64,
    bridged: bool,
}

impl Follower {
    pub(super) async fn dial(&mut self, verb: &Element) -> Result<Flow, Interrupt> {
        if !verb.flag("answerOnBridge") {
            self.answer();
        }
        let action =
            verb.filled("action").map(|url| (self.absolute(url), Via::read(verb.attribute("method"))));
        let mut legs = self.legs(verb);
        let groups: Vec<Vec<Leg>> = if verb.flag("sequential") {
            legs.into_iter().map(|leg| vec![leg]).collect()
        } else {
            vec![std::mem::take(&mut legs)]
        };
        let mut last = None;
        let mut interrupted = None;
        for group in groups {
            let (outcome, interrupt) = self.dial_group(verb, group).await;
            let joined = outcome.bridged;
            last = Some(outcome);
            interrupted = interrupt;
            if joined || interrupted.is_some() {
                break;
            }
        }
        let outcome = last.expect("the grammar lets no <Dial> without a destination through");
        let details = json!({
            "status": outcome.status.name(),
            "call_sid": outcome.leg_sid,
            "bridged": outcome.bridged,
            "duration_s": outcome.duration_s,
        });
        self.shared.note(&self.sid, "dialled", details);
        match interrupted {
            Some(interrupt) => {
                // The action is still told how it ended, but nobody is left to follow its answer.
                if let (Interrupt::HangUp(by), Some((url, via))) = (&interrupt, &action)
                    && *by != Party::Simulator
                {
                    self.notify("callback.action", url, *via, &outcome.params());
                }
                Err(interrupt)
            }
            None => Ok(match action {
                Some((url, via)) => Flow::Goto(Source::Url {
                    operation: "callback.action",
                    url,
                    via,
                    extra: outcome.params(),
                }),
                None => Flow::Next,
            }),
        }
    }

    /// A leg for each noun, or one for the text of `<Dial>` itself.
    fn legs(&self, verb: &Element) -> Vec<Leg> {
        let nouns: Vec<&Element> =
            if verb.children.is_empty() { vec![verb] } else { verb.children.iter().collect() };
        let caller_id = verb.filled("callerId");
        nouns
            .into_iter()
            .map(|noun| {
                let address = noun.text().to_owned();
                let is_sip = noun.name == "Sip";
                let valid = if is_sip {
                    address.starts_with("sip:") || address.starts_with("sips:")
                } else {
                    is_e164(&address)
                };
                let now = self.shared.clock.now();
                let mut state = self.shared.lock();
                let destination = if valid {
                    state.destinations.at(&address)
                } else {
                    if let Some(call) = state.calls.by_sid_mut(&self.sid) {
                        call.errors.push(13_224);
                        call.note(
                            now,
                            "error",
                            json!({"code": 13_224, "message": format!("{address:?} cannot be called")}),
                        );
                    }
                    Destination::unreachable()
                };
                let from = caller_id
                    .map(str::to_owned)
                    .or_else(|| state.calls.by_sid(&self.sid).map(|call| call.from.clone()));
                let mut call =
                    Call::new(sid("CA"), "outbound-dial", &from.unwrap_or_default(), &address, now);
                call.parent_sid = Some(self.sid.clone());
                let leg_sid = call.sid.clone();
                if let Err(error) = write_placed(&self.shared, &mut state, &call) {
                    tracing::error!("cannot note leg {leg_sid}: {error:#}");
                }
                state.calls.add(call);
                drop(state);
                let events = noun.attribute("statusCallbackEvent").unwrap_or_default().split_whitespace();
                // `<Dial>`'s own text has no reports of its own.
                let report_to = noun.filled("statusCallback").filter(|_| noun.name != "Dial");
                let via = Via::read(noun.attribute("statusCallbackMethod"));
                let reports = StatusReports::new(report_to, via, events.map(str::to_owned).collect());
                Leg { sid: leg_sid, address, is_sip, destination, reports }
            })
            .collect()
    }

    /// Rings all legs at once. The first to answer is joined; the others are let go.
    async fn dial_group(&mut self, verb: &Element, mut legs: Vec<Leg>) -> (Outcome, Option<Interrupt>) {
        let timeout = Duration::from_secs(verb.seconds("timeout", TIMEOUT_DEFAULT_S).min(TIMEOUT_MAX_S));
        for leg in &mut legs {
            self.shared.note(&self.sid, "dialling", json!({"to": leg.address, "call_sid": leg.sid}));
            leg.reports.report(&self.shared, &leg.sid, "initiated", "initiated");
            if leg.destination.behaviour != Behaviour::Failed {
                self.leg_status(&leg.sid, Status::Ringing);
                leg.reports.report(&self.shared, &leg.sid, "ringing", Status::Ringing.name());
            }
        }
        let winner = legs
            .iter()
            .enumerate()
            .filter(|(_, leg)| {
                leg.destination.behaviour == Behaviour::Answer && leg.destination.ring() <= timeout
            })
            .min_by_key(|(_, leg)| leg.destination.ring())
            .map(|(at, _)| at);
        let ring = match winner {
            Some(at) => legs[at].destination.ring(),
            None => legs.iter().map(|leg| leg.end_of_ringing(timeout)).max().unwrap_or_default(),
        };
        if let Err(interrupt) = self.wait(ring).await {
            let leg_sid = legs[0].sid.clone();
            for mut leg in legs {
                self.leg_end(&mut leg, Status::Canceled);
            }
            let outcome =
                Outcome { status: Status::Canceled, leg_sid, sip: None, duration_s: 0, bridged: false };
            return (outcome, Some(interrupt));
        }
        match winner {
            Some(at) => self.join(verb, legs, at).await,
            None => (self.nobody(legs, timeout), None),
        }
    }

    async fn join(
        &mut self,
        verb: &Element,
        mut legs: Vec<Leg>,
        winner: usize,
    ) -> (Outcome, Option<Interrupt>) {
        let mut joined = legs.swap_remove(winner);
        for mut leg in legs {
            self.leg_end(&mut leg, Status::Canceled);
        }
        self.answer();
        self.leg_status(&joined.sid, Status::InProgress);
        joined.reports.report(&self.shared, &joined.sid, "answered", Status::InProgress.name());
        self.shared.note(&self.sid, "bridged", json!({"to": joined.address, "call_sid": joined.sid}));
        let limit = Duration::from_secs(verb.seconds("timeLimit", TIME_LIMIT_DEFAULT_S));
        let talked = self.wait(joined.destination.talk().min(limit)).await;
        self.leg_end(&mut joined, Status::Completed);
        let duration_s = self.shared.lock().calls.by_sid(&joined.sid).map_or(0, Call::duration_s);
        let sip = joined.is_sip.then_some(200);
        (
            Outcome { status: Status::Completed, leg_sid: joined.sid, sip, duration_s, bridged: true },
            talked.err(),
        )
    }

    /// Nobody answered. Of several reasons the mildest is told: not answered, engaged, failed.
    fn nobody(&mut self, legs: Vec<Leg>, timeout: Duration) -> Outcome {
        let mut told: Option<Outcome> = None;
        for mut leg in legs {
            let status = leg.unanswered(timeout);
            self.leg_end(&mut leg, status);
            let rank = |status: Status| match status {
                Status::NoAnswer => 0,
                Status::Busy => 1,
                _ => 2,
            };
            if told.as_ref().is_none_or(|told| rank(status) < rank(told.status)) {
                let sip = leg.is_sip.then(|| leg.sip_status(status));
                told = Some(Outcome { status, leg_sid: leg.sid, sip, duration_s: 0, bridged: false });
            }
        }
        told.expect("there is at least one leg")
    }

    fn leg_status(&self, sid: &str, status: Status) {
        let now = self.shared.clock.now();
        if let Some(call) = self.shared.lock().calls.by_sid_mut(sid) {
            call.status = status;
            if status == Status::InProgress {
                call.answered = Some(now);
            }
            call.note(now, status.name(), json!({}));
        }
    }

    fn leg_end(&self, leg: &mut Leg, status: Status) {
        end(&self.shared, &leg.sid, status);
        leg.reports.report(&self.shared, &leg.sid, "completed", status.name());
        let (shared, sid) = (self.shared.clone(), leg.sid.clone());
        let mut reports =
            std::mem::replace(&mut leg.reports, StatusReports::new(None, Via::Post, Vec::new()));
        self.shared.tracker.spawn(async move {
            reports.finish(&shared, &sid).await;
            if let Some(call) = shared.lock().calls.by_sid(&sid) {
                call.settled.send_replace(true);
            }
        });
    }
}

impl Leg {
    fn end_of_ringing(&self, timeout: Duration) -> Duration {
        match self.destination.behaviour {
            Behaviour::NoAnswer | Behaviour::Answer => timeout,
            Behaviour::Failed => Duration::ZERO,
            Behaviour::Busy | Behaviour::Reject => self.destination.ring().min(timeout),
        }
    }

    fn unanswered(&self, timeout: Duration) -> Status {
        match self.destination.behaviour {
            Behaviour::Failed => Status::Failed,
            Behaviour::Busy | Behaviour::Reject if self.destination.ring() <= timeout => Status::Busy,
            _ => Status::NoAnswer,
        }
    }

    fn sip_status(&self, status: Status) -> u16 {
        match (status, self.destination.behaviour) {
            (Status::Busy, Behaviour::Reject) => 603,
            (Status::Busy, _) => 486,
            (Status::NoAnswer, _) => 487,
            _ => 503,
        }
    }
}

impl Outcome {
    fn params(&self) -> Form {
        let mut form = Form::default();
        form.push("DialCallStatus", self.status.name());
        form.push("DialCallSid", self.leg_sid.as_str());
        form.push("DialBridged", self.bridged.to_string());
        if self.status == Status::Completed {
            form.push("DialCallDuration", self.duration_s.to_string());
        }
        if let Some(status) = self.sip {
            form.push("DialSipCallId", format!("{}@127.0.0.1", self.leg_sid));
            form.push("DialSipResponseCode", status.to_string());
        }
        form
    }
}
