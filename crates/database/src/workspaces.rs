//! Workspaces: the tenants, and their settings.

use domain::id::WorkspaceId;
use domain::workspace::WorkspaceSettings;
use jiff::Timestamp;

use crate::audit;
use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::routes::RouteChange;
use crate::value::{Row, Value};

/// One workspace.
#[derive(Debug, Clone, PartialEq)]
pub struct Workspace {
    /// Its id.
    pub id: WorkspaceId,
    /// What people call it; unique.
    pub name: String,
    /// What calls depend on.
    pub settings: WorkspaceSettings,
    /// Grows with each change; the `ETag`.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT id, name, settings, revision, created_at, updated_at FROM workspaces ", $rest)
    };
}

const FIND: &str = select!("WHERE id = $1");
const FIND_BY_NAME: &str = select!("WHERE name = $1");
const LIST: &str = select!("WHERE id > $1 ORDER BY id LIMIT $2");
const CREATE: &str = "INSERT INTO workspaces (id, name, settings, revision, created_at, updated_at) \
    VALUES ($1, $2, $3, 1, $4, $4)";
const UPDATE: &str = "UPDATE workspaces SET name = $3, settings = $4, revision = revision + 1, updated_at = $5 \
    WHERE id = $1 AND revision = $2";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("workspaces::FIND", Both::same(FIND)),
    ("workspaces::FIND_BY_NAME", Both::same(FIND_BY_NAME)),
    ("workspaces::LIST", Both::same(LIST)),
    ("workspaces::CREATE", Both::same(CREATE)),
    ("workspaces::UPDATE", Both::same(UPDATE)),
];

fn workspace(row: &Row<'_>) -> Result<Workspace, DbError> {
    Ok(Workspace {
        id: row.parse(0)?,
        name: row.read(1)?,
        settings: row.json(2)?,
        revision: row.read(3)?,
        created_at: row.read(4)?,
        updated_at: row.read(5)?,
    })
}

/// A workspace by its id.
pub fn workspace_find(read: &Read<'_>, id: WorkspaceId) -> Result<Option<Workspace>, DbError> {
    read.query_opt(FIND, &[Value::text(&id)], workspace)
}

/// A workspace by its name.
pub fn workspace_find_by_name(read: &Read<'_>, name: &str) -> Result<Option<Workspace>, DbError> {
    read.query_opt(FIND_BY_NAME, &[name.into()], workspace)
}

/// Workspaces, oldest first; `after` is the last id of the page before.
pub fn workspace_list(
    read: &Read<'_>,
    after: Option<WorkspaceId>,
    limit: u32,
) -> Result<Vec<Workspace>, DbError> {
    let after = after.map_or_else(String::new, |id| id.to_string());
    read.query(LIST, &[after.into(), limit.into()], workspace)
}

/// Makes a workspace. [`DbError::Conflict`] where the name is taken.
pub fn workspace_create(
    tx: &Tx<'_>,
    id: WorkspaceId,
    name: &str,
    settings: &WorkspaceSettings,
    now: Timestamp,
) -> Result<(), DbError> {
    tx.execute(CREATE, &[Value::text(&id), name.into(), Value::json(settings), now.into()])?;
    audit::head_create(tx, id)?;
    tx.route_changed(RouteChange::Workspace(id));
    Ok(())
}

/// Writes a workspace's name and settings, if it is still at its `revision`; gives it as it is now.
pub fn workspace_update(tx: &Tx<'_>, workspace: &Workspace, now: Timestamp) -> Result<Workspace, DbError> {
    let written = tx.execute(
        UPDATE,
        &[
            Value::text(&workspace.id),
            workspace.revision.into(),
            (&workspace.name).into(),
            Value::json(&workspace.settings),
            now.into(),
        ],
    )?;
    if written == 0 {
        return Err(DbError::StaleVersion);
    }
    tx.route_changed(RouteChange::Workspace(workspace.id));
    Ok(Workspace { revision: workspace.revision + 1, updated_at: now, ..workspace.clone() })
}
