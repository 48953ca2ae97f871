//! Gives numbers back to the carrier, once the hold has ended that a person's confirmed request began. This is the only place from
//! which anything is ever given back, and only what still waits for it.
//!
//! A cancellation is refused from the hold's end on; this task begins [`MARGIN`] later, so that no node with a clock a little
//! ahead gives back what a node with a clock a little behind still lets people keep.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use carriers::ReleaseOutcome;
use database::leases::{Lease, lease_give_back, lease_take};
use database::meta::purchases_locked;
use database::numbers::{Number, number_find, number_to_release, number_update};
use database::{Change, DbError};
use domain::event::EventKind;
use domain::number::{NumberStatus, Source};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tracing::{error, info};

use super::driver::{Outcome, Task};
use super::order_numbers::told;
use super::reconcile_numbers::lease_lasts;
use crate::app::{Nudges, Shared};
use crate::store::Store;

const ACTOR: &str = "system:release_numbers";
/// The lease under which one node gives back.
const LEASE: &str = "release_numbers";
/// How long after the hold's end the number goes.
pub const MARGIN: SignedDuration = SignedDuration::from_secs(30);
/// How often holds are looked at.
const PERIOD: Duration = Duration::from_secs(60);
/// How many numbers one run gives back.
const NUMBERS_MAX: u32 = 50;

/// The task.
pub struct ReleaseNumbers {
    node: String,
}

impl ReleaseNumbers {
    /// The task of this node.
    pub fn new(app: &Shared) -> ReleaseNumbers {
        ReleaseNumbers { node: format!("{:032x}", app.random.bits()) }
    }

    /// Takes the lease, or makes it last on.
    async fn take(&self, app: &Shared) -> anyhow::Result<Option<Lease>> {
        let (holder, now, lasts) = (self.node.clone(), app.clock.now(), lease_lasts(app));
        Ok(app.database.write(move |tx| lease_take(tx, LEASE, &holder, now, lasts)).await?)
    }
}

#[async_trait]
impl Task for ReleaseNumbers {
    const NAME: &'static str = "release_numbers";

    fn period(&self, _: &Shared) -> Duration {
        PERIOD
    }

    fn nudge<'a>(&self, nudges: &'a Nudges) -> &'a Notify {
        &nudges.release_numbers
    }

    async fn run_once(&self, app: &Shared) -> anyhow::Result<Outcome> {
        let Some(store) = &app.store else { return Ok(Outcome::Idle) };
        let due = due(app).await?;
        if due.is_empty() {
            return Ok(Outcome::Idle);
        }
        let Some(lease) = self.take(app).await? else {
            // Another node is at it, or has died at it.
            let later = app.clock.now().checked_add(lease_lasts(app)).unwrap_or(Timestamp::MAX);
            return Ok(Outcome::WakeAt(later));
        };
        let (count, mut failures) = (due.len(), Vec::new());
        for number in due {
            if self.take(app).await?.is_none_or(|renewed| renewed.fence != lease.fence) {
                break;
            }
            if let Err(why) = release(app, store, &number).await {
                failures.push(format!("{} could not be given back yet: {why:#}", number.phone_number));
            }
        }
        let now = app.clock.now();
        app.database.write(move |tx| lease_give_back(tx, &lease, now)).await?;
        anyhow::ensure!(failures.is_empty(), "{}", failures.join("; "));
        Ok(if count == NUMBERS_MAX as usize { Outcome::Again } else { Outcome::Idle })
    }
}

/// Numbers whose hold ended a while ago. None while a restored database was not compared with the carrier: it is older than what
/// people decided since.
async fn due(app: &Shared) -> anyhow::Result<Vec<Number>> {
    let ended_by = app.clock.now().checked_sub(MARGIN).unwrap_or(Timestamp::MIN);
    app.database
        .read(move |read| match purchases_locked(read)? {
            Some(_) => Ok(Vec::new()),
            None => number_to_release(read, ended_by, NUMBERS_MAX),
        })
        .await
        .context("failed to look for holds that ended")
}

/// Whether a person asked for this, and nobody took it back.
fn is_to_go(number: &Number, now: Timestamp) -> bool {
    number.status == NumberStatus::ReleaseScheduled
        && number.source == Source::Store
        && !number.release_lock
        && number.hold.is_some_and(|hold| hold.release_at.checked_add(MARGIN).is_ok_and(|end| end <= now))
}

async fn release(app: &Shared, store: &Store, number: &Number) -> anyhow::Result<()> {
    let (workspace, id) = (number.workspace, number.id);
    let fresh = app.database.read(move |read| match purchases_locked(read)? {
        Some(_) => Ok(None),
        None => number_find(read, workspace, id),
    });
    let fresh = fresh.await?;
    let Some(number) = fresh.filter(|fresh| is_to_go(fresh, app.clock.now())) else { return Ok(()) };
    let Some(carrier_number_id) = number.carrier_number_id.clone() else {
        error!(number.id = %id, "{} is to be given back and has no id of the carrier's", number.phone_number);
        return Ok(());
    };
    app.failpoint("release_numbers.before_delete");
    let outcome = store.carrier().number_release(&carrier_number_id).await?;
    app.failpoint("release_numbers.after_delete");
    let now = app.clock.now();
    app.database.write(move |tx| released_write(tx, &number, now)).await.context("it is gone, and")?;
    info!(
        number.id = %id,
        "{id} was given back{}",
        match outcome {
            ReleaseOutcome::Released => "",
            ReleaseOutcome::AlreadyGone => "; the carrier did not have it any more",
        }
    );
    app.failpoint("release_numbers.after_released");
    Ok(())
}

fn released_write(tx: &database::Tx<'_>, number: &Number, now: Timestamp) -> Result<(), DbError> {
    tx.workspace_lock(number.workspace)?;
    let Some(before) = number_find(tx, number.workspace, number.id)? else { return Ok(()) };
    if before.status != NumberStatus::ReleaseScheduled {
        return Ok(());
    }
    let after = Number { status: NumberStatus::Released, assignment: None, hold: None, ..before.clone() };
    number_update(tx, &after, now)?;
    tx.record(&Change {
        workspace: before.workspace,
        at: now,
        actor: ACTOR,
        action: "number.give_back",
        target: before.id.to_string(),
        before: Some(told(&before)),
        after: Some(told(&after)),
        request_id: None,
        event: Some(EventKind::NumberReleased),
    })
}
