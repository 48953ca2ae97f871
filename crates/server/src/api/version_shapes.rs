//! How versions, deployments and previews look as JSON. What is done with them stands in `versions`.

use std::collections::BTreeMap;

use domain::difference::Differences;
use domain::environment::Environment;
use domain::preview::{Outlook, Preview};
use domain::publishing::{DeploymentAction, Running};
use domain::route::Action;
use serde::Serialize;
use utoipa::ToSchema;

use super::agents::{DraftOut, RunningOut, parameters_out};
use super::routes::TargetShown;
use super::schema::{self, time};
use super::variants::VariantOut;
use crate::actions::versions::{Deployed, Deployment, PublishPreview, Version, VersionShown, runs_in};

/// A version: a draft and its variants, frozen.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Version)]
pub struct VersionOut {
    /// Its id.
    #[schema(value_type = schema::VersionId)]
    pub id: String,
    /// Its number, from 1.
    #[schema(example = 3)]
    pub version: u32,
    /// What the publisher had to say.
    #[schema(example = "New opening hours")]
    pub note: Option<String>,
    /// The environments that run it.
    #[schema(value_type = Vec<schema::Environment>)]
    pub environments: Vec<Environment>,
    /// How many variants it has.
    pub variant_count: usize,
    /// When it was published.
    #[schema(value_type = schema::Time)]
    pub created_at: String,
    /// By whom.
    #[schema(example = "key:key_01kb5x3a7m0000000000000000")]
    pub created_by: String,
}

impl VersionOut {
    /// A version, with where it runs.
    pub fn new(version: &Version, running: &Running) -> VersionOut {
        VersionOut {
            id: version.id.to_string(),
            version: version.version,
            note: version.note.clone(),
            environments: runs_in(running, version.version),
            variant_count: version.content.variants.len(),
            created_at: time(version.created_at),
            created_by: version.created_by.clone(),
        }
    }
}

/// A version with what it holds, and what it changed.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = VersionContent)]
pub struct VersionContentOut {
    /// The version.
    #[serde(flatten)]
    pub version: VersionOut,
    /// The draft as it was.
    pub draft: DraftOut,
    /// The variants as they were, the default first.
    pub variants: Vec<VariantOut>,
    /// What differs from the version before it.
    pub changes: ChangesOut,
}

impl From<&VersionShown> for VersionContentOut {
    fn from(shown: &VersionShown) -> Self {
        let content = &shown.version.content;
        VersionContentOut {
            version: VersionOut {
                environments: shown.runs_in.clone(),
                ..VersionOut::new(&shown.version, &Running::default())
            },
            draft: (&content.draft).into(),
            variants: VariantOut::all(content),
            changes: (&shown.changes).into(),
        }
    }
}

/// What differs, setting by setting.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Changes)]
pub struct ChangesOut {
    /// In the order in which the settings stand in the API; at most 200.
    pub differences: Vec<DifferenceOut>,
    /// How many are not listed.
    pub more: usize,
}

/// One setting that differs.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Difference)]
pub struct DifferenceOut {
    /// The setting.
    #[schema(example = "variants[Paris].attributes.site")]
    pub field: String,
    /// What it was; null where it was not set.
    #[schema(example = "75001")]
    pub before: Option<String>,
    /// What it is; null where it is not set any more.
    #[schema(example = "75002")]
    pub after: Option<String>,
}

impl From<&Differences> for ChangesOut {
    fn from(found: &Differences) -> Self {
        let differences = found
            .differences
            .iter()
            .map(|difference| DifferenceOut {
                field: difference.field.clone(),
                before: difference.before.clone(),
                after: difference.after.clone(),
            })
            .collect();
        ChangesOut { differences, more: found.more }
    }
}

/// One version put into one environment at one time.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Deployment)]
pub struct DeploymentOut {
    /// Its id.
    #[schema(example = "dep_01kb5x3a7m0000000000000000")]
    pub id: String,
    /// Of which agent.
    #[schema(value_type = schema::AgentId)]
    pub agent_id: String,
    /// Where.
    #[schema(value_type = schema::Environment)]
    pub environment: Environment,
    /// Which version, by its number.
    #[schema(example = 3)]
    pub version: u32,
    /// Which version, by its id.
    #[schema(value_type = schema::VersionId)]
    pub version_id: String,
    /// How it came there: `publish`, `promote` or `rollback`.
    #[schema(value_type = String, example = "publish")]
    pub action: DeploymentAction,
    /// When.
    #[schema(value_type = schema::Time)]
    pub deployed_at: String,
    /// By whom.
    #[schema(example = "key:key_01kb5x3a7m0000000000000000")]
    pub deployed_by: String,
}

impl From<&Deployment> for DeploymentOut {
    fn from(deployment: &Deployment) -> Self {
        DeploymentOut {
            id: deployment.id.to_string(),
            agent_id: deployment.agent.to_string(),
            environment: deployment.environment,
            version: deployment.version,
            version_id: deployment.version_id.to_string(),
            action: deployment.action,
            deployed_at: time(deployment.deployed_at),
            deployed_by: deployment.deployed_by.clone(),
        }
    }
}

/// What was deployed, and what the agent runs after it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Deployed)]
pub struct DeployedOut {
    /// The deployment.
    #[serde(flatten)]
    pub deployment: DeploymentOut,
    /// What each environment runs now.
    pub running: RunningOut,
    /// False where the environment ran this version already: then nothing was done.
    pub changed: bool,
}

impl From<&Deployed> for DeployedOut {
    fn from(deployed: &Deployed) -> Self {
        DeployedOut {
            deployment: (&deployed.deployment).into(),
            running: deployed.running.into(),
            changed: deployed.changed,
        }
    }
}

