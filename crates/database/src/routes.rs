//! What routes are made of, and what changed about it since a version.
//!
//! Every change that calls depend on bumps one counter at the end of its transaction, so that the order of
//! versions is the order of commits, and notes what it changed under that version. A node that knows version
//! *n* asks for what came after; where the notes no longer reach back to *n*, it loads everything.

use std::collections::HashMap;
use std::sync::Arc;

use domain::environment::Environment;
use domain::id::{AgentId, NumberId, SecretId, WorkspaceId};
use domain::route::row::{NumberRow, Row as RouteRow, RunningRow, WorkspaceRow};
use domain::route::{Builder, RouteTable};

use crate::engine::{Both, Database, Read, Tx};
use crate::error::DbError;
use crate::numbers;
use crate::value::{Row, Value};

/// How many changes are read at once; a node that is further behind loads everything.
pub const CHANGES_MAX: u32 = 10_000;

/// How many versions' changes are kept.
pub const VERSIONS_KEPT: i64 = 100_000;

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

    fn read(row: &Row<'_>, kind: usize) -> Result<RouteChange, DbError> {
        Ok(match row.text(kind)? {
            "number" => RouteChange::Number(row.parse(kind + 1)?),
            "agent" => RouteChange::Agent(row.parse(kind + 1)?),
            "workspace" => RouteChange::Workspace(row.parse(kind + 1)?),
            "secret" => RouteChange::Secret(row.parse(kind + 1)?),
            other => return Err(DbError::Corrupt(format!("`{other}` is nothing that routes are made of"))),
        })
    }
}

macro_rules! select_number {
    ($rest:literal) => {
        concat!(
            // Not `status IN (…)`: SQLite looks such a list up in a tree, for each number again.
            "SELECT ingress, phone_number, id, workspace_id, callback_token, agent_id, environment, variant_id, \
             settings FROM numbers WHERE (status = 'active' OR status = 'release_scheduled' \
             OR status = 'releasing' OR (status IN ('ordering', 'needs_review') \
             AND carrier_number_id IS NOT NULL)) ",
            $rest
        )
    };
}
macro_rules! select_running {
    ($rest:literal) => {
        concat!(
            "SELECT r.agent_id, r.environment, v.id, v.version, a.name, v.content FROM running r \
             JOIN versions v ON v.id = r.version_id JOIN agents a ON a.id = r.agent_id ",
            $rest
        )
    };
}

const VERSION: &str = "SELECT version FROM route_state WHERE id = 1";
const BUMP: &str = "UPDATE route_state SET version = version + 1 WHERE id = 1 RETURNING version";
const CHANGE: &str = "INSERT INTO route_changes (version, kind, id) VALUES ($1, $2, $3)";
const CHANGES: &str =
    "SELECT version, kind, id FROM route_changes WHERE version > $1 ORDER BY version LIMIT $2";
const OLDEST: &str = "SELECT min(version) FROM route_changes";
const PRUNE: &str = "DELETE FROM route_changes WHERE version <= $1";
const NUMBERS: &str = select_number!("");
/// Where the numbers are cut into two halves that two connections read at once: a `rowid`, which is also the order in which
/// SQLite reads fastest. PostgreSQL has nothing of the kind, and is not the one to be slow: there one connection reads all.
const MIDDLE: Both =
    Both { sqlite: "SELECT max(rowid) / 2 FROM numbers", postgres: "SELECT CAST(NULL AS BIGINT)" };
const NUMBERS_TO: Both =
    Both { sqlite: select_number!("AND rowid <= $1"), postgres: select_number!("AND $1 <> 0") };
const NUMBERS_AFTER: Both =
    Both { sqlite: select_number!("AND rowid > $1"), postgres: select_number!("AND $1 <> 0") };
/// What must be the same for two connections to see the same routes. A `VACUUM` may number rows anew, and changes SQLite's
/// `schema_version`.
const STATE: Both = Both {
    sqlite: "SELECT s.version, p.schema_version FROM route_state s, pragma_schema_version p WHERE s.id = 1",
    postgres: "SELECT version, CAST(0 AS BIGINT) FROM route_state WHERE id = 1",
};
const NUMBER: &str = select_number!("AND ingress = $1 AND phone_number = $2");
const NUMBER_PLACE: &str = "SELECT ingress, phone_number FROM numbers WHERE id = $1";
const RUNNING: &str = select_running!("");
const RUNNING_AGENT: &str = select_running!("WHERE r.agent_id = $1");
const WORKSPACES: &str = "SELECT id, settings FROM workspaces";
const WORKSPACE: &str = "SELECT id, settings FROM workspaces WHERE id = $1";
const SECRETS: &str = "SELECT id, ciphertext FROM secrets";
const SECRET: &str = "SELECT id, ciphertext FROM secrets WHERE id = $1";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("routes::VERSION", Both::same(VERSION)),
    ("routes::BUMP", Both::same(BUMP)),
    ("routes::CHANGE", Both::same(CHANGE)),
    ("routes::CHANGES", Both::same(CHANGES)),
    ("routes::OLDEST", Both::same(OLDEST)),
    ("routes::PRUNE", Both::same(PRUNE)),
    ("routes::NUMBERS", Both::same(NUMBERS)),
    ("routes::MIDDLE", MIDDLE),
    ("routes::NUMBERS_TO", NUMBERS_TO),
    ("routes::NUMBERS_AFTER", NUMBERS_AFTER),
    ("routes::STATE", STATE),
    ("routes::NUMBER", Both::same(NUMBER)),
    ("routes::NUMBER_PLACE", Both::same(NUMBER_PLACE)),
    ("routes::RUNNING", Both::same(RUNNING)),
    ("routes::RUNNING_AGENT", Both::same(RUNNING_AGENT)),
    ("routes::WORKSPACES", Both::same(WORKSPACES)),
    ("routes::WORKSPACE", Both::same(WORKSPACE)),
    ("routes::SECRETS", Both::same(SECRETS)),
    ("routes::SECRET", Both::same(SECRET)),
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

