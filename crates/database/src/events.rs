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
const PRUNE: &str = "DELETE FROM events WHERE at < $1";

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

/// Adds an event that has no audit row: what calls and carriers do by themselves.
pub fn event_append(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    kind: EventKind,
    subject: &str,
    data: &serde_json::Value,
    at: Timestamp,
) -> Result<EventId, DbError> {
    let seq = head_lock(tx, workspace)?.event_seq + 1;
    event_insert(tx, workspace, seq, kind, subject, data, at)
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
) -> Result<EventId, DbError> {
    // The id follows from the place, which is unique: no random bits are needed.
    let mark = digest(&SHA256, format!("{workspace} {seq}").as_bytes());
    let bits = u128::from_be_bytes(mark.as_ref()[..16].try_into().expect("a digest has 32 bytes"));
    let id = EventId::new(at, bits);
    let workspace = workspace.to_string();
    tx.execute(
        INSERT,
        &[
            (&workspace).into(),
            seq.into(),
            Value::text(&id),
            kind.as_str().into(),
            at.into(),
            subject.into(),
            Value::json(data),
        ],
    )?;
    tx.execute(HEAD, &[(&workspace).into(), seq.into()])?;
    tx.nudge();
    Ok(id)
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

/// Forgets events older than this, and says how many.
pub fn event_prune(tx: &Tx<'_>, older_than: Timestamp) -> Result<u64, DbError> {
    tx.execute(PRUNE, &[older_than.into()])
}