/// What runs where, and a page of all deployments.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Deployments)]
pub struct DeploymentsOut {
    /// What each environment runs now.
    pub current: CurrentOut,
    /// All deployments, the latest first.
    pub data: Vec<DeploymentOut>,
    /// Send it as `cursor` for the next page; null on the last.
    pub next_cursor: Option<String>,
}

/// The deployment that each environment runs, or null.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = CurrentDeployments)]
pub struct CurrentOut {
    /// Sandbox.
    pub sandbox: Option<DeploymentOut>,
    /// Pre-release.
    pub pre_release: Option<DeploymentOut>,
    /// Live.
    pub live: Option<DeploymentOut>,
}

impl From<&[Deployment]> for CurrentOut {
    fn from(current: &[Deployment]) -> Self {
        let of = |environment| current.iter().find(|it| it.environment == environment).map(Into::into);
        CurrentOut {
            sandbox: of(Environment::Sandbox),
            pre_release: of(Environment::PreRelease),
            live: of(Environment::Live),
        }
    }
}

/// What a deployment would change.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = PublishPreview)]
pub struct PreviewOut {
    /// Where.
    #[schema(value_type = schema::Environment)]
    pub to: Environment,
    /// The version that runs there now.
    pub from_version: Option<u32>,
    /// The version that would run there; null where it would be made from the draft.
    pub to_version: Option<u32>,
    /// What differs in the agent.
    pub changes: ChangesOut,
    /// The numbers whose calls would be treated otherwise; at most 500. Hours, caller rules and outage mode are left aside.
    pub numbers: Vec<NumberPreviewOut>,
    /// How many more there are, which are not listed.
    pub more: usize,
    /// How many numbers were looked at.
    pub numbers_checked: usize,
    /// Whether the agent answers more numbers there than are looked at (10,000).
    pub is_partial: bool,
    /// What would not work as it is, as far as can be seen now: hosts that are not in the DNS. Nothing is refused for it.
    pub warnings: Vec<WarningOut>,
}

/// Something that would not work as it is.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Warning)]
pub struct WarningOut {
    /// Where it stands.
    #[schema(example = "endpoint.url")]
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

/// A number whose calls would be treated otherwise.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = NumberPreview)]
pub struct NumberPreviewOut {
    /// The number.
    #[schema(value_type = schema::NumberId)]
    pub number_id: String,
    /// Its digits.
    #[schema(value_type = schema::PhoneNumber)]
    pub phone_number: String,
    /// What a call does now.
    pub before: OutlookOut,
    /// What it would do.
    pub after: OutlookOut,
}

/// What a call to a number does.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Outlook)]
pub struct OutlookOut {
    /// `connect`, `ask`, `say` or `reject`.
    #[schema(value_type = String, example = "connect")]
    pub action: Action,
    /// The whole of it in a sentence.
    pub summary: String,
    /// The variant that answers.
    #[schema(value_type = Option<schema::VariantId>)]
    pub variant_id: Option<String>,
    /// Its name.
    pub variant: Option<String>,
    /// Where the team's server is asked.
    pub webhook_url: Option<String>,
    /// What is tried, in order.
    pub targets: Vec<TargetShown>,
    /// What is spoken at the end.
    pub message: Option<String>,
    /// What it is spoken in.
    #[schema(value_type = Option<schema::Language>)]
    pub language: Option<String>,
    /// What travels with the call.
    pub parameters: BTreeMap<String, String>,
}

impl From<&Outlook> for OutlookOut {
    fn from(outlook: &Outlook) -> Self {
        OutlookOut {
            action: outlook.action,
            summary: outlook.summary.clone(),
            variant_id: outlook.variant_id.map(|id| id.to_string()),
            variant: outlook.variant.clone(),
            webhook_url: outlook.webhook_url.clone(),
            targets: outlook.targets.iter().map(Into::into).collect(),
            message: outlook.message.clone(),
            language: outlook.language.as_ref().map(|language| language.as_str().to_owned()),
            parameters: parameters_out(&outlook.parameters),
        }
    }
}

impl From<&PublishPreview> for PreviewOut {
    fn from(preview: &PublishPreview) -> Self {
        let number = |preview: &Preview| NumberPreviewOut {
            number_id: preview.number_id.to_string(),
            phone_number: preview.phone_number.to_string(),
            before: (&preview.before).into(),
            after: (&preview.after).into(),
        };
        PreviewOut {
            to: preview.environment,
            from_version: preview.from_version,
            to_version: preview.to_version,
            changes: (&preview.changes).into(),
            numbers: preview.numbers.iter().map(number).collect(),
            more: preview.more,
            numbers_checked: preview.numbers_checked,
            is_partial: preview.is_partial,
            warnings: preview
                .warnings
                .iter()
                .map(|(field, detail)| WarningOut { field: field.clone(), detail: detail.clone() })
                .collect(),
        }
    }
}

/// What is published.
#[derive(ToSchema)]
#[schema(as = Publish)]
pub struct PublishIn {
    /// What you have to say about it.
    #[schema(example = "New opening hours", max_length = 500)]
    pub note: Option<String>,
}

/// What is promoted.
#[derive(ToSchema)]
#[schema(as = Promote)]
pub struct PromoteIn {
    /// Where it runs now.
    #[schema(value_type = schema::Environment, example = "sandbox")]
    pub from: String,
    /// Where it is to run.
    #[schema(value_type = schema::Environment, example = "pre_release")]
    pub to: String,
}

/// What is put back.
#[derive(ToSchema)]
#[schema(as = Rollback)]
pub struct RollbackIn {
    /// Where.
    #[schema(value_type = schema::Environment, example = "live")]
    pub environment: String,
    /// Which version; it ran there before.
    #[schema(example = 2, minimum = 1)]
    pub version: u32,
}
