//! Twilio calls us: `POST /callbacks/twilio/{token}/voice` when a call comes in, `voice-after` when a target has ended, and
//! `voice-status` when the call is over. This file verifies what comes; `voice` and `status` act on it.
//!
//! The token in the path is that of one number. The signature is verified over the configured `public_url`, never over what
//! headers say that we are called.

mod hops;
mod status;
mod voice;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use carriers::twilio::signature::{Algorithm, SETTINGS_HEADER, SIGNATURE_HEADER, Verifier};
use domain::call::{CARRIER_CALL_ID_BYTES_MAX, Ingress};
use domain::error::{Code, Refusal, shown};
use domain::fallback::MESSAGE_DEFAULT;
use domain::number::E164;
use domain::route::row::CallbackToken;
use domain::route::{Found, RouteTable};
use futures_util::FutureExt as _;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use subtle::ConstantTimeEq as _;
use tracing::{error, warn};

use self::hops::Hops;
use super::form::{BODY_BYTES_MAX, Form};
use super::recent::CallIds;
use crate::api::{Problem, wait_where_over};
use crate::app::Shared;
use crate::twiml::Document;

/// The longest that a voice answer may take, whatever happens. The carrier waits for 15 s, other carriers for 5.
pub const VOICE_LIMIT: Duration = Duration::from_millis(3_800);
/// How long a body may take to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(3);

/// Everything that Twilio's callbacks need.
pub(crate) struct Twilio {
    app: Shared,
    /// The account whose calls these are; without one, no callback is genuine.
    account: Option<Account>,
    /// `public_url`, without a slash at its end.
    base: String,
    ids: CallIds,
    hops: Hops,
    answers: Family<AnswerLabels, Counter>,
    asks: Family<AskLabels, Counter>,
}

struct Account {
    sid: String,
    verifier: Verifier,
}

/// What came of a callback.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnswerLabels {
    callback: &'static str,
    outcome: &'static str,
}

/// What came of asking a team's server.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AskLabels {
    outcome: &'static str,
}

/// A callback that is Twilio's own.
struct Callback {
    form: Form,
    call_sid: String,
    /// The token in the path.
    token: String,
    /// The query, as it was sent.
    query: String,
}

/// The routes of Twilio's callbacks.
pub(super) fn router(app: &Shared) -> Router {
    let settings = &app.config.carriers.twilio;
    let account = settings.account_sid.as_ref().zip(settings.auth_token.as_ref()).map(|(sid, token)| {
        let tokens = [Some(token), settings.auth_token_previous.as_ref()];
        let tokens = tokens.into_iter().flatten().map(crate::config::Secret::expose);
        Account { sid: sid.clone(), verifier: Verifier::new(tokens) }
    });
    let answers = Family::default();
    app.metrics.register("callbacks", "Callbacks of carriers, by what came of them", answers.clone());
    let asks = Family::default();
    app.metrics.register("webhook_asks", "Questions to teams' servers, by what came of them", asks.clone());
    let twilio = Arc::new(Twilio {
        account,
        base: app.config.public_base().unwrap_or_default(),
        ids: CallIds::new(app.keyring.derive("call-ids").as_slice()),
        hops: Hops::default(),
        app: app.clone(),
        answers,
        asks,
    });
    let (for_voice, for_after, for_status) = (twilio.clone(), twilio.clone(), twilio);
    Router::new()
        .route("/callbacks/twilio/{token}/voice", post(move |request| for_voice.voice(request)))
        .route("/callbacks/twilio/{token}/voice-after", post(move |request| for_after.voice_after(request)))
        .route(
            "/callbacks/twilio/{token}/voice-status",
            post(move |request| for_status.voice_status(request)),
        )
}

impl Twilio {
    async fn voice(self: Arc<Self>, request: Request<Body>) -> Response {
        self.answer(
            "voice",
            request,
            |twilio, callback| async move { voice::begin(&twilio, &callback).await },
        )
        .await
    }

    async fn voice_after(self: Arc<Self>, request: Request<Body>) -> Response {
        self.answer(
            "voice-after",
            request,
            |twilio, callback| async move { voice::go_on(&twilio, &callback) },
        )
        .await
    }

    async fn voice_status(self: Arc<Self>, request: Request<Body>) -> Response {
        match self.receive(request).await {
            Ok(callback) => {
                status::keep(&self, &callback);
                self.count("voice-status", "kept");
                StatusCode::NO_CONTENT.into_response()
            }
            Err(problem) => self.refuse("voice-status", problem),
        }
    }

    /// Receives a callback and answers it with TwiML, in time and whatever happens in `act`.
    async fn answer<F>(
        self: Arc<Self>,
        name: &'static str,
        request: Request<Body>,
        act: impl FnOnce(Arc<Twilio>, Arc<Callback>) -> F,
    ) -> Response
    where
        F: Future<Output = Result<Told, Refusal>>,
    {
        let callback = match self.receive(request).await {
            Ok(callback) => Arc::new(callback),
            Err(problem) => return self.refuse(name, problem),
        };
        // The closure itself runs inside, so that a panic anywhere in it is caught.
        let acted = AssertUnwindSafe(async { act(self.clone(), callback.clone()).await }).catch_unwind();
        match tokio::time::timeout(VOICE_LIMIT, acted).await {
            Ok(Ok(Ok(told))) => {
                self.count(name, told.outcome);
                twiml(told.document)
            }
            Ok(Ok(Err(refusal))) => self.refuse(name, refusal.into()),
            Ok(Err(_)) => {
                error!(
                    call.carrier_id = callback.call_sid,
                    "the {name} callback of a call panicked; the caller hears a message"
                );
                self.count(name, "panicked");
                twiml(Document::say(MESSAGE_DEFAULT, None))
            }
            Err(_) => {
                error!(
                    call.carrier_id = callback.call_sid,
                    "the {name} callback of a call took too long; the caller hears a message"
                );
                self.count(name, "too_slow");
                twiml(Document::say(MESSAGE_DEFAULT, None))
            }
        }
    }

