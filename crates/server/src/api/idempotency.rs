//! `Idempotency-Key` as HTTP carries it. What it does stands in `actions/once.rs`.

use axum::extract::FromRequestParts;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::error::Code;
use ring::hmac::{HMAC_SHA256, Key};

use super::body::Body;
use super::error::Problem;
use crate::actions::{Answer, Once};
use crate::app::Shared;

/// The longest key, in characters.
pub const KEY_CHARS_MAX: usize = 255;
/// The header that carries it.
pub static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header that tells a replay.
pub static IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The `Idempotency-Key` that was sent, if one was, and what it was sent with.
pub struct IdempotencyKey {
    key: Option<String>,
    /// Method, address and condition of the request: with another, it is another request.
    subject: String,
}

impl IdempotencyKey {
    fn read(headers: &HeaderMap) -> Result<Option<String>, Problem> {
        let mut sent = headers.get_all(&IDEMPOTENCY_KEY).iter();
        let Some(value) = sent.next() else { return Ok(None) };
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
        Ok(Some(text.to_owned()))
    }

    /// The key, where the route cannot do without.
    pub fn required(self) -> Result<IdempotencyKey, Problem> {
        if self.key.is_some() {
            return Ok(self);
        }
        Err(Problem::new(
            Code::IdempotencyKeyRequired,
            "buying spends money, so it must be safe to repeat: send a header Idempotency-Key with a value of your own, such as a UUID",
        ))
    }

    /// The request as one that is done once. `answer` is what is kept and replayed.
    pub fn once<T>(
        self,
        app: &Shared,
        route: &'static str,
        body: &Body,
        answer: fn(&T) -> (u16, String),
    ) -> Once<T> {
        let key = Key::new(HMAC_SHA256, &*app.keyring.derive("idempotency/1"));
        Once { route, key: self.key, body_hash: body.fingerprint(&key, &self.subject), answer }
    }
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let condition: Vec<_> =
            parts.headers.get_all(IF_MATCH).iter().map(|value| value.to_str().unwrap_or_default()).collect();
        let subject = format!("{} {}\nIf-Match: {}", parts.method, parts.uri, condition.join(", "));
        Ok(IdempotencyKey { key: IdempotencyKey::read(&parts.headers)?, subject })
    }
}

/// The answer as a response. `fresh` is what a new answer shows, which may hold a secret that a replay does not.
pub fn answered<T>(answer: Answer<T>, fresh: fn(&T) -> (u16, String)) -> Response {
    match answer {
        Answer::Fresh(done) => {
            let (status, body) = fresh(&done);
            written(status, body)
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
