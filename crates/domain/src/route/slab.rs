//! Storage that many tables share: cloning copies pointers, and a change copies only the chunk or shard that it touches.
//!
//! [`Slab`] finds a thing by a small integer, [`Map`] by its key; [`Interned`] is both, and counts who holds each thing, so
//! that what nobody holds any more makes room. None of them knows what a route is.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

/// How many places one chunk of a slab has.
const CHUNK: usize = 64;
/// How many shards a map has. A change clones one of them.
const MAP_SHARDS: usize = 64;
/// The end of the list of free places.
const NO_PLACE: u32 = u32::MAX;

/// A place in a slab. Things stand in it themselves, not behind a pointer: one cache line fewer for each call.
#[derive(Clone, Debug)]
enum Place<T> {
    /// Nothing is here; the next free place.
    Free(u32),
    Used(T),
}

/// Things by a small integer, in shared chunks.
#[derive(Debug)]
pub(super) struct Slab<T> {
    /// Each of [`CHUNK`] places.
    chunks: Vec<Arc<[Place<T>]>>,
    /// The first free place.
    free: u32,
    used: usize,
}

impl<T> Clone for Slab<T> {
    fn clone(&self) -> Self {
        Slab { chunks: self.chunks.clone(), free: self.free, used: self.used }
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), free: NO_PLACE, used: 0 }
    }
}

impl<T: Clone> Slab<T> {
    pub(super) fn get(&self, place: u32) -> Option<&T> {
        let place = place as usize;
        match self.chunks.get(place / CHUNK)?.get(place % CHUNK)? {
            Place::Used(thing) => Some(thing),
            Place::Free(_) => None,
        }
    }

    fn insert(&mut self, thing: T) -> u32 {
        self.used += 1;
        let used = Place::Used(thing);
        if self.free != NO_PLACE {
            let place = self.free;
            if let Place::Free(next) = std::mem::replace(self.place(place), used) {
                self.free = next;
            }
            return place;
        }
        let first =
            u32::try_from(self.chunks.len() * CHUNK).expect("a table holds fewer than four billion routes");
        let mut chunk: Vec<Place<T>> = Vec::with_capacity(CHUNK);
        chunk.push(used);
        // The other places of the chunk are free, the last of them ends the list.
        let end = first + u32::try_from(CHUNK).expect("small");
        chunk.extend((first + 2..end).map(Place::Free));
        chunk.push(Place::Free(NO_PLACE));
        self.free = first + 1;
        self.chunks.push(chunk.into());
        first
    }

    fn replace(&mut self, place: u32, thing: T) {
        *self.place(place) = Place::Used(thing);
    }

    /// Puts another thing in the place of each that must be made anew. A chunk that needs nothing stays shared.
    fn renew(&mut self, stale: impl Fn(&T) -> bool, renewed: impl Fn(&T) -> T) {
        let is_stale = |place: &Place<T>| matches!(place, Place::Used(thing) if stale(thing));
        for chunk in &mut self.chunks {
            if !chunk.iter().any(is_stale) {
                continue;
            }
            for place in Arc::make_mut(chunk).iter_mut().filter(|place| is_stale(place)) {
                if let Place::Used(thing) = place {
                    *thing = renewed(thing);
                }
            }
        }
    }

    fn remove(&mut self, place: u32) -> Option<T> {
        let next = self.free;
        match std::mem::replace(self.place(place), Place::Free(next)) {
            Place::Used(thing) => {
                self.free = place;
                self.used -= 1;
                Some(thing)
            }
            Place::Free(earlier) => {
                *self.place(place) = Place::Free(earlier);
                None
            }
        }
    }

    fn place(&mut self, place: u32) -> &mut Place<T> {
        let place = place as usize;
        &mut Arc::make_mut(&mut self.chunks[place / CHUNK])[place % CHUNK]
    }
}

type Hashed<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;

