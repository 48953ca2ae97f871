//! What routes are made of, and what changed about it since a version.

use domain::id::{AgentId, NumberId, SecretId, WorkspaceId};

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;

/// One thing whose change may send calls elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteChange {
    /// A number: its state, assignment or rules.
    Number(NumberId),
    /// What an agent runs, in any environment.
    Agent(AgentId),
    /// A workspace's settings.
    Workspace(WorkspaceId),
    /// A secret that a call may need.
    Secret(SecretId),
}

impl RouteChange {
    fn parts(self) -> (&'static str, String) {
        match self {
            RouteChange::Number(id) => ("number", id.to_string()),
            RouteChange::Agent(id) => ("agent", id.to_string()),
            RouteChange::Workspace(id) => ("workspace", id.to_string()),
            RouteChange::Secret(id) => ("secret", id.to_string()),
        }
    }
}

const VERSION: &str = "SELECT version FROM route_state WHERE id = 1";
const BUMP: &str = "UPDATE route_state SET version = version + 1 WHERE id = 1 RETURNING version";
const CHANGE: &str = "INSERT INTO route_changes (version, kind, id) VALUES ($1, $2, $3)";
const CHANGES: &str =
    "SELECT version, kind, id FROM route_changes WHERE version > $1 ORDER BY version, kind, id LIMIT $2";
const PRUNE: &str = "DELETE FROM route_changes WHERE version <= $1";
const OLDEST: &str = "SELECT min(version) FROM route_changes";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("routes::VERSION", Both::same(VERSION)),
    ("routes::BUMP", Both::same(BUMP)),
    ("routes::CHANGE", Both::same(CHANGE)),
    ("routes::CHANGES", Both::same(CHANGES)),
    ("routes::PRUNE", Both::same(PRUNE)),
    ("routes::OLDEST", Both::same(OLDEST)),
];

/// The version of everything that calls depend on.
pub fn route_version(read: &Read<'_>) -> Result<i64, DbError> {
    read.query_one(VERSION, &[], |row| row.read(0))
}

/// Bumps the counter and notes what changed. The engine calls this last in a transaction: from here until
/// the commit, all other writers of routes wait.
pub(crate) fn route_version_bump(tx: &Tx<'_>, changes: &[RouteChange]) -> Result<(), DbError> {
    let version: i64 = tx.query_one(BUMP, &[], |row| row.read(0))?;
    let rows = changes.iter().map(|change| {
        let (kind, id) = change.parts();
        vec![version.into(), kind.into(), id.into()]
    });
    tx.execute_many(CHANGE, rows).map(drop)
}
