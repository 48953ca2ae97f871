//! Call records as JSON.

use std::fmt;
use std::str::FromStr;

use axum::extract::State;
use axum::response::Response;
use domain::call::{CallStatus, Direction, Outcome};
use domain::environment::Environment;
use domain::error::{Code, Refusal};
use domain::id::{AgentId, CallId};
use domain::route::Explained;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::Query;
use super::error::Problem;
use super::fields::Json;
use super::list::{ListKey, Page, PageRequest};
use super::path::Path;
use super::router::Routes;
use super::routes::{DecisionOut, StepOut, time_parse};
use super::schema::{self, time, time_opt};
use super::{json_answer, json_answer_tagged};
use crate::actions::Caller;
use crate::actions::calls::{Call, CallEvent, CallFilter, CallPlace, NumberRef, call_find, call_list};
use crate::actions::numbers::looks_like_a_number;
use crate::app::Shared;

/// The routes of calls.
pub fn routes() -> Routes {
    Routes::new()
        .with(
            routes!(list),
            &[
                Code::BadCursor,
                Code::LimitRange,
                Code::InvalidId,
                Code::NotE164,
                Code::E164Length,
                Code::BadCountryCode,
                Code::EmergencyOrShortCode,
                Code::InvalidValue,
                Code::AmbiguousNumber,
            ],
        )
        .with(routes!(find), &[])
}

/// A call.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Call)]
pub struct CallOut {
    /// Its id.
    #[schema(example = "cal_01kb5x3a7m0000000000000000")]
    pub id: String,
    /// Which way it goes.
    #[schema(value_type = String, example = "inbound")]
    pub direction: Direction,
    /// Who calls, as the carrier wrote it.
    #[schema(example = "+15145550100")]
    pub from: String,
    /// Who is called, as the carrier wrote it.
    #[schema(example = "+14385950345")]
    pub to: String,
    /// The number that was called.
    #[schema(value_type = Option<schema::NumberId>)]
    pub number_id: Option<String>,
    /// The agent that it was sent to.
    #[schema(value_type = Option<schema::AgentId>)]
    pub agent_id: Option<String>,
    /// In which environment.
    #[schema(value_type = Option<schema::Environment>)]
    pub environment: Option<Environment>,
    /// As which variant.
    #[schema(value_type = Option<schema::VariantId>)]
    pub variant_id: Option<String>,
    /// Which version ran there.
    #[schema(value_type = Option<schema::VersionId>)]
    pub version_id: Option<String>,
    /// How far it is: `queued`, `ringing`, `in_progress`, `completed`, `busy`, `failed`, `no_answer` or `canceled`.
    #[schema(value_type = String, example = "completed")]
    pub status: CallStatus,
    /// How it ended: `answered`, `fell_back`, `announced`, `rejected`, `abandoned` or `unanswered`.
    #[schema(value_type = Option<String>, example = "answered")]
    pub outcome: Option<Outcome>,
    /// When it began.
    #[schema(value_type = schema::Time)]
    pub started_at: String,
    /// When somebody answered.
    #[schema(value_type = Option<schema::Time>)]
    pub answered_at: Option<String>,
    /// When it ended.
    #[schema(value_type = Option<schema::Time>)]
    pub ended_at: Option<String>,
    /// How long the carrier says that it took, in seconds.
    pub duration_s: Option<i64>,
    /// What its carrier calls it.
    #[schema(example = "CA00000000000000000000000000000000")]
    pub carrier_call_id: String,
}

impl From<&Call> for CallOut {
    fn from(call: &Call) -> Self {
        let route = call.route;
        CallOut {
            id: call.id.to_string(),
            direction: call.direction,
            from: call.from.clone(),
            to: call.to.clone(),
            number_id: call.number_id.map(|id| id.to_string()),
            agent_id: route.map(|route| route.agent_id.to_string()),
            environment: route.map(|route| route.environment),
            variant_id: route.and_then(|route| route.variant_id).map(|id| id.to_string()),
            version_id: route.and_then(|route| route.version_id).map(|id| id.to_string()),
            status: call.status,
            outcome: call.outcome,
            started_at: time(call.started_at),
            answered_at: time_opt(call.answered_at),
            ended_at: time_opt(call.ended_at),
            duration_s: call.duration_s,
            carrier_call_id: call.carrier_call_id.clone(),
        }
    }
}

/// A call with its decision and its timeline.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = CallRecord)]
pub struct CallRecordOut {
    /// The call.
    #[serde(flatten)]
    pub call: CallOut,
    /// What routing chose; null while the report of it is still on its way.
    pub decision: Option<DecisionOut>,
    /// Why, one step for each rule that had a say.
    pub steps: Vec<StepOut>,
    /// What the team's server said when it was asked, or why it gave no usable answer; null where it was not asked.
    pub asked: Option<AskedOut>,
    /// What happened, in order; at most 200 entries.
    pub timeline: Vec<CallEventOut>,
    /// How many reports there were, those that were not kept included.
    pub timeline_count: i64,
}

