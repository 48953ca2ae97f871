//! Agents and their drafts: made, found, changed and removed. Saving a draft where sandbox follows saves is publishing it, in the same
//! transaction ([`super::versions`]).
//!
//! One revision counts for an agent, its draft and its variants: whoever changes one of them has seen all.

use database::agents::{self, Agent};
use database::numbers::{self, NumberFilter};
use database::{Read, Tx, deployments, versions};
use domain::agent::{Content, Draft, Language, Parameters};
use domain::endpoint::Endpoint;
use domain::environment::Environment;
use domain::error::{Code, Refusal, shown as quoted};
use domain::event::EventKind;
use domain::fallback::Fallback;
use domain::id::{AgentId, WorkspaceId};
use domain::permission::Permission;
use domain::publishing::Running;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::endpoints::{Place, content_secrets};
use super::secrets::{NewSecrets, Sealer, forget_dropped, forget_replaced};
use super::versions::Saved;
use super::{Answer, Caller, Failure, IfMatch, Once, chains, endpoints};
use crate::app::{Random, Shared};
use crate::patch::Patch;

/// The most agents of one workspace.
pub const AGENTS_MAX: u32 = 10_000;
/// The most numbers that a refusal names.
const NAMED_MAX: u32 = 10;
/// How many versions are read at once.
const VERSIONS_AT_ONCE: u32 = 100;

/// An agent with its draft and its variants, and what runs of it.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentState {
    /// The agent, its draft and its variants.
    pub agent: Agent,
    /// What each environment runs.
    pub running: Running,
    /// Whether publishing would change what sandbox runs.
    pub unpublished_changes: bool,
}

/// What a new agent is made of.
#[derive(Clone)]
pub struct AgentInput {
    /// What people call it.
    pub name: String,
    /// Its draft.
    pub draft: DraftPatch,
}

/// What changes about a draft.
#[derive(Clone, Default)]
pub struct DraftPatch {
    /// How calls reach the agent.
    pub endpoint: Patch<Endpoint>,
    /// What it speaks first.
    pub language: Patch<Language>,
    /// Where its calls go when it cannot take them.
    pub fallback: Patch<Fallback>,
    /// Sent along with each call.
    pub call_parameters: Patch<Parameters>,
    /// The secrets in it.
    pub secrets: NewSecrets,
}

impl DraftPatch {
    /// Everything that it would have us connect to.
    fn places(&self) -> Vec<(String, Place)> {
        let mut found = Vec::new();
        if let Patch::Set(endpoint) = &self.endpoint {
            endpoints::endpoint_places(endpoint, "endpoint", &mut found);
        }
        if let Patch::Set(fallback) = &self.fallback {
            endpoints::fallback_places(fallback, "fallback", &mut found);
        }
        found
    }

    fn applied(&self, draft: &Draft) -> Result<Draft, Failure> {
        let endpoint = match self.endpoint.clone() {
            Patch::Set(endpoint) => {
                Some(endpoints::endpoint_kept(endpoint, draft.endpoint.as_ref(), "endpoint")?)
            }
            patch => patch.over(draft.endpoint.clone()),
        };
        let fallback = match self.fallback.clone() {
            Patch::Set(fallback) => {
                Some(endpoints::fallback_kept(fallback, draft.fallback.as_ref(), "fallback")?)
            }
            patch => patch.over(draft.fallback.clone()),
        };
        Ok(Draft {
            endpoint,
            fallback,
            language: self.language.clone().over(draft.language.clone()),
            call_parameters: self
                .call_parameters
                .clone()
                .over_or(draft.call_parameters.clone(), Parameters::default()),
        })
    }
}

/// One change of an agent: what the closures of this noun work with.
pub(super) struct Edit<'a, 'c> {
    pub(super) tx: &'a Tx<'c>,
    pub(super) caller: &'a Caller,
    pub(super) sealer: &'a Sealer,
    pub(super) random: &'a Random,
    pub(super) now: Timestamp,
}

impl Edit<'_, '_> {
    /// Seals and stores the secrets of a request.
    pub(super) fn seal(&self, secrets: &NewSecrets) -> Result<(), Failure> {
        secrets.store(self.tx, self.sealer, self.caller.workspace, self.now)
    }

    /// Writes what was edited, with its audit row and event, and publishes it where sandbox follows saves.
    pub(super) fn save(
        &self,
        before: &AgentState,
        content: Content,
        action: &'static str,
    ) -> Result<Saved, Failure> {
        chains::content_check(self.tx, self.caller.workspace, before.agent.id, Environment::ALL, &content)
            .map_err(|failure| failure.in_field("fallback.targets"))?;
        let agent = Agent { content, ..before.agent.clone() };
        let mut after = state(self.tx, agents::agent_update(self.tx, &agent, self.now)?)?;
        self.caller
            .change(self.now, action, after.agent.id, EventKind::AgentUpdated)
            .before(shown(before))
            .after(shown(&after))
            .record(self.tx)?;
        let version = super::versions::publish_saved(self, &mut after)?;
        let (was, is) = (content_secrets(&before.agent.content), content_secrets(&after.agent.content));
        forget_dropped(self.tx, self.caller.workspace, after.agent.id, &was, &is)?;
        Ok(Saved { state: after, version })
    }
}

