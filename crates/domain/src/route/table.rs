//! The route table: everything that deciding about a call needs, in memory, immutable. A change makes a new table that
//! shares all that did not change with the old one, so that readers never wait and always see one consistent whole.
//!
//! A number's entry says which *route* it takes: workspace, assignment and the number's own settings. Numbers with the same
//! three share one route. A route points to the places of its workspace and of what its agent runs, so that publishing a
//! version or switching outage mode changes one place and no number. Who makes tables from rows is [`build`](super::build);
//! what is done with a call, [`decide`](super::decide()).

use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::agent::Variant;
use crate::assignment::Assignment;
use crate::call::Ingress;
use crate::environment::Environment;
use crate::id::{AgentId, NumberId, SecretId, VariantId, WorkspaceId};
use crate::number::E164;
use crate::route::row::{CallbackToken, NumberSettings, RunningRow};
use crate::route::shard::{Entry, Hash, Key, Shard};
use crate::route::slab::{Interned, Map};
use crate::workspace::WorkspaceSettings;

/// Everything that deciding about a call needs. Made by [`RouteTable::build`] or [`RouteTable::applied`].
#[derive(Clone)]
pub struct RouteTable {
    pub(super) version: u64,
    pub(super) numbers: usize,
    pub(super) shards: Vec<Arc<Shard>>,
    pub(super) shared: Shared,
}

/// What numbers share.
#[derive(Clone, Default)]
pub(super) struct Shared {
    pub(super) routes: Interned<RouteKey, Route>,
    pub(super) workspaces: Interned<WorkspaceId, Workspace>,
    pub(super) running: Interned<(AgentId, Environment), Running>,
    pub(super) secrets: Map<SecretId, Arc<[u8]>>,
}

/// What makes two numbers take the same route. Own settings are compared by their JSON, which is also what a snapshot keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RouteKey {
    pub(super) workspace_id: WorkspaceId,
    pub(super) assignment: Option<Assignment>,
    pub(super) own: Option<Arc<str>>,
}

/// What numbers with the same key share.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) key: RouteKey,
    /// The place of the workspace.
    pub(super) workspace: u32,
    /// The place of what the assigned agent runs.
    pub(super) running: Option<u32>,
    /// Boxed, since most numbers have none.
    pub(super) own: Option<Box<Own>>,
}

/// A number's own settings, the time zone resolved.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) settings: NumberSettings,
    pub(super) zone: Option<TimeZone>,
}

/// A workspace's place: empty until its row arrives, and when it is gone.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) id: WorkspaceId,
    pub(super) known: Option<KnownWorkspace>,
}

/// A workspace's settings, the time zone resolved.
#[derive(Debug)]
pub(super) struct KnownWorkspace {
    pub(super) settings: WorkspaceSettings,
    pub(super) zone: TimeZone,
}

/// The place of what an agent runs in an environment: empty where it runs nothing.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) key: (AgentId, Environment),
    pub(super) known: Option<KnownRunning>,
}

/// A version that runs, its variants found by their ids.
#[derive(Debug)]
pub(super) struct KnownRunning {
    pub(super) row: RunningRow,
    variants: Box<[(VariantId, u32)]>,
}

impl KnownRunning {
    pub(super) fn new(row: RunningRow) -> KnownRunning {
        let mut variants: Box<[(VariantId, u32)]> =
            (0u32..).zip(&row.content.variants).map(|(place, variant)| (variant.id, place)).collect();
        variants.sort_unstable_by_key(|(id, _)| *id);
        KnownRunning { row, variants }
    }

    pub(super) fn variant(&self, id: VariantId) -> Option<&Variant> {
        // Few are found sooner without the index.
        if self.variants.len() <= 8 {
            return self.row.content.variant(id);
        }
        let found = self.variants.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.row.content.variants.get(self.variants[found].1 as usize)
    }
}

/// A number as the table knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Its id.
    pub number_id: NumberId,
    /// Whose it is.
    pub workspace_id: WorkspaceId,
    /// The 128 random bits in the path of its callbacks.
    pub callback_token: CallbackToken,
    /// Who answers it, if anybody.
    pub assignment: Option<Assignment>,
}

impl RouteTable {
    /// The `route_version` that the table was made from. Tables with a higher one know more.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// How many numbers it routes.
    pub const fn numbers(&self) -> usize {
        self.numbers
    }

    /// How many different routes these numbers take.
    pub fn routes(&self) -> usize {
        self.shared.routes.len()
    }

    /// A number of ours, if it is one.
    pub fn find(&self, ingress: Ingress, number: E164) -> Option<Found> {
        let (entry, route) = self.entry(Key { ingress, number })?;
        Some(found(entry, route))
    }

    /// All numbers, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = ((Ingress, E164), Found)> {
        self.shards.iter().flat_map(|shard| shard.entries()).filter_map(|entry| {
            let key = entry.key();
            let route = self.shared.routes.at(entry.route)?;
            Some(((key.ingress, key.number), found(entry, route)))
        })
    }

    /// What an agent runs in an environment, if anything.
    pub fn running(&self, agent_id: AgentId, environment: Environment) -> Option<&RunningRow> {
        self.shared.running.get(&(agent_id, environment))?.known.as_ref().map(|known| &known.row)
    }

    /// A secret's ciphertext.
    pub fn secret(&self, id: SecretId) -> Option<&[u8]> {
        self.shared.secrets.get(&id).map(|ciphertext| &**ciphertext)
    }

    /// How many things numbers share, known or only pointed to.
    #[cfg(test)]
    pub(super) fn shared_things(&self) -> usize {
        let shared = &self.shared;
        shared.routes.len() + shared.workspaces.len() + shared.running.len() + shared.secrets.len()
    }

    pub(super) fn entry(&self, key: Key) -> Option<(&Entry, &Route)> {
        let hash = Hash::of(key);
        let entry = self.shards[hash.shard()].find(key, hash)?;
        Some((entry, self.shared.routes.at(entry.route)?))
    }
}

pub(super) fn found(entry: &Entry, route: &Route) -> Found {
    Found {
        number_id: entry.id(),
        workspace_id: route.key.workspace_id,
        callback_token: entry.token(),
        assignment: route.key.assignment,
    }
}

impl fmt::Debug for RouteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteTable")
            .field("version", &self.version)
            .field("numbers", &self.numbers)
            .field("routes", &self.routes())
            .finish_non_exhaustive()
    }
}
