//! `Idempotency-Key` as HTTP carries it. What it does stands in `actions/once.rs`.

use axum::extract::FromRequestParts;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::error::Code;
use serde_json::Value;

use super::body::Body;
use super::error::Problem;
use crate::actions::{Answer, Once};

/// The longest key, in characters.
pub const KEY_CHARS_MAX: usize = 255;
/// The header that carries it.
pub static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header that tells a replay.
pub static IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The `Idempotency-Key` that was sent, if one was.
pub struct IdempotencyKey(pub Option<String>);

impl IdempotencyKey {
    fn read(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
        let mut sent = headers.get_all(&IDEMPOTENCY_KEY).iter();
        let Some(value) = sent.next() else { return Ok(IdempotencyKey(None)) };
        let invalid = |why: &str| {
            Problem::new(
                Code::IdempotencyKeyInvalid,
                format!(
                    "the Idempotency-Key {why}; send 1 to {KEY_CHARS_MAX} visible ASCII characters, such as a UUID"
                ),
            )
        };
        if sent.next().is_some() {
            return Err(invalid("was sent twice"));
        }
        let text = value
            .to_str()
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))
            .ok_or_else(|| invalid("has characters that are not visible ASCII"))?;
        if text.is_empty() || text.len() > KEY_CHARS_MAX {
            return Err(invalid(&format!("has {} characters", text.len())));
        }
        Ok(IdempotencyKey(Some(text.to_owned())))
    }

    /// The key, where the route cannot do without.
    pub fn required(self) -> Result<IdempotencyKey, Problem> {
        if self.0.is_some() {
            return Ok(self);
        }
        Err(Problem::new(
            Code::IdempotencyKeyRequired,
            "buying spends money, so it must be safe to repeat: send a header Idempotency-Key with a value of your own, such as a UUID",
        ))
    }

    /// The request as one that is done once. `answer` is what is kept and replayed.
    pub fn once<T>(self, route: &'static str, body: &Body, answer: fn(&T) -> (u16, Value)) -> Once<T> {
        Once { route, key: self.0, body_hash: body.hash(), answer }
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        IdempotencyKey::read(&parts.headers)
    }
}

/// The answer as a response. `fresh` is what a new answer shows, which may hold a secret that a replay does not.
pub fn answered<T>(answer: Answer<T>, fresh: fn(&T) -> (u16, Value)) -> Response {
    match answer {
        Answer::Fresh(done) => {
            let (status, body) = fresh(&done);
            written(status, body.to_string())
        }
        Answer::Replayed { status, body } => {
            let mut response = written(status, body);
            response.headers_mut().insert(IDEMPOTENT_REPLAYED.clone(), HeaderValue::from_static("true"));
            response
        }
    }
}

fn written(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
