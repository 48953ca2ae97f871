//! SQLite: one thread writes, a few read, and writers that arrive together share one durable commit.
//!
//! `synchronous=FULL`: what was acknowledged survives a power cut. Group commit makes that cheap:
//! closures that wait are run one after the other, each in a savepoint of its own, then committed at
//! once, and only then is anybody answered.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use tokio::sync::{mpsc, watch};

use super::job::{Deadline, Job, Queue};
use super::placeholders::numbered;
use super::{DEADLINE, Tx};
use crate::error::{DbError, constraint_named};
use crate::migrations;
use crate::value::Value;

/// Threads that read.
const READERS: usize = 4;

/// How many closures may share one commit.
const GROUP_LIMIT: usize = 256;

/// Statements kept ready by each connection.
const STATEMENTS_KEPT: usize = 256;

/// The first version without the WAL-reset corruption (3.7.0 to 3.51.2 have it).
const VERSION_LEAST: i32 = 3_051_003;

/// How many virtual machine steps pass between two looks at the clock.
const STEPS_BETWEEN_LOOKS: i32 = 20_000;

/// When the closure that runs on a connection must have ended.
type Ends = Arc<Mutex<Option<Deadline>>>;

fn connect(path: &Path) -> Result<(Connection, Ends), DbError> {
    let version = rusqlite::version_number();
    if version < VERSION_LEAST {
        return Err(DbError::Refused(format!(
            "this program was built with SQLite {version}, which can corrupt its log; at least {VERSION_LEAST} is needed"
        )));
    }
    // No SQLITE_OPEN_URI: a path is a path. No shared cache. Each connection stays on one thread.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(said)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    connection.busy_timeout(DEADLINE).map_err(said)?;
    let journal: String =
        connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(said)?;
    if journal != "wal" {
        return Err(DbError::Refused(format!(
            "{}: SQLite answers journal_mode = {journal} where WAL is needed; use a local disk",
            path.display()
        )));
    }
    connection
        .execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; \
             PRAGMA temp_store = MEMORY; PRAGMA cache_size = -32000; PRAGMA journal_size_limit = 67108864;",
        )
        .map_err(said)?;
    let ends: Ends = Arc::default();
    let clock = Arc::clone(&ends);
    connection
        .progress_handler(
            STEPS_BETWEEN_LOOKS,
            Some(move || clock.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(Deadline::passed)),
        )
        .map_err(said)?;
    Ok((connection, ends))
}

/// Creates the file where it is missing (for its owner's eyes only) and brings its schema up to date.
pub(super) fn migrate(path: &Path) -> Result<(), DbError> {
    let io = |error: std::io::Error| DbError::Refused(format!("{}: {error}", path.display()));
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(io)?;
    // Two programs may start on one file at once: one of them migrates, the other finds it done.
    let guard = path.with_extension("migrating");
    let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&guard).map_err(io)?;
    lock.lock().map_err(io)?;
    let result = connect(path).and_then(|(mut connection, _)| migrations::sqlite(&mut connection));
    drop(lock);
    drop(fs::remove_file(&guard));
    result
}

/// Starts the threads. They end when the queues are closed and empty.
pub(super) fn start(
    path: &Path,
    writes: &Arc<Queue>,
    reads: &Arc<Queue>,
    changes: &watch::Sender<u64>,
    alive: &mpsc::Sender<()>,
) -> Result<(), DbError> {
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let failed = |error: std::io::Error| DbError::Unavailable(format!("no thread for the database: {error}"));

    let (connection, ends) = connect(path)?;
    let (queue, changes, living) = (Arc::clone(writes), changes.clone(), alive.clone());
    thread("sqlite-write")
        .spawn(move || {
            let _living = living;
            let writer = Writer { connection, ends, changes };
            while let Some(first) = queue.pop() {
                let mut group = vec![first];
                group.extend(queue.take(GROUP_LIMIT - 1));
                writer.run_group(group);
            }
        })
        .map_err(failed)?;

    for reader in 0..READERS {
        let (connection, ends) = connect(path)?;
        connection.execute_batch("PRAGMA query_only = ON").map_err(said)?;
        let (queue, living) = (Arc::clone(reads), alive.clone());
        thread(&format!("sqlite-read-{reader}"))
            .spawn(move || {
                let _living = living;
                while let Some(job) = queue.pop() {
                    run_read(&connection, &ends, job);
                }
            })
            .map_err(failed)?;
    }
    Ok(())
}

fn set_ends(ends: &Ends, may_take: Option<Duration>) {
    *ends.lock().unwrap_or_else(PoisonError::into_inner) = may_take.map(Deadline::after);
}

fn run_read(connection: &Connection, ends: &Ends, mut job: Job) {
    set_ends(ends, Some(job.may_take));
    let failure = batch(connection, "BEGIN").err();
    if failure.is_none() {
        job.work.run(&Tx::sqlite(connection));
        // Nothing was written; this only lets go of the state that was read.
        drop(batch(connection, "ROLLBACK"));
    }
    set_ends(ends, None);
    job.answer(failure);
}

struct Writer {
    connection: Connection,
    ends: Ends,
    changes: watch::Sender<u64>,
}

