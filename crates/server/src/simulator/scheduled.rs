//! Effects that come late: the request was answered with an error, and is performed after all, even if the simulator
//! was stopped meanwhile. The ledger holds what is still to come.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::errors::ApiError;
use super::form::{Form, sid};
use super::ledger::Entry;
use super::router::{ApiRequest, Operation, View, perform};
use super::state::Shared;

/// Writes down that `request` will be performed after `delay`, and sees to it.
pub(super) fn add(shared: &Arc<Shared>, mut request: ApiRequest, delay: Duration) -> Result<(), ApiError> {
    let id = sid("LE");
    let due = shared.clock.now() + delay;
    let details = json!({
        "due": due.to_string(),
        "method": request.method,
        "path": request.path,
        "query": request.query.0,
        "form": request.form.0,
    });
    shared.record(&mut shared.lock(), "scheduled", &id, &request, details)?;
    request.scheduled = Some(id);
    start(shared, request, delay);
    Ok(())
}

/// Takes up what an earlier run left: the row of a scheduled effect that was not performed.
pub(super) fn resume(shared: &Arc<Shared>, row: &Value) {
    let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let form = |name: &str| Form(serde_json::from_value(row[name].clone()).unwrap_or_default());
    let request = ApiRequest {
        method: text("method"),
        path: text("path"),
        query: form("query"),
        form: form("form"),
        request_id: text("request_id"),
        view: View::default(),
        scheduled: Some(text("sid")),
    };
    let due: Timestamp = text("due").parse().unwrap_or_else(|_| shared.clock.now());
    let delay = Duration::try_from(due.duration_since(shared.clock.now())).unwrap_or(Duration::ZERO);
    start(shared, request, delay);
}

fn start(shared: &Arc<Shared>, request: ApiRequest, delay: Duration) {
    let task_shared = Arc::clone(shared);
    shared.tracker.spawn(async move {
        let shared = task_shared;
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shared.stop.cancelled() => return,
        }
        let answer = match Operation::read(&shared, &request) {
            Ok(operation) => perform(&shared, &operation, &request),
            Err(error) => error.into(),
        };
        let entry = Entry {
            effect: "scheduled_done",
            sid: request.scheduled.clone().unwrap_or_default(),
            request_id: request.request_id.clone(),
            details: json!({"status": answer.status}),
        };
        let now = shared.clock.now();
        if let Err(error) = shared.lock().ledger.write(now, entry) {
            tracing::error!("cannot note that a late effect is done: {error:#}");
        }
    });
}
