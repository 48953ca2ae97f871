//! Building a route table from rows, all of them or the changed ones. Rows come in any order: a number may stand before its
//! workspace or its agent's version. Nothing is judged here; what makes no sense is told when a call comes in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::environment::Environment;
use crate::id::{AgentId, VariantId, WorkspaceId};
use crate::route::row::{NumberRow, NumberSettings, Row, RunningRow, WorkspaceRow};
use crate::route::shard::{Hash, Key, Placed, SHARDS, Shard};
use crate::route::table::{KnownWorkspace, Own, Route, RouteKey, RouteTable, Running, Shared, Workspace};

/// The places that changed, so that the routes that point to them are prepared anew.
#[derive(Default)]
pub(super) struct Touched {
    workspaces: Vec<u32>,
    running: Vec<u32>,
}

/// How many routes are kept at hand.
const RECENT_PLACES: usize = 1024;

/// Takes rows one by one and makes a table of them.
pub struct Builder {
    shared: Shared,
    shards: Vec<Vec<Placed>>,
    /// What the rows so far were about, besides numbers.
    touched: Touched,
    /// Routes of the numbers before, each in the place that its key says: most numbers share theirs with many.
    recent: Vec<Option<Recent>>,
}

/// A route that was held once, and is to be held for more numbers yet.
struct Recent {
    key: RouteKey,
    route: u32,
    more: u32,
}

impl Builder {
    /// A builder that has seen nothing yet.
    pub fn new() -> Builder {
        Builder {
            shared: Shared::default(),
            shards: vec![Vec::new(); SHARDS],
            touched: Touched::default(),
            recent: (0..RECENT_PLACES).map(|_| None).collect(),
        }
    }

    /// Takes one row. A later row about the same thing replaces an earlier one.
    pub fn push(&mut self, row: Row) {
        match row {
            Row::Number((ingress, number), Some(row)) => {
                let hash = Hash::of(Key { ingress, number });
                let (id, token) = (row.number_id, row.callback_token);
                let route = self.route_hold(row);
                self.shards[hash.shard()].push(Placed::new(hash, id, token, route));
            }
            Row::Number((ingress, number), None) => {
                let hash = Hash::of(Key { ingress, number });
                self.recent_settle();
                let shard = &mut self.shards[hash.shard()];
                while let Some(place) = shard.iter().position(|placed| placed.is(hash)) {
                    let gone = shard.swap_remove(place);
                    self.shared.route_release(gone.route());
                }
            }
            other => self.shared.change(other, &mut self.touched),
        }
    }

    fn route_hold(&mut self, row: NumberRow) -> u32 {
        let key = route_key(&row);
        let recent = &mut self.recent[key.recent_place()];
        if let Some(held) = recent.as_mut().filter(|held| held.key == key) {
            held.more += 1;
            return held.route;
        }
        let route = self.shared.route_hold(key.clone(), row.own);
        if let Some(earlier) = recent.replace(Recent { key, route, more: 0 }) {
            self.shared.routes.hold_more(&earlier.key, earlier.more);
        }
        route
    }

    fn recent_settle(&mut self) {
        for held in self.recent.iter_mut().filter_map(Option::take) {
            self.shared.routes.hold_more(&held.key, held.more);
        }
    }

    /// The same, its numbers put into their order already: what of the work of finishing can be done before [`join`](Self::join).
    #[must_use]
    pub fn in_order(mut self) -> Builder {
        for placed in &mut self.shards {
            Shard::sort(placed);
        }
        self
    }

    /// Takes the numbers of another builder too, which has taken other numbers and nothing else.
    #[must_use]
    pub fn join(mut self, mut others: Builder) -> Builder {
        debug_assert!(others.touched.workspaces.is_empty() && others.touched.running.is_empty());
        others.recent_settle();
        let mut places = HashMap::new();
        for (place, route, holders) in others.shared.routes.iter_held() {
            let own = route.own.as_ref().map(|own| Box::new(own.settings.clone()));
            places.insert(place, self.shared.route_hold_times(&route.key, own, holders));
        }
        for (shard, numbers) in self.shards.iter_mut().zip(others.shards) {
            shard.extend(numbers.into_iter().map(|placed| placed.on_route(places[&placed.route()])));
        }
        self
    }

