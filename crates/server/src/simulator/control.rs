//! `/_control/`: what tests, demos and people at the keyboard do to the simulated carrier: place calls and read their
//! story, order faults, say who answers where, look at the ledger.
//!
//! No key is needed, so it answers this machine only; and it takes JSON only, which no web page elsewhere can send here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Response, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::call::{Command, Party};
use super::destinations::Destination;
use super::form::Form;
use super::placing::{Inbound, place_inbound};
use super::router::{has_body, plain};
use super::state::Shared;

/// Who calls where the request does not say: a number reserved for fiction that is not sold.
const FROM_DEFAULT: &str = "+15145550199";
/// How long `wait` waits for the end of a call, by default and at most.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(600);

/// An answer of the control endpoint.
struct Refusal {
    status: u16,
    error: String,
}

impl Refusal {
    fn new(status: u16, error: impl Into<String>) -> Self {
        Self { status, error: error.into() }
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self::new(400, format!("{error:#}"))
    }
}

/// Answers `/_control/{path}`.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    peer: IpAddr,
    parts: &Parts,
    path: &str,
    body: &[u8],
) -> Response<Body> {
    let answered = match admit(peer, parts, body) {
        Ok(()) => answer(shared, parts, path, body).await,
        Err(refusal) => Err(refusal),
    };
    let (status, value) = match answered {
        Ok((status, value)) => (status, value),
        Err(refusal) => (refusal.status, json!({"error": refusal.error})),
    };
    plain(status, "application/json", value.to_string())
}

fn admit(peer: IpAddr, parts: &Parts, body: &[u8]) -> Result<(), Refusal> {
    if !peer.to_canonical().is_loopback() {
        return Err(Refusal::new(403, "the control endpoint answers this machine only"));
    }
    // A name that leads here from elsewhere is a page's trick to read what is here.
    let host = parts.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    if name != "localhost" && !name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
        return Err(Refusal::new(403, "address the control endpoint as localhost or 127.0.0.1"));
    }
    let is_json = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"));
    if has_body(&parts.method) && !body.is_empty() && !is_json {
        return Err(Refusal::new(415, "send application/json"));
    }
    // A page elsewhere can send a POST without a body, but not without saying where it comes from.
    if parts.headers.contains_key(header::ORIGIN) {
        return Err(Refusal::new(403, "the control endpoint does not answer web pages"));
    }
    Ok(())
}

