//! Versions: published from a draft, promoted and rolled back, each in one transaction with its deployment, audit row and event; and
//! what a deployment would change, before it is made. The rules stand in `domain::publishing`.

use std::sync::Arc;

pub use database::deployments::Deployment;
use database::numbers::{self, NumberFilter};
pub use database::versions::Version;
use database::{Read, deployments, versions, workspaces};
use domain::agent::Content;
use domain::difference::{Differences, differences};
use domain::environment::{Environment, SandboxFollows};
use domain::error::{Code, Refusal, shown};
use domain::event::EventKind;
use domain::id::{AgentId, DeploymentId, VersionId};
use domain::permission::Permission;
use domain::preview::{Planned, Preview, previews};
use domain::publishing::{self, DeploymentAction, Past, Publication, Running, Versions};
use domain::route::row::{NumberRow, NumberSettings, RunningRow, WorkspaceRow};
use futures_util::future::join_all;
use serde_json::json;

use super::agents::{AgentState, Edit, edit, load};
use super::endpoints::{Place, content_places};
use super::{Answer, Caller, Failure, IfMatch, Once, chains};
use crate::app::Shared;

/// The most numbers that one preview looks at; it says how many there are beyond.
pub const PREVIEW_NUMBERS_MAX: u32 = 10_000;
/// The most numbers that one preview lists.
pub const PREVIEW_LISTED_MAX: usize = 500;

/// A saved draft or variant, and the version that saving has published, where it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Saved {
    /// The agent after it.
    pub state: AgentState,
    /// The new version in sandbox.
    pub version: Option<u32>,
}

/// What an environment runs now, and since when.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployed {
    /// The deployment.
    pub deployment: Deployment,
    /// What the agent runs after it.
    pub running: Running,
    /// Whether it was made now: asking again for what runs already changes nothing.
    pub changed: bool,
}

/// A version with what it changed.
#[derive(Clone, Debug, PartialEq)]
pub struct VersionShown {
    /// The version.
    pub version: Version,
    /// What differs from the version before it.
    pub changes: Differences,
    /// Where it runs now.
    pub runs_in: Vec<Environment>,
}

/// What a deployment would change.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishPreview {
    /// Where.
    pub environment: Environment,
    /// The version that runs there now.
    pub from_version: Option<u32>,
    /// The version that would run; none yet where it would be published from the draft.
    pub to_version: Option<u32>,
    /// What differs in the agent.
    pub changes: Differences,
    /// The numbers whose calls would go otherwise.
    pub numbers: Vec<Preview>,
    /// How many more there are, which are not listed.
    pub more: usize,
    /// How many numbers the agent answers there.
    pub numbers_checked: usize,
    /// Whether there are more than are looked at.
    pub is_partial: bool,
    /// What would not work as it is, as far as can be seen from here: a field, and why.
    pub warnings: Vec<(String, String)>,
}

/// The most names that one preview looks up.
const LOOKED_UP_MAX: usize = 20;

/// Publishes the draft: freezes it into the next version and puts that into sandbox.
pub async fn publish(
    app: &Shared,
    caller: &Caller,
    agent: AgentId,
    if_match: IfMatch,
    note: Option<String>,
    once: Once<Deployed>,
) -> Result<Answer<Deployed>, Failure> {
    caller.may(Permission::AgentsPublish)?;
    edit(app, caller, move |edit| {
        once.run(edit.tx, edit.caller, edit.now, || {
            let mut state = load(edit.tx, edit.caller.workspace, agent)?;
            if_match.check(state.agent.revision)?;
            let publication = with_versions(edit.tx, &state, publishing::publish)??;
            // What numbers lead to may have changed since the draft was saved.
            let (workspace, content) = (edit.caller.workspace, &state.agent.content);
            chains::content_check(edit.tx, workspace, agent, &[Environment::Sandbox], content)?;
            published(edit, &mut state, publication, note.as_deref())
        })
    })
    .await
}

