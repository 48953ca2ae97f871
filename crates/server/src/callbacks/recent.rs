//! The ids of calls. An id is made of the moment at which a call was first heard of, so that ids sort by age, and of a keyed
//! hash of what the carrier calls it, so that nobody can guess it. The moments of calls of the last minutes are remembered, so
//! that a callback that comes twice gives the same answer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use domain::call::Ingress;
use domain::id::CallId;
use jiff::Timestamp;
use ring::hmac;

/// How long a call is remembered at least, in milliseconds: carriers repeat a callback within seconds.
const REMEMBERED_MS: i64 = 60_000;
/// The most calls that are remembered in one such time. Beyond it, a repeated callback may get another id.
const REMEMBERED_MAX: usize = 100_000;

/// Gives ids to calls.
pub(super) struct CallIds {
    key: hmac::Key,
    seen: Mutex<Seen>,
}

/// Two generations: when the younger is old enough, it takes the place of the elder.
#[derive(Default)]
struct Seen {
    since_ms: i64,
    younger: HashMap<u128, i64>,
    elder: HashMap<u128, i64>,
}

impl CallIds {
    pub(super) fn new(key: &[u8]) -> CallIds {
        CallIds { key: hmac::Key::new(hmac::HMAC_SHA256, key), seen: Mutex::default() }
    }

    /// The id of a call, and when it was first heard of.
    pub(super) fn id(&self, ingress: Ingress, carrier_call_id: &str, now: Timestamp) -> (CallId, Timestamp) {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&ingress.0.to_be_bytes());
        context.update(carrier_call_id.as_bytes());
        let tag = context.sign();
        let hash = u128::from_be_bytes(tag.as_ref()[..16].try_into().expect("a tag has 32 bytes"));
        // Nothing in here can panic half way through a change.
        let first_ms =
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).first(hash, now.as_millisecond());
        let first = Timestamp::from_millisecond(first_ms).unwrap_or(now);
        (CallId::new(first, hash), first)
    }
}

impl Seen {
    fn first(&mut self, hash: u128, now_ms: i64) -> i64 {
        if now_ms - self.since_ms > REMEMBERED_MS || self.younger.len() >= REMEMBERED_MAX {
            self.elder = std::mem::take(&mut self.younger);
            self.since_ms = now_ms;
        }
        if let Some(&first) = self.elder.get(&hash) {
            return first;
        }
        *self.younger.entry(hash).or_insert(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_keeps_its_id_and_later_calls_sort_later() {
        let ids = CallIds::new(b"key");
        let at = |ms: i64| Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap();
        let (first, heard) = ids.id(Ingress::STORE, "CA1", at(0));
        assert_eq!(heard, at(0));
        for ms in [1, 30_000, 60_000, 61_000] {
            assert_eq!(ids.id(Ingress::STORE, "CA1", at(ms)), (first, at(0)), "{ms}");
        }
        let (second, _) = ids.id(Ingress::STORE, "CA2", at(1));
        assert!(second > first);
        assert_ne!(ids.id(Ingress(1), "CA1", at(0)).0, first);
        assert_ne!(CallIds::new(b"other").id(Ingress::STORE, "CA1", at(0)).0, first);
    }
}
