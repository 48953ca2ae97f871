//! Problems: every refusal as `application/problem+json` (RFC 9457), made from the one error table in `domain::error`.
//!
//! A [`Problem`] travels as a response extension; `answer` writes the body, since only it knows the request's id.

use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::error::{Code, Refusal};
use domain::number::{Country, E164};
use serde::Serialize;
use utoipa::ToSchema;

/// The content type of problem documents.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Where the page of each code is.
pub const ERROR_PAGES: &str = "/docs/errors";
/// The most field errors that one answer lists; more are counted.
pub const FIELD_ERRORS_MAX: usize = 100;

/// Why a request was refused.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Which entry of the table.
    pub code: Code,
    /// The sentence for this case.
    pub detail: String,
    /// One entry for each bad field.
    pub errors: Vec<FieldError>,
    /// Headers that belong to it, such as `Retry-After`.
    pub headers: Box<HeaderMap>,
    /// The text of the address that was read as a phone number, where it was none.
    pub received_number: Option<String>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field, as a path into the body or the name of a parameter.
    #[schema(example = "assignment.agent_id")]
    pub field: String,
    /// The error code.
    #[schema(value_type = String, example = "invalid_id")]
    #[serde(serialize_with = "code_as_text")]
    pub code: Code,
    /// What was received, what is expected, and how to mend it.
    pub detail: String,
    /// The text that was read as a phone number, where it was none: what was meant may depend on the workspace's country.
    #[serde(skip)]
    pub received_number: Option<String>,
}

impl FieldError {
    /// A refusal of one field.
    pub fn new(field: impl Into<String>, refusal: Refusal) -> FieldError {
        FieldError { field: field.into(), code: refusal.code, detail: refusal.detail, received_number: None }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn code_as_text<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}

/// A problem as it is written: RFC 9457 with our `code`, `errors` and `request_id`.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// The page that explains the code.
    #[serde(rename = "type")]
    #[schema(example = "/docs/errors/not_e164")]
    kind: String,
    /// A short, fixed sentence.
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// Stable and made for programs.
    #[schema(example = "not_e164")]
    code: &'static str,
    /// What was wrong this time, and how to mend it.
    detail: String,
    /// One entry for each bad field; all of them at once.
    errors: Vec<FieldError>,
    /// Quote it when you ask for help.
    #[schema(example = "req_01kb5x3a7m0000000000000000")]
    request_id: String,
}

impl Problem {
    /// A problem with the sentence for this case.
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Box::default(),
            received_number: None,
        }
    }

    /// All that is wrong with the fields of a request. One error gives the whole its code; several are `validation_failed`.
    pub fn invalid(mut errors: Vec<FieldError>) -> Problem {
        let count = errors.len();
        let (code, detail) = if let [only] = errors.as_slice() {
            (only.code, format!("{}: {}", only.field, only.detail))
        } else {
            let mut fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).take(10).collect();
            fields.dedup();
            let more = if count > fields.len() { " and others" } else { "" };
            let detail = format!("{count} errors, in {}{more}; nothing was changed", fields.join(", "));
            (Code::ValidationFailed, detail)
        };
        errors.truncate(FIELD_ERRORS_MAX);
        Problem { errors, ..Problem::new(code, detail) }
    }

    /// Whether anything in it was read as a phone number and was none.
    pub fn has_refused_numbers(&self) -> bool {
        self.received_number.is_some() || self.errors.iter().any(|error| error.received_number.is_some())
    }

    /// Suggests what refused phone numbers mean in a country.
    pub fn suggest_numbers(&mut self, country: Country) {
        let asked = self.errors.iter().filter_map(|error| error.received_number.clone());
        for text in asked.chain(self.received_number.clone()).collect::<Vec<_>>() {
            let told = |country| E164::parse(&text, country).err().map(|refusal| refusal.detail);
            let (Some(general), Some(there)) = (told(None), told(Some(country))) else { continue };
            self.detail = self.detail.replace(&general, &there);
            for error in &mut self.errors {
                error.detail = error.detail.replace(&general, &there);
            }
        }
    }

    /// The same, with `Retry-After`.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Problem {
        self.header(RETRY_AFTER, &seconds.to_string())
    }

    /// The same, with a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &str) -> Problem {
        self.headers.insert(name, HeaderValue::from_str(value).expect("ours, and visible ASCII"));
        self
    }

    /// The document, for a request.
    pub fn body(self, request_id: String) -> ProblemBody {
        ProblemBody {
            kind: format!("{ERROR_PAGES}/{}", self.code),
            title: self.code.title(),
            status: self.code.http_status(),
            code: self.code.as_str(),
            detail: self.detail,
            errors: self.errors,
            request_id,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Problem::new(refusal.code, refusal.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.http_status()).expect("a test checks the table");
        let mut response = status.into_response();
        response.headers_mut().extend((*self.headers).clone());
        response.extensions_mut().insert(self);
        response
    }
}
