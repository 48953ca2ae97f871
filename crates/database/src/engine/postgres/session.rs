//! One connection: its prepared statements, its deadlines, and what its errors say about it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt as _, future, pin_mut};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::error::{DbError as DbRefusal, SqlState};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::{CONNECT_WAIT, said};
use crate::engine::Tx;
use crate::engine::job::{Deadline, Job};
use crate::error::DbError;
use crate::value::Value;

/// What we wait beyond the server's own `statement_timeout`, so that it has the first word.
const GRACE: Duration = Duration::from_millis(500);

/// How old a connection to a read-only server must be before we look for a better one.
const READ_ONLY_AGE: Duration = Duration::from_secs(1);

/// Statements kept ready; there are far fewer, and a list has a few shapes.
const STATEMENTS_KEPT: usize = 512;

/// Rows of parameters sent before their answers are read.
const PIPELINE_LIMIT: usize = 512;

/// Rows taken from the wire at once while streaming.
const ROWS_AT_ONCE: usize = 256;

/// A connection and what it remembers.
pub(crate) struct Session<'t> {
    runtime: &'t Runtime,
    client: Client,
    driver: JoinHandle<()>,
    statements: RefCell<HashMap<String, Statement>>,
    made: Deadline,
    ends: Cell<Deadline>,
    /// The server no longer answers, or not as it should: make a new connection.
    broken: Cell<bool>,
    /// The last error was a lost race: run the transaction again.
    lost_race: Cell<bool>,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl<'t> Session<'t> {
    pub(super) fn new(runtime: &'t Runtime, client: Client, driver: JoinHandle<()>) -> Session<'t> {
        Session {
            runtime,
            client,
            driver,
            statements: RefCell::default(),
            made: Deadline::after(READ_ONLY_AGE),
            ends: Cell::new(Deadline::after(CONNECT_WAIT)),
            broken: Cell::new(false),
            lost_race: Cell::new(false),
        }
    }

    pub(super) fn may_take(&self, wait: Duration) {
        self.ends.set(Deadline::after(wait));
    }

    /// The connection itself, for migrations.
    pub(super) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Whether this connection must be replaced.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Waits for the server's answer, but not beyond the deadline.
    fn wait<T>(&self, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, DbError> {
        let left = self.ends.get().left() + GRACE;
        match self.runtime.block_on(async { tokio::time::timeout(left, answer).await }) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.note(&error)),
            Err(_) => {
                self.broken.set(true);
                Err(DbError::Unavailable("PostgreSQL does not answer".into()))
            }
        }
    }

    /// What an error means for the caller, and for this connection.
    fn note(&self, error: &tokio_postgres::Error) -> DbError {
        match error.code() {
            Some(&(SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED)) => {
                self.lost_race.set(true);
            }
            // "cached plan must not change result type": another node has migrated. Its words may be in any
            // language, so it is known by the place that says it.
            Some(&SqlState::FEATURE_NOT_SUPPORTED)
                if error.as_db_error().and_then(DbRefusal::routine) == Some("RevalidateCachedQuery") =>
            {
                self.statements.borrow_mut().clear();
                self.lost_race.set(true);
            }
            // A standby, perhaps after a fail-over: look again, but not in a busy loop.
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION) if self.made.passed() => self.broken.set(true),
            _ => {}
        }
        if error.is_closed() || self.client.is_closed() {
            self.broken.set(true);
        }
        said(error)
    }

    fn statement(&self, sql: &str) -> Result<Statement, DbError> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.wait(self.client.prepare(sql))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS_KEPT {
            statements.clear();
        }
        statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(in crate::engine) fn prepare_only(&self, sql: &str) -> Result<(), DbError> {
        self.statement(sql).map(drop)
    }

    pub(in crate::engine) fn batch(&self, sql: &str) -> Result<(), DbError> {
        self.wait(self.client.batch_execute(sql))
    }

    pub(in crate::engine) fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<u64, DbError> {
        let statement = self.statement(sql)?;
        check_count(&statement, params)?;
        self.wait(
            self.client.execute_raw(&statement, params.iter().map(|value| value as &(dyn ToSql + Sync))),
        )
    }

    pub(in crate::engine) fn execute_many<'p>(
        &self,
        sql: &str,
        rows: impl IntoIterator<Item = Vec<Value<'p>>>,
    ) -> Result<u64, DbError> {
        let statement = self.statement(sql)?;
        let mut rows = rows.into_iter().peekable();
        let mut touched = 0;
        while rows.peek().is_some() {
            let chunk: Vec<Vec<Value<'_>>> = rows.by_ref().take(PIPELINE_LIMIT).collect();
            for params in &chunk {
                check_count(&statement, params)?;
            }
            let sent = chunk.iter().map(|params| {
                let params = params.iter().map(|value| value as &(dyn ToSql + Sync));
                self.client.execute_raw(&statement, params)
            });
            touched += self.wait(future::try_join_all(sent))?.into_iter().sum::<u64>();
        }
        Ok(touched)
    }

    pub(in crate::engine) fn query_each(
        &self,
        sql: &str,
        params: &[Value<'_>],
        mut each: impl FnMut(&tokio_postgres::Row) -> Result<(), DbError>,
    ) -> Result<(), DbError> {
        let statement = self.statement(sql)?;
        check_count(&statement, params)?;
        let params = params.iter().map(|value| value as &(dyn ToSql + Sync));
        let stream = self.wait(self.client.query_raw(&statement, params))?.ready_chunks(ROWS_AT_ONCE);
        pin_mut!(stream);
        while let Some(rows) = self.wait(async { Ok(stream.next().await) })? {
            for row in rows {
                each(&row.map_err(|error| self.note(&error))?)?;
            }
        }
        Ok(())
    }

    /// One attempt at a closure in a transaction of its own.
    pub(super) fn attempt(&self, job: &mut Job, usual: Duration) -> Attempt {
        self.may_take(job.may_take);
        self.lost_race.set(false);
        let begin = if job.is_write { "BEGIN" } else { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" };
        let began = if job.may_take == usual {
            self.batch(begin)
        } else {
            let limit = job.may_take.as_millis();
            self.batch(&format!("{begin}; SET LOCAL statement_timeout = {limit}"))
        };
        if let Err(error) = began {
            if self.broken.replace(true) {
                return Attempt::NotBegun(error);
            }
            return Attempt::Ended(Some(error));
        }
        let tx = Tx::postgres(self);
        if !job.work.run(&tx) {
            if !self.broken.get() && self.batch("ROLLBACK").is_err() {
                self.broken.set(true);
            }
            return if self.lost_race.get() { Attempt::LostRace } else { Attempt::Ended(None) };
        }
        match self.batch("COMMIT") {
            Ok(()) => Attempt::Committed { nudging: tx.is_nudging() },
            Err(_) if self.lost_race.get() => Attempt::LostRace,
            Err(error) => {
                // Nothing is known about the state of this connection.
                self.broken.set(true);
                Attempt::Ended(Some(error))
            }
        }
    }
}

/// How one attempt at a closure ended.
pub(super) enum Attempt {
    /// The connection was dead; the closure has not run.
    NotBegun(DbError),
    /// Another transaction won; this one may be run again.
    LostRace,
    /// Rolled back, or never known: the closure's own error stands unless there is another.
    Ended(Option<DbError>),
    /// Durable.
    Committed {
        /// Tell those who wait for changes.
        nudging: bool,
    },
}

fn check_count(statement: &Statement, params: &[Value<'_>]) -> Result<(), DbError> {
    let wanted = statement.params().len();
    if wanted == params.len() {
        return Ok(());
    }
    Err(DbError::Internal(format!("{} parameters given, {wanted} wanted", params.len())))
}
