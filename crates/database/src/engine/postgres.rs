//! PostgreSQL: a few threads, each with a connection and its prepared statements, all serving one queue.
//!
//! Each thread drives tokio-postgres on a small runtime of its own. The synchronous client would do
//! the same, but cannot give up on a server that is frozen rather than gone; here every answer has a
//! deadline, after which the connection is thrown away and the caller is told.
//!
//! A transaction that lost a race (40001, 40P01) is run again. A connection found dead is replaced
//! before anything has run on it. While no thread has a connection, callers are refused at once.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt as _, future, pin_mut};
use ring::rand::SecureRandom as _;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Statement};
use tracing::{info, warn};

use super::job::{Deadline, Job, Queue};
use super::tls::{self, Tls};
use super::{DEADLINE_BULK, Settings, Tx};
use crate::error::{DbError, constraint_named};
use crate::migrations;
use crate::value::Value;

/// How often a transaction that loses races is run again.
const RACE_LIMIT: u32 = 10;

/// The longest pause before such a run; the first is much shorter.
const RACE_PAUSE: Duration = Duration::from_millis(50);

/// How long a connection may take to be made.
const CONNECT_WAIT: Duration = Duration::from_secs(3);

/// The pause before the first attempt to connect again; it doubles up to [`BACKOFF_MOST`].
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// The longest pause between two attempts to connect.
const BACKOFF_MOST: Duration = Duration::from_secs(1);

/// How long a transaction may sit idle: a node that was paused in one must not stop the others.
const IDLE_MOST: Duration = Duration::from_secs(15);

/// What we wait beyond the server's own `statement_timeout`, so that it has the first word.
const GRACE: Duration = Duration::from_millis(500);

/// How old a connection to a read-only server must be before we look for a better one.
const READ_ONLY_AGE: Duration = Duration::from_secs(1);

/// Rows of parameters sent before their answers are read.
const PIPELINE_LIMIT: usize = 512;

/// Rows taken from the wire at once while streaming.
const ROWS_AT_ONCE: usize = 256;

/// The channel on which nodes tell each other that something was committed.
const CHANNEL: &str = "switchboard";

/// Where the server is and how to reach it.
#[derive(Clone)]
pub(super) struct Server {
    config: Config,
    tls: Tls,
    shown: String,
}

impl Server {
    pub(super) fn parse(url: &str, settings: &Settings) -> Result<Server, DbError> {
        let (url, tls) = tls::split(url)?;
        let mut config: Config = url
            .parse()
            // The address may hold a password, so the error says nothing of it.
            .map_err(|error: tokio_postgres::Error| DbError::Refused(format!("database_url: {error}")))?;
        config.ssl_mode(tls.mode);
        if config.get_application_name().is_none() {
            config.application_name("switchboard");
        }
        config.keepalives_idle(Duration::from_secs(15));
        Ok(Server { config, tls, shown: settings.address.shown() })
    }

    fn connect<'t>(&self, runtime: &'t Runtime) -> Result<Session<'t>, DbError> {
        let connecting = self.config.connect(self.tls.connector.clone());
        let (client, connection) = runtime
            .block_on(async { tokio::time::timeout(CONNECT_WAIT, connecting).await })
            .map_err(|_| DbError::Unavailable(format!("{} does not answer", self.shown)))?
            .map_err(|error| match said(&error) {
                DbError::Unavailable(why) => DbError::Unavailable(format!("{}: {why}", self.shown)),
                other => other,
            })?;
        let driver = runtime.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL has ended");
            }
        });
        Ok(Session::new(runtime, client, driver))
    }

    /// Brings the schema up to date, one node at a time.
    pub(super) fn migrate(&self) -> Result<(), DbError> {
        let runtime = runtime()?;
        let mut session = self.connect(&runtime)?;
        session.may_take(DEADLINE_BULK);
        // Let go of when this connection ends, whatever happens.
        session.batch(&format!("SELECT pg_advisory_lock({})", migrations::LOCK))?;
        let result = runtime.block_on(migrations::postgres(&mut session.client));
        drop(session.batch(&format!("SELECT pg_advisory_unlock({})", migrations::LOCK)));
        result
    }
}

