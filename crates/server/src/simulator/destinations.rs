//! Who answers when a call goes out to a telephone or a SIP address: nobody real, so a test says what each one does.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most destinations that can be set.
const DESTINATIONS_MAX: usize = 10_000;

/// What happens when a destination is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Behaviour {
    /// It rings, and somebody picks up.
    #[default]
    Answer,
    /// The line is engaged.
    Busy,
    /// It rings and rings.
    NoAnswer,
    /// It cannot be reached at all.
    Failed,
    /// Somebody declines.
    Reject,
}

/// A destination's behaviour and its times. The times are divided by the time scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Destination {
    #[serde(default)]
    pub(crate) behaviour: Behaviour,
    /// How long it rings before it does what it does.
    #[serde(default = "ring_ms")]
    ring_ms: u64,
    /// How long somebody who answered talks before hanging up.
    #[serde(default = "talk_ms")]
    talk_ms: u64,
}

fn ring_ms() -> u64 {
    50
}

fn talk_ms() -> u64 {
    1_000
}

impl Default for Destination {
    fn default() -> Self {
        Self { behaviour: Behaviour::Answer, ring_ms: ring_ms(), talk_ms: talk_ms() }
    }
}

impl Destination {
    /// Nobody can be reached there.
    pub(crate) fn unreachable() -> Self {
        Self { behaviour: Behaviour::Failed, ..Self::default() }
    }

    pub(crate) fn ring(&self) -> Duration {
        Duration::from_millis(self.ring_ms)
    }

    pub(crate) fn talk(&self) -> Duration {
        Duration::from_millis(self.talk_ms)
    }
}

/// What has been set, by number or SIP address.
#[derive(Debug, Default)]
pub(crate) struct Destinations(HashMap<String, Destination>);

impl Destinations {
    /// Sets what happens at `address`; false where no more can be remembered.
    pub(crate) fn put(&mut self, address: &str, destination: Destination) -> bool {
        let key = key(address);
        if self.0.len() >= DESTINATIONS_MAX && !self.0.contains_key(&key) {
            return false;
        }
        self.0.insert(key, destination);
        true
    }

    /// What happens at `address`: somebody answers, unless something else was set.
    pub(crate) fn at(&self, address: &str) -> Destination {
        self.0.get(&key(address)).copied().unwrap_or_default()
    }
}

/// A SIP address without its parameters and headers, for neither says who answers.
fn key(address: &str) -> String {
    let address = address.trim();
    if address.starts_with("sip:") || address.starts_with("sips:") {
        address.split([';', '?']).next().unwrap_or(address).to_ascii_lowercase()
    } else {
        address.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sip_addresses_are_the_same_with_and_without_parameters() {
        let mut destinations = Destinations::default();
        let busy = Destination { behaviour: Behaviour::Busy, ..Destination::default() };
        assert!(destinations.put("sip:Agent@sip.example.com", busy));
        assert_eq!(destinations.at("sip:agent@sip.example.com;transport=tls?X-Call=1"), busy);
        assert_eq!(destinations.at("+14155550100"), Destination::default());
    }
}
