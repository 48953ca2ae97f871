//! Bodies and queries: read whole, capped, and as strictly as `json` and `fields` do. Handlers take [`Body`] and [`Query`] and
//! never see axum's own extractors, whose answers are not ours.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use domain::error::{Code, Refusal, shown};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use ring::hmac::{Context, Key};
use serde_json::{Map, Value};

use super::error::{FieldError, Problem};
use super::fields::{Fields, read_object};
use super::json;
use crate::app::Shared;

/// The largest body of an API request, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// The longest query string, in bytes.
pub const QUERY_BYTES_MAX: usize = 8 * 1024;

/// A JSON body.
pub struct Body {
    value: Value,
}

/// A JSON body that may be left out: then it is an empty object.
pub struct MaybeBody(pub Body);

impl Body {
    /// Reads the fields of the body; all errors are answered at once.
    pub fn read<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, Problem> {
        read_object(&self.value, read)
    }

    /// A fingerprint of a request: the same for the same `subject` and the same JSON, however that is spaced and ordered. It is
    /// keyed, because bodies hold passwords, and whoever finds the fingerprint must not be able to try some.
    pub fn fingerprint(&self, key: &Key, subject: &str) -> [u8; 32] {
        let mut context = Context::with_key(key);
        update_with(&mut context, &Value::from(subject));
        update_with(&mut context, &self.value);
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// Feeds a value to a hash so that no two values look alike, with object keys in order.
fn update_with(context: &mut Context, value: &Value) {
    match value {
        Value::Array(items) => {
            context.update(format!("[{}", items.len()).as_bytes());
            for item in items {
                update_with(context, item);
            }
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            context.update(format!("{{{}", entries.len()).as_bytes());
            for (key, value) in entries {
                update_with(context, &Value::from(key.as_str()));
                update_with(context, value);
            }
        }
        plain => {
            let text = plain.to_string();
            context.update(format!("{}:", text.len()).as_bytes());
            context.update(text.as_bytes());
        }
    }
}

impl FromRequest<Shared> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Body, Problem> {
        check_content_type(request.headers())?;
        let bytes = read_all(request).await?;
        Ok(Body { value: json::parse(&bytes)? })
    }
}

impl FromRequest<Shared> for MaybeBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<MaybeBody, Problem> {
        let typed = check_content_type(request.headers());
        let bytes = read_all(request).await?;
        if bytes.is_empty() {
            return Ok(MaybeBody(Body { value: Value::Object(Map::new()) }));
        }
        typed?;
        Ok(MaybeBody(Body { value: json::parse(&bytes)? }))
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let sent = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let (media_type, parameters) = match &sent {
        Some(sent) => sent.split_once(';').unwrap_or((sent, "")),
        None => ("", ""),
    };
    let utf_8 = parameters.trim().is_empty()
        || parameters
            .trim()
            .strip_prefix("charset=")
            .is_some_and(|charset| charset.trim_matches('"').eq_ignore_ascii_case("utf-8"));
    if media_type.trim().eq_ignore_ascii_case("application/json") && utf_8 {
        return Ok(());
    }
    let received =
        sent.map_or("no Content-Type".to_owned(), |sent| format!("the Content-Type {}", shown(&sent)));
    Err(Problem::new(
        Code::UnsupportedMediaType,
        format!("the request has {received}; send `application/json` in UTF-8"),
    ))
}

async fn read_all(request: Request) -> Result<bytes::Bytes, Problem> {
    let too_large = || {
        Problem::new(
            Code::BodyTooLarge,
            format!("the body is larger than {BODY_BYTES_MAX} bytes, the limit of this address"),
        )
    };
    let announced =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Problem::new(Code::JsonSyntax, "the body ended before it was complete; send it again")),
    }
}

/// The parameters behind `?`. Each at most once; unknown ones are refused.
pub struct Query {
    value: Value,
}

impl Query {
    /// Reads the parameters; all errors are answered at once.
    pub fn read<T>(&self, read: impl FnOnce(&mut Fields<'_>) -> Option<T>) -> Result<T, Problem> {
        read_object(&self.value, read)
    }

    /// The parameters, those named apart, as one text that stands for the filters of a list.
    pub fn without(&self, names: &[&str]) -> String {
        let mut map = self.value.as_object().cloned().unwrap_or_default();
        map.retain(|name, _| !names.contains(&name.as_str()));
        Value::Object(map).to_string()
    }

    /// Reads the text behind `?`.
    pub(super) fn parse(text: &str) -> Result<Query, Problem> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(Problem::new(
                Code::TooLong,
                format!("the query string has {} bytes; at most {QUERY_BYTES_MAX} are read", text.len()),
            ));
        }
        let mut map = Map::new();
        let mut errors = Vec::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            let broken =
                name.contains(char::REPLACEMENT_CHARACTER) || value.contains(char::REPLACEMENT_CHARACTER);
            if broken {
                return Err(Problem::new(
                    Code::InvalidUtf8,
                    "the query string is not UTF-8; percent-encode it as UTF-8",
                ));
            }
            if map.insert(name.to_string(), Value::from(value.as_ref())).is_some() {
                errors.push(FieldError::new(
                    name.chars().take(64).collect::<String>(),
                    Refusal::new(Code::FieldConflict, "stands twice; send it once"),
                ));
            }
        }
        if errors.is_empty() {
            Ok(Query { value: Value::Object(map) })
        } else {
            Err(Problem::invalid(errors))
        }
    }
}

impl FromRequestParts<Shared> for Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Query, Problem> {
        Query::parse(parts.uri.query().unwrap_or_default())
    }
}

/// Reads `true` or `false` of a query.
pub fn parse_flag(text: &str) -> Result<bool, Refusal> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Refusal::new(Code::InvalidValue, format!("{} is neither true nor false", shown(text)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn hash(value: Value) -> [u8; 32] {
        Body { value }.fingerprint(&Key::new(ring::hmac::HMAC_SHA256, b"key"), "POST /v1/x")
    }

    #[test]
    fn a_body_is_known_again_by_what_it_says() {
        let (a, b): (Value, Value) = (
            serde_json::from_str(r#"{"a": 1, "b": [true, "x"]}"#).unwrap(),
            serde_json::from_str(r#"{"b":[true,"x"],"a":1}"#).unwrap(),
        );
        assert_eq!(hash(a), hash(b));
        let different = [
            json!({}),
            json!({"a": null}),
            json!({"a": []}),
            json!({"a": {}}),
            json!({"a": "null"}),
            json!([[], 1]),
            json!([[1]]),
        ];
        let hashes: std::collections::HashSet<_> = different.iter().cloned().map(hash).collect();
        assert_eq!(hashes.len(), different.len());
        let body = Body { value: json!({}) };
        let other = Key::new(ring::hmac::HMAC_SHA256, b"other");
        assert!(
            !hashes.contains(&body.fingerprint(&other, "POST /v1/x")),
            "without the key it cannot be guessed"
        );
    }

    #[test]
    fn a_query_is_read_once_each() {
        let query = Query::parse("search=777&label=&country=US").unwrap();
        let rest: Value = serde_json::from_str(&query.without(&["country"])).unwrap();
        assert_eq!(rest, json!({"search": "777", "label": ""}), "empty is not absent");
        assert_eq!(Query::parse("a=1&a=2").map(|_| ()).unwrap_err().code, Code::FieldConflict);
        assert_eq!(Query::parse("a=%ff").map(|_| ()).unwrap_err().code, Code::InvalidUtf8);
    }
}