/// A quick hash, the same in each process: keys are mostly ids that we drew ourselves, so nobody can choose them to collide.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        let mixed = u128::from(self.0.rotate_left(23) ^ word) * 0x9E37_79B9_7F4A_7C15;
        let bytes = mixed.to_le_bytes();
        let half =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight of sixteen bytes"));
        self.0 = half(0) ^ half(8);
    }

    fn write_u128(&mut self, word: u128) {
        let bytes = word.to_le_bytes();
        self.write(&bytes);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Values by their key, in shared shards.
#[derive(Debug)]
pub(super) struct Map<K, V> {
    shards: Vec<Arc<Hashed<K, V>>>,
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        Map { shards: self.shards.clone() }
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Map { shards: (0..MAP_SHARDS).map(|_| Arc::default()).collect() }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Map<K, V> {
    fn shard_of(key: &K) -> usize {
        let mut hasher = Mixer::default();
        key.hash(&mut hasher);
        // The map inside takes the hash's low and top bits; these are other ones.
        (hasher.finish() >> 40) as usize % MAP_SHARDS
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.shards[Self::shard_of(key)].get(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        Arc::make_mut(&mut self.shards[Self::shard_of(&key)]).insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let shard = &mut self.shards[Self::shard_of(key)];
        // Looked up first, so that nothing is copied for nothing.
        if shard.contains_key(key) { Arc::make_mut(shard).remove(key) } else { None }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }
}

/// Where an interned thing is, and how many hold it.
#[derive(Clone, Copy, Debug)]
struct Held {
    place: u32,
    holders: u32,
}

/// Things that many share: each is kept once, found by its key or its place, and gone when its last holder lets go.
#[derive(Debug)]
pub(super) struct Interned<K, T> {
    places: Map<K, Held>,
    things: Slab<T>,
}

impl<K, T> Clone for Interned<K, T> {
    fn clone(&self) -> Self {
        Interned { places: self.places.clone(), things: self.things.clone() }
    }
}

impl<K, T> Default for Interned<K, T> {
    fn default() -> Self {
        Interned { places: Map::default(), things: Slab::default() }
    }
}

impl<K: Hash + Eq + Clone, T: Clone> Interned<K, T> {
    pub(super) fn at(&self, place: u32) -> Option<&T> {
        self.things.get(place)
    }

    pub(super) fn get(&self, key: &K) -> Option<&T> {
        self.things.get(self.place(key)?)
    }

    /// The place of a key's thing.
    pub(super) fn place(&self, key: &K) -> Option<u32> {
        self.places.get(key).map(|held| held.place)
    }

    /// Holds the thing of this key once more if there is one. Returns its place.
    pub(super) fn hold_known(&mut self, key: &K) -> Option<u32> {
        let place = self.places.get(key)?.place;
        self.hold_more(key, 1);
        Some(place)
    }

    /// Holds the thing of this key some times more.
    pub(super) fn hold_more(&mut self, key: &K, more: u32) {
        if more > 0
            && let Some(&held) = self.places.get(key)
        {
            self.places.insert(key.clone(), Held { holders: held.holders + more, ..held });
        }
    }

    /// Adds a thing under a key that has none yet, held once. Returns its place.
    pub(super) fn add(&mut self, key: K, thing: T) -> u32 {
        debug_assert!(self.places.get(&key).is_none(), "a key has one thing");
        let place = self.things.insert(thing);
        self.places.insert(key, Held { place, holders: 1 });
        place
    }

    /// Puts another thing in the place of a key's; whoever holds the place sees the new one.
    pub(super) fn replace(&mut self, key: &K, thing: T) {
        if let Some(held) = self.places.get(key) {
            self.things.replace(held.place, thing);
        }
    }

    /// Puts another thing in the place of each that must be made anew.
    pub(super) fn renew(&mut self, stale: impl Fn(&T) -> bool, renewed: impl Fn(&T) -> T) {
        self.things.renew(stale, renewed);
    }

    /// Lets go once. The last to do so gets the thing.
    pub(super) fn release(&mut self, key: &K) -> Option<T> {
        let held = *self.places.get(key)?;
        if held.holders > 1 {
            self.places.insert(key.clone(), Held { holders: held.holders - 1, ..held });
            return None;
        }
        self.places.remove(key);
        self.things.remove(held.place)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.places
            .iter()
            .filter_map(|(_, held)| self.things.get(held.place).map(|thing| (held.place, thing)))
    }

    /// All things with their places, and how often each is held.
    pub(super) fn iter_held(&self) -> impl Iterator<Item = (u32, &T, u32)> {
        self.places.iter().filter_map(|(_, held)| {
            self.things.get(held.place).map(|thing| (held.place, thing, held.holders))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.things.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_makes_room_and_older_clones_keep_it() {
        let mut things: Interned<u32, String> = Interned::default();
        for n in 0..1000 {
            things.add(n, n.to_string());
        }
        let before = things.clone();
        assert_eq!(things.hold_known(&7), Some(7));
        assert!(things.release(&7).is_none(), "still held once");
        assert_eq!(things.release(&7).unwrap(), "7");
        assert!(things.at(7).is_none());
        assert_eq!(things.add(5000, "new".to_owned()), 7, "the free place is taken again");
        assert_eq!(before.at(7).unwrap(), "7");
        assert_eq!(things.at(7).unwrap(), "new");
        assert_eq!((things.len(), before.len()), (1000, 1000));
        assert!(things.release(&7).is_none(), "the key is gone");
    }
}
