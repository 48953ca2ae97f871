//! Who did what: one row a change, written in the change's own transaction, each hashed over the one
//! before. With it goes the event that programs listen for.
//!
//! Someone who edits, removes or reorders rows breaks the chain; someone who cuts its end off, or writes
//! it anew, is found by comparing with an anchor kept elsewhere ([`audit_heads`]).
//!
//! No entry is older than the one before it: while a clock that was ahead is ahead no more, entries bear the time of the newest.

use domain::event::EventKind;
use domain::id::{AuditId, WorkspaceId};
use jiff::{SignedDuration, Timestamp};
use ring::digest::{Context, SHA256};
use tracing::warn;

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::events;
use crate::value::Value;

/// Nodes' clocks differ a little; a chain whose time goes back by more than this was tampered with.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(2);

/// What the first row of a chain is hashed over.
const ORIGIN: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A change, as it is told to people and to programs.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    /// In which workspace.
    pub workspace: WorkspaceId,
    /// When.
    pub at: Timestamp,
    /// Who: a key's id, `system:<task>`, `carrier:<ingress>`.
    pub actor: &'a str,
    /// What was done: `number_buy`, `agent_publish`.
    pub action: &'a str,
    /// The id of what it was done to.
    pub target: String,
    /// The thing before, as the API shows it. Never a secret.
    pub before: Option<serde_json::Value>,
    /// The thing after.
    pub after: Option<serde_json::Value>,
    /// The request that asked for it.
    pub request_id: Option<&'a str>,
    /// The event that tells programs of it, with `after` as its data; none where it concerns people only.
    pub event: Option<EventKind>,
}

/// One row of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Its id.
    pub id: AuditId,
    /// Its place in the workspace's chain, from 1.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub target: String,
    /// The thing before.
    pub before: Option<serde_json::Value>,
    /// The thing after.
    pub after: Option<serde_json::Value>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// The hash over this row and the one before.
    pub hash: String,
}

const LOCK: Both = Both {
    // SQLite has one writer anyway, and no such clause.
    sqlite: "SELECT audit_seq, audit_hash, event_seq FROM workspace_heads WHERE workspace_id = $1",
    postgres: "SELECT audit_seq, audit_hash, event_seq FROM workspace_heads WHERE workspace_id = $1 FOR UPDATE",
};
const HEAD_CREATE: &str = "INSERT INTO workspace_heads (workspace_id, audit_seq, audit_hash, event_seq) \
    VALUES ($1, 0, $2, 0)";
const HEAD_AUDIT: &str = "UPDATE workspace_heads SET audit_seq = $2, audit_hash = $3 WHERE workspace_id = $1";
const INSERT: &str = "INSERT INTO audit (workspace_id, seq, id, at, actor, action, target, before, after, request_id, hash) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const LIST: &str = "SELECT id, seq, at, actor, action, target, before, after, request_id, hash FROM audit \
    WHERE workspace_id = $1 AND seq < $2";
const CHAIN: &str = "SELECT seq, id, at, actor, action, target, before, after, request_id, hash FROM audit \
    WHERE workspace_id = $1 AND seq > $2 ORDER BY seq";
const AT: &str = "SELECT at, hash FROM audit WHERE workspace_id = $1 AND seq = $2";
const HEAD_OF: &str = "SELECT audit_seq, audit_hash FROM workspace_heads WHERE workspace_id = $1";
const HEADS: &str = "SELECT workspace_id, audit_seq, audit_hash FROM workspace_heads ORDER BY workspace_id";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("audit::LOCK", LOCK),
    ("audit::HEAD_CREATE", Both::same(HEAD_CREATE)),
    ("audit::HEAD_AUDIT", Both::same(HEAD_AUDIT)),
    ("audit::INSERT", Both::same(INSERT)),
    ("audit::LIST", Both::same(LIST)),
    ("audit::CHAIN", Both::same(CHAIN)),
    ("audit::AT", Both::same(AT)),
    ("audit::HEAD_OF", Both::same(HEAD_OF)),
    ("audit::HEADS", Both::same(HEADS)),
];

/// The end of a workspace's chain and feed, locked until the transaction ends.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) audit_seq: i64,
    pub(crate) audit_hash: String,
    pub(crate) event_seq: i64,
}

/// Begins the chain and the feed of a new workspace.
pub(crate) fn head_create(tx: &Tx<'_>, workspace: WorkspaceId) -> Result<(), DbError> {
    tx.execute(HEAD_CREATE, &[Value::text(&workspace), ORIGIN.into()]).map(drop)
}

