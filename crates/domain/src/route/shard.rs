//! One shard of the numbers: 44 bytes for each, in the order of their hashes.
//!
//! The hash of a number is one-to-one, so the number itself is not kept: shard, order and rest together *are* the number,
//! scrambled. Hashes spread evenly, so a number's place can be guessed from its order; the orders stand apart from the
//! entries, sixteen in a cache line, so that a guess and the few steps from it touch one or two lines, and the entry one more.

use crate::call::Ingress;
use crate::id::NumberId;
use crate::number::E164;
use crate::route::row::CallbackToken;

/// How many bits of the hash choose the shard.
const SHARD_BITS: u32 = 10;
/// How many shards a table has. A change of one number rebuilds one of them.
pub(super) const SHARDS: usize = 1 << SHARD_BITS;
/// How many bits of the mixed word remain after shard (10) and order (32).
const REST_BITS: u32 = 64 - SHARD_BITS - 32;
/// The digits of a number fill so many bits (15 digits: RFC 3966, E.164 §6); the lower bits of the ingress stand above them.
const DIGITS_BITS: u32 = 50;
/// The bits of the ingress that share a word with the digits. The upper ones choose how that word is mixed.
const INGRESS_LOW_BITS: u32 = 64 - DIGITS_BITS;

const _: () = assert!(
    REST_BITS + (Ingress::BITS - INGRESS_LOW_BITS) == 32,
    "digits (50 bits) and ingress (24) fill shard (10), order (32) and rest (32) exactly"
);

/// What a number is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) ingress: Ingress,
    pub(super) number: E164,
}

/// A key, scrambled so that blocks of neighbouring numbers spread over all shards, and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash {
    shard: u16,
    order: u32,
    rest: u32,
}

impl Hash {
    #[expect(clippy::cast_possible_truncation, reason = "each part takes the bits that it is wide")]
    pub(super) fn of(key: Key) -> Hash {
        let (ingress, high) = (u64::from(key.ingress.get()), key.ingress.get() >> INGRESS_LOW_BITS);
        let mixed = mix((key.number.digits() | (ingress << DIGITS_BITS)) ^ spread(high));
        Hash {
            shard: (mixed >> (64 - SHARD_BITS)) as u16,
            order: (mixed >> REST_BITS) as u32,
            rest: (mixed as u32 & ((1 << REST_BITS) - 1)) | (high << REST_BITS),
        }
    }

    /// The key that has this hash; `None` for bits that no key gives.
    fn key(self) -> Option<Key> {
        let high = self.rest >> REST_BITS;
        let mixed = (u64::from(self.shard) << (64 - SHARD_BITS))
            | (u64::from(self.order) << REST_BITS)
            | u64::from(self.rest & ((1 << REST_BITS) - 1));
        let word = unmix(mixed) ^ spread(high);
        let low = u32::try_from(word >> DIGITS_BITS).expect("14 bits");
        Some(Key {
            ingress: Ingress::new((high << INGRESS_LOW_BITS) | low)?,
            number: E164::from_digits(word & ((1 << DIGITS_BITS) - 1))?,
        })
    }

    pub(super) const fn shard(self) -> usize {
        self.shard as usize
    }
}

/// The finaliser of splitmix64, which is one-to-one.
const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Undoes [`mix`]: the multipliers are the inverses modulo 2⁶⁴, and each shift is undone by its doublings.
const fn unmix(mut x: u64) -> u64 {
    x = (x ^ (x >> 31) ^ (x >> 62)).wrapping_mul(0x3196_42B2_D24D_8EC3);
    x = (x ^ (x >> 27) ^ (x >> 54)).wrapping_mul(0x96DE_1B17_3F11_9089);
    x ^ (x >> 30) ^ (x >> 60)
}

/// 0 for the first 16,384 ingresses.
fn spread(high: u32) -> u64 {
    u64::from(high).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// One number, without shard and order, which its place tells. What is asked first stands first. The id is kept as two
/// halves, since a `u128` would stretch the entry to 48 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    rest: u32,
    /// The place of its route.
    pub(super) route: u32,
    id: [u64; 2],
    token: [u8; 16],
}

const _: () =
    assert!(size_of::<Entry>() == 40, "the memory of a million numbers was measured with 40 bytes for each");

