//! A call comes in, and what follows when a target has ended. Nothing is remembered in between: the address that Twilio asks
//! next says which call it was, when it was decided and which target has just ended, and the signature covers it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::assignment::Assignment;
use domain::call::{CallStatus, Ingress, Outcome};
use domain::caller::Caller;
use domain::endpoint::{Dial, Target, Webhook};
use domain::error::{Code, Refusal};
use domain::fallback::MESSAGE_DEFAULT;
use domain::id::{CallId, WorkspaceId};
use domain::number::E164;
use domain::route::{
    Answer, Answering, Decision, Found, IncomingCall, Message, Origin, RouteTable, Targets, decide,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::warn;

use super::status::{detail, entry};
use super::{AskLabels, Callback, Told, Twilio, called, token_fits};
use crate::actions::secrets::{SIP_PASSWORD, WEBHOOK_SECRET};
use crate::record::{Entry, Note, Route};
use crate::routes::Routes;
use crate::twiml::{self, Document, Leg};
use crate::webhooks::ask;

/// A stream that ended sooner than this while the caller still waits never came about: Twilio tells no other way that an agent's
/// server refused it. Where the caller has hung up meanwhile – `CallStatus` tells – nothing is held against the agent.
const STREAM_AT_ONCE: Duration = Duration::from_millis(1_500);
/// What is kept of a report that a target has ended.
const KEPT: &[&str] = &[
    "CallStatus",
    "DialCallStatus",
    "DialCallDuration",
    "DialBridged",
    "DialSipResponseCode",
    "DialCallSid",
    "StreamSid",
    "StreamError",
    "ErrorCode",
];

/// One call on its way through our answers.
struct Call<'a> {
    twilio: &'a Twilio,
    token: &'a str,
    id: CallId,
    to: E164,
    from: String,
    workspace: WorkspaceId,
    table: &'a RouteTable,
    /// When it was decided. The same moment counts for all that follows, so that hours do not change under a call.
    at: Timestamp,
    /// Now.
    now: Timestamp,
}

/// Answers a call that comes in.
pub(super) async fn begin(twilio: &Twilio, callback: &Arc<Callback>) -> Result<Told, Refusal> {
    let now = twilio.app.clock.now();
    let table = twilio.app.routes.current();
    let Some((to, found)) = called(callback, &table) else { return not_ours(twilio, callback, now) };
    if !token_fits(callback, &found) {
        return Err(Refusal::new(Code::SignatureInvalid, "the address is not that of the called number"));
    }
    let id = twilio.ids.id(Ingress::STORE, &callback.call_sid);
    let at = twilio.ids.first_heard(id, now);
    let from = callback.form.value("From").unwrap_or_default().into_owned();
    let incoming = IncomingCall { ingress: Ingress::STORE, to, caller: Caller::read(&from) };
    let decision = decide(&table, &incoming, at);
    let call = Call {
        twilio,
        token: &callback.token,
        id,
        to,
        from,
        workspace: found.workspace_id,
        table: &table,
        at,
        now,
    };
    let (next, asked) = match &decision.answer {
        Answer::Ask { webhook, default, .. } => {
            let (next, asked) = call.ask(&decision, webhook, found).await;
            match next {
                Some(next) => (next, Some(asked)),
                None => match default.as_ref().filter(|default| call.may_dial(&default.dial.target)) {
                    Some(default) => (Next::dial(&call, 0, default.origin, default.dial), Some(asked)),
                    None => (call.next_from(&decision, 1), Some(asked)),
                },
            }
        }
        _ => (call.next_from(&decision, 0), None),
    };
    let told = call.tell(&next, &decision);
    // A call that its rules keep from the agent is the agent's call all the same.
    let route = decision.answering.as_ref().map(route).or_else(|| found.assignment.map(assigned));
    let asked_entry = asked.clone().map(|asked| Entry {
        kind: "asked".to_owned(),
        dedupe_key: "asked".to_owned(),
        detail: asked,
        happened_at: at,
        ..entry(callback, id, Some(found), now)
    });
    // Written out in words by whoever keeps it: the caller waits for the answer alone.
    let callback = Arc::clone(callback);
    let kept = move || Entry {
        route,
        outcome: next.outcome(),
        status: Some(CallStatus::Ringing),
        decision: asked,
        kind: "decided".to_owned(),
        dedupe_key: "voice".to_owned(),
        detail: next.detail(),
        happened_at: at,
        ..entry(&callback, id, Some(found), now)
    };
    twilio.app.recorder.take(Note::Decided {
        entry: Box::new(kept),
        table: Arc::clone(&table),
        call: incoming,
        at,
    });
    if let Some(asked) = asked_entry {
        twilio.app.recorder.take(Note::Entry(Box::new(asked)));
    }
    Ok(told)
}

