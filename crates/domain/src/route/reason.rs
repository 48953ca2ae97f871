//! Reasons: what each rule found about one call. While deciding, each is a note of four bytes that says which rule had a say;
//! what it is about stands in the route. So reasons cost next to nothing when nobody reads them. Reading makes a [`Reason`] of
//! each note, which points into the table; `explain` writes it out.

use arrayvec::ArrayVec;
use jiff::Timestamp;
use jiff::civil::DateTime;

use crate::agent::Content;
use crate::assignment::Assignment;
use crate::caller::Verdict;
use crate::endpoint::EndpointKind;
use crate::environment::Environment;
use crate::hours::{Holiday, Opening, Zone};
use crate::id::VariantId;
use crate::route::row::RunningRow;
use crate::route::table::{Prepared, Route, Why};

/// The most reasons of one decision: more than there are rules.
pub const REASONS_MAX: usize = 16;

/// The reasons of one decision, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct Reasons<'t> {
    /// What they are about, where the number is ours.
    route: Option<&'t Route>,
    /// The local time, where the number has hours.
    local: Option<DateTime>,
    /// What came after the number was found.
    notes: ArrayVec<Note, REASONS_MAX>,
}

/// That a rule had a say, and what the route alone does not tell about it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Note {
    Caller(Option<Verdict>),
    Hours,
    Outage,
    Assignment,
    Variant,
    Endpoint,
    Fallback { origin: Origin, count: u8 },
    TargetIsCalledNumber,
    ChainCut { left_out: u16 },
    Message { origin: Origin },
}

const _: () = assert!(size_of::<Note>() == 4, "each decision carries all of its notes");

impl<'t> Reasons<'t> {
    /// Notes what number it is about.
    pub(super) fn set_route(&mut self, route: &'t Route) {
        self.route = Some(route);
    }

    #[inline]
    pub(super) fn push(&mut self, note: Note) {
        let kept = self.notes.try_push(note).is_ok();
        debug_assert!(kept, "a decision has at most {REASONS_MAX} reasons");
    }

    /// Notes what the hours are asked with.
    pub(super) fn set_local(&mut self, local: DateTime) {
        self.local = Some(local);
    }

    /// The reasons, in order.
    pub fn iter(&self) -> impl Iterator<Item = Reason<'t>> {
        let number = if self.route.is_some() { Reason::NumberFound } else { Reason::NumberUnknown };
        let others = self
            .route
            .into_iter()
            .flat_map(|route| self.notes.iter().map(|note| note.reason(route, self.local)));
        std::iter::once(number).chain(others)
    }
}

impl Note {
    fn reason(self, route: &Route, local: Option<DateTime>) -> Reason<'_> {
        let prepared = &route.prepared;
        match self {
            Note::Caller(None) => Reason::NoCallerRules,
            Note::Caller(Some(verdict)) => Reason::Caller(verdict),
            Note::Hours => hours_reason(route, local),
            Note::Outage | Note::Assignment | Note::Variant => match &route.key.assignment {
                Some(assignment) => assignment_reason(self, prepared, assignment),
                None => Reason::Unassigned,
            },
            Note::Endpoint => match prepared.endpoint_kind {
                Some(kind) => Reason::Endpoint { kind, of_variant: prepared.endpoint_of_variant },
                None => Reason::NoEndpoint,
            },
            Note::Fallback { origin, count } => Reason::Fallback { origin, count },
            Note::TargetIsCalledNumber => Reason::TargetIsCalledNumber,
            Note::ChainCut { left_out } => Reason::ChainCut { left_out },
            Note::Message { origin } => Reason::Message { origin },
        }
    }
}

fn hours_reason(route: &Route, local: Option<DateTime>) -> Reason<'_> {
    let Some((hours, local)) = route.own(|own| own.hours.as_ref()).zip(local) else { return Reason::NoHours };
    let (zone, _) = route.zone();
    match hours.opening(local) {
        Opening::Open => Reason::Open { local, zone },
        Opening::ClosedByWeek => Reason::ClosedByWeek { local, zone },
        Opening::ClosedByHoliday(place) => {
            Reason::ClosedByHoliday { local, zone, holiday: &hours.holidays[place] }
        }
    }
}