/// Publishes a draft that was saved, where sandbox follows saves. Says the new version's number.
pub(super) fn publish_saved(edit: &Edit<'_, '_>, state: &mut AgentState) -> Result<Option<u32>, Failure> {
    let workspace = workspaces::workspace_find(edit.tx, edit.caller.workspace)?;
    let follows = workspace.map_or(SandboxFollows::Published, |found| found.settings.sandbox_follows);
    let decide =
        |draft: &Content, versions: Versions<'_>| publishing::publish_saved(draft, versions, follows);
    let Some(publication) = with_versions(edit.tx, state, decide)? else { return Ok(None) };
    published(edit, state, publication, None)?;
    Ok(Some(publication.version))
}

/// Asks a rule of publishing with what is known of the agent's versions.
fn with_versions<T>(
    read: &Read<'_>,
    state: &AgentState,
    rule: impl FnOnce(&Content, Versions<'_>) -> T,
) -> Result<T, Failure> {
    let latest = versions::version_latest(read, state.agent.id)?;
    let running = deployments::deployment_running(read, state.agent.id)?;
    let sandbox = running.iter().find(|here| here.environment == Environment::Sandbox);
    let sandbox = sandbox.map(|here| (here.version.version, &here.version.content));
    Ok(rule(&state.agent.content, Versions { latest, sandbox }))
}

fn published(
    edit: &Edit<'_, '_>,
    state: &mut AgentState,
    publication: Publication,
    note: Option<&str>,
) -> Result<Deployed, Failure> {
    let version = Version {
        id: VersionId::new(edit.now, edit.random.bits()),
        workspace: edit.caller.workspace,
        agent: state.agent.id,
        version: publication.version,
        content: state.agent.content.clone(),
        note: note.map(str::to_owned),
        created_at: edit.now,
        created_by: edit.caller.actor.clone(),
    };
    versions::version_create(edit.tx, &version)?;
    let done =
        deploy(edit, state, Environment::Sandbox, version.id, version.version, DeploymentAction::Publish)?;
    state.running = done.running;
    state.unpublished_changes = false;
    Ok(done)
}

/// Puts a version into an environment, with all that belongs to it.
fn deploy(
    edit: &Edit<'_, '_>,
    state: &AgentState,
    environment: Environment,
    version_id: VersionId,
    version: u32,
    action: DeploymentAction,
) -> Result<Deployed, Failure> {
    let deployment = Deployment {
        id: DeploymentId::new(edit.now, edit.random.bits()),
        workspace: edit.caller.workspace,
        agent: state.agent.id,
        environment,
        version_id,
        version,
        action,
        deployed_at: edit.now,
        deployed_by: edit.caller.actor.clone(),
    };
    deployments::deployment_create(edit.tx, &deployment)?;
    let fact =
        |version: Option<u32>| json!({"environment": environment, "version": version, "action": action});
    edit.caller
        .change(edit.now, audit_action(action), state.agent.id, EventKind::AgentPublished)
        .before(fact(state.running.version(environment)))
        .after(fact(Some(version)))
        .record(edit.tx)?;
    Ok(Deployed { deployment, running: state.running.with(environment, version), changed: true })
}

const fn audit_action(action: DeploymentAction) -> &'static str {
    match action {
        DeploymentAction::Publish => "agent.publish",
        DeploymentAction::Promote => "agent.promote",
        DeploymentAction::Rollback => "agent.rollback",
    }
}

/// Takes what one environment runs over into the next.
pub async fn promote(
    app: &Shared,
    caller: &Caller,
    agent: AgentId,
    from: Environment,
    to: Environment,
) -> Result<Deployed, Failure> {
    caller.may(Permission::AgentsPublish)?;
    edit(app, caller, move |edit| {
        let state = load(edit.tx, edit.caller.workspace, agent)?;
        let step = publishing::promote(from, to, state.running).map_err(|refusal| match refusal.code {
            Code::InvalidValue => Failure::field("to", refusal),
            _ => Failure::Refused(refusal),
        })?;
        carried_out(edit, &state, to, step, DeploymentAction::Promote)
    })
    .await
}

/// Puts a version that ran in an environment before back there.
pub async fn rollback(
    app: &Shared,
    caller: &Caller,
    agent: AgentId,
    environment: Environment,
    version: u32,
) -> Result<Deployed, Failure> {
    caller.may(Permission::AgentsPublish)?;
    edit(app, caller, move |edit| {
        let state = load(edit.tx, edit.caller.workspace, agent)?;
        let past = Past {
            exists: versions::version_find(edit.tx, agent, version)?.is_some(),
            ran_there: deployments::deployment_ran(edit.tx, agent, environment, version)?,
            running: state.running.version(environment),
        };
        let step = publishing::rollback(environment, version, past)?;
        carried_out(edit, &state, environment, step, DeploymentAction::Rollback)
    })
    .await
}