fn runtime() -> Result<Runtime, DbError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| DbError::Unavailable(format!("no runtime for the database: {error}")))
}

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
    fn new(runtime: &'t Runtime, client: Client, driver: JoinHandle<()>) -> Session<'t> {
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

    fn may_take(&self, wait: Duration) {
        self.ends.set(Deadline::after(wait));
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
            // "cached plan must not change result type": another node has migrated.
            Some(&SqlState::FEATURE_NOT_SUPPORTED) => {
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
        self.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(super) fn prepare_only(&self, sql: &str) -> Result<(), DbError> {
        self.statement(sql).map(drop)
    }

    pub(super) fn batch(&self, sql: &str) -> Result<(), DbError> {
        self.wait(self.client.batch_execute(sql))
    }

    pub(super) fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<u64, DbError> {
        let statement = self.statement(sql)?;
        check_count(&statement, params)?;
        self.wait(
            self.client.execute_raw(&statement, params.iter().map(|value| value as &(dyn ToSql + Sync))),
        )
    }

    pub(super) fn execute_many<'p>(
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

    pub(super) fn query_each(
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
    fn attempt(&self, job: &mut Job, usual: Duration) -> Attempt {
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
enum Attempt {
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

/// Starts the threads. They end when the queue is closed and empty.
pub(super) fn start(
    server: &Server,
    settings: &Settings,
    queue: &Arc<Queue>,
    changes: &watch::Sender<u64>,
    alive: &mpsc::Sender<()>,
    migrated: bool,
) -> Result<(), DbError> {
    let migrated = Arc::new(Mutex::new(migrated));
    let failed = |error: std::io::Error| DbError::Unavailable(format!("no thread for the database: {error}"));
    let tell = Arc::new(Notify::new());
    let connected = Arc::new(AtomicUsize::new(0));
    for number in 0..settings.postgres_connections.max(1) {
        let worker = Worker {
            server: server.clone(),
            queue: Arc::clone(queue),
            changes: changes.clone(),
            tell: Arc::clone(&tell),
            connected: Arc::clone(&connected),
            usual: settings.deadline,
            migrated: Arc::clone(&migrated),
        };
        let living = alive.clone();
        std::thread::Builder::new()
            .name(format!("postgres-{number}"))
            .spawn(move || {
                let _living = living;
                worker.serve();
            })
            .map_err(failed)?;
    }
    if settings.notifications {
        let (server, queue, changes, living) =
            (server.clone(), Arc::clone(queue), changes.clone(), alive.clone());
        std::thread::Builder::new()
            .name("postgres-notify".into())
            .spawn(move || {
                let _living = living;
                listen(&server, &queue, &changes, &tell);
            })
            .map_err(failed)?;
    }
    Ok(())
}

/// One thread and its connection.
struct Worker {
    server: Server,
    queue: Arc<Queue>,
    changes: watch::Sender<u64>,
    tell: Arc<Notify>,
    connected: Arc<AtomicUsize>,
    usual: Duration,
    /// Whether the schema is known to be up to date; false where the server was down at the start.
    migrated: Arc<Mutex<bool>>,
}

impl Worker {
    fn serve(&self) {
        let runtime = match runtime() {
            Ok(runtime) => runtime,
            Err(error) => return warn!(%error, "a database thread could not start"),
        };
        // A job whose connection was found dead before it began, and when it must have begun.
        let mut held: Option<Job> = None;
        let mut backoff = BACKOFF_FIRST;
        loop {
            let session = match self.connect(&runtime) {
                Ok(session) => session,
                Err(error) => {
                    if let Some(job) = held.take() {
                        job.answer(Some(error.clone()));
                    }
                    if self.connected.load(Ordering::SeqCst) == 0 {
                        self.queue.set_down(&error.to_string());
                    }
                    warn!(%error, "PostgreSQL cannot be reached; trying again");
                    if self.queue.closed_within(jittered(backoff)) {
                        return;
                    }
                    backoff = (backoff * 2).min(BACKOFF_MOST);
                    continue;
                }
            };
            if self.connected.fetch_add(1, Ordering::SeqCst) == 0 {
                info!("connected to {}", self.server.shown);
            }
            self.queue.set_up();
            while !session.broken.get() {
                let Some(job) = held.take().or_else(|| self.queue.pop()) else {
                    self.connected.fetch_sub(1, Ordering::SeqCst);
                    return;
                };
                held = self.run(&session, job);
                if held.is_none() {
                    backoff = BACKOFF_FIRST;
                }
            }
            self.connected.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn connect<'t>(&self, runtime: &'t Runtime) -> Result<Session<'t>, DbError> {
        {
            let mut migrated = self.migrated.lock().unwrap_or_else(PoisonError::into_inner);
            if !*migrated {
                self.server.migrate()?;
                *migrated = true;
            }
        }
        let session = self.server.connect(runtime)?;
        // What was acknowledged must survive a crash; and the server ends what takes too long.
        session.batch(&format!(
            "SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') = 'off'; \
             SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
             SET timezone = 'UTC'",
            self.usual.as_millis(),
            IDLE_MOST.as_millis(),
        ))?;
        Ok(session)
    }

    /// Runs a job to its end; gives it back where the connection was dead before it began.
    fn run(&self, session: &Session<'_>, mut job: Job) -> Option<Job> {
        for race in 1.. {
            match session.attempt(&mut job, self.usual) {
                Attempt::Committed { nudging } => {
                    job.answer(None);
                    if nudging {
                        self.changes.send_modify(|count| *count += 1);
                        self.tell.notify_one();
                    }
                    return None;
                }
                Attempt::Ended(failure) => {
                    job.answer(failure);
                    return None;
                }
                Attempt::NotBegun(_) if !job.begin_by.passed() => return Some(job),
                Attempt::NotBegun(error) => {
                    job.answer(Some(error));
                    return None;
                }
                Attempt::LostRace if race < RACE_LIMIT && !session.broken.get() => {
                    let pause = Duration::from_millis(1 << race.min(10)).min(RACE_PAUSE);
                    std::thread::sleep(jittered(pause));
                }
                Attempt::LostRace => {
                    job.answer(Some(DbError::Unavailable(format!("lost {race} races for the same rows"))));
                    return None;
                }
            }
        }
        None
    }
}

/// Between half and the whole of a pause, so that nodes do not march in step.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [0; 1];
    // Without a random byte the pause is merely less random.
    let _ = ring::rand::SystemRandom::new().fill(&mut byte);
    pause / 2 + pause / 2 * u32::from(byte[0]) / 255
}

/// Hears from other nodes, and tells them, on one connection that does nothing else.
///
/// The telling is its own small transaction after the commit: a `NOTIFY` inside would make all writers
/// queue for one lock. Several commits may share one telling.
fn listen(server: &Server, queue: &Queue, changes: &watch::Sender<u64>, tell: &Notify) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return warn!(%error, "no notifications between nodes"),
    };
    let mut backoff = BACKOFF_FIRST;
    loop {
        let error = match runtime.block_on(listen_once(server, queue, changes, tell, &mut backoff)) {
            Ok(()) => return,
            Err(error) => error,
        };
        tracing::debug!(%error, "no notifications for now");
        if queue.closed_within(jittered(backoff)) {
            return;
        }
        backoff = (backoff * 2).min(BACKOFF_MOST);
    }
}

async fn listen_once(
    server: &Server,
    queue: &Queue,
    changes: &watch::Sender<u64>,
    tell: &Notify,
    backoff: &mut Duration,
) -> Result<(), DbError> {
    let gone = || DbError::Unavailable("the connection has ended".into());
    let slow = |_| DbError::Unavailable("PostgreSQL does not answer".into());
    let connecting = server.config.connect(server.tls.connector.clone());
    let (client, mut connection) =
        tokio::time::timeout(CONNECT_WAIT, connecting).await.map_err(slow)?.map_err(|error| said(&error))?;
    let hearing = async {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(_) = message.map_err(|error| said(&error))? {
                changes.send_modify(|count| *count += 1);
            }
        }
        Err(gone())
    };
    let telling = async {
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(|error| said(&error))?;
        *backoff = BACKOFF_FIRST;
        // Whatever was told while nobody listened.
        changes.send_modify(|count| *count += 1);
        let notify = format!("NOTIFY {CHANNEL}");
        loop {
            tell.notified().await;
            let told = client.batch_execute(&notify);
            tokio::time::timeout(CONNECT_WAIT, told).await.map_err(slow)?.map_err(|error| said(&error))?;
        }
    };
    tokio::select! {
        ended = hearing => ended,
        ended = telling => ended,
        () = queue.until_closed() => Ok(()),
    }
}

/// What PostgreSQL's error means for the caller.
pub(crate) fn said(error: &tokio_postgres::Error) -> DbError {
    let Some(server) = error.as_db_error() else {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            text = format!("{text}: {inner}");
            source = inner.source();
        }
        // The client's own complaints about types are our mistakes; all else is the network.
        let ours = text.contains("serializing parameter") || text.contains("deserializing column");
        return if ours { DbError::Internal(text) } else { DbError::Unavailable(text) };
    };
    let text = server.message().to_owned();
    match *server.code() {
        SqlState::UNIQUE_VIOLATION => {
            DbError::Conflict(constraint_named(server.constraint().unwrap_or_default()))
        }
        SqlState::READ_ONLY_SQL_TRANSACTION => DbError::ReadOnly(text),
        SqlState::DISK_FULL => DbError::Full(text),
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => DbError::Corrupt(text),
        SqlState::QUERY_CANCELED => DbError::Unavailable("the query took too long".into()),
        SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED => DbError::Unavailable(text),
        ref code => match &code.code()[..2] {
            // connection, resources, operator intervention, system error,
            // authorization, and a database that does not exist
            "08" | "53" | "57" | "58" | "28" | "3D" => DbError::Unavailable(text),
            _ => DbError::Internal(format!("{} ({})", text, code.code())),
        },
    }
}
