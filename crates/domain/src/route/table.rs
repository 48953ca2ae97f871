//! The route table: everything that deciding about a call needs, in memory, immutable. A change makes a new table that
//! shares all that did not change with the old one, so that readers never wait and always see one consistent whole.
//!
//! A number's entry says which *route* it takes: workspace, assignment and the number's own settings. Numbers with the same
//! three share one route. A route knows the places of its workspace and of what its agent runs, and what they hold, so that
//! publishing a version or switching outage mode changes its routes and no number. Who makes tables from rows is [`build`](super::build);
//! what is done with a call, [`decide`](super::decide()).

use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::agent::Content;
use crate::assignment::Assignment;
use crate::call::Ingress;
use crate::endpoint::{Endpoint, EndpointKind};
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

/// What numbers with the same key share. What a call goes by stands first, in one cache line; what it only hands on, behind.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Route {
    /// Most numbers have none.
    pub(super) own: Option<Arc<Own>>,
    pub(super) prepared: Prepared,
    pub(super) key: RouteKey,
    /// The place of the workspace.
    pub(super) workspace: u32,
    /// The place of what the assigned agent runs.
    pub(super) running: Option<u32>,
}

const _: () = assert!(
    std::mem::offset_of!(Route, key) == 64,
    "a call that has found its route goes by one cache line of it"
);

/// What a route's places hold, looked up when the table is made and not when a call comes: a call that has found its route
/// touches nothing else. Made anew for each route of a workspace or a version that changes.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a byte for each thing that a call need not look up")]
pub(super) struct Prepared {
    pub(super) workspace: Option<Arc<KnownWorkspace>>,
    pub(super) workspace_has_fallback: bool,
    /// Its environment's calls go straight to the fallbacks.
    pub(super) is_out: bool,
    pub(super) running: Option<Arc<RunningRow>>,
    pub(super) content: Option<Arc<Content>>,
    /// As which variant it answers: the place in the content's list.
    pub(super) variant: Option<u32>,
    /// Why as that one.
    pub(super) variant_why: Why,
    pub(super) agent_has_fallback: bool,
    pub(super) agent_has_language: bool,
    /// How the agent is reached.
    pub(super) endpoint: Option<Endpoint>,
    /// What kind of endpoint that is.
    pub(super) endpoint_kind: Option<EndpointKind>,
    /// The endpoint is the variant's own.
    pub(super) endpoint_of_variant: bool,
}

/// Why an agent answers as the variant that it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Why {
    /// The agent has none, and the number asks for none.
    #[default]
    NoVariants,
    /// The number asks for it.
    Assigned,
    /// The number asks for none.
    Default,
    /// The one that the number asks for is not there; the default one answers, if there is any.
    Gone,
}

/// As which variant an agent answers a number that asks for this one, and why.
fn answers_as(content: &Content, asked: Option<VariantId>) -> (Option<u32>, Why) {
    let default = (!content.variants.is_empty()).then_some(0);
    let Some(asked) = asked else {
        return (default, if default.is_some() { Why::Default } else { Why::NoVariants });
    };
    let mut places = (0u32..).zip(&content.variants);
    match places.find(|(_, variant)| variant.id == asked) {
        Some((place, _)) => (Some(place), Why::Assigned),
        None => (default, Why::Gone),
    }
}

impl Shared {
    /// What the places of a route hold now.
    pub(super) fn prepare(
        &self,
        assignment: Option<Assignment>,
        workspace: u32,
        running: Option<u32>,
    ) -> Prepared {
        let workspace = self.workspaces.at(workspace).and_then(|workspace| workspace.known.clone());
        let mut prepared = Prepared {
            workspace_has_fallback: workspace.as_ref().is_some_and(|known| known.settings.fallback.is_some()),
            workspace,
            ..Prepared::default()
        };
        let Some(assignment) = assignment else { return prepared };
        let settings = prepared.workspace.as_ref().map(|known| &known.settings);
        prepared.is_out =
            settings.is_some_and(|settings| settings.outage.since(assignment.environment).is_some());
        let known =
            running.and_then(|place| self.running.at(place)).and_then(|running| running.known.clone());
        if let Some(row) = known {
            let content = &row.content;
            (prepared.variant, prepared.variant_why) = answers_as(content, assignment.variant_id);
            let variant = prepared.variant.and_then(|place| content.variants.get(place as usize));
            prepared.endpoint = content.endpoint(variant).cloned();
            prepared.endpoint_kind = prepared.endpoint.as_ref().map(Endpoint::kind);
            prepared.endpoint_of_variant = variant.is_some_and(|variant| variant.endpoint.is_some());
            prepared.agent_has_fallback = content.draft.fallback.is_some();
            prepared.agent_has_language = content.draft.language.is_some();
            prepared.content = Some(Arc::clone(content));
            prepared.running = Some(row);
        }
        prepared
    }
}

/// A number's own settings, the time zone resolved.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) settings: NumberSettings,
    pub(super) zone: Option<TimeZone>,
}

/// A workspace's place: empty until its row arrives, and when it is gone.
#[derive(Clone, Debug)]
pub(super) struct Workspace {
    pub(super) id: WorkspaceId,
    pub(super) known: Option<Arc<KnownWorkspace>>,
}

/// A workspace's settings, the time zone resolved.
#[derive(Debug)]
pub(super) struct KnownWorkspace {
    pub(super) settings: WorkspaceSettings,
    pub(super) zone: TimeZone,
}

/// The place of what an agent runs in an environment: empty where it runs nothing.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) key: (AgentId, Environment),
    pub(super) known: Option<Arc<RunningRow>>,
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
        let numbers = self.shards.iter().enumerate().flat_map(|(place, shard)| shard.numbers(place));
        numbers.filter_map(|(key, route, entry)| {
            let route = self.shared.routes.at(route)?;
            Some(((key.ingress, key.number), found(entry, route)))
        })
    }

    /// What an agent runs in an environment, if anything.
    pub fn running(&self, agent_id: AgentId, environment: Environment) -> Option<&RunningRow> {
        self.shared.running.get(&(agent_id, environment))?.known.as_deref()
    }

    /// A workspace's settings.
    pub fn workspace(&self, id: WorkspaceId) -> Option<&WorkspaceSettings> {
        self.shared.workspaces.get(&id)?.known.as_ref().map(|known| &known.settings)
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

    #[inline]
    pub(super) fn entry(&self, key: Key) -> Option<(&Entry, &Route)> {
        let hash = Hash::of(key);
        let (entry, route) = self.shards[hash.shard()].find(hash)?;
        Some((entry, self.shared.routes.at(route)?))
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