/// An agent as the audit log and events show it: what people edit, and what runs. Of its secrets, what may be seen of them.
pub(super) fn shown(state: &AgentState) -> Value {
    let AgentState { agent, running, unpublished_changes } = state;
    json!({
        "id": agent.id,
        "name": agent.name,
        "draft": agent.content.draft,
        "variants": agent.content.variants,
        "running": running,
        "unpublished_changes": unpublished_changes,
        "revision": agent.revision,
    })
}

/// Makes an agent.
pub async fn agent_create(
    app: &Shared,
    caller: &Caller,
    input: AgentInput,
    once: Once<AgentState>,
) -> Result<Answer<AgentState>, Failure> {
    caller.may(Permission::AgentsWrite)?;
    endpoints::places_check(app, caller.workspace, input.draft.places()).await?;
    edit(app, caller, move |edit| once.run(edit.tx, edit.caller, edit.now, || created(edit, &input))).await
}

fn created(edit: &Edit<'_, '_>, input: &AgentInput) -> Result<AgentState, Failure> {
    let (workspace, now) = (edit.caller.workspace, edit.now);
    let count = agents::agent_count(edit.tx, workspace)?;
    if count >= i64::from(AGENTS_MAX) {
        return Err(Failure::Refused(Refusal::new(
            Code::LimitReached,
            format!("the workspace has {count} agents; at most {AGENTS_MAX} are possible"),
        )));
    }
    name_check(edit, &input.name, None)?;
    edit.seal(&input.draft.secrets)?;
    let draft = input.draft.applied(&Draft::default())?;
    let content = Content { draft, variants: Vec::new() };
    let id = AgentId::new(now, edit.random.bits());
    chains::content_check(edit.tx, workspace, id, Environment::ALL, &content)
        .map_err(|failure| failure.in_field("draft.fallback.targets"))?;
    let name = input.name.clone();
    let agent = Agent { id, workspace, name, content, revision: 1, created_at: now, updated_at: now };
    agents::agent_create(edit.tx, &agent)?;
    let mut state = state(edit.tx, agent)?;
    edit.caller
        .change(now, "agent.create", id, EventKind::AgentCreated)
        .after(shown(&state))
        .record(edit.tx)?;
    super::versions::publish_saved(edit, &mut state)?;
    Ok(state)
}

/// Refuses a name that another agent has: people and commands tell agents apart by it.
fn name_check(edit: &Edit<'_, '_>, name: &str, own: Option<AgentId>) -> Result<(), Failure> {
    match agents::agent_named(edit.tx, edit.caller.workspace, name)?.filter(|other| Some(other.id) != own) {
        None => Ok(()),
        Some(other) => Err(Failure::field(
            "name",
            Refusal::new(
                Code::NameTaken,
                format!(
                    "the agent {} is called {} already; names are unique within a workspace",
                    other.id,
                    quoted(&other.name)
                ),
            ),
        )),
    }
}

/// A page of the workspace's agents, oldest first.
pub async fn agent_list(
    app: &Shared,
    caller: &Caller,
    search: Option<String>,
    after: Option<AgentId>,
    limit: u32,
) -> Result<Vec<AgentState>, Failure> {
    caller.may(Permission::AgentsRead)?;
    let workspace = caller.workspace;
    app.database
        .try_read(move |read| {
            agents::agent_list(read, workspace, search.as_deref(), after, limit)?
                .into_iter()
                .map(|agent| state(read, agent))
                .collect()
        })
        .await
}

/// One agent.
pub async fn agent_find(app: &Shared, caller: &Caller, id: AgentId) -> Result<AgentState, Failure> {
    caller.may(Permission::AgentsRead)?;
    let workspace = caller.workspace;
    app.database.try_read(move |read| load(read, workspace, id)).await
}

/// Renames an agent.
pub async fn agent_update(
    app: &Shared,
    caller: &Caller,
    id: AgentId,
    if_match: IfMatch,
    name: Option<String>,
) -> Result<AgentState, Failure> {
    caller.may(Permission::AgentsWrite)?;
    edit(app, caller, move |edit| {
        let before = load(edit.tx, edit.caller.workspace, id)?;
        if_match.check(before.agent.revision)?;
        let Some(name) = name.clone().filter(|name| *name != before.agent.name) else { return Ok(before) };
        name_check(edit, &name, Some(id))?;
        let agent = agents::agent_update(edit.tx, &Agent { name, ..before.agent.clone() }, edit.now)?;
        let after = AgentState { agent, ..before.clone() };
        edit.caller
            .change(edit.now, "agent.update", id, EventKind::AgentUpdated)
            .before(shown(&before))
            .after(shown(&after))
            .record(edit.tx)?;
        Ok(after)
    })
    .await
}

