//! Calls: one row a call, put together from reports that come late, twice and out of order.
//!
//! A call is known by what its carrier calls it, (ingress, carrier's id). Reports only ever add: a state
//! never goes back, what is known is not forgotten, and a report that was kept already changes nothing.
//! What no report said is put in when a call is read, not when it is written: so it depends on no order.

use domain::call::{CallStatus, Direction, Ingress, Outcome, TIMELINE_MAX};
use domain::environment::Environment;
use domain::id::{AgentId, CallId, NumberId, VariantId, VersionId, WorkspaceId};
use jiff::{SignedDuration, Timestamp};

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::numbers;
use crate::value::{Row, Value};

/// One call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Its id.
    pub id: CallId,
    /// Whose it is; none where no number of ours was called.
    pub workspace: Option<WorkspaceId>,
    /// The number that was called.
    pub number_id: Option<NumberId>,
    /// What it came in on.
    pub ingress: Ingress,
    /// What its carrier calls it.
    pub carrier_call_id: String,
    /// Which way it goes.
    pub direction: Direction,
    /// Who calls, as the carrier wrote it.
    pub from: String,
    /// Who is called, as the carrier wrote it.
    pub to: String,
    /// Where it was sent.
    pub route: Option<CallRoute>,
    /// How far it is.
    pub status: CallStatus,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What routing chose, with every reason.
    pub decision: Option<serde_json::Value>,
    /// When it began.
    pub started_at: Timestamp,
    /// When somebody answered.
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How long the carrier says that it took, in seconds.
    pub duration_s: Option<i64>,
    /// How many reports there were, those beyond [`TIMELINE_MAX`] included.
    pub timeline_count: i64,
    /// When the last report came.
    pub updated_at: Timestamp,
}

/// Which agent a call was sent to, and as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRoute {
    /// The agent.
    pub agent_id: AgentId,
    /// Whose version of it.
    pub environment: Environment,
    /// As which variant.
    pub variant_id: Option<VariantId>,
    /// Which version.
    pub version_id: Option<VersionId>,
}

/// Something that happened in a call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallEvent {
    /// Its place in the timeline, from 1. Not needed in a report.
    pub seq: i64,
    /// When it happened, as the report says.
    pub at: Timestamp,
    /// What: `decided`, `status`, `dial`, …
    pub kind: String,
    /// The same for the same report, however often it comes; made of signed fields only.
    pub dedupe_key: String,
    /// The rest of it.
    pub detail: serde_json::Value,
}

/// What one report says of a call. What it does not know is none.
#[derive(Debug, Clone)]
pub struct CallReport {
    /// The call's id, if this is the first report of it.
    pub id: CallId,
    /// What it came in on.
    pub ingress: Ingress,
    /// What its carrier calls it.
    pub carrier_call_id: String,
    /// Whose it is.
    pub workspace: Option<WorkspaceId>,
    /// The number that was called.
    pub number_id: Option<NumberId>,
    /// Who calls.
    pub from: String,
    /// Who is called.
    pub to: String,
    /// Where it was sent.
    pub route: Option<CallRoute>,
    /// How far it is.
    pub status: Option<CallStatus>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What routing chose.
    pub decision: Option<serde_json::Value>,
    /// When somebody answered.
    pub answered_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How long it took.
    pub duration_s: Option<i64>,
    /// What is added to the timeline.
    pub event: CallEvent,
    /// When the report came.
    pub at: Timestamp,
}

/// What a report changed.
#[derive(Debug, Clone, PartialEq)]
pub struct CallReported {
    /// The call as it is now.
    pub call: Call,
    /// It was the first report of the call.
    pub is_new: bool,
    /// This report ended it.
    pub is_ended: bool,
    /// This report was kept before; nothing has changed.
    pub is_duplicate: bool,
}

/// Which calls to list. The default is: all.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// To this number.
    pub number: Option<NumberId>,
    /// Sent to this agent.
    pub agent: Option<AgentId>,
    /// Sent to this environment.
    pub environment: Option<Environment>,
    /// That go this way.
    pub direction: Option<Direction>,
    /// That ended so.
    pub outcome: Option<Outcome>,
    /// That are so far.
    pub status: Option<CallStatus>,
    /// Begun at or after this.
    pub started_from: Option<Timestamp>,
    /// Begun before this.
    pub started_before: Option<Timestamp>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, workspace_id, number_id, ingress, carrier_call_id, direction, from_text, to_text, \
             agent_id, environment, variant_id, version_id, status, outcome, decision, started_at, \
             answered_at, ended_at, duration_s, timeline_count, updated_at FROM calls ",
            $rest
        )
    };
}

