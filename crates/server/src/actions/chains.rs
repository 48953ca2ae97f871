//! Chains of targets as they would be after a change, checked in the change's own transaction: no call tries more targets than it
//! may, and none goes in a circle through numbers of the same workspace. The rules stand in `domain::fallback`; this file looks up
//! what they ask for.

use std::cell::RefCell;

use database::numbers::{self, Number};
use database::{DbError, Read, agents, deployments, workspaces};
use domain::agent::Content;
use domain::environment::Environment;
use domain::fallback::{Answered, Fallback, Levels, check_agent, refuse_loop, telephones};
use domain::id::{AgentId, WorkspaceId};
use domain::number::E164;

use super::Failure;

/// How many rows are looked at in one go.
const PAGE: u32 = 500;

/// What is about to change.
enum Changed<'a> {
    /// What an agent holds, in these environments.
    Content { agent: AgentId, environments: &'a [Environment], content: &'a Content },
    /// A number.
    Number(&'a Number),
    /// The workspace's fallback.
    Workspace,
}

/// Everything that a chain is made of, as it would be after the change.
struct Future<'a> {
    read: &'a Read<'a>,
    workspace: WorkspaceId,
    fallback: Option<Fallback>,
    changed: Changed<'a>,
    /// The rules take no errors from what they ask; the first one is kept here.
    failed: RefCell<Option<DbError>>,
}

impl Future<'_> {
    /// The telephone targets that calls to a number of this workspace may be sent on to.
    fn next(&self, phone_number: E164) -> Vec<E164> {
        match self.try_next(phone_number) {
            Ok(next) => next,
            Err(error) => {
                self.failed.borrow_mut().get_or_insert(error);
                Vec::new()
            }
        }
    }

    fn try_next(&self, phone_number: E164) -> Result<Vec<E164>, DbError> {
        let mut next = Vec::new();
        for found in numbers::number_find_by_phone_number(self.read, self.workspace, phone_number)? {
            let number = match self.changed {
                Changed::Number(changed) if changed.id == found.id => changed,
                _ => &found,
            };
            next.extend(self.telephones(number)?);
        }
        Ok(next)
    }

    fn telephones(&self, number: &Number) -> Result<Vec<E164>, DbError> {
        let content = self.running(number)?;
        let variant = content.as_ref().and_then(|content| {
            let asked = number.assignment.and_then(|assignment| assignment.variant_id);
            asked.and_then(|id| content.variant(id)).or_else(|| content.default_variant())
        });
        let levels = Levels {
            number: number.settings.fallback.as_ref(),
            agent: content.as_ref().and_then(|content| content.draft.fallback.as_ref()),
            workspace: self.fallback.as_ref(),
        };
        let mut found = telephones(content.as_ref().and_then(|content| content.endpoint(variant)), levels);
        let closed = number.settings.hours.as_ref().and_then(|hours| hours.closed.as_ref());
        found.extend(telephones(None, Levels { number: closed, ..Levels::default() }));
        Ok(found)
    }

    fn running(&self, number: &Number) -> Result<Option<Content>, DbError> {
        let Some(assignment) = number.assignment else { return Ok(None) };
        if let Changed::Content { agent, environments, content } = self.changed
            && agent == assignment.agent_id
            && environments.contains(&assignment.environment)
        {
            return Ok(Some(content.clone()));
        }
        running_content(self.read, assignment.agent_id, assignment.environment)
    }

    /// The verdict of a rule, unless what it asked for could not be looked up.
    fn verdict(self, outcome: Result<(), domain::error::Refusal>) -> Result<(), Failure> {
        match self.failed.into_inner() {
            Some(error) => Err(error.into()),
            None => outcome.map_err(Failure::Refused),
        }
    }
}

fn running_content(
    read: &Read<'_>,
    agent: AgentId,
    environment: Environment,
) -> Result<Option<Content>, DbError> {
    let running = deployments::deployment_running(read, agent)?;
    let here = running.into_iter().find(|here| here.environment == environment);
    Ok(here.map(|here| here.version.content))
}

fn workspace_fallback(read: &Read<'_>, workspace: WorkspaceId) -> Result<Option<Fallback>, DbError> {
    Ok(workspaces::workspace_find(read, workspace)?.and_then(|workspace| workspace.settings.fallback))
}

/// Checks what an agent would hold in these environments.
pub(super) fn content_check(
    read: &Read<'_>,
    workspace: WorkspaceId,
    agent: AgentId,
    environments: &[Environment],
    content: &Content,
) -> Result<(), Failure> {
    let mut special: Vec<Number> = Vec::new();
    loop {
        let after = special.last().map(|number| number.id);
        let page = numbers::number_with_settings(read, agent, after, PAGE)?;
        let full = page.len() == PAGE as usize;
        special.extend(page);
        if !full {
            break;
        }
    }
    let answered: Vec<Answered<'_>> = special
        .iter()
        .filter_map(|number| {
            let assignment = number.assignment.filter(|a| environments.contains(&a.environment))?;
            Some(Answered {
                phone_number: number.phone_number,
                variant_id: assignment.variant_id,
                fallback: number.settings.fallback.as_ref(),
            })
        })
        .collect();
    let fallback = workspace_fallback(read, workspace)?;
    let changed = Changed::Content { agent, environments, content };
    let future = Future { read, workspace, fallback: fallback.clone(), changed, failed: RefCell::default() };
    let outcome = check_agent(content, &answered, fallback.as_ref(), &|number| future.next(number));
    future.verdict(outcome)
}

/// Checks one number as it would be.
pub(super) fn number_check(read: &Read<'_>, number: &Number) -> Result<(), Failure> {
    let workspace = number.workspace;
    let fallback = workspace_fallback(read, workspace)?;
    let changed = Changed::Number(number);
    let future = Future { read, workspace, fallback: fallback.clone(), changed, failed: RefCell::default() };
    let content = future.running(number)?.unwrap_or_default();
    let answered = Answered {
        phone_number: number.phone_number,
        variant_id: number.assignment.and_then(|assignment| assignment.variant_id),
        fallback: number.settings.fallback.as_ref(),
    };
    let closed = number.settings.hours.as_ref().and_then(|hours| hours.closed.as_ref());
    let next = |number| future.next(number);
    let outcome = check_agent(&content, &[answered], fallback.as_ref(), &next).and_then(|()| match closed {
        Some(closed) => refuse_loop(number.phone_number, &closed.targets, &next),
        None => Ok(()),
    });
    future.verdict(outcome)
}

/// Checks everything that runs, with another fallback of the workspace.
pub(super) fn workspace_check(
    read: &Read<'_>,
    workspace: WorkspaceId,
    fallback: Option<&Fallback>,
) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = agents::agent_list(read, workspace, None, after, PAGE)?;
        for agent in &page {
            for here in deployments::deployment_running(read, agent.id)? {
                let future = Future {
                    read,
                    workspace,
                    fallback: fallback.cloned(),
                    changed: Changed::Workspace,
                    failed: RefCell::default(),
                };
                let outcome =
                    check_agent(&here.version.content, &[], fallback, &|number| future.next(number));
                future.verdict(outcome)?;
            }
        }
        after = page.last().map(|agent| agent.id);
        if page.len() < PAGE as usize {
            return Ok(());
        }
    }
}