/// Removes an agent that answers no numbers. Its versions stay, for the calls that they took; its secrets go, since nothing runs any
/// more that would use them.
pub async fn agent_delete(
    app: &Shared,
    caller: &Caller,
    id: AgentId,
    if_match: IfMatch,
) -> Result<(), Failure> {
    caller.may(Permission::AgentsWrite)?;
    edit(app, caller, move |edit| {
        let before = load(edit.tx, edit.caller.workspace, id)?;
        if_match.check(before.agent.revision)?;
        refuse_in_use(edit.tx, edit.caller.workspace, id)?;
        agents::agent_delete(edit.tx, edit.caller.workspace, id, edit.now)?;
        forget_all(edit, &before)?;
        edit.caller
            .change(edit.now, "agent.delete", id, EventKind::AgentDeleted)
            .before(shown(&before))
            .record(edit.tx)?;
        Ok(())
    })
    .await
}

/// Forgets the secrets of an agent that was removed, and of all its versions.
fn forget_all(edit: &Edit<'_, '_>, state: &AgentState) -> Result<(), Failure> {
    let workspace = edit.caller.workspace;
    forget_replaced(edit.tx, workspace, &content_secrets(&state.agent.content), &[])?;
    let mut before = None;
    loop {
        let page = versions::version_list(edit.tx, state.agent.id, before, VERSIONS_AT_ONCE)?;
        let Some(last) = page.last() else { return Ok(()) };
        before = Some(last.version);
        for version in &page {
            forget_replaced(edit.tx, workspace, &content_secrets(&version.content), &[])?;
        }
    }
}

fn refuse_in_use(read: &Read<'_>, workspace: WorkspaceId, id: AgentId) -> Result<(), Failure> {
    let filter = NumberFilter { agent: Some(id), ..NumberFilter::default() };
    let held = numbers::number_list(read, workspace, &filter, None, NAMED_MAX + 1)?;
    if held.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = held
        .iter()
        .take(NAMED_MAX as usize)
        .map(|number| format!("{} ({})", number.phone_number, number.id))
        .collect();
    let more = if held.len() > NAMED_MAX as usize { " and more" } else { "" };
    Err(Failure::Refused(Refusal::new(
        Code::AgentInUse,
        format!("the agent answers {}{more}; assign another agent to them, or none, first", named.join(", ")),
    )))
}

/// Changes an agent's draft, and publishes it where sandbox follows saves.
pub async fn draft_update(
    app: &Shared,
    caller: &Caller,
    id: AgentId,
    if_match: IfMatch,
    patch: DraftPatch,
) -> Result<Saved, Failure> {
    caller.may(Permission::AgentsWrite)?;
    endpoints::places_check(app, caller.workspace, patch.places()).await?;
    edit(app, caller, move |edit| {
        let before = load(edit.tx, edit.caller.workspace, id)?;
        if_match.check(before.agent.revision)?;
        let was = &before.agent.content;
        let draft = patch.applied(&was.draft)?;
        if draft == was.draft {
            return Ok(Saved { state: before, version: None });
        }
        edit.seal(&patch.secrets)?;
        let content = Content { draft, variants: was.variants.clone() };
        edit.save(&before, content, "draft.update")
    })
    .await
}

/// Runs a change in one transaction that holds the workspace's lock, and tells routes of it.
pub(super) async fn edit<T, F>(app: &Shared, caller: &Caller, work: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: Fn(&Edit<'_, '_>) -> Result<T, Failure> + Send + 'static,
{
    let (caller, now, random, sealer) =
        (caller.clone(), app.clock.now(), app.random.clone(), Sealer::of(app));
    let done = app
        .database
        .try_write(move |tx| {
            tx.workspace_lock(caller.workspace)?;
            work(&Edit { tx, caller: &caller, sealer: &sealer, random: &random, now })
        })
        .await?;
    app.nudges.build_routes.notify_one();
    Ok(done)
}

/// An agent with everything about it, or the refusal that one of another workspace gets too.
pub(super) fn load(read: &Read<'_>, workspace: WorkspaceId, id: AgentId) -> Result<AgentState, Failure> {
    let agent = agents::agent_find(read, workspace, id)?.ok_or_else(|| {
        Refusal::new(Code::AgentNotFound, format!("there is no agent {id} in this workspace"))
    })?;
    state(read, agent)
}

fn state(read: &Read<'_>, agent: Agent) -> Result<AgentState, Failure> {
    let mut running = Running::default();
    let mut unpublished_changes = true;
    for here in deployments::deployment_running(read, agent.id)? {
        running = running.with(here.environment, here.version.version);
        if here.environment == Environment::Sandbox {
            unpublished_changes = here.version.content != agent.content;
        }
    }
    Ok(AgentState { agent, running, unpublished_changes })
}
