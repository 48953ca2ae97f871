//! Calls, as they were kept. Nothing is changed here: callbacks and the recorder write what is read.

pub use database::calls::{Call, CallEvent, CallFilter, CallPlace};
use database::{calls, numbers};
use domain::error::{Code, Refusal};
use domain::id::{CallId, NumberId};
use domain::number::E164;
use domain::permission::Permission;

use super::{Caller, Failure};
use crate::app::Shared;

/// A number as a filter names it: by its id, or by its digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberRef {
    /// By its id.
    Id(NumberId),
    /// By its digits.
    Digits(E164),
}

/// A page of the workspace's calls, the latest first; `before` is the place of the last one of the page before.
pub async fn call_list(
    app: &Shared,
    caller: &Caller,
    number: Option<NumberRef>,
    filter: CallFilter,
    before: Option<CallPlace>,
    limit: u32,
) -> Result<Vec<Call>, Failure> {
    caller.may(Permission::CallsRead)?;
    let (workspace, now) = (caller.workspace, app.clock.now());
    app.database
        .try_read(move |read| {
            let mut filter = filter.clone();
            filter.number = match number {
                None => None,
                Some(NumberRef::Id(id)) => Some(id),
                Some(NumberRef::Digits(digits)) => {
                    let found = numbers::number_find_by_phone_number(read, workspace, digits)?;
                    let Some(first) = found.first() else { return Ok(Vec::new()) };
                    if found.len() > 1 {
                        let ids: Vec<String> = found.iter().map(|number| number.id.to_string()).collect();
                        return Err(Failure::Refused(Refusal::new(
                            Code::AmbiguousNumber,
                            format!(
                                "{digits} is more than one number: {}; send one of these ids",
                                ids.join(", ")
                            ),
                        )));
                    }
                    Some(first.id)
                }
            };
            Ok(calls::call_list(read, workspace, &filter, before, limit, now)?)
        })
        .await
}

/// One call, with everything that happened in it.
pub async fn call_find(app: &Shared, caller: &Caller, id: CallId) -> Result<(Call, Vec<CallEvent>), Failure> {
    caller.may(Permission::CallsRead)?;
    let (workspace, now) = (caller.workspace, app.clock.now());
    app.database
        .try_read(move |read| {
            let call = calls::call_find(read, workspace, id, now)?.ok_or_else(|| {
                Refusal::new(Code::NotFound, format!("there is no call {id} in this workspace"))
            })?;
            let timeline = calls::call_timeline(read, id)?;
            Ok((call, timeline))
        })
        .await
}
