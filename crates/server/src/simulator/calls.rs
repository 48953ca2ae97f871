//! The record of each call at the simulated carrier: what the REST interface shows of it, and the timeline that the
//! control endpoint shows. Bounded: the oldest ended calls are forgotten.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::call::Command;
use super::form::{number_friendly, rfc2822};

/// How many calls are remembered.
const CALLS_MAX: usize = 10_000;
/// How many events one call's timeline holds.
const TIMELINE_EVENTS_MAX: usize = 1_000;

/// Where a call stands, in the carrier's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Queued,
    Ringing,
    InProgress,
    Completed,
    Busy,
    Failed,
    NoAnswer,
    Canceled,
}

impl Status {
    pub(crate) const ALL: [Self; 8] = [
        Self::Queued,
        Self::Ringing,
        Self::InProgress,
        Self::Completed,
        Self::Busy,
        Self::Failed,
        Self::NoAnswer,
        Self::Canceled,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Ringing => "ringing",
            Self::InProgress => "in-progress",
            Self::Completed => "completed",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::NoAnswer => "no-answer",
            Self::Canceled => "canceled",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == text)
    }

    pub(crate) fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Ringing | Self::InProgress)
    }
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) sid: String,
    /// `inbound`, `outbound-api` or `outbound-dial`.
    pub(crate) direction: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) status: Status,
    pub(crate) parent_sid: Option<String>,
    pub(crate) number_sid: Option<String>,
    /// The request that asked for it, where one of the REST interface did.
    pub(crate) request_id: String,
    pub(crate) forwarded_from: Option<String>,
    pub(crate) caller_name: Option<String>,
    pub(crate) created: Timestamp,
    pub(crate) answered: Option<Timestamp>,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) timeline: Vec<Value>,
    pub(crate) events_left_out: u64,
    /// What was said with `<Say>`.
    pub(crate) spoken: Vec<String>,
    /// The carrier's error codes, in the order in which they happened.
    pub(crate) errors: Vec<u32>,
    pub(crate) streams: Vec<Value>,
    /// How to reach the task that lives this call; none for a call of an earlier run or a dialled leg.
    pub(crate) commands: Option<mpsc::Sender<Command>>,
    /// True once nothing more will happen, callbacks included.
    pub(crate) settled: watch::Sender<bool>,
}

impl Call {
    pub(crate) fn new(sid: String, direction: &str, from: &str, to: &str, now: Timestamp) -> Self {
        Self {
            sid,
            direction: direction.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            status: Status::Queued,
            parent_sid: None,
            number_sid: None,
            request_id: String::new(),
            forwarded_from: None,
            caller_name: None,
            created: now,
            answered: None,
            ended: None,
            timeline: Vec::new(),
            events_left_out: 0,
            spoken: Vec::new(),
            errors: Vec::new(),
            streams: Vec::new(),
            commands: None,
            settled: watch::Sender::new(false),
        }
    }

    /// Adds an event to the timeline.
    pub(crate) fn note(&mut self, now: Timestamp, event: &str, details: Value) {
        if self.timeline.len() >= TIMELINE_EVENTS_MAX {
            self.events_left_out += 1;
            return;
        }
        let ms = now.duration_since(self.created).as_millis();
        let mut row =
            json!({"at": now.to_string(), "ms": i64::try_from(ms).unwrap_or(i64::MAX), "event": event});
        if let (Value::Object(row), Value::Object(details)) = (&mut row, details) {
            row.extend(details);
        }
        self.timeline.push(row);
    }

    /// How long it lasted since it was answered, in whole seconds.
    pub(crate) fn duration_s(&self) -> u64 {
        match (self.answered, self.ended) {
            (Some(answered), Some(ended)) => {
                u64::try_from(ended.duration_since(answered).as_secs()).unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// The call as the REST interface shows it.
    pub(crate) fn body(&self, account_sid: &str) -> Value {
        let uri = format!("/2010-04-01/Accounts/{account_sid}/Calls/{}", self.sid);
        let duration = self.ended.map(|_| self.duration_s().to_string());
        json!({
            "sid": self.sid,
            "account_sid": account_sid,
            "parent_call_sid": self.parent_sid,
            "phone_number_sid": self.number_sid,
            "status": self.status.name(),
            "direction": self.direction,
            "from": self.from,
            "to": self.to,
            "from_formatted": number_friendly(&self.from),
            "to_formatted": number_friendly(&self.to),
            "start_time": self.answered.map(rfc2822),
            "end_time": self.ended.map(rfc2822),
            "duration": duration,
            "price": Value::Null,
            "price_unit": "USD",
            "answered_by": Value::Null,
            "caller_name": self.caller_name,
            "forwarded_from": self.forwarded_from,
            "group_sid": Value::Null,
            "trunk_sid": Value::Null,
            "queue_time": "0",
            "api_version": "2010-04-01",
            "date_created": rfc2822(self.created),
            "date_updated": rfc2822(self.ended.or(self.answered).unwrap_or(self.created)),
            "subresource_uris": {"streams": format!("{uri}/Streams.json")},
            "uri": format!("{uri}.json"),
        })
    }

    /// The call as the control endpoint shows it: everything.
    pub(crate) fn story(&self) -> Value {
        json!({
            "sid": self.sid,
            "direction": self.direction,
            "from": self.from,
            "to": self.to,
            "status": self.status.name(),
            "settled": *self.settled.borrow(),
            "parent_call_sid": self.parent_sid,
            "created_at": self.created.to_string(),
            "answered_at": self.answered.map(|at| at.to_string()),
            "ended_at": self.ended.map(|at| at.to_string()),
            "duration_s": self.duration_s(),
            "timeline": self.timeline,
            "events_left_out": self.events_left_out,
            "spoken": self.spoken,
            "streams": self.streams,
            "errors": self.errors,
        })
    }
}

/// All remembered calls, in the order in which they began.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    by_order: BTreeMap<u64, Call>,
    order_by_sid: HashMap<String, u64>,
    next: u64,
}

impl Calls {
    pub(crate) fn by_sid(&self, sid: &str) -> Option<&Call> {
        self.order_by_sid.get(sid).and_then(|order| self.by_order.get(order))
    }

    pub(crate) fn by_sid_mut(&mut self, sid: &str) -> Option<&mut Call> {
        self.order_by_sid.get(sid).and_then(|order| self.by_order.get_mut(order))
    }

    pub(crate) fn latest_first(&self) -> impl Iterator<Item = &Call> {
        self.by_order.values().rev()
    }

    pub(crate) fn add(&mut self, call: Call) {
        if self.by_order.len() >= CALLS_MAX {
            let oldest =
                self.by_order.iter().find(|(_, call)| call.status.is_final()).map(|(order, _)| *order);
            if let Some(call) = oldest.and_then(|order| self.by_order.remove(&order)) {
                self.order_by_sid.remove(&call.sid);
            }
        }
        self.next += 1;
        self.order_by_sid.insert(call.sid.clone(), self.next);
        self.by_order.insert(self.next, call);
    }

    pub(crate) fn remove(&mut self, sid: &str) -> Option<Call> {
        self.by_order.remove(&self.order_by_sid.remove(sid)?)
    }
}
