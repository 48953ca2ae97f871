//! `Calls`: place, list, fetch, redirect, hang up, forget.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::call::{Command, Party, Source};
use super::callbacks::{StatusReports, Via};
use super::calls::{Call, Status};
use super::errors::{Answer, ApiError, Kind};
use super::form::{Form, is_e164, is_sid, is_url, sid};
use super::paging::page;
use super::placing::{Outbound, place_outbound};
use super::router::ApiRequest;
use super::state::Shared;

/// The longest TwiML that may be given with a call.
const TWIML_MAX: usize = 4_000;
/// How long it rings, by default and at most.
const TIMEOUT_DEFAULT_S: u64 = 60;
const TIMEOUT_MAX_S: u64 = 600;
/// The carrier's magic caller that is always accepted.
const MAGIC_FROM_FINE: &str = "+15005550006";

pub(super) fn create(shared: &Arc<Shared>, request: &ApiRequest) -> Result<Answer, ApiError> {
    let form = &request.form;
    let to =
        form.filled("To").ok_or_else(|| ApiError::new(Kind::ToMissing, "No 'To' number is specified"))?;
    let from = form
        .filled("From")
        .ok_or_else(|| ApiError::new(Kind::FromInvalid, "No 'From' number is specified"))?;
    check_to(to)?;
    check_from(shared, from, to)?;
    let Some(source) = source_of(form)? else {
        return Err(ApiError::new(Kind::UrlInvalid, "Url, Twiml or ApplicationSid is required"));
    };
    for name in ["FallbackUrl", "StatusCallback"] {
        if let Some(url) = form.filled(name) {
            check_url(name, url)?;
        }
    }
    let mut call = Call::new(sid("CA"), "outbound-api", from, to, shared.clock.now());
    call.request_id.clone_from(&request.request_id);
    call.number_sid = shared.lock().numbers.by_e164(from).map(|number| number.sid.clone());
    let events =
        form.values("StatusCallbackEvent").flat_map(str::split_whitespace).map(str::to_owned).collect();
    let timeout_s = form.filled("Timeout").and_then(|text| text.parse().ok()).unwrap_or(TIMEOUT_DEFAULT_S);
    let body = call.body(&shared.account_sid);
    let outbound = Outbound {
        source,
        fallback: form
            .filled("FallbackUrl")
            .map(|url| (url.to_owned(), Via::read(form.value("FallbackMethod")))),
        reports: StatusReports::new(
            form.filled("StatusCallback"),
            Via::read(form.value("StatusCallbackMethod")),
            events,
        ),
        timeout: Duration::from_secs(timeout_s.min(TIMEOUT_MAX_S)),
        call,
    };
    place_outbound(shared, outbound).map_err(|error| {
        tracing::error!("the simulated carrier cannot place a call: {error:#}");
        ApiError::new(Kind::InternalError, "Internal Server Error")
    })?;
    Ok(Answer::created(body))
}

fn check_to(to: &str) -> Result<(), ApiError> {
    let kind = match to {
        "+15005550001" => Kind::ToInvalid,
        "+15005550002" => Kind::NotRoutable,
        "+15005550003" => Kind::CountryNotPermitted,
        "+15005550004" => Kind::ToBlocked,
        _ if is_e164(to) || to.starts_with("sip:") || to.starts_with("client:") => return Ok(()),
        _ => Kind::ToMalformed,
    };
    Err(ApiError::new(kind, format!("The phone number you are attempting to call, {to}, is not valid.")))
}

fn check_from(shared: &Shared, from: &str, to: &str) -> Result<(), ApiError> {
    if from == MAGIC_FROM_FINE || to.starts_with("sip:") || shared.lock().numbers.owns(from) {
        return Ok(());
    }
    if from == "+15005550001" || !is_e164(from) {
        return Err(ApiError::new(
            Kind::FromInvalid,
            format!("The source phone number provided, {from}, is not valid."),
        ));
    }
    Err(ApiError::new(
        Kind::FromNotOwned,
        format!("The source phone number provided, {from}, is not yet verified for your account."),
    ))
}

fn check_url(name: &str, url: &str) -> Result<(), ApiError> {
    if is_url(url, &["http", "https"]) {
        return Ok(());
    }
    Err(ApiError::new(Kind::UrlInvalid, format!("{name} is not a valid URL: {url}")))
}

/// The document that a form names or holds; none where it names none.
fn source_of(form: &Form) -> Result<Option<Source>, ApiError> {
    if let Some(twiml) = form.filled("Twiml") {
        if twiml.chars().count() > TWIML_MAX {
            return Err(ApiError::new(
                Kind::ParameterInvalid,
                format!("Twiml is longer than {TWIML_MAX} characters"),
            ));
        }
        return Ok(Some(Source::Inline(twiml.to_owned())));
    }
    if let Some(application) = form.filled("ApplicationSid")
        && form.filled("Url").is_none()
    {
        let why = if is_sid(application, "AP") { "is not one of this account's" } else { "is not valid" };
        return Err(ApiError::new(Kind::ApplicationInvalid, format!("ApplicationSid {application} {why}")));
    }
    let Some(url) = form.filled("Url") else { return Ok(None) };
    check_url("Url", url)?;
    let via = Via::read(form.value("Method"));
    Ok(Some(Source::Url { operation: "callback.voice", url: url.to_owned(), via, extra: Form::default() }))
}

