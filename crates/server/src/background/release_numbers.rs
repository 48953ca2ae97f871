//! Gives numbers back to the carrier, once the hold has ended that a person's confirmed request began. This is the only place from
//! which anything is ever given back, and only what still waits for it.
//!
//! A cancellation is refused from the hold's end on; this task begins [`MARGIN`] later, so that no node with a clock a little
//! ahead gives back what a node with a clock a little behind still lets people keep. What one clock alone says is not enough:
//! the database's must agree, and where there is no other clock, ours must not have jumped while we ran.
//!
//! That a number goes is written down (`releasing`) before the carrier is told, so that nobody is promised to keep it meanwhile.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use carriers::ReleaseOutcome;
use database::leases::{Lease, lease_give_back, lease_take};
use database::meta::{purchases_locked, server_clock};
use database::numbers::{Number, number_find, number_to_release, number_update};
use database::{Change, DbError, Read, Tx};
use domain::event::EventKind;
use domain::number::{NumberStatus, Source};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tracing::{error, info};

use super::driver::{Outcome, Task};
use super::order_numbers::told;
use super::reconcile_numbers::lease_lasts;
use crate::app::{Nudges, Shared};
use crate::clock::Clock;
use crate::store::Store;

const ACTOR: &str = "system:release_numbers";
/// The lease under which one node gives back.
const LEASE: &str = "release_numbers";
/// How long after the hold's end the number goes.
pub const MARGIN: SignedDuration = SignedDuration::from_secs(30);
/// By how much our clock and the database's may differ.
pub const SKEW_MAX: SignedDuration = SignedDuration::from_secs(30);
/// By how much the wall's clock may differ from where it was at the start and the time that passed since, where there is no other
/// clock to ask.
pub const JUMP_MAX: SignedDuration = SignedDuration::from_mins(5);
/// How often holds are looked at.
const PERIOD: Duration = Duration::from_secs(60);
/// How many numbers one run gives back.
const NUMBERS_MAX: u32 = 50;

/// The task.
pub struct ReleaseNumbers {
    node: String,
    clocks: Clocks,
}

/// What both of our clocks showed at the start.
#[derive(Clone, Copy)]
struct Clocks {
    wall: Timestamp,
    monotonic: Duration,
}

/// What our clocks show now.
#[derive(Clone)]
struct Now {
    own: Timestamp,
    /// What `own` would be if nobody had set the clock since the start.
    expected: Timestamp,
    clock: Arc<dyn Clock>,
}

/// What became of one number.
enum Begun {
    /// It is to go: the carrier may be told.
    Go(Box<Number>),
    /// It stays, for now or for good.
    Stay,
    /// Another node has taken over.
    LeaseLost,
}

impl ReleaseNumbers {
    /// The task of this node.
    pub fn new(app: &Shared) -> ReleaseNumbers {
        ReleaseNumbers {
            node: format!("{:032x}", app.random.bits()),
            clocks: Clocks { wall: app.clock.now(), monotonic: app.clock.monotonic() },
        }
    }

    fn now(&self, app: &Shared) -> Now {
        let passed = app.clock.monotonic().saturating_sub(self.clocks.monotonic);
        let expected = self.clocks.wall.checked_add(passed).unwrap_or(Timestamp::MAX);
        Now { own: app.clock.now(), expected, clock: app.clock.clone() }
    }

    /// Takes the lease, or makes it last on.
    async fn take(&self, app: &Shared) -> anyhow::Result<Option<Lease>> {
        let (holder, now, lasts) = (self.node.clone(), app.clock.now(), lease_lasts(app));
        Ok(app.database.write(move |tx| lease_take(tx, LEASE, &holder, now, lasts)).await?)
    }

    /// Writes down that a number goes, if it still is to: the last moment at which it can be kept.
    async fn begin(&self, app: &Shared, lease: &Lease, number: &Number) -> anyhow::Result<Begun> {
        let (now, lasts, lease) = (self.now(app), lease_lasts(app), lease.clone());
        let (workspace, id) = (number.workspace, number.id);
        let begun = app.database.write(move |tx| {
            tx.workspace_lock(workspace)?;
            let renewed = lease_take(tx, LEASE, &lease.holder, now.own, lasts)?;
            if renewed.is_none_or(|renewed| renewed.fence != lease.fence) {
                return Ok(Begun::LeaseLost);
            }
            let Some(at) = may_release_at(tx, &now)? else { return Ok(Begun::Stay) };
            match number_find(tx, workspace, id)?.filter(|fresh| is_to_go(fresh, at)) {
                Some(before) => Ok(Begun::Go(Box::new(releasing_write(tx, before, now.own)?))),
                None => Ok(Begun::Stay),
            }
        });
        Ok(begun.await?)
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
        let due = due(app, self.now(app)).await?;
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
            match self.begin(app, &lease, &number).await? {
                Begun::Go(number) => {
                    if let Err(why) = release(app, store, &number).await {
                        failures
                            .push(format!("{} could not be given back yet: {why:#}", number.phone_number));
                    }
                }
                Begun::Stay => {}
                Begun::LeaseLost => break,
            }
        }
        let now = app.clock.now();
        app.database.write(move |tx| lease_give_back(tx, &lease, now)).await?;
        anyhow::ensure!(failures.is_empty(), "{}", failures.join("; "));
        Ok(if count == NUMBERS_MAX as usize { Outcome::Again } else { Outcome::Idle })
    }
}

