//! Explanations of routes as JSON; a call record shows its decision in the same form.

use axum::extract::State;
use axum::response::Response;
use domain::caller::Caller as CallFrom;
use domain::endpoint::EndpointKind;
use domain::environment::Environment;
use domain::error::{Code, Refusal, shown};
use domain::number::E164;
use domain::route::{Action, Ended, Explained, ExplainedTarget, Origin, Rule, Step};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::Body;
use super::error::Problem;
use super::fields::Json;
use super::json_answer;
use super::router::Routes;
use super::schema::{self, time};
use crate::actions::Caller;
use crate::actions::routes::{Question, route_explain};
use crate::app::Shared;

/// The routes of explanations.
pub fn routes() -> Routes {
    Routes::new().with(
        routes!(explain),
        &[Code::NotE164, Code::E164Length, Code::BadCountryCode, Code::EmergencyOrShortCode],
    )
}

/// What happens to a call, and why.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Explanation)]
pub struct ExplanationOut {
    /// What is done with the call.
    pub decision: DecisionOut,
    /// One step for each rule that had a say, in their order.
    pub steps: Vec<StepOut>,
}

/// What is done with a call.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Decision)]
pub struct DecisionOut {
    /// `connect` it, `ask` the team's server, `say` a message, or `reject` it.
    #[schema(value_type = String, example = "connect")]
    pub action: Action,
    /// The whole of it in a sentence.
    pub summary: String,
    /// When it is decided.
    #[schema(value_type = schema::Time)]
    pub at: String,
    /// The called number's id, if it is yours.
    #[schema(value_type = Option<schema::NumberId>)]
    pub number_id: Option<String>,
    /// The agent that answers.
    #[schema(value_type = Option<schema::AgentId>)]
    pub agent_id: Option<String>,
    /// In which environment.
    #[schema(value_type = Option<schema::Environment>)]
    pub environment: Option<Environment>,
    /// The version that runs there, by its id; null where a draft is explained.
    #[schema(value_type = Option<schema::VersionId>)]
    pub version_id: Option<String>,
    /// The version that runs there, by its number; null where a draft is explained.
    pub version: Option<u32>,
    /// The variant that answers.
    #[schema(value_type = Option<schema::VariantId>)]
    pub variant_id: Option<String>,
    /// Where the team's server is asked.
    pub webhook_url: Option<String>,
    /// What is tried, in order.
    pub targets: Vec<TargetShown>,
    /// What is spoken at the end.
    pub message: Option<String>,
    /// What it is spoken in, if anything says so.
    #[schema(value_type = Option<schema::Language>)]
    pub language: Option<String>,
    /// Why the call is refused: a code of the error table.
    pub code: Option<String>,
}

/// A target of a call. Never with credentials.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = ExplainedTarget)]
pub struct TargetShown {
    /// What kind: `sip`, `stream` or `phone`.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "stream")]
    pub kind: EndpointKind,
    /// Its address.
    #[schema(example = "wss://agents.example.com/media")]
    pub address: String,
    /// How long it may ring, in seconds; a stream does not ring.
    pub ring_timeout_s: Option<u16>,
    /// Where it comes from: `endpoint`, `webhook_answer`, `webhook_default`, `closed`, `number`, `agent` or `workspace`.
    #[schema(value_type = String, example = "endpoint")]
    pub origin: Origin,
}

/// One step on the way to a decision.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Step)]
pub struct StepOut {
    /// Which rule.
    #[schema(value_type = String, example = "assignment")]
    pub rule: Rule,
    /// What came out, in a word for programs.
    #[schema(example = "runs")]
    pub outcome: String,
    /// Why, in a sentence for people.
    #[schema(example = "the number is assigned to the agent `Support`, which runs version 3 in Live")]
    pub because: String,
}

impl From<&ExplainedTarget> for TargetShown {
    fn from(target: &ExplainedTarget) -> Self {
        TargetShown {
            kind: target.kind,
            address: target.address.clone(),
            ring_timeout_s: target.ring_timeout_s,
            origin: target.origin,
        }
    }
}