/// A genuine call to a number that is not ours: the carrier's settings and ours disagree. While this node may not know all
/// numbers, the carrier is left to try another way.
fn not_ours(twilio: &Twilio, callback: &Callback, now: Timestamp) -> Result<Told, Refusal> {
    let to = callback.form.value("To").unwrap_or_default();
    let to = domain::error::shown(&to);
    if twilio.app.routes.is_stale() {
        warn!(
            "a call to {to} came in, which is not among the routes, and they may be out of date; the carrier is told to try elsewhere"
        );
        return Err(Refusal::new(Code::RoutesNotReady, "this node does not know all numbers at the moment"));
    }
    warn!(
        "a call to {to} came in, which is not one of our numbers; check at the carrier which numbers send their calls here"
    );
    let id = twilio.ids.id(Ingress::STORE, &callback.call_sid);
    let kept = Entry {
        status: Some(CallStatus::Ringing),
        outcome: Some(Outcome::Rejected),
        kind: "decided".to_owned(),
        dedupe_key: "voice".to_owned(),
        detail: json!({"told": "reject", "code": Code::UnknownNumber.as_str()}),
        ..entry(callback, id, None, now)
    };
    twilio.app.recorder.take(Note::Entry(Box::new(kept)));
    Ok(Told::new("unknown_number", Document::reject()))
}

/// Answers what comes after a target has ended.
pub(super) fn go_on(twilio: &Twilio, callback: &Callback) -> Result<Told, Refusal> {
    let now = twilio.app.clock.now();
    let after = After::read(&callback.query)
        .ok_or_else(|| Refusal::new(Code::InvalidForm, "the query is not one that was made here"))?;
    let result = after.result(callback, now);
    let mut said = detail(callback, KEPT);
    said.insert("step".to_owned(), json!(after.step));
    said.insert("origin".to_owned(), json!(after.origin));
    said.insert("result".to_owned(), json!(result.as_str()));

    let table = twilio.app.routes.current();
    let called = called(callback, &table);
    let mut kept = Entry {
        kind: "target_ended".to_owned(),
        dedupe_key: format!("after {}", after.step),
        ..entry(callback, after.call, called.map(|(_, found)| found), now)
    };
    let told = match result {
        Ended::Answered => {
            kept.outcome =
                Some(if after.origin.is_the_agent() { Outcome::Answered } else { Outcome::FellBack });
            kept.answered_at = Some(after.answered_at(callback, now));
            kept.status = Some(CallStatus::InProgress);
            Told::new("ended", Document::hang_up())
        }
        Ended::CallerGone => {
            kept.outcome = Some(Outcome::Abandoned);
            Told::new("caller_gone", Document::hang_up())
        }
        Ended::NotAnswered => match called.filter(|(_, found)| token_fits(callback, found)) {
            Some((to, found)) => {
                let from = callback.form.value("From").unwrap_or_default().into_owned();
                let incoming = IncomingCall { ingress: Ingress::STORE, to, caller: Caller::read(&from) };
                let decision = decide(&table, &incoming, after.at);
                let call = Call {
                    twilio,
                    token: &callback.token,
                    id: after.call,
                    to,
                    from,
                    workspace: found.workspace_id,
                    table: &table,
                    at: after.at,
                    now,
                };
                let next = call.next_from(&decision, after.step + 1);
                kept.outcome = next.outcome();
                said.insert("next".to_owned(), next.detail());
                call.tell(&next, &decision)
            }
            // Given back while the caller was waiting.
            None => Told::new("number_gone", Document::say(MESSAGE_DEFAULT, None)),
        },
    };
    kept.detail = Value::Object(said);
    twilio.app.recorder.take(Note::Entry(Box::new(kept)));
    Ok(told)
}

/// What is done with a call now.
enum Next {
    /// One target is tried.
    Dial { step: u8, origin: Origin, leg: Leg, ring_timeout_s: u16 },
    /// A message ends it; `None` is the decision's own.
    Say(Option<String>),
    /// It is refused.
    Reject(Code),
}

impl Next {
    fn dial(call: &Call<'_>, step: u8, origin: Origin, dial: &Dial) -> Next {
        Next::Dial { step, origin, leg: call.leg(&dial.target), ring_timeout_s: dial.ring_timeout_s }
    }

    /// How the call has ended with this, if it has.
    const fn outcome(&self) -> Option<Outcome> {
        match self {
            Next::Dial { .. } => None,
            Next::Say(_) => Some(Outcome::Announced),
            Next::Reject(_) => Some(Outcome::Rejected),
        }
    }

