//! The ids of calls, and when they were first heard of. An id is a keyed hash of what the carrier calls the call: nobody can
//! guess it, and every node gives the same call the same id, however often and wherever a callback arrives. The moments of calls
//! of the last minutes are remembered, so that a callback that comes twice to one node gets the same answer to the letter.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use domain::call::Ingress;
use domain::id::CallId;
use jiff::Timestamp;
use ring::hmac;

/// How long a call is remembered at least, in milliseconds: carriers repeat a callback within seconds.
const REMEMBERED_MS: i64 = 60_000;
/// The most calls that are remembered in one such time. Beyond it, a repeated callback may be decided at another moment.
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
    younger: HashMap<CallId, i64>,
    elder: HashMap<CallId, i64>,
}

impl CallIds {
    pub(super) fn new(key: &[u8]) -> CallIds {
        CallIds { key: hmac::Key::new(hmac::HMAC_SHA256, key), seen: Mutex::default() }
    }

    /// The id of a call.
    pub(super) fn id(&self, ingress: Ingress, carrier_call_id: &str) -> CallId {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&ingress.get().to_be_bytes());
        context.update(carrier_call_id.as_bytes());
        let tag = context.sign();
        let bits = tag.as_ref()[..16].try_into().expect("a tag has 32 bytes");
        CallId::from_bits(u128::from_be_bytes(bits))
    }

    /// When a call was first heard of, here.
    pub(super) fn first_heard(&self, id: CallId, now: Timestamp) -> Timestamp {
        // Nothing in here can panic half way through a change.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Timestamp::from_millisecond(seen.first(id, now.as_millisecond())).unwrap_or(now)
    }
}

impl Seen {
    fn first(&mut self, id: CallId, now_ms: i64) -> i64 {
        if now_ms - self.since_ms > REMEMBERED_MS || self.younger.len() >= REMEMBERED_MAX {
            self.elder = std::mem::take(&mut self.younger);
            self.since_ms = now_ms;
        }
        if let Some(&first) = self.elder.get(&id) {
            return first;
        }
        *self.younger.entry(id).or_insert(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_one_id_on_every_node() {
        let (here, there) = (CallIds::new(b"key"), CallIds::new(b"key"));
        let id = here.id(Ingress::STORE, "CA1");
        assert_eq!(there.id(Ingress::STORE, "CA1"), id);
        for other in [
            here.id(Ingress::STORE, "CA2"),
            here.id(Ingress::new(1).unwrap(), "CA1"),
            CallIds::new(b"other").id(Ingress::STORE, "CA1"),
        ] {
            assert_ne!(other, id);
        }
    }

    #[test]
    fn a_call_is_heard_of_first_once() {
        let ids = CallIds::new(b"key");
        let at = |ms: i64| Timestamp::from_millisecond(1_800_000_000_000 + ms).unwrap();
        let id = ids.id(Ingress::STORE, "CA1");
        for ms in [0, 1, 30_000, 60_000, 61_000] {
            assert_eq!(ids.first_heard(id, at(ms)), at(0), "{ms}");
        }
        assert_eq!(ids.first_heard(ids.id(Ingress::STORE, "CA2"), at(1)), at(1));
    }
}