impl From<&Ended> for DecisionOut {
    fn from(ended: &Ended) -> Self {
        // Version 0 is a draft that was never published.
        let is_version = ended.version.is_some_and(|version| version > 0);
        DecisionOut {
            action: ended.action,
            summary: ended.summary.clone(),
            at: time(ended.at),
            number_id: ended.number_id.map(|id| id.to_string()),
            agent_id: ended.agent_id.map(|id| id.to_string()),
            environment: ended.environment,
            version_id: ended.version_id.filter(|_| is_version).map(|id| id.to_string()),
            version: ended.version.filter(|_| is_version),
            variant_id: ended.variant_id.map(|id| id.to_string()),
            webhook_url: ended.webhook_url.clone(),
            targets: ended.targets.iter().map(Into::into).collect(),
            message: ended.message.clone(),
            language: ended.language.as_ref().map(|language| language.as_str().to_owned()),
            code: ended.code.clone(),
        }
    }
}

impl From<&Step> for StepOut {
    fn from(step: &Step) -> Self {
        StepOut { rule: step.rule, outcome: step.outcome.clone(), because: step.because.clone() }
    }
}

impl From<&Explained> for ExplanationOut {
    fn from(explained: &Explained) -> Self {
        ExplanationOut {
            decision: (&explained.decision).into(),
            steps: explained.steps.iter().map(Into::into).collect(),
        }
    }
}

/// A call that might come in.
#[derive(ToSchema)]
#[schema(as = ExplainRoute)]
pub struct ExplainIn {
    /// The number that is called.
    #[schema(value_type = schema::PhoneNumber)]
    pub to: String,
    /// Who calls: a number in E.164, or `anonymous`, which is also meant where it is left out.
    #[schema(example = "+15145550100")]
    pub from: Option<String>,
    /// When; now where it is left out.
    #[schema(value_type = Option<schema::Time>)]
    pub at: Option<String>,
    /// Whether to explain as if the agent's draft were published where the number is.
    #[schema(default = false)]
    pub draft: Option<bool>,
}

fn from_parse(text: &str) -> Result<CallFrom, Refusal> {
    if text == "anonymous" {
        return Ok(CallFrom::Anonymous);
    }
    let number: E164 = text.parse()?;
    Ok(CallFrom::Number(number))
}

/// Reads a moment.
pub(super) fn time_parse(text: &str) -> Result<Timestamp, Refusal> {
    text.parse().map_err(|_| {
        Refusal::new(
            Code::InvalidValue,
            format!("{} is not a time; send RFC 3339 with a zone, such as 2026-11-21T22:00:00Z", shown(text)),
        )
    })
}

/// Explain a route
///
/// What happens to a call from X to Y, and why: decided by the same function and in the same words as calls themselves. A number that
/// is not yours is explained as unknown.
#[utoipa::path(
    post, path = "/v1/routes/explain", tag = "Calls", operation_id = "route_explain",
    request_body(content = ExplainIn, example = json!({"to": "+14385950345", "from": "+15145550100"})),
    responses((status = 200, description = "What happens, and why", body = ExplanationOut))
)]
pub async fn explain(State(app): State<Shared>, caller: Caller, body: Body) -> Result<Response, Problem> {
    let question = body.read(|fields| {
        let to = fields.required("to", Json::parse::<E164>);
        let from = fields.optional("from", |json| json.text(from_parse));
        let at = fields.optional("at", |json| json.text(time_parse));
        let draft = fields.optional("draft", Json::boolean);
        Some(Question {
            to: to?,
            from: from.unwrap_or(CallFrom::Anonymous),
            at,
            draft: draft.unwrap_or_default(),
        })
    })?;
    let explained = route_explain(&app, &caller, question).await?;
    Ok(json_answer(&ExplanationOut::from(&explained)))
}
