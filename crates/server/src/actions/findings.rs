//! Findings: how the carrier's list of numbers differs from ours, as the last comparisons saw it. Here they are only read; they come
//! about in `background::reconcile_numbers`.

use database::findings::finding_list_of_number;
use database::meta::reconciled_at;
use domain::permission::Permission;
use domain::reconcile::{Finding, Rules};
use jiff::Timestamp;

use super::numbers::{NumberRef, find};
use super::{Caller, Failure};
use crate::app::Shared;

/// What the carrier has of one number against what we set.
#[derive(Clone, Debug)]
pub struct Drift {
    /// When the carrier's list was last compared with ours; nothing where it never was.
    pub checked_at: Option<Timestamp>,
    /// How the number differs, whether believed yet or not.
    pub findings: Vec<Finding>,
    /// When a finding is believed.
    pub rules: Rules,
}

/// How the carrier's side of a number differs from ours.
pub async fn number_drift(app: &Shared, caller: &Caller, number: NumberRef) -> Result<Drift, Failure> {
    caller.may(Permission::NumbersRead)?;
    let (workspace, rules) = (caller.workspace, app.config.reconcile.rules());
    app.database
        .try_read(move |read| {
            let number = find(read, workspace, number)?;
            Ok(Drift {
                checked_at: reconciled_at(read)?,
                findings: finding_list_of_number(read, number.ingress, number.phone_number, number.id)?,
                rules,
            })
        })
        .await
}
