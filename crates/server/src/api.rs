//! JSON in, JSON out. Handlers read a request into domain types, call one action, and show the outcome; they decide nothing,
//! and they never see the database.
//!
//! # How to add a noun
//!
//! 1. `actions/<nouns>.rs`: what can be done, each `pub async fn <noun>_<verb>(app, &caller, …) -> Result<_, Failure>`; begin with
//!    `caller.may(…)?`, change in one `app.database.try_write`, record with `caller.change(…).record(tx)`, nudge when it is committed.
//! 2. `api/<nouns>.rs`: an `…Out` struct with `ToSchema` and an example for what is shown, a reader (`body.read(|fields| …)`) for what
//!    is sent with an `…In` schema of the same fields, and a handler with `#[utoipa::path]` for each route (its doc comment is the docs).
//! 3. `pub fn routes() -> Routes` there, with `.with(routes!(handler), &[codes of its own])` for each, and one line in `api/router.rs`.
//! 4. Codes go into the table in `domain/src/error.rs`; nothing else mentions a status.
//! 5. `tests/it/<nouns>.rs`: a story through the true router, snapshots of status and body; then `UPDATE_EXPECT=1 cargo test -p server`
//!    for `openapi.json`, and read the difference.

pub mod agents;
pub mod answer;
pub mod audit;
pub mod auth;
pub mod body;
pub mod callouts;
pub mod calls;
pub mod docs;
pub mod endpoint;
pub mod error;
pub mod etag;
pub mod events;
pub mod failure;
pub mod fields;
pub mod health;
pub mod idempotency;
pub mod json;
pub mod keys;
pub mod list;
pub mod number_settings;
pub mod number_shapes;
pub mod numbers;
pub mod path;
pub mod roles;
pub mod router;
pub mod routes;
pub mod schema;
pub mod store;
mod strict;
pub mod variants;
pub mod version_shapes;
pub mod versions;
pub mod workspace;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

pub use self::answer::answer;
pub use self::auth::wait_where_over;
pub use self::error::{FieldError, PROBLEM_JSON, Problem};
pub use self::list::Cursors;
pub use self::router::{openapi, router};

/// A 200 with a body.
fn json_answer(body: &impl Serialize) -> Response {
    json_answer_with(StatusCode::OK, body)
}

/// An answer with a body.
fn json_answer_with(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("our own types always serialise");
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// The answer with the `ETag` of a revision.
fn with_etag(mut response: Response, revision: i64) -> Response {
    response.headers_mut().insert(ETAG, etag::etag(revision));
    response
}
