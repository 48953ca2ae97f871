//! Events in commit order: what programs listen for, as a feed and later as webhooks.
//!
//! A workspace's events are numbered under the lock of its head row, which is held until the commit; so
//! whoever has seen number *n* will never find a new one below it.

use domain::event::{Event, EventKind};
use domain::id::{EventId, WorkspaceId};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};

use crate::audit::head_lock;
use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::value::Value;

const INSERT: &str = "INSERT INTO events (workspace_id, seq, id, kind, at, subject, data) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const HEAD: &str = "UPDATE workspace_heads SET event_seq = $2 WHERE workspace_id = $1";
const LIST: &str = "SELECT seq, id, kind, at, subject, data FROM events \
    WHERE workspace_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
const LAST: &str = "SELECT event_seq FROM workspace_heads WHERE workspace_id = $1";
const SEQ_OF: &str = "SELECT seq FROM events WHERE workspace_id = $1 AND id = $2";
const PRUNE: &str = "DELETE FROM events WHERE (workspace_id, seq) IN \
    (SELECT workspace_id, seq FROM events WHERE at < $1 ORDER BY at LIMIT $2)";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("events::INSERT", Both::same(INSERT)),
    ("events::HEAD", Both::same(HEAD)),
    ("events::LIST", Both::same(LIST)),
    ("events::LAST", Both::same(LAST)),
    ("events::SEQ_OF", Both::same(SEQ_OF)),
    ("events::PRUNE", Both::same(PRUNE)),
];

/// An event and its place in the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place, from 1.
    pub seq: i64,
    /// The event.
    pub event: Event,
}

/// An event that has no audit row: what calls and carriers do by themselves.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// What happened.
    pub kind: EventKind,
    /// The id of what it happened to.
    pub subject: String,
    /// What matters of it.
    pub data: serde_json::Value,
    /// When.
    pub at: Timestamp,
}

/// Adds events of one workspace, which is locked from here on: whoever adds many hands them over together and last, since every
/// change in the workspace waits for this transaction's end. However many they are, the database is asked four times.
pub fn events_append(tx: &Tx<'_>, workspace: WorkspaceId, events: &[NewEvent]) -> Result<(), DbError> {
    if events.is_empty() {
        return Ok(());
    }
    let first = head_lock(tx, workspace)?.event_seq + 1;
    let name = workspace.to_string();
    let rows = events
        .iter()
        .zip(first..)
        .map(|(event, seq)| row(&name, workspace, seq, event.kind, &event.subject, &event.data, event.at));
    tx.execute_many(INSERT, rows)?;
    let last = first - 1 + i64::try_from(events.len()).expect("a transaction is small");
    tx.execute(HEAD, &[(&name).into(), last.into()])?;
    tx.nudge();
    Ok(())
}

/// Adds an event at a place that the caller has locked.
pub(crate) fn event_insert(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    seq: i64,
    kind: EventKind,
    subject: &str,
    data: &serde_json::Value,
    at: Timestamp,
) -> Result<(), DbError> {
    let name = workspace.to_string();
    tx.execute(INSERT, &row(&name, workspace, seq, kind, subject, data, at))?;
    tx.execute(HEAD, &[(&name).into(), seq.into()])?;
    tx.nudge();
    Ok(())
}

/// What [`INSERT`] takes. The id follows from the place, which is unique: no random bits are needed.
fn row<'a>(
    name: &'a str,
    workspace: WorkspaceId,
    seq: i64,
    kind: EventKind,
    subject: &'a str,
    data: &serde_json::Value,
    at: Timestamp,
) -> Vec<Value<'a>> {
    let mark = digest(&SHA256, format!("{workspace} {seq}").as_bytes());
    let bits = u128::from_be_bytes(mark.as_ref()[..16].try_into().expect("a digest has 32 bytes"));
    vec![
        name.into(),
        seq.into(),
        Value::text(&EventId::new(at, bits)),
        kind.as_str().into(),
        at.into(),
        subject.into(),
        Value::json(data),
    ]
}

/// The events after a place in the feed, in commit order.
pub fn event_list(
    read: &Read<'_>,
    workspace: WorkspaceId,
    after: i64,
    limit: u32,
) -> Result<Vec<Entry>, DbError> {
    read.query(LIST, &[Value::text(&workspace), after.into(), limit.into()], |row| {
        let event = Event {
            id: row.parse(1)?,
            workspace_id: workspace,
            kind: row.parse(2)?,
            at: row.read(3)?,
            subject: row.read(4)?,
            data: row.json(5)?,
        };
        Ok(Entry { seq: row.read(0)?, event })
    })
}

/// The newest place in the feed; 0 where nothing has happened.
pub fn event_last(read: &Read<'_>, workspace: WorkspaceId) -> Result<i64, DbError> {
    Ok(read.query_opt(LAST, &[Value::text(&workspace)], |row| row.read(0))?.unwrap_or(0))
}

/// The place of an event that a listener saw last, if it is still kept.
pub fn event_seq(read: &Read<'_>, workspace: WorkspaceId, id: EventId) -> Result<Option<i64>, DbError> {
    read.query_opt(SEQ_OF, &[Value::text(&workspace), Value::text(&id)], |row| row.read(0))
}

/// Forgets the oldest events before this, at most so many, and says how many they were.
pub fn event_prune(tx: &Tx<'_>, older_than: Timestamp, most: u32) -> Result<u64, DbError> {
    tx.execute(PRUNE, &[older_than.into(), most.into()])
}
