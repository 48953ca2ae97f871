//! One entry of what is kept of a call: as it is spooled, and how it is written to the database with the events that it means.

use std::collections::BTreeMap;

use database::calls::{CallEvent, CallReport, CallRoute, call_report};
use database::events::{NewEvent, events_append};
use database::{DbError, Tx};
use domain::call::{CallStatus, Ingress, Outcome};
use domain::environment::Environment;
use domain::event::EventKind;
use domain::id::{AgentId, CallId, NumberId, VariantId, VersionId, WorkspaceId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What one request told or decided about a call. It may be written twice: the second time changes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Our id of the call.
    pub id: CallId,
    /// What it came in on.
    pub ingress: Ingress,
    /// What its carrier calls it.
    pub carrier_call_id: String,
    /// Whose it is.
    pub workspace: Option<WorkspaceId>,
    /// The called number.
    pub number_id: Option<NumberId>,
    /// Who calls, as the carrier wrote it.
    pub from: String,
    /// Who is called, as the carrier wrote it.
    pub to: String,
    /// Where it was sent.
    pub route: Option<Route>,
    /// How far it is.
    pub status: Option<CallStatus>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What routing chose.
    pub decision: Option<Value>,
    /// When somebody answered.
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How long it took, in seconds.
    pub duration_s: Option<i64>,
    /// What happened: `decided`, `target_ended`, `status`.
    pub kind: String,
    /// The same for the same report, however often it comes.
    pub dedupe_key: String,
    /// The rest of it.
    pub detail: Value,
    /// When it happened, as the report says.
    pub happened_at: Timestamp,
    /// When the report came.
    pub at: Timestamp,
}

/// Which agent a call was sent to, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The agent.
    pub agent_id: AgentId,
    /// In which environment.
    pub environment: Environment,
    /// As which variant.
    pub variant_id: Option<VariantId>,
    /// Which version.
    pub version_id: Option<VersionId>,
}

/// Events that entries mean, by workspace.
pub type Told = BTreeMap<WorkspaceId, Vec<NewEvent>>;

/// Writes entries and the events that they mean, in one transaction. What holds up others comes last, and is short however many
/// entries there are: a change in a workspace waits for the events of its calls, not for the calls.
pub fn write(tx: &Tx<'_>, entries: &[Entry]) -> Result<(), DbError> {
    let mut told = Told::new();
    for entry in entries {
        keep(tx, entry, &mut told)?;
    }
    tell(tx, &told)
}

/// Adds the events, each workspace's in the order in which they happened.
pub fn tell(tx: &Tx<'_>, told: &Told) -> Result<(), DbError> {
    // Workspaces are locked in the order of their ids, so that two nodes never wait in a circle.
    told.iter().try_for_each(|(&workspace, events)| events_append(tx, workspace, events))
}

/// Adds what an entry says to its call, and what that means to `told`.
pub fn keep(tx: &Tx<'_>, entry: &Entry, told: &mut Told) -> Result<(), DbError> {
    let report = CallReport {
        id: entry.id,
        ingress: entry.ingress,
        carrier_call_id: entry.carrier_call_id.clone(),
        workspace: entry.workspace,
        number_id: entry.number_id,
        from: entry.from.clone(),
        to: entry.to.clone(),
        route: entry.route.map(|route| CallRoute {
            agent_id: route.agent_id,
            environment: route.environment,
            variant_id: route.variant_id,
            version_id: route.version_id,
        }),
        status: entry.status,
        outcome: entry.outcome,
        decision: entry.decision.clone(),
        answered_at: entry.answered_at,
        ended_at: entry.ended_at,
        duration_s: entry.duration_s,
        event: CallEvent {
            seq: 0,
            at: entry.happened_at,
            kind: entry.kind.clone(),
            dedupe_key: entry.dedupe_key.clone(),
            detail: entry.detail.clone(),
        },
        at: entry.at,
    };
    let reported = call_report(tx, &report)?;
    let call = &reported.call;
    let Some(workspace) = call.workspace.filter(|_| !reported.is_duplicate) else { return Ok(()) };
    let kinds = [
        reported.is_new.then_some(EventKind::CallStarted),
        reported.is_ended.then_some(EventKind::CallEnded),
    ];
    for kind in kinds.into_iter().flatten() {
        let data = json!({
            "call_id": call.id,
            "number_id": call.number_id,
            "agent_id": call.route.map(|route| route.agent_id),
            "environment": call.route.map(|route| route.environment),
            "variant_id": call.route.and_then(|route| route.variant_id),
            "from": call.from,
            "to": call.to,
            "status": call.status,
            "outcome": call.outcome,
            "duration_s": call.duration_s,
        });
        let event = NewEvent { kind, subject: call.id.to_string(), data, at: entry.at };
        told.entry(workspace).or_default().push(event);
    }
    Ok(())
}