fn assignment_reason<'t>(note: Note, prepared: &'t Prepared, assignment: &'t Assignment) -> Reason<'t> {
    let environment = assignment.environment;
    if matches!(note, Note::Outage) {
        let settings = prepared.workspace.as_ref().map(|known| &known.settings);
        return match settings.and_then(|settings| settings.outage.since(environment)) {
            Some(since) => Reason::Outage { environment, since },
            None => Reason::NoOutage { environment },
        };
    }
    let (Some(running), Some(content)) = (prepared.running.as_deref(), prepared.content.as_deref()) else {
        return Reason::NothingRuns { assignment };
    };
    if matches!(note, Note::Assignment) {
        return Reason::Runs { running, environment };
    }
    match (prepared.variant_why, prepared.variant, &assignment.variant_id) {
        (Why::Assigned, Some(place), _) => Reason::Variant { content, place },
        (Why::Gone, _, Some(gone)) => Reason::VariantGone { gone, content },
        (Why::Default, ..) => Reason::VariantDefault { content },
        (Why::NoVariants | Why::Assigned | Why::Gone, ..) => Reason::NoVariants,
    }
}

crate::words! {
    /// The rules, in the order in which they are asked.
    Rule, "rule" {
        /// Is the called number ours?
        Number = "number",
        /// May this caller call it?
        Caller = "caller",
        /// Is it open?
        Hours = "hours",
        /// Who is assigned, and what runs there?
        Assignment = "assignment",
        /// Is the environment switched to its fallbacks?
        Outage = "outage",
        /// As which variant does the agent answer?
        Variant = "variant",
        /// How is it reached?
        Endpoint = "endpoint",
        /// What follows if that fails?
        Fallback = "fallback",
        /// What is said at the end?
        Message = "message",
    }
}

crate::words! {
    /// Where a target or a message comes from.
    Origin, "origin" {
        /// The agent's own endpoint, or its variant's.
        Endpoint = "endpoint",
        /// What the team's server answered for this call.
        WebhookAnswer = "webhook_answer",
        /// What the webhook endpoint has for a server that gives no usable answer.
        WebhookDefault = "webhook_default",
        /// What the number's hours have for when it is closed.
        Closed = "closed",
        /// The number's fallback.
        Number = "number",
        /// The agent's fallback.
        Agent = "agent",
        /// The workspace's fallback.
        Workspace = "workspace",
        /// What is said where nobody has set anything.
        Default = "default",
    }
}

impl Origin {
    /// Whether a target from there is the agent itself.
    pub const fn is_the_agent(self) -> bool {
        matches!(self, Origin::Endpoint | Origin::WebhookAnswer | Origin::WebhookDefault)
    }
}

