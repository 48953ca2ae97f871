//! The threads that serve the queue, each with a connection that it replaces when need be.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::rand::SecureRandom as _;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, watch};
use tracing::{info, warn};

use super::session::Attempt;
use super::{BACKOFF_FIRST, BACKOFF_MOST, Server, Session, listen, runtime};
use crate::engine::Settings;
use crate::engine::job::{Deadline, Job, Queue};
use crate::error::DbError;

/// How often a transaction that loses races is run again.
const RACE_LIMIT: u32 = 10;

/// The longest pause before such a run; the first is much shorter.
const RACE_PAUSE: Duration = Duration::from_millis(50);

/// How long a transaction may sit idle: a node that was paused in one must not stop the others.
const IDLE_MOST: Duration = Duration::from_secs(15);

/// How often an outage is told of again while it lasts.
const OUTAGE_TOLD_EVERY: Duration = Duration::from_secs(60);

/// Tells of an outage once for all threads, and again each minute: when the database is away, logs must be readable.
#[derive(Default)]
struct Outage {
    /// When it is told of again; `None` while there is none.
    again: Mutex<Option<Deadline>>,
}

impl Outage {
    /// Whether it is to be told of now.
    fn is_due(&self) -> bool {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = again.is_none_or(Deadline::passed);
        if is_due {
            *again = Some(Deadline::after(OUTAGE_TOLD_EVERY));
        }
        is_due
    }

    /// It is over.
    fn end(&self) {
        *self.again.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Starts the threads. They end when the queue is closed and empty.
pub(in crate::engine) fn start(
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
    let outage = Arc::new(Outage::default());
    for number in 0..settings.postgres_connections.max(1) {
        let worker = Worker {
            server: server.clone(),
            queue: Arc::clone(queue),
            changes: changes.clone(),
            tell: Arc::clone(&tell),
            connected: Arc::clone(&connected),
            outage: Arc::clone(&outage),
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
                listen::listen(&server, &queue, &changes, &tell);
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
    outage: Arc<Outage>,
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
                        let why = match &error {
                            DbError::Unavailable(why) => why.clone(),
                            other => other.to_string(),
                        };
                        self.queue.set_down(&why);
                    }
                    if self.outage.is_due() {
                        warn!("PostgreSQL cannot be reached and is tried again: {error}");
                    }
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
            self.outage.end();
            self.queue.set_up();
            while !session.is_broken() {
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
                Attempt::LostRace if race < RACE_LIMIT && !session.is_broken() => {
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
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut byte = [0; 1];
    // Without a random byte the pause is merely less random.
    let _ = ring::rand::SystemRandom::new().fill(&mut byte);
    pause / 2 + pause / 2 * u32::from(byte[0]) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_of_once_until_it_is_over() {
        let outage = Outage::default();
        assert_eq!([outage.is_due(), outage.is_due(), outage.is_due()], [true, false, false]);
        outage.end();
        assert_eq!([outage.is_due(), outage.is_due()], [true, false]);
    }
}
