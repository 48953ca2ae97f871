//! A table of things with stable, typed, never reused handles.

/// Where a thing is, and which one of those that were there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Handle {
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.place, self.generation)
    }
}

#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    /// What a new place begins with: above all that was given out before memory was given back.
    first_generation: u32,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { places: Vec::new(), free: Vec::new(), first_generation: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Puts a thing in. The caller has checked its limit.
    pub(crate) fn insert(&mut self, thing: T) -> Handle {
        if let Some(place) = self.free.pop() {
            let (generation, slot) = &mut self.places[place as usize];
            *slot = Some(thing);
            return Handle { place, generation: *generation };
        }
        let place = crate::parse::offset(self.places.len());
        let generation = self.first_generation;
        self.places.push((generation, Some(thing)));
        Handle { place, generation }
    }

    pub(crate) fn at(&self, handle: Handle) -> Option<&T> {
        let (generation, thing) = self.places.get(handle.place as usize)?;
        if *generation == handle.generation { thing.as_ref() } else { None }
    }

    pub(crate) fn at_mut(&mut self, handle: Handle) -> Option<&mut T> {
        let (generation, thing) = self.places.get_mut(handle.place as usize)?;
        if *generation == handle.generation { thing.as_mut() } else { None }
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> Option<T> {
        let (generation, thing) = self.places.get_mut(handle.place as usize)?;
        if *generation != handle.generation {
            return None;
        }
        let thing = thing.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(handle.place);
        if self.free.len() == self.places.len() {
            // Nothing is left: a past flood's memory goes back.
            self.shrink();
        }
        Some(thing)
    }

    fn shrink(&mut self) {
        const KEPT: usize = 1024;
        if self.places.len() > KEPT {
            let used = self.places[KEPT..].iter().map(|(generation, _)| *generation).max().unwrap_or(0);
            self.first_generation = self.first_generation.max(used.wrapping_add(1));
            self.places.truncate(KEPT);
            self.places.shrink_to_fit();
            self.free.retain(|&place| (place as usize) < KEPT);
            self.free.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_handle_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        assert_eq!(slab.remove(first), Some('a'));
        let second = slab.insert('b');
        assert_eq!(first.place, second.place);
        assert_eq!(slab.remove(first), None);
        assert_eq!((slab.at(first), slab.at(second)), (None, Some(&'b')));
        assert_eq!(slab.len(), 1);
    }
}
