//! Versions and deployments as JSON: publish, promote, roll back, and what a deployment would change.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use domain::difference::Differences;
use domain::environment::Environment;
use domain::error::{Code, Refusal, shown};
use domain::id::{AgentId, DeploymentId};
use domain::preview::{Outlook, Preview};
use domain::publishing::{DeploymentAction, NOTE_CHARS_MAX, Running};
use domain::route::Action;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::str::FromStr;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::agents::{DraftOut, RunningOut, parameters_out};
use super::body::{Body, MaybeBody, Query};
use super::error::Problem;
use super::fields::Json;
use super::idempotency::{IdempotencyKey, answered};
use super::json_answer;
use super::list::{ListKey, Page, PageRequest};
use super::path::{Path, Path2};
use super::router::Routes;
use super::routes::TargetShown;
use super::schema::{self, time};
use super::variants::VariantOut;
use crate::actions::versions::{self, Deployed, Deployment, PublishPreview, Version, VersionShown, runs_in};
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

/// A version: a draft and its variants, frozen.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Version)]
pub struct VersionOut {
    /// Its id.
    #[schema(value_type = schema::VersionId)]
    pub id: String,
    /// Its number, from 1.
    #[schema(example = 3)]
    pub version: u32,
    /// What the publisher had to say.
    #[schema(example = "New opening hours")]
    pub note: Option<String>,
    /// The environments that run it.
    #[schema(value_type = Vec<schema::Environment>)]
    pub environments: Vec<Environment>,
    /// How many variants it has.
    pub variant_count: usize,
    /// When it was published.
    #[schema(value_type = schema::Time)]
    pub created_at: String,
    /// By whom.
    #[schema(example = "key:key_01kb5x3a7m0000000000000000")]
    pub created_by: String,
}

impl VersionOut {
    fn new(version: &Version, running: &Running) -> VersionOut {
        VersionOut {
            id: version.id.to_string(),
            version: version.version,
            note: version.note.clone(),
            environments: runs_in(running, version.version),
            variant_count: version.content.variants.len(),
            created_at: time(version.created_at),
            created_by: version.created_by.clone(),
        }
    }
}

/// A version with what it holds, and what it changed.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = VersionContent)]
pub struct VersionContentOut {
    /// The version.
    #[serde(flatten)]
    pub version: VersionOut,
    /// The draft as it was.
    pub draft: DraftOut,
    /// The variants as they were, the default first.
    pub variants: Vec<VariantOut>,
    /// What differs from the version before it.
    pub changes: ChangesOut,
}

impl From<&VersionShown> for VersionContentOut {
    fn from(shown: &VersionShown) -> Self {
        let content = &shown.version.content;
        VersionContentOut {
            version: VersionOut {
                environments: shown.runs_in.clone(),
                ..VersionOut::new(&shown.version, &Running::default())
            },
            draft: (&content.draft).into(),
            variants: VariantOut::all(content),
            changes: (&shown.changes).into(),
        }
    }
}

/// What differs, setting by setting.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Changes)]
pub struct ChangesOut {
    /// In the order in which the settings stand in the API; at most 200.
    pub differences: Vec<DifferenceOut>,
    /// How many are not listed.
    pub more: usize,
}

/// One setting that differs.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Difference)]
pub struct DifferenceOut {
    /// The setting.
    #[schema(example = "variants[Paris].attributes.site")]
    pub field: String,
    /// What it was; null where it was not set.
    #[schema(example = "75001")]
    pub before: Option<String>,
    /// What it is; null where it is not set any more.
    #[schema(example = "75002")]
    pub after: Option<String>,
}

impl From<&Differences> for ChangesOut {
    fn from(found: &Differences) -> Self {
        let differences = found
            .differences
            .iter()
            .map(|difference| DifferenceOut {
                field: difference.field.clone(),
                before: difference.before.clone(),
                after: difference.after.clone(),
            })
            .collect();
        ChangesOut { differences, more: found.more }
    }
}

/// One version put into one environment at one time.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Deployment)]
pub struct DeploymentOut {
    /// Its id.
    #[schema(example = "dep_01kb5x3a7m0000000000000000")]
    pub id: String,
    /// Of which agent.
    #[schema(value_type = schema::AgentId)]
    pub agent_id: String,
    /// Where.
    #[schema(value_type = schema::Environment)]
    pub environment: Environment,
    /// Which version, by its number.
    #[schema(example = 3)]
    pub version: u32,
    /// Which version, by its id.
    #[schema(value_type = schema::VersionId)]
    pub version_id: String,
    /// How it came there: `publish`, `promote` or `rollback`.
    #[schema(value_type = String, example = "publish")]
    pub action: DeploymentAction,
    /// When.
    #[schema(value_type = schema::Time)]
    pub deployed_at: String,
    /// By whom.
    #[schema(example = "key:key_01kb5x3a7m0000000000000000")]
    pub deployed_by: String,
}

impl From<&Deployment> for DeploymentOut {
    fn from(deployment: &Deployment) -> Self {
        DeploymentOut {
            id: deployment.id.to_string(),
            agent_id: deployment.agent.to_string(),
            environment: deployment.environment,
            version: deployment.version,
            version_id: deployment.version_id.to_string(),
            action: deployment.action,
            deployed_at: time(deployment.deployed_at),
            deployed_by: deployment.deployed_by.clone(),
        }
    }
}

/// What was deployed, and what the agent runs after it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Deployed)]
pub struct DeployedOut {
    /// The deployment.
    #[serde(flatten)]
    pub deployment: DeploymentOut,
    /// What each environment runs now.
    pub running: RunningOut,
    /// False where the environment ran this version already: then nothing was done.
    pub changed: bool,
}

