//! Agents and their drafts as JSON.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, LOCATION};
use axum::response::{IntoResponse as _, Response};
use domain::agent::Language;
use domain::error::Code;
use domain::id::AgentId;
use domain::publishing::Running;
use domain::variant::name_parse;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::{Body, Query};
use super::endpoint::{EndpointIn, EndpointOut, FallbackIn, FallbackOut, Reading, parameters};
use super::error::Problem;
use super::fields::Fields;
use super::idempotency::{IdempotencyKey, answered};
use super::list::{ListKey, Page, PageRequest};
use super::path::Path;
use super::router::Routes;
use super::schema::{self, time};
use super::variants::VariantOut;
use super::{json_answer, json_text, with_etag};
use crate::actions::agents::{self, AgentInput, AgentState, DraftPatch};
use crate::actions::{Caller, IfMatch};
use crate::app::Shared;

/// What saving an endpoint, a fallback or parameters can be refused for.
pub(super) const ENDPOINT_CODES: &[Code] = &[
    Code::UrlScheme,
    Code::UrlInvalid,
    Code::UrlCredentials,
    Code::UrlPort,
    Code::UrlQuery,
    Code::AddressNotAllowed,
    Code::DestinationBlocked,
    Code::SecretMasked,
    Code::SecretWhitespace,
    Code::FallbackLoop,
    Code::FallbackTooLong,
    Code::NotE164,
    Code::E164Length,
    Code::BadCountryCode,
    Code::EmergencyOrShortCode,
    Code::TooLong,
    Code::TooMany,
    Code::Blank,
    Code::ControlCharacter,
];

/// The routes of agents and their drafts.
pub fn routes() -> Routes {
    let saving: Vec<Code> = ENDPOINT_CODES
        .iter()
        .copied()
        .chain([Code::AgentNotFound, Code::StaleVersion, Code::BadLanguage])
        .collect();
    let creating: Vec<Code> = saving
        .iter()
        .copied()
        .filter(|code| !matches!(code, Code::AgentNotFound | Code::StaleVersion))
        .chain([Code::LimitReached, Code::NameTaken, Code::IdempotencyConflict, Code::IdempotencyKeyInvalid])
        .collect();
    Routes::new()
        .with(routes!(list), &[Code::BadCursor, Code::LimitRange])
        .with(routes!(create), &creating)
        .with(routes!(find), &[Code::AgentNotFound])
        .with(
            routes!(update),
            &[
                Code::AgentNotFound,
                Code::StaleVersion,
                Code::NameTaken,
                Code::Blank,
                Code::TooLong,
                Code::ControlCharacter,
            ],
        )
        .with(routes!(delete), &[Code::AgentNotFound, Code::StaleVersion, Code::AgentInUse])
        .with(routes!(draft_find), &[Code::AgentNotFound])
        .with(routes!(draft_update), &saving)
}

/// What each environment runs: numbers of versions, or null.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Running)]
pub struct RunningOut {
    /// Sandbox.
    #[schema(example = 3)]
    pub sandbox: Option<u32>,
    /// Pre-release.
    #[schema(example = 2)]
    pub pre_release: Option<u32>,
    /// Live.
    #[schema(example = 2)]
    pub live: Option<u32>,
}

impl From<Running> for RunningOut {
    fn from(running: Running) -> Self {
        RunningOut { sandbox: running.sandbox, pre_release: running.pre_release, live: running.live }
    }
}

/// An AI assistant that answers calls.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Agent)]
pub struct AgentOut {
    /// Its id.
    #[schema(value_type = schema::AgentId)]
    pub id: String,
    /// What people call it.
    #[schema(example = "Support")]
    pub name: String,
    /// What people edit. Calls reach what was published of it.
    pub draft: DraftOut,
    /// The variants of the draft, the default first; empty where the agent uses none.
    pub variants: Vec<VariantOut>,
    /// What each environment runs.
    pub running: RunningOut,
    /// Whether publishing would change what sandbox runs.
    pub unpublished_changes: bool,
    /// When it was made.
    #[schema(value_type = schema::Time)]
    pub created_at: String,
    /// When it, its draft or a variant was last changed.
    #[schema(value_type = schema::Time)]
    pub updated_at: String,
}

/// What people edit of an agent, its variants apart.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Draft)]
pub struct DraftOut {
    /// How calls reach the agent.
    pub endpoint: Option<EndpointOut>,
    /// What it speaks first, and what messages are spoken in.
    #[schema(value_type = Option<schema::Language>)]
    pub language: Option<String>,
    /// Where its calls go when it cannot take them.
    pub fallback: Option<FallbackOut>,
    /// Sent along with each call.
    pub call_parameters: BTreeMap<String, String>,
}