/// Numbers whose hold ended a while ago.
async fn due(app: &Shared, now: Now) -> anyhow::Result<Vec<Number>> {
    let due = app.database.read(move |read| match may_release_at(read, &now)? {
        Some(at) => number_to_release(read, at.checked_sub(MARGIN).unwrap_or(Timestamp::MIN), NUMBERS_MAX),
        None => Ok(Vec::new()),
    });
    due.await.context("failed to look for holds that ended")
}

/// The time that holds are compared with; none while nothing may be given back. Giving back cannot be undone, so a restored
/// database waits until it was compared with the carrier, and of two clocks the one that is behind is believed.
fn may_release_at(read: &Read<'_>, now: &Now) -> Result<Option<Timestamp>, DbError> {
    if purchases_locked(read)?.is_some() {
        return Ok(None);
    }
    let agreed = agreed(now.own, now.expected, now.clock.server(server_clock(read)?));
    if let Err(why) = &agreed {
        error!("nothing is given back to the carrier: {why}");
    }
    Ok(agreed.ok())
}

/// The time, if the clocks agree about it.
fn agreed(own: Timestamp, expected: Timestamp, server: Option<Timestamp>) -> Result<Timestamp, String> {
    let (other, most) = match server {
        Some(server) => (server, SKEW_MAX),
        None => (expected, JUMP_MAX),
    };
    let apart = own.duration_since(other).abs();
    if apart <= most {
        return Ok(own.min(server.unwrap_or(own)));
    }
    Err(match server {
        Some(_) => format!(
            "this machine's clock and the database's are {apart:#} apart; set them right, by NTP say, and it goes on"
        ),
        None => format!(
            "this machine's clock has jumped by {apart:#} since the start; make sure that it is right, and start the program again"
        ),
    })
}

/// Whether a person asked for this, and nobody took it back.
fn is_to_go(number: &Number, now: Timestamp) -> bool {
    number.source == Source::Store
        && match number.status {
            NumberStatus::Releasing => true,
            NumberStatus::ReleaseScheduled => {
                !number.release_lock
                    && number
                        .hold
                        .is_some_and(|hold| hold.release_at.checked_add(MARGIN).is_ok_and(|end| end <= now))
            }
            _ => false,
        }
}

async fn release(app: &Shared, store: &Store, number: &Number) -> anyhow::Result<()> {
    let id = number.id;
    let Some(carrier_number_id) = &number.carrier_number_id else {
        error!(number.id = %id, "{} is to be given back and has no id of the carrier's", number.phone_number);
        return Ok(());
    };
    app.failpoint("release_numbers.before_delete");
    let outcome = store.carrier().number_release(carrier_number_id).await?;
    app.failpoint("release_numbers.after_delete");
    let (now, gone) = (app.clock.now(), number.clone());
    app.database.write(move |tx| released_write(tx, &gone, now)).await.context("it is gone, and")?;
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

/// Decides for good that a number goes.
fn releasing_write(tx: &Tx<'_>, before: Number, now: Timestamp) -> Result<Number, DbError> {
    if before.status == NumberStatus::Releasing {
        return Ok(before);
    }
    let after = Number { status: NumberStatus::Releasing, ..before.clone() };
    let after = number_update(tx, &after, now)?;
    tx.record(&Change { event: None, ..change("number.give_back_begin", &before, &after, now) })?;
    Ok(after)
}

fn released_write(tx: &Tx<'_>, number: &Number, now: Timestamp) -> Result<(), DbError> {
    tx.workspace_lock(number.workspace)?;
    let Some(before) = number_find(tx, number.workspace, number.id)? else { return Ok(()) };
    if before.status != NumberStatus::Releasing {
        return Ok(());
    }
    let after = Number { status: NumberStatus::Released, assignment: None, hold: None, ..before.clone() };
    number_update(tx, &after, now)?;
    tx.record(&change("number.give_back", &before, &after, now))
}

fn change(action: &'static str, before: &Number, after: &Number, now: Timestamp) -> Change<'static> {
    Change {
        workspace: before.workspace,
        at: now,
        actor: ACTOR,
        action,
        target: before.id.to_string(),
        before: Some(told(before)),
        after: Some(told(after)),
        request_id: None,
        event: Some(EventKind::NumberReleased),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_alone_gives_nothing_back() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let days = SignedDuration::from_hours(24 * 8);
        let seconds = SignedDuration::from_secs;
        assert_eq!(agreed(now + seconds(20), now, Some(now)), Ok(now), "the earlier of the two");
        assert_eq!(agreed(now - seconds(20), now, Some(now)), Ok(now - seconds(20)));
        assert!(agreed(now + days, now, Some(now)).is_err(), "the database's clock disagrees");
        assert!(agreed(now - days, now, Some(now)).is_err());
        assert_eq!(agreed(now + seconds(60), now, None), Ok(now + seconds(60)));
        assert!(agreed(now + days, now, None).is_err(), "it jumped");
    }
}
