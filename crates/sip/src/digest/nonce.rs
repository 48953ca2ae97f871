//! Nonces that need no memory until they are answered rightly.
//!
//! A nonce is the time it was made, a serial number, and a MAC over both and the realm's label. Those that were
//! answered are remembered with their last count, oldest first out; what was forgotten is stale, never fresh again.

use std::collections::BTreeMap;

use crate::keyed::{Key, Keys};
use crate::limits::{NONCE_LIFETIME, NONCES_MAX};
use crate::time::Instant;

/// When a nonce was made, in milliseconds, and which one of that moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Issued(u64, u64);

pub(super) enum Use {
    Fresh,
    Stale,
    Replay,
}

pub(super) struct Nonces {
    key: Key,
    serial: u64,
    /// Those that were answered, and their highest count.
    used: BTreeMap<Issued, u32>,
    /// All up to this one are stale.
    forgotten: Option<Issued>,
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Nonces({} used)", self.used.len())
    }
}

impl Nonces {
    pub(super) fn new(keys: &Keys) -> Nonces {
        let key = Key::derive(&keys.unique, "nonces");
        Nonces { key, serial: 0, used: BTreeMap::new(), forgotten: None }
    }

    pub(super) fn len(&self) -> usize {
        self.used.len()
    }

    pub(super) fn make(&mut self, now: Instant, realm: &str) -> String {
        self.serial = self.serial.wrapping_add(1);
        let issued = Issued(now.millis_down(), self.serial);
        format!("{:016x}{:016x}{:016x}", issued.0, issued.1, self.mac(issued, realm))
    }

    /// The same for a realm always; a client has to give it back, and nothing depends on it.
    pub(super) fn opaque(&self, realm: &str) -> String {
        format!("{:016x}", self.key.mac(&[b"opaque", realm.as_bytes()]))
    }

    fn mac(&self, issued: Issued, realm: &str) -> u64 {
        self.key.mac(&[&issued.0.to_be_bytes(), &issued.1.to_be_bytes(), realm.as_bytes()])
    }

    /// What a nonce says, if it is ours and for this realm.
    pub(super) fn read(&self, nonce: &[u8], realm: &str) -> Option<Issued> {
        let text = std::str::from_utf8(nonce).ok().filter(|text| text.len() == 48 && text.is_ascii())?;
        let part = |at: usize| u64::from_str_radix(text.get(at..at + 16)?, 16).ok();
        let issued = Issued(part(0)?, part(16)?);
        (part(32)? == self.mac(issued, realm)).then_some(issued)
    }

    /// Uses a count of a nonce up.
    pub(super) fn use_once(&mut self, now: Instant, issued: Issued, count: u32) -> Use {
        let now = now.millis_down();
        let lifetime = u64::try_from(NONCE_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let oldest = now.saturating_sub(lifetime);
        while let Some(entry) = self.used.first_entry()
            && entry.key().0 < oldest
        {
            // Forgotten for good, even if the clock should run back.
            self.forgotten = self.forgotten.max(Some(*entry.key()));
            entry.remove();
        }
        if issued.0 < oldest || issued.0 > now || self.forgotten.is_some_and(|forgotten| issued <= forgotten)
        {
            return Use::Stale;
        }
        let last = self.used.entry(issued).or_insert(0);
        if count <= *last {
            return Use::Replay;
        }
        *last = count;
        if self.used.len() > NONCES_MAX
            && let Some((first, _)) = self.used.pop_first()
        {
            self.forgotten = self.forgotten.max(Some(first));
        }
        Use::Fresh
    }
}