fn carried_out(
    edit: &Edit<'_, '_>,
    state: &AgentState,
    environment: Environment,
    step: publishing::Deployment,
    action: DeploymentAction,
) -> Result<Deployed, Failure> {
    let agent = state.agent.id;
    match step {
        publishing::Deployment::Unchanged(_) => {
            let deployment = deployments::deployment_current(edit.tx, agent)?
                .into_iter()
                .find(|deployment| deployment.environment == environment)
                .ok_or_else(|| missing(agent, environment))?;
            Ok(Deployed { deployment, running: state.running, changed: false })
        }
        publishing::Deployment::Deploy(number) => {
            let version = version_load(edit.tx, agent, number)?;
            // What numbers and other agents lead to may have changed since it was saved.
            let workspace = edit.caller.workspace;
            chains::content_check(edit.tx, workspace, agent, &[environment], &version.content)?;
            deploy(edit, state, environment, version.id, number, action)
        }
    }
}

fn missing(agent: AgentId, environment: Environment) -> Failure {
    Failure::Database(database::DbError::Corrupt(format!(
        "{agent} runs in {environment} without a deployment"
    )))
}

fn version_load(read: &Read<'_>, agent: AgentId, number: u32) -> Result<Version, Failure> {
    Ok(versions::version_find(read, agent, number)?.ok_or_else(|| {
        Refusal::new(
            Code::VersionNotFound,
            format!("the agent has no version {number}; list them with GET /v1/agents/{{id}}/versions"),
        )
    })?)
}

/// A page of an agent's versions, the latest first; `before` is the last number of the page before.
pub async fn version_list(
    app: &Shared,
    caller: &Caller,
    agent: AgentId,
    before: Option<u32>,
    limit: u32,
) -> Result<(Vec<Version>, Running), Failure> {
    caller.may(Permission::AgentsRead)?;
    let workspace = caller.workspace;
    app.database
        .try_read(move |read| {
            let state = load(read, workspace, agent)?;
            Ok((versions::version_list(read, agent, before, limit)?, state.running))
        })
        .await
}

/// One version, and what it changed.
pub async fn version_find(
    app: &Shared,
    caller: &Caller,
    agent: AgentId,
    number: u32,
) -> Result<VersionShown, Failure> {
    caller.may(Permission::AgentsRead)?;
    let workspace = caller.workspace;
    app.database
        .try_read(move |read| {
            let state = load(read, workspace, agent)?;
            let version = version_load(read, agent, number)?;
            let before = match number.checked_sub(1) {
                None | Some(0) => None,
                Some(before) => versions::version_find(read, agent, before)?,
            };
            let changes = differences(before.as_ref().map(|before| &before.content), &version.content);
            Ok(VersionShown { changes, runs_in: runs_in(&state.running, number), version })
        })
        .await
}

/// The environments that run a version.
pub fn runs_in(running: &Running, version: u32) -> Vec<Environment> {
    Environment::ALL.iter().copied().filter(|&place| running.version(place) == Some(version)).collect()
}

/// What runs where, and a page of all deployments, the latest first.
pub async fn deployment_list(
    app: &Shared,
    caller: &Caller,
    agent: AgentId,
    environment: Option<Environment>,
    before: Option<DeploymentId>,
    limit: u32,
) -> Result<(Vec<Deployment>, Vec<Deployment>), Failure> {
    caller.may(Permission::AgentsRead)?;
    let workspace = caller.workspace;
    app.database
        .try_read(move |read| {
            load(read, workspace, agent)?;
            let current = deployments::deployment_current(read, agent)?;
            let history = deployments::deployment_list(read, agent, environment, before, limit)?;
            Ok((current, history))
        })
        .await
}

