//! `/v1/roles`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use domain::error::Code;
use domain::id::RoleId;
use domain::number::parse_text;
use domain::permission::{BuiltInRole, Permission, Permissions};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::{Body, Query};
use super::error::Problem;
use super::fields::Json;
use super::idempotency::{IdempotencyKey, answered};
use super::list::{ListKey, Page, PageRequest};
use super::path::Path;
use super::router::Routes;
use super::schema::{self, time_opt};
use super::{json_answer, json_text, with_etag};
use crate::actions::roles::{
    NAME_CHARS_MAX, NewRole, Role, RolePatch, role_create, role_delete, role_list, role_patch, role_show,
};
use crate::actions::{Caller, IfMatch};
use crate::app::Shared;

const LIST: &str = "/v1/roles";
const CREATE: &str = "POST /v1/roles";
const FIELDS: &[Code] = &[
    Code::NameTaken,
    Code::Blank,
    Code::TooLong,
    Code::TooMany,
    Code::ControlCharacter,
    Code::StaleVersion,
    Code::IdempotencyKeyInvalid,
    Code::IdempotencyConflict,
    Code::LimitReached,
];

/// The routes of this file.
pub fn routes() -> Routes {
    Routes::new()
        .with(routes!(list), &[Code::LimitRange, Code::BadCursor])
        .with(routes!(create), FIELDS)
        .with(routes!(show), &[])
        .with(routes!(patch), FIELDS)
        .with(routes!(delete), &[Code::RoleInUse])
}

/// List roles
///
/// The built-in ones come first, on the first page; then those of the workspace's own, oldest first.
#[utoipa::path(get, path = "/v1/roles", tag = "Keys", operation_id = "role_list",
    params(("limit" = Option<u32>, Query, description = "1 to 200; 50 unless sent. The built-in roles are not counted."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.")),
    responses((status = 200, description = "A page of roles", body = Page<RoleOut>)))]
async fn list(State(app): State<Shared>, caller: Caller, query: Query) -> Result<Response, Problem> {
    let page = query.read(|fields| Some(PageRequest::read(fields)))?;
    let list = ListKey { workspace: caller.workspace, route: LIST, filters: String::new() };
    let after: Option<RoleId> = page.after(&app.cursors, &list)?;
    let roles = role_list(&app, &caller, after, page.limit + 1).await?;
    let mut out =
        Page::cut(roles, &page, &app.cursors, &list, |role| role.id.to_string(), |role| RoleOut::from(&role));
    if after.is_none() {
        out.data.splice(0..0, BuiltInRole::ALL.iter().map(|&role| RoleOut::from(role)));
    }
    Ok(json_answer(&out))
}

/// Create a role
#[utoipa::path(post, path = "/v1/roles", tag = "Keys", operation_id = "role_create",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the request safe to repeat.")),
    request_body(content = RoleIn, example = json!({"name": "support", "permissions": ["numbers:read", "calls:read"]})),
    responses((status = 201, description = "The role", body = RoleOut)))]
async fn create(
    State(app): State<Shared>,
    caller: Caller,
    key: IdempotencyKey,
    body: Body,
) -> Result<Response, Problem> {
    let new = body.read(|fields| {
        let name = fields.required("name", |json| json.text(|text| parse_text(text, NAME_CHARS_MAX)));
        let permissions = fields.required("permissions", permissions);
        Some(NewRole { name: name?, permissions: permissions? })
    })?;
    let once = key.once(&app, CREATE, &body, created);
    Ok(answered(role_create(&app, &caller, new, once).await?, created))
}

/// Show a role
#[utoipa::path(get, path = "/v1/roles/{id}", tag = "Keys", operation_id = "role_show",
    params(("id" = schema::RoleId, Path, description = "The role.")),
    responses((status = 200, description = "The role", body = RoleOut)))]
async fn show(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<RoleId>,
) -> Result<Response, Problem> {
    let role = role_show(&app, &caller, id).await?;
    Ok(with_etag(json_answer(&RoleOut::from(&role)), role.revision))
}