impl Entry {
    fn new(hash: Hash, id: NumberId, token: CallbackToken, route: u32) -> Entry {
        let bits = id.to_bits().to_be_bytes();
        let half =
            |at: usize| u64::from_be_bytes(bits[at..at + 8].try_into().expect("eight of sixteen bytes"));
        Entry { rest: hash.rest, route, id: [half(0), half(8)], token: token.0 }
    }

    pub(super) fn id(&self) -> NumberId {
        NumberId::from_bits((u128::from(self.id[0]) << 64) | u128::from(self.id[1]))
    }

    pub(super) const fn token(&self) -> CallbackToken {
        CallbackToken(self.token)
    }
}

/// An entry and its order: how entries come into a shard.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    order: u32,
    pub(super) entry: Entry,
}

impl Placed {
    pub(super) fn new(hash: Hash, id: NumberId, token: CallbackToken, route: u32) -> Placed {
        Placed { order: hash.order, entry: Entry::new(hash, id, token, route) }
    }

    /// Within one shard, this is the number.
    const fn place(&self) -> (u32, u32) {
        (self.order, self.entry.rest)
    }

    /// Whether it is the number of this hash, in its shard.
    pub(super) fn is(&self, hash: Hash) -> bool {
        self.place() == (hash.order, hash.rest)
    }
}

/// The numbers of one shard.
#[derive(Default)]
pub(super) struct Shard {
    /// Ascending; one for each entry.
    orders: Box<[u32]>,
    entries: Box<[Entry]>,
}

impl Shard {
    /// Puts entries into their order. Of several with one key the last stays; the others are handed back.
    pub(super) fn new(mut placed: Vec<Placed>) -> (Shard, Vec<Entry>) {
        // Stable, so that of equal keys the later stays behind the earlier.
        placed.sort_by_key(Placed::place);
        let mut replaced = Vec::new();
        placed.dedup_by(|later, earlier| {
            let same = later.place() == earlier.place();
            if same {
                std::mem::swap(later, earlier);
                replaced.push(later.entry);
            }
            same
        });
        let orders = placed.iter().map(|placed| placed.order).collect();
        (Shard { orders, entries: placed.into_iter().map(|placed| placed.entry).collect() }, replaced)
    }

    /// A shard whose entries stand in their order already, as a snapshot has them. `None` if they do not.
    pub(super) fn from_ordered(placed: &[Placed]) -> Option<Shard> {
        let ordered = placed.windows(2).all(|two| two[0].place() < two[1].place());
        ordered.then(|| Shard {
            orders: placed.iter().map(|placed| placed.order).collect(),
            entries: placed.iter().map(|placed| placed.entry).collect(),
        })
    }

    pub(super) fn find(&self, hash: Hash) -> Option<&Entry> {
        let (orders, want) = (&*self.orders, hash.order);
        if orders.is_empty() {
            return None;
        }
        // Where it would stand if hashes were spread with a ruler; the truth is a few places off.
        let guess = ((u64::from(want) * orders.len() as u64) >> 32) as usize;
        let mut place = guess;
        if orders[place] < want {
            place += 1;
            while place < orders.len() && orders[place] < want {
                place += 1;
            }
        } else {
            while place > 0 && orders[place - 1] >= want {
                place -= 1;
            }
        }
        while place < orders.len() && orders[place] == want {
            let entry = &self.entries[place];
            if entry.rest == hash.rest {
                return Some(entry);
            }
            place += 1;
        }
        None
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries with their orders.
    pub(super) fn placed(&self) -> impl Iterator<Item = Placed> {
        self.orders.iter().zip(&self.entries).map(|(&order, &entry)| Placed { order, entry })
    }

    /// The entries with their numbers, of the shard with this place in the table.
    pub(super) fn numbers(&self, shard: usize) -> impl Iterator<Item = (Key, &Entry)> {
        let shard = u16::try_from(shard).expect("one of 1,024");
        self.orders.iter().zip(&self.entries).map(move |(&order, entry)| {
            let hash = Hash { shard, order, rest: entry.rest };
            (hash.key().expect("an entry is made from a number"), entry)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hash_is_its_key(digits in 1_000_u64..1_000_000_000_000_000, ingress in 0..1_u32 << Ingress::BITS) {
            let ingress = Ingress::new(ingress).unwrap();
            let key = Key { ingress, number: E164::from_digits(digits).unwrap() };
            prop_assert_eq!(Hash::of(key).key(), Some(key));
        }
    }
}