pub(crate) fn head_lock(tx: &Tx<'_>, workspace: WorkspaceId) -> Result<Head, DbError> {
    tx.query_opt(tx.pick(LOCK), &[Value::text(&workspace)], |row| {
        Ok(Head { audit_seq: row.read(0)?, audit_hash: row.read(1)?, event_seq: row.read(2)? })
    })?
    .ok_or_else(|| DbError::Internal(format!("there is no workspace {workspace} to lock")))
}

impl Tx<'_> {
    /// Makes other writers of this workspace wait until this transaction ends. Whoever decides by what
    /// it reads – a budget, a name that must be free – begins with this; so does whoever will
    /// [`Tx::record`], since locks taken in one order never wait in a circle.
    pub fn workspace_lock(&self, workspace: WorkspaceId) -> Result<(), DbError> {
        head_lock(self, workspace).map(drop)
    }

    /// Writes the audit row and the event of a change.
    pub fn record(&self, change: &Change<'_>) -> Result<(), DbError> {
        let head = head_lock(self, change.workspace)?;
        let at = not_before(self, change.workspace, head.audit_seq, change.at)?;
        let before = change.before.as_ref().map(canonical);
        let after = change.after.as_ref().map(canonical);
        let mut entry = Hashed {
            seq: head.audit_seq + 1,
            id: String::new(),
            at,
            actor: change.actor,
            action: change.action,
            target: &change.target,
            before: before.as_deref(),
            after: after.as_deref(),
            request_id: change.request_id,
        };
        // Ids need not be secret within a workspace: this one follows from its place in the chain.
        entry.id = AuditId::new(at, entry.bits(&head.audit_hash)).to_string();
        let hash = entry.hash(&head.audit_hash);
        self.execute(
            INSERT,
            &[
                Value::text(&change.workspace),
                entry.seq.into(),
                (&entry.id).into(),
                entry.at.into(),
                entry.actor.into(),
                entry.action.into(),
                entry.target.into(),
                entry.before.into(),
                entry.after.into(),
                entry.request_id.into(),
                (&hash).into(),
            ],
        )?;
        self.execute(HEAD_AUDIT, &[Value::text(&change.workspace), entry.seq.into(), (&hash).into()])?;
        if let Some(kind) = change.event {
            let data = change.after.as_ref().unwrap_or(&serde_json::Value::Null);
            events::event_insert(
                self,
                change.workspace,
                head.event_seq + 1,
                kind,
                &change.target,
                data,
                change.at,
            )?;
        }
        Ok(())
    }
}

/// When an entry is written down as made: at its time, but never before the entry that it follows. Nodes' clocks differ, and are set.
fn not_before(
    read: &Read<'_>,
    workspace: WorkspaceId,
    last: i64,
    at: Timestamp,
) -> Result<Timestamp, DbError> {
    let newest = read
        .query_opt(AT, &[Value::text(&workspace), last.into()], |row| row.read::<Timestamp>(0))?
        .unwrap_or(Timestamp::MIN);
    if newest.duration_since(at) > CLOCK_TOLERANCE {
        warn!(
            workspace.id = %workspace,
            "this node's clock says {at}, and the last audit entry was made at {newest}: one of the clocks was wrong. The new entry bears the later time"
        );
    }
    Ok(at.max(newest))
}

/// What a hash covers.
struct Hashed<'a> {
    seq: i64,
    id: String,
    at: Timestamp,
    actor: &'a str,
    action: &'a str,
    target: &'a str,
    before: Option<&'a str>,
    after: Option<&'a str>,
    request_id: Option<&'a str>,
}

impl Hashed<'_> {
    fn digest(&self, previous: &str) -> ring::digest::Digest {
        let mut context = Context::new(&SHA256);
        // Each part with its length, and absent apart from empty: no two rows hash alike.
        let mut part = |part: Option<&[u8]>| {
            let length = part.map_or(u64::MAX, |bytes| bytes.len() as u64);
            context.update(&length.to_be_bytes());
            context.update(part.unwrap_or_default());
        };
        part(Some(previous.as_bytes()));
        part(Some(&self.seq.to_be_bytes()));
        part(Some(self.id.as_bytes()));
        part(Some(&self.at.as_microsecond().to_be_bytes()));
        part(Some(self.actor.as_bytes()));
        part(Some(self.action.as_bytes()));
        part(Some(self.target.as_bytes()));
        part(self.before.map(str::as_bytes));
        part(self.after.map(str::as_bytes));
        part(self.request_id.map(str::as_bytes));
        context.finish()
    }

    fn bits(&self, previous: &str) -> u128 {
        let digest = self.digest(previous);
        u128::from_be_bytes(digest.as_ref()[..16].try_into().expect("a digest has 32 bytes"))
    }

    fn hash(&self, previous: &str) -> String {
        self.digest(previous).as_ref().iter().fold(String::new(), |out, byte| format!("{out}{byte:02x}"))
    }
}