/// What publishing, or promoting to `to`, would change.
pub async fn publish_preview(
    app: &Shared,
    caller: &Caller,
    agent: AgentId,
    to: Environment,
) -> Result<PublishPreview, Failure> {
    caller.may(Permission::AgentsRead)?;
    caller.may(Permission::NumbersRead)?;
    let (workspace, now) = (caller.workspace, app.clock.now());
    let (mut preview, places) = app
        .database
        .try_read(move |read| {
            let state = load(read, workspace, agent)?;
            let (to_version, version_id, after) = planned(read, &state, to)?;
            let places = content_places(&after);
            let from_version = state.running.version(to);
            let before = match from_version {
                Some(number) => Some(version_load(read, agent, number)?),
                None => None,
            };
            let changes = differences(before.as_ref().map(|before| &before.content), &after);
            let filter =
                NumberFilter { agent: Some(agent), environment: Some(to), ..NumberFilter::default() };
            let mut held = numbers::number_list(read, workspace, &filter, None, PREVIEW_NUMBERS_MAX + 1)?;
            let is_partial = held.len() > PREVIEW_NUMBERS_MAX as usize;
            held.truncate(PREVIEW_NUMBERS_MAX as usize);
            let numbers_checked = held.len();
            let name: Arc<str> = state.agent.name.as_str().into();
            let plan = Planned {
                agent_id: agent,
                environment: to,
                before: before.map(|before| RunningRow {
                    version_id: before.id,
                    version: before.version,
                    agent_name: Arc::clone(&name),
                    content: Arc::new(before.content),
                }),
                after: RunningRow {
                    version_id,
                    version: to_version.unwrap_or_default(),
                    agent_name: name,
                    content: Arc::new(after),
                },
            };
            let settings = workspaces::workspace_find(read, workspace)?.map(|found| found.settings);
            let row = WorkspaceRow { settings: settings.unwrap_or_default() };
            let mut numbers =
                previews(&plan, (workspace, row), held.into_iter().map(number_row).collect(), now);
            let more = numbers.len().saturating_sub(PREVIEW_LISTED_MAX);
            numbers.truncate(PREVIEW_LISTED_MAX);
            let preview = PublishPreview {
                environment: to,
                from_version,
                to_version,
                changes,
                numbers,
                more,
                numbers_checked,
                is_partial,
                warnings: Vec::new(),
            };
            Ok::<_, Failure>((preview, places))
        })
        .await?;
    preview.warnings = unresolved(app, places).await;
    Ok(preview)
}

/// The addresses whose names stand for nothing now. They may tomorrow, so nothing is refused for it.
async fn unresolved(app: &Shared, places: Vec<(String, Place)>) -> Vec<(String, String)> {
    let addresses = places.into_iter().filter_map(|(field, place)| match place {
        // A SIP domain need not have an address of its own (RFC 3263): the carrier looks further.
        Place::Address(address) if field.rsplit('.').next() != Some("uri") => Some((field, address)),
        _ => None,
    });
    let asked = addresses.take(LOOKED_UP_MAX).map(|(field, address)| async move {
        let resolves = app.egress.resolves(&address).await;
        (!resolves).then(|| {
            let detail = format!(
                "{} cannot be found in the DNS now: calls would go to the default or the fallback",
                shown(&address.host.to_string())
            );
            (field, detail)
        })
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// What would run there: the draft in sandbox, and what the environment before runs in the others.
fn planned(
    read: &Read<'_>,
    state: &AgentState,
    to: Environment,
) -> Result<(Option<u32>, VersionId, Content), Failure> {
    let Some(from) = to.promoted_from() else {
        state.agent.content.check_publishable()?;
        return Ok((None, VersionId::from_bits(0), state.agent.content.clone()));
    };
    let (publishing::Deployment::Deploy(number) | publishing::Deployment::Unchanged(number)) =
        publishing::promote(from, to, state.running)?;
    let version = version_load(read, state.agent.id, number)?;
    Ok((Some(number), version.id, version.content))
}

/// A number as routes see it.
pub(super) fn number_row(
    number: numbers::Number,
) -> ((domain::call::Ingress, domain::number::E164), NumberRow) {
    let own = (number.settings != NumberSettings::default()).then(|| Box::new(number.settings));
    let row = NumberRow {
        number_id: number.id,
        workspace_id: number.workspace,
        callback_token: number.callback_token,
        assignment: number.assignment,
        own,
    };
    ((number.ingress, number.phone_number), row)
}