async fn answer(
    shared: &Arc<Shared>,
    parts: &Parts,
    path: &str,
    body: &[u8],
) -> Result<(u16, Value), Refusal> {
    let segments: Vec<&str> = path.split('/').collect();
    match (&parts.method, segments.as_slice()) {
        (&Method::GET, ["faults"]) => Ok((200, shared.lock().faults.body())),
        (&Method::POST, ["faults"]) => {
            let mut state = shared.lock();
            state.faults.add(read(body)?)?;
            Ok((201, state.faults.body()))
        }
        (&Method::DELETE, ["faults"]) => {
            shared.lock().faults.clear();
            Ok((200, json!([])))
        }
        (&Method::POST, ["calls"]) => call_place(shared, read(body)?).await,
        (&Method::GET, ["calls"]) => {
            let state = shared.lock();
            let stories: Vec<Value> = state
                .calls
                .latest_first()
                .take(100)
                .map(|call| json!({"sid": call.sid, "direction": call.direction, "from": call.from, "to": call.to, "status": call.status.name()}))
                .collect();
            Ok((200, Value::Array(stories)))
        }
        (&Method::GET, ["calls", sid]) => Ok((200, story(shared, sid)?)),
        (&Method::POST, ["calls", sid, "hangup"]) => command(shared, sid, Command::HangUp(Party::Caller)),
        (&Method::POST, ["calls", sid, "dtmf"]) => {
            let press: Press = read(body)?;
            if press.digits.is_empty()
                || !press.digits.chars().all(|c| c.is_ascii_digit() || "ABCD#*".contains(c))
            {
                return Err(Refusal::new(400, "digits are 0-9, A-D, # and *"));
            }
            command(shared, sid, Command::Dtmf(press.digits))
        }
        (&Method::PUT, ["destinations", ..]) => {
            // A SIP address may hold what a path may not, so it comes percent-encoded, slashes included.
            let encoded = path.split_once('/').map(|(_, rest)| rest).unwrap_or_default();
            let address = percent_decoded(encoded);
            let destination: Destination = read(body)?;
            if address.is_empty() || !shared.lock().destinations.put(&address, destination) {
                return Err(Refusal::new(400, "no address, or too many destinations"));
            }
            Ok((200, json!({"address": address, "destination": destination})))
        }
        (&Method::PUT, ["account"]) => {
            let change: AccountChange = read(body)?;
            let mut state = shared.lock();
            state.account.status = change.status.unwrap_or_else(|| state.account.status.clone());
            state.account.kind = change.kind.unwrap_or_else(|| state.account.kind.clone());
            state.account.updated = shared.clock.now();
            Ok((200, json!({"status": state.account.status, "type": state.account.kind})))
        }
        (&Method::GET, ["ledger"]) => Ok((200, Value::Array(shared.lock().ledger.rows()?))),
        (&Method::GET, ["numbers"]) => {
            let state = shared.lock();
            Ok((200, state.numbers.latest_first().map(|number| number.body(&shared.account_sid)).collect()))
        }
        _ => Err(Refusal::new(404, format!("there is no {} /_control/{path}", parts.method))),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    Ok(serde_json::from_slice(body).context("the body is not what is expected")?)
}

fn percent_decoded(text: &str) -> String {
    // A plus is a plus in a path; in a form it would be a space.
    let form = Form::parse(format!("a={}", text.replace('+', "%2B")).as_bytes());
    form.value("a").unwrap_or_default().to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaceCall {
    to: String,
    from: Option<String>,
    forwarded_from: Option<String>,
    caller_name: Option<String>,
    stir_verstat: Option<String>,
    /// The caller hangs up so long after somebody answered; divided by the time scale.
    hangup_after_ms: Option<u64>,
    /// The caller gives up when nobody has answered so long after calling; divided by the time scale.
    give_up_after_ms: Option<u64>,
    /// Answer only when the call is over, with its whole story.
    #[serde(default)]
    wait: bool,
    wait_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Press {
    digits: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountChange {
    status: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

async fn call_place(shared: &Arc<Shared>, place: PlaceCall) -> Result<(u16, Value), Refusal> {
    let inbound = Inbound {
        to: place.to.clone(),
        from: place.from.unwrap_or_else(|| FROM_DEFAULT.to_owned()),
        forwarded_from: place.forwarded_from,
        caller_name: place.caller_name,
        stir_verstat: place.stir_verstat,
        hangup_after: place.hangup_after_ms.map(Duration::from_millis),
        give_up_after: place.give_up_after_ms.map(Duration::from_millis),
    };
    let Some(sid) = place_inbound(shared, inbound)? else {
        return Err(Refusal::new(404, format!("nobody owns {}", place.to)));
    };
    if place.wait {
        let patience = place.wait_ms.map_or(WAIT_DEFAULT, Duration::from_millis).min(WAIT_MAX);
        let settled = shared.lock().calls.by_sid(&sid).map(|call| call.settled.subscribe());
        if let Some(mut settled) = settled {
            // Out of patience, the story is told as far as it goes.
            let _ = timeout(patience, settled.wait_for(|settled| *settled)).await;
        }
    }
    Ok((201, story(shared, &sid)?))
}

fn story(shared: &Shared, sid: &str) -> Result<Value, Refusal> {
    let state = shared.lock();
    state
        .calls
        .by_sid(sid)
        .map(super::calls::Call::story)
        .ok_or_else(|| Refusal::new(404, format!("there is no call {sid}")))
}

fn command(shared: &Shared, sid: &str, command: Command) -> Result<(u16, Value), Refusal> {
    let state = shared.lock();
    let call = state.calls.by_sid(sid).ok_or_else(|| Refusal::new(404, format!("there is no call {sid}")))?;
    let sent = call.commands.as_ref().is_some_and(|commands| commands.try_send(command).is_ok());
    if sent { Ok((202, json!({"sid": sid}))) } else { Err(Refusal::new(409, format!("call {sid} is over"))) }
}
