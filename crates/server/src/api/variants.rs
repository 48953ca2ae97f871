//! Variants of a draft as JSON.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, LOCATION};
use axum::response::{IntoResponse as _, Response};
use domain::agent::{Content, Parameters, VARIANTS_MAX, Variant};
use domain::error::Code;
use domain::id::{AgentId, VariantId};
use domain::variant::name_parse;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::agents::{ENDPOINT_CODES, parameters_out};
use super::body::{Body, Query};
use super::endpoint::{EndpointIn, EndpointOut, Reading, parameters};
use super::error::Problem;
use super::fields::Fields;
use super::idempotency::{IdempotencyKey, answered};
use super::list::{ListKey, Page, PageRequest};
use super::path::{Path, Path2};
use super::router::Routes;
use super::schema;
use super::{json_answer, json_text, with_etag};
use crate::actions::secrets::NewSecrets;
use crate::actions::variants::{self, VariantInput, VariantPatch, VariantState};
use crate::actions::{Answer, Caller, IfMatch};
use crate::app::Shared;

/// The last place that can be asked for.
const POSITION_MAX: u16 = 500;
const _: () = assert!(POSITION_MAX as usize == VARIANTS_MAX);

/// The routes of variants.
pub fn routes() -> Routes {
    let saving: Vec<Code> = ENDPOINT_CODES
        .iter()
        .copied()
        .chain([Code::AgentNotFound, Code::VariantNotFound, Code::StaleVersion, Code::NameTaken])
        .collect();
    let creating: Vec<Code> = saving
        .iter()
        .copied()
        .chain([Code::LimitReached, Code::IdempotencyConflict, Code::IdempotencyKeyInvalid])
        .collect();
    Routes::new()
        .with(routes!(list), &[Code::AgentNotFound, Code::BadCursor, Code::LimitRange])
        .with(routes!(create), &creating)
        .with(routes!(find), &[Code::AgentNotFound, Code::VariantNotFound])
        .with(routes!(update), &saving)
        .with(
            routes!(delete),
            &[Code::AgentNotFound, Code::VariantNotFound, Code::StaleVersion, Code::DefaultVariant],
        )
}

/// One agent, many sites: what differs at one of them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Variant)]
pub struct VariantOut {
    /// Its id, the same in draft and versions.
    #[schema(value_type = schema::VariantId)]
    pub id: String,
    /// What people call it; once per agent.
    #[schema(example = "Paris")]
    pub name: String,
    /// Its place, from 1.
    pub position: usize,
    /// Whether it answers numbers that are assigned to no variant: the first one does.
    pub is_default: bool,
    /// Sent along with each call, over the agent's `call_parameters` of the same name.
    pub attributes: BTreeMap<String, String>,
    /// Its own endpoint, instead of the agent's.
    pub endpoint: Option<EndpointOut>,
}

impl VariantOut {
    fn new(variant: &Variant, position: usize) -> VariantOut {
        VariantOut {
            id: variant.id.to_string(),
            name: variant.name.clone(),
            position,
            is_default: position == 1,
            attributes: parameters_out(&variant.attributes),
            endpoint: variant.endpoint.as_ref().map(Into::into),
        }
    }

    /// All variants of a content, in their order.
    pub fn all(content: &Content) -> Vec<VariantOut> {
        content
            .variants
            .iter()
            .zip(1..)
            .map(|(variant, position)| VariantOut::new(variant, position))
            .collect()
    }
}

/// A new variant.
#[derive(ToSchema)]
#[schema(as = NewVariant)]
pub struct VariantIn {
    /// What people call it; once per agent, whatever its letter case.
    #[schema(example = "Paris", min_length = 1, max_length = 100)]
    pub name: String,
    /// Sent along with each call.
    pub attributes: Option<BTreeMap<String, String>>,
    /// Its own endpoint, instead of the agent's.
    pub endpoint: Option<EndpointIn>,
    /// Its place, from 1, which is the default's; the last where it is left out.
    #[schema(minimum = 1, maximum = 500)]
    pub position: Option<u16>,
}

/// What changes about a variant: absent leaves alone, null clears.
#[derive(ToSchema)]
#[schema(as = VariantChange)]
pub struct VariantPatchIn {
    /// What people call it.
    #[schema(min_length = 1, max_length = 100)]
    pub name: Option<String>,
    /// Sent along with each call.
    pub attributes: Option<BTreeMap<String, String>>,
    /// Its own endpoint, instead of the agent's.
    pub endpoint: Option<EndpointIn>,
    /// Its place, from 1, which is the default's.
    #[schema(minimum = 1, maximum = 500)]
    pub position: Option<u16>,
}

fn position(fields: &mut Fields<'_>) -> Option<u16> {
    fields.optional("position", |json| json.integer(1..=POSITION_MAX))
}

fn created(state: &VariantState) -> (u16, String) {
    (StatusCode::CREATED.as_u16(), json_text(&VariantOut::new(&state.variant, state.position)))
}

fn shown(state: &VariantState) -> Response {
    with_etag(json_answer(&VariantOut::new(&state.variant, state.position)), state.agent.agent.revision)
}

