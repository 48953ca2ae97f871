//! A decision in words: what the API, the CLI and the call record show. It decides nothing; it writes out what
//! [`decide`](super::decide()) found.

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};

use crate::agent::{Content, Language};
use crate::caller::{Caller, Verdict};
use crate::endpoint::{EndpointKind, Target};
use crate::environment::Environment;
use crate::error::{Code, shown};
use crate::hours::Zone;
use crate::id::{AgentId, NumberId, VariantId, VersionId};
use crate::route::decide::{Answer, Answering, Decision, IncomingCall, Message, Tried};
use crate::route::reason::{Origin, Reason, Rule};
use crate::route::row::RunningRow;

/// A decision in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// What is done with the call.
    pub decision: Ended,
    /// One step for each rule that had a say.
    pub steps: Vec<Step>,
}

/// One step on the way to a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which rule.
    pub rule: Rule,
    /// What came out, in a word for programs.
    pub outcome: String,
    /// Why, in a sentence for people.
    pub because: String,
}

/// What is done with the call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// What, in a word.
    pub action: Action,
    /// The whole of it in a sentence.
    pub summary: String,
    /// When it was decided.
    pub at: Timestamp,
    /// The called number's id, if it is ours.
    pub number_id: Option<NumberId>,
    /// The agent that answers.
    pub agent_id: Option<AgentId>,
    /// In which environment.
    pub environment: Option<Environment>,
    /// The version that runs there.
    pub version_id: Option<VersionId>,
    /// Its number; 0 is a draft that was never published.
    pub version: Option<u32>,
    /// The variant that answers.
    pub variant_id: Option<VariantId>,
    /// Where the team's server is asked, for [`Action::Ask`].
    pub webhook_url: Option<String>,
    /// What is tried, in order.
    pub targets: Vec<ExplainedTarget>,
    /// What is spoken at the end.
    pub message: Option<String>,
    /// What it is spoken in, if anything says so.
    pub language: Option<Language>,
    /// Why the call is refused, for [`Action::Reject`]: a code of the error table.
    pub code: Option<String>,
}

crate::words! {
    /// What is done with a call.
    Action, "action" {
        /// It is connected.
        Connect = "connect",
        /// The team's server is asked.
        Ask = "ask",
        /// A message is spoken.
        Say = "say",
        /// It is refused.
        Reject = "reject",
    }
}

/// One target of a call. Never with credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedTarget {
    /// What kind of target.
    #[serde(rename = "type")]
    pub kind: EndpointKind,
    /// Its address.
    pub address: String,
    /// How long it may ring; a stream does not ring.
    pub ring_timeout_s: Option<u16>,
    /// Where it comes from.
    pub origin: Origin,
}

impl Explained {
    /// Writes a decision out.
    pub fn new(call: &IncomingCall, now: Timestamp, decision: &Decision<'_>) -> Explained {
        let steps = decision
            .reasons
            .iter()
            .map(|reason| Step {
                rule: reason.rule(),
                outcome: reason.outcome().to_owned(),
                because: because(&reason, call, decision),
            })
            .collect();
        Explained { decision: ended(call, now, decision), steps }
    }
}

