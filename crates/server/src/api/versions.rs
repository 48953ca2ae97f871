//! Versions and deployments as JSON: publish, promote, roll back, and what a deployment would change.

use std::str::FromStr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::environment::Environment;
use domain::error::{Code, Refusal, shown};
use domain::id::{AgentId, DeploymentId};
use domain::publishing::NOTE_CHARS_MAX;
use utoipa_axum::routes;

use super::body::{Body, MaybeBody, Query};
use super::error::Problem;
use super::fields::Json;
use super::idempotency::{IdempotencyKey, answered};
use super::list::{ListKey, Page, PageRequest};
use super::path::{Path, Path2};
use super::router::Routes;
use super::schema;
use super::version_shapes::{
    DeployedOut, DeploymentOut, DeploymentsOut, PreviewOut, PromoteIn, PublishIn, RollbackIn,
    VersionContentOut, VersionOut,
};
use super::{json_answer, json_answer_tagged, json_text};
use crate::actions::versions::{self, Deployed, Deployment, Version};
use crate::actions::{Caller, IfMatch};
use crate::app::Shared;

/// The routes of versions and deployments.
pub fn routes() -> Routes {
    Routes::new()
        .with(
            routes!(publish),
            &[
                Code::AgentNotFound,
                Code::StaleVersion,
                Code::NothingToPublish,
                Code::LimitReached,
                Code::TooLong,
                Code::Blank,
                Code::ControlCharacter,
                Code::IdempotencyConflict,
                Code::IdempotencyKeyInvalid,
                Code::FallbackLoop,
                Code::FallbackTooLong,
            ],
        )
        .with(
            routes!(promote),
            &[
                Code::AgentNotFound,
                Code::NotInEnvironment,
                Code::PreReleaseNotReady,
                Code::FallbackLoop,
                Code::FallbackTooLong,
            ],
        )
        .with(
            routes!(rollback),
            &[
                Code::AgentNotFound,
                Code::VersionNotFound,
                Code::NotInEnvironment,
                Code::FallbackLoop,
                Code::FallbackTooLong,
            ],
        )
        .with(routes!(list), &[Code::AgentNotFound, Code::BadCursor, Code::LimitRange])
        .with(routes!(find), &[Code::AgentNotFound, Code::VersionNotFound])
        .with(routes!(deployment_list), &[Code::AgentNotFound, Code::BadCursor, Code::LimitRange])
        .with(
            routes!(publish_preview),
            &[
                Code::AgentNotFound,
                Code::NothingToPublish,
                Code::NotInEnvironment,
                Code::PreReleaseNotReady,
                Code::Required,
                Code::InvalidValue,
            ],
        )
}

/// The number of a version in a path.
pub struct VersionNumber(u32);

impl FromStr for VersionNumber {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        text.parse().map(VersionNumber).map_err(|_| {
            Refusal::new(Code::NotFound, format!("{} is no number of a version, such as 3", shown(text)))
        })
    }
}

fn created(deployed: &Deployed) -> (u16, String) {
    (StatusCode::CREATED.as_u16(), json_text(&DeployedOut::from(deployed)))
}

fn note_parse(text: &str) -> Result<String, Refusal> {
    domain::number::parse_text(text, NOTE_CHARS_MAX)
}

/// Publish an agent
///
/// Freezes the draft and its variants into the next version, and puts that into sandbox.
#[utoipa::path(
    post, path = "/v1/agents/{id}/publish", tag = "Agents", operation_id = "agent_publish",
    request_body(content = Option<PublishIn>, description = "May be left out", example = json!({"note": "New opening hours"})),
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeating the request with the same key does nothing twice"),
        ("If-Match" = Option<String>, Header, description = "Publish only the draft that you have seen: its `ETag`"),
    ),
    responses((status = 201, description = "The deployment of the new version", body = DeployedOut))
)]
pub async fn publish(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
    if_match: IfMatch,
    key: IdempotencyKey,
    MaybeBody(body): MaybeBody,
) -> Result<Response, Problem> {
    let note = body.read(|fields| Some(fields.optional("note", |json| json.text(note_parse))))?;
    let once = key.once(&app, "POST /v1/agents/{id}/publish", &body, created);
    Ok(answered(versions::publish(&app, &caller, id, if_match, note, once).await?, created))
}

/// Promote an agent
///
/// From sandbox to pre_release, or from pre_release to live. Live takes only what pre_release runs.
#[utoipa::path(
    post, path = "/v1/agents/{id}/promote", tag = "Agents", operation_id = "agent_promote", 
    request_body(content = PromoteIn, example = json!({"from": "sandbox", "to": "pre_release"})),
    params(("id" = schema::AgentId, Path, description = "The agent's id")),
    responses((status = 200, description = "The deployment", body = DeployedOut))
)]
pub async fn promote(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
    body: Body,
) -> Result<Response, Problem> {
    let (from, to) = body.read(|fields| {
        let from = fields.required("from", Json::parse::<Environment>);
        let to = fields.required("to", Json::parse::<Environment>);
        Some((from?, to?))
    })?;
    let deployed = versions::promote(&app, &caller, id, from, to).await?;
    Ok(json_answer(&DeployedOut::from(&deployed)))
}

