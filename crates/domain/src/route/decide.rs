//! What is done with one call. Pure, and without allocating: the answer points into the table.
//!
//! The rules, in their order: is the number ours · may the caller call · is it open · is outage mode on · who is assigned ·
//! what runs there · as which variant · how is that reached · which fallbacks follow · what is said at the end. Each leaves
//! its reason, and a call to a number of ours always gets an answer: at the very end, a spoken sentence.

use arrayvec::ArrayVec;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::agent::{Content, Language, Variant};
use crate::call::Ingress;
use crate::caller::{Caller, Verdict};
use crate::endpoint::{Dial, Endpoint, EndpointKind, Target, Webhook};
use crate::environment::Environment;
use crate::error::Code;
use crate::fallback::{CHAIN_TARGETS_MAX, Fallback, MESSAGE_DEFAULT};
use crate::hours::{Opening, Zone};
use crate::id::AgentId;
use crate::number::E164;
use crate::route::reason::{Note, Origin, Reasons};
use crate::route::row::{NumberSettings, RunningRow};
use crate::route::shard::Key;
use crate::route::table::{Found, Route, RouteTable, found};

/// The most targets of one call, its agent's own included.
pub const TARGETS_MAX: usize = CHAIN_TARGETS_MAX;

/// A call to decide about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncomingCall {
    /// What it came in on.
    pub ingress: Ingress,
    /// The number that was called.
    pub to: E164,
    /// Who calls, as far as the carrier says.
    pub caller: Caller,
}

/// What is done with a call, and why.
#[derive(Clone, Debug)]
pub struct Decision<'t> {
    /// The called number, if it is ours.
    pub number: Option<Found>,
    /// Who was to answer, if the rules got that far.
    pub answering: Option<Answering<'t>>,
    /// What is done.
    pub answer: Answer<'t>,
    /// Why, in the order of the rules.
    pub reasons: Reasons<'t>,
}

/// What is done with a call: a closed set.
#[derive(Clone, Debug)]
pub enum Answer<'t> {
    /// Connect it: to the first target that takes it; if none does, speak the message.
    Connect {
        /// At least one.
        targets: Targets<'t>,
        /// Spoken at the end.
        message: Message<'t>,
    },
    /// Ask the team's server; the target that it names goes before the others.
    Ask {
        /// Whom to ask.
        webhook: &'t Webhook,
        /// Goes before the others if the server gives no usable answer.
        default: Option<Tried<'t>>,
        /// Tried after the first; one fewer than the most, perhaps none.
        targets: Targets<'t>,
        /// Spoken at the end.
        message: Message<'t>,
    },
    /// Speak a message and hang up.
    Say {
        /// What is spoken.
        message: Message<'t>,
    },
    /// Refuse it.
    Reject {
        /// Why.
        cause: Cause,
    },
}

/// The targets of a call, in the order in which they are tried.
pub type Targets<'t> = ArrayVec<Tried<'t>, TARGETS_MAX>;

/// One target, and why it is on the list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried<'t> {
    /// Where it comes from.
    pub origin: Origin,
    /// What is dialled.
    pub dial: &'t Dial,
}

/// What is spoken at the end of a call that nobody took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Message<'t> {
    /// Whose message it is.
    pub origin: Origin,
    /// The text.
    pub text: &'t str,
    /// What it is spoken in, if anything says so.
    pub language: Option<&'t Language>,
}

/// Who answers a call.
#[derive(Clone, Copy, Debug)]
pub struct Answering<'t> {
    /// The agent.
    pub agent_id: AgentId,
    /// In which environment.
    pub environment: Environment,
    /// The version that runs there, and the agent's name.
    pub running: &'t RunningRow,
    /// What the version holds.
    pub content: &'t Content,
    variant: Option<u32>,
}

impl<'t> Answering<'t> {
    /// As which variant, where the agent has any.
    pub fn variant(&self) -> Option<&'t Variant> {
        self.variant.and_then(|place| self.content.variants.get(place as usize))
    }
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The number is not ours.
    UnknownNumber,
    /// The number's caller rules say no.
    CallerBlocked,
}

impl Cause {
    /// Its entry in the error table.
    pub const fn code(self) -> Code {
        match self {
            Cause::UnknownNumber => Code::UnknownNumber,
            Cause::CallerBlocked => Code::CallerBlocked,
        }
    }
}

