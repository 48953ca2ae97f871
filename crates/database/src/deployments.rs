//! Deployments: which version each environment runs, and every time that changed.

use domain::environment::Environment;
use domain::id::{AgentId, DeploymentId, VersionId, WorkspaceId};
use domain::publishing::DeploymentAction;
use jiff::Timestamp;

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::routes::RouteChange;
use crate::value::{Row, Value};
use crate::versions::Version;

/// One version put into one environment at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// Of which agent.
    pub agent: AgentId,
    /// Where.
    pub environment: Environment,
    /// Which version.
    pub version_id: VersionId,
    /// Its number.
    pub version: u32,
    /// How it came there.
    pub action: DeploymentAction,
    /// When.
    pub deployed_at: Timestamp,
    /// By whom.
    pub deployed_by: String,
}

/// What an environment runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// The environment.
    pub environment: Environment,
    /// The version that it runs.
    pub version: Version,
    /// Since when.
    pub deployed_at: Timestamp,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, workspace_id, agent_id, environment, version_id, version, action, deployed_at, \
             deployed_by FROM deployments ",
            $rest
        )
    };
}

const LIST: &str = select!("WHERE agent_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3");
const LIST_OF_ENVIRONMENT: &str =
    select!("WHERE agent_id = $1 AND id < $2 AND environment = $4 ORDER BY id DESC LIMIT $3");
const CURRENT: &str =
    select!("WHERE id IN (SELECT deployment_id FROM running WHERE agent_id = $1) ORDER BY id");
const RAN: &str = "SELECT count(*) FROM deployments \
    WHERE agent_id = $1 AND environment = $2 AND version = $3";
const CREATE: &str = "INSERT INTO deployments (id, workspace_id, agent_id, environment, version_id, version, \
    action, deployed_at, deployed_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const RUN: &str = "INSERT INTO running (agent_id, environment, workspace_id, version_id, deployment_id) \
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT (agent_id, environment) \
    DO UPDATE SET version_id = excluded.version_id, deployment_id = excluded.deployment_id";
const RUNNING: &str = "SELECT r.environment, d.deployed_at, v.id, v.workspace_id, v.agent_id, v.version, \
    v.content, v.note, v.created_at, v.created_by FROM running r JOIN versions v ON v.id = r.version_id \
    JOIN deployments d ON d.id = r.deployment_id WHERE r.agent_id = $1 ORDER BY r.environment";
const RUNNING_NUMBERS: &str = "SELECT r.environment, v.version FROM running r \
    JOIN versions v ON v.id = r.version_id WHERE r.agent_id = $1";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("deployments::LIST", Both::same(LIST)),
    ("deployments::LIST_OF_ENVIRONMENT", Both::same(LIST_OF_ENVIRONMENT)),
    ("deployments::CURRENT", Both::same(CURRENT)),
    ("deployments::RAN", Both::same(RAN)),
    ("deployments::CREATE", Both::same(CREATE)),
    ("deployments::RUN", Both::same(RUN)),
    ("deployments::RUNNING", Both::same(RUNNING)),
    ("deployments::RUNNING_NUMBERS", Both::same(RUNNING_NUMBERS)),
];

fn deployment(row: &Row<'_>) -> Result<Deployment, DbError> {
    Ok(Deployment {
        id: row.parse(0)?,
        workspace: row.parse(1)?,
        agent: row.parse(2)?,
        environment: row.parse(3)?,
        version_id: row.parse(4)?,
        version: row.read(5)?,
        action: row.parse(6)?,
        deployed_at: row.read(7)?,
        deployed_by: row.read(8)?,
    })
}

/// The deployments that an agent's environments run now; at most one each.
pub fn deployment_current(read: &Read<'_>, agent: AgentId) -> Result<Vec<Deployment>, DbError> {
    read.query(CURRENT, &[Value::text(&agent)], deployment)
}

/// An agent's deployments, of one environment or of all, newest first; `before` is the last id of the page before.
pub fn deployment_list(
    read: &Read<'_>,
    agent: AgentId,
    environment: Option<Environment>,
    before: Option<DeploymentId>,
    limit: u32,
) -> Result<Vec<Deployment>, DbError> {
    // `e` comes after every id, which begins with `dep_` and a digit.
    let before = before.map_or_else(|| "e".to_owned(), |id| id.to_string());
    let mut params = vec![Value::text(&agent), before.into(), limit.into()];
    match environment {
        None => read.query(LIST, &params, deployment),
        Some(environment) => {
            params.push(environment.as_str().into());
            read.query(LIST_OF_ENVIRONMENT, &params, deployment)
        }
    }
}

/// Whether a version ever ran in an environment: only such a one can be rolled back to.
pub fn deployment_ran(
    read: &Read<'_>,
    agent: AgentId,
    environment: Environment,
    version: u32,
) -> Result<bool, DbError> {
    let params = [Value::text(&agent), environment.as_str().into(), version.into()];
    Ok(read.query_one(RAN, &params, |row| row.read::<i64>(0))? > 0)
}

/// What each environment runs of an agent, with its content. Environments that run nothing are left out.
pub fn deployment_running(read: &Read<'_>, agent: AgentId) -> Result<Vec<Running>, DbError> {
    read.query(RUNNING, &[Value::text(&agent)], |row| {
        let version = Version {
            id: row.parse(2)?,
            workspace: row.parse(3)?,
            agent: row.parse(4)?,
            version: row.read(5)?,
            content: row.json(6)?,
            note: row.read(7)?,
            created_at: row.read(8)?,
            created_by: row.read(9)?,
        };
        Ok(Running { environment: row.parse(0)?, version, deployed_at: row.read(1)? })
    })
}

/// The numbers of the versions that run, as the domain's rules about publishing take them.
pub fn deployment_running_numbers(
    read: &Read<'_>,
    agent: AgentId,
) -> Result<domain::publishing::Running, DbError> {
    let mut running = domain::publishing::Running::default();
    read.query_each(RUNNING_NUMBERS, &[Value::text(&agent)], |row| {
        running = running.with(row.parse(0)?, row.read(1)?);
        Ok(())
    })?;
    Ok(running)
}

/// Makes an environment run a version from now on.
pub fn deployment_create(tx: &Tx<'_>, deployment: &Deployment) -> Result<(), DbError> {
    let agent = deployment.agent.to_string();
    tx.execute(
        CREATE,
        &[
            Value::text(&deployment.id),
            Value::text(&deployment.workspace),
            (&agent).into(),
            deployment.environment.as_str().into(),
            Value::text(&deployment.version_id),
            deployment.version.into(),
            deployment.action.as_str().into(),
            deployment.deployed_at.into(),
            (&deployment.deployed_by).into(),
        ],
    )?;
    tx.execute(
        RUN,
        &[
            (&agent).into(),
            deployment.environment.as_str().into(),
            Value::text(&deployment.workspace),
            Value::text(&deployment.version_id),
            Value::text(&deployment.id),
        ],
    )?;
    tx.route_changed(RouteChange::Agent(deployment.agent));
    Ok(())
}
