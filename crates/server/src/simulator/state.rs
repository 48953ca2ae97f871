//! Everything that the simulated carrier knows, and how it is rebuilt from the ledger.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::calls::{Call, Calls, Status};
use super::destinations::Destinations;
use super::errors::{ApiError, Kind};
use super::faults::Faults;
use super::form::sid;
use super::ledger::{Entry, Ledger};
use super::number::{Number, Numbers};
use super::router::ApiRequest;
use super::supply::Supply;
use super::{ApiKey, SimulatorConfig, callbacks};
use crate::clock::Clock;

/// What every request and every call shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) account_sid: String,
    pub(crate) auth_token: String,
    pub(crate) api_keys: Vec<ApiKey>,
    pub(crate) supply: Supply,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) http: reqwest::Client,
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) in_flight: AtomicU64,
    time_scale: u32,
    state: Mutex<State>,
}

/// What changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) account: Account,
    pub(crate) numbers: Numbers,
    pub(crate) calls: Calls,
    pub(crate) destinations: Destinations,
    pub(crate) faults: Faults,
    pub(crate) ledger: Ledger,
}

/// The one account.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    /// `active`, `suspended` or `closed`.
    pub(crate) status: String,
    /// `Full` or `Trial`.
    pub(crate) kind: String,
    pub(crate) created: Timestamp,
    pub(crate) updated: Timestamp,
}

/// What an earlier run left to be done.
pub(crate) struct Unfinished {
    pub(crate) scheduled: Vec<Value>,
}

impl Shared {
    /// Opens the ledger and rebuilds the state from it.
    pub(crate) fn open(config: SimulatorConfig) -> anyhow::Result<(Arc<Self>, Unfinished)> {
        let now = config.clock.now();
        let (mut ledger, rows) = Ledger::open(config.ledger_path.as_deref())?;
        let opened = rows.iter().find(|row| row["effect"] == "account_opened");
        let kept = |name: &str| opened.and_then(|row| row[name].as_str()).map(str::to_owned);
        let account_sid = config.account_sid.or_else(|| kept("sid")).unwrap_or_else(|| sid("AC"));
        let auth_token = config.auth_token.or_else(|| kept("auth_token")).unwrap_or_else(|| sid(""));
        if let Some(before) = kept("sid") {
            anyhow::ensure!(
                before == account_sid,
                "the ledger belongs to account {before}, not to {account_sid}"
            );
        } else {
            let details = json!({"auth_token": auth_token});
            ledger.write(
                now,
                Entry {
                    effect: "account_opened",
                    sid: account_sid.clone(),
                    request_id: String::new(),
                    details,
                },
            )?;
        }
        let mut state = State {
            account: Account { status: "active".into(), kind: "Full".into(), created: now, updated: now },
            numbers: Numbers::default(),
            calls: Calls::default(),
            destinations: Destinations::default(),
            faults: Faults::new(config.fault_seed),
            ledger,
        };
        let unfinished = state.replay(&rows, now)?;
        let shared = Self {
            account_sid,
            auth_token,
            api_keys: config.api_keys,
            supply: Supply::new(config.supply_seed),
            clock: config.clock,
            http: callbacks::client(config.callback_limit)?,
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            in_flight: AtomicU64::new(0),
            time_scale: config.time_scale.max(1),
            state: Mutex::new(state),
        };
        Ok((Arc::new(shared), unfinished))
    }

    /// The state. A panic in one request must not stop the others, so poison is ignored.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A delay of the carrier, or of somebody on the telephone, divided by the time scale.
    pub(crate) fn scaled(&self, delay: Duration) -> Duration {
        delay / self.time_scale
    }

    pub(crate) fn account_path(&self) -> String {
        format!("/2010-04-01/Accounts/{}", self.account_sid)
    }

