//! Keyed hashing: what we sign, what nobody may guess, and maps that nobody can crowd.
//!
//! SipHash-2-4 (Aumasson and Bernstein, 2012) is a MAC of 64 bits; at some 30 ns for a few dozen bytes it is cheap
//! enough for each message. Keys come from outside: nothing here draws a random number.

use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use sha2::{Digest, Sha256};

use crate::work;

/// The secrets of one node, handed in at construction.
#[derive(Clone)]
pub struct Keys {
    /// Kept over restarts and shared by all nodes: signs Record-Route parameters and our Vias' branches, so that any
    /// node understands what another one signed.
    pub shared: [u8; 32],
    /// New at every start of every node: makes branches, tags and client nonces that never repeat, and nonces that
    /// only the node that remembers their counts takes.
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
        parts.iter().fold(Mac::new(*self), |mac, part| mac.part(part)).finish()
    }
}

/// A MAC as it grows, part by part; no text has to be put together for it.
#[derive(Clone)]
pub(crate) struct Mac {
    hasher: SipHasher,
}

impl Mac {
    pub(crate) fn new(key: Key) -> Mac {
        Mac { hasher: SipHasher::new(key) }
    }

    /// For [`Mac::finish_wide`], which needs to be known at the start.
    pub(crate) fn new_wide(key: Key) -> Mac {
        let mut mac = Mac::new(key);
        mac.hasher.v[1] ^= 0xee;
        mac
    }

    /// Adds a part. It begins on a word of its own, with its length.
    #[inline]
    pub(crate) fn part(self, part: &[u8]) -> Mac {
        self.words(part, |word| word)
    }

    /// Adds a part whose case does not count.
    #[inline]
    pub(crate) fn part_in_any_case(self, part: &[u8]) -> Mac {
        self.words(part, |word| u64::from_le_bytes(word.to_le_bytes().map(|byte| byte.to_ascii_lowercase())))
    }

    #[inline]
    fn words(mut self, part: &[u8], turn: impl Fn(u64) -> u64) -> Mac {
        work::visited(part.len());
        self.hasher.length += 1;
        self.hasher.compress(part.len() as u64);
        let (words, rest) = part.as_chunks::<8>();
        for word in words {
            self.hasher.compress(turn(u64::from_le_bytes(*word)));
        }
        if !rest.is_empty() {
            self.hasher.compress(turn(last_word(part, rest.len())));
        }
        self
    }

    pub(crate) fn finish(self) -> u64 {
        self.hasher.finish()
    }

    /// 128 bits, as the authors' SipHash-128 makes them: enough that two things never meet by chance.
    pub(crate) fn finish_wide(mut self) -> u128 {
        self.hasher.compress((self.hasher.length as u64 & 0xff) << 56);
        let v = &mut self.hasher.v;
        v[2] ^= 0xee;
        rounds::<4>(v);
        let low = v.iter().fold(0, |all, word| all ^ word);
        v[1] ^= 0xdd;
        rounds::<4>(v);
        let high = v.iter().fold(0, |all, word| all ^ word);
        u128::from(high) << 64 | u128::from(low)
    }
}

/// The last bytes of a text, fewer than eight, as a word with zeros behind them.
#[inline]
fn last_word(text: &[u8], length: usize) -> u64 {
    match text.last_chunk::<8>() {
        // What stands before them is shifted out.
        Some(last) => u64::from_le_bytes(*last) >> (64 - 8 * length),
        None => text.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
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

/// A map whose keys are MACs of ours: nobody can choose them, so they need no hashing of their own.
pub(crate) type MacMap<V> = std::collections::HashMap<u128, V, BuildHasherDefault<Unhashed>>;

/// Gives half of a MAC as it is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Unhashed(u64);

impl Hasher for Unhashed {
    fn write(&mut self, bytes: &[u8]) {
        // Only `u128` keys are ever hashed, and they come by the function below.
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "half of it is enough to find a place")]
    fn write_u128(&mut self, mac: u128) {
        self.0 = mac as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// 16 hexadecimal digits, without a `String`.
pub(crate) fn hex(value: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| DIGITS[(value >> (60 - 4 * at) & 15) as usize])
}

/// Names that never repeat and cannot be guessed: branches, tags, Call-IDs, client nonces.
#[derive(Clone)]
pub(crate) struct Names {
    key: Key,
    count: u64,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Names({} given)", self.count)
    }
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
        hex(self.next()).iter().map(|&digit| char::from(digit)).collect()
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
        work::visited(bytes.len());
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
    fn siphash_128_gives_its_authors_vector() {
        // The first of vectors_sip128 in the authors' code: the same key, no message.
        let bytes: Vec<u8> = (0..16).collect();
        let (words, _) = bytes.as_chunks::<8>();
        let key = Key(u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1]));
        assert_eq!(
            Mac::new_wide(key).finish_wide().to_le_bytes(),
            [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93]
        );
    }

    #[test]
    fn hexadecimal_is_as_it_is_printed() {
        for value in [0, 1, 0xfedc_ba98_7654_3210, u64::MAX] {
            assert_eq!(hex(value), format!("{value:016x}").as_bytes());
        }
    }

    #[test]
    fn parts_do_not_run_together() {
        let key = Key::derive(&[7; 32], "test");
        assert_ne!(key.mac(&[b"ab", b"c"]), key.mac(&[b"a", b"bc"]));
        let lower = Mac::new(key).part(b"host.example:5060");
        assert_eq!(lower.finish(), Mac::new(key).part_in_any_case(b"HOST.Example:5060").finish());
        assert_ne!(key.mac(&[b"ab"]), Key::derive(&[7; 32], "other").mac(&[b"ab"]));
    }

    #[test]
    fn secrets_compare() {
        assert!(is_same_secret(b"abc", b"abc"));
        assert!(!is_same_secret(b"abc", b"abd") && !is_same_secret(b"abc", b"ab"));
    }
}
