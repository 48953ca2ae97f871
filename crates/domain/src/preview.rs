//! Previews: what a deployment would change for each number, before it is made. Both sides are decided by [`crate::route`], over
//! two small tables that differ only in what the agent runs.
//!
//! A number's hours, its caller rules and outage mode are left aside: they stay as they are, and would hide what changes
//! while they keep calls from the agent.

use jiff::Timestamp;
use serde::Serialize;

use crate::agent::{Language, Parameters};
use crate::call::Ingress;
use crate::caller::Caller;
use crate::endpoint::{Dial, Webhook};
use crate::environment::Environment;
use crate::id::{AgentId, NumberId, VariantId, WorkspaceId};
use crate::number::E164;
use crate::route::row::{NumberRow, Row, RunningRow, WorkspaceRow};
use crate::route::{
    Action, Answer, Answering, Decision, Explained, ExplainedTarget, IncomingCall, RouteTable, decide,
};
use crate::workspace::OutageMode;

/// What a call to a number does, as far as the agent's version decides it. Versions themselves are left out: they always differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outlook {
    /// What is done, in a word.
    pub action: Action,
    /// The whole of it in a sentence.
    pub summary: String,
    /// The variant that answers.
    pub variant_id: Option<VariantId>,
    /// Its name.
    pub variant: Option<String>,
    /// Where the team's server is asked.
    pub webhook_url: Option<String>,
    /// What is tried, in order.
    pub targets: Vec<ExplainedTarget>,
    /// What is spoken at the end.
    pub message: Option<String>,
    /// What it is spoken in, if anything says so.
    pub language: Option<Language>,
    /// What travels with the call.
    pub parameters: Parameters,
    /// Credentials count when sides are compared, and are never shown.
    #[serde(skip)]
    secrets: (Vec<Dial>, Option<Webhook>),
}

impl Outlook {
    fn new(call: &IncomingCall, now: Timestamp, decision: &Decision<'_>) -> Outlook {
        let ended = Explained::new(call, now, decision).decision;
        let answering = decision.answering.as_ref();
        let variant = answering.and_then(Answering::variant);
        let parameters = answering.map(|answering| {
            let own = &answering.content.draft.call_parameters;
            variant.map_or_else(|| own.clone(), |variant| own.overlaid(&variant.attributes))
        });
        let secrets = match &decision.answer {
            Answer::Connect { targets, .. } => {
                (targets.iter().map(|tried| tried.dial.clone()).collect(), None)
            }
            Answer::Ask { webhook, default, targets, .. } => {
                let dials = default.iter().chain(targets).map(|tried| tried.dial.clone()).collect();
                (dials, Some((*webhook).clone()))
            }
            Answer::Say { .. } | Answer::Reject { .. } => (Vec::new(), None),
        };
        Outlook {
            action: ended.action,
            summary: ended.summary,
            variant_id: variant.map(|variant| variant.id),
            variant: variant.map(|variant| variant.name.clone()),
            webhook_url: ended.webhook_url,
            targets: ended.targets,
            message: ended.message,
            language: ended.language,
            parameters: parameters.unwrap_or_default(),
            secrets,
        }
    }
}

/// A number whose calls a deployment would treat otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preview {
    /// The number.
    pub number_id: NumberId,
    /// Its digits.
    pub phone_number: E164,
    /// What a call does now.
    pub before: Outlook,
    /// What it would do.
    pub after: Outlook,
}

/// A deployment that might be made.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Of which agent.
    pub agent_id: AgentId,
    /// Where.
    pub environment: Environment,
    /// What runs there now.
    pub before: Option<RunningRow>,
    /// What would run.
    pub after: RunningRow,
}

