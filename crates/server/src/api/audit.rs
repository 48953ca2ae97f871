//! The audit log as JSON.

use axum::extract::State;
use axum::response::Response;
use domain::error::{Code, RECEIVED_CHARS_MAX, Refusal, shown};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::Query;
use super::error::Problem;
use super::fields::nearest;
use super::json_answer;
use super::list::{ListKey, Page, PageRequest};
use super::router::Routes;
use super::routes::time_parse;
use super::schema::{self, time};
use crate::actions::Caller;
use crate::actions::audit::{ACTIONS, AuditEntry, AuditFilter, audit_page};
use crate::app::Shared;

/// The routes of the audit log.
pub fn routes() -> Routes {
    Routes::new().with(routes!(list), &[Code::BadCursor, Code::LimitRange, Code::InvalidValue])
}

/// Who did what.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditEntryOut {
    /// Its id.
    #[schema(example = "aud_01kb5x3a7m0000000000000000")]
    pub id: String,
    /// Its place in the workspace's log, from 1 and without gaps.
    pub seq: i64,
    /// When.
    #[schema(value_type = schema::Time)]
    pub at: String,
    /// Who: a key, the command line, a task of the program, or a carrier.
    #[schema(example = "key:key_01kb5x3a7m0000000000000000")]
    pub actor: String,
    /// What.
    #[schema(example = "agent.publish")]
    pub action: String,
    /// The id of what it was done to.
    #[schema(example = "agt_01kb5x3a7m0000000000000000")]
    pub target: String,
    /// What it was before; never a secret.
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// What it was after; never a secret.
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
    /// The request that asked for it.
    #[schema(example = "req_01kb5x3a7m0000000000000000")]
    pub request_id: Option<String>,
    /// Covers this entry and all before it.
    pub hash: String,
}

impl From<AuditEntry> for AuditEntryOut {
    fn from(entry: AuditEntry) -> Self {
        AuditEntryOut {
            id: entry.id.to_string(),
            seq: entry.seq,
            at: time(entry.at),
            actor: entry.actor,
            action: entry.action,
            target: entry.target,
            before: entry.before,
            after: entry.after,
            request_id: entry.request_id,
            hash: entry.hash,
        }
    }
}

fn word_parse(text: &str) -> Result<String, Refusal> {
    domain::number::parse_text(text, RECEIVED_CHARS_MAX)
}

fn action_parse(text: &str) -> Result<String, Refusal> {
    if ACTIONS.contains(&text) {
        return Ok(text.to_owned());
    }
    let meant = nearest(text, ACTIONS).map_or_else(String::new, |meant| format!("did you mean {meant}? "));
    Err(Refusal::new(
        Code::InvalidValue,
        format!("{} is not an action; {meant}They are {}", shown(text), ACTIONS.join(", ")),
    ))
}

/// Read the audit log
///
/// The latest first. Each entry's hash covers the one before: `switchboard audit verify` finds what was changed or removed.
#[utoipa::path(
    get, path = "/v1/audit", tag = "Audit", operation_id = "audit_list",
    params(
        ("target" = Option<String>, Query, description = "Done to this: an id"),
        ("actor" = Option<String>, Query, description = "Done by this, such as key:key_…"),
        ("action" = Option<String>, Query, description = "This was done, such as agent.publish"),
        ("after" = Option<schema::Time>, Query, description = "Done at or after this moment"),
        ("before" = Option<schema::Time>, Query, description = "Done before this moment"),
        ("limit" = Option<u32>, Query, description = "How many, 1 to 200", example = 50),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of the log", body = Page<AuditEntryOut>))
)]
pub async fn list(State(app): State<Shared>, caller: Caller, query: Query) -> Result<Response, Problem> {
    let (request, filter) = query.read(|fields| {
        let filter = AuditFilter {
            target: fields.optional("target", |json| json.text(word_parse)),
            actor: fields.optional("actor", |json| json.text(word_parse)),
            action: fields.optional("action", |json| json.text(action_parse)),
            from: fields.optional("after", |json| json.text(time_parse)),
            before: fields.optional("before", |json| json.text(time_parse)),
        };
        Some((PageRequest::read(fields), filter))
    })?;
    let list = ListKey {
        workspace: caller.workspace,
        route: "/v1/audit",
        filters: query.without(&["limit", "cursor"]),
    };
    let before: Option<i64> = request.after(&app.cursors, &list)?;
    let rows = audit_page(&app, &caller, filter, before, request.limit + 1).await?;
    let key = |entry: &AuditEntry| entry.seq.to_string();
    Ok(json_answer(&Page::cut(rows, &request, &app.cursors, &list, key, AuditEntryOut::from)))
}
