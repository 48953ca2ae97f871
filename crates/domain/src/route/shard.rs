//! One shard of the numbers: 44¼ bytes for each, in the order of their hashes.
//!
//! The hash of a number is one-to-one, so the number itself is not kept: shard, order and rest together *are* the number,
//! scrambled. Hashes spread evenly, so a number's place can be guessed from its order, and a small table of how far the
//! guesses are off makes them good to a place or two. What a call goes on with, its route, stands with the order in twelve
//! bytes; all candidates are looked at at once, without a branch for each, so that a call waits for one or two cache lines
//! here. Id and token stand apart: nothing waits for them.

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

/// What finds one number, and its route. The place tells the shard.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    order: u32,
    rest: u32,
    /// The place of its route.
    route: u32,
}

impl Slot {
    /// Within one shard, this is the number.
    const fn place(self) -> (u32, u32) {
        (self.order, self.rest)
    }
}

/// What else is known of one number. Aligned, so that it never stands in two cache lines. The id is kept as two
/// halves, since a `u128` would stretch what is made of it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(align(32))]
pub(super) struct Entry {
    id: [u64; 2],
    token: [u8; 16],
}

const _: () = assert!(
    size_of::<Slot>() == 12 && size_of::<Entry>() == 32,
    "the memory of a million numbers was measured with 44 bytes for each"
);

impl Entry {
    pub(super) fn id(&self) -> NumberId {
        NumberId::from_bits((u128::from(self.id[0]) << 64) | u128::from(self.id[1]))
    }

    pub(super) const fn token(&self) -> CallbackToken {
        CallbackToken(self.token)
    }
}

/// One number of a shard: how numbers come into it. It is not aligned as its [`Entry`] is, since all numbers wait here while
/// a table is built.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    slot: Slot,
    id: [u64; 2],
    token: [u8; 16],
}

impl Placed {
    pub(super) fn new(hash: Hash, id: NumberId, token: CallbackToken, route: u32) -> Placed {
        let bits = id.to_bits().to_be_bytes();
        let half =
            |at: usize| u64::from_be_bytes(bits[at..at + 8].try_into().expect("eight of sixteen bytes"));
        let slot = Slot { order: hash.order, rest: hash.rest, route };
        Placed { slot, id: [half(0), half(8)], token: token.0 }
    }

    const fn entry(&self) -> Entry {
        Entry { id: self.id, token: self.token }
    }

    pub(super) const fn route(&self) -> u32 {
        self.slot.route
    }

    /// The same number on another route.
    pub(super) const fn on_route(mut self, route: u32) -> Placed {
        self.slot.route = route;
        self
    }

    /// Whether it is the number of this hash, in its shard.
    pub(super) fn is(&self, hash: Hash) -> bool {
        self.slot.place() == (hash.order, hash.rest)
    }
}

/// How many slots are looked at for one number.
const WINDOW: usize = 8;
/// How many numbers share one correction of their guesses.
const NUMBERS_PER_DRIFT: usize = 8;

/// The numbers of one shard. Aligned, so that all three stand in one cache line.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Shard {
    /// Ascending by order and rest.
    slots: Box<[Slot]>,
    /// One for each slot.
    entries: Box<[Entry]>,
    /// How many places off a guess is, for each stretch of orders.
    drifts: Box<[i16]>,
}

impl Shard {
    /// Puts numbers into their order. Of several with one key the last stays; the others' routes are handed back.
    pub(super) fn new(mut placed: Vec<Placed>) -> (Shard, Vec<u32>) {
        Shard::sort(&mut placed);
        let mut replaced = Vec::new();
        placed.dedup_by(|later, earlier| {
            let same = later.slot.place() == earlier.slot.place();
            if same {
                std::mem::swap(later, earlier);
                replaced.push(later.route());
            }
            same
        });
        (Shard::of(&placed), replaced)
    }

    /// Stable, so that of equal keys the later stays behind the earlier.
    pub(super) fn sort(placed: &mut [Placed]) {
        placed.sort_by_key(|placed| placed.slot.place());
    }

    /// A shard whose numbers stand in their order already, as a snapshot has them. `None` if they do not.
    pub(super) fn from_ordered(placed: &[Placed]) -> Option<Shard> {
        let ordered = placed.windows(2).all(|two| two[0].slot.place() < two[1].slot.place());
        ordered.then(|| Shard::of(placed))
    }

    fn of(placed: &[Placed]) -> Shard {
        let slots: Box<[Slot]> = placed.iter().map(|placed| placed.slot).collect();
        let drifts = drifts(&slots);
        Shard { slots, entries: placed.iter().map(Placed::entry).collect(), drifts }
    }

