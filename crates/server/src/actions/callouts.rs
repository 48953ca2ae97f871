//! Callouts: where what people changed in variants does not match what numbers do, computed from what is there. The rules stand in
//! `domain::assignment`.

use std::collections::{BTreeMap, HashMap};

use database::numbers;
use database::{Read, agents, deployments, versions};
use domain::agent::Content;
use domain::assignment::{Callout, callouts};
use domain::environment::Environment;
use domain::id::{AgentId, NumberId, VariantId};
use domain::number::E164;
use domain::permission::Permission;

use super::agents::load;
use super::{Caller, Failure};
use crate::app::Shared;

/// The most agents that one answer looks at.
pub const AGENTS_MAX: u32 = 1_000;
/// The most numbers of one agent that are looked at.
pub const NUMBERS_MAX: u32 = 10_000;
/// The most numbers that one callout names; it says how many there are.
pub const NUMBERS_NAMED_MAX: usize = 100;

/// The most versions that are looked at for the name of a variant that is gone, the latest first.
const VERSIONS_ASKED: u32 = 20;

/// A callout with the names that people know things by.
#[derive(Clone, Debug, PartialEq)]
pub struct CalloutShown {
    /// The callout; its numbers are cut to [`NUMBERS_NAMED_MAX`].
    pub callout: Callout,
    /// The agent's name.
    pub agent_name: String,
    /// The variants' names, where draft or running version still know them.
    pub variant_names: Vec<Option<String>>,
    /// The numbers' digits.
    pub phone_numbers: Vec<E164>,
    /// How many numbers it is about.
    pub number_count: usize,
    /// Whether publishing would change nothing any more for its variants.
    pub is_published: bool,
}

/// The callouts of one agent, or of all.
pub async fn callout_list(
    app: &Shared,
    caller: &Caller,
    agent: Option<AgentId>,
) -> Result<Vec<CalloutShown>, Failure> {
    caller.may(Permission::AgentsRead)?;
    caller.may(Permission::NumbersRead)?;
    let workspace = caller.workspace;
    app.database
        .try_read(move |read| {
            let asked = match agent {
                Some(id) => vec![load(read, workspace, id)?.agent],
                None => agents::agent_list(read, workspace, None, None, AGENTS_MAX)?,
            };
            let mut found = Vec::new();
            for agent in asked {
                of_agent(read, agent.id, &agent.name, &agent.content, &mut found)?;
            }
            Ok(found)
        })
        .await
}

fn of_agent(
    read: &Read<'_>,
    agent: AgentId,
    name: &str,
    draft: &Content,
    found: &mut Vec<CalloutShown>,
) -> Result<(), Failure> {
    let mut assigned: BTreeMap<Environment, Vec<(NumberId, VariantId)>> = BTreeMap::new();
    let mut digits: HashMap<NumberId, E164> = HashMap::new();
    for number in numbers::number_assigned(read, agent, NUMBERS_MAX)? {
        if let Some(variant) = number.variant_id {
            assigned.entry(number.environment).or_default().push((number.id, variant));
            digits.insert(number.id, number.phone_number);
        }
    }
    let mut running = deployments::deployment_running(read, agent)?;
    running.sort_unstable_by_key(|here| here.environment);
    for here in running {
        let (environment, running) = (here.environment, here.version.content);
        let held = assigned.get(&environment).map_or(&[][..], Vec::as_slice);
        for mut callout in callouts(agent, environment, draft, &running, held) {
            let named = |id: &VariantId| {
                draft.variant(*id).or_else(|| running.variant(*id)).map(|variant| variant.name.clone())
            };
            let mut variant_names: Vec<Option<String>> = callout.variants.iter().map(named).collect();
            if variant_names.contains(&None) {
                // Gone from both: the last version that had it still knows its name.
                for version in versions::version_list(read, agent, None, VERSIONS_ASKED)? {
                    for (id, name) in callout.variants.iter().zip(&mut variant_names) {
                        if name.is_none() {
                            *name = version.content.variant(*id).map(|variant| variant.name.clone());
                        }
                    }
                }
            }
            let is_published = callout
                .variants
                .iter()
                .all(|id| running.variant(*id).is_none() && draft.variant(*id).is_none());
            let number_count = callout.numbers.len();
            callout.numbers.truncate(NUMBERS_NAMED_MAX);
            let phone_numbers = callout.numbers.iter().filter_map(|id| digits.get(id).copied()).collect();
            found.push(CalloutShown {
                callout,
                agent_name: name.to_owned(),
                variant_names,
                phone_numbers,
                number_count,
                is_published,
            });
        }
    }
    Ok(())
}