impl From<&Deployed> for DeployedOut {
    fn from(deployed: &Deployed) -> Self {
        DeployedOut {
            deployment: (&deployed.deployment).into(),
            running: deployed.running.into(),
            changed: deployed.changed,
        }
    }
}

/// What runs where, and a page of all deployments.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Deployments)]
pub struct DeploymentsOut {
    /// What each environment runs now.
    pub current: CurrentOut,
    /// All deployments, the latest first.
    pub data: Vec<DeploymentOut>,
    /// Send it as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// The deployment that each environment runs, or null.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = CurrentDeployments)]
pub struct CurrentOut {
    /// Sandbox.
    pub sandbox: Option<DeploymentOut>,
    /// Pre-release.
    pub pre_release: Option<DeploymentOut>,
    /// Live.
    pub live: Option<DeploymentOut>,
}

impl From<&[Deployment]> for CurrentOut {
    fn from(current: &[Deployment]) -> Self {
        let of = |environment| current.iter().find(|it| it.environment == environment).map(Into::into);
        CurrentOut {
            sandbox: of(Environment::Sandbox),
            pre_release: of(Environment::PreRelease),
            live: of(Environment::Live),
        }
    }
}

/// What a deployment would change.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = PublishPreview)]
pub struct PreviewOut {
    /// Where.
    #[schema(value_type = schema::Environment)]
    pub to: Environment,
    /// The version that runs there now.
    pub from_version: Option<u32>,
    /// The version that would run there; null where it would be made from the draft.
    pub to_version: Option<u32>,
    /// What differs in the agent.
    pub changes: ChangesOut,
    /// The numbers whose calls would be treated otherwise; at most 500. Hours, caller rules and outage mode are left aside.
    pub numbers: Vec<NumberPreviewOut>,
    /// How many more there are, which are not listed.
    pub more: usize,
    /// How many numbers were looked at.
    pub numbers_checked: usize,
    /// Whether the agent answers more numbers there than are looked at (10,000).
    pub is_partial: bool,
}

/// A number whose calls would be treated otherwise.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = NumberPreview)]
pub struct NumberPreviewOut {
    /// The number.
    #[schema(value_type = schema::NumberId)]
    pub number_id: String,
    /// Its digits.
    #[schema(value_type = schema::PhoneNumber)]
    pub phone_number: String,
    /// What a call does now.
    pub before: OutlookOut,
    /// What it would do.
    pub after: OutlookOut,
}

/// What a call to a number does.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Outlook)]
pub struct OutlookOut {
    /// `connect`, `ask`, `say` or `reject`.
    #[schema(value_type = String, example = "connect")]
    pub action: Action,
    /// The whole of it in a sentence.
    pub summary: String,
    /// The variant that answers.
    #[schema(value_type = Option<schema::VariantId>)]
    pub variant_id: Option<String>,
    /// Its name.
    pub variant: Option<String>,
    /// Where the team's server is asked.
    pub webhook_url: Option<String>,
    /// What is tried, in order.
    pub targets: Vec<TargetShown>,
    /// What is spoken at the end.
    pub message: Option<String>,
    /// What it is spoken in.
    #[schema(value_type = Option<schema::Language>)]
    pub language: Option<String>,
    /// What travels with the call.
    pub parameters: BTreeMap<String, String>,
}

impl From<&Outlook> for OutlookOut {
    fn from(outlook: &Outlook) -> Self {
        OutlookOut {
            action: outlook.action,
            summary: outlook.summary.clone(),
            variant_id: outlook.variant_id.map(|id| id.to_string()),
            variant: outlook.variant.clone(),
            webhook_url: outlook.webhook_url.clone(),
            targets: outlook.targets.iter().map(Into::into).collect(),
            message: outlook.message.clone(),
            language: outlook.language.as_ref().map(|language| language.as_str().to_owned()),
            parameters: parameters_out(&outlook.parameters),
        }
    }
}

impl From<&PublishPreview> for PreviewOut {
    fn from(preview: &PublishPreview) -> Self {
        let number = |preview: &Preview| NumberPreviewOut {
            number_id: preview.number_id.to_string(),
            phone_number: preview.phone_number.to_string(),
            before: (&preview.before).into(),
            after: (&preview.after).into(),
        };
        PreviewOut {
            to: preview.environment,
            from_version: preview.from_version,
            to_version: preview.to_version,
            changes: (&preview.changes).into(),
            numbers: preview.numbers.iter().map(number).collect(),
            more: preview.more,
            numbers_checked: preview.numbers_checked,
            is_partial: preview.is_partial,
        }
    }
}

/// What is published.
#[derive(ToSchema)]
#[schema(as = Publish)]
pub struct PublishIn {
    /// What you have to say about it.
    #[schema(example = "New opening hours", max_length = 500)]
    pub note: Option<String>,
}

/// What is promoted.
#[derive(ToSchema)]
#[schema(as = Promote)]
pub struct PromoteIn {
    /// Where it runs now.
    #[schema(value_type = schema::Environment, example = "sandbox")]
    pub from: String,
    /// Where it is to run.
    #[schema(value_type = schema::Environment, example = "pre_release")]
    pub to: String,
}

/// What is put back.
#[derive(ToSchema)]
#[schema(as = Rollback)]
pub struct RollbackIn {
    /// Where.
    #[schema(value_type = schema::Environment, example = "live")]
    pub environment: String,
    /// Which version; it ran there before.
    #[schema(example = 2, minimum = 1)]
    pub version: u32,
}

fn created(deployed: &Deployed) -> (u16, Value) {
    (StatusCode::CREATED.as_u16(), json!(DeployedOut::from(deployed)))
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
    let once = key.once("POST /v1/agents/{id}/publish", &body, created);
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
    Ok(json_answer(&VersionContentOut::from(&found)))
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