/// JSON with its keys in order, whatever features serde_json was built with: a hash needs every byte.
fn canonical(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            let entries: Vec<String> = entries
                .into_iter()
                .map(|(key, value)| format!("{}:{}", serde_json::Value::from(key.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", entries.join(","))
        }
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        plain => plain.to_string(),
    }
}

/// Which entries to list. The default is: all.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Done to this.
    pub target: Option<String>,
    /// Done by this.
    pub actor: Option<String>,
    /// This was done.
    pub action: Option<String>,
    /// At or after this.
    pub from: Option<Timestamp>,
    /// Before this.
    pub before: Option<Timestamp>,
}

impl AuditFilter {
    /// All that was done to one thing.
    pub fn of_target(target: &str) -> AuditFilter {
        AuditFilter { target: Some(target.to_owned()), ..AuditFilter::default() }
    }
}

/// The newest entries first; `before` is the `seq` that the last page ended with.
pub fn audit_list(
    read: &Read<'_>,
    workspace: WorkspaceId,
    filter: &AuditFilter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<AuditEntry>, DbError> {
    let mut params: Vec<Value<'_>> = vec![Value::text(&workspace), before.unwrap_or(i64::MAX).into()];
    let conditions = [
        ("target =", filter.target.as_ref().map(Value::from)),
        ("actor =", filter.actor.as_ref().map(Value::from)),
        ("action =", filter.action.as_ref().map(Value::from)),
        ("at >=", filter.from.map(Value::from)),
        ("at <", filter.before.map(Value::from)),
    ];
    let mut sql = LIST.to_owned();
    for (condition, value) in conditions {
        if let Some(value) = value {
            params.push(value);
            sql = format!("{sql} AND {condition} ${}", params.len());
        }
    }
    params.push(limit.into());
    sql = format!("{sql} ORDER BY seq DESC LIMIT ${}", params.len());
    read.query(&sql, &params, |row| {
        Ok(AuditEntry {
            id: row.parse(0)?,
            seq: row.read(1)?,
            at: row.read(2)?,
            actor: row.read(3)?,
            action: row.read(4)?,
            target: row.read(5)?,
            before: row.json_opt(6)?,
            after: row.json_opt(7)?,
            request_id: row.read(8)?,
            hash: row.read(9)?,
        })
    })
}

/// The end of one workspace's chain, to be kept where whoever can write the database cannot.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AuditHead {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// How many entries there are.
    pub seq: i64,
    /// The hash of the last.
    pub hash: String,
}

/// The ends of all chains: an anchor.
pub fn audit_heads(read: &Read<'_>) -> Result<Vec<AuditHead>, DbError> {
    read.query(HEADS, &[], |row| {
        Ok(AuditHead { workspace: row.parse(0)?, seq: row.read(1)?, hash: row.read(2)? })
    })
}

