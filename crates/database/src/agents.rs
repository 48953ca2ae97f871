//! Agents: the draft that people edit and its variants, one row an agent.
//!
//! What is published of them is kept by `versions` and `deployments`; a draft alone changes no call.

use domain::agent::Content;
use domain::id::{AgentId, VariantId, WorkspaceId};
use jiff::Timestamp;

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::numbers::like;
use crate::routes::RouteChange;
use crate::value::{Row, Value};

/// One agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// Its draft and variants, as they are edited.
    pub content: Content,
    /// Grows with each change; the `ETag`.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, workspace_id, name, content, revision, created_at, updated_at FROM agents \
             WHERE deleted_at IS NULL AND ",
            $rest
        )
    };
}

const FIND: &str = select!("id = $1 AND workspace_id = $2");
const LIST: &str = select!("workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3");
const SEARCH: &str =
    select!("workspace_id = $1 AND id > $2 AND name_search LIKE $4 ESCAPE '\\' ORDER BY id LIMIT $3");
const CREATE: &str = "INSERT INTO agents (id, workspace_id, name, name_search, content, revision, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, 1, $6, $6)";
const NAME: &str = "SELECT name FROM agents WHERE id = $1";
const UPDATE: &str = "UPDATE agents SET name = $3, name_search = $4, content = $5, revision = revision + 1, \
    updated_at = $6 WHERE id = $1 AND revision = $2 AND deleted_at IS NULL";
const DELETE: &str = "UPDATE agents SET deleted_at = $3, revision = revision + 1, updated_at = $3 \
    WHERE id = $1 AND workspace_id = $2 AND deleted_at IS NULL";
const STOP: &str = "DELETE FROM running WHERE agent_id = $1";
const NAMED: &str = select!("workspace_id = $1 AND name_search = $2 ORDER BY id LIMIT 1");
const COUNT: &str = "SELECT count(*) FROM agents WHERE workspace_id = $1 AND deleted_at IS NULL";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("agents::FIND", Both::same(FIND)),
    ("agents::LIST", Both::same(LIST)),
    ("agents::SEARCH", Both::same(SEARCH)),
    ("agents::CREATE", Both::same(CREATE)),
    ("agents::NAME", Both::same(NAME)),
    ("agents::UPDATE", Both::same(UPDATE)),
    ("agents::DELETE", Both::same(DELETE)),
    ("agents::STOP", Both::same(STOP)),
    ("agents::NAMED", Both::same(NAMED)),
    ("agents::COUNT", Both::same(COUNT)),
];

fn agent(row: &Row<'_>) -> Result<Agent, DbError> {
    Ok(Agent {
        id: row.parse(0)?,
        workspace: row.parse(1)?,
        name: row.read(2)?,
        content: row.json(3)?,
        revision: row.read(4)?,
        created_at: row.read(5)?,
        updated_at: row.read(6)?,
    })
}

impl Agent {
    /// Whether the draft has this variant.
    pub fn has_variant(&self, id: VariantId) -> bool {
        self.content.variant(id).is_some()
    }
}

/// An agent of a workspace.
pub fn agent_find(read: &Read<'_>, workspace: WorkspaceId, id: AgentId) -> Result<Option<Agent>, DbError> {
    read.query_opt(FIND, &[Value::text(&id), Value::text(&workspace)], agent)
}

/// A workspace's agents, oldest first, whose names hold `search`; `after` is the last id of the page before.
pub fn agent_list(
    read: &Read<'_>,
    workspace: WorkspaceId,
    search: Option<&str>,
    after: Option<AgentId>,
    limit: u32,
) -> Result<Vec<Agent>, DbError> {
    let after = after.map_or_else(String::new, |id| id.to_string());
    let mut params = vec![Value::text(&workspace), after.into(), limit.into()];
    match search {
        None => read.query(LIST, &params, agent),
        Some(search) => {
            params.push(like(&search.trim().to_lowercase()).into());
            read.query(SEARCH, &params, agent)
        }
    }
}

/// The agent of this name, whatever its letter case.
pub fn agent_named(read: &Read<'_>, workspace: WorkspaceId, name: &str) -> Result<Option<Agent>, DbError> {
    read.query_opt(NAMED, &[Value::text(&workspace), name.to_lowercase().into()], agent)
}

/// How many agents a workspace has.
pub fn agent_count(read: &Read<'_>, workspace: WorkspaceId) -> Result<i64, DbError> {
    read.query_one(COUNT, &[Value::text(&workspace)], |row| row.read(0))
}

/// Keeps a new agent; its `revision` begins at 1.
pub fn agent_create(tx: &Tx<'_>, agent: &Agent) -> Result<(), DbError> {
    tx.execute(
        CREATE,
        &[
            Value::text(&agent.id),
            Value::text(&agent.workspace),
            (&agent.name).into(),
            agent.name.to_lowercase().into(),
            Value::json(&agent.content),
            agent.created_at.into(),
        ],
    )
    .map(drop)
}

/// Writes an agent's name, draft and variants, if it is still at its `revision`; gives it as it is now.
pub fn agent_update(tx: &Tx<'_>, agent: &Agent, now: Timestamp) -> Result<Agent, DbError> {
    let name: Option<String> = tx.query_opt(NAME, &[Value::text(&agent.id)], |row| row.read(0))?;
    let written = tx.execute(
        UPDATE,
        &[
            Value::text(&agent.id),
            agent.revision.into(),
            (&agent.name).into(),
            agent.name.to_lowercase().into(),
            Value::json(&agent.content),
            now.into(),
        ],
    )?;
    if written == 0 {
        return Err(DbError::StaleVersion);
    }
    // Explanations and call records show its name; the rest of a draft concerns no call.
    if name.as_ref() != Some(&agent.name) {
        tx.route_changed(RouteChange::Agent(agent.id));
    }
    Ok(Agent { revision: agent.revision + 1, updated_at: now, ..agent.clone() })
}

/// Deletes an agent; it runs nowhere from then on. Its versions stay for the audit log, and the numbers
/// that it answers are the caller's to unassign first. False where it is not there.
pub fn agent_delete(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    id: AgentId,
    now: Timestamp,
) -> Result<bool, DbError> {
    let deleted = tx.execute(DELETE, &[Value::text(&id), Value::text(&workspace), now.into()])? > 0;
    if deleted {
        tx.execute(STOP, &[Value::text(&id)])?;
        tx.route_changed(RouteChange::Agent(id));
    }
    Ok(deleted)
}