/// Decides about one call.
pub fn decide<'t>(table: &'t RouteTable, call: &IncomingCall, now: Timestamp) -> Decision<'t> {
    // One value from the beginning, so that it is made where the caller wants it and not copied there.
    let mut decision = Decision {
        number: None,
        answering: None,
        answer: Answer::Reject { cause: Cause::UnknownNumber },
        reasons: Reasons::default(),
    };
    if let Some((entry, route)) = table.entry(Key { ingress: call.ingress, number: call.to }) {
        decision.number = Some(found(entry, route));
        decision.answer = Answer::Reject { cause: Cause::CallerBlocked };
        decision.reasons.set_route(route);
        if route.admits(call.caller, &mut decision.reasons) {
            route.decide(call, now, &mut decision);
        }
    }
    decision
}

impl Route {
    #[inline]
    fn decide<'t>(&'t self, call: &IncomingCall, now: Timestamp, decision: &mut Decision<'t>) {
        let prepared = &self.prepared;
        let content = |wanted: bool| prepared.content.as_deref().filter(|_| wanted);
        let workspace = prepared.workspace.as_deref().filter(|_| prepared.workspace_has_fallback);
        let mut ending = Ending {
            to: call.to,
            language: self
                .own(|own| own.language.as_ref())
                .or_else(|| content(prepared.agent_has_language)?.draft.language.as_ref()),
            levels: [
                (Origin::Closed, None),
                (Origin::Number, self.own(|own| own.fallback.as_ref())),
                (
                    Origin::Agent,
                    content(prepared.agent_has_fallback).and_then(|content| content.draft.fallback.as_ref()),
                ),
                (Origin::Workspace, workspace.and_then(|known| known.settings.fallback.as_ref())),
            ],
            only: None,
        };
        let mut endpoint = None;
        if self.is_open(now, &mut decision.reasons) {
            endpoint = self.endpoint(decision);
        } else if let Some(hours) = self.own(|own| own.hours.as_ref())
            && let Some(instead) = &hours.closed
        {
            // What the hours say comes instead of all other targets; only a missing message is taken from them.
            ending.levels[0].1 = Some(instead);
            ending.only = Some(Origin::Closed);
        }
        ending.answer(endpoint, decision);
    }

    pub(super) fn own<'t, T>(&'t self, field: impl Fn(&'t NumberSettings) -> Option<T>) -> Option<T> {
        self.own.as_ref().and_then(|own| field(&own.settings))
    }

    /// The zone of the number's hours, and its name; without either, UTC.
    pub(super) fn zone(&self) -> (Option<&Zone>, &TimeZone) {
        static UTC: TimeZone = TimeZone::UTC;
        let own_zone = self.own.as_ref().and_then(|own| own.zone.as_ref());
        match (own_zone, self.prepared.workspace.as_deref()) {
            (Some(zone), _) => (self.own(|own| own.time_zone.as_ref()), zone),
            (None, Some(known)) => (Some(&known.settings.time_zone), &known.zone),
            (None, None) => (None, &UTC),
        }
    }

    #[inline]
    fn admits(&self, caller: Caller, reasons: &mut Reasons<'_>) -> bool {
        let verdict = self.own(|own| own.inbound.as_ref()).map(|rules| rules.judge(caller));
        reasons.push(Note::Caller(verdict));
        verdict.is_none_or(Verdict::allows)
    }

    #[inline]
    fn is_open(&self, now: Timestamp, reasons: &mut Reasons<'_>) -> bool {
        reasons.push(Note::Hours);
        let Some(hours) = self.own(|own| own.hours.as_ref()) else { return true };
        let local = self.zone().1.to_datetime(now);
        reasons.set_local(local);
        hours.opening(local) == Opening::Open
    }

    /// Who answers and how it is reached; `None` where nobody can, and the fallbacks take over. With outage mode on there is
    /// an agent, but its endpoint is left out.
    #[inline]
    fn endpoint<'t>(&'t self, decision: &mut Decision<'t>) -> Option<(&'t Endpoint, EndpointKind)> {
        let (prepared, reasons) = (&self.prepared, &mut decision.reasons);
        let Some(assignment) = &self.key.assignment else {
            reasons.push(Note::Assignment);
            return None;
        };
        reasons.push(Note::Outage);
        reasons.push(Note::Assignment);
        let (running, content) = prepared.running.as_deref().zip(prepared.content.as_deref())?;
        reasons.push(Note::Variant);
        decision.answering = Some(Answering {
            agent_id: assignment.agent_id,
            environment: assignment.environment,
            running,
            content,
            variant: prepared.variant,
        });
        if prepared.is_out {
            return None;
        }
        reasons.push(Note::Endpoint);
        prepared.endpoint.as_ref().zip(prepared.endpoint_kind)
    }
}

