//! The only file that asks what time it is; everything else is told. Tests use a [`TestClock`] and turn its hands.
//!
//! What it leaves to others: waiting. Time-outs and sleeps are tokio's.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall's time: may jump, both ways.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment: never goes back. For measuring durations.
    fn monotonic(&self) -> Duration;

    /// The clock of the database server, as it has just told it, to hold against ours. None where it is ours.
    fn server(&self, told: Option<Timestamp>) -> Option<Timestamp> {
        told
    }
}

/// The machine's own clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// Starts counting monotonic time from now.
    #[expect(clippy::disallowed_methods, reason = "this is the one file that may ask the time")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one file that may ask the time")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// A clock that stands still until a test advances it.
#[derive(Debug)]
pub struct TestClock {
    wall_ms: AtomicI64,
    monotonic_ms: AtomicU64,
    server_ms: AtomicI64,
}

/// No clock of a server stands beside the test's.
const NO_SERVER: i64 = i64::MIN;

impl TestClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self {
            wall_ms: AtomicI64::new(now.as_millisecond()),
            monotonic_ms: AtomicU64::new(0),
            server_ms: AtomicI64::new(NO_SERVER),
        }
    }

    /// Lets `by` pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.monotonic_ms.fetch_add(by_ms, Ordering::SeqCst);
        self.wall_ms.fetch_add(i64::try_from(by_ms).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the wall clock alone, back or forth, as an operator or NTP may do.
    pub fn wall_set(&self, now: Timestamp) {
        self.wall_ms.store(now.as_millisecond(), Ordering::SeqCst);
    }

    /// Sets what the database server's clock shows. Until then the test's clock stands for that one too.
    pub fn server_set(&self, now: Timestamp) {
        self.server_ms.store(now.as_millisecond(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.wall_ms.load(Ordering::SeqCst))
            .expect("only ever set from a timestamp, and advanced by what tests need")
    }

    fn server(&self, _: Option<Timestamp>) -> Option<Timestamp> {
        let server_ms = self.server_ms.load(Ordering::SeqCst);
        (server_ms != NO_SERVER)
            .then(|| Timestamp::from_millisecond(server_ms).expect("set from a timestamp"))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_clock_moves_only_when_told() {
        let start: Timestamp = "2026-11-21T22:00:00Z".parse().unwrap();
        let clock = TestClock::at(start);
        assert_eq!(clock.now(), start);
        clock.advance(Duration::from_secs(90));
        assert_eq!(clock.now().to_string(), "2026-11-21T22:01:30Z");
        assert_eq!(clock.monotonic(), Duration::from_secs(90));
        clock.wall_set(start);
        assert_eq!(clock.now(), start);
        assert_eq!(clock.monotonic(), Duration::from_secs(90), "the monotonic clock never goes back");
    }

    #[test]
    fn the_system_clock_runs() {
        let clock = SystemClock::new();
        let before = clock.monotonic();
        assert!(clock.monotonic() >= before);
        assert!(clock.now() > "2026-01-01T00:00:00Z".parse().unwrap());
    }
}