fn number_row(row: &Row<'_>) -> Result<RouteRow, DbError> {
    let place = (numbers::ingress(row, 0)?, numbers::e164(row, 1)?);
    let number = NumberRow {
        number_id: row.parse(2)?,
        workspace_id: row.parse(3)?,
        callback_token: numbers::callback_token(row, 4)?,
        assignment: numbers::assignment(row, 5)?,
        own: row.json_opt(8)?,
    };
    Ok(RouteRow::Number(place, Some(number)))
}

/// Contents that many rows share are held once.
#[derive(Default)]
struct Names(HashMap<String, Arc<str>>);

impl Names {
    fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(name) = self.0.get(text) {
            return Arc::clone(name);
        }
        let name: Arc<str> = text.into();
        self.0.insert(text.to_owned(), Arc::clone(&name));
        name
    }
}

fn running_row(row: &Row<'_>, names: &mut Names) -> Result<RouteRow, DbError> {
    let running = RunningRow {
        version_id: row.parse(2)?,
        version: row.read(3)?,
        agent_name: names.name(row.text(4)?),
        content: Arc::new(row.json(5)?),
    };
    Ok(RouteRow::Running((row.parse(0)?, row.parse(1)?), Some(running)))
}

fn workspace_row(row: &Row<'_>) -> Result<RouteRow, DbError> {
    Ok(RouteRow::Workspace(row.parse(0)?, Some(WorkspaceRow { settings: row.json(1)? })))
}

fn secret_row(row: &Row<'_>) -> Result<RouteRow, DbError> {
    let ciphertext: Vec<u8> = row.read(1)?;
    Ok(RouteRow::Secret(row.parse(0)?, Some(ciphertext.into())))
}

/// Everything that routes are made of, and its version. Rows are handed on one by one; a million numbers
/// are never held at once. Ask through [`crate::Database::in_bulk`].
pub fn route_rows(
    read: &Read<'_>,
    mut each: impl FnMut(RouteRow) -> Result<(), DbError>,
) -> Result<i64, DbError> {
    let version = route_version(read)?;
    shared_rows(read, &mut each)?;
    read.query_each(NUMBERS, &[], |row| each(number_row(row)?))?;
    Ok(version)
}

/// All but numbers.
fn shared_rows(
    read: &Read<'_>,
    mut each: impl FnMut(RouteRow) -> Result<(), DbError>,
) -> Result<(), DbError> {
    read.query_each(WORKSPACES, &[], |row| each(workspace_row(row)?))?;
    read.query_each(SECRETS, &[], |row| each(secret_row(row)?))?;
    let mut names = Names::default();
    read.query_each(RUNNING, &[], |row| each(running_row(row, &mut names)?))
}

/// How often two connections try to see the same state before one reads alone.
const ATTEMPTS_AT_HALVES: u32 = 3;

/// The table of all routes. On SQLite two connections read half of the numbers each, at once.
///
/// Each sees one consistent state of its own. Whatever changes a route raises the version in the same transaction, so two
/// states of one version hold the same routes; where the versions differ, something was committed in between, and both
/// read again.
pub async fn route_table(database: &Database) -> Result<RouteTable, DbError> {
    for _ in 0..ATTEMPTS_AT_HALVES {
        let Some(middle) =
            database.read(|read| read.query_one(read.pick(MIDDLE), &[], |row| row.read(0))).await?
        else {
            break;
        };
        let ((one, first), (other, second)) = tokio::try_join!(
            database.read(move |read| half(read, Half::First, middle)),
            database.read(move |read| half(read, Half::Second, middle)),
        )?;
        if one == other {
            let joined = move || first.join(second).finish(one.0);
            return tokio::task::spawn_blocking(joined)
                .await
                .map_err(|error| DbError::Internal(format!("joining the routes panicked: {error}")));
        }
    }
    let table = |read: &Read<'_>| {
        let mut builder = Builder::new();
        let version = route_rows(read, |row| {
            builder.push(row);
            Ok(())
        })?;
        Ok(builder.finish(counted(version)?))
    };
    database.read(table).await
}

