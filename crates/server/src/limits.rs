//! Rate limits, by the generic cell rate algorithm: how much one API key may ask, and how much one address without proof. And how
//! many may listen to events at once.

mod listeners;
mod unproven;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use domain::id::KeyId;
use governor::clock::Reference as _;
use governor::middleware::{NoOpMiddleware, StateInformationMiddleware};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

pub use self::listeners::{Full, Listeners, Listening};
pub use self::unproven::{Source, Unproven};
use crate::clock::Clock;
use crate::config;

/// How often keys that have not asked for long are forgotten, counted in requests.
const FORGET_EVERY: u64 = 10_000;

type ByKey = RateLimiter<KeyId, DashMapStateStore<KeyId>, Monotonic, StateInformationMiddleware>;

/// What every key may still ask.
pub struct Limits {
    by_key: ByKey,
    per_second: u32,
    burst: u32,
    asked: std::sync::atomic::AtomicU64,
}

/// What one key or address may still ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Requests that it may make at once when it has rested.
    pub limit: u32,
    /// Requests that it may make now.
    pub remaining: u32,
    /// Seconds until it has the whole limit again.
    pub reset_s: u64,
    /// Where it may not ask now: seconds until it may.
    pub retry_after_s: Option<u64>,
}

impl Limits {
    /// Nobody has asked yet.
    pub fn new(limits: &config::Limits, clock: Arc<dyn Clock>) -> Limits {
        let at_least_one = |count: u32| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let (per_second, burst) =
            (at_least_one(limits.requests_per_second), at_least_one(limits.requests_burst));
        let quota = Quota::per_second(per_second).allow_burst(burst);
        Limits {
            by_key: RateLimiter::<_, _, _, NoOpMiddleware<Duration>>::new(
                quota,
                DashMapStateStore::default(),
                Monotonic(clock),
            )
            .with_middleware(),
            per_second: per_second.get(),
            burst: burst.get(),
            asked: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// One request of this key.
    pub fn ask(&self, key: KeyId) -> Allowance {
        let asked = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if asked % FORGET_EVERY == FORGET_EVERY - 1 {
            self.by_key.retain_recent();
        }
        let (remaining, retry_after_s) = match self.by_key.check_key(&key) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(refused) => {
                let now = governor::clock::Clock::now(self.by_key.clock());
                let wait = Duration::from(refused.earliest_possible().duration_since(now));
                (0, Some(wait.as_millis().div_ceil(1000).try_into().unwrap_or(1).max(1)))
            }
        };
        let reset_s = u64::from((self.burst - remaining.min(self.burst)).div_ceil(self.per_second));
        Allowance { limit: self.burst, remaining, reset_s, retry_after_s }
    }
}

/// Our clock, as the limiter asks it.
#[derive(Clone, Debug)]
struct Monotonic(Arc<dyn Clock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;

    #[test]
    fn a_key_that_asks_too_much_waits_and_others_do_not() {
        let clock = Arc::new(TestClock::at("2026-11-21T22:00:00Z".parse().unwrap()));
        let settings =
            config::Limits { requests_per_second: 2, requests_burst: 3, ..config::Limits::default() };
        let limits = Limits::new(&settings, clock.clone());
        let (key, other) = (KeyId::from_bits(1), KeyId::from_bits(2));
        let remaining: Vec<u32> = (0..3).map(|_| limits.ask(key).remaining).collect();
        assert_eq!(remaining, [2, 1, 0]);
        assert_eq!(limits.ask(key), Allowance { limit: 3, remaining: 0, reset_s: 2, retry_after_s: Some(1) });
        assert_eq!(limits.ask(other).retry_after_s, None);
        clock.advance(Duration::from_millis(500));
        assert_eq!(limits.ask(key).retry_after_s, None);
    }
}