impl From<&domain::agent::Draft> for DraftOut {
    fn from(draft: &domain::agent::Draft) -> Self {
        DraftOut {
            endpoint: draft.endpoint.as_ref().map(Into::into),
            language: draft.language.as_ref().map(|language| language.as_str().to_owned()),
            fallback: draft.fallback.as_ref().map(Into::into),
            call_parameters: parameters_out(&draft.call_parameters),
        }
    }
}

/// Names and values that travel with a call.
pub(super) fn parameters_out(parameters: &domain::agent::Parameters) -> BTreeMap<String, String> {
    parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl From<&AgentState> for AgentOut {
    fn from(state: &AgentState) -> Self {
        let AgentState { agent, running, unpublished_changes } = state;
        let content = &agent.content;
        AgentOut {
            id: agent.id.to_string(),
            name: agent.name.clone(),
            draft: (&content.draft).into(),
            variants: VariantOut::all(content),
            running: (*running).into(),
            unpublished_changes: *unpublished_changes,
            created_at: time(agent.created_at),
            updated_at: time(agent.updated_at),
        }
    }
}

/// The saved draft, and what saving has published.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SavedDraft)]
pub struct SavedDraftOut {
    /// The draft.
    #[serde(flatten)]
    pub draft: DraftOut,
    /// Whether publishing would change what sandbox runs.
    pub unpublished_changes: bool,
    /// The version that saving has put into sandbox, where the workspace's `sandbox_follows` is `saved` and the draft can run.
    #[schema(example = json!(null))]
    pub published_version: Option<u32>,
}

/// A new agent.
#[derive(ToSchema)]
#[schema(as = NewAgent)]
pub struct AgentIn {
    /// What people call it.
    #[schema(example = "Support", min_length = 1, max_length = 100)]
    pub name: String,
    /// Its draft; everything in it may be left out and set later.
    pub draft: Option<DraftIn>,
}

/// What changes about an agent.
#[derive(ToSchema)]
#[schema(as = AgentChange)]
pub struct AgentPatchIn {
    /// What people call it.
    #[schema(example = "Support", min_length = 1, max_length = 100)]
    pub name: Option<String>,
}

/// What changes about a draft: absent leaves alone, null clears.
#[derive(ToSchema)]
#[schema(as = DraftChange)]
pub struct DraftIn {
    /// How calls reach the agent.
    pub endpoint: Option<EndpointIn>,
    /// What it speaks first, and what messages are spoken in.
    #[schema(value_type = Option<schema::Language>)]
    pub language: Option<String>,
    /// Where its calls go when it cannot take them.
    pub fallback: Option<FallbackIn>,
    /// Sent along with each call: at most 20; name and value together at most 450 bytes.
    pub call_parameters: Option<BTreeMap<String, String>>,
}

fn draft_read(fields: &mut Fields<'_>, reading: &Reading<'_>) -> DraftPatch {
    DraftPatch {
        endpoint: fields.patch("endpoint", |json| reading.endpoint(json)),
        language: fields.patch("language", |json| json.text(Language::parse)),
        fallback: fields.patch("fallback", |json| reading.fallback(json)),
        call_parameters: fields.patch("call_parameters", parameters),
        ..DraftPatch::default()
    }
}

fn created(state: &AgentState) -> (u16, String) {
    (StatusCode::CREATED.as_u16(), json_text(&AgentOut::from(state)))
}

/// List agents
///
/// The oldest first.
#[utoipa::path(
    get, path = "/v1/agents", tag = "Agents", operation_id = "agent_list",
    params(
        ("search" = Option<String>, Query, description = "A part of the name"),
        ("limit" = Option<u32>, Query, description = "How many, 1 to 200", example = 50),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of agents", body = Page<AgentOut>))
)]
pub async fn list(State(app): State<Shared>, caller: Caller, query: Query) -> Result<Response, Problem> {
    let (request, search) = query.read(|fields| {
        let search = fields.optional("search", |json| json.text(|text| Ok(text.to_owned())));
        Some((PageRequest::read(fields), search))
    })?;
    let list = ListKey {
        workspace: caller.workspace,
        route: "/v1/agents",
        filters: query.without(&["limit", "cursor"]),
    };
    let after: Option<AgentId> = request.after(&app.cursors, &list)?;
    let rows = agents::agent_list(&app, &caller, search, after, request.limit + 1).await?;
    let key = |state: &AgentState| state.agent.id.to_string();
    Ok(json_answer(&Page::cut(rows, &request, &app.cursors, &list, key, |state| AgentOut::from(&state))))
}

