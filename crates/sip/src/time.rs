//! The clock that others read for us: a point on a monotonic time line whose zero the caller chooses.
//!
//! Nothing in this crate asks what time it is. Each call that can depend on time takes `now`, and a test may let a
//! year pass between two lines.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment, counted from an epoch that the caller chose (the start of the process, or the start of a test).
///
/// ```
/// use sip::Instant;
/// use std::time::Duration;
/// let start = Instant::ZERO;
/// let later = start + Duration::from_millis(500);
/// assert_eq!(later - start, Duration::from_millis(500));
/// assert_eq!(start - later, Duration::ZERO, "differences never go below zero");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The epoch itself.
    pub const ZERO: Instant = Instant(0);

    /// The moment that lies `since_epoch` after the epoch; what is beyond 584 years is held there.
    #[must_use]
    pub fn from_epoch(since_epoch: Duration) -> Instant {
        Instant(u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The time since the epoch.
    pub fn since_epoch(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Whole milliseconds since the epoch, rounded up, so that a timer never fires early.
    pub(crate) fn millis_up(self) -> u64 {
        self.0.div_ceil(1_000_000)
    }

    /// Whole milliseconds since the epoch, rounded down.
    pub(crate) fn millis_down(self) -> u64 {
        self.0 / 1_000_000
    }

    pub(crate) fn from_millis(millis: u64) -> Instant {
        Instant(millis.saturating_mul(1_000_000))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.since_epoch())
    }
}