/// What came of asking the team's server.
#[derive(Clone, Debug, Serialize, serde::Deserialize, ToSchema)]
#[schema(as = Asked)]
pub struct AskedOut {
    /// Where it was asked.
    pub webhook_url: Option<String>,
    /// What it answered: what was told to the carrier.
    #[schema(value_type = Option<Object>)]
    pub answer: Option<serde_json::Value>,
    /// Why there was no usable answer, so that the call went on without it.
    #[schema(example = "the team's server did not answer within 3 s")]
    pub fault: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: Option<u64>,
}

/// Something that happened in a call.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = CallEvent)]
pub struct CallEventOut {
    /// When.
    #[schema(value_type = schema::Time)]
    pub at: String,
    /// What.
    #[schema(example = "status")]
    pub kind: String,
    /// The rest of it.
    #[schema(value_type = Object)]
    pub detail: serde_json::Value,
}

impl From<&CallEvent> for CallEventOut {
    fn from(event: &CallEvent) -> Self {
        CallEventOut { at: time(event.at), kind: event.kind.clone(), detail: event.detail.clone() }
    }
}

/// A call's place in the list, as a cursor holds it: microseconds and id.
struct After(CallPlace);

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.started_at.as_microsecond(), self.0.id)
    }
}

impl FromStr for After {
    type Err = ();

    fn from_str(text: &str) -> Result<After, ()> {
        let (started_at, id) = text.split_once(' ').ok_or(())?;
        let started_at = Timestamp::from_microsecond(started_at.parse().map_err(drop)?).map_err(drop)?;
        Ok(After(CallPlace { started_at, id: id.parse().map_err(drop)? }))
    }
}

fn number_parse(text: &str) -> Result<NumberRef, Refusal> {
    if looks_like_a_number(text) {
        return text.parse().map(NumberRef::Digits);
    }
    text.parse().map(NumberRef::Id)
}

/// List calls
///
/// The latest first.
#[utoipa::path(
    get, path = "/v1/calls", tag = "Calls", operation_id = "call_list",
    params(
        ("number" = Option<String>, Query, description = "To this number: its id, or its digits in E.164 (write + as %2B)"),
        ("agent_id" = Option<schema::AgentId>, Query, description = "Sent to this agent"),
        ("environment" = Option<schema::Environment>, Query, description = "Sent to this environment"),
        ("direction" = Option<String>, Query, description = "`inbound`"),
        ("status" = Option<String>, Query, description = "That are so far"),
        ("outcome" = Option<String>, Query, description = "That ended so"),
        ("after" = Option<schema::Time>, Query, description = "Begun at or after this moment"),
        ("before" = Option<schema::Time>, Query, description = "Begun before this moment"),
        ("limit" = Option<u32>, Query, description = "How many, 1 to 200", example = 50),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of calls", body = Page<CallOut>))
)]
pub async fn list(State(app): State<Shared>, caller: Caller, query: Query) -> Result<Response, Problem> {
    let (request, number, filter) = query.read(|fields| {
        let number = fields.optional("number", |json| json.text(number_parse));
        let filter = CallFilter {
            number: None,
            agent: fields.optional("agent_id", Json::parse::<AgentId>),
            environment: fields.optional("environment", Json::parse::<Environment>),
            direction: fields.optional("direction", Json::parse::<Direction>),
            outcome: fields.optional("outcome", Json::parse::<Outcome>),
            status: fields.optional("status", Json::parse::<CallStatus>),
            started_from: fields.optional("after", |json| json.text(time_parse)),
            started_before: fields.optional("before", |json| json.text(time_parse)),
        };
        Some((PageRequest::read(fields), number, filter))
    })?;
    let list = ListKey {
        workspace: caller.workspace,
        route: "/v1/calls",
        filters: query.without(&["limit", "cursor"]),
    };
    let before: Option<After> = request.after(&app.cursors, &list)?;
    let rows =
        call_list(&app, &caller, number, filter, before.map(|after| after.0), request.limit + 1).await?;
    let key = |call: &Call| After(call.into()).to_string();
    Ok(json_answer(&Page::cut(rows, &request, &app.cursors, &list, key, |call| CallOut::from(&call))))
}

/// Read a call
///
/// With what routing chose and why, and everything that happened.
#[utoipa::path(
    get, path = "/v1/calls/{id}", tag = "Calls", operation_id = "call_find",
    params(("id" = String, Path, description = "The call's id", example = "cal_01kb5x3a7m0000000000000000")),
    responses((status = 200, description = "The call", body = CallRecordOut))
)]
pub async fn find(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<CallId>,
) -> Result<Response, Problem> {
    let (call, timeline) = call_find(&app, &caller, id).await?;
    // A decision that another version of this program wrote otherwise is left out rather than shown wrong.
    let explained: Option<Explained> =
        call.decision.clone().and_then(|decision| serde_json::from_value(decision).ok());
    let asked = call.decision.as_ref().and_then(|decision| decision.get("asked")).cloned();
    Ok(json_answer_tagged(&CallRecordOut {
        call: (&call).into(),
        decision: explained.as_ref().map(|explained| (&explained.decision).into()),
        steps: explained.iter().flat_map(|explained| &explained.steps).map(Into::into).collect(),
        asked: asked.and_then(|asked| serde_json::from_value(asked).ok()),
        timeline: timeline.iter().map(Into::into).collect(),
        timeline_count: call.timeline_count,
    }))
}