fn ended(call: &IncomingCall, now: Timestamp, decision: &Decision<'_>) -> Ended {
    let answering = decision.answering.as_ref();
    let mut ended = Ended {
        action: Action::Reject,
        summary: String::new(),
        at: now,
        number_id: decision.number.map(|number| number.number_id),
        agent_id: answering.map(|answering| answering.agent_id),
        environment: answering.map(|answering| answering.environment),
        version_id: answering.map(|answering| answering.running.version_id),
        version: answering.map(|answering| answering.running.version),
        variant_id: answering.and_then(Answering::variant).map(|variant| variant.id),
        webhook_url: None,
        targets: Vec::new(),
        message: None,
        language: None,
        code: None,
    };
    let said = |ended: &mut Ended, message: &Message<'_>| {
        ended.message = Some(message.text.to_owned());
        ended.language = message.language.cloned();
    };
    match &decision.answer {
        Answer::Connect { targets, message } => {
            ended.action = Action::Connect;
            ended.targets = explained(targets);
            said(&mut ended, message);
            let first = &ended.targets[0];
            let after = match targets.len() {
                1 => "; if that fails, a message is spoken".to_owned(),
                2 => "; if that fails, 1 other target follows, then a message".to_owned(),
                more => format!("; if that fails, {} other targets follow, then a message", more - 1),
            };
            let who = match (answering, targets[0].origin.is_the_agent()) {
                (Some(answering), true) => format!("the agent {}", shown(&answering.running.agent_name)),
                _ => origin_words(targets[0].origin).to_owned(),
            };
            ended.summary =
                format!("the call is connected to {who}, {} {}{after}", first.kind, first.address);
        }
        Answer::Ask { webhook, default, targets, message } => {
            ended.action = Action::Ask;
            ended.webhook_url = Some(webhook.webhook_url.as_str().to_owned());
            ended.targets = explained(default.iter().chain(targets));
            said(&mut ended, message);
            ended.summary = format!(
                "the team's server at {} is asked; if it gives no usable answer, {}",
                webhook.webhook_url,
                match ended.targets.len() {
                    0 => "a message is spoken".to_owned(),
                    1 => "1 target follows, then a message".to_owned(),
                    more => format!("{more} targets follow, then a message"),
                }
            );
        }
        Answer::Say { message } => {
            ended.action = Action::Say;
            said(&mut ended, message);
            ended.summary =
                format!("a message is spoken, {}, and the call ends", origin_words(message.origin));
        }
        Answer::Reject { cause } => {
            ended.code = Some(cause.code().as_str().to_owned());
            ended.summary = match cause.code() {
                Code::UnknownNumber => format!("the call is refused: {} is not one of our numbers", call.to),
                _ => {
                    format!("the call is refused: {} does not answer {}", call.to, caller_words(call.caller))
                }
            };
        }
    }
    ended
}

fn explained<'a, 't: 'a>(targets: impl IntoIterator<Item = &'a Tried<'t>>) -> Vec<ExplainedTarget> {
    targets
        .into_iter()
        .map(|tried| ExplainedTarget {
            kind: tried.dial.target.kind(),
            address: tried.dial.target.to_string(),
            ring_timeout_s: match tried.dial.target {
                Target::Stream { .. } => None,
                Target::Sip { .. } | Target::Phone { .. } => Some(tried.dial.ring_timeout_s),
            },
            origin: tried.origin,
        })
        .collect()
}

