//! One shard of the numbers: 52 bytes for each, in the order of their hashes.
//!
//! Hashes spread evenly, so a number's place can be guessed from its hash; the hashes stand apart from the entries, sixteen
//! in a cache line, so that a guess and the few steps from it touch one or two lines, and the entry one more.

use crate::call::Ingress;
use crate::id::NumberId;
use crate::number::E164;
use crate::route::row::CallbackToken;

/// How many bits of the hash choose the shard.
const SHARD_BITS: u32 = 10;
/// How many shards a table has. A change of one number rebuilds one of them.
pub(super) const SHARDS: usize = 1 << SHARD_BITS;

/// What a number is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) ingress: Ingress,
    pub(super) number: E164,
}

/// The hash of a key: which shard, and in which order there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hash(u64);

impl Hash {
    /// Mixes the digits (50 bits) and the ingress, so that blocks of neighbouring numbers spread over all shards. The
    /// constants are those of splitmix64.
    pub(super) fn of(key: Key) -> Hash {
        let mut x = key.number.digits() ^ (u64::from(key.ingress.0) << 50) ^ u64::from(key.ingress.0 >> 14);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Hash(x ^ (x >> 31))
    }

    pub(super) const fn shard(self) -> usize {
        (self.0 >> (64 - SHARD_BITS)) as usize
    }

    /// The next 32 bits.
    #[expect(clippy::cast_possible_truncation, reason = "the lower 32 bits are wanted")]
    const fn order(self) -> u32 {
        (self.0 >> (32 - SHARD_BITS)) as u32
    }
}

/// One number. Its id is kept as two halves, since a `u128` would stretch the entry to 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    digits: u64,
    id: [u64; 2],
    token: [u8; 16],
    ingress: u32,
    /// The place of its route.
    pub(super) route: u32,
}

const _: () =
    assert!(size_of::<Entry>() == 48, "the memory of a million numbers was measured with 48 bytes for each");

impl Entry {
    pub(super) fn new(key: Key, id: NumberId, token: CallbackToken, route: u32) -> Entry {
        let bits = id.to_bits().to_be_bytes();
        let half =
            |at: usize| u64::from_be_bytes(bits[at..at + 8].try_into().expect("eight of sixteen bytes"));
        Entry {
            digits: key.number.digits(),
            id: [half(0), half(8)],
            token: token.0,
            ingress: key.ingress.0,
            route,
        }
    }

    pub(super) fn key(&self) -> Key {
        Key {
            ingress: Ingress(self.ingress),
            number: E164::from_digits(self.digits).expect("an entry is made from a number"),
        }
    }

    pub(super) fn id(&self) -> NumberId {
        NumberId::from_bits((u128::from(self.id[0]) << 64) | u128::from(self.id[1]))
    }

    pub(super) const fn token(&self) -> CallbackToken {
        CallbackToken(self.token)
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
    pub(super) fn new(mut entries: Vec<(Hash, Entry)>) -> (Shard, Vec<Entry>) {
        // Stable, so that of equal keys the later stays behind the earlier.
        entries.sort_by_key(|(hash, entry)| (hash.order(), entry.digits, entry.ingress));
        let mut replaced = Vec::new();
        entries.dedup_by(|later, earlier| {
            let same = later.1.key() == earlier.1.key();
            if same {
                std::mem::swap(later, earlier);
                replaced.push(later.1);
            }
            same
        });
        let orders = entries.iter().map(|(hash, _)| hash.order()).collect();
        (Shard { orders, entries: entries.into_iter().map(|(_, entry)| entry).collect() }, replaced)
    }

    /// A shard whose entries stand in their order already, as a snapshot has them. `None` if they do not.
    pub(super) fn from_ordered(entries: Box<[Entry]>, shard: usize) -> Option<Shard> {
        let hashes: Vec<Hash> = entries.iter().map(|entry| Hash::of(entry.key())).collect();
        let orders: Box<[u32]> = hashes.iter().map(|hash| hash.order()).collect();
        let place = |i: usize| (orders[i], entries[i].digits, entries[i].ingress);
        let ordered = (1..orders.len()).all(|i| place(i - 1) < place(i));
        (ordered && hashes.iter().all(|hash| hash.shard() == shard)).then_some(Shard { orders, entries })
    }

    pub(super) fn find(&self, key: Key, hash: Hash) -> Option<&Entry> {
        let (orders, want) = (&*self.orders, hash.order());
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
            if entry.digits == key.number.digits() && entry.ingress == key.ingress.0 {
                return Some(entry);
            }
            place += 1;
        }
        None
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
