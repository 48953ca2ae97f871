//! `/v1/api-keys`.

use axum::extract::State;
use axum::response::Response;
use domain::error::{Code, Refusal, shown};
use domain::id::KeyId;
use domain::number::parse_label;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::{Body, Query};
use super::endpoint::SecretOut;
use super::error::Problem;
use super::idempotency::{IdempotencyKey, answered};
use super::list::{ListKey, Page, PageRequest};
use super::path::Path;
use super::router::Routes;
use super::schema::{self, time, time_opt};
use super::{json_answer, json_answer_tagged, json_text};
use crate::actions::Caller;
use crate::actions::keys::{
    ApiKey, KeyMade, NewKey, key_create, key_list, key_revoke, key_show, parse_role, role_text,
};
use crate::app::Shared;

const LIST: &str = "/v1/api-keys";
const CREATE: &str = "POST /v1/api-keys";

/// The routes of this file.
pub fn routes() -> Routes {
    Routes::new()
        .with(routes!(list), &[Code::LimitRange, Code::BadCursor])
        .with(
            routes!(create),
            &[
                Code::IdempotencyKeyInvalid,
                Code::IdempotencyConflict,
                Code::LimitReached,
                Code::Blank,
                Code::TooLong,
                Code::ControlCharacter,
            ],
        )
        .with(routes!(show), &[])
        .with(routes!(revoke), &[Code::LastOwner])
}

/// List API keys
///
/// Revoked and expired keys too, oldest first. What a key looks like is never shown again.
#[utoipa::path(get, path = "/v1/api-keys", tag = "Keys", operation_id = "api_key_list",
    params(("limit" = Option<u32>, Query, description = "1 to 200; 50 unless sent."),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before.")),
    responses((status = 200, description = "A page of keys", body = Page<KeyOut>)))]
async fn list(State(app): State<Shared>, caller: Caller, query: Query) -> Result<Response, Problem> {
    let page = query.read(|fields| Some(PageRequest::read(fields)))?;
    let list = ListKey { workspace: caller.workspace, route: LIST, filters: String::new() };
    let after = page.after(&app.cursors, &list)?;
    let keys = key_list(&app, &caller, after, page.limit + 1).await?;
    Ok(json_answer(&Page::cut(
        keys,
        &page,
        &app.cursors,
        &list,
        |key| key.id.to_string(),
        |key| KeyOut::from(&key),
    )))
}

/// Create an API key
///
/// The answer shows the key, once. Nobody hands out more than they have: the role's permissions must be among your own.
#[utoipa::path(post, path = "/v1/api-keys", tag = "Keys", operation_id = "api_key_create",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the request safe to repeat. A replay does not show the key again.")),
    request_body(content = KeyIn, example = json!({"name": "deploy", "role": "builder"})),
    responses((status = 201, description = "The key, shown once", body = KeyMadeOut)))]
async fn create(
    State(app): State<Shared>,
    caller: Caller,
    key: IdempotencyKey,
    body: Body,
) -> Result<Response, Problem> {
    let new = body.read(|fields| {
        let name = fields.required("name", |json| json.text(parse_label));
        let role = fields.required("role", |json| json.text(parse_role));
        let expires_at = fields.optional("expires_at", |json| json.text(parse_time));
        Some(NewKey { name: name?, role: role?, expires_at })
    })?;
    let once = key.once(&app, CREATE, &body, replayed);
    Ok(answered(key_create(&app, &caller, new, once).await?, fresh))
}

/// Show an API key
#[utoipa::path(get, path = "/v1/api-keys/{id}", tag = "Keys", operation_id = "api_key_show",
    params(("id" = schema::KeyId, Path, description = "The key.")),
    responses((status = 200, description = "The key", body = KeyOut)))]
async fn show(State(app): State<Shared>, caller: Caller, Path(id): Path<KeyId>) -> Result<Response, Problem> {
    Ok(json_answer_tagged(&KeyOut::from(&key_show(&app, &caller, id).await?)))
}