/// How long after the last report a call that is over may still be told how it ended.
pub const OUTCOME_PATIENCE: SignedDuration = SignedDuration::from_secs(10);

const FIND: &str = select!("WHERE id = $1 AND workspace_id = $2");
const LIST: &str = select!("WHERE workspace_id = $1");
const OF_CARRIER: Both = Both {
    // SQLite has one writer anyway, and no such clause.
    sqlite: select!("WHERE ingress = $1 AND carrier_call_id = $2"),
    postgres: select!("WHERE ingress = $1 AND carrier_call_id = $2 FOR UPDATE"),
};
const CREATE: &str = "INSERT INTO calls (id, ingress, carrier_call_id, direction, from_text, to_text, status, \
    started_at, timeline_count, updated_at) VALUES ($1, $2, $3, 'inbound', $4, $5, 'queued', $6, 0, $6) \
    ON CONFLICT (ingress, carrier_call_id) DO NOTHING";
const UPDATE: &str = "UPDATE calls SET workspace_id = $2, number_id = $3, agent_id = $4, environment = $5, \
    variant_id = $6, version_id = $7, status = $8, outcome = $9, decision = $10, answered_at = $11, \
    ended_at = $12, duration_s = $13, timeline_count = $14, updated_at = $15, started_at = $16, \
    from_text = $17, to_text = $18 WHERE id = $1";
const EVENT: &str = "INSERT INTO call_events (call_id, seq, at, kind, dedupe_key, detail) \
    VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (call_id, dedupe_key) DO NOTHING";
const TIMELINE: &str =
    "SELECT seq, at, kind, dedupe_key, detail FROM call_events WHERE call_id = $1 ORDER BY at, seq LIMIT $2";
const OLDEST: Both = Both {
    // SQLite has one writer anyway, and no such clause.
    sqlite: "SELECT id FROM calls WHERE started_at < $1 ORDER BY started_at LIMIT $2",
    // Those that a late report or another node holds are left for the next time.
    postgres: "SELECT id FROM calls WHERE started_at < $1 ORDER BY started_at LIMIT $2 FOR UPDATE SKIP LOCKED",
};
const PRUNE_EVENTS: &str = "DELETE FROM call_events WHERE call_id = $1";
const PRUNE: &str = "DELETE FROM calls WHERE id = $1";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("calls::FIND", Both::same(FIND)),
    ("calls::LIST", Both::same(LIST)),
    ("calls::OF_CARRIER", OF_CARRIER),
    ("calls::CREATE", Both::same(CREATE)),
    ("calls::UPDATE", Both::same(UPDATE)),
    ("calls::EVENT", Both::same(EVENT)),
    ("calls::TIMELINE", Both::same(TIMELINE)),
    ("calls::OLDEST", OLDEST),
    ("calls::PRUNE_EVENTS", Both::same(PRUNE_EVENTS)),
    ("calls::PRUNE", Both::same(PRUNE)),
];

fn call(row: &Row<'_>) -> Result<Call, DbError> {
    let assignment = numbers::assignment(row, 8)?;
    let version_id = row.parse_opt(11)?;
    Ok(Call {
        id: row.parse(0)?,
        workspace: row.parse_opt(1)?,
        number_id: row.parse_opt(2)?,
        ingress: numbers::ingress(row, 3)?,
        carrier_call_id: row.read(4)?,
        direction: row.parse(5)?,
        from: row.read(6)?,
        to: row.read(7)?,
        route: assignment.map(|it| CallRoute {
            agent_id: it.agent_id,
            environment: it.environment,
            variant_id: it.variant_id,
            version_id,
        }),
        status: row.parse(12)?,
        outcome: row.parse_opt(13)?,
        decision: row.json_opt(14)?,
        started_at: row.read(15)?,
        answered_at: row.read(16)?,
        ended_at: row.read(17)?,
        duration_s: row.read(18)?,
        timeline_count: row.read(19)?,
        updated_at: row.read(20)?,
    })
}