    /// The table of all rows taken, which stand for this `route_version`.
    pub fn finish(mut self, version: u64) -> RouteTable {
        self.recent_settle();
        let mut shared = self.shared;
        shared.prepare_anew(self.touched);
        let mut numbers = 0;
        let shards = self
            .shards
            .into_iter()
            .map(|entries| {
                let (shard, replaced) = Shard::new(entries);
                for route in replaced {
                    shared.route_release(route);
                }
                numbers += shard.len();
                Arc::new(shard)
            })
            .collect();
        RouteTable { version, numbers, shards, shared }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Builder::new()
    }
}

impl RouteTable {
    /// A table of these rows.
    pub fn build(rows: impl IntoIterator<Item = Row>, version: u64) -> RouteTable {
        let mut builder = Builder::new();
        for row in rows {
            builder.push(row);
        }
        builder.finish(version)
    }

    /// A table that routes nothing and knows less than any other.
    pub fn empty() -> RouteTable {
        Builder::new().finish(0)
    }

    /// This table after some changes, which lead up to `version`; all that did not change is shared with this one. `None`
    /// if this table is as new already: tables never go backwards.
    #[must_use]
    pub fn applied(&self, changes: impl IntoIterator<Item = Row>, version: u64) -> Option<RouteTable> {
        if version <= self.version {
            return None;
        }
        let mut table = RouteTable { version, ..self.clone() };
        let mut touched = Touched::default();
        // The changed numbers by shard, the last word about each.
        let mut changed: BTreeMap<usize, Vec<(Hash, Option<Placed>)>> = BTreeMap::new();
        for row in changes {
            match row {
                Row::Number((ingress, number), row) => {
                    let hash = Hash::of(Key { ingress, number });
                    let placed = row.map(|row| {
                        let (id, token) = (row.number_id, row.callback_token);
                        let route = table.shared.route_hold(route_key(&row), row.own);
                        Placed::new(hash, id, token, route)
                    });
                    changed.entry(hash.shard()).or_default().push((hash, placed));
                }
                other => table.shared.change(other, &mut touched),
            }
        }
        table.shared.prepare_anew(touched);
        for (place, changes) in changed {
            let mut numbers: Vec<Placed> = table.shards[place].placed().collect();
            for (hash, placed) in changes {
                if let Some(at) = numbers.iter().position(|placed| placed.is(hash)) {
                    let earlier = numbers.swap_remove(at);
                    table.shared.route_release(earlier.route());
                }
                numbers.extend(placed);
            }
            table.numbers -= table.shards[place].len();
            table.numbers += numbers.len();
            let (shard, replaced) = Shard::new(numbers);
            debug_assert!(replaced.is_empty(), "earlier entries were taken out");
            table.shards[place] = Arc::new(shard);
        }
        Some(table)
    }
}

impl RouteKey {
    /// Where a builder keeps its route at hand.
    fn recent_place(&self) -> usize {
        let assignment = self.assignment.map_or((0, 0), |assignment| {
            (assignment.agent_id.to_bits(), assignment.variant_id.map_or(0, VariantId::to_bits))
        });
        // The lower bits of ids are random; multiplied, so that ids that differ in little fall apart too.
        let bits = self.workspace_id.to_bits() ^ assignment.0.rotate_left(1) ^ assignment.1.rotate_left(2);
        (bits.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835) >> 118) as usize % RECENT_PLACES
    }
}

pub(super) fn route_key(row: &NumberRow) -> RouteKey {
    RouteKey {
        workspace_id: row.workspace_id,
        assignment: row.assignment,
        own: row.own.as_ref().map(|own| settings_json(own)),
    }
}

/// The settings as JSON. Fields stand in one order and maps are sorted, so that equal settings give equal text.
fn settings_json(own: &NumberSettings) -> Arc<str> {
    serde_json::to_string(own).expect("settings are plain data with text keys").into()
}

impl Shared {
    /// Takes a change of anything but a number.
    fn change(&mut self, row: Row, touched: &mut Touched) {
        match row {
            Row::Number(..) => unreachable!("numbers stand in shards"),
            Row::Running(key, row) => self.running_change(key, row, touched),
            Row::Workspace(id, row) => self.workspace_change(id, row, touched),
            Row::Secret(id, Some(ciphertext)) => self.secrets.insert(id, ciphertext),
            Row::Secret(id, None) => {
                self.secrets.remove(&id);
            }
        }
    }

