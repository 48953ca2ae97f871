//! Explaining: what would happen to a call, and why. It asks the very table that calls are routed by; only where the question is what
//! a draft would do, a small table is made in which the draft runs.

use std::sync::Arc;
use std::time::Duration;

use database::numbers::{self, Number};
use database::{Read, workspaces};
use domain::call::Ingress;
use domain::caller::Caller as CallFrom;
use domain::error::Code;
use domain::id::{VersionId, WorkspaceId};
use domain::number::E164;
use domain::permission::Permission;
use domain::route::row::{Row, RunningRow, WorkspaceRow};
use domain::route::{Explained, IncomingCall, RouteTable, decide};
use jiff::Timestamp;

use super::versions::number_row;
use super::{Caller, Failure, agents};
use crate::app::Shared;

/// A call that might come in.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// The number that is called.
    pub to: E164,
    /// Who calls.
    pub from: CallFrom,
    /// When; now where it is left out.
    pub at: Option<Timestamp>,
    /// As if the draft were published where the number is.
    pub draft: bool,
}

/// Explains what would happen to a call.
pub async fn route_explain(app: &Shared, caller: &Caller, question: Question) -> Result<Explained, Failure> {
    caller.may(Permission::CallsRead)?;
    let call = IncomingCall { ingress: Ingress::STORE, to: question.to, caller: question.from };
    let at = question.at.unwrap_or_else(|| app.clock.now());
    if question.draft {
        caller.may(Permission::AgentsRead)?;
        let workspace = caller.workspace;
        let table = app.database.try_read(move |read| with_draft(read, workspace, call)).await?;
        return Ok(explained(&table, caller.workspace, &call, at));
    }
    catch_up(app).await;
    Ok(explained(&app.routes.current(), caller.workspace, &call, at))
}

fn explained(table: &RouteTable, workspace: WorkspaceId, call: &IncomingCall, at: Timestamp) -> Explained {
    let decision = decide(table, call, at);
    if decision.number.is_some_and(|number| number.workspace_id != workspace) {
        // Another workspace's number is explained like one that is nobody's.
        let nobody = RouteTable::empty();
        return Explained::new(call, at, &decide(&nobody, call, at));
    }
    Explained::new(call, at, &decision)
}

/// Whoever has just changed something and asks at once is to see it: the table of this node is given a moment to hear of it. With the
/// database gone, what calls are routed by is explained as it is.
async fn catch_up(app: &Shared) {
    let Ok(newest) = app.database.read(database::routes::route_version).await else { return };
    app.nudges.build_routes.notify_one();
    let newest = u64::try_from(newest).unwrap_or_default();
    let caught_up = async {
        while app.routes.current().version() < newest {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    // Where it does not, what calls are routed by is explained all the same.
    let _ = tokio::time::timeout(CATCH_UP, caught_up).await;
}

/// How long the table may take to hear of a change that was committed before the question.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A table with one number, whose agent runs its draft.
fn with_draft(read: &Read<'_>, workspace: WorkspaceId, call: IncomingCall) -> Result<RouteTable, Failure> {
    let found = numbers::number_find_by_owner(read, call.ingress, call.to)?;
    let Some(number) = found.filter(|number| number.workspace == workspace && number.takes_calls()) else {
        return Ok(RouteTable::empty());
    };
    let mut rows = Vec::new();
    if let Some(settings) = workspaces::workspace_find(read, workspace)?.map(|found| found.settings) {
        rows.push(Row::Workspace(workspace, Some(WorkspaceRow { settings })));
    }
    rows.extend(draft_row(read, workspace, &number)?);
    let (key, row) = number_row(number);
    rows.push(Row::Number(key, Some(row)));
    Ok(RouteTable::build(rows, 1))
}

fn draft_row(read: &Read<'_>, workspace: WorkspaceId, number: &Number) -> Result<Option<Row>, Failure> {
    let Some(assignment) = number.assignment else { return Ok(None) };
    let state = match agents::load(read, workspace, assignment.agent_id) {
        Err(Failure::Refused(refusal)) if refusal.code == Code::AgentNotFound => return Ok(None),
        loaded => loaded?,
    };
    let row = RunningRow {
        version_id: VersionId::from_bits(0),
        version: 0,
        agent_name: Arc::from(state.agent.name.as_str()),
        content: Arc::new(state.agent.content),
    };
    Ok(Some(Row::Running((assignment.agent_id, assignment.environment), Some(row))))
}
