//! One facade over two engines: the only `match` on the engine stands here.
//!
//! `database.write(|tx| …)` and `database.read(|read| …)` take a *synchronous* closure and run it on a
//! database thread, to its end, in one transaction – even when the caller's future is dropped in the
//! middle. A cancelled request therefore leaves nothing half done. Closures are `Fn`, since a
//! transaction that loses a race is run again.
//!
//! What SQL says stands in the files of the nouns; how long things may take, and what an engine's
//! errors mean, stands in `engine/`.

mod filesystem;
mod job;
pub(crate) mod placeholders;
pub(crate) mod postgres;
mod settings;
pub(crate) mod sqlite;
mod tls;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use self::job::QUEUE_LIMIT;
use self::job::{Deadline, Errand, Job, Queue};
pub use self::settings::{Address, DEADLINE, DEADLINE_BULK, POSTGRES_CONNECTIONS, Settings};
use crate::error::DbError;
use crate::routes::{self, RouteChange};
use crate::value::{Row, RowOf, Value};

/// A handle on the database: cheap to clone, shared by all.
#[derive(Clone)]
pub struct Database {
    pools: Arc<Pools>,
    deadline: Duration,
}

/// The queues that the database threads serve. Dropping the last handle closes them.
struct Pools {
    writes: Arc<Queue>,
    /// The same queue as `writes` on PostgreSQL.
    reads: Arc<Queue>,
    engine: Engine,
    changes: watch::Sender<u64>,
    /// Closes when the last thread has ended.
    ended: tokio::sync::Mutex<tokio::sync::mpsc::Receiver<()>>,
}

impl Drop for Pools {
    fn drop(&mut self) {
        self.writes.close();
        self.reads.close();
    }
}

/// Which engine it is. The code that may ask: this file, and the few queries that hold both texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Embedded.
    Sqlite,
    /// Shared by many nodes.
    Postgres,
}

/// One query where the engines truly differ; both texts stand side by side, with the reason.
#[derive(Debug, Clone, Copy)]
pub struct Both {
    /// For SQLite.
    pub sqlite: &'static str,
    /// For PostgreSQL.
    pub postgres: &'static str,
}

impl Both {
    /// The same text on both.
    pub const fn same(sql: &'static str) -> Both {
        Both { sqlite: sql, postgres: sql }
    }

    /// The text for one engine.
    pub const fn on(self, engine: Engine) -> &'static str {
        match engine {
            Engine::Sqlite => self.sqlite,
            Engine::Postgres => self.postgres,
        }
    }
}

impl Database {
    /// Opens the database, brings its schema up to date and starts its threads.
    ///
    /// It fails where the database is down, unless [`Settings::may_start_down`] is set.
    pub async fn open(settings: Settings) -> Result<Database, DbError> {
        tokio::task::spawn_blocking(move || Database::open_blocking(&settings))
            .await
            .map_err(|error| DbError::Internal(format!("opening the database panicked: {error}")))?
    }

    fn open_blocking(settings: &Settings) -> Result<Database, DbError> {
        let (alive, ended) = tokio::sync::mpsc::channel::<()>(1);
        let (changes, _) = watch::channel(0);
        let writes = Queue::new();
        let (reads, engine) = match &settings.address {
            Address::Sqlite(path) => {
                filesystem::check(path, settings.danger_allow_any_file_system)?;
                sqlite::migrate(path)?;
                let reads = Queue::new();
                sqlite::start(path, &writes, &reads, &changes, &alive)?;
                (reads, Engine::Sqlite)
            }
            Address::Postgres(url) => {
                let server = postgres::Server::parse(url, settings)?;
                let migrated = match server.migrate() {
                    Ok(()) => true,
                    Err(DbError::Unavailable(_)) if settings.may_start_down => false,
                    Err(error) => return Err(error),
                };
                postgres::start(&server, settings, &writes, &changes, &alive, migrated)?;
                (Arc::clone(&writes), Engine::Postgres)
            }
        };
        let ended = tokio::sync::Mutex::new(ended);
        let pools = Pools { writes, reads, engine, changes, ended };
        Ok(Database { pools: Arc::new(pools), deadline: settings.deadline })
    }

    /// Which engine this is, for pages and logs.
    pub fn engine(&self) -> Engine {
        self.pools.engine
    }

    /// The same database, whose callers wait this long.
    #[must_use]
    pub fn within(&self, deadline: Duration) -> Database {
        Database { pools: Arc::clone(&self.pools), deadline }
    }

    /// The same database, for what goes through whole tables.
    #[must_use]
    pub fn in_bulk(&self) -> Database {
        self.within(DEADLINE_BULK)
    }

