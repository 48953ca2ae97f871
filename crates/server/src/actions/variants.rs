//! Variants of a draft: made, changed, put in order, removed. The first is the default. The rules stand in `domain::variant`; saving
//! is an agent's saving ([`super::agents`]), with the agent's revision.

use domain::agent::{Content, Parameters, Variant};
use domain::endpoint::Endpoint;
use domain::error::Refusal;
use domain::id::{AgentId, VariantId};
use domain::permission::Permission;
use domain::variant::{move_to, name_check, place, remove, room_check};

use super::agents::{AgentState, Edit, edit, load};
use super::secrets::NewSecrets;
use super::{Answer, Caller, Failure, IfMatch, Once, endpoints};
use crate::app::Shared;
use crate::patch::Patch;

/// What a new variant is made of.
#[derive(Clone)]
pub struct VariantInput {
    /// What people call it.
    pub name: String,
    /// Sent along with each call.
    pub attributes: Parameters,
    /// Its own endpoint.
    pub endpoint: Option<Endpoint>,
    /// Its place, from 1; the last where it is left out.
    pub position: Option<u16>,
    /// The secrets in it.
    pub secrets: NewSecrets,
}

/// What changes about a variant.
#[derive(Clone, Default)]
pub struct VariantPatch {
    /// What people call it.
    pub name: Option<String>,
    /// Sent along with each call.
    pub attributes: Patch<Parameters>,
    /// Its own endpoint.
    pub endpoint: Patch<Endpoint>,
    /// Its place, from 1.
    pub position: Option<u16>,
    /// The secrets in it.
    pub secrets: NewSecrets,
}

/// A variant, and the agent that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantState {
    /// The agent.
    pub agent: AgentState,
    /// The variant.
    pub variant: Variant,
    /// Its place, from 1.
    pub position: usize,
}

impl VariantState {
    fn of(agent: AgentState, id: VariantId) -> Result<VariantState, Failure> {
        let at = place(&agent.agent.content.variants, id)?;
        Ok(VariantState { variant: agent.agent.content.variants[at].clone(), position: at + 1, agent })
    }
}

/// Makes a variant.
pub async fn variant_create(
    app: &Shared,
    caller: &Caller,
    agent: AgentId,
    if_match: IfMatch,
    input: VariantInput,
    once: Once<VariantState>,
) -> Result<Answer<VariantState>, Failure> {
    caller.may(Permission::AgentsWrite)?;
    places_check(app, caller, input.endpoint.as_ref()).await?;
    edit(app, caller, move |edit| {
        once.run(edit.tx, edit.caller, edit.now, || {
            let before = load(edit.tx, edit.caller.workspace, agent)?;
            if_match.check(before.agent.revision)?;
            let mut variants = before.agent.content.variants.clone();
            room_check(&variants)?;
            on_field("name", name_check(&variants, &input.name, None))?;
            edit.seal(&input.secrets)?;
            let kept = |endpoint| endpoints::endpoint_kept(endpoint, None, "endpoint");
            let endpoint = input.endpoint.clone().map(kept).transpose()?;
            let id = VariantId::new(edit.now, edit.random.bits());
            variants.push(Variant {
                id,
                name: input.name.clone(),
                attributes: input.attributes.clone(),
                endpoint,
            });
            if let Some(position) = input.position {
                on_field("position", move_to(&mut variants, id, usize::from(position)))?;
            }
            saved(edit, &before, variants, "variant.create", id)
        })
    })
    .await
}

/// All variants of the draft, the default first.
pub async fn variant_list(app: &Shared, caller: &Caller, agent: AgentId) -> Result<AgentState, Failure> {
    caller.may(Permission::AgentsRead)?;
    let workspace = caller.workspace;
    app.database.try_read(move |read| load(read, workspace, agent)).await
}

/// One variant of the draft.
pub async fn variant_find(
    app: &Shared,
    caller: &Caller,
    agent: AgentId,
    id: VariantId,
) -> Result<VariantState, Failure> {
    caller.may(Permission::AgentsRead)?;
    let workspace = caller.workspace;
    app.database.try_read(move |read| VariantState::of(load(read, workspace, agent)?, id)).await
}

/// Changes a variant.
pub async fn variant_update(
    app: &Shared,
    caller: &Caller,
    agent: AgentId,
    id: VariantId,
    if_match: IfMatch,
    patch: VariantPatch,
) -> Result<VariantState, Failure> {
    caller.may(Permission::AgentsWrite)?;
    if let Patch::Set(endpoint) = &patch.endpoint {
        places_check(app, caller, Some(endpoint)).await?;
    }
    edit(app, caller, move |edit| {
        let before = load(edit.tx, edit.caller.workspace, agent)?;
        let at = place(&before.agent.content.variants, id)?;
        if_match.check(before.agent.revision)?;
        let mut variants = before.agent.content.variants.clone();
        if let Some(name) = &patch.name {
            on_field("name", name_check(&variants, name, Some(id)))?;
        }
        let variant = &mut variants[at];
        if let Some(name) = &patch.name {
            variant.name.clone_from(name);
        }
        variant.attributes =
            patch.attributes.clone().over_or(variant.attributes.clone(), Parameters::default());
        variant.endpoint = match patch.endpoint.clone() {
            Patch::Set(endpoint) => {
                Some(endpoints::endpoint_kept(endpoint, variant.endpoint.as_ref(), "endpoint")?)
            }
            other => other.over(variant.endpoint.take()),
        };
        if let Some(position) = patch.position {
            on_field("position", move_to(&mut variants, id, usize::from(position)))?;
        }
        if variants == before.agent.content.variants {
            return VariantState::of(before, id);
        }
        edit.seal(&patch.secrets)?;
        saved(edit, &before, variants, "variant.update", id)
    })
    .await
}

/// Removes a variant. Numbers that carry it keep it, and a callout tells so until they are reassigned.
pub async fn variant_delete(
    app: &Shared,
    caller: &Caller,
    agent: AgentId,
    id: VariantId,
    if_match: IfMatch,
) -> Result<(), Failure> {
    caller.may(Permission::AgentsWrite)?;
    edit(app, caller, move |edit| {
        let before = load(edit.tx, edit.caller.workspace, agent)?;
        let mut variants = before.agent.content.variants.clone();
        place(&variants, id)?;
        if_match.check(before.agent.revision)?;
        remove(&mut variants, id)?;
        let content = Content { draft: before.agent.content.draft.clone(), variants };
        edit.save(&before, content, "variant.delete").map(drop)
    })
    .await
}

fn saved(
    edit: &Edit<'_, '_>,
    before: &AgentState,
    variants: Vec<Variant>,
    action: &'static str,
    id: VariantId,
) -> Result<VariantState, Failure> {
    let content = Content { draft: before.agent.content.draft.clone(), variants };
    VariantState::of(edit.save(before, content, action)?.state, id)
}

fn on_field<T>(field: &str, outcome: Result<T, Refusal>) -> Result<T, Failure> {
    outcome.map_err(|refusal| Failure::field(field, refusal))
}

async fn places_check(app: &Shared, caller: &Caller, endpoint: Option<&Endpoint>) -> Result<(), Failure> {
    let mut places = Vec::new();
    if let Some(endpoint) = endpoint {
        endpoints::endpoint_places(endpoint, "endpoint", &mut places);
    }
    endpoints::places_check(app, caller.workspace, places).await
}
