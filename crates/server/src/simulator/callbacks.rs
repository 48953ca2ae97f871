//! How the simulated carrier calls back: signed, within the carrier's time limits, written in the call's timeline.
//!
//! What the answer means is `call`'s to know.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::http::header;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::calls::Call;
use super::faults::{CallbackPlan, Target};
use super::form::{Form, rfc2822, sid};
use super::signature::{SIGNATURE_HEADER, sign};
use super::state::Shared;
use super::supply::NumberKind;

/// The whole of a callback's answer must be there within this time. Not divided by the time scale: it is ours to meet.
pub(super) const CALLBACK_LIMIT: Duration = Duration::from_secs(15);
/// One try to connect; there are two.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The largest TwiML document.
const TWIML_BYTES_MAX: usize = 64 * 1024;
/// How many redirects are followed.
const REDIRECTS_MAX: usize = 10;
/// How much of an answer is shown in the timeline.
const SHOWN_BYTES_MAX: usize = 8 * 1024;

/// The client for all callbacks.
#[expect(
    clippy::disallowed_methods,
    reason = "the carrier is not us: its client has its own limits, set here"
)]
pub(super) fn client(limit: Duration) -> anyhow::Result<reqwest::Client> {
    // Already installed by another part of the program is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .timeout(limit)
        .redirect(reqwest::redirect::Policy::limited(REDIRECTS_MAX))
        .no_proxy()
        .user_agent("TwilioProxy/1.1")
        .build()
        .context("cannot make the simulated carrier's HTTP client")
}

/// How a callback is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Get,
    Post,
}

impl Via {
    /// From a `…Method` setting or attribute; POST unless it says GET.
    pub(crate) fn read(text: Option<&str>) -> Self {
        if text.is_some_and(|text| text.eq_ignore_ascii_case("GET")) { Self::Get } else { Self::Post }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// One callback to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Callback {
    /// `callback.voice`, `callback.action`, `callback.fallback`, `callback.status`, `callback.stream`, `callback.play`.
    pub(crate) operation: &'static str,
    pub(crate) url: String,
    pub(crate) via: Via,
    pub(crate) params: Form,
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) content_type: String,
    pub(crate) body: String,
}

/// Why there is no good answer, in the carrier's codes.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u32,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Asks the fault rules about a callback.
fn plan(shared: &Shared, callback: &Callback) -> CallbackPlan {
    let target = Target { method: callback.via.name(), path: &callback.url, operation: callback.operation };
    shared.lock().faults.for_callback(target)
}

/// Sends a callback in a task of its own, so that a caller who hangs up meanwhile does not cut it off.
pub(super) fn send(
    shared: &Arc<Shared>,
    call_sid: &str,
    callback: Callback,
) -> JoinHandle<Result<Reply, Failure>> {
    let plan = plan(shared, &callback);
    let (task_shared, call_sid) = (Arc::clone(shared), call_sid.to_owned());
    shared.tracker.spawn(async move { carry_out(&task_shared, &call_sid, &callback, &plan).await })
}

async fn carry_out(
    shared: &Arc<Shared>,
    call_sid: &str,
    callback: &Callback,
    plan: &CallbackPlan,
) -> Result<Reply, Failure> {
    if !plan.delay.is_zero() {
        tokio::time::sleep(shared.scaled(plan.delay)).await;
    }
    // The same for every copy of one event, as the carrier does it for its retries.
    let token = sid("");
    for _ in 0..plan.copies {
        let (shared, call_sid, callback, token) =
            (Arc::clone(shared), call_sid.to_owned(), callback.clone(), token.clone());
        let bad_signature = plan.bad_signature;
        let tracker = shared.tracker.clone();
        tracker.spawn(async move {
            // Nobody waits for a duplicate's answer.
            let _ = send_once(&shared, &call_sid, &callback, &token, bad_signature, true).await;
        });
    }
    send_once(shared, call_sid, callback, &token, plan.bad_signature, false).await
}

