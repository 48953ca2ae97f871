//! How much one address may ask without proof: requests with no key or a wrong one, callbacks with a wrong signature. Whoever
//! proves who they are is never held back here, not even beside a stranger who shares their address.
//!
//! Which address that is, is told by the connection; a proxy that the settings trust tells for whom it asks.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap, HeaderName};

use super::Allowance;
use crate::clock::Clock;
use crate::config::{self, Network};

/// The most addresses that are known at once. Beyond that, all further ones share one allowance.
const SOURCES_MAX: usize = 10_000;
/// The most keys that are remembered as good.
const PROVEN_MAX: usize = 10_000;
/// How often a full table is swept at most.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The most entries of `X-Forwarded-For` that are looked at.
const HOPS_MAX: usize = 20;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where a request came from: an IPv4 address, or the network of an IPv6 address, since who has one has all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

/// Those for whom the table has no room.
const EVERYBODY_ELSE: Source = Source(IpAddr::V6(Ipv6Addr::UNSPECIFIED));

impl Source {
    fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                Source(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))))
            }
            address @ IpAddr::V4(_) => Source(address),
        }
    }
}

/// What every address may still ask without proof.
pub struct Unproven {
    clock: Arc<dyn Clock>,
    proxies: Vec<Network>,
    burst: u32,
    per_second: u32,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// For each source, when its allowance is whole again: the "theoretical arrival time" of the generic cell rate algorithm.
    whole_at: HashMap<Source, Duration>,
    swept_at: Duration,
    /// Keys that were good lately, by the hash of their secret, in two generations.
    younger: HashSet<[u8; 32]>,
    elder: HashSet<[u8; 32]>,
}

impl Unproven {
    /// Nobody has asked yet.
    pub fn new(limits: &config::Limits, proxies: Vec<Network>, clock: Arc<dyn Clock>) -> Unproven {
        Unproven {
            clock,
            proxies,
            burst: limits.unproven_burst.max(1),
            per_second: limits.unproven_per_second.max(1),
            known: Mutex::default(),
        }
    }