    /// Reads a request and makes sure that it is Twilio's own. Nothing has happened before that.
    ///
    /// The signature is verified however many wrong ones came from the same address: a carrier is never made to wait for what
    /// others do. But whoever sends many wrong ones is told so, and does not fill the log.
    async fn receive(&self, request: Request<Body>) -> Result<Callback, Problem> {
        let (parts, body) = request.into_parts();
        let source = self.app.unproven.source(&parts.extensions, &parts.headers);
        let unproven = |detail: &str, code| {
            let wait = source.and_then(|source| wait_where_over(&self.app, source));
            wait.unwrap_or_else(|| Problem::new(code, detail))
        };
        check_content_type(&parts.headers)?;
        let too_large =
            || Problem::new(Code::BodyTooLarge, format!("a callback has at most {BODY_BYTES_MAX} bytes"));
        let body = match tokio::time::timeout(BODY_LIMIT, to_bytes(body, BODY_BYTES_MAX)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return Err(too_large()),
            Err(_) => return Err(Problem::new(Code::Timeout, "the body did not arrive in time")),
        };
        let form = Form::parse(&body).map_err(|(code, detail)| Problem::new(code, detail))?;
        let path = parts.uri.path();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let signature = header_text(&parts.headers, SIGNATURE_HEADER).ok_or_else(|| {
            unproven(
                "the X-Twilio-Signature header is missing; only the carrier may call this address",
                Code::SignatureMissing,
            )
        })?;
        let mut url = format!("{}{path}", self.base);
        if !query.is_empty() {
            url.push('?');
            url.push_str(&query);
        }
        let algorithm = Algorithm::read(header_text(&parts.headers, SETTINGS_HEADER));
        let genuine = self.account.as_ref().zip(algorithm).is_some_and(|(account, algorithm)| {
            account.verifier.verify(algorithm, &url, form.pairs(), signature)
        });
        if !genuine {
            let problem = unproven(
                "the signature does not fit this request; it is verified over public_url with the account's auth token",
                Code::SignatureInvalid,
            );
            if problem.code == Code::RateLimited {
                return Err(problem);
            }
            warn!(
                signed.url = hidden(&url),
                "a callback's signature is wrong; it was verified over {}: check public_url and carriers.twilio.auth_token",
                hidden(&url)
            );
            return Err(problem);
        }
        let account_sid = form.value("AccountSid").unwrap_or_default();
        if self.account.as_ref().is_none_or(|account| account.sid != account_sid) {
            return Err(Problem::new(
                Code::SignatureInvalid,
                format!("AccountSid is {}, which is not the account of the store", shown(&account_sid)),
            ));
        }
        let call_sid = form.value("CallSid").unwrap_or_default().into_owned();
        if call_sid.is_empty() || call_sid.len() > CARRIER_CALL_ID_BYTES_MAX || !call_sid.is_ascii() {
            return Err(Problem::new(
                Code::InvalidForm,
                format!("CallSid is {}, which names no call", shown(&call_sid)),
            ));
        }
        let token = path.split('/').nth(3).unwrap_or_default().to_owned();
        Ok(Callback { form, call_sid, token, query })
    }

    fn refuse(&self, callback: &'static str, problem: Problem) -> Response {
        self.count(callback, problem.code.as_str());
        problem.into_response()
    }

    fn count(&self, callback: &'static str, outcome: &'static str) {
        self.answers.get_or_create(&AnswerLabels { callback, outcome }).inc();
    }
}

/// What a call is told, and how that is counted.
struct Told {
    document: Document,
    outcome: &'static str,
}

impl Told {
    const fn new(outcome: &'static str, document: Document) -> Told {
        Told { document, outcome }
    }
}

/// The called number, if it is ours.
fn called(callback: &Callback, table: &RouteTable) -> Option<(E164, Found)> {
    let to = E164::from_carrier(&callback.form.value("To")?)?;
    Some((to, table.find(Ingress::STORE, to)?))
}

/// Whether the path's token is the number's. In constant time, so that it cannot be found out byte by byte.
fn token_fits(callback: &Callback, found: &Found) -> bool {
    CallbackToken::parse(&callback.token)
        .is_some_and(|token| bool::from(token.0.ct_eq(&found.callback_token.0)))
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = header_text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Ok(());
    }
    Err(Refusal::new(
        Code::UnsupportedMediaType,
        format!("the Content-Type is {}; a callback is application/x-www-form-urlencoded", shown(kind)),
    ))
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A URL as logs may show it: without most of the number's token.
fn hidden(url: &str) -> String {
    match url.split_once("/callbacks/twilio/") {
        Some((before, after)) => {
            let (token, rest) = after.split_once('/').unwrap_or((after, ""));
            let start: String = token.chars().take(4).collect();
            format!("{before}/callbacks/twilio/{start}…/{rest}")
        }
        None => url.to_owned(),
    }
}

fn twiml(document: Document) -> Response {
    ([(header::CONTENT_TYPE, "text/xml; charset=utf-8")], document.into_string()).into_response()
}
