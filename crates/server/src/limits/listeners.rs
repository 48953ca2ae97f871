//! How many may listen to events at once: of one key, of one workspace, and at this node in all, so that nobody takes the places of
//! others. A place is free again when the [`Listening`] is dropped.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use domain::id::{KeyId, WorkspaceId};

use crate::config;

/// Who listens.
#[derive(Debug)]
pub struct Listeners {
    most: usize,
    of_workspace: usize,
    of_key: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_workspace: HashMap<WorkspaceId, usize>,
    by_key: HashMap<KeyId, usize>,
}

/// Whose places are all taken, and how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The key's.
    Key(usize),
    /// The workspace's.
    Workspace(usize),
    /// The node's.
    Node(usize),
}

/// One listener, until it is dropped.
#[derive(Debug)]
pub struct Listening {
    listeners: Arc<Listeners>,
    workspace: WorkspaceId,
    key: Option<KeyId>,
}

impl Listeners {
    /// Nobody listens yet.
    pub fn new(limits: &config::Limits) -> Arc<Listeners> {
        Arc::new(Listeners {
            most: limits.listeners,
            of_workspace: limits.listeners_per_workspace,
            of_key: limits.listeners_per_key,
            counts: Mutex::default(),
        })
    }

    /// One more, if there is a place left.
    pub fn enter(self: &Arc<Self>, workspace: WorkspaceId, key: Option<KeyId>) -> Result<Listening, Full> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = |count: Option<&usize>| count.copied().unwrap_or_default();
        if key.is_some_and(|key| taken(counts.by_key.get(&key)) >= self.of_key) {
            return Err(Full::Key(self.of_key));
        }
        if taken(counts.by_workspace.get(&workspace)) >= self.of_workspace {
            return Err(Full::Workspace(self.of_workspace));
        }
        if counts.all >= self.most {
            return Err(Full::Node(self.most));
        }
        counts.all += 1;
        *counts.by_workspace.entry(workspace).or_default() += 1;
        if let Some(key) = key {
            *counts.by_key.entry(key).or_default() += 1;
        }
        Ok(Listening { listeners: self.clone(), workspace, key })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut counts = self.listeners.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        one_less(&mut counts.by_workspace, self.workspace);
        if let Some(key) = self.key {
            one_less(&mut counts.by_key, key);
        }
    }
}

fn one_less<K: Eq + Hash>(counts: &mut HashMap<K, usize>, of: K) {
    if let Entry::Occupied(mut count) = counts.entry(of) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_the_places_of_others() {
        let limits = config::Limits {
            listeners: 4,
            listeners_per_workspace: 3,
            listeners_per_key: 2,
            ..config::Limits::default()
        };
        let listeners = Listeners::new(&limits);
        let enter = |workspace, key: Option<u128>| {
            listeners.enter(WorkspaceId::from_bits(workspace), key.map(KeyId::from_bits))
        };
        let first = enter(1, Some(1)).unwrap();
        let second = enter(1, Some(1)).unwrap();
        assert_eq!(enter(1, Some(1)).unwrap_err(), Full::Key(2));
        let third = enter(1, Some(2)).unwrap();
        assert_eq!(enter(1, Some(3)).unwrap_err(), Full::Workspace(3));
        assert_eq!(enter(1, None).unwrap_err(), Full::Workspace(3));
        let fourth = enter(2, None).unwrap();
        assert_eq!(enter(3, Some(4)).unwrap_err(), Full::Node(4));
        drop(first);
        drop(enter(1, Some(1)).unwrap());
        drop((second, third, fourth));
        let counts = listeners.counts.lock().unwrap();
        assert!(counts.all == 0 && counts.by_workspace.is_empty() && counts.by_key.is_empty());
    }
}
