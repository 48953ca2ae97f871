//! Callouts as JSON.

use axum::extract::State;
use axum::response::Response;
use domain::assignment::CalloutKind;
use domain::environment::Environment;
use domain::error::Code;
use domain::id::AgentId;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::Query;
use super::error::Problem;
use super::fields::Json;
use super::json_answer;
use super::router::Routes;
use super::schema;
use crate::actions::Caller;
use crate::actions::callouts::{CalloutShown, callout_list};
use crate::app::Shared;

/// The routes of callouts.
pub fn routes() -> Routes {
    Routes::new().with(routes!(list), &[Code::AgentNotFound, Code::InvalidId])
}

/// A message on the Numbers page.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Callout)]
pub struct CalloutOut {
    /// `draft_variants`: the agent now uses variants, publish so that they can be assigned. `new_variant`: variants were added,
    /// publish so that they can be assigned. `variant_deleted`: variants of some numbers were removed, publish to see the change,
    /// or reassign the numbers.
    #[schema(value_type = String, example = "new_variant")]
    pub kind: CalloutKind,
    /// The same in a sentence.
    pub message: String,
    /// About which agent.
    #[schema(value_type = schema::AgentId)]
    pub agent_id: String,
    /// Its name.
    pub agent_name: String,
    /// In which environment.
    #[schema(value_type = schema::Environment)]
    pub environment: Environment,
    /// The variants that it is about.
    pub variants: Vec<CalloutVariantOut>,
    /// The numbers that it is about, the first hundred of them; only for `variant_deleted`.
    pub numbers: Vec<CalloutNumberOut>,
    /// How many numbers it is about.
    pub number_count: usize,
}

/// A variant that a callout is about.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = CalloutVariant)]
pub struct CalloutVariantOut {
    /// Its id.
    #[schema(value_type = schema::VariantId)]
    pub id: String,
    /// Its name, where the draft or the running version still knows it.
    pub name: Option<String>,
}

/// A number that a callout is about.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = CalloutNumber)]
pub struct CalloutNumberOut {
    /// Its id.
    #[schema(value_type = schema::NumberId)]
    pub id: String,
    /// Its digits.
    #[schema(value_type = schema::PhoneNumber)]
    pub phone_number: String,
}

/// Callouts.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Callouts)]
pub struct CalloutsOut {
    /// Agent by agent, environment by environment.
    pub data: Vec<CalloutOut>,
    /// Always null: they all stand on one page.
    pub next_cursor: Option<String>,
}

impl From<&CalloutShown> for CalloutOut {
    fn from(shown: &CalloutShown) -> Self {
        let callout = &shown.callout;
        let environment = callout.environment.title();
        let message = match callout.kind {
            CalloutKind::DraftVariants => format!(
                "{} uses variants in its draft, and {environment} runs a version without; publish so that they can be assigned",
                shown.agent_name
            ),
            CalloutKind::NewVariant => {
                format!(
                    "{} has new variants; publish to {environment} so that they can be assigned",
                    shown.agent_name
                )
            }
            CalloutKind::VariantDeleted if shown.is_published => format!(
                "numbers of {} in {environment} are assigned to variants that it runs no more; reassign the numbers",
                shown.agent_name
            ),
            CalloutKind::VariantDeleted => format!(
                "the variants of some numbers of {} in {environment} were removed; publish to see the change, or reassign the numbers",
                shown.agent_name
            ),
        };
        CalloutOut {
            kind: callout.kind,
            message,
            agent_id: callout.agent_id.to_string(),
            agent_name: shown.agent_name.clone(),
            environment: callout.environment,
            variants: callout
                .variants
                .iter()
                .zip(&shown.variant_names)
                .map(|(id, name)| CalloutVariantOut { id: id.to_string(), name: name.clone() })
                .collect(),
            numbers: callout
                .numbers
                .iter()
                .zip(&shown.phone_numbers)
                .map(|(id, digits)| CalloutNumberOut { id: id.to_string(), phone_number: digits.to_string() })
                .collect(),
            number_count: shown.number_count,
        }
    }
}

/// List callouts
///
/// Where what was changed in variants does not yet match what numbers do. Computed from what is there: they go when it is mended.
#[utoipa::path(
    get, path = "/v1/callouts", tag = "Agents", operation_id = "callout_list",
    params(("agent_id" = Option<schema::AgentId>, Query, description = "Only about this agent")),
    responses((status = 200, description = "The callouts", body = CalloutsOut))
)]
pub async fn list(State(app): State<Shared>, caller: Caller, query: Query) -> Result<Response, Problem> {
    let agent = query.read(|fields| Some(fields.optional("agent_id", Json::parse::<AgentId>)))?;
    let found = callout_list(&app, &caller, agent).await?;
    Ok(json_answer(&CalloutsOut { data: found.iter().map(Into::into).collect(), next_cursor: None }))
}
