//! The outermost layer of every request: gives it an id, sees to it that it ends – in time, and not in a panic – writes problems
//! as JSON, and counts.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use domain::error::Code;
use domain::id::RequestId;
use futures_util::FutureExt as _;
use tracing::{Instrument as _, error, info_span};

use super::error::{PROBLEM_JSON, Problem};
use crate::app::Shared;
use crate::app::metrics::{RequestLabels, RouteLabels};

/// The header with the request's id.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Stands around everything.
pub async fn answer(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let started = app.clock.monotonic();
    let request_id = RequestId::new(app.clock.now(), app.random.bits());
    request.extensions_mut().insert(request_id);
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "(none)".to_owned(), |path| path.as_str().to_owned());
    let span = info_span!("request", request.id = %request_id, http.method = %method, http.route = route);

    let time_limit = Duration::from_millis(app.config.limits.request_timeout_ms);
    let running = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span);
    let mut response = match tokio::time::timeout(time_limit, running).await {
        Ok(Ok(response)) => response,
        Ok(Err(panic)) => {
            let said = panic
                .downcast_ref::<&str>()
                .map(|said| (*said).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            error!(request.id = %request_id, http.route = route, said, "the handler of {method} {route} has panicked");
            Problem::new(Code::Internal, "something went wrong on our side").into_response()
        }
        Err(_) => Problem::new(
            Code::Timeout,
            format!("no answer within {} ms; whether something was done shows when you repeat the request with the same Idempotency-Key, or list", time_limit.as_millis()),
        )
        .into_response(),
    };

    if let Some(mut problem) = response.extensions_mut().remove::<Problem>() {
        complete(&mut problem, &method);
        response = write_problem(problem, response, request_id);
    }
    let headers = response.headers_mut();
    headers
        .insert(X_REQUEST_ID.clone(), HeaderValue::from_str(&request_id.to_string()).expect("ids are ASCII"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    count(&app, &method, route, response.status().as_u16(), app.clock.monotonic().saturating_sub(started));
    response
}

/// A reader changes nothing anyway.
fn complete(problem: &mut Problem, method: &Method) {
    if *method == Method::GET {
        problem.detail = problem.detail.replace("; nothing was changed", "");
    }
}

fn write_problem(problem: Problem, bare: Response, request_id: RequestId) -> Response {
    let body =
        serde_json::to_vec(&problem.body(request_id.to_string())).expect("our own types always serialise");
    let (mut parts, _) = bare.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    Response::from_parts(parts, body.into())
}

fn count(app: &Shared, method: &Method, route: String, status: u16, took: Duration) {
    // Methods are the caller's to invent; routes are ours.
    let method = match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    };
    let labels = RouteLabels { method, route };
    app.metrics.request_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    app.metrics.requests.get_or_create(&RequestLabels { method, route: labels.route, status }).inc();
}