#[derive(Clone, Copy)]
enum Half {
    /// With all that numbers share.
    First,
    Second,
}

/// The numbers on one side of the middle, with the state that they are of.
fn half(read: &Read<'_>, half: Half, middle: i64) -> Result<((u64, i64), Builder), DbError> {
    let (version, schema): (i64, i64) =
        read.query_one(read.pick(STATE), &[], |row| Ok((row.read(0)?, row.read(1)?)))?;
    let mut builder = Builder::new();
    let numbers = match half {
        Half::First => {
            shared_rows(read, |row| {
                builder.push(row);
                Ok(())
            })?;
            NUMBERS_TO
        }
        Half::Second => NUMBERS_AFTER,
    };
    read.query_each(read.pick(numbers), &[middle.into()], |row| {
        builder.push(number_row(row)?);
        Ok(())
    })?;
    Ok(((counted(version)?, schema), builder.in_order()))
}

fn counted(version: i64) -> Result<u64, DbError> {
    u64::try_from(version).map_err(|_| DbError::Corrupt("the route version is negative".to_owned()))
}

/// What has changed since a version.
#[derive(Debug)]
pub enum RouteUpdate {
    /// Nothing.
    Unchanged,
    /// These rows, as they are at the version.
    Rows(i64, Vec<RouteRow>),
    /// Too much, or the notes do not reach back so far: load everything with [`route_table`].
    LoadAll,
}

/// What has changed since a version that a node knows.
pub fn route_rows_since(read: &Read<'_>, known: i64) -> Result<RouteUpdate, DbError> {
    let version = route_version(read)?;
    if version == known {
        return Ok(RouteUpdate::Unchanged);
    }
    let oldest: Option<i64> = read.query_one(OLDEST, &[], |row| row.read(0))?;
    // A lower version than is known: the database was restored.
    if version < known || oldest.is_none_or(|oldest| oldest > known + 1) {
        return Ok(RouteUpdate::LoadAll);
    }
    let mut changes =
        read.query(CHANGES, &[known.into(), CHANGES_MAX.into()], |row| RouteChange::read(row, 1))?;
    if changes.len() >= CHANGES_MAX as usize {
        return Ok(RouteUpdate::LoadAll);
    }
    let mut seen = std::collections::HashSet::new();
    changes.retain(|change| seen.insert(*change));
    let mut rows = Vec::new();
    let mut names = Names::default();
    for change in changes {
        match change {
            RouteChange::Number(id) => number_now(read, id, &mut rows)?,
            RouteChange::Agent(id) => agent_now(read, id, &mut names, &mut rows)?,
            RouteChange::Workspace(id) => {
                let row = read.query_opt(WORKSPACE, &[Value::text(&id)], workspace_row)?;
                rows.push(row.unwrap_or(RouteRow::Workspace(id, None)));
            }
            RouteChange::Secret(id) => {
                let row = read.query_opt(SECRET, &[Value::text(&id)], secret_row)?;
                rows.push(row.unwrap_or(RouteRow::Secret(id, None)));
            }
        }
    }
    Ok(RouteUpdate::Rows(version, rows))
}

/// Whoever takes the calls of a changed number's place now: it, a successor, or nobody.
fn number_now(read: &Read<'_>, id: NumberId, rows: &mut Vec<RouteRow>) -> Result<(), DbError> {
    let place = read.query_opt(NUMBER_PLACE, &[Value::text(&id)], |row| {
        Ok((numbers::ingress(row, 0)?, numbers::e164(row, 1)?))
    })?;
    let Some(place) = place else { return Ok(()) };
    let row = read.query_opt(NUMBER, &[place.0.get().into(), Value::text(&place.1)], number_row)?;
    rows.push(row.unwrap_or(RouteRow::Number(place, None)));
    Ok(())
}

/// What an agent runs now, and where it runs nothing.
fn agent_now(
    read: &Read<'_>,
    id: AgentId,
    names: &mut Names,
    rows: &mut Vec<RouteRow>,
) -> Result<(), DbError> {
    let running = read.query(RUNNING_AGENT, &[Value::text(&id)], |row| running_row(row, names))?;
    for &environment in Environment::ALL {
        let is_running = running
            .iter()
            .any(|row| matches!(row, RouteRow::Running((_, running), _) if *running == environment));
        if !is_running {
            rows.push(RouteRow::Running((id, environment), None));
        }
    }
    rows.extend(running);
    Ok(())
}

/// Forgets notes that no node needs any more, and says how many.
pub fn route_changes_prune(tx: &Tx<'_>) -> Result<u64, DbError> {
    let version = route_version(tx)?;
    tx.execute(PRUNE, &[(version - VERSIONS_KEPT).into()])
}
