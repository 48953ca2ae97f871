//! What comes in over HTTP: who asks, which operation it is, which faults strike, and what is answered.
//!
//! The table of the REST interface's paths is here; what each does is in `api_…`. Control requests go to `control`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Method, Response, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::json;
use subtle::ConstantTimeEq as _;

use super::errors::{Answer, ApiError, Kind, error_body};
use super::faults::{self, Target};
use super::form::{Form, is_sid, sid};
use super::state::Shared;
use super::{api_accounts, api_available, api_calls, api_numbers, control, scheduled};

/// The largest body of a request.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// The version that every path begins with.
const VERSION: &str = "2010-04-01";

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the simulated carrier drops this connection")]
pub(crate) struct Dropped;

/// One request of the REST interface, read and ready to be performed, now or late.
#[derive(Debug, Clone)]
pub(crate) struct ApiRequest {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: Form,
    pub(crate) form: Form,
    pub(crate) request_id: String,
    pub(crate) view: View,
    /// The scheduled effect that this is, when it is performed late.
    pub(crate) scheduled: Option<String>,
}

/// How a listing is distorted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct View {
    pub(crate) hidden_for: Option<Duration>,
    pub(crate) shift: isize,
}

impl ApiRequest {
    pub(crate) fn path_and_query(&self) -> String {
        if self.query.0.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{}", self.path, self.query.encode())
        }
    }
}

/// Answers one HTTP request, or says that its connection is to be dropped.
pub(super) async fn serve(
    shared: Arc<Shared>,
    peer: IpAddr,
    request: hyper::Request<Incoming>,
) -> Result<Response<Body>, Dropped> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, REQUEST_BYTES_MAX).collect().await else {
        let error = error_body(413, 20001, &format!("The body is larger than {REQUEST_BYTES_MAX} bytes"));
        return Ok(plain(413, "application/json", error.to_string()));
    };
    let body = body.to_bytes();
    let path = parts.uri.path();
    if let Some(rest) = path.strip_prefix("/_control/") {
        return Ok(control::serve(&shared, peer, &parts, rest, &body).await);
    }
    let started = shared.clock.monotonic();
    let in_flight = InFlight::enter(&shared);
    let request = ApiRequest {
        method: parts.method.to_string(),
        path: path.to_owned(),
        query: Form::parse(parts.uri.query().unwrap_or_default().as_bytes()),
        form: Form::parse(&body),
        request_id: sid("RQ"),
        view: View::default(),
        scheduled: None,
    };
    let request_id = request.request_id.clone();
    let mut response = answer(&shared, &parts.headers, request).await?;
    let headers = response.headers_mut();
    headers.insert("twilio-request-id", header_value(&request_id));
    headers.insert("twilio-concurrent-requests", header_value(&in_flight.count.to_string()));
    let took = shared.clock.monotonic().saturating_sub(started);
    headers.insert("twilio-request-duration", header_value(&format!("{:.3}", took.as_secs_f64())));
    Ok(response)
}

async fn answer(
    shared: &Arc<Shared>,
    headers: &HeaderMap,
    mut request: ApiRequest,
) -> Result<Response<Body>, Dropped> {
    let operation = match authorise(shared, headers).and_then(|()| Operation::read(shared, &request)) {
        Ok(operation) => operation,
        Err(error) => return Ok(json_response(error.into())),
    };
    let target = Target { method: &request.method, path: &request.path, operation: operation.name() };
    let plan = shared.lock().faults.for_request(target);
    if !plan.delay.is_zero() {
        tokio::time::sleep(shared.scaled(plan.delay)).await;
    }
    request.view =
        View { hidden_for: plan.hidden_for.map(|hidden| shared.scaled(hidden)), shift: plan.shift };
    let failed = |status: u16| {
        let code = if status == 500 { 20500 } else { 20503 };
        json_response(Answer { status, body: Some(error_body(status, code, "Internal Server Error")) })
    };
    let Some(fault) = plan.fault else {
        return Ok(json_response(perform(shared, &operation, &request)));
    };
    match fault {
        faults::Kind::TooManyRequests { retry_after } => {
            let mut response =
                json_response(ApiError::new(Kind::TooManyRequests, "Too Many Requests").into());
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, header_value(&seconds.to_string()));
            }
            Ok(response)
        }
        faults::Kind::ErrorBefore { status } => Ok(failed(status)),
        faults::Kind::ErrorAfter { status } => {
            perform(shared, &operation, &request);
            Ok(failed(status))
        }
        faults::Kind::DropBefore => Err(Dropped),
        faults::Kind::DropAfter => {
            perform(shared, &operation, &request);
            Err(Dropped)
        }
        faults::Kind::TruncatedJson { connection } => {
            Ok(truncated(perform(shared, &operation, &request), connection))
        }
        faults::Kind::Html502 { after } => {
            if after {
                perform(shared, &operation, &request);
            }
            let page = "<html>\n<head><title>502 Bad Gateway</title></head>\n<body><h1>502 Bad Gateway</h1></body>\n</html>\n";
            Ok(plain(502, "text/html", page.to_owned()))
        }
        faults::Kind::LateEffect { seconds, status } => {
            match scheduled::add(shared, request, shared.scaled(Duration::from_secs(seconds))) {
                Ok(()) => Ok(failed(status)),
                Err(error) => Ok(json_response(error.into())),
            }
        }
        // These are no bad answers, and the plan has them elsewhere.
        faults::Kind::Slow { .. }
        | faults::Kind::ListLag { .. }
        | faults::Kind::ListShift { .. }
        | faults::Kind::CallbackDuplicate { .. }
        | faults::Kind::CallbackReorder
        | faults::Kind::CallbackBadSignature => Ok(json_response(perform(shared, &operation, &request))),
    }
}

