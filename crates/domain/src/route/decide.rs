//! What is done with one call. Pure, and without allocating: the answer points into the table.
//!
//! The rules, in their order: is the number ours · may the caller call · is it open · is outage mode on · who is assigned ·
//! what runs there · as which variant · how is that reached · which fallbacks follow · what is said at the end. Each leaves
//! its reason, and a call to a number of ours always gets an answer: at the very end, a spoken sentence.

use arrayvec::ArrayVec;
use jiff::Timestamp;

use crate::agent::{Content, Language, Variant};
use crate::call::Ingress;
use crate::caller::{Caller, CallerRules};
use crate::endpoint::{Dial, Endpoint, EndpointKind, Target, Webhook};
use crate::environment::Environment;
use crate::error::Code;
use crate::fallback::{CHAIN_TARGETS_MAX, Fallback, MESSAGE_DEFAULT};
use crate::hours::Opening;
use crate::id::AgentId;
use crate::number::E164;
use crate::route::reason::{Origin, Reason, Reasons};
use crate::route::row::{NumberSettings, RunningRow};
use crate::route::shard::Key;
use crate::route::table::{AnswersAs, Found, PreparedEndpoint, Route, RouteTable, found};

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
    let mut decision = Decision {
        number: None,
        answering: None,
        answer: Answer::Reject { cause: Cause::UnknownNumber },
        reasons: Reasons::default(),
    };
    match table.entry(Key { ingress: call.ingress, number: call.to }) {
        None => decision.reasons.push(Reason::NumberUnknown),
        Some((entry, route)) => {
            decision.reasons.push(Reason::NumberFound);
            decision.number = Some(found(entry, route));
            (decision.answering, decision.answer) = route.decide(call, now, &mut decision.reasons);
        }
    }
    decision
}

impl Route {
    #[inline]
    fn decide<'t>(
        &'t self,
        call: &IncomingCall,
        now: Timestamp,
        reasons: &mut Reasons<'t>,
    ) -> (Option<Answering<'t>>, Answer<'t>) {
        if !self.admits(call.caller, reasons) {
            return (None, Answer::Reject { cause: Cause::CallerBlocked });
        }
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
        if !self.is_open(now, reasons) {
            let closed = self.own(|own| own.hours.as_ref()).and_then(|hours| hours.closed.as_ref());
            if let Some(instead) = closed {
                // What the hours say comes instead of all other targets; only a missing message is taken from them.
                ending.levels[0].1 = Some(instead);
                ending.only = Some(Origin::Closed);
            }
            return (None, ending.answer(None, reasons));
        }
        let Some((endpoint, answering)) = self.endpoint(reasons) else {
            return (None, ending.answer(None, reasons));
        };
        (Some(answering), ending.answer(endpoint, reasons))
    }

    fn own<'t, T>(&'t self, field: impl Fn(&'t NumberSettings) -> Option<T>) -> Option<T> {
        self.own.as_ref().and_then(|own| field(&own.settings))
    }

    fn admits<'t>(&'t self, caller: Caller, reasons: &mut Reasons<'t>) -> bool {
        let rules: Option<&CallerRules> = self.own(|own| own.inbound.as_ref());
        let Some(rules) = rules else {
            reasons.push(Reason::NoCallerRules);
            return true;
        };
        let verdict = rules.judge(caller);
        reasons.push(Reason::Caller(verdict));
        verdict.allows()
    }

    fn is_open<'t>(&'t self, now: Timestamp, reasons: &mut Reasons<'t>) -> bool {
        let Some(hours) = self.own(|own| own.hours.as_ref()) else {
            reasons.push(Reason::NoHours);
            return true;
        };
        let own_zone = self.own.as_ref().and_then(|own| own.zone.as_ref());
        let (name, local) = match (own_zone, self.prepared.workspace.as_deref()) {
            (Some(zone), _) => (self.own(|own| own.time_zone.as_ref()), zone.to_datetime(now)),
            (None, Some(known)) => (Some(&known.settings.time_zone), known.zone.to_datetime(now)),
            (None, None) => (None, jiff::tz::TimeZone::UTC.to_datetime(now)),
        };
        let opening = hours.opening(local);
        reasons.push(match opening {
            Opening::Open => Reason::Open { local, zone: name },
            Opening::ClosedByWeek => Reason::ClosedByWeek { local, zone: name },
            Opening::ClosedByHoliday(place) => {
                Reason::ClosedByHoliday { local, zone: name, holiday: &hours.holidays[place] }
            }
        });
        opening == Opening::Open
    }

    /// Who answers and how it is reached; `None` where nobody can, and the fallbacks take over. With outage mode on there is
    /// an agent, but its endpoint is left out.
    #[inline]
    fn endpoint<'t>(
        &'t self,
        reasons: &mut Reasons<'t>,
    ) -> Option<(Option<&'t PreparedEndpoint>, Answering<'t>)> {
        let prepared = &self.prepared;
        let Some(assignment) = &self.key.assignment else {
            reasons.push(Reason::Unassigned);
            return None;
        };
        let environment = assignment.environment;
        reasons.push(match prepared.outage {
            Some(since) => Reason::Outage { environment, since },
            None => Reason::NoOutage { environment },
        });
        let (Some(running), Some(content)) = (prepared.running.as_deref(), prepared.content.as_deref())
        else {
            reasons.push(Reason::NothingRuns { assignment });
            return None;
        };
        reasons.push(Reason::Runs { running, environment });
        reasons.push(match (prepared.answers_as, &assignment.variant_id) {
            (AnswersAs::Assigned(place), _) => Reason::Variant { content, place },
            (AnswersAs::Gone { .. }, Some(gone)) => Reason::VariantGone { gone, content },
            (AnswersAs::Default, _) => Reason::VariantDefault { content },
            (AnswersAs::NoVariants | AnswersAs::Gone { .. }, _) => Reason::NoVariants,
        });
        let variant = prepared.answers_as.place();
        let answering = Answering { agent_id: assignment.agent_id, environment, running, content, variant };
        if prepared.outage.is_some() {
            return Some((None, answering));
        }
        let endpoint = prepared.endpoint.as_ref();
        reasons.push(match endpoint {
            Some(&PreparedEndpoint { kind, of_variant, .. }) => Reason::Endpoint { kind, of_variant },
            None => Reason::NoEndpoint,
        });
        Some((endpoint, answering))
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
    fn answer(&self, endpoint: Option<&'t PreparedEndpoint>, reasons: &mut Reasons<'t>) -> Answer<'t> {
        let (endpoint, kind) = endpoint.map(|prepared| (&prepared.endpoint, prepared.kind)).unzip();
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
            reasons.push(Reason::Fallback { origin, count });
        }
        if list.circle {
            reasons.push(Reason::TargetIsCalledNumber);
        }
        if list.left_out > 0 {
            reasons.push(Reason::ChainCut { left_out: list.left_out });
        }
        let message = self.message(reasons);
        let targets = list.targets;
        match endpoint {
            Some(Endpoint::Webhook(webhook)) => Answer::Ask { webhook, default, targets, message },
            _ if targets.is_empty() => Answer::Say { message },
            _ => Answer::Connect { targets, message },
        }
    }

    fn message(&self, reasons: &mut Reasons<'t>) -> Message<'t> {
        let of_level = self.levels.iter().find_map(|(origin, fallback)| {
            fallback.and_then(|fallback| fallback.message.as_deref()).map(|text| (*origin, text))
        });
        let (origin, text) = of_level.unwrap_or((Origin::Default, MESSAGE_DEFAULT));
        reasons.push(Reason::Message { origin });
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
