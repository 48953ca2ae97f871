//! Chance for ids, jitter and choices. Secrets, tokens and nonces never come from here: see `ring::rand::SystemRandom`.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng as _};
use ring::rand::{SecureRandom as _, SystemRandom};

/// A shared handle on one generator.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// Seeded by the system.
    pub fn from_system() -> Random {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).expect("the system's random generator works");
        Random(Arc::new(Mutex::new(StdRng::from_seed(seed))))
    }

    /// The same numbers each time, for tests.
    pub fn from_seed(seed: u64) -> Random {
        Random(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// 128 random bits, such as for an id.
    pub fn bits(&self) -> u128 {
        self.with(RngExt::random)
    }

    /// A number from 0 to `end`, `end` not included; 0 where `end` is 0.
    pub fn below(&self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.with(|rng| rng.random_range(0..end)) }
    }

    fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        // A panic in between cannot leave a generator in a bad state.
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Bytes that nobody can guess, from the system's own generator: for secrets, tokens and nonces.
pub fn secret_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the system's random generator works");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (a, b) = (Random::from_seed(7), Random::from_seed(7));
        assert_eq!((a.bits(), a.below(100)), (b.bits(), b.below(100)));
        assert_eq!(a.below(0), 0);
        assert_ne!(Random::from_system().bits(), Random::from_system().bits());
        assert_ne!(secret_bytes::<16>(), secret_bytes::<16>());
    }
}
