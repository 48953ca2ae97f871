//! The audit log, for those who may read it. It is written by [`Caller::change`] in the transaction of each change.

use database::audit::audit_list;
pub use database::audit::{AuditEntry, AuditFilter};
use domain::permission::Permission;

use super::{Caller, Failure};
use crate::app::Shared;

/// Everything that the log can say was done.
pub const ACTIONS: &[&str] = &[
    "agent.create",
    "agent.delete",
    "agent.promote",
    "agent.publish",
    "agent.rollback",
    "agent.update",
    "draft.update",
    "key.create",
    "key.revoke",
    "number.activate",
    "number.ask_person",
    "number.assign",
    "number.buy",
    "number.drift",
    "number.fail",
    "number.give_back",
    "number.give_back_begin",
    "number.release",
    "number.release_cancel",
    "number.unassign",
    "number.update",
    "role.create",
    "role.delete",
    "role.update",
    "variant.create",
    "variant.delete",
    "variant.update",
    "workspace.create",
    "workspace.update",
];

/// A page of the workspace's entries, the latest first; `before` is the last place of the page before.
pub async fn audit_page(
    app: &Shared,
    caller: &Caller,
    filter: AuditFilter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<AuditEntry>, Failure> {
    caller.may(Permission::AuditRead)?;
    let workspace = caller.workspace;
    Ok(app.database.read(move |read| audit_list(read, workspace, &filter, before, limit)).await?)
}