/// List the variants of a draft
///
/// In their order, the default first. The ETag is the agent's: changing one variant changes it.
#[utoipa::path(
    get, path = "/v1/agents/{id}/variants", tag = "Agents", operation_id = "variant_list",
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("limit" = Option<u32>, Query, description = "How many, 1 to 200", example = 50),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of variants", body = Page<VariantOut>))
)]
pub async fn list(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
    query: Query,
) -> Result<Response, Problem> {
    let request = query.read(|fields| Some(PageRequest::read(fields)))?;
    let list =
        ListKey { workspace: caller.workspace, route: "/v1/agents/{id}/variants", filters: id.to_string() };
    let after: Option<usize> = request.after(&app.cursors, &list)?;
    let state = variants::variant_list(&app, &caller, id).await?;
    let rows = VariantOut::all(&state.agent.content)
        .into_iter()
        .skip(after.unwrap_or_default())
        .take(request.limit as usize + 1)
        .collect();
    let key = |variant: &VariantOut| variant.position.to_string();
    let page = Page::cut(rows, &request, &app.cursors, &list, key, |variant| variant);
    Ok(with_etag(json_answer(&page), state.agent.revision))
}

/// Create a variant
///
/// It can be assigned to numbers once it is published to their environment.
#[utoipa::path(
    post, path = "/v1/agents/{id}/variants", tag = "Agents", operation_id = "variant_create", 
    request_body(content = VariantIn, example = json!({"name": "Paris", "attributes": {"site": "paris"}})),
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeating the request with the same key does nothing twice"),
        ("If-Match" = Option<String>, Header, description = "The ETag that you have read"),
    ),
    responses((status = 201, description = "The variant", body = VariantOut))
)]
pub async fn create(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<AgentId>,
    if_match: IfMatch,
    key: IdempotencyKey,
    body: Body,
) -> Result<Response, Problem> {
    let reading = Reading::new(&app).kept();
    let input = body.read(|fields| {
        let name = fields.required("name", |json| json.text(name_parse));
        let attributes = fields.optional("attributes", parameters);
        let endpoint = fields.optional("endpoint", |json| reading.endpoint(json));
        let position = position(fields);
        let attributes = attributes.unwrap_or_else(Parameters::default);
        Some(VariantInput { name: name?, attributes, endpoint, position, secrets: NewSecrets::default() })
    })?;
    let input = VariantInput { secrets: reading.secrets(), ..input };
    let once = key.once(&app, "POST /v1/agents/{id}/variants", &body, created);
    let answer = variants::variant_create(&app, &caller, id, if_match, input, once).await?;
    let fresh = match &answer {
        Answer::Fresh(state) => Some((state.variant.id, state.agent.agent.revision)),
        Answer::Replayed { .. } => None,
    };
    let mut response = answered(answer, created);
    if let Some((variant, revision)) = fresh {
        let place = format!("/v1/agents/{id}/variants/{variant}");
        response.headers_mut().insert(LOCATION, HeaderValue::from_str(&place).expect("ids are ASCII"));
        response = with_etag(response, revision);
    }
    Ok(response)
}

/// Read a variant
#[utoipa::path(
    get, path = "/v1/agents/{id}/variants/{variant_id}", tag = "Agents", operation_id = "variant_show",
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("variant_id" = schema::VariantId, Path, description = "The variant's id"),
    ),
    responses((status = 200, description = "The variant", body = VariantOut))
)]
pub async fn find(
    State(app): State<Shared>,
    caller: Caller,
    Path2(agent, id): Path2<AgentId, VariantId>,
) -> Result<Response, Problem> {
    Ok(shown(&variants::variant_find(&app, &caller, agent, id).await?))
}

/// Change a variant
///
/// `position: 1` makes it the default.
#[utoipa::path(
    patch, path = "/v1/agents/{id}/variants/{variant_id}", tag = "Agents", operation_id = "variant_patch", 
    request_body(content = VariantPatchIn, example = json!({"name": "Lyon"})),
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("variant_id" = schema::VariantId, Path, description = "The variant's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag that you have read"),
    ),
    responses((status = 200, description = "The variant", body = VariantOut))
)]
pub async fn update(
    State(app): State<Shared>,
    caller: Caller,
    Path2(agent, id): Path2<AgentId, VariantId>,
    if_match: IfMatch,
    body: Body,
) -> Result<Response, Problem> {
    let reading = Reading::new(&app).kept();
    let patch = body.read(|fields| {
        Some(VariantPatch {
            name: fields.patch_value("name", |json| json.text(name_parse)),
            attributes: fields.patch("attributes", parameters),
            endpoint: fields.patch("endpoint", |json| reading.endpoint(json)),
            position: position(fields),
            ..VariantPatch::default()
        })
    })?;
    let patch = VariantPatch { secrets: reading.secrets(), ..patch };
    Ok(shown(&variants::variant_update(&app, &caller, agent, id, if_match, patch).await?))
}

/// Delete a variant
///
/// Numbers that carry it keep it until they are reassigned; the default variant answers them once this is published, and a callout
/// says so. The default itself goes last.
#[utoipa::path(
    delete, path = "/v1/agents/{id}/variants/{variant_id}", tag = "Agents", operation_id = "variant_delete",
    params(
        ("id" = schema::AgentId, Path, description = "The agent's id"),
        ("variant_id" = schema::VariantId, Path, description = "The variant's id"),
        ("If-Match" = Option<String>, Header, description = "The ETag that you have read"),
    ),
    responses((status = 204, description = "It is gone from the draft"))
)]
pub async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    Path2(agent, id): Path2<AgentId, VariantId>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    variants::variant_delete(&app, &caller, agent, id, if_match).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
