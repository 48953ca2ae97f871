//! The reference: `/openapi.json`, `/docs` made from it here as one HTML page, and a page for each error code, made from the table.
//! No script, nothing from elsewhere: it reads the same without a network.

mod html;

use std::sync::LazyLock;

use axum::Router;
use axum::extract::{RawPathParams, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use domain::error::{Code, shown};

use super::error::Problem;
use super::router::openapi;
use crate::app::Shared;

/// What the document says of the whole.
pub const DESCRIPTION: &str = "\
Connects phone numbers to AI voice agents: buy a number, assign it to an agent in an environment, and calls to it reach that agent.

Send `Authorization: Bearer sbk_…` with every request. Bodies are JSON in UTF-8; unknown fields are refused, and all errors of a \
request are answered at once, as `application/problem+json`. In a `PATCH`, a field that is absent is left alone and `null` clears it. \
Lists give `next_cursor`, to be sent as `cursor`. What creates or buys takes an `Idempotency-Key`: repeating the request with the same \
key gives the same answer and does nothing twice. Resources carry an `ETag`; send it as `If-Match` to change only what you have seen.";

/// The parts of the reference, in order.
pub const TAGS: &[(&str, &str)] = &[
    ("Numbers", "Phone numbers: what you have, who answers them, and releasing them."),
    ("Store", "What can be bought, and buying it."),
    ("Agents", "Agents, their drafts and variants, and publishing them."),
    ("Calls", "What happens to a call, and what happened to calls."),
    ("Workspace", "Settings that everything else depends on."),
    ("Keys", "Who may do what: API keys and roles."),
    ("Audit", "Who did what, and what happened."),
    ("Operation", "For those who run the program."),
];

static OPENAPI_JSON: LazyLock<String> = LazyLock::new(|| {
    let mut text = openapi().to_pretty_json().expect("the document serialises");
    text.push('\n');
    text
});
static REFERENCE: LazyLock<String> =
    LazyLock::new(|| html::reference(&serde_json::from_str(&OPENAPI_JSON).expect("it was just written")));

/// The pages, which need no key.
pub fn router() -> Router<Shared> {
    Router::new()
        .route("/openapi.json", get(openapi_json))
        .route("/", get(to_the_reference))
        .route("/docs", get(reference))
        .route("/docs/errors", get(error_list))
        .route("/docs/errors/", get(error_list))
        .route("/docs/errors/{code}", get(error_page))
        .route("/docs/style.css", get(style))
}

/// The document as it is served and committed.
pub fn openapi_text() -> &'static str {
    &OPENAPI_JSON
}

/// On every answer: whatever it holds, a browser runs nothing of it.
pub async fn security_headers(request: Request, next: Next) -> Response {
    static POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    );
    static REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(POLICY.clone());
    headers.entry(REFERRER_POLICY.clone()).or_insert(HeaderValue::from_static("no-referrer"));
    response
}

async fn openapi_json() -> Response {
    page("application/json", OPENAPI_JSON.as_str())
}

async fn reference() -> Response {
    page("text/html; charset=utf-8", REFERENCE.as_str())
}

async fn to_the_reference() -> Redirect {
    Redirect::temporary("/docs")
}

async fn style() -> Response {
    page("text/css; charset=utf-8", include_str!("docs/style.css"))
}

async fn error_list() -> Response {
    page("text/html; charset=utf-8", html::error_list())
}

async fn error_page(parameters: RawPathParams) -> Result<Response, Problem> {
    let (_, name) = parameters.iter().next().expect("the route declares a parameter");
    let code = Code::ALL.iter().copied().find(|code| code.as_str() == name);
    match code {
        Some(code) => Ok(page("text/html; charset=utf-8", html::error_page(code))),
        None => Err(Problem::new(
            Code::NotFound,
            format!("there is no error code {}; see /docs/errors", shown(name)),
        )),
    }
}

fn page(content_type: &'static str, body: impl Into<String>) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, body.into()).into_response()
}
