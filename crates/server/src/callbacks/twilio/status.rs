//! Statuses of calls, as Twilio reports them: late, twice, in any order, and for calls that we never heard of. Each is kept;
//! putting them together is the database's.

use domain::call::{CallStatus, Ingress};
use domain::id::CallId;
use domain::route::Found;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::{Map, Value};

use super::{Callback, Twilio, called};
use crate::record::{Entry, Note};

/// The longest value of a parameter that is kept, in characters.
const VALUE_CHARS_MAX: usize = 256;
/// What is kept of a report, beside what the call's row says.
const KEPT: &[&str] = &[
    "CallStatus",
    "SequenceNumber",
    "Timestamp",
    "CallDuration",
    "Duration",
    "SipResponseCode",
    "ErrorCode",
    "ErrorUrl",
    "AnsweredBy",
    "ForwardedFrom",
    "StirVerstat",
    "ParentCallSid",
    "Direction",
    "ApiVersion",
];

/// Keeps a status report.
pub(super) fn keep(twilio: &Twilio, callback: &Callback) {
    let now = twilio.app.clock.now();
    let id = twilio.ids.id(Ingress::STORE, &callback.call_sid);
    let found = called(callback, &twilio.app.routes.current()).map(|(_, found)| found);
    let form = &callback.form;
    let word = form.value("CallStatus").unwrap_or_default().into_owned();
    let sequence = form.value("SequenceNumber").unwrap_or_default();
    let status = read(&word);
    let happened_at = form
        .filled("Timestamp")
        .and_then(|text| rfc2822::parse(&text).ok())
        .map_or(now, |zoned| end_of_second(zoned.timestamp()));
    let entry = Entry {
        status,
        ended_at: status.filter(|status| status.is_final()).map(|_| happened_at),
        duration_s: form.filled("CallDuration").and_then(|text| text.parse().ok()),
        kind: "status".to_owned(),
        // Made of signed fields only.
        dedupe_key: cut(&format!("status {word} {sequence}")),
        detail: Value::Object(detail(callback, KEPT)),
        happened_at,
        ..entry(callback, id, found, now)
    };
    twilio.app.recorder.take(Note::Entry(Box::new(entry)));
}

/// When it happened, where the carrier names a whole second: as late in that second as can be, so that what we saw in the same
/// second ourselves stays before it. The carrier's own time is kept with the report.
fn end_of_second(second: Timestamp) -> Timestamp {
    second.checked_add(jiff::SignedDuration::from_millis(999)).unwrap_or(second)
}

/// An entry about a call, with what every callback tells.
pub(super) fn entry(callback: &Callback, id: CallId, found: Option<Found>, now: Timestamp) -> Entry {
    let text = |name| callback.form.value(name).map(|value| cut(&value)).unwrap_or_default();
    Entry {
        id,
        ingress: Ingress::STORE,
        carrier_call_id: callback.call_sid.clone(),
        workspace: found.map(|found| found.workspace_id),
        number_id: found.map(|found| found.number_id),
        from: text("From"),
        to: text("To"),
        route: None,
        status: None,
        outcome: None,
        decision: None,
        answered_at: None,
        ended_at: None,
        duration_s: None,
        kind: String::new(),
        dedupe_key: String::new(),
        detail: Value::Null,
        happened_at: now,
        at: now,
    }
}

/// The parameters that are kept, as they came, cut where they are long.
pub(super) fn detail(callback: &Callback, names: &[&str]) -> Map<String, Value> {
    let mut detail = Map::new();
    for name in names {
        if let Some(value) = callback.form.filled(name) {
            detail.insert((*name).to_owned(), Value::String(cut(&value)));
        }
    }
    if !callback.form.is_utf8() {
        detail.insert("invalid_utf8".to_owned(), Value::Bool(true));
    }
    detail
}

/// A text as it is kept: cut, and without the characters that databases refuse.
fn cut(text: &str) -> String {
    text.chars().filter(|&c| c != '\0').take(VALUE_CHARS_MAX).collect()
}

/// The status that a word of Twilio's stands for; `None` for a word that we do not know.
fn read(word: &str) -> Option<CallStatus> {
    Some(match word {
        "queued" | "initiated" => CallStatus::Queued,
        "ringing" => CallStatus::Ringing,
        "in-progress" | "answered" => CallStatus::InProgress,
        "completed" => CallStatus::Completed,
        "busy" => CallStatus::Busy,
        "failed" => CallStatus::Failed,
        "no-answer" => CallStatus::NoAnswer,
        "canceled" => CallStatus::Canceled,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carriers_second_ends_behind_what_we_saw_in_it() {
        let at = end_of_second("2026-11-22T02:28:32Z".parse().unwrap());
        assert_eq!(at.to_string(), "2026-11-22T02:28:32.999Z");
    }

    #[test]
    fn every_status_has_a_word() {
        for &status in CallStatus::ALL {
            assert_eq!(read(&status.as_str().replace('_', "-")), Some(status));
        }
        assert_eq!(read("teleported"), None);
    }
}