    /// Where a request came from; nothing where it came over no connection.
    pub fn source(&self, extensions: &Extensions, headers: &HeaderMap) -> Option<Source> {
        let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
        let mut address = peer.ip();
        let told = headers.get_all(&X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<&str> = told.flat_map(|value| value.split(',')).collect();
        // Each hop is believed only as far as the one behind it is trusted; what a stranger wrote in front of it counts for nothing.
        for hop in hops.iter().rev().take(HOPS_MAX) {
            if !self.proxies.iter().any(|proxy| proxy.contains(address)) {
                break;
            }
            let Some(before) = address_of(hop) else { break };
            address = before;
        }
        Some(Source::of(address))
    }

    /// One request without proof.
    pub fn ask(&self, source: Source) -> Allowance {
        let now = self.clock.monotonic();
        let mut known = self.lock();
        let source = known.place(source, now);
        let whole_at = known.whole_at.get(&source).copied().unwrap_or_default().max(now);
        let next = whole_at + self.interval();
        if next.saturating_sub(now) > self.interval() * self.burst {
            return self.allowance(whole_at, now, true);
        }
        known.whole_at.insert(source, next);
        self.allowance(next, now, false)
    }

    /// Whether a source has used up what it may ask; asking this costs it nothing.
    pub fn is_over(&self, source: Source) -> bool {
        let now = self.clock.monotonic();
        let mut known = self.lock();
        let source = known.place(source, now);
        let whole_at = known.whole_at.get(&source).copied().unwrap_or_default().max(now);
        (whole_at + self.interval()).saturating_sub(now) > self.interval() * self.burst
    }

    /// Remembers that a key was good.
    pub fn note_proven(&self, secret_hash: [u8; 32]) {
        let mut known = self.lock();
        if known.younger.len() >= PROVEN_MAX / 2 {
            known.elder = std::mem::take(&mut known.younger);
        }
        known.younger.insert(secret_hash);
    }

    /// Whether a key was good lately. Whether it still is has to be looked up.
    pub fn was_proven(&self, secret_hash: &[u8; 32]) -> bool {
        let known = self.lock();
        known.younger.contains(secret_hash) || known.elder.contains(secret_hash)
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.per_second
    }

    fn allowance(&self, whole_at: Duration, now: Duration, is_over: bool) -> Allowance {
        let ahead = whole_at.saturating_sub(now);
        let used = u32::try_from(ahead.as_nanos().div_ceil(self.interval().as_nanos().max(1)))
            .unwrap_or(u32::MAX)
            .min(self.burst);
        let free_in = (ahead + self.interval()).saturating_sub(self.interval() * self.burst);
        Allowance {
            limit: self.burst,
            remaining: if is_over { 0 } else { self.burst - used },
            reset_s: seconds_up(ahead),
            retry_after_s: is_over.then(|| seconds_up(free_in).max(1)),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        // Nothing in here can panic half way through a change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Where a source is counted: in a place of its own, as long as there is room.
    fn place(&mut self, source: Source, now: Duration) -> Source {
        if self.whole_at.len() < SOURCES_MAX || self.whole_at.contains_key(&source) {
            return source;
        }
        if now.saturating_sub(self.swept_at) >= SWEEP_EVERY {
            self.swept_at = now;
            self.whole_at.retain(|_, whole_at| *whole_at > now);
        }
        if self.whole_at.len() < SOURCES_MAX { source } else { EVERYBODY_ELSE }
    }
}

/// Some proxies write the port too.
fn address_of(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

fn seconds_up(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;

    fn unproven(proxies: &[&str]) -> (Unproven, Arc<TestClock>) {
        let clock = Arc::new(TestClock::at("2026-11-21T22:00:00Z".parse().unwrap()));
        let limits =
            config::Limits { unproven_per_second: 2, unproven_burst: 3, ..config::Limits::default() };
        let proxies = proxies.iter().map(|text| text.parse().unwrap()).collect();
        (Unproven::new(&limits, proxies, clock.clone()), clock)
    }

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn an_address_that_proves_nothing_waits_and_others_do_not() {
        let (unproven, clock) = unproven(&[]);
        let stranger = source("203.0.113.7");
        let remaining: Vec<u32> = (0..3).map(|_| unproven.ask(stranger).remaining).collect();
        assert_eq!(remaining, [2, 1, 0]);
        assert!(unproven.is_over(stranger));
        let refused = unproven.ask(stranger);
        assert_eq!(refused, Allowance { limit: 3, remaining: 0, reset_s: 2, retry_after_s: Some(1) });
        assert!(!unproven.is_over(source("203.0.113.8")));
        clock.advance(Duration::from_millis(500));
        assert!(!unproven.is_over(stranger), "asking in vain did not prolong it");
        assert_eq!(unproven.ask(stranger).retry_after_s, None);
    }

    #[test]
    fn the_table_is_bounded_and_finds_room_again() {
        let (unproven, clock) = unproven(&[]);
        for n in 0..u32::try_from(SOURCES_MAX).unwrap() + 500 {
            unproven.ask(Source::of(IpAddr::V4(n.into())));
        }
        let known = unproven.lock().whole_at.len();
        assert_eq!(known, SOURCES_MAX + 1, "one place is for everybody else");
        assert!(unproven.is_over(source("203.0.113.7")), "who has no place of their own shares one");
        clock.advance(Duration::from_secs(2));
        assert!(!unproven.is_over(source("203.0.113.7")));
        assert_eq!(unproven.lock().whole_at.len(), 0);
    }

    #[test]
    fn keys_that_were_good_are_remembered_within_bounds() {
        let (unproven, _) = unproven(&[]);
        let key = |n: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_be_bytes());
            hash
        };
        for n in 0..3 * PROVEN_MAX {
            unproven.note_proven(key(n));
        }
        assert!(unproven.was_proven(&key(3 * PROVEN_MAX - 1)) && !unproven.was_proven(&key(0)));
        let known = unproven.lock();
        assert!(known.younger.len() + known.elder.len() <= PROVEN_MAX);
    }

    #[test]
    fn only_trusted_proxies_tell_for_whom_they_ask() {
        let (unproven, _) = unproven(&["10.0.0.0/8", "2001:db8::/64"]);
        for (peer, forwarded, expected) in [
            ("203.0.113.7:1", vec![], "203.0.113.7"),
            ("203.0.113.7:1", vec!["198.51.100.1"], "203.0.113.7"),
            ("10.0.0.1:1", vec!["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", vec!["198.51.100.1:4711"], "198.51.100.1"),
            ("10.0.0.1:1", vec!["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", vec!["1.1.1.1, 198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1:1", vec!["1.1.1.1", "198.51.100.1", "10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1:1", vec!["unknown"], "10.0.0.1"),
            ("10.0.0.1:1", vec![], "10.0.0.1"),
            ("[::ffff:10.0.0.1]:1", vec!["198.51.100.1"], "198.51.100.1"),
            ("[2001:db8::1]:1", vec!["2001:db8:5::7"], "2001:db8:5::"),
            ("[2001:db8:9::1]:1", vec!["198.51.100.1"], "2001:db8:9::"),
        ] {
            let mut extensions = Extensions::new();
            extensions.insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
            let mut headers = HeaderMap::new();
            for value in &forwarded {
                headers.append(&X_FORWARDED_FOR, value.parse().unwrap());
            }
            let found = unproven.source(&extensions, &headers);
            assert_eq!(found, Some(source(expected)), "{peer} {forwarded:?}");
        }
        assert_eq!(unproven.source(&Extensions::new(), &HeaderMap::new()), None);
    }
}
