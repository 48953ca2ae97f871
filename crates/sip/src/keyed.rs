//! Keyed hashing: what we sign, what nobody may guess, and maps that nobody can crowd.
//!
//! SipHash-2-4 (Aumasson and Bernstein, 2012) is a MAC of 64 bits; at some 30 ns for a few dozen bytes it is cheap
//! enough for each message. Keys come from outside: nothing here draws a random number.

use std::hash::{BuildHasher, Hasher};

use sha2::{Digest, Sha256};

/// The secrets of one node, handed in at construction.
#[derive(Clone)]
pub struct Keys {
    /// Kept over restarts and shared by all nodes: signs Record-Route parameters and our Vias' branches, so that any
    /// node understands what another one signed.
    pub shared: [u8; 32],
    /// New at every start of every node: makes branches and tags that never repeat, and nonces that only the node
    /// that remembers their counts takes.
    pub unique: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

/// One 128-bit key for one purpose.
#[derive(Clone, Copy)]
pub(crate) struct Key(u64, u64);

impl Key {
    /// Derives the key for a purpose.
    pub(crate) fn derive(secret: &[u8; 32], purpose: &str) -> Key {
        let digest = Sha256::new().chain_update(secret).chain_update(purpose).finalize();
        let (words, _) = digest.as_slice().as_chunks::<8>();
        Key(u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]))
    }

    /// A MAC over these parts; their lengths count, so that `ab, c` and `a, bc` differ.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher::new(*self);
        for part in parts {
            // Each part begins on a word of its own, with its length.
            hasher.compress(part.len() as u64);
            let (words, rest) = part.as_chunks::<8>();
            for word in words {
                hasher.compress(u64::from_le_bytes(*word));
            }
            if !rest.is_empty() {
                let mut last = [0; 8];
                last[..rest.len()].copy_from_slice(rest);
                hasher.compress(u64::from_le_bytes(last));
            }
        }
        hasher.length = parts.len();
        hasher.finish()
    }
}

impl BuildHasher for Key {
    type Hasher = SipHasher;
    fn build_hasher(&self) -> SipHasher {
        SipHasher::new(*self)
    }
}

/// A map whose places cannot be guessed from outside.
pub(crate) type KeyedMap<K, V> = std::collections::HashMap<K, V, Key>;

/// Names that never repeat and cannot be guessed: branches, tags, Call-IDs.
#[derive(Clone)]
pub(crate) struct Names {
    key: Key,
    count: u64,
}

impl Names {
    pub(crate) fn new(keys: &Keys, purpose: &str) -> Names {
        Names { key: Key::derive(&keys.unique, purpose), count: 0 }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        self.key.mac(&[&self.count.to_le_bytes()])
    }

    /// The next one, as 16 hexadecimal digits.
    pub(crate) fn next_text(&mut self) -> String {
        format!("{:016x}", self.next())
    }
}

/// SipHash-2-4.
#[derive(Clone)]
pub(crate) struct SipHasher {
    v: [u64; 4],
    tail: u64,
    tail_length: usize,
    length: usize,
}

impl SipHasher {
    fn new(key: Key) -> SipHasher {
        let v = [
            key.0 ^ 0x736f_6d65_7073_6575,
            key.1 ^ 0x646f_7261_6e64_6f6d,
            key.0 ^ 0x6c79_6765_6e65_7261,
            key.1 ^ 0x7465_6462_7974_6573,
        ];
        SipHasher { v, tail: 0, tail_length: 0, length: 0 }
    }

    #[inline]
    fn compress(&mut self, word: u64) {
        self.v[3] ^= word;
        rounds::<2>(&mut self.v);
        self.v[0] ^= word;
    }
}

#[inline]
fn rounds<const COUNT: usize>(v: &mut [u64; 4]) {
    for _ in 0..COUNT {
        v[0] = v[0].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].wrapping_add(v[3]);
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].wrapping_add(v[1]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[2] = v[2].rotate_left(32);
    }
}

impl Hasher for SipHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.length = self.length.wrapping_add(bytes.len());
        let mut bytes = bytes;
        while self.tail_length > 0
            && let [first, rest @ ..] = bytes
        {
            self.tail |= u64::from(*first) << (8 * self.tail_length);
            self.tail_length += 1;
            bytes = rest;
            if self.tail_length == 8 {
                let word = std::mem::take(&mut self.tail);
                self.tail_length = 0;
                self.compress(word);
            }
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.compress(u64::from_le_bytes(*word));
        }
        for &byte in rest {
            self.tail |= u64::from(byte) << (8 * self.tail_length);
            self.tail_length += 1;
        }
    }

    fn finish(&self) -> u64 {
        let mut end = self.clone();
        end.compress(((self.length as u64 & 0xff) << 56) | self.tail);
        end.v[2] ^= 0xff;
        rounds::<4>(&mut end.v);
        end.v.iter().fold(0, |all, word| all ^ word)
    }
}

/// Compares in a time that does not tell where the first difference is.
pub(crate) fn is_same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_gives_its_authors_vectors() {
        // Appendix A of the paper: key 00 01 … 0f, message 00 01 … 0e.
        let bytes: Vec<u8> = (0..16).collect();
        let (words, _) = bytes.as_chunks::<8>();
        let key = Key(u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]));
        for split in 0..15 {
            let mut hasher = SipHasher::new(key);
            hasher.write(&bytes[..split]);
            hasher.write(&bytes[split..15]);
            assert_eq!(hasher.finish(), 0xa129_ca61_49be_45e5);
        }
        assert_eq!(SipHasher::new(key).finish(), 0x726f_db47_dd0e_0e31);
    }

    #[test]
    fn parts_do_not_run_together() {
        let key = Key::derive(&[7; 32], "test");
        assert_ne!(key.mac(&[b"ab", b"c"]), key.mac(&[b"a", b"bc"]));
        assert_ne!(key.mac(&[b"ab"]), Key::derive(&[7; 32], "other").mac(&[b"ab"]));
    }

    #[test]
    fn secrets_compare() {
        assert!(is_same_secret(b"abc", b"abc"));
        assert!(!is_same_secret(b"abc", b"abd") && !is_same_secret(b"abc", b"ab"));
    }
}