/// Revoke an API key
///
/// At once and for good. Revoking it again changes nothing. The last key with the role owner stays.
#[utoipa::path(delete, path = "/v1/api-keys/{id}", tag = "Keys", operation_id = "api_key_revoke",
    params(("id" = schema::KeyId, Path, description = "The key.")),
    responses((status = 200, description = "The key as it is now", body = KeyOut)))]
async fn revoke(
    State(app): State<Shared>,
    caller: Caller,
    Path(id): Path<KeyId>,
) -> Result<Response, Problem> {
    Ok(json_answer(&KeyOut::from(&key_revoke(&app, &caller, id).await?)))
}

fn fresh(made: &KeyMade) -> (u16, String) {
    made_out(made, KeyText::Shown(made.text.expose_secret().to_owned()))
}

fn replayed(made: &KeyMade) -> (u16, String) {
    made_out(made, KeyText::Hidden(SecretOut { set: true, last4: made.key.last4.clone() }))
}

fn made_out(made: &KeyMade, key: KeyText) -> (u16, String) {
    (201, json_text(&KeyMadeOut { rest: KeyOut::from(&made.key), key }))
}

/// Reads a moment to come or gone.
pub(super) fn parse_time(text: &str) -> Result<Timestamp, Refusal> {
    text.parse().map_err(|_| {
        Refusal::new(
            Code::InvalidValue,
            format!(
                "{} is not a moment; send RFC 3339 with a time zone, such as 2026-12-31T00:00:00Z",
                shown(text)
            ),
        )
    })
}

/// An API key, without its secret.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKey)]
struct KeyOut {
    /// Its id.
    #[schema(value_type = schema::KeyId)]
    id: String,
    /// What people call it.
    #[schema(example = "deploy")]
    name: String,
    /// What it may do: a built-in role, or the id of one of yours.
    #[schema(example = "builder")]
    role: String,
    /// The last characters of the key.
    #[schema(example = "9fQx")]
    last4: String,
    /// When it was made.
    #[schema(value_type = schema::Time)]
    created_at: String,
    /// Who made it.
    #[schema(example = "command line")]
    created_by: String,
    /// When it ends by itself.
    #[schema(value_type = Option<schema::Time>)]
    expires_at: Option<String>,
    /// When a person ended it.
    #[schema(value_type = Option<schema::Time>)]
    revoked_at: Option<String>,
    /// When it was last used, give or take a minute.
    #[schema(value_type = Option<schema::Time>)]
    last_used_at: Option<String>,
}

/// An API key that was just made.
#[derive(Serialize, ToSchema)]
#[schema(as = ApiKeyMade)]
struct KeyMadeOut {
    #[serde(flatten)]
    rest: KeyOut,
    /// The key itself, shown only this once. In a replayed answer: `{"set":true,"last4":"…"}`.
    key: KeyText,
}

/// The key itself, or in a replayed answer what may be known of it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum KeyText {
    Shown(String),
    Hidden(SecretOut),
}

/// An API key as it is asked for.
#[derive(ToSchema)]
#[schema(as = ApiKeyIn)]
#[expect(dead_code, reason = "says what `create` reads; a test compares")]
struct KeyIn {
    /// What people call it.
    #[schema(max_length = 100)]
    name: String,
    /// `owner`, `admin`, `builder`, `viewer`, or the id of a role of yours.
    role: String,
    /// When it is to end by itself.
    #[schema(value_type = Option<schema::Time>)]
    expires_at: Option<String>,
}

impl From<&ApiKey> for KeyOut {
    fn from(key: &ApiKey) -> Self {
        KeyOut {
            id: key.id.to_string(),
            name: key.name.clone(),
            role: role_text(key.role),
            last4: key.last4.clone(),
            created_at: time(key.created_at),
            created_by: key.created_by.clone(),
            expires_at: time_opt(key.expires_at),
            revoked_at: time_opt(key.revoked_at),
            last_used_at: time_opt(key.last_used_at),
        }
    }
}