/// Performs a request: from here on there is no way back.
pub(super) fn perform(shared: &Arc<Shared>, operation: &Operation, request: &ApiRequest) -> Answer {
    let active = shared.lock().account.status == "active";
    if !active && !matches!(operation, Operation::AccountFetch) {
        return ApiError::new(Kind::AccountNotActive, "Account is not active").into();
    }
    let done = match operation {
        Operation::AccountFetch => Ok(api_accounts::fetch(shared)),
        Operation::BalanceFetch => Ok(api_accounts::balance(shared)),
        Operation::AvailableCountries => Ok(api_available::countries(shared, request)),
        Operation::AvailableCountry(country) => api_available::country(shared, request, country),
        Operation::AvailableSearch(country, kind) => api_available::search(shared, request, country, kind),
        Operation::NumberCreate => api_numbers::create(shared, request),
        Operation::NumberList => api_numbers::list(shared, request),
        Operation::NumberFetch(sid) => api_numbers::fetch(shared, request, sid),
        Operation::NumberUpdate(sid) => api_numbers::update(shared, request, sid),
        Operation::NumberDelete(sid) => api_numbers::delete(shared, request, sid),
        Operation::CallCreate => api_calls::create(shared, request),
        Operation::CallList => api_calls::list(shared, request),
        Operation::CallFetch(sid) => api_calls::fetch(shared, request, sid),
        Operation::CallUpdate(sid) => api_calls::update(shared, request, sid),
        Operation::CallDelete(sid) => api_calls::delete(shared, request, sid),
    };
    done.unwrap_or_else(Answer::from)
}

/// What can be asked of the REST interface.
#[derive(Debug)]
pub(super) enum Operation {
    AccountFetch,
    BalanceFetch,
    AvailableCountries,
    AvailableCountry(String),
    AvailableSearch(String, String),
    NumberCreate,
    NumberList,
    NumberFetch(String),
    NumberUpdate(String),
    NumberDelete(String),
    CallCreate,
    CallList,
    CallFetch(String),
    CallUpdate(String),
    CallDelete(String),
}

