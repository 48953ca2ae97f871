//! Versions: drafts frozen by publishing. They are written once and never changed.

use domain::agent::Content;
use domain::id::{AgentId, SecretId, VersionId, WorkspaceId};
use jiff::Timestamp;

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::value::{Row, Value};

/// One version.
#[derive(Debug, Clone, PartialEq)]
pub struct Version {
    /// Its id.
    pub id: VersionId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// Of which agent.
    pub agent: AgentId,
    /// Its number, from 1.
    pub version: u32,
    /// What it holds.
    pub content: Content,
    /// What the publisher had to say.
    pub note: Option<String>,
    /// When it was published.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, workspace_id, agent_id, version, content, note, created_at, created_by FROM versions ",
            $rest
        )
    };
}

const FIND: &str = select!("WHERE agent_id = $1 AND version = $2");
const FIND_BY_ID: &str = select!("WHERE id = $1 AND workspace_id = $2");
const LIST: &str = select!("WHERE agent_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3");
const LATEST: &str = "SELECT coalesce(max(version), 0) FROM versions WHERE agent_id = $1";
const CREATE: &str = "INSERT INTO versions (id, workspace_id, agent_id, version, content, note, created_at, created_by) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

/// An id occurs nowhere but as itself, so the text of the content tells. Counts one version at most.
const HOLDS: Both = Both {
    sqlite: "SELECT count(*) FROM (SELECT 1 FROM versions WHERE agent_id = $1 AND instr(content, $2) > 0 LIMIT 1) AS held",
    postgres: "SELECT count(*) FROM (SELECT 1 FROM versions WHERE agent_id = $1 AND strpos(content::text, $2) > 0 LIMIT 1) AS held",
};

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("versions::FIND", Both::same(FIND)),
    ("versions::FIND_BY_ID", Both::same(FIND_BY_ID)),
    ("versions::LIST", Both::same(LIST)),
    ("versions::LATEST", Both::same(LATEST)),
    ("versions::HOLDS", HOLDS),
    ("versions::CREATE", Both::same(CREATE)),
];

fn version(row: &Row<'_>) -> Result<Version, DbError> {
    Ok(Version {
        id: row.parse(0)?,
        workspace: row.parse(1)?,
        agent: row.parse(2)?,
        version: row.read(3)?,
        content: row.json(4)?,
        note: row.read(5)?,
        created_at: row.read(6)?,
        created_by: row.read(7)?,
    })
}

/// A version of an agent by its number. The agent is the caller's: see `agents::agent_find`.
pub fn version_find(read: &Read<'_>, agent: AgentId, number: u32) -> Result<Option<Version>, DbError> {
    read.query_opt(FIND, &[Value::text(&agent), number.into()], version)
}

/// A version of a workspace by its id.
pub fn version_find_by_id(
    read: &Read<'_>,
    workspace: WorkspaceId,
    id: VersionId,
) -> Result<Option<Version>, DbError> {
    read.query_opt(FIND_BY_ID, &[Value::text(&id), Value::text(&workspace)], version)
}

/// An agent's versions, newest first; `before` is the number that the last page ended with.
pub fn version_list(
    read: &Read<'_>,
    agent: AgentId,
    before: Option<u32>,
    limit: u32,
) -> Result<Vec<Version>, DbError> {
    let before = before.map_or(i64::MAX, i64::from);
    read.query(LIST, &[Value::text(&agent), before.into(), limit.into()], version)
}

/// The number of an agent's latest version; 0 where there is none.
pub fn version_latest(read: &Read<'_>, agent: AgentId) -> Result<u32, DbError> {
    read.query_one(LATEST, &[Value::text(&agent)], |row| row.read(0))
}

/// Whether a version of an agent refers to a secret.
pub fn version_holds_secret(read: &Read<'_>, agent: AgentId, secret: SecretId) -> Result<bool, DbError> {
    let held: i64 =
        read.query_one(read.pick(HOLDS), &[Value::text(&agent), Value::text(&secret)], |row| row.read(0))?;
    Ok(held > 0)
}

/// Keeps a new version. [`DbError::Conflict`] (`versions_version`) where the number is taken: lock the
/// workspace before asking for the latest.
pub fn version_create(tx: &Tx<'_>, version: &Version) -> Result<(), DbError> {
    tx.execute(
        CREATE,
        &[
            Value::text(&version.id),
            Value::text(&version.workspace),
            Value::text(&version.agent),
            version.version.into(),
            Value::json(&version.content),
            version.note.as_ref().into(),
            version.created_at.into(),
            (&version.created_by).into(),
        ],
    )
    .map(drop)
}