/// The numbers whose route a deployment would change, in the order given. `numbers` are those that the agent answers there.
pub fn previews(
    planned: &Planned,
    workspace: (WorkspaceId, WorkspaceRow),
    numbers: Vec<((Ingress, E164), NumberRow)>,
    now: Timestamp,
) -> Vec<Preview> {
    let order: Vec<((Ingress, E164), NumberId)> =
        numbers.iter().map(|(key, row)| (*key, row.number_id)).collect();
    let (id, mut row) = workspace;
    row.settings.outage = OutageMode::default();
    let numbers = numbers.into_iter().map(|(key, mut row)| {
        if let Some(own) = &mut row.own {
            own.hours = None;
            own.inbound = None;
        }
        Row::Number(key, Some(row))
    });
    let place = (planned.agent_id, planned.environment);
    let rows = numbers.chain([Row::Workspace(id, Some(row)), Row::Running(place, planned.before.clone())]);
    let before = RouteTable::build(rows, 1);
    let after = before
        .applied([Row::Running(place, Some(planned.after.clone()))], 2)
        .expect("the second version is higher than the first");
    order
        .into_iter()
        .filter_map(|((ingress, to), number_id)| {
            let call = IncomingCall { ingress, to, caller: Caller::Anonymous };
            let side = |table| Outlook::new(&call, now, &decide(table, &call, now));
            let (before, after) = (side(&before), side(&after));
            (before != after).then_some(Preview { number_id, phone_number: to, before, after })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::agent::{Content, Draft, Variant};
    use crate::assignment::Assignment;
    use crate::endpoint::{Endpoint, SecretRef, SipAuth, SipUri, Target};
    use crate::fallback::Fallback;
    use crate::hours::Hours;
    use crate::id::{SecretId, VersionId};
    use crate::route::row::{CallbackToken, NumberSettings};
    use crate::workspace::WorkspaceSettings;

    const AGENT: AgentId = AgentId::from_bits(1);
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn sip(user: &str, secret: u128) -> Endpoint {
        let auth = SipAuth {
            username: "us".to_owned(),
            password: SecretRef { id: SecretId::from_bits(secret), last4: String::new() },
        };
        let uri = SipUri::parse(&format!("sip:{user}@agents.example")).unwrap();
        Dial { target: Target::Sip { uri, auth: Some(auth) }, ring_timeout_s: 20 }.into()
    }

    fn variant(bits: u128, name: &str, site: &str) -> Variant {
        let attributes = [("site".to_owned(), site.to_owned())].into_iter().collect();
        Variant {
            id: VariantId::from_bits(bits),
            name: name.to_owned(),
            attributes: Parameters::check(attributes).unwrap(),
            endpoint: None,
        }
    }

    fn content(endpoint: Endpoint, variants: Vec<Variant>) -> Content {
        Content { draft: Draft { endpoint: Some(endpoint), ..Draft::default() }, variants }
    }

    fn number(
        place: u64,
        variant: Option<u128>,
        own: Option<NumberSettings>,
    ) -> ((Ingress, E164), NumberRow) {
        let row = NumberRow {
            number_id: NumberId::from_bits(place.into()),
            workspace_id: WorkspaceId::from_bits(1),
            callback_token: CallbackToken([0; 16]),
            assignment: Some(Assignment {
                agent_id: AGENT,
                environment: Environment::Live,
                variant_id: variant.map(VariantId::from_bits),
            }),
            own: own.map(Box::new),
        };
        ((Ingress::STORE, E164::from_digits(14_385_550_100 + place).unwrap()), row)
    }

    fn changed(
        before: Option<Content>,
        after: Content,
        numbers: Vec<((Ingress, E164), NumberRow)>,
    ) -> Vec<String> {
        let running = |version, content| RunningRow {
            version_id: VersionId::from_bits(version),
            version: u32::try_from(version).unwrap(),
            agent_name: Arc::from("Support"),
            content: Arc::new(content),
        };
        let planned = Planned {
            agent_id: AGENT,
            environment: Environment::Live,
            before: before.map(|content| running(1, content)),
            after: running(2, after),
        };
        let mut settings = WorkspaceSettings::default();
        settings.outage = settings.outage.switched(Environment::Live, true, NOW);
        previews(&planned, (WorkspaceId::from_bits(1), WorkspaceRow { settings }), numbers, NOW)
            .into_iter()
            .map(|preview| {
                let side = |outlook: &Outlook| {
                    let to: Vec<&str> =
                        outlook.targets.iter().map(|target| target.address.as_str()).collect();
                    format!(
                        "{} {} {}",
                        outlook.action,
                        outlook.variant.as_deref().unwrap_or("–"),
                        to.join(",")
                    )
                };
                format!("{}: {} → {}", preview.phone_number, side(&preview.before), side(&preview.after))
            })
            .collect()
    }

    #[test]
    fn only_numbers_whose_calls_change_are_listed() {
        let (paris, lyon) = (variant(1, "Paris", "75"), variant(2, "Lyon", "69"));
        let lyon_moved = Variant { endpoint: Some(sip("lyon", 1)), ..lyon.clone() };
        assert_eq!(
            changed(
                Some(content(sip("a", 1), vec![paris.clone(), lyon.clone()])),
                content(sip("a", 1), vec![paris.clone(), lyon_moved]),
                vec![number(1, Some(1), None), number(2, Some(2), None), number(3, None, None)],
            ),
            ["+14385550102: connect Lyon sip:a@agents.example → connect Lyon sip:lyon@agents.example"]
        );
        assert_eq!(
            changed(
                Some(content(sip("a", 1), vec![paris.clone(), lyon])),
                content(sip("a", 1), vec![paris]),
                vec![number(1, Some(1), None), number(2, Some(2), None)],
            ),
            ["+14385550102: connect Lyon sip:a@agents.example → connect Paris sip:a@agents.example"],
            "the default answers where a variant is gone"
        );
    }

    #[test]
    fn the_first_deployment_changes_all_of_them() {
        let own = NumberSettings {
            fallback: Some(Fallback { targets: vec![], message: Some("Soon.".to_owned()) }),
            ..NumberSettings::default()
        };
        assert_eq!(
            changed(
                None,
                content(sip("a", 1), vec![]),
                vec![number(1, None, None), number(2, None, Some(own))]
            ),
            [
                "+14385550101: say –  → connect – sip:a@agents.example",
                "+14385550102: say –  → connect – sip:a@agents.example"
            ]
        );
    }

    #[test]
    fn passwords_parameters_and_languages_count_and_versions_do_not() {
        let old = content(sip("a", 1), vec![]);
        let one = || vec![number(1, None, None)];
        assert!(changed(Some(old.clone()), old.clone(), one()).is_empty());
        assert_eq!(
            changed(Some(old.clone()), content(sip("a", 2), vec![]), one()).len(),
            1,
            "another password"
        );
        let mut new = old.clone();
        new.draft.language = Some(Language::parse("fr").unwrap());
        assert_eq!(changed(Some(old.clone()), new, one()).len(), 1, "another language");
        let mut new = old.clone();
        new.draft.call_parameters = Parameters::check([("a".to_owned(), "b".to_owned())].into()).unwrap();
        assert_eq!(changed(Some(old), new, one()).len(), 1, "other parameters");
    }

    #[test]
    fn a_closed_number_shows_what_changes_once_it_opens() {
        let own = NumberSettings { hours: Some(Hours::default()), ..NumberSettings::default() };
        let (old, new) = (content(sip("a", 1), vec![]), content(sip("b", 1), vec![]));
        assert_eq!(changed(Some(old), new, vec![number(1, None, Some(own))]).len(), 1);
    }
}