/// Create an agent
///
/// It takes no calls yet: publish it, and assign it to numbers.
#[utoipa::path(
    post, path = "/v1/agents", tag = "Agents", operation_id = "agent_create", 
    request_body(content = AgentIn, example = json!({"name": "Support", "draft": {"endpoint": {"type": "stream", "url": "wss://agent.example.com/media"}}})),
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating the request with the same key does nothing twice")),
    responses((status = 201, description = "The agent", body = AgentOut))
)]
pub async fn create(
    State(app): State<Shared>,
    caller: Caller,
    key: IdempotencyKey,
    body: Body,
) -> Result<Response, Problem> {
    let reading = Reading::new(&app).kept();
    let mut input = body.read(|fields| {
        let name = fields.required("name", |json| json.text(name_parse));
        let draft = fields.optional("draft", |json| json.object(|fields| Some(draft_read(fields, &reading))));
        Some(AgentInput { name: name?, draft: draft.unwrap_or_default() })
    })?;
    input.draft.secrets = reading.secrets();
    let once = key.once(&app, "POST /v1/agents", &body, created);
    let answer = agents::agent_create(&app, &caller, input, once).await?;
    let fresh = match &answer {
        crate::actions::Answer::Fresh(state) => Some((state.agent.id, state.agent.revision)),
        crate::actions::Answer::Replayed { .. } => None,
    };
    let mut response = answered(answer, created);
    if let Some((id, revision)) = fresh {
        let place = HeaderValue::from_str(&format!("/v1/agents/{id}")).expect("ids are ASCII");
        response.headers_mut().insert(LOCATION, place);
        response = with_etag(response, revision);
    }
    Ok(response)
}

/// Read an agent
#[utoipa::path(
    get, path = "/v1/agents/{id}", tag = "Agents", operation_id = "agent_show",
    params(("id" = schema::AgentId, Path, description = "The agent's id")),
    responses((status = 200, description = "The agent", body = AgentOut))
)]
pub async fn find(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
) -> Result<Response, Problem> {
    let state = agents::agent_find(&app, &caller, id).await?;
    Ok(with_etag(json_answer(&AgentOut::from(&state)), state.agent.revision))
}

/// Rename an agent
#[utoipa::path(
    patch, path = "/v1/agents/{id}", tag = "Agents", operation_id = "agent_patch", 
    request_body(content = AgentPatchIn, example = json!({"name": "Support"})),
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag that you have read"),
    ),
    responses((status = 200, description = "The agent", body = AgentOut))
)]
pub async fn update(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
    if_match: IfMatch,
    body: Body,
) -> Result<Response, Problem> {
    let name = body.read(|fields| Some(fields.patch_value("name", |json| json.text(name_parse))))?;
    let state = agents::agent_update(&app, &caller, id, if_match, name).await?;
    Ok(with_etag(json_answer(&AgentOut::from(&state)), state.agent.revision))
}

/// Delete an agent
///
/// One that still answers numbers is refused, and the refusal names them. Versions stay, for the calls that they took.
#[utoipa::path(
    delete, path = "/v1/agents/{id}", tag = "Agents", operation_id = "agent_delete",
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag that you have read"),
    ),
    responses((status = 204, description = "It is gone"))
)]
pub async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    agents::agent_delete(&app, &caller, id, if_match).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Read a draft
#[utoipa::path(
    get, path = "/v1/agents/{id}/draft", tag = "Agents", operation_id = "draft_show",
    params(("id" = schema::AgentId, Path, description = "The agent's id")),
    responses((status = 200, description = "The draft", body = SavedDraftOut))
)]
pub async fn draft_find(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
) -> Result<Response, Problem> {
    let state = agents::agent_find(&app, &caller, id).await?;
    Ok(draft_answer(&state, None))
}

/// Change a draft
///
/// Calls notice nothing until it is published – or at once in sandbox, where the workspace's `sandbox_follows` is `saved`.
#[utoipa::path(
    patch, path = "/v1/agents/{id}/draft", tag = "Agents", operation_id = "draft_patch", 
    request_body(content = DraftIn, example = json!({"language": "en-US", "call_parameters": {"greeting": "Hello"}})),
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag that you have read"),
    ),
    responses((status = 200, description = "The draft", body = SavedDraftOut))
)]
pub async fn draft_update(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
    if_match: IfMatch,
    body: Body,
) -> Result<Response, Problem> {
    let reading = Reading::new(&app).kept();
    let patch = body.read(|fields| Some(draft_read(fields, &reading)))?;
    let patch = DraftPatch { secrets: reading.secrets(), ..patch };
    let saved = agents::draft_update(&app, &caller, id, if_match, patch).await?;
    Ok(draft_answer(&saved.state, saved.version))
}

fn draft_answer(state: &AgentState, published_version: Option<u32>) -> Response {
    let out = SavedDraftOut {
        draft: (&state.agent.content.draft).into(),
        unpublished_changes: state.unpublished_changes,
        published_version,
    };
    with_etag(json_answer(&out), state.agent.revision)
}
