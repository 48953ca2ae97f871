//! The carrier's errors on the wire: an integer code, a message, a link, and the HTTP status.
//!
//! One table; every handler answers from it and the tests enumerate it.

use serde_json::{Value, json};

/// What the REST interface answers.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// None: an empty body, as for 204.
    pub(crate) body: Option<Value>,
}

impl Answer {
    pub(crate) fn ok(body: Value) -> Self {
        Self { status: 200, body: Some(body) }
    }

    pub(crate) fn created(body: Value) -> Self {
        Self { status: 201, body: Some(body) }
    }

    pub(crate) fn no_content() -> Self {
        Self { status: 204, body: None }
    }
}

/// One of the carrier's errors, with the words that this occurrence adds.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) kind: Kind,
    pub(crate) message: String,
}

impl ApiError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn not_found(path: &str) -> Self {
        Self::new(Kind::NotFound, format!("The requested resource {path} was not found"))
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Self {
        let (status, code) = error.kind.status_and_code();
        Self { status, body: Some(error_body(status, code, &error.message)) }
    }
}

/// The body of every error answer.
pub(crate) fn error_body(status: u16, code: u32, message: &str) -> Value {
    json!({
        "code": code,
        "message": message,
        "more_info": format!("https://www.twilio.com/docs/errors/{code}"),
        "status": status,
    })
}

/// The errors that the simulated carrier knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    ParameterInvalid,
    Unauthorized,
    AccountNotActive,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
    InternalError,
    UrlInvalid,
    ToMissing,
    FromInvalid,
    FromNotOwned,
    ToInvalid,
    NotRoutable,
    CountryNotPermitted,
    ToBlocked,
    ToMalformed,
    ApplicationInvalid,
    CallNotInProgress,
    NumberInvalid,
    NumberUnavailable,
    AreaCodeInvalid,
    AreaCodeEmpty,
    AddressMissing,
}

impl Kind {
    /// The HTTP status and the carrier's own code.
    pub(crate) fn status_and_code(self) -> (u16, u32) {
        match self {
            Self::ParameterInvalid => (400, 20001),
            Self::Unauthorized => (401, 20003),
            Self::AccountNotActive => (403, 20003),
            Self::MethodNotAllowed => (405, 20004),
            Self::NotFound => (404, 20404),
            Self::TooManyRequests => (429, 20429),
            Self::InternalError => (500, 20500),
            Self::ToMissing => (400, 21201),
            Self::UrlInvalid => (400, 21205),
            Self::FromNotOwned => (400, 21210),
            Self::ToMalformed => (400, 21211),
            Self::FromInvalid => (400, 21212),
            Self::NotRoutable => (400, 21214),
            Self::CountryNotPermitted => (400, 21215),
            Self::ToBlocked => (400, 21216),
            Self::ToInvalid => (400, 21217),
            Self::ApplicationInvalid => (400, 21218),
            Self::CallNotInProgress => (400, 21220),
            Self::NumberInvalid => (400, 21421),
            Self::NumberUnavailable => (400, 21422),
            Self::AreaCodeInvalid => (400, 21451),
            Self::AreaCodeEmpty => (400, 21452),
            Self::AddressMissing => (400, 21631),
        }
    }
}
