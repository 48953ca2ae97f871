//! Things that tests need: a workspace, numbers in every state.

use database::agents::Agent;
use database::deployments::{Deployment, deployment_create};
use database::numbers::{Number, number_create};
use database::versions::{Version, version_create, version_find};
use database::workspaces::workspace_create;
use database::{Database, DbError, Tx};
use domain::agent::{Content, Variant};
use domain::call::Ingress;
use domain::environment::Environment;
use domain::id::{AgentId, DeploymentId, NumberId, VariantId, VersionId, WorkspaceId};
use domain::money::{Currency, Money};
use domain::number::{Capabilities, Country, E164, NumberStatus, NumberType, Source};
use domain::publishing::DeploymentAction;
use domain::quote::Price;
use domain::route::row::{CallbackToken, NumberSettings};
use domain::workspace::WorkspaceSettings;

use crate::arena::at;

pub(crate) const HOME: WorkspaceId = WorkspaceId::from_bits(1);
pub(crate) const OTHER: WorkspaceId = WorkspaceId::from_bits(2);

/// Two workspaces, `home` and `other`.
pub(crate) async fn workspaces(database: &Database) {
    database
        .write(|tx| {
            workspace_create(tx, HOME, "home", &WorkspaceSettings::default(), at(0))?;
            workspace_create(tx, OTHER, "other", &WorkspaceSettings::default(), at(0))
        })
        .await
        .unwrap();
}

pub(crate) fn price(monthly: i64, setup: i64) -> Price {
    let money = |minor| Money::from_minor(minor, Currency::USD).unwrap();
    Price { monthly: money(monthly), setup: money(setup) }
}

pub(crate) fn phone_number(bits: u64) -> E164 {
    E164::from_digits(14_155_550_000 + bits).unwrap()
}

/// An active number of `home`, the n-th.
pub(crate) fn number(n: u64) -> Number {
    Number {
        id: NumberId::from_bits(n.into()),
        workspace: HOME,
        ingress: Ingress::STORE,
        phone_number: phone_number(n),
        country: Some(Country::US),
        number_type: NumberType::Local,
        source: Source::Store,
        status: NumberStatus::Active,
        status_reason: None,
        label: None,
        tags: vec![],
        capabilities: Capabilities { voice: true, sms: n.is_multiple_of(2), mms: false },
        locality: Some("San Francisco".into()),
        region: Some("CA".into()),
        price: price(115, 0),
        carrier_number_id: Some(format!("PN{n:032}")),
        callback_token: CallbackToken(u128::from(n).to_be_bytes()),
        purchase_id: None,
        assignment: None,
        release_lock: false,
        settings: NumberSettings::default(),
        hold: None,
        revision: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

pub(crate) fn keep(tx: &Tx<'_>, numbers: &[Number]) -> Result<(), DbError> {
    numbers.iter().try_for_each(|number| number_create(tx, number))
}

/// An agent of `home`, the n-th, with one variant.
pub(crate) fn agent(n: u128) -> Agent {
    let variant = Variant {
        id: VariantId::from_bits(n),
        name: "Montréal".into(),
        attributes: domain::agent::Parameters::default(),
        endpoint: None,
    };
    Agent {
        id: AgentId::from_bits(n),
        workspace: HOME,
        name: format!("Réception {n}"),
        content: Content { variants: vec![variant], ..Content::default() },
        revision: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

/// Publishes an agent's content as a version, and puts it into an environment.
pub(crate) fn deploy(
    tx: &Tx<'_>,
    agent: &Agent,
    version: u32,
    environment: Environment,
    n: u128,
) -> Result<(), DbError> {
    let id = VersionId::from_bits(agent.id.to_bits() * 1000 + u128::from(version));
    if version_find(tx, agent.id, version)?.is_none() {
        version_create(
            tx,
            &Version {
                id,
                workspace: agent.workspace,
                agent: agent.id,
                version,
                content: agent.content.clone(),
                note: Some("first".into()),
                created_at: at(1),
                created_by: "key_1".into(),
            },
        )?;
    }
    deployment_create(
        tx,
        &Deployment {
            id: DeploymentId::from_bits(n),
            workspace: agent.workspace,
            agent: agent.id,
            environment,
            version_id: id,
            version,
            action: DeploymentAction::Publish,
            deployed_at: at(2),
            deployed_by: "key_1".into(),
        },
    )
}