    /// Runs `closure` in one transaction that may write, and answers once it is durably committed.
    ///
    /// It runs to its end even when the caller goes away or is told [`DbError::Unavailable`], and may
    /// run more than once before it commits.
    pub async fn write<T, F>(&self, closure: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: Fn(&Tx<'_>) -> Result<T, DbError> + Send + 'static,
    {
        self.try_write(closure).await
    }

    /// As [`Database::write`], for closures with an error of their own: any error rolls back.
    pub async fn try_write<T, E, F>(&self, closure: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
        F: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.submit(&self.pools.writes, true, closure).await
    }

    /// Runs `closure` on one consistent state of the database.
    pub async fn read<T, F>(&self, closure: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: Fn(&Read<'_>) -> Result<T, DbError> + Send + 'static,
    {
        self.try_read(closure).await
    }

    /// As [`Database::read`], for closures with an error of their own.
    pub async fn try_read<T, E, F>(&self, closure: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
        F: Fn(&Read<'_>) -> Result<T, E> + Send + 'static,
    {
        self.submit(&self.pools.reads, false, move |tx: &Tx<'_>| closure(&tx.read)).await
    }

    async fn submit<T, E, F>(&self, queue: &Queue, is_write: bool, closure: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
        F: Fn(&Tx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (work, answer) = Errand::new(closure);
        let begin_by = Deadline::after(self.deadline);
        let submitted = async {
            let room = queue.room().await?;
            queue.push(Job { work, is_write, begin_by, may_take: self.deadline, _room: room })?;
            answer.await.map_err(|_| DbError::Unavailable("the database thread went away".into()))
        };
        match tokio::time::timeout(self.deadline, submitted).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                let waited = self.deadline.as_millis();
                Err(DbError::Unavailable(format!("no answer within {waited} ms")).into())
            }
        }
    }

    /// A hint that something was committed, here or on another node: routes, events, purchases. It may
    /// come late, twice or, between nodes, not at all; whoever waits on it also looks by the clock.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.pools.changes.subscribe()
    }

    /// Ends the threads once what waits is done, and waits for them. Other handles get
    /// [`DbError::Unavailable`] from then on.
    pub async fn close(&self) {
        self.pools.writes.close();
        self.pools.reads.close();
        // Nothing is ever sent: the answer comes when the last thread drops its end.
        self.pools.ended.lock().await.recv().await;
    }
}

/// What may be done on a consistent state of the database.
pub struct Read<'c> {
    session: Session<'c>,
    /// Set by a statement that failed: PostgreSQL refuses to go on, so nobody may.
    failed: Cell<bool>,
    /// How often the engine was asked.
    asked: Cell<u32>,
}

/// One engine's connection, inside a transaction.
enum Session<'c> {
    Sqlite(&'c rusqlite::Connection),
    Postgres(&'c postgres::Session<'c>),
}

/// A transaction that may write. It is a [`Read`] too.
pub struct Tx<'c> {
    read: Read<'c>,
    /// Tell whoever waits for changes once this is committed.
    nudge: Cell<bool>,
    /// What this changes about routes; written last, since all nodes' writers wait for that row.
    route_changes: RefCell<RouteChanges>,
}

/// What a transaction changes about routes: in order, each once.
#[derive(Default)]
struct RouteChanges {
    list: Vec<RouteChange>,
    known: HashSet<RouteChange>,
}

impl RouteChanges {
    fn add(&mut self, change: RouteChange) {
        if self.known.insert(change) {
            self.list.push(change);
        }
    }

    fn undo_to(&mut self, length: usize) {
        for change in self.list.drain(length..) {
            self.known.remove(&change);
        }
    }
}

impl<'c> std::ops::Deref for Tx<'c> {
    type Target = Read<'c>;
    fn deref(&self) -> &Read<'c> {
        &self.read
    }
}

impl Read<'_> {
    fn guarded<T>(&self, result: Result<T, DbError>) -> Result<T, DbError> {
        if result.is_err() {
            self.failed.set(true);
        }
        result
    }

    /// Which engine this is, for the few queries that hold both texts.
    pub fn engine(&self) -> Engine {
        match self.session {
            Session::Sqlite(_) => Engine::Sqlite,
            Session::Postgres(_) => Engine::Postgres,
        }
    }

    /// How often the engine was asked in this transaction, a whole pipeline counted as once: so long others wait for what it has
    /// locked.
    pub fn asked(&self) -> u32 {
        self.asked.get()
    }

    /// The text for this engine.
    pub fn pick(&self, both: Both) -> &'static str {
        both.on(self.engine())
    }