/// What one rule found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason<'t> {
    /// The number is ours.
    NumberFound,
    /// The number is not ours.
    NumberUnknown,
    /// The number has no rules about callers.
    NoCallerRules,
    /// What the rules say of this caller.
    Caller(Verdict),
    /// The number has no hours.
    NoHours,
    /// Within the hours.
    Open {
        /// The local time.
        local: DateTime,
        /// Where; UTC if unknown.
        zone: Option<&'t Zone>,
    },
    /// Outside the hours of the day.
    ClosedByWeek {
        /// The local time.
        local: DateTime,
        /// Where; UTC if unknown.
        zone: Option<&'t Zone>,
    },
    /// A holiday.
    ClosedByHoliday {
        /// The local time.
        local: DateTime,
        /// Where; UTC if unknown.
        zone: Option<&'t Zone>,
        /// Which.
        holiday: &'t Holiday,
    },
    /// Nobody is assigned.
    Unassigned,
    /// The environment's calls go straight to the fallbacks.
    Outage {
        /// Which environment.
        environment: Environment,
        /// Since when.
        since: Timestamp,
    },
    /// Outage mode is off.
    NoOutage {
        /// Which environment.
        environment: Environment,
    },
    /// The assigned agent runs nothing there.
    NothingRuns {
        /// The agent, and where.
        assignment: &'t Assignment,
    },
    /// The assigned agent runs a version there.
    Runs {
        /// The version and the agent's name.
        running: &'t RunningRow,
        /// Where.
        environment: Environment,
    },
    /// The variant that the number is assigned to.
    Variant {
        /// The version that has it.
        content: &'t Content,
        /// Its place there.
        place: u32,
    },
    /// The number is assigned to no variant, so the default one answers.
    VariantDefault {
        /// The version that has it.
        content: &'t Content,
    },
    /// The number's variant is not in the running version any more; the default one answers, if there is one.
    VariantGone {
        /// Which.
        gone: &'t VariantId,
        /// The version that has it no more.
        content: &'t Content,
    },
    /// The agent has no variants.
    NoVariants,
    /// How the agent is reached.
    Endpoint {
        /// Which kind.
        kind: EndpointKind,
        /// Whether it is the variant's own.
        of_variant: bool,
    },
    /// The version has no endpoint for this variant.
    NoEndpoint,
    /// A level's fallback.
    Fallback {
        /// Whose.
        origin: Origin,
        /// How many targets it added.
        count: u8,
    },
    /// A target that is the called number itself was left out.
    TargetIsCalledNumber,
    /// The list was cut to its longest.
    ChainCut {
        /// How many targets do not get a turn.
        left_out: u16,
    },
    /// Whose message is spoken at the end.
    Message {
        /// Whose.
        origin: Origin,
    },
}

impl Reason<'_> {
    /// The rule that found it.
    pub const fn rule(&self) -> Rule {
        match self {
            Reason::NumberFound | Reason::NumberUnknown => Rule::Number,
            Reason::NoCallerRules | Reason::Caller(_) => Rule::Caller,
            Reason::NoHours
            | Reason::Open { .. }
            | Reason::ClosedByWeek { .. }
            | Reason::ClosedByHoliday { .. } => Rule::Hours,
            Reason::Unassigned | Reason::NothingRuns { .. } | Reason::Runs { .. } => Rule::Assignment,
            Reason::Outage { .. } | Reason::NoOutage { .. } => Rule::Outage,
            Reason::Variant { .. }
            | Reason::VariantDefault { .. }
            | Reason::VariantGone { .. }
            | Reason::NoVariants => Rule::Variant,
            Reason::Endpoint { .. } | Reason::NoEndpoint => Rule::Endpoint,
            Reason::Fallback { .. } | Reason::TargetIsCalledNumber | Reason::ChainCut { .. } => {
                Rule::Fallback
            }
            Reason::Message { .. } => Rule::Message,
        }
    }

    /// What came out, in a word for programs.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Reason::NumberFound => "found",
            Reason::NumberUnknown => "unknown",
            Reason::NoCallerRules => "no_rules",
            Reason::Caller(verdict) => match verdict {
                Verdict::Allowed | Verdict::AllowedByNumber => "allowed",
                Verdict::BlockedByNumber
                | Verdict::BlockedByCountry(_)
                | Verdict::NotInAllowedCountries
                | Verdict::BlockedAnonymous => "blocked",
            },
            Reason::NoHours => "no_hours",
            Reason::Open { .. } => "open",
            Reason::ClosedByWeek { .. } => "closed",
            Reason::ClosedByHoliday { .. } => "holiday",
            Reason::Unassigned => "unassigned",
            Reason::Outage { .. } => "on",
            Reason::NoOutage { .. } => "off",
            Reason::NothingRuns { .. } => "not_published",
            Reason::Runs { .. } => "runs",
            Reason::Variant { .. } => "assigned",
            Reason::VariantDefault { .. } => "default",
            Reason::VariantGone { .. } => "gone",
            Reason::NoVariants => "no_variants",
            Reason::Endpoint { kind, .. } => kind.as_str(),
            Reason::NoEndpoint => "missing",
            Reason::Fallback { count: 0, .. } => "nothing_added",
            Reason::Fallback { .. } => "added",
            Reason::TargetIsCalledNumber => "circle",
            Reason::ChainCut { .. } => "cut",
            Reason::Message { origin } => origin.as_str(),
        }
    }
}