async fn send_once(
    shared: &Shared,
    call_sid: &str,
    callback: &Callback,
    token: &str,
    bad_signature: bool,
    duplicate: bool,
) -> Result<Reply, Failure> {
    let bare = callback.url.split_once('#').map_or(callback.url.as_str(), |(before, _)| before);
    let (url, body) = match callback.via {
        Via::Post => (bare.to_owned(), Some(callback.params.encode())),
        Via::Get => {
            let joint = if bare.contains('?') { '&' } else { '?' };
            (format!("{bare}{joint}{}", callback.params.encode()), None)
        }
    };
    let mut signature = match callback.via {
        Via::Post => sign(&shared.auth_token, &url, &callback.params.0),
        Via::Get => sign(&shared.auth_token, &url, &[]),
    };
    if bad_signature {
        signature = sign("not the account's token", &url, &callback.params.0);
    }
    let started = shared.clock.monotonic();
    let outcome = exchange(shared, &url, body, &signature, token).await;
    let ms = u64::try_from(shared.clock.monotonic().saturating_sub(started).as_millis()).unwrap_or(u64::MAX);
    let mut details = json!({
        "operation": callback.operation,
        "method": callback.via.name(),
        "url": callback.url,
        "signed_url": url,
        "signature": signature,
        "idempotency_token": token,
        "parameters": callback.params.0,
        "took_ms": ms,
    });
    if duplicate {
        details["duplicate"] = json!(true);
    }
    match &outcome {
        Ok((status, reply)) => {
            details["status"] = json!(status);
            details["content_type"] = json!(reply.content_type);
            details["answer"] = json!(shown(&reply.body));
        }
        Err(failure) => details["failure"] = json!({"code": failure.code, "message": failure.message}),
    }
    shared.note(call_sid, "request", details);
    match outcome {
        Ok((status, _)) if status >= 400 => Err(Failure::new(11_200, format!("HTTP status {status}"))),
        Ok((_, reply)) => Ok(reply),
        Err(failure) => Err(failure),
    }
}

fn shown(body: &str) -> &str {
    let end = (0..=body.len().min(SHOWN_BYTES_MAX)).rev().find(|at| body.is_char_boundary(*at)).unwrap_or(0);
    &body[..end]
}