/// The end of one workspace's chain.
pub fn audit_head(read: &Read<'_>, workspace: WorkspaceId) -> Result<Option<AuditHead>, DbError> {
    read.query_opt(HEAD_OF, &[Value::text(&workspace)], |row| {
        Ok(AuditHead { workspace, seq: row.read(0)?, hash: row.read(1)? })
    })
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditBreak {
    /// The row's content is not what was hashed.
    #[error("entry {0} was changed")]
    Changed(i64),
    /// Rows are missing before this one.
    #[error("the entry before {0} is missing")]
    Missing(i64),
    /// The chain ends before its recorded end.
    #[error("the chain ends at {found}, and {expected} entries were written")]
    CutOff {
        /// The last row that is there.
        found: i64,
        /// The last row that was written.
        expected: i64,
    },
    /// Where the chain ends is not recorded any more.
    #[error("the record of where the chain ends is missing")]
    EndMissing,
    /// The chain is whole, but it is not the one that the anchor saw.
    #[error("entry {0} is not the one that the anchor saw: the chain was written anew")]
    Rewritten(i64),
    /// A row says that it is older than the one before; otherwise the chain is whole. A clock that was set does this too.
    #[error("the clock went back at entry {0}")]
    ClockBack(i64),
}

/// Checks one workspace's chain from its first row, against its recorded end and, where given, against an
/// anchor from elsewhere. Says how many entries there are.
pub fn audit_verify(
    read: &Read<'_>,
    workspace: WorkspaceId,
    anchor: Option<&AuditHead>,
) -> Result<Result<i64, AuditBreak>, DbError> {
    walk(read, workspace, (0, ORIGIN.to_owned()), anchor)
}

/// Checks what was added to a chain since an anchor saw it, and that the anchor saw this chain. What is before was checked when the
/// anchor was made.
pub fn audit_verify_since(read: &Read<'_>, anchor: &AuditHead) -> Result<Result<i64, AuditBreak>, DbError> {
    let seen = match anchor.seq {
        0 => Some(ORIGIN.to_owned()),
        seq => read.query_opt(AT, &[Value::text(&anchor.workspace), seq.into()], |row| row.read(1))?,
    };
    match seen {
        Some(hash) if hash == anchor.hash => walk(read, anchor.workspace, (anchor.seq, hash), Some(anchor)),
        Some(_) => Ok(Err(AuditBreak::Rewritten(anchor.seq))),
        // Missing or cut off: from the beginning, that is told apart.
        None => audit_verify(read, anchor.workspace, Some(anchor)),
    }
}

/// Goes along a chain behind an entry: its place and its hash.
fn walk(
    read: &Read<'_>,
    workspace: WorkspaceId,
    behind: (i64, String),
    anchor: Option<&AuditHead>,
) -> Result<Result<i64, AuditBreak>, DbError> {
    let from = behind.0;
    let mut last = (behind.0, behind.1, Timestamp::MIN);
    let mut broken = None;
    // A clock that was set does the same to a chain; what comes behind is looked at all the same.
    let mut clock_back = None;
    read.query_each(CHAIN, &[Value::text(&workspace), from.into()], |row| {
        if broken.is_some() {
            return Ok(());
        }
        let (seq, at, stored): (i64, Timestamp, String) = (row.read(0)?, row.read(2)?, row.read(9)?);
        let (before, after): (Option<String>, Option<String>) = (row.read(6)?, row.read(7)?);
        let request_id: Option<String> = row.read(8)?;
        let entry = Hashed {
            seq,
            id: row.read(1)?,
            at,
            actor: row.text(3)?,
            action: row.text(4)?,
            target: row.text(5)?,
            before: before.as_deref(),
            after: after.as_deref(),
            request_id: request_id.as_deref(),
        };
        let hash = entry.hash(&last.1);
        let went_back = last.0 > 0 && last.2.duration_since(at) > CLOCK_TOLERANCE;
        broken = match () {
            () if seq != last.0 + 1 => Some(AuditBreak::Missing(seq)),
            () if hash != stored => Some(AuditBreak::Changed(seq)),
            () if anchor.is_some_and(|anchor| anchor.seq == seq && anchor.hash != hash) => {
                Some(AuditBreak::Rewritten(seq))
            }
            () => None,
        };
        if went_back && clock_back.is_none() {
            clock_back = Some(AuditBreak::ClockBack(seq));
        }
        last = (seq, hash, at);
        Ok(())
    })?;
    if let Some(broken) = broken {
        return Ok(Err(broken));
    }
    let head = audit_head(read, workspace)?;
    let expected = head.as_ref().map_or(0, |head| head.seq).max(anchor.map_or(0, |anchor| anchor.seq));
    if head.is_none() && last.0 > 0 {
        return Ok(Err(AuditBreak::EndMissing));
    }
    if last.0 < expected {
        return Ok(Err(AuditBreak::CutOff { found: last.0, expected }));
    }
    if head.is_some_and(|head| head.seq != last.0 || head.hash != last.1) {
        return Ok(Err(AuditBreak::Changed(last.0)));
    }
    Ok(clock_back.map_or(Ok(last.0), Err))
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn json_is_written_one_way() {
        let value: serde_json::Value =
            serde_json::from_str(r#"{"b": [1, {"z": null, "a": "q\"uote"}], "a": true}"#).unwrap();
        assert_eq!(canonical(&value), r#"{"a":true,"b":[1,{"a":"q\"uote","z":null}]}"#);
    }
}
