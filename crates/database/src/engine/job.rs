//! A closure on its way to a database thread, the queue it waits in, and how long it may wait.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::Tx;
use crate::error::DbError;

/// How many closures may wait for a database thread. A caller beyond that waits for room, within its
/// own deadline.
pub const QUEUE_LIMIT: usize = 4096;

/// A point on the monotonic clock. It only ever ends a wait; it never becomes a fact in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    #[expect(clippy::disallowed_methods, reason = "ends waits only; the time in rows is an argument")]
    fn clock() -> Instant {
        Instant::now()
    }

    pub(crate) fn after(wait: Duration) -> Deadline {
        Deadline(Self::clock() + wait)
    }

    /// Nothing once it has passed.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Self::clock())
    }

    pub(crate) fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// What a database thread does with a closure, whatever it returns.
pub(crate) trait Work: Send {
    /// Runs the closure, keeps what it returned, and says whether to commit. A panic is caught.
    fn run(&mut self, tx: &Tx<'_>) -> bool;
    /// Tells the caller: what the closure returned, or `failure` where that came to nothing.
    fn answer(self: Box<Self>, failure: Option<DbError>);
}

/// A closure in the queue.
pub(crate) struct Job {
    pub(crate) work: Box<dyn Work>,
    pub(crate) is_write: bool,
    /// A closure that has not begun by then is never begun: its caller has been told so.
    pub(crate) begin_by: Deadline,
    /// How long it may run once it has begun.
    pub(crate) may_take: Duration,
    /// Room in the queue; given back when the job is done.
    pub(crate) _room: OwnedSemaphorePermit,
}

impl Job {
    pub(crate) fn answer(self, failure: Option<DbError>) {
        self.work.answer(failure);
    }
}

/// A caller's closure and where to send what comes of it.
pub(crate) struct Errand<F, T, E> {
    closure: F,
    result: Option<Result<T, E>>,
    caller: oneshot::Sender<Result<T, E>>,
}

impl<F, T, E> Errand<F, T, E> {
    pub(crate) fn new(closure: F) -> (Box<Self>, oneshot::Receiver<Result<T, E>>) {
        let (caller, answer) = oneshot::channel();
        (Box::new(Errand { closure, result: None, caller }), answer)
    }
}

impl<F, T, E> Work for Errand<F, T, E>
where
    F: Fn(&Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<DbError> + Send,
{
    fn run(&mut self, tx: &Tx<'_>) -> bool {
        // What the closure half changed in memory dies with it: it owns what it captured, and the
        // transaction is rolled back.
        let mut result = catch_unwind(AssertUnwindSafe(|| (self.closure)(tx))).unwrap_or_else(|panic| {
            Err(DbError::Internal(format!("a database closure panicked: {}", panic_text(&*panic))).into())
        });
        if result.is_ok()
            && let Err(error) = tx.finish()
        {
            result = Err(error.into());
        }
        let commit = result.is_ok();
        self.result = Some(result);
        commit
    }

    fn answer(self: Box<Self>, failure: Option<DbError>) {
        let result = match (failure, self.result) {
            (Some(failure), _) => Err(failure.into()),
            (None, Some(result)) => result,
            (None, None) => Err(DbError::Internal("a closure was answered without being run".into()).into()),
        };
        // The caller may have gone; the work is done all the same.
        drop(self.caller.send(result));
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)")
}

/// A bounded queue that threads wait on.
pub(crate) struct Queue {
    room: Arc<Semaphore>,
    inner: Mutex<Waiting>,
    /// Rung for those who wait for jobs, and for nobody else: a bell that wakes one must wake one who cares.
    arrived: Condvar,
    /// Rung for those who wait for the end.
    ended: Condvar,
    closing: Notify,
}

struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
    /// Why nobody can serve the queue now; callers are told at once.
    down: Option<String>,
}

impl Queue {
    pub(crate) fn new() -> Arc<Queue> {
        Arc::new(Queue {
            room: Arc::new(Semaphore::new(QUEUE_LIMIT)),
            inner: Mutex::new(Waiting { jobs: VecDeque::new(), closed: false, down: None }),
            arrived: Condvar::new(),
            ended: Condvar::new(),
            closing: Notify::new(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // A panic cannot leave the deque half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room in the queue.
    pub(crate) async fn room(&self) -> Result<OwnedSemaphorePermit, DbError> {
        self.refusal()?;
        Arc::clone(&self.room).acquire_owned().await.map_err(|_| closed())
    }

    fn refusal(&self) -> Result<(), DbError> {
        let waiting = self.lock();
        match &waiting.down {
            _ if waiting.closed => Err(closed()),
            Some(why) => Err(DbError::Unavailable(why.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn push(&self, job: Job) -> Result<(), DbError> {
        self.refusal()?;
        self.lock().jobs.push_back(job);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next job that may still begin; none once the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            match waiting.jobs.pop_front() {
                Some(job) if job.begin_by.passed() => {
                    drop(waiting);
                    job.answer(Some(DbError::Unavailable("no database thread was free in time".into())));
                    waiting = self.lock();
                }
                Some(job) => return Some(job),
                None if waiting.closed => return None,
                None => {
                    waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Up to `limit` jobs that already wait.
    pub(crate) fn take(&self, limit: usize) -> Vec<Job> {
        let mut waiting = self.lock();
        let many = waiting.jobs.len().min(limit);
        waiting.jobs.drain(..many).collect()
    }

    /// No one can serve the queue: tell those who wait, and whoever comes.
    pub(crate) fn set_down(&self, why: &str) {
        let jobs = {
            let mut waiting = self.lock();
            waiting.down = Some(why.to_owned());
            std::mem::take(&mut waiting.jobs)
        };
        for job in jobs {
            job.answer(Some(DbError::Unavailable(why.to_owned())));
        }
    }

    /// The queue is served again.
    pub(crate) fn set_up(&self) {
        self.lock().down = None;
    }

    /// Waits, but not once the queue is closed. Says whether it is.
    pub(crate) fn closed_within(&self, wait: Duration) -> bool {
        let until = Deadline::after(wait);
        let mut waiting = self.lock();
        while !waiting.closed && !until.passed() {
            waiting =
                self.ended.wait_timeout(waiting, until.left()).unwrap_or_else(PoisonError::into_inner).0;
        }
        waiting.closed
    }

    /// Ends when the queue is closed.
    pub(crate) async fn until_closed(&self) {
        loop {
            // Asked for first, so that a close in between is not missed.
            let closing = self.closing.notified();
            if self.lock().closed {
                return;
            }
            closing.await;
        }
    }

    /// No more jobs; those that wait are still done.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.closing.notify_waiters();
        self.arrived.notify_all();
        self.ended.notify_all();
    }
}

fn closed() -> DbError {
    DbError::Unavailable("this database has been closed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that pauses between two attempts to connect must not take the bell from one that works.
    #[test]
    fn the_bell_wakes_a_thread_that_serves() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for _ in 0..50 {
            let queue = Queue::new();
            let pausing: Vec<_> = (0..3)
                .map(|_| {
                    let queue = Arc::clone(&queue);
                    std::thread::spawn(move || queue.closed_within(Duration::from_secs(60)))
                })
                .collect();
            let serving = {
                let queue = Arc::clone(&queue);
                std::thread::spawn(move || queue.pop().map(|job| job.answer(Some(DbError::StaleVersion))))
            };
            let (work, answer) = Errand::new(|_: &Tx<'_>| Ok::<(), DbError>(()));
            let room = runtime.block_on(queue.room()).unwrap();
            let wait = Duration::from_secs(60);
            let job =
                Job { work, is_write: true, begin_by: Deadline::after(wait), may_take: wait, _room: room };
            queue.push(job).unwrap_or_else(|_| panic!("it takes jobs"));
            assert_eq!(runtime.block_on(answer), Ok(Err(DbError::StaleVersion)));
            queue.close();
            assert_eq!(serving.join().unwrap(), Some(()));
            assert!(pausing.into_iter().all(|thread| thread.join().unwrap()));
        }
    }
}