    /// Writes an effect of `request` in the ledger. Call it before the effect: what is not written did not happen.
    pub(crate) fn record(
        &self,
        state: &mut State,
        effect: &'static str,
        sid: &str,
        request: &ApiRequest,
        mut details: Value,
    ) -> Result<(), ApiError> {
        if let (Some(scheduled), Value::Object(details)) = (&request.scheduled, &mut details) {
            details.insert("scheduled".to_owned(), json!(scheduled));
        }
        let entry = Entry { effect, sid: sid.to_owned(), request_id: request.request_id.clone(), details };
        state.ledger.write(self.clock.now(), entry).map_err(|error| {
            tracing::error!("the simulated carrier cannot write its ledger: {error:#}");
            ApiError::new(Kind::InternalError, "Internal Server Error")
        })
    }

    /// Adds an event to a call's timeline.
    pub(crate) fn note(&self, call_sid: &str, event: &str, details: Value) {
        let now = self.clock.now();
        if let Some(call) = self.lock().calls.by_sid_mut(call_sid) {
            call.note(now, event, details);
        }
    }

    /// Notes one of the carrier's error codes on a call.
    pub(crate) fn note_error(&self, call_sid: &str, code: u32, message: &str) {
        let now = self.clock.now();
        if let Some(call) = self.lock().calls.by_sid_mut(call_sid) {
            call.errors.push(code);
            call.note(now, "error", json!({"code": code, "message": message}));
        }
    }
}

impl State {
    /// Applies the ledger's rows, oldest first. A call that was alive when the carrier died has failed.
    fn replay(&mut self, rows: &[Value], now: Timestamp) -> anyhow::Result<Unfinished> {
        let mut scheduled: Vec<(String, Value)> = Vec::new();
        let mut alive: HashMap<String, Timestamp> = HashMap::new();
        for row in rows {
            let text = |name: &str| row[name].as_str().unwrap_or_default();
            let at: Timestamp =
                text("time").parse().with_context(|| format!("ledger row {} has no time", row["seq"]))?;
            // An effect that names the schedule it came from was performed, whatever was written after it.
            scheduled.retain(|(id, _)| id != text("scheduled"));
            match text("effect") {
                "number_purchased" | "number_updated" => {
                    let number: Number = serde_json::from_value(row["number"].clone())
                        .with_context(|| format!("ledger row {} holds no number", row["seq"]))?;
                    self.numbers.put(number);
                }
                "number_released" => {
                    self.numbers.remove(text("sid"));
                }
                "call_placed" => {
                    let mut call =
                        Call::new(text("sid").to_owned(), text("direction"), text("from"), text("to"), at);
                    call.parent_sid = row["parent_call_sid"].as_str().map(str::to_owned);
                    call.number_sid = row["phone_number_sid"].as_str().map(str::to_owned);
                    call.settled.send_replace(true);
                    alive.insert(call.sid.clone(), at);
                    self.calls.add(call);
                }
                "call_ended" => {
                    alive.remove(text("sid"));
                    if let Some(call) = self.calls.by_sid_mut(text("sid")) {
                        call.status = Status::parse(text("status")).unwrap_or(Status::Failed);
                        call.answered = text("answered_at").parse().ok();
                        call.ended = Some(at);
                    }
                }
                "call_deleted" => {
                    self.calls.remove(text("sid"));
                }
                "scheduled" => scheduled.push((text("sid").to_owned(), row.clone())),
                "scheduled_done" => scheduled.retain(|(id, _)| id != text("sid")),
                "account_opened" => self.account.created = at,
                other => anyhow::bail!("ledger row {} has an unknown effect {other:?}", row["seq"]),
            }
        }
        for sid in alive.into_keys() {
            if let Some(call) = self.calls.by_sid_mut(&sid) {
                call.status = Status::Failed;
                call.ended = Some(now);
            }
            let details = json!({"status": Status::Failed.name(), "because": "the simulator was stopped"});
            self.ledger
                .write(now, Entry { effect: "call_ended", sid, request_id: String::new(), details })?;
        }
        Ok(Unfinished { scheduled: scheduled.into_iter().map(|(_, row)| row).collect() })
    }
}