    fn detail(&self) -> Value {
        match self {
            Next::Dial { step, origin, leg, ring_timeout_s } => {
                let (kind, address) = match leg {
                    Leg::Stream { url } => ("stream", url.to_string()),
                    Leg::Sip { uri, .. } => ("sip", uri.to_string()),
                    Leg::Phone { phone_number } => ("phone", phone_number.to_string()),
                };
                json!({"told": "connect", "step": step, "origin": origin, "type": kind, "address": address, "ring_timeout_s": ring_timeout_s})
            }
            Next::Say(_) => json!({"told": "say"}),
            Next::Reject(code) => json!({"told": "reject", "code": code.as_str()}),
        }
    }
}

impl Call<'_> {
    /// What is done from a step on: the first target there is, or the message. Where the team's server is asked, the steps
    /// behind it are those of the list; what it answered was step 0.
    fn next_from(&self, decision: &Decision<'_>, step: u8) -> Next {
        let (targets, first): (Option<&Targets<'_>>, u8) = match &decision.answer {
            Answer::Connect { targets, .. } => (Some(targets), 0),
            Answer::Ask { targets, .. } => (Some(targets), 1),
            Answer::Reject { cause } if step == 0 => return Next::Reject(cause.code()),
            // If the rules changed while the call was under way, it cannot be refused any more.
            Answer::Say { .. } | Answer::Reject { .. } => (None, 0),
        };
        let mut step = step.max(first);
        while let Some(tried) = targets.and_then(|targets| targets.get(usize::from(step - first))) {
            if self.may_dial(&tried.dial.target) {
                return Next::dial(self, step, tried.origin, tried.dial);
            }
            step += 1;
        }
        Next::Say(None)
    }

    /// Whether a target may be tried. What was saved was checked then, but the operator's rules may have changed since, and
    /// numbers that are ours today were somebody else's.
    fn may_dial(&self, target: &Target) -> bool {
        let Target::Phone { phone_number } = target else { return true };
        let home = self.table.workspace(self.workspace).and_then(|settings| settings.default_country);
        if let Err(refusal) = self.twilio.app.egress.destination_check(*phone_number, home) {
            warn!(call.id = %self.id, "a target of the call {} is left out: {refusal}", self.id);
            return false;
        }
        let Some(ours) = self.table.find(Ingress::STORE, *phone_number) else { return true };
        // Within a workspace, circles are refused when they are made; through others nobody sees them then.
        let may_circle = *phone_number == self.to || ours.workspace_id != self.workspace;
        if may_circle && !self.twilio.hops.may_go_on(&self.from, self.to, self.twilio.app.clock.monotonic()) {
            warn!(call.id = %self.id, "a target of the call {} is left out: the call goes in a circle", self.id);
            return false;
        }
        *phone_number != self.to
    }

    /// Why a target that the team's server named is not tried.
    fn refuse_answer(&self, leg: &Leg) -> Option<&'static str> {
        let Leg::Phone { phone_number } = leg else { return None };
        if self.table.find(Ingress::STORE, *phone_number).is_some() {
            return Some(
                "the answer cannot be used: it names a number of ours, so the call would come back to us",
            );
        }
        let target = Target::Phone { phone_number: *phone_number };
        (!self.may_dial(&target))
            .then_some("the answer cannot be used: destination_blocked: that number may not be called")
    }

    /// Asks the team's server. What it answered is kept with the decision, without what is secret.
    async fn ask(&self, decision: &Decision<'_>, webhook: &Webhook, found: Found) -> (Option<Next>, Value) {
        let question = self.question(decision, found);
        let secret = webhook.secret.as_ref().and_then(|secret| {
            Routes::secret_open(
                self.table,
                &self.twilio.app.keyring,
                self.workspace,
                WEBHOOK_SECRET,
                secret.id,
            )
        });
        let secret = secret.as_ref().map(secrecy::ExposeSecret::expose_secret);
        let clock = &self.twilio.app.clock;
        let began = clock.monotonic();
        let answer = ask::ask(&self.twilio.app.egress, webhook, secret, &question, self.now).await;
        let took_ms = clock.monotonic().saturating_sub(began).as_millis();
        let outcome = answer.as_ref().map_or_else(ask::Fault::as_str, |_| "answered");
        self.twilio.asks.get_or_create(&AskLabels { outcome }).inc();
        let (next, mut asked) = self.heard(answer, webhook);
        asked.insert("webhook_url".to_owned(), json!(webhook.webhook_url.as_str()));
        asked.insert("took_ms".to_owned(), json!(u64::try_from(took_ms).unwrap_or(u64::MAX)));
        (next, Value::Object(asked))
    }

    /// What the team's server's answer means for the call, and what is kept of it.
    fn heard(
        &self,
        answer: Result<ask::Answer, ask::Fault>,
        webhook: &Webhook,
    ) -> (Option<Next>, Map<String, Value>) {
        let kept = |name: &str, value: Value| Map::from_iter([(name.to_owned(), value)]);
        match answer {
            Ok(ask::Answer::Connect { leg, ring_timeout_s }) => {
                if let Some(fault) = self.refuse_answer(&leg) {
                    let url = webhook.webhook_url.as_str();
                    warn!(call.id = %self.id, "the call {} goes on without the team's server {url}: {fault}", self.id);
                    return (None, kept("fault", json!(fault)));
                }
                let next = Next::Dial { step: 0, origin: Origin::WebhookAnswer, leg, ring_timeout_s };
                let detail = next.detail();
                (Some(next), kept("answer", detail))
            }
            Ok(ask::Answer::Say(message)) => {
                let asked = kept("answer", json!({"told": "say", "message": message}));
                (Some(Next::Say(Some(message))), asked)
            }
            Ok(ask::Answer::Reject) => {
                (Some(Next::Reject(Code::CallerBlocked)), kept("answer", json!({"told": "reject"})))
            }
            Err(fault) => {
                let url = webhook.webhook_url.as_str();
                warn!(call.id = %self.id, "the call {} goes on without the team's server {url}: {fault}", self.id);
                (None, kept("fault", json!(fault.to_string())))
            }
        }
    }

    fn question(&self, decision: &Decision<'_>, found: Found) -> ask::Question {
        let answering = decision.answering.as_ref();
        ask::Question {
            call_id: self.id.to_string(),
            from: self.from.clone(),
            to: self.to.to_string(),
            number_id: found.number_id.to_string(),
            agent_id: answering.map(|answering| answering.agent_id.to_string()).unwrap_or_default(),
            environment: answering.map(|answering| answering.environment.as_str()).unwrap_or_default(),
            version: answering.map(|answering| answering.running.version).unwrap_or_default(),
            variant: answering.and_then(Answering::variant).map(|variant| variant.name.clone()),
            parameters: answering
                .map(parameters)
                .unwrap_or_default()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            at: self.at,
        }
    }

    fn tell(&self, next: &Next, decision: &Decision<'_>) -> Told {
        match next {
            Next::Dial { step, origin, leg, ring_timeout_s } => {
                let action = self.action(*step, *origin, leg);
                let values = self.values(decision.answering.as_ref());
                Told::new("connect", Document::connect(leg, *ring_timeout_s, &action, &values))
            }
            Next::Say(Some(text)) => Told::new("say", Document::say(text, language(decision))),
            Next::Say(None) => {
                let message = message(decision);
                let text = message.map_or(MESSAGE_DEFAULT, |message| message.text);
                Told::new("say", Document::say(text, language(decision)))
            }
            Next::Reject(_) => Told::new("reject", Document::reject()),
        }
    }

    /// Where Twilio asks what comes after a target.
    fn action(&self, step: u8, origin: Origin, leg: &Leg) -> String {
        let kind = if matches!(leg, Leg::Stream { .. }) { "stream" } else { "dial" };
        format!(
            "{}/callbacks/twilio/{}/voice-after?call={}&at={}&step={step}&origin={origin}&kind={kind}&since={}",
            self.twilio.base,
            self.token,
            self.id,
            self.at.as_millisecond(),
            self.now.as_millisecond()
        )
    }

    fn leg(&self, target: &Target) -> Leg {
        match target {
            Target::Stream { url } => Leg::Stream { url: url.clone() },
            Target::Phone { phone_number } => Leg::Phone { phone_number: *phone_number },
            Target::Sip { uri, auth } => {
                let auth = auth.as_ref().and_then(|auth| {
                    let keyring = &self.twilio.app.keyring;
                    Routes::secret_open(self.table, keyring, self.workspace, SIP_PASSWORD, auth.password.id)
                        .map(|password| (auth.username.clone(), password))
                });
                Leg::Sip { uri: uri.clone(), auth }
            }
        }
    }

    /// What travels with the call: ours first, since they must not be left out where room is short.
    fn values<'v>(&self, answering: Option<&Answering<'v>>) -> Vec<twiml::Value<'v>> {
        let mut values: Vec<twiml::Value<'v>> = vec![
            ("switchboard_call".into(), self.id.to_string().into()),
            ("switchboard_number".into(), self.to.to_string().into()),
        ];
        if let Some(answering) = answering {
            values.push(("switchboard_agent".into(), answering.agent_id.to_string().into()));
            values.push(("switchboard_environment".into(), answering.environment.as_str().into()));
            if let Some(variant) = answering.variant() {
                values.push(("switchboard_variant".into(), variant.id.to_string().into()));
            }
            values.extend(parameters(answering).into_iter().map(|(name, value)| (name.into(), value.into())));
        }
        values
    }
}