    /// The entry of a number and the place of its route.
    #[inline]
    pub(super) fn find(&self, hash: Hash) -> Option<(&Entry, u32)> {
        let (slots, want) = (&*self.slots, hash.order);
        let first = self.guess(want).min(slots.len().saturating_sub(WINDOW));
        let Some(window) = slots[first..].first_chunk::<WINDOW>() else {
            return self.search(hash, first);
        };
        // Counted to the end: where the number stands among the eight cannot be foreseen, and while a branch not foreseen is
        // waited for nothing else is done.
        let place: usize = window.iter().map(|slot| usize::from(slot.order < want)).sum();
        match window.get(place) {
            Some(slot) if slot.place() == (want, hash.rest) => {
                Some((&self.entries[first + place], slot.route))
            }
            Some(slot) if slot.order != want && (place > 0 || first == 0) => None,
            _ => self.search(hash, first),
        }
    }

    /// Finds what stands further off than is looked at, and whatever is in a shard of a few.
    #[cold]
    fn search(&self, hash: Hash, from: usize) -> Option<(&Entry, u32)> {
        let (slots, want) = (&*self.slots, hash.order);
        let before = slots[..from].iter().rev().take_while(|slot| slot.order >= want).count();
        let behind = slots[from..].iter().take_while(|slot| slot.order < want).count();
        let first = from - before + behind;
        let same = slots[first..].iter().take_while(|slot| slot.order == want);
        let (place, slot) = (first..).zip(same).find(|(_, slot)| slot.rest == hash.rest)?;
        Some((&self.entries[place], slot.route))
    }

    /// Where to begin looking for a number of this order: it stands a little behind.
    #[inline]
    fn guess(&self, order: u32) -> usize {
        let drift = self.drifts.get(ruler(order, self.drifts.len())).copied().unwrap_or(0);
        ruler(order, self.slots.len()).saturating_add_signed(drift.into()).saturating_sub(WINDOW / 2)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The numbers as they came in.
    pub(super) fn placed(&self) -> impl Iterator<Item = Placed> {
        self.slots.iter().zip(&self.entries).map(|(&slot, entry)| Placed {
            slot,
            id: entry.id,
            token: entry.token,
        })
    }

    /// The entries with their numbers and the places of their routes, of the shard with this place in the table.
    pub(super) fn numbers(&self, shard: usize) -> impl Iterator<Item = (Key, u32, &Entry)> {
        let shard = u16::try_from(shard).expect("one of 1,024");
        self.slots.iter().zip(&self.entries).map(move |(slot, entry)| {
            let hash = Hash { shard, order: slot.order, rest: slot.rest };
            (hash.key().expect("an entry is made from a number"), slot.route, entry)
        })
    }
}

/// Where something of this order would stand among so many if orders were spread with a ruler.
const fn ruler(order: u32, len: usize) -> usize {
    ((order as u64 * len as u64) >> 32) as usize
}

/// How far the truth lies from the ruler, in the middle of each stretch of orders.
fn drifts(slots: &[Slot]) -> Box<[i16]> {
    let stretches = slots.len().div_ceil(NUMBERS_PER_DRIFT);
    let mut place = 0;
    (0..stretches)
        .map(|stretch| {
            let middle = ((2 * stretch as u64 + 1) << 31) / stretches as u64;
            let middle = u32::try_from(middle).expect("within the orders, which are u32");
            place += slots[place..].iter().take_while(|slot| slot.order < middle).count();
            let drift = place.cast_signed() - ruler(middle, slots.len()).cast_signed();
            // A guess may be wrong; then the number is searched for.
            i16::try_from(drift).unwrap_or_default()
        })
        .collect()
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

    fn placed(order: u32, rest: u32) -> Placed {
        let number = NumberId::from_bits(u128::from(order) << 32 | u128::from(rest));
        Placed::new(Hash { shard: 0, order, rest }, number, CallbackToken([0; 16]), order ^ rest)
    }

    proptest! {
        /// Hashes mostly spread evenly, and may still crowd or be the same but for the rest.
        #[test]
        fn a_shard_finds_what_it_has_and_nothing_else(
            even in proptest::collection::btree_set((any::<u32>(), 0..3u32), 0..300),
            crowd in proptest::collection::btree_set((1_000_000..1_000_030u32, 0..3u32), 0..60),
            others in proptest::collection::vec((any::<u32>(), 0..3u32), 50),
        ) {
            let mut places = even;
            places.extend(crowd);
            let (shard, replaced) = Shard::new(places.iter().map(|&(order, rest)| placed(order, rest)).collect());
            prop_assert!(replaced.is_empty());
            let near = places.iter().flat_map(|&(order, rest)| [(order, rest), (order, 3), (order.wrapping_add(1), rest)]);
            for (order, rest) in near.chain(others).chain([(0, 0), (u32::MAX, 0), (1_000_031, 0)]) {
                let found = shard.find(Hash { shard: 0, order, rest });
                let found = found.map(|(entry, route)| (entry.id(), route));
                let expected = placed(order, rest);
                let expected = places.contains(&(order, rest)).then(|| (expected.entry().id(), expected.route()));
                prop_assert_eq!(found, expected);
            }
        }
    }
}