/// A call of a workspace, as it is known now.
pub fn call_find(
    read: &Read<'_>,
    workspace: WorkspaceId,
    id: CallId,
    now: Timestamp,
) -> Result<Option<Call>, DbError> {
    let found = read.query_opt(FIND, &[Value::text(&id), Value::text(&workspace)], call)?;
    Ok(found.map(|call| settled(call, silent_since(now))))
}

/// The last moment at which reports of a call may have come, if it is to be judged without more of them.
fn silent_since(now: Timestamp) -> Timestamp {
    now.checked_sub(OUTCOME_PATIENCE).unwrap_or(Timestamp::MIN)
}

/// The same rule as [`Outcome::of_silence`], for filters; a test compares them.
const OUTCOME_OF_SILENCE: &str = "CASE WHEN status NOT IN ('completed', 'busy', 'failed', 'no_answer', 'canceled') \
    THEN '' WHEN decision IS NULL OR status IN ('busy', 'failed') THEN 'unanswered' \
    WHEN status = 'completed' AND duration_s >= 2 THEN 'answered' ELSE 'abandoned' END";

/// A call as it is told: with an outcome if it is over, and with times in their order. The carrier's times are of its own clock,
/// in whole seconds, and ours are of ours.
fn settled(mut call: Call, silent_since: Timestamp) -> Call {
    if call.outcome.is_none() && call.updated_at <= silent_since {
        call.outcome = Outcome::of_silence(call.status, call.decision.is_some(), call.duration_s);
    }
    call.ended_at = call.ended_at.map(|at| at.max(call.started_at));
    call.answered_at =
        call.answered_at.map(|at| at.max(call.started_at).min(call.ended_at.unwrap_or(Timestamp::MAX)));
    call
}

/// What happened in a call, in order. The call is the caller's: see [`call_find`].
pub fn call_timeline(read: &Read<'_>, id: CallId) -> Result<Vec<CallEvent>, DbError> {
    let most = u32::try_from(TIMELINE_MAX).unwrap_or(u32::MAX);
    read.query(TIMELINE, &[Value::text(&id), most.into()], |row| {
        Ok(CallEvent {
            seq: row.read(0)?,
            at: row.read(1)?,
            kind: row.read(2)?,
            dedupe_key: row.read(3)?,
            detail: row.json(4)?,
        })
    })
}

/// A call's place in lists, which are ordered by the time at which calls began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallPlace {
    /// When it began.
    pub started_at: Timestamp,
    /// Which call, among those that began at the same time.
    pub id: CallId,
}

impl From<&Call> for CallPlace {
    fn from(call: &Call) -> Self {
        CallPlace { started_at: call.started_at, id: call.id }
    }
}

