//! `ETag` and `If-Match` as HTTP carries them. What they mean stands in `actions/if_match.rs`.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::header::IF_MATCH;
use axum::http::request::Parts;

use crate::actions::IfMatch;
use crate::actions::etag_text;

/// The `ETag` of a revision.
pub fn etag(revision: i64) -> HeaderValue {
    HeaderValue::from_str(&etag_text(revision)).expect("digits and quotes")
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let sent: Vec<String> = parts
            .headers
            .get_all(IF_MATCH)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        Ok(IfMatch((!sent.is_empty()).then(|| sent.join(","))))
    }
}
