//! Brings the schema up to date, by refinery, from pairs of files that hold the same for both engines.
//!
//! A database that a newer program has migrated is refused before anything is touched. Each migration
//! commits together with its entry in the history, so one that was interrupted starts again.

use refinery::{Migration, Runner};
use tokio_postgres::error::SqlState;

use crate::engine::{postgres, sqlite};
use crate::error::DbError;

/// The advisory lock that one node holds while it migrates: the letters `switchbd`.
pub(crate) const LOCK: i64 = 0x7377_6974_6368_6264;

/// Every migration: its name, and its text for SQLite and for PostgreSQL.
const MIGRATIONS: &[(&str, &str, &str)] = &[
    (
        "V1__first",
        include_str!("../migrations/0001_first/sqlite.sql"),
        include_str!("../migrations/0001_first/postgres.sql"),
    ),
    (
        "V2__calls_by_time",
        include_str!("../migrations/0002_calls_by_time/sqlite.sql"),
        include_str!("../migrations/0002_calls_by_time/postgres.sql"),
    ),
];

/// The newest schema that this program knows.
pub const SCHEMA_VERSION: i32 = 2;

const NEWEST: &str = "SELECT max(version) FROM refinery_schema_history";

fn runner(text: impl Fn(&(&str, &'static str, &'static str)) -> &'static str) -> Runner {
    let migrations: Vec<Migration> = MIGRATIONS
        .iter()
        .map(|entry| Migration::unapplied(entry.0, text(entry)).expect("our names are V<number>__<name>"))
        .collect();
    Runner::new(&migrations)
}

fn refuse_newer(found: Option<i32>) -> Result<(), DbError> {
    match found {
        Some(found) if found > SCHEMA_VERSION => Err(DbError::SchemaNewer { found, known: SCHEMA_VERSION }),
        _ => Ok(()),
    }
}

fn failed(error: &refinery::Error) -> DbError {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    DbError::Internal(format!("the schema could not be brought up to date: {error}{source}"))
}

/// On SQLite. The caller holds the file's lock.
pub(crate) fn sqlite(connection: &mut rusqlite::Connection) -> Result<(), DbError> {
    let has_history = connection
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'refinery_schema_history'", [], |row| {
            row.get::<_, i64>(0)
        })
        .map_err(sqlite::said)?;
    if has_history > 0 {
        refuse_newer(connection.query_row(NEWEST, [], |row| row.get(0)).map_err(sqlite::said)?)?;
    }
    runner(|entry| entry.1).run(connection).map(drop).map_err(|error| failed(&error))
}

/// On PostgreSQL. The caller holds the advisory lock.
pub(crate) async fn postgres(client: &mut tokio_postgres::Client) -> Result<(), DbError> {
    match client.query_one(NEWEST, &[]).await {
        Ok(row) => refuse_newer(row.try_get(0).map_err(|error| postgres::said(&error))?)?,
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {}
        Err(error) => return Err(postgres::said(&error)),
    }
    runner(|entry| entry.2).run_async(client).await.map(drop).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    #[test]
    fn migrations_are_numbered_without_gaps() {
        for (index, (name, ..)) in super::MIGRATIONS.iter().enumerate() {
            assert!(name.starts_with(&format!("V{}__", index + 1)), "{name}");
        }
        assert_eq!(usize::try_from(super::SCHEMA_VERSION).unwrap(), super::MIGRATIONS.len());
    }
}