    /// Looks up again what the routes of changed places need.
    fn prepare_anew(&mut self, mut touched: Touched) {
        if touched.workspaces.is_empty() && touched.running.is_empty() {
            return;
        }
        touched.workspaces.sort_unstable();
        touched.running.sort_unstable();
        let mut routes = std::mem::take(&mut self.routes);
        routes.renew(
            |route| {
                touched.workspaces.binary_search(&route.workspace).is_ok()
                    || route.running.is_some_and(|place| touched.running.binary_search(&place).is_ok())
            },
            |route| Route {
                prepared: self.prepare(route.key.assignment, route.workspace, route.running),
                ..route.clone()
            },
        );
        self.routes = routes;
    }

    /// Holds a route once more, made if it is the first of its kind. Returns its place.
    pub(super) fn route_hold(&mut self, key: RouteKey, own: Option<Box<NumberSettings>>) -> u32 {
        if let Some(place) = self.routes.hold_known(&key) {
            return place;
        }
        let workspace = self.workspace_hold(key.workspace_id);
        let running =
            key.assignment.map(|assignment| self.running_hold((assignment.agent_id, assignment.environment)));
        let own = own.map(|own| {
            let zone = own.time_zone.as_ref().map(crate::hours::Zone::resolve);
            Arc::new(Own { settings: *own, zone })
        });
        let prepared = self.prepare(key.assignment, workspace, running);
        self.routes.add(key.clone(), Route { own, prepared, key, workspace, running })
    }

    /// Holds a route as often as many numbers at once take it; what no number takes is not kept.
    pub(super) fn route_hold_times(
        &mut self,
        key: &RouteKey,
        own: Option<Box<NumberSettings>>,
        times: u32,
    ) -> u32 {
        let place = self.route_hold(key.clone(), own);
        match times {
            0 => self.route_release(place),
            more => self.routes.hold_more(key, more - 1),
        }
        place
    }

    fn route_release(&mut self, place: u32) {
        let Some(key) = self.routes.at(place).map(|route| route.key.clone()) else { return };
        if self.routes.release(&key).is_none() {
            return;
        }
        self.workspaces.release(&key.workspace_id);
        if let Some(assignment) = key.assignment {
            self.running.release(&(assignment.agent_id, assignment.environment));
        }
    }

    fn workspace_hold(&mut self, id: WorkspaceId) -> u32 {
        self.workspaces
            .hold_known(&id)
            .unwrap_or_else(|| self.workspaces.add(id, Workspace { id, known: None }))
    }

    /// A row holds its place too, so that it stays while no number uses it.
    fn workspace_change(&mut self, id: WorkspaceId, row: Option<WorkspaceRow>, touched: &mut Touched) {
        let was_known = self.workspaces.get(&id).is_some_and(|workspace| workspace.known.is_some());
        if row.is_some() && !was_known {
            self.workspace_hold(id);
        }
        let is_known = row.is_some();
        let known = row.map(|row| {
            Arc::new(KnownWorkspace { zone: row.settings.time_zone.resolve(), settings: row.settings })
        });
        self.workspaces.replace(&id, Workspace { id, known });
        touched.workspaces.extend(self.workspaces.place(&id));
        if was_known && !is_known {
            self.workspaces.release(&id);
        }
    }

    fn running_hold(&mut self, key: (AgentId, Environment)) -> u32 {
        self.running.hold_known(&key).unwrap_or_else(|| self.running.add(key, Running { key, known: None }))
    }

    fn running_change(
        &mut self,
        key: (AgentId, Environment),
        row: Option<RunningRow>,
        touched: &mut Touched,
    ) {
        let was_known = self.running.get(&key).is_some_and(|running| running.known.is_some());
        if row.is_some() && !was_known {
            self.running_hold(key);
        }
        let is_known = row.is_some();
        self.running.replace(&key, Running { key, known: row.map(Arc::new) });
        touched.running.extend(self.running.place(&key));
        if was_known && !is_known {
            self.running.release(&key);
        }
    }
}