/// The agent's call parameters, and over them the variant's attributes.
fn parameters<'t>(answering: &Answering<'t>) -> BTreeMap<&'t str, &'t str> {
    let own = &answering.content.draft.call_parameters;
    let of_variant = answering.variant().map(|variant| variant.attributes.iter());
    own.iter().chain(of_variant.into_iter().flatten()).collect()
}

fn route(answering: &Answering<'_>) -> Route {
    Route {
        agent_id: answering.agent_id,
        environment: answering.environment,
        variant_id: answering.variant().map(|variant| variant.id),
        version_id: Some(answering.running.version_id),
    }
}

const fn assigned(assignment: Assignment) -> Route {
    Route {
        agent_id: assignment.agent_id,
        environment: assignment.environment,
        variant_id: assignment.variant_id,
        version_id: None,
    }
}

const fn message<'t>(decision: &Decision<'t>) -> Option<Message<'t>> {
    match &decision.answer {
        Answer::Connect { message, .. } | Answer::Ask { message, .. } | Answer::Say { message } => {
            Some(*message)
        }
        Answer::Reject { .. } => None,
    }
}

fn language<'t>(decision: &Decision<'t>) -> Option<&'t domain::agent::Language> {
    message(decision).and_then(|message| message.language)
}

/// What the address says that Twilio asks after a target has ended.
struct After {
    call: CallId,
    at: Timestamp,
    step: u8,
    origin: Origin,
    is_stream: bool,
    since: Timestamp,
}

