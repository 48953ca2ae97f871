//! JSON in, JSON out. Handlers read a request into domain types, call one action, and show the outcome; they decide nothing,
//! and they never see the database.
//!
//! How to add a noun: `docs/howto/add-an-endpoint.md`.

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
pub mod findings;
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

/// A body, as every answer writes it: its fields stand in the order in which they are declared.
fn json_text(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("our own types always serialise")
}

/// A 200 with a body.
fn json_answer(body: &impl Serialize) -> Response {
    json_answer_with(StatusCode::OK, body)
}

/// An answer with a body.
fn json_answer_with(status: StatusCode, body: &impl Serialize) -> Response {
    let body = json_text(body);
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// A 200 with a body and an `ETag` made of it, for what has no revision of its own.
fn json_answer_tagged(body: &impl Serialize) -> Response {
    let body = json_text(body);
    let digest = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
    let half = u128::from_be_bytes(digest.as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"));
    let tag = HeaderValue::from_str(&format!("\"{half:032x}\"")).expect("hex digits and quotes");
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json")), (ETAG, tag)];
    (StatusCode::OK, headers, body).into_response()
}

/// The answer with the `ETag` of a revision.
fn with_etag(mut response: Response, revision: i64) -> Response {
    response.headers_mut().insert(ETAG, etag::etag(revision));
    response
}