fn because(reason: &Reason<'_>, call: &IncomingCall, decision: &Decision<'_>) -> String {
    let to = call.to;
    let caller = || caller_words(call.caller);
    match *reason {
        Reason::NumberFound => match decision.number {
            Some(number) => format!("{to} is the number {}", number.number_id),
            None => format!("{to} is ours"),
        },
        Reason::NumberUnknown => {
            format!(
                "{to} is not one of our numbers; check at the carrier which numbers send their calls here"
            )
        }
        Reason::NoCallerRules => "the number has no rules about callers, so it answers everybody".to_owned(),
        Reason::Caller(verdict) => match verdict {
            Verdict::Allowed => format!("no rule of the number speaks against {}", caller()),
            Verdict::AllowedByNumber => format!("{} stands in the number's allow_numbers", caller()),
            Verdict::BlockedByNumber => format!("{} stands in the number's block_numbers", caller()),
            Verdict::BlockedByCountry(country) => {
                format!("{} calls from {country}, which stands in the number's block_countries", caller())
            }
            Verdict::NotInAllowedCountries => format!(
                "the number answers only the countries in its allow_countries, and {} is from none of them",
                caller()
            ),
            Verdict::BlockedAnonymous => {
                "the caller withholds the number, and this number's block_anonymous is on".to_owned()
            }
        },
        Reason::NoHours => "the number has no hours, so it is always open".to_owned(),
        Reason::Open { local, zone } => {
            format!("{}, which is within the number's hours", clock_words(local, zone))
        }
        Reason::ClosedByWeek { local, zone } => {
            format!("{}, which is outside the number's hours", clock_words(local, zone))
        }
        Reason::ClosedByHoliday { local, zone, holiday } => format!(
            "{}, and the number is closed on the holiday {} of {}",
            clock_words(local, zone),
            shown(&holiday.name),
            holiday.date
        ),
        Reason::Unassigned => {
            "the number is assigned to no agent; assign one with PUT /v1/numbers/{id}/assignment".to_owned()
        }
        Reason::Outage { environment, since } => format!(
            "outage mode of {} is on since {since:.0}, so the agent is not asked and the fallbacks take the call",
            environment.title()
        ),
        Reason::NoOutage { environment } => format!("outage mode of {} is off", environment.title()),
        Reason::NothingRuns { assignment } => format!(
            "the number is assigned to the agent {}, which runs nothing in {}; publish it there",
            assignment.agent_id,
            assignment.environment.title()
        ),
        Reason::Runs { running: RunningRow { agent_name, version: 0, .. }, environment } => format!(
            "the number is assigned to the agent {}, taken as its draft would run in {}",
            shown(agent_name),
            environment.title()
        ),
        Reason::Runs { running: RunningRow { agent_name, version, .. }, environment } => format!(
            "the number is assigned to the agent {}, which runs version {version} in {}",
            shown(agent_name),
            environment.title()
        ),
        Reason::Variant { content, place } => {
            format!("the number is assigned to the variant {}", variant_words(content, place))
        }
        Reason::VariantDefault { content } => format!(
            "the number is assigned to no variant, so the default variant {} answers",
            variant_words(content, 0)
        ),
        Reason::VariantGone { gone, content } if content.variants.is_empty() => format!(
            "the number's variant {gone} is not in the version that runs, which has no variants; the agent answers without one"
        ),
        Reason::VariantGone { gone, content } => format!(
            "the number's variant {gone} is not in the version that runs, so the default variant {} answers",
            variant_words(content, 0)
        ),
        Reason::NoVariants => "the agent has no variants".to_owned(),
        Reason::Endpoint { kind, of_variant } => format!(
            "{} is reached by {}",
            if of_variant { "the variant has an endpoint of its own, which" } else { "the agent" },
            kind_words(kind)
        ),
        Reason::NoEndpoint => {
            "the version that runs has no endpoint for this call, so the fallbacks take it".to_owned()
        }
        Reason::Fallback { origin, count: 0 } => {
            format!("{} adds no target that is not on the list already", origin_words(origin))
        }
        Reason::Fallback { origin, count } => {
            format!("{} adds {}", origin_words(origin), counted(usize::from(count), "target"))
        }
        Reason::TargetIsCalledNumber => {
            format!("a target is {to} itself; it was left out, since the call would go in a circle")
        }
        Reason::ChainCut { left_out } => format!(
            "a call tries at most {} targets, so {} at the end of the list were left out",
            crate::fallback::CHAIN_TARGETS_MAX,
            counted(usize::from(left_out), "target")
        ),
        Reason::Message { origin: Origin::Default } => {
            "no fallback has a message, so Switchboard's own is spoken if nobody takes the call".to_owned()
        }
        Reason::Message { origin } => {
            format!("the message of {} is spoken if nobody takes the call", origin_words(origin))
        }
    }
}

fn variant_words(content: &Content, place: u32) -> String {
    content.variants.get(place as usize).map_or_else(String::new, |variant| shown(&variant.name))
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn kind_words(kind: EndpointKind) -> &'static str {
    match kind {
        EndpointKind::Sip => "SIP",
        EndpointKind::Stream => "a media stream",
        EndpointKind::Phone => "telephone",
        EndpointKind::Webhook => "asking the team's server for each call",
    }
}

fn origin_words(origin: Origin) -> &'static str {
    match origin {
        Origin::Endpoint => "the agent's endpoint",
        Origin::WebhookAnswer => "the team's server",
        Origin::WebhookDefault => "the webhook endpoint's default",
        Origin::Closed => "what the number's hours set for when it is closed",
        Origin::Number => "the number's fallback",
        Origin::Agent => "the agent's fallback",
        Origin::Workspace => "the workspace's fallback",
        Origin::Default => "Switchboard's own",
    }
}

fn caller_words(caller: Caller) -> String {
    match caller {
        Caller::Number(number) => number.to_string(),
        Caller::Anonymous => "a caller who withholds the number".to_owned(),
        Caller::Other => "a caller without a telephone number".to_owned(),
    }
}

fn clock_words(local: DateTime, zone: Option<&Zone>) -> String {
    let zone = zone.map_or("UTC", Zone::as_str);
    let weekday = crate::hours::Day::of(local.weekday());
    let (hour, minute) = (local.hour(), local.minute());
    format!("it is {} {} {hour:02}:{minute:02} in {zone}", capitalised(weekday.as_str()), local.date())
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