pub(super) fn fetch(shared: &Shared, request: &ApiRequest, sid: &str) -> Result<Answer, ApiError> {
    let state = shared.lock();
    let call = state.calls.by_sid(sid).ok_or_else(|| ApiError::not_found(&request.path))?;
    Ok(Answer::ok(call.body(&shared.account_sid)))
}

pub(super) fn list(shared: &Shared, request: &ApiRequest) -> Result<Answer, ApiError> {
    let query = &request.query;
    let started = [
        ("StartTime", moment(query.filled("StartTime"))?, Bound::Day),
        ("StartTime<", moment(query.filled("StartTime<"))?, Bound::Before),
        ("StartTime>", moment(query.filled("StartTime>"))?, Bound::After),
    ];
    let state = shared.lock();
    let matching: Vec<&Call> = state
        .calls
        .latest_first()
        .filter(|call| {
            let same =
                |name: &str, has: Option<&str>| query.filled(name).is_none_or(|wanted| has == Some(wanted));
            same("To", Some(&call.to))
                && same("From", Some(&call.from))
                && same("Status", Some(call.status.name()))
                && same("ParentCallSid", call.parent_sid.as_deref())
                && started
                    .iter()
                    .all(|(_, limit, bound)| limit.is_none_or(|limit| bound.holds(call.created, limit)))
        })
        .collect();
    let page = page(request, &matching, |call| call.sid.as_str())?;
    let bodies: Vec<Value> = page.items.iter().map(|call| call.body(&shared.account_sid)).collect();
    Ok(Answer::ok(page.body("calls", bodies)))
}

/// How a time in a filter limits.
#[derive(Debug, Clone, Copy)]
enum Bound {
    Day,
    Before,
    After,
}

impl Bound {
    fn holds(self, at: Timestamp, limit: Timestamp) -> bool {
        match self {
            Self::Day => at >= limit && at < limit + Duration::from_secs(24 * 60 * 60),
            Self::Before => at <= limit,
            Self::After => at >= limit,
        }
    }
}

/// A date, which is its midnight in GMT, or a time.
fn moment(text: Option<&str>) -> Result<Option<Timestamp>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    let date = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    match text.parse::<Timestamp>().ok().or_else(date) {
        Some(moment) => Ok(Some(moment)),
        None => Err(ApiError::new(Kind::ParameterInvalid, format!("{text} is not a date"))),
    }
}

pub(super) fn update(shared: &Shared, request: &ApiRequest, sid: &str) -> Result<Answer, ApiError> {
    let form = &request.form;
    let source = source_of(form)?;
    let state = shared.lock();
    let call = state.calls.by_sid(sid).ok_or_else(|| ApiError::not_found(&request.path))?;
    let command = match (form.filled("Status"), source) {
        (Some("completed"), _) => Command::HangUp(Party::Api),
        (Some("canceled"), _) if matches!(call.status, Status::Queued | Status::Ringing) => {
            Command::HangUp(Party::Api)
        }
        (Some("canceled"), _) => return Err(not_in_progress("cancel")),
        (Some(other), _) => {
            return Err(ApiError::new(
                Kind::ParameterInvalid,
                format!("Status {other} is not completed or canceled"),
            ));
        }
        (None, Some(source)) => {
            if call.status != Status::InProgress {
                return Err(not_in_progress("redirect"));
            }
            Command::Redirect(source)
        }
        (None, None) => return Err(ApiError::new(Kind::UrlInvalid, "Status, Url or Twiml is required")),
    };
    match &call.commands {
        // A full queue means that the call is on its way out.
        Some(commands) if !call.status.is_final() => drop(commands.try_send(command)),
        _ => return Err(not_in_progress("update")),
    }
    Ok(Answer::ok(call.body(&shared.account_sid)))
}

fn not_in_progress(what: &str) -> ApiError {
    ApiError::new(Kind::CallNotInProgress, format!("Call is not in-progress. Cannot {what}."))
}

pub(super) fn delete(shared: &Shared, request: &ApiRequest, sid: &str) -> Result<Answer, ApiError> {
    let mut state = shared.lock();
    let call = state.calls.by_sid(sid).ok_or_else(|| ApiError::not_found(&request.path))?;
    if !call.status.is_final() {
        return Err(ApiError::new(Kind::ParameterInvalid, "A call in progress cannot be deleted"));
    }
    shared.record(&mut state, "call_deleted", sid, request, json!({}))?;
    state.calls.remove(sid);
    Ok(Answer::no_content())
}