/// A workspace's calls as they are known now, newest first; `before` is the place of the last one of the page before.
pub fn call_list(
    read: &Read<'_>,
    workspace: WorkspaceId,
    filter: &CallFilter,
    before: Option<CallPlace>,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<Call>, DbError> {
    let silent_since = silent_since(now);
    let mut params: Vec<Value<'static>> = vec![Value::text(&workspace)];
    let conditions = [
        ("number_id =", filter.number.map(|id| Value::text(&id))),
        ("agent_id =", filter.agent.map(|id| Value::text(&id))),
        ("environment =", filter.environment.map(|it| it.as_str().into())),
        ("direction =", filter.direction.map(|it| it.as_str().into())),
        ("status =", filter.status.map(|it| it.as_str().into())),
        ("started_at >=", filter.started_from.map(Value::from)),
        ("started_at <", filter.started_before.map(Value::from)),
    ];
    let mut sql = LIST.to_owned();
    for (condition, value) in conditions {
        if let Some(value) = value {
            params.push(value);
            sql = format!("{sql} AND {condition} ${}", params.len());
        }
    }
    if let Some(place) = before {
        params.extend([place.started_at.into(), Value::text(&place.id)]);
        sql = format!("{sql} AND (started_at, id) < (${}, ${})", params.len() - 1, params.len());
    }
    if let Some(outcome) = filter.outcome {
        params.push(outcome.as_str().into());
        params.push(silent_since.into());
        let (outcome, since) = (params.len() - 1, params.len());
        sql = format!(
            "{sql} AND (outcome = ${outcome} OR (outcome IS NULL AND updated_at <= ${since} AND {OUTCOME_OF_SILENCE} = ${outcome}))"
        );
    }
    params.push(limit.into());
    sql = format!("{sql} ORDER BY started_at DESC, id DESC LIMIT ${}", params.len());
    let calls = read.query(&sql, &params, call)?;
    Ok(calls.into_iter().map(|call| settled(call, silent_since)).collect())
}

/// Adds what a report says to its call, which it begins if need be.
pub fn call_report(tx: &Tx<'_>, report: &CallReport) -> Result<CallReported, DbError> {
    let place = [report.ingress.get().into(), (&report.carrier_call_id).into()];
    let known = tx.query_opt(tx.pick(OF_CARRIER), &place, call)?;
    let is_new = known.is_none();
    let mut call = if let Some(call) = known {
        call
    } else {
        tx.execute(
            CREATE,
            &[
                Value::text(&report.id),
                report.ingress.get().into(),
                (&report.carrier_call_id).into(),
                (&report.from).into(),
                (&report.to).into(),
                report.event.at.into(),
            ],
        )?;
        // A twin may have been faster; then its row is the call.
        tx.query_one(tx.pick(OF_CARRIER), &place, call)?
    };
    let is_new = is_new && call.id == report.id;
    let seq = call.timeline_count + 1;
    if call.timeline_count < i64::try_from(TIMELINE_MAX).unwrap_or(i64::MAX) {
        let kept = tx.execute(
            EVENT,
            &[
                Value::text(&call.id),
                seq.into(),
                report.event.at.into(),
                (&report.event.kind).into(),
                (&report.event.dedupe_key).into(),
                Value::json(&report.event.detail),
            ],
        )?;
        if kept == 0 {
            return Ok(CallReported { call, is_new: false, is_ended: false, is_duplicate: true });
        }
    }
    let was_final = call.status.is_final();
    merge(&mut call, report, seq);
    write(tx, &call)?;
    let is_ended = call.status.is_final() && !was_final;
    Ok(CallReported { call, is_new, is_ended, is_duplicate: false })
}

/// What is known after a report.
fn merge(call: &mut Call, report: &CallReport, seq: i64) {
    call.workspace = call.workspace.or(report.workspace);
    call.number_id = call.number_id.or(report.number_id);
    call.route = call.route.or(report.route);
    call.status = report.status.map_or(call.status, |status| call.status.merged(status));
    call.outcome = call.outcome.or(report.outcome);
    call.decision = call.decision.take().or_else(|| report.decision.clone());
    call.answered_at = call.answered_at.or(report.answered_at);
    call.ended_at = call.ended_at.or(report.ended_at);
    call.duration_s = call.duration_s.or(report.duration_s);
    // The first report to arrive need not be the first that was sent.
    call.started_at = call.started_at.min(report.event.at);
    if call.from.is_empty() {
        call.from.clone_from(&report.from);
    }
    if call.to.is_empty() {
        call.to.clone_from(&report.to);
    }
    call.timeline_count = seq;
    call.updated_at = report.at;
}

fn write(tx: &Tx<'_>, call: &Call) -> Result<(), DbError> {
    tx.execute(
        UPDATE,
        &[
            Value::text(&call.id),
            Value::text_opt(call.workspace.as_ref()),
            Value::text_opt(call.number_id.as_ref()),
            Value::text_opt(call.route.map(|route| route.agent_id).as_ref()),
            call.route.map(|route| route.environment.as_str()).into(),
            Value::text_opt(call.route.and_then(|route| route.variant_id).as_ref()),
            Value::text_opt(call.route.and_then(|route| route.version_id).as_ref()),
            call.status.as_str().into(),
            call.outcome.map(Outcome::as_str).into(),
            call.decision.as_ref().map_or(Value::Null, Value::json),
            call.answered_at.into(),
            call.ended_at.into(),
            call.duration_s.into(),
            call.timeline_count.into(),
            call.updated_at.into(),
            call.started_at.into(),
            (&call.from).into(),
            (&call.to).into(),
        ],
    )
    .map(drop)
}

/// Forgets the oldest calls that began before this, at most so many, and says how many they were.
pub fn call_prune(tx: &Tx<'_>, older_than: Timestamp, most: u32) -> Result<u64, DbError> {
    let ids: Vec<String> = tx.query(tx.pick(OLDEST), &[older_than.into(), most.into()], |row| row.read(0))?;
    let each = || ids.iter().map(|id| vec![Value::from(id)]);
    tx.execute_many(PRUNE_EVENTS, each())?;
    tx.execute_many(PRUNE, each())
}
