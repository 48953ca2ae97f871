//! The audit log, for those who may read it. It is written by [`Caller::change`] in the transaction of each change.

use database::audit::audit_list;
pub use database::audit::{AuditEntry, AuditFilter};
use domain::permission::Permission;

use super::{Caller, Failure};
use crate::app::Shared;

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