impl Operation {
    /// Its name in fault rules.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::AccountFetch => "accounts.fetch",
            Self::BalanceFetch => "balance.fetch",
            Self::AvailableCountries => "available.countries",
            Self::AvailableCountry(_) => "available.country",
            Self::AvailableSearch(..) => "available.search",
            Self::NumberCreate => "numbers.create",
            Self::NumberList => "numbers.list",
            Self::NumberFetch(_) => "numbers.fetch",
            Self::NumberUpdate(_) => "numbers.update",
            Self::NumberDelete(_) => "numbers.delete",
            Self::CallCreate => "calls.create",
            Self::CallList => "calls.list",
            Self::CallFetch(_) => "calls.fetch",
            Self::CallUpdate(_) => "calls.update",
            Self::CallDelete(_) => "calls.delete",
        }
    }

    /// Which operation a method and a path are. Every path ends in `.json`: XML is not spoken here.
    pub(super) fn read(shared: &Shared, request: &ApiRequest) -> Result<Self, ApiError> {
        let missing = || ApiError::not_found(&request.path);
        let path = request.path.strip_suffix(".json").ok_or_else(missing)?;
        let mut parts = path.split('/').skip(1);
        if (parts.next(), parts.next()) != (Some(VERSION), Some("Accounts")) {
            return Err(missing());
        }
        let account = parts.next().ok_or_else(missing)?;
        if account != shared.account_sid {
            return Err(missing());
        }
        let rest: Vec<&str> = parts.collect();
        let number = |sid: &str| is_sid(sid, "PN").then(|| sid.to_owned()).ok_or_else(missing);
        let call = |sid: &str| is_sid(sid, "CA").then(|| sid.to_owned()).ok_or_else(missing);
        let operation = match (request.method.as_str(), rest.as_slice()) {
            ("GET", []) => Self::AccountFetch,
            ("GET", ["Balance"]) => Self::BalanceFetch,
            ("GET", ["AvailablePhoneNumbers"]) => Self::AvailableCountries,
            ("GET", ["AvailablePhoneNumbers", country]) => Self::AvailableCountry((*country).to_owned()),
            ("GET", ["AvailablePhoneNumbers", country, kind]) => {
                Self::AvailableSearch((*country).to_owned(), (*kind).to_owned())
            }
            ("GET", ["IncomingPhoneNumbers"]) => Self::NumberList,
            ("POST", ["IncomingPhoneNumbers"]) => Self::NumberCreate,
            ("GET", ["IncomingPhoneNumbers", sid]) => Self::NumberFetch(number(sid)?),
            ("POST", ["IncomingPhoneNumbers", sid]) => Self::NumberUpdate(number(sid)?),
            ("DELETE", ["IncomingPhoneNumbers", sid]) => Self::NumberDelete(number(sid)?),
            ("GET", ["Calls"]) => Self::CallList,
            ("POST", ["Calls"]) => Self::CallCreate,
            ("GET", ["Calls", sid]) => Self::CallFetch(call(sid)?),
            ("POST", ["Calls", sid]) => Self::CallUpdate(call(sid)?),
            ("DELETE", ["Calls", sid]) => Self::CallDelete(call(sid)?),
            (
                _,
                []
                | ["Balance" | "AvailablePhoneNumbers" | "IncomingPhoneNumbers" | "Calls"]
                | ["AvailablePhoneNumbers", ..]
                | ["IncomingPhoneNumbers" | "Calls", _],
            ) => {
                return Err(ApiError::new(Kind::MethodNotAllowed, "Method not allowed"));
            }
            _ => return Err(missing()),
        };
        Ok(operation)
    }
}

/// Basic authentication: the account's SID and token, or an API key's SID and secret.
fn authorise(shared: &Shared, headers: &HeaderMap) -> Result<(), ApiError> {
    let refused = || ApiError::new(Kind::Unauthorized, "Authenticate");
    let value =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or_else(refused)?;
    let (scheme, encoded) = value.split_once(' ').ok_or_else(refused)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(refused());
    }
    let decoded = STANDARD
        .decode(encoded.trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(refused)?;
    let (user, password) = decoded.split_once(':').ok_or_else(refused)?;
    let own = std::iter::once((shared.account_sid.as_str(), shared.auth_token.as_str()));
    let keys = shared.api_keys.iter().map(|key| (key.sid.as_str(), key.secret.as_str()));
    let known = own
        .chain(keys)
        .any(|(sid, secret)| sid == user && bool::from(secret.as_bytes().ct_eq(password.as_bytes())));
    if known { Ok(()) } else { Err(refused()) }
}

fn json_response(answer: Answer) -> Response<Body> {
    let unauthorised = answer.status == 401;
    let text = answer.body.map(|body| body.to_string()).unwrap_or_default();
    let mut response = plain(answer.status, "application/json;charset=utf-8", text);
    if unauthorised {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"Twilio API\""));
    }
    response
}

/// Half an answer. With `connection`, its whole length is announced and the connection breaks in the middle.
fn truncated(answer: Answer, connection: bool) -> Response<Body> {
    let mut text = answer.body.unwrap_or_else(|| json!({})).to_string();
    let whole = text.len();
    let half = (0..=whole / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(half);
    if !connection {
        return plain(answer.status, "application/json;charset=utf-8", text);
    }
    let pieces = [Ok(Bytes::from(text)), Err(std::io::Error::other(Dropped))];
    let mut response = plain(answer.status, "application/json;charset=utf-8", String::new());
    response.headers_mut().insert(header::CONTENT_LENGTH, header_value(&whole.to_string()));
    *response.body_mut() = Body::from_stream(stream::iter(pieces));
    response
}

pub(super) fn plain(status: u16, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() =
        axum::http::StatusCode::from_u16(status).unwrap_or(axum::http::StatusCode::INTERNAL_SERVER_ERROR);
    if status != 204 {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Whether a method carries a body that counts.
pub(super) fn has_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Counts the requests being answered at this moment.
struct InFlight<'a> {
    shared: &'a Shared,
    count: u64,
}

impl<'a> InFlight<'a> {
    fn enter(shared: &'a Shared) -> Self {
        let count = shared.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        Self { shared, count }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