/// Roll an agent back
///
/// Puts a version that ran in an environment before back there, at once. Others take the way through the environments before it.
#[utoipa::path(
    post, path = "/v1/agents/{id}/rollback", tag = "Agents", operation_id = "agent_rollback", 
    request_body(content = RollbackIn, example = json!({"environment": "live", "version": 2})),
    params(("id" = schema::AgentId, Path, description = "The agent's id")),
    responses((status = 200, description = "The deployment", body = DeployedOut))
)]
pub async fn rollback(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
    body: Body,
) -> Result<Response, Problem> {
    let (environment, version) = body.read(|fields| {
        let environment = fields.required("environment", Json::parse::<Environment>);
        let version = fields.required("version", |json| json.integer(1_u32..=u32::MAX));
        Some((environment?, version?))
    })?;
    let deployed = versions::rollback(&app, &caller, id, environment, version).await?;
    Ok(json_answer(&DeployedOut::from(&deployed)))
}

/// List an agent's versions
///
/// The latest first.
#[utoipa::path(
    get, path = "/v1/agents/{id}/versions", tag = "Agents", operation_id = "version_list",
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("limit" = Option<u32>, Query, description = "How many, 1 to 200", example = 50),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of versions", body = Page<VersionOut>))
)]
pub async fn list(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
    query: Query,
) -> Result<Response, Problem> {
    let request = query.read(|fields| Some(PageRequest::read(fields)))?;
    let list =
        ListKey { workspace: caller.workspace, route: "/v1/agents/{id}/versions", filters: id.to_string() };
    let before: Option<u32> = request.after(&app.cursors, &list)?;
    let (rows, running) = versions::version_list(&app, &caller, id, before, request.limit + 1).await?;
    let key = |version: &Version| version.version.to_string();
    let show = |version: Version| VersionOut::new(&version, &running);
    Ok(json_answer(&Page::cut(rows, &request, &app.cursors, &list, key, show)))
}

/// Read a version
///
/// With what it holds, and what differs from the version before it.
#[utoipa::path(
    get, path = "/v1/agents/{id}/versions/{version}", tag = "Agents", operation_id = "version_find",
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("version" = u32, Path, description = "The version's number", example = 3),
    ),
    responses((status = 200, description = "The version", body = VersionContentOut))
)]
pub async fn find(
    State(app): State<Shared>,
    caller: Caller,
    Path2(agent, VersionNumber(number)): Path2<AgentId, VersionNumber>,
) -> Result<Response, Problem> {
    let found = versions::version_find(&app, &caller, agent, number).await?;
    Ok(json_answer_tagged(&VersionContentOut::from(&found)))
}

/// List an agent's deployments
///
/// What each environment runs now, and every time a version was put into one, the latest first.
#[utoipa::path(
    get, path = "/v1/agents/{id}/deployments", tag = "Agents", operation_id = "deployment_list",
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("environment" = Option<schema::Environment>, Query, description = "Only these"),
        ("limit" = Option<u32>, Query, description = "How many, 1 to 200", example = 50),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "What runs now, and a page of deployments", body = DeploymentsOut))
)]
pub async fn deployment_list(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
    query: Query,
) -> Result<Response, Problem> {
    let (request, environment) = query.read(|fields| {
        let environment = fields.optional("environment", Json::parse::<Environment>);
        Some((PageRequest::read(fields), environment))
    })?;
    let filters = format!("{id} {}", query.without(&["limit", "cursor"]));
    let list = ListKey { workspace: caller.workspace, route: "/v1/agents/{id}/deployments", filters };
    let before: Option<DeploymentId> = request.after(&app.cursors, &list)?;
    let (current, rows) =
        versions::deployment_list(&app, &caller, id, environment, before, request.limit + 1).await?;
    let key = |deployment: &Deployment| deployment.id.to_string();
    let page = Page::cut(rows, &request, &app.cursors, &list, key, |it| DeploymentOut::from(&it));
    Ok(json_answer(&DeploymentsOut {
        current: current.as_slice().into(),
        data: page.data,
        next_cursor: page.next_cursor,
    }))
}

/// See what publishing would change
///
/// To sandbox: what publishing the draft would change. To pre_release or live: what promoting from the environment before it would.
/// Each number whose calls would be treated otherwise is listed with before and after.
#[utoipa::path(
    get, path = "/v1/agents/{id}/publish-preview", tag = "Agents", operation_id = "agent_publish_preview",
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("to" = schema::Environment, Query, description = "Where it would run", example = "sandbox"),
    ),
    responses((status = 200, description = "What would change", body = PreviewOut))
)]
pub async fn publish_preview(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
    query: Query,
) -> Result<Response, Problem> {
    let to = query.read(|fields| fields.required("to", Json::parse::<Environment>))?;
    let preview = versions::publish_preview(&app, &caller, id, to).await?;
    Ok(json_answer(&PreviewOut::from(&preview)))
}