    /// Calls `each` with every row, without holding them all.
    pub fn query_each(
        &self,
        sql: &str,
        params: &[Value<'_>],
        mut each: impl FnMut(&Row<'_>) -> Result<(), DbError>,
    ) -> Result<(), DbError> {
        self.asked.set(self.asked.get() + 1);
        self.guarded(match self.session {
            Session::Sqlite(connection) => {
                sqlite::query_each(connection, sql, params, |row| each(&Row { inner: RowOf::Sqlite(row) }))
            }
            Session::Postgres(session) => {
                session.query_each(sql, params, |row| each(&Row { inner: RowOf::Postgres(row) }))
            }
        })
    }

    /// Every row, read by `read`. The query has a `LIMIT`.
    pub fn query<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<Vec<T>, DbError> {
        let mut rows = Vec::new();
        self.query_each(sql, params, |row| {
            rows.push(read(row)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The first row, if there is one.
    pub fn query_opt<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        mut read: impl FnMut(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<Option<T>, DbError> {
        let mut first = None;
        self.query_each(sql, params, |row| {
            if first.is_none() {
                first = Some(read(row)?);
            }
            Ok(())
        })?;
        Ok(first)
    }

    /// The row that must be there.
    pub fn query_one<T>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        read: impl FnMut(&Row<'_>) -> Result<T, DbError>,
    ) -> Result<T, DbError> {
        let row = self.query_opt(sql, params, read)?;
        row.ok_or_else(|| DbError::Corrupt(format!("no row where there must be one: {sql}")))
    }

    /// Checks that the engine takes this text, without running it.
    pub fn prepare(&self, sql: &str) -> Result<(), DbError> {
        self.guarded(match self.session {
            Session::Sqlite(connection) => sqlite::prepare(connection, sql),
            Session::Postgres(session) => session.prepare_only(sql),
        })
    }

    /// Statements without parameters, of which we wrote every letter.
    fn batch(&self, sql: &str) -> Result<(), DbError> {
        match self.session {
            Session::Sqlite(connection) => sqlite::batch(connection, sql),
            Session::Postgres(session) => session.batch(sql),
        }
    }
}

impl<'c> Tx<'c> {
    fn new(session: Session<'c>) -> Tx<'c> {
        Tx {
            read: Read { session, failed: Cell::new(false), asked: Cell::new(0) },
            nudge: Cell::new(false),
            route_changes: RefCell::default(),
        }
    }

    /// A transaction on SQLite.
    pub(crate) fn sqlite(connection: &'c rusqlite::Connection) -> Tx<'c> {
        Tx::new(Session::Sqlite(connection))
    }

    /// A transaction on PostgreSQL.
    pub(crate) fn postgres(session: &'c postgres::Session<'c>) -> Tx<'c> {
        Tx::new(Session::Postgres(session))
    }

    /// Runs a statement and says how many rows it touched.
    pub fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<u64, DbError> {
        self.asked.set(self.asked.get() + 1);
        self.guarded(match self.session {
            Session::Sqlite(connection) => sqlite::execute(connection, sql, params),
            Session::Postgres(session) => session.execute(sql, params),
        })
    }

    /// Runs one statement for many rows of parameters: a million of them in a breath on SQLite, and
    /// in one pipeline on PostgreSQL.
    pub fn execute_many<'p>(
        &self,
        sql: &str,
        rows: impl IntoIterator<Item = Vec<Value<'p>>>,
    ) -> Result<u64, DbError> {
        self.asked.set(self.asked.get() + 1);
        self.guarded(match self.session {
            Session::Sqlite(connection) => sqlite::execute_many(connection, sql, rows),
            Session::Postgres(session) => session.execute_many(sql, rows),
        })
    }

    /// Tries `step`; where it fails, what it wrote is undone and the transaction may go on.
    ///
    /// Without this, a statement that failed dooms the whole transaction, on both engines.
    pub fn attempt<T, E>(&self, step: impl FnOnce(&Tx<'c>) -> Result<T, E>) -> Result<T, E>
    where
        E: From<DbError>,
    {
        let route_changes = self.route_changes.borrow().list.len();
        self.batch("SAVEPOINT attempt")?;
        let result = step(self);
        if result.is_ok() {
            self.guarded(self.batch("RELEASE SAVEPOINT attempt"))?;
        } else {
            self.guarded(self.batch("ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt"))?;
            self.read.failed.set(false);
            self.route_changes.borrow_mut().undo_to(route_changes);
        }
        result
    }

    /// Wakes whoever waits on [`Database::changes`] once this is committed.
    pub fn nudge(&self) {
        self.nudge.set(true);
    }

    /// Notes that calls may now go elsewhere. The counter and the note are written at the very end of
    /// the transaction.
    pub fn route_changed(&self, change: RouteChange) {
        self.route_changes.borrow_mut().add(change);
        self.nudge.set(true);
    }

    /// What every transaction does last.
    pub(crate) fn finish(&self) -> Result<(), DbError> {
        if self.read.failed.get() {
            return Err(DbError::Internal("a statement failed and the closure went on without it".into()));
        }
        let changes = self.route_changes.take().list;
        if !changes.is_empty() {
            routes::route_version_bump(self, &changes)?;
        }
        Ok(())
    }

    /// Whether others should be told, once this is committed.
    pub(crate) fn is_nudging(&self) -> bool {
        self.nudge.get()
    }
}