/// How a target has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Somebody talked to the caller.
    Answered,
    /// Nobody did, and the caller still waits.
    NotAnswered,
    /// Nobody did, and the caller has hung up.
    CallerGone,
}

impl Ended {
    const fn as_str(self) -> &'static str {
        match self {
            Ended::Answered => "answered",
            Ended::NotAnswered => "not_answered",
            Ended::CallerGone => "caller_gone",
        }
    }
}

impl After {
    fn read(query: &str) -> Option<After> {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            found.insert(name.into_owned(), value.into_owned());
        }
        let text = |name: &str| found.get(name).map(String::as_str);
        let time = |name: &str| Timestamp::from_millisecond(text(name)?.parse().ok()?).ok();
        Some(After {
            call: text("call")?.parse().ok()?,
            at: time("at")?,
            step: text("step")?.parse().ok().filter(|&step| step < u8::MAX)?,
            origin: text("origin")?.parse().ok()?,
            is_stream: text("kind")? == "stream",
            since: time("since")?,
        })
    }

    fn result(&self, callback: &Callback, now: Timestamp) -> Ended {
        let form = &callback.form;
        let answered = if self.is_stream {
            let took = Duration::try_from(now.duration_since(self.since)).unwrap_or_default();
            form.filled("StreamError").is_none()
                && form.filled("ErrorCode").is_none()
                && took >= STREAM_AT_ONCE
        } else {
            // Answered by a machine in between, say, and never joined with the caller: nobody talked.
            matches!(form.value("DialCallStatus").as_deref(), Some("completed" | "answered"))
                && form.value("DialBridged").as_deref() != Some("false")
        };
        // A call that is over cannot be connected to anything else.
        let over = matches!(
            form.value("CallStatus").as_deref(),
            Some("completed" | "canceled" | "failed" | "busy" | "no-answer")
        );
        match (answered, over) {
            (true, _) => Ended::Answered,
            (false, true) => Ended::CallerGone,
            (false, false) => Ended::NotAnswered,
        }
    }

    /// When somebody began to talk, as near as can be told.
    fn answered_at(&self, callback: &Callback, now: Timestamp) -> Timestamp {
        let talked = callback
            .form
            .filled("DialCallDuration")
            .and_then(|text| text.parse::<i64>().ok())
            .filter(|seconds| (0..86_400 * 2).contains(seconds));
        match talked {
            // Whole seconds, rounded by the carrier: nobody talked before the target was dialled.
            Some(seconds) => (now - jiff::SignedDuration::from_secs(seconds)).max(self.since),
            None => self.since,
        }
    }
}
