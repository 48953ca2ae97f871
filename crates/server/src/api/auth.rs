//! Who asks: `Authorization: Bearer sbk_…` becomes a [`Caller`]. The key is looked up for each request, so one that was revoked is
//! refused at once, on every node. An address that sends too many bad keys has to wait. What a caller may do is not decided here:
//! `actions` does.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::Response;
use domain::error::Code;
use domain::id::{RequestId, WorkspaceId};
use domain::permission::Permissions;
use jiff::Timestamp;
use tracing::warn;

use super::error::Problem;
use crate::actions::keys::{ApiKey, key_note_use, key_prove};
use crate::actions::workspace::default_country;
use crate::actions::{Caller, key_text};
use crate::app::Shared;
use crate::limits::{Allowance, Source};

static RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
static RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
static RATELIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// Stands before every route that needs a key: proves the caller, counts the request, and lets it in.
pub async fn require_key(
    State(app): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    refuse_key_in_url(request.uri())?;
    let now = app.clock.now();
    let request_id = *request.extensions().get::<RequestId>().expect("`answer` gives each request its id");
    let source = app.unproven.source(request.extensions(), request.headers());
    let (key, permissions) = prove(&app, request.headers(), source, now)
        .await
        .map_err(|problem| unproven(&app, source, problem))?;
    let allowance = app.limits.ask(key.id);
    if let Some(seconds) = allowance.retry_after_s {
        let limit = app.config.limits.requests_per_second;
        let detail = format!(
            "this key may make {limit} requests a second, and {} at once; wait {seconds} s",
            allowance.limit
        );
        let mut problem = Problem::new(Code::RateLimited, detail).retry_after(seconds);
        show(allowance, &mut problem.headers);
        return Err(problem);
    }
    key_note_use(&app, &key, now);
    let workspace = key.workspace;
    request.extensions_mut().insert(Caller::with_key(key.workspace, key.id, permissions, request_id));
    let mut response = next.run(request).await;
    suggest_numbers(&app, workspace, &mut response).await;
    show(allowance, response.headers_mut());
    Ok(response)
}

/// What a national number means depends on the workspace's country, which only such refusals ask for.
async fn suggest_numbers(app: &Shared, workspace: WorkspaceId, response: &mut Response) {
    let Some(problem) = response.extensions_mut().get_mut::<Problem>() else { return };
    if problem.has_refused_numbers()
        && let Ok(Some(country)) = default_country(app, workspace).await
    {
        problem.suggest_numbers(country);
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // A route outside `require_key` that asks for a caller is a mistake of ours, and must not let anybody in.
        parts
            .extensions
            .get::<Caller>()
            .cloned()
            .ok_or_else(|| Problem::new(Code::Internal, "this route asks for a caller and lets anybody in"))
    }
}

async fn prove(
    app: &Shared,
    headers: &HeaderMap,
    source: Option<Source>,
    now: Timestamp,
) -> Result<(ApiKey, Permissions), Problem> {
    let refuse = |detail: &str| {
        Problem::new(Code::Unauthenticated, detail).header(WWW_AUTHENTICATE, "Bearer realm=\"switchboard\"")
    };
    let Some(sent) = headers.get(AUTHORIZATION) else {
        return Err(refuse("there is no Authorization header; send `Authorization: Bearer sbk_…`"));
    };
    // The value is never repeated: it may be a secret of something else.
    let text = sent
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, text)| text.trim());
    let Some(text) = text else {
        return Err(refuse("the Authorization header is not of the form `Bearer sbk_…`"));
    };
    let Some(key) = key_text::parse(text) else {
        return Err(refuse("this is not a whole API key; copy it again, from sbk_ to its last letter"));
    };
    // The database is not asked for every guess of an address that only guesses; those who use good keys there go on.
    let may_look = |source| !app.unproven.is_over(source) || app.unproven.was_proven(&key.secret_hash);
    if !source.is_none_or(may_look) {
        return Err(refuse("too many requests without a good key came from this address"));
    }
    let Some((stored, permissions)) = key_prove(app, &key).await? else {
        return Err(refuse("no such API key is known here; it may be of another installation"));
    };
    if let Some(at) = stored.revoked_at {
        return Err(Problem::new(Code::KeyRevoked, format!("the key {} was revoked at {at:.0}", stored.id))
            .header(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""));
    }
    if let Some(at) = stored.expires_at.filter(|&at| at <= now) {
        return Err(Problem::new(Code::KeyExpired, format!("the key {} expired at {at:.0}", stored.id))
            .header(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\""));
    }
    app.unproven.note_proven(key.secret_hash);
    Ok((stored, permissions))
}

/// Counts a request that proved nothing, and makes its sender wait where there were too many.
fn unproven(app: &Shared, source: Option<Source>, problem: Problem) -> Problem {
    let is_unproven = matches!(problem.code, Code::Unauthenticated | Code::KeyRevoked | Code::KeyExpired);
    match source.filter(|_| is_unproven) {
        Some(source) => wait_where_over(app, source).unwrap_or(problem),
        None => problem,
    }
}

/// Counts a request that proved nothing. A problem, where its sender has to wait.
pub fn wait_where_over(app: &Shared, source: Source) -> Option<Problem> {
    let allowance = app.unproven.ask(source);
    let seconds = allowance.retry_after_s?;
    let detail = format!(
        "one address may make {} requests a second without a good key or signature, and {} at once; wait {seconds} s, and \
         look why what was sent is refused",
        app.config.limits.unproven_per_second, allowance.limit
    );
    let mut problem = Problem::new(Code::RateLimited, detail).retry_after(seconds);
    show(allowance, &mut problem.headers);
    Some(problem)
}

/// URLs end up in logs and histories, so a key in one is as good as published.
fn refuse_key_in_url(uri: &Uri) -> Result<(), Problem> {
    let text = uri.path_and_query().map_or("", |path| path.as_str());
    let Some(place) = text.find(key_text::PREFIX) else { return Ok(()) };
    let public_id: String = text[place..].chars().take(key_text::PREFIX.len() + 8).collect();
    warn!(key.public_id = %public_id, "the API key {public_id}… was sent in a URL: it should be revoked");
    Err(Problem::new(
        Code::KeyInUrl,
        "an API key stands in the URL, where logs keep it: revoke it, create another, and send that as `Authorization: Bearer …`",
    ))
}

fn show(allowance: Allowance, headers: &mut HeaderMap) {
    headers.insert(RATELIMIT_LIMIT.clone(), HeaderValue::from(allowance.limit));
    headers.insert(RATELIMIT_REMAINING.clone(), HeaderValue::from(allowance.remaining));
    headers.insert(RATELIMIT_RESET.clone(), HeaderValue::from(allowance.reset_s));
}