/// What follows when the agent does not take the call, or is not to be asked.
struct Ending<'t> {
    to: E164,
    language: Option<&'t Language>,
    levels: [(Origin, Option<&'t Fallback>); 4],
    /// If set, only this level's targets are tried.
    only: Option<Origin>,
}

impl<'t> Ending<'t> {
    #[inline]
    fn answer(&self, endpoint: Option<(&'t Endpoint, EndpointKind)>, decision: &mut Decision<'t>) {
        let (endpoint, kind) = endpoint.unzip();
        let reasons = &mut decision.reasons;
        let mut list =
            List { to: self.to, room: TARGETS_MAX, targets: Targets::new(), left_out: 0, circle: false };
        let mut default = None;
        match endpoint {
            Some(Endpoint::Webhook(webhook)) => {
                // What the server answers, or else its default, takes the first place.
                list.room -= 1;
                let dial = webhook.default.as_ref().filter(|dial| !list.is_circle(dial));
                default = dial.map(|dial| Tried { origin: Origin::WebhookDefault, dial });
            }
            // The first on the list; only a telephone could be the called number itself.
            Some(Endpoint::Dial(dial)) if kind != Some(EndpointKind::Phone) => {
                list.targets.push(Tried { origin: Origin::Endpoint, dial });
            }
            Some(Endpoint::Dial(dial)) => list.add(Origin::Endpoint, dial),
            None => {}
        }
        for (origin, fallback) in self.levels {
            let Some(fallback) = fallback.filter(|_| self.only.is_none_or(|only| only == origin)) else {
                continue;
            };
            let before = list.targets.len();
            for dial in &fallback.targets {
                list.add(origin, dial);
            }
            let count = u8::try_from(list.targets.len() - before).expect("at most five");
            reasons.push(Note::Fallback { origin, count });
        }
        if list.circle {
            reasons.push(Note::TargetIsCalledNumber);
        }
        if list.left_out > 0 {
            reasons.push(Note::ChainCut { left_out: list.left_out });
        }
        let message = self.message(reasons);
        let targets = list.targets;
        decision.answer = match endpoint {
            Some(Endpoint::Webhook(webhook)) => Answer::Ask { webhook, default, targets, message },
            _ if targets.is_empty() => Answer::Say { message },
            _ => Answer::Connect { targets, message },
        };
    }

    fn message(&self, reasons: &mut Reasons<'_>) -> Message<'t> {
        let of_level = self.levels.iter().find_map(|(origin, fallback)| {
            fallback.and_then(|fallback| fallback.message.as_deref()).map(|text| (*origin, text))
        });
        let (origin, text) = of_level.unwrap_or((Origin::Default, MESSAGE_DEFAULT));
        reasons.push(Note::Message { origin });
        Message { origin, text, language: self.language }
    }
}

/// The list of targets as it grows.
struct List<'t> {
    to: E164,
    room: usize,
    targets: Targets<'t>,
    left_out: u16,
    circle: bool,
}

impl<'t> List<'t> {
    #[inline]
    fn add(&mut self, origin: Origin, dial: &'t Dial) {
        if self.is_circle(dial) || self.targets.iter().any(|tried| tried.dial.target == dial.target) {
            return;
        }
        if self.targets.len() < self.room {
            self.targets.push(Tried { origin, dial });
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    /// Longer circles are refused when settings are saved; this one costs nothing to see.
    fn is_circle(&mut self, dial: &Dial) -> bool {
        let circle = matches!(dial.target, Target::Phone { phone_number } if phone_number == self.to);
        self.circle |= circle;
        circle
    }
}