/// One HTTP exchange; a failed connection is tried once more.
async fn exchange(
    shared: &Shared,
    url: &str,
    body: Option<String>,
    signature: &str,
    token: &str,
) -> Result<(u16, Reply), Failure> {
    let attempt = || {
        let request = match &body {
            Some(body) => shared
                .http
                .post(url)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8")
                .body(body.clone()),
            None => shared.http.get(url),
        };
        request
            .header(header::ACCEPT, "*/*")
            .header(SIGNATURE_HEADER, signature)
            .header("i-twilio-idempotency-token", token)
            .send()
    };
    let mut sent = attempt().await;
    if sent.as_ref().is_err_and(reqwest::Error::is_connect) {
        sent = attempt().await;
    }
    let mut response = sent.map_err(|error| failure_of(&error))?;
    let status = response.status().as_u16();
    let content_type = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failure_of(&error))? {
        if bytes.len() + chunk.len() > TWIML_BYTES_MAX {
            return Err(Failure::new(11_750, format!("the answer is larger than {TWIML_BYTES_MAX} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((status, Reply { content_type, body: String::from_utf8_lossy(&bytes).into_owned() }))
}

fn failure_of(error: &reqwest::Error) -> Failure {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    let code = if error.is_redirect() {
        11_215
    } else if error.is_builder() {
        11_100
    } else if message.contains("dns error") {
        11_210
    } else {
        11_205
    };
    Failure::new(code, message)
}

/// The parameters that every request about a call carries.
pub(super) fn call_params(shared: &Shared, call: &Call) -> Form {
    let mut form = Form::default();
    for (name, value) in [
        ("AccountSid", shared.account_sid.as_str()),
        ("ApiVersion", "2010-04-01"),
        ("CallSid", &call.sid),
        ("CallStatus", call.status.name()),
        ("Direction", &call.direction),
        ("From", &call.from),
        ("To", &call.to),
        ("Caller", &call.from),
        ("Called", &call.to),
    ] {
        form.push(name, value);
    }
    for (names, number) in [(["From", "Caller"], &call.from), (["To", "Called"], &call.to)] {
        let [city, state, zip, country] = place_of(shared, number);
        for name in names {
            form.push(&format!("{name}City"), city.as_str());
            form.push(&format!("{name}State"), state.as_str());
            form.push(&format!("{name}Zip"), zip.as_str());
            form.push(&format!("{name}Country"), country.as_str());
        }
    }
    for (name, value) in [
        ("ParentCallSid", &call.parent_sid),
        ("ForwardedFrom", &call.forwarded_from),
        ("CallerName", &call.caller_name),
    ] {
        if let Some(value) = value {
            form.push(name, value.as_str());
        }
    }
    form
}

/// City, state, postal code and country as far as the number tells; cities are written in capitals.
fn place_of(shared: &Shared, number: &str) -> [String; 4] {
    if let Some(found) = shared.supply.find(number) {
        let country = if found.range.kind == NumberKind::TollFree { "" } else { found.range.country };
        return match found.range.place {
            Some(place) => {
                [place.locality.to_uppercase(), place.region.into(), place.postal_code.into(), country.into()]
            }
            None => [String::new(), String::new(), String::new(), country.into()],
        };
    }
    let country = [("+1", "US"), ("+44", "GB"), ("+33", "FR")]
        .into_iter()
        .find_map(|(prefix, country)| number.starts_with(prefix).then_some(country))
        .unwrap_or_default();
    [String::new(), String::new(), String::new(), country.into()]
}

/// Where the events of a call are reported, and which of them.
#[derive(Debug)]
pub(super) struct StatusReports {
    target: Option<(String, Via)>,
    events: Vec<String>,
    sequence: u32,
    held: Option<Callback>,
    /// The reports sent so far; each waits for the one before it.
    last: Option<JoinHandle<()>>,
}

impl StatusReports {
    /// Reports `events` (`initiated`, `ringing`, `answered`, `completed`) to `url`; only `completed` where none is given.
    pub(super) fn new(url: Option<&str>, via: Via, events: Vec<String>) -> Self {
        let events = if events.is_empty() { vec!["completed".to_owned()] } else { events };
        let target = url.filter(|url| !url.is_empty()).map(|url| (url.to_owned(), via));
        Self { target, events, sequence: 0, held: None, last: None }
    }

    /// Reports one event, if it is wanted. `status` is what the call's status is called in it.
    pub(super) fn report(&mut self, shared: &Arc<Shared>, call_sid: &str, event: &str, status: &str) {
        let Some((url, via)) = &self.target else { return };
        if !self.events.iter().any(|wanted| wanted == event) {
            return;
        }
        let now = shared.clock.now();
        let mut params = {
            let state = shared.lock();
            let Some(call) = state.calls.by_sid(call_sid) else { return };
            let mut params = call_params(shared, call);
            if event == "completed" {
                let duration = call.duration_s();
                params.push("CallDuration", duration.to_string());
                params.push("Duration", duration.div_ceil(60).to_string());
            }
            params
        };
        if let Some(entry) = params.0.iter_mut().find(|(name, _)| name == "CallStatus") {
            status.clone_into(&mut entry.1);
        }
        params.push("Timestamp", rfc2822(now));
        params.push("CallbackSource", "call-progress-events");
        params.push("SequenceNumber", self.sequence.to_string());
        self.sequence += 1;
        let callback = Callback { operation: "callback.status", url: url.clone(), via: *via, params };
        let plan = plan(shared, &callback);
        if plan.reorder && self.held.is_none() {
            self.held = Some(callback);
            return;
        }
        self.queue(shared, call_sid, callback, plan);
        if let Some(held) = self.held.take() {
            self.queue(shared, call_sid, held, CallbackPlan::default());
        }
    }

    fn queue(&mut self, shared: &Arc<Shared>, call_sid: &str, callback: Callback, plan: CallbackPlan) {
        let previous = self.last.take();
        let (task_shared, call_sid) = (Arc::clone(shared), call_sid.to_owned());
        self.last = Some(shared.tracker.spawn(async move {
            if let Some(previous) = previous {
                let _ = previous.await;
            }
            if let Err(failure) = carry_out(&task_shared, &call_sid, &callback, &plan).await {
                task_shared.note_error(
                    &call_sid,
                    failure.code,
                    &format!("status callback: {}", failure.message),
                );
            }
        }));
    }

    /// Sends what is still held back and waits until everything has been sent.
    pub(super) async fn finish(&mut self, shared: &Arc<Shared>, call_sid: &str) {
        if let Some(held) = self.held.take() {
            self.queue(shared, call_sid, held, CallbackPlan::default());
        }
        if let Some(last) = self.last.take() {
            let _ = last.await;
        }
    }
}

/// A warning or a fact about what a document asked for, for the timeline.
pub(super) fn remark(text: &str) -> Value {
    json!({"text": text})
}
