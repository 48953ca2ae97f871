//! The timer wheel: thousands of deadlines, each set and met in constant time.
//!
//! Four levels of 64 slots; a slot of the first level is a millisecond wide, one of the next 64, and so on up to
//! four and a half hours. A deadline waits in the coarsest level that can hold it and moves down as its time comes
//! near. Deadlines are rounded up, so a timer never fires early and at most a millisecond late.
//!
//! Nothing is ever taken out: whoever set a timer looks, when it comes, whether it still means something.

use crate::time::Instant;

const LEVELS: usize = 4;
const SLOT_BITS: u32 = 6;
const SLOTS: u64 = 1 << SLOT_BITS;

#[derive(Debug)]
pub(crate) struct Wheel<T> {
    /// All milliseconds up to here have been handed out.
    past: u64,
    levels: [Level<T>; LEVELS],
    len: usize,
}

#[derive(Debug)]
struct Level<T> {
    /// A bit for each slot that is not empty.
    occupied: u64,
    slots: Vec<Vec<(u64, T)>>,
}

impl<T> Level<T> {
    fn put(&mut self, slot: u64, millis: u64, timer: T) {
        self.occupied |= 1 << slot;
        if let Some(timers) = usize::try_from(slot).ok().and_then(|slot| self.slots.get_mut(slot)) {
            timers.push((millis, timer));
        }
    }

    fn take(&mut self, slot: u64) -> Vec<(u64, T)> {
        self.occupied &= !(1 << slot);
        let slot = usize::try_from(slot).ok().and_then(|slot| self.slots.get_mut(slot));
        slot.map(std::mem::take).unwrap_or_default()
    }
}

impl<T: Copy> Wheel<T> {
    pub(crate) fn new() -> Wheel<T> {
        let level = || Level { occupied: 0, slots: (0..SLOTS).map(|_| Vec::new()).collect() };
        Wheel { past: 0, levels: [level(), level(), level(), level()], len: 0 }
    }

    /// How many timers wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn set(&mut self, deadline: Instant, timer: T) {
        self.len += 1;
        self.insert(deadline.millis_up(), timer);
    }

    fn insert(&mut self, millis: u64, timer: T) {
        // What is due already comes with the next millisecond.
        let millis = millis.max(self.past + 1);
        let distance_bits = u64::BITS - (millis ^ self.past).leading_zeros();
        let level = (((distance_bits.max(1) - 1) / SLOT_BITS) as usize).min(LEVELS - 1);
        // The last level goes round. What is beyond its turn waits in its farthest slot and is looked at again then.
        let turns = slots_before(millis, LEVELS - 1) - slots_before(self.past, LEVELS - 1);
        let at = if turns < SLOTS { slot_of(millis, level) } else { slot_of(self.past, level) + SLOTS - 1 }
            % SLOTS;
        self.levels[level].put(at, millis, timer);
    }

    /// When to look next; it may be earlier than the first deadline, never later.
    pub(crate) fn next(&self) -> Option<Instant> {
        (0..LEVELS).filter_map(|level| self.next_of(level)).min().map(Instant::from_millis)
    }

    /// The start of the level's next slot that is not empty.
    fn next_of(&self, level: usize) -> Option<u64> {
        let occupied = self.levels[level].occupied;
        if occupied == 0 {
            return None;
        }
        let here = slot_of(self.past, level);
        // The slot we stand in was emptied when we entered it; what is in it belongs to the next turn.
        let ahead = occupied.rotate_right(u32::try_from((here + 1) % SLOTS).unwrap_or(0));
        let width = SLOT_BITS * u32::try_from(level).unwrap_or(0);
        let steps = u64::from(ahead.trailing_zeros()) + 1;
        Some(((self.past >> width) + steps) << width)
    }

    /// Takes one timer that is due, in the order of deadlines.
    pub(crate) fn pop(&mut self, now: Instant, due: &mut Vec<T>) {
        let now = now.millis_down();
        while let Some(next) = (0..LEVELS).filter_map(|level| self.next_of(level)).min()
            && next <= now
        {
            // Coarse slots that begin here are spread over finer ones first.
            self.past = next - 1;
            for level in (1..LEVELS).rev() {
                if self.next_of(level) == Some(next) {
                    let slot = slot_of(next, level);
                    let timers = self.take(level, slot);
                    self.past = next - 1;
                    for (millis, timer) in timers {
                        self.spread(next, millis, timer);
                    }
                }
            }
            if self.next_of(0) == Some(next) {
                for (_, timer) in self.take(0, slot_of(next, 0)) {
                    self.len -= 1;
                    due.push(timer);
                }
            }
            self.past = next;
        }
        self.past = self.past.max(now);
    }

    /// Puts a timer from a coarse slot that begins at `start` where it belongs, seen from there.
    fn spread(&mut self, start: u64, millis: u64, timer: T) {
        if millis <= start {
            self.levels[0].put(slot_of(start, 0), millis, timer);
        } else {
            let past = std::mem::replace(&mut self.past, start);
            self.insert(millis, timer);
            self.past = past;
        }
    }

    fn take(&mut self, level: usize, slot: u64) -> Vec<(u64, T)> {
        self.levels[level].take(slot)
    }
}

fn slots_before(millis: u64, level: usize) -> u64 {
    millis >> (SLOT_BITS * u32::try_from(level).unwrap_or(0))
}

fn slot_of(millis: u64, level: usize) -> u64 {
    slots_before(millis, level) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(millis: u64) -> Instant {
        Instant::from_epoch(Duration::from_millis(millis))
    }

    /// The wheel against a sorted list, over many steps of odd sizes.
    #[test]
    fn agrees_with_a_sorted_list() {
        let mut state = 1u64;
        let mut chance = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let mut wheel = Wheel::new();
            let mut list: Vec<(u64, u64)> = Vec::new();
            let mut now = chance(100_000);
            wheel.pop(at(now), &mut Vec::new());
            for id in 0..300 {
                let ahead =
                    [10, 100, 5_000, 40_000, 300_000, 30_000_000][usize::try_from(chance(6)).unwrap()];
                let deadline = now + chance(ahead);
                wheel.set(at(deadline), id);
                list.push((deadline, id));
                if chance(3) == 0 {
                    let next = wheel.next().map(super::super::time::Instant::millis_up);
                    let first = list.iter().map(|(deadline, _)| (*deadline).max(now + 1)).min();
                    assert!(next <= first && next > Some(now), "{next:?} {first:?} {now}");
                    now += chance(ahead);
                    let mut due = Vec::new();
                    wheel.pop(at(now), &mut due);
                    due.sort_unstable();
                    let mut expected: Vec<u64> =
                        list.iter().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| *id).collect();
                    expected.sort_unstable();
                    // What was set for the very moment it was set in comes a millisecond later.
                    let late: Vec<u64> = expected.iter().filter(|id| !due.contains(id)).copied().collect();
                    assert!(due.iter().all(|id| expected.contains(id)));
                    now += 1;
                    wheel.pop(at(now), &mut due);
                    assert!(late.iter().all(|id| due.contains(id)), "{late:?} were lost");
                    list.retain(|(_, id)| !due.contains(id));
                }
            }
            wheel.pop(at(now + 40_000_000), &mut Vec::new());
            assert_eq!(wheel.len(), 0);
            assert_eq!(wheel.next(), None);
        }
    }
}