/// Change a role
///
/// Keys that have it may do what it allows from now on.
#[utoipa::path(patch, path = "/v1/roles/{id}", tag = "Keys", operation_id = "role_patch",
    params(("id" = schema::RoleId, Path, description = "The role."),
        ("If-Match" = Option<String>, Header, description = "Change it only if it is still what you have seen: its `ETag`.")),
    request_body(content = RolePatchIn, example = json!({"permissions": ["numbers:read"]})),
    responses((status = 200, description = "The role as it is now", body = RoleOut)))]
async fn patch(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<RoleId>,
    if_match: IfMatch,
    body: Body,
) -> Result<Response, Problem> {
    let patch = body.read(|fields| {
        let name = fields.patch_value("name", |json| json.text(|text| parse_text(text, NAME_CHARS_MAX)));
        let permissions = fields.patch_value("permissions", permissions);
        Some(RolePatch { name, permissions })
    })?;
    let role = role_patch(&app, &caller, id, patch, if_match).await?;
    Ok(with_etag(json_answer(&RoleOut::from(&role)), role.revision))
}

/// Delete a role
///
/// Only where no key has it any more.
#[utoipa::path(delete, path = "/v1/roles/{id}", tag = "Keys", operation_id = "role_delete",
    params(("id" = schema::RoleId, Path, description = "The role."),
        ("If-Match" = Option<String>, Header, description = "Delete it only if it is still what you have seen: its `ETag`.")),
    responses((status = 204, description = "It is gone")))]
async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<RoleId>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    role_delete(&app, &caller, id, if_match).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn created(role: &Role) -> (u16, String) {
    (201, json_text(&RoleOut::from(role)))
}

fn permissions(json: &Json<'_>) -> Option<Permissions> {
    json.array(Permission::ALL.len(), Json::parse::<Permission>).map(Permissions::of)
}

/// A set of permissions with a name.
#[derive(Serialize, ToSchema)]
#[schema(as = Role)]
struct RoleOut {
    /// Its id; null for a built-in role, which is named instead.
    #[schema(value_type = Option<schema::RoleId>)]
    id: Option<String>,
    /// What people call it.
    #[schema(example = "support")]
    name: String,
    /// Whether every workspace has it; then it cannot be changed.
    built_in: bool,
    /// What it allows.
    #[schema(value_type = Vec<schema::Permission>)]
    permissions: Vec<Permission>,
    /// When it was made.
    #[schema(value_type = Option<schema::Time>)]
    created_at: Option<String>,
    /// When it was last changed.
    #[schema(value_type = Option<schema::Time>)]
    updated_at: Option<String>,
}

/// A role as it is asked for.
#[derive(ToSchema)]
#[expect(dead_code, reason = "says what `create` reads; a test compares")]
struct RoleIn {
    /// What people call it.
    #[schema(max_length = 60)]
    name: String,
    /// What it allows.
    #[schema(value_type = Vec<schema::Permission>)]
    permissions: Vec<String>,
}

/// What can be changed of a role.
#[derive(ToSchema)]
#[schema(as = RolePatch)]
#[expect(dead_code, reason = "says what `patch` reads; a test compares")]
struct RolePatchIn {
    /// What people call it.
    #[schema(max_length = 60)]
    name: Option<String>,
    /// What it allows.
    #[schema(value_type = Option<Vec<schema::Permission>>)]
    permissions: Option<Vec<String>>,
}

impl From<&Role> for RoleOut {
    fn from(role: &Role) -> Self {
        RoleOut {
            id: Some(role.id.to_string()),
            name: role.name.clone(),
            built_in: false,
            permissions: role.permissions.iter().collect(),
            created_at: time_opt(Some(role.created_at)),
            updated_at: time_opt(Some(role.updated_at)),
        }
    }
}

impl From<BuiltInRole> for RoleOut {
    fn from(role: BuiltInRole) -> Self {
        RoleOut {
            id: None,
            name: role.to_string(),
            built_in: true,
            permissions: role.permissions().iter().collect(),
            created_at: None,
            updated_at: None,
        }
    }
}