impl Writer {
    /// Runs closures that arrived together, each undone alone where it fails, and commits them at once.
    fn run_group(&self, group: Vec<Job>) {
        let mut waiting = group.into_iter();
        while waiting.len() > 0 {
            if let Err(error) = batch(&self.connection, "BEGIN IMMEDIATE") {
                for job in waiting {
                    job.answer(Some(error.clone()));
                }
                return;
            }
            let mut ran = Vec::new();
            let mut nudging = false;
            let mut lost = false;
            for mut job in waiting.by_ref() {
                if job.begin_by.passed() {
                    job.answer(Some(DbError::Unavailable("the database was busy for too long".into())));
                    continue;
                }
                set_ends(&self.ends, Some(job.may_take));
                let began = batch(&self.connection, "SAVEPOINT job");
                let tx = Tx::sqlite(&self.connection);
                let commit = began.is_ok() && job.work.run(&tx);
                set_ends(&self.ends, None);
                // A full disk, an I/O error or a deadline rolls the whole transaction back.
                lost = self.connection.is_autocommit();
                let ended = match (lost, commit) {
                    (true, true) => Err(DbError::Unavailable("SQLite rolled the transaction back".into())),
                    (true, false) => Ok(()),
                    (false, true) => batch(&self.connection, "RELEASE job"),
                    (false, false) => batch(&self.connection, "ROLLBACK TO job; RELEASE job"),
                };
                match began.and(ended) {
                    Ok(()) if commit => {
                        nudging |= tx.is_nudging();
                        ran.push(job);
                    }
                    Ok(()) => job.answer(None),
                    Err(error) => job.answer(Some(error)),
                }
                if lost {
                    break;
                }
            }
            if lost {
                // Innocent closures of the same group: again, each on its own.
                for job in ran {
                    self.run_alone(job);
                }
                continue;
            }
            let committed = batch(&self.connection, "COMMIT").err();
            if committed.is_some() && !self.connection.is_autocommit() {
                drop(batch(&self.connection, "ROLLBACK"));
            }
            if committed.is_none() && nudging {
                self.changes.send_modify(|count| *count += 1);
            }
            for job in ran {
                job.answer(committed.clone());
            }
        }
    }

    fn run_alone(&self, mut job: Job) {
        if let Err(error) = batch(&self.connection, "BEGIN IMMEDIATE") {
            return job.answer(Some(error));
        }
        set_ends(&self.ends, Some(job.may_take));
        let tx = Tx::sqlite(&self.connection);
        let commit = job.work.run(&tx);
        set_ends(&self.ends, None);
        let failure = match (self.connection.is_autocommit(), commit) {
            (true, true) => Some(DbError::Unavailable("SQLite rolled the transaction back".into())),
            (true, false) => None,
            (false, true) => batch(&self.connection, "COMMIT").err(),
            (false, false) => batch(&self.connection, "ROLLBACK").err(),
        };
        if !self.connection.is_autocommit() {
            drop(batch(&self.connection, "ROLLBACK"));
        }
        if commit && failure.is_none() && tx.is_nudging() {
            self.changes.send_modify(|count| *count += 1);
        }
        job.answer(failure);
    }
}

pub(super) fn batch(connection: &Connection, sql: &str) -> Result<(), DbError> {
    connection.execute_batch(sql).map_err(said)
}

pub(super) fn prepare(connection: &Connection, sql: &str) -> Result<(), DbError> {
    connection.prepare(&numbered(sql)).map(drop).map_err(said)
}

fn bound<'s>(
    connection: &'s Connection,
    sql: &str,
    params: &[Value<'_>],
) -> Result<rusqlite::CachedStatement<'s>, DbError> {
    let mut statement = connection.prepare_cached(&numbered(sql)).map_err(said)?;
    bind(&mut statement, params)?;
    Ok(statement)
}

fn bind(statement: &mut rusqlite::Statement<'_>, params: &[Value<'_>]) -> Result<(), DbError> {
    if statement.parameter_count() != params.len() {
        let wanted = statement.parameter_count();
        return Err(DbError::Internal(format!("{} parameters given, {wanted} wanted", params.len())));
    }
    for (index, value) in params.iter().enumerate() {
        statement.raw_bind_parameter(index + 1, value).map_err(said)?;
    }
    Ok(())
}

pub(super) fn execute(connection: &Connection, sql: &str, params: &[Value<'_>]) -> Result<u64, DbError> {
    bound(connection, sql, params)?.raw_execute().map(|rows| rows as u64).map_err(said)
}

pub(super) fn execute_many<'p>(
    connection: &Connection,
    sql: &str,
    rows: impl IntoIterator<Item = Vec<Value<'p>>>,
) -> Result<u64, DbError> {
    let mut statement = connection.prepare_cached(&numbered(sql)).map_err(said)?;
    let mut touched = 0;
    for params in rows {
        bind(&mut statement, &params)?;
        touched += statement.raw_execute().map_err(said)? as u64;
    }
    Ok(touched)
}

pub(super) fn query_each(
    connection: &Connection,
    sql: &str,
    params: &[Value<'_>],
    mut each: impl FnMut(&rusqlite::Row<'_>) -> Result<(), DbError>,
) -> Result<(), DbError> {
    let mut statement = bound(connection, sql, params)?;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(said)? {
        each(row)?;
    }
    Ok(())
}

/// What SQLite's error means for the caller.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
pub(crate) fn said(error: rusqlite::Error) -> DbError {
    let rusqlite::Error::SqliteFailure(failure, text) = &error else {
        return DbError::Internal(error.to_string());
    };
    let text = text.clone().unwrap_or_else(|| failure.to_string());
    match failure.code {
        ErrorCode::ConstraintViolation
            if matches!(
                failure.extended_code,
                ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            ) =>
        {
            DbError::Conflict(constraint_named(&text))
        }
        ErrorCode::DiskFull => DbError::Full(text),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => DbError::ReadOnly(text),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => DbError::Corrupt(text),
        ErrorCode::OperationInterrupted => DbError::Unavailable("the query took too long".into()),
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::CannotOpen
        | ErrorCode::SystemIoFailure
        | ErrorCode::OutOfMemory => DbError::Unavailable(text),
        _ => DbError::Internal(text),
    }
}
