//! Forgets rows that nobody needs any more, a few at a time, so that nobody waits for it: answers kept for an `Idempotency-Key`,
//! events and – where the settings say so – calls whose time is over, and notes of route changes that every node has seen. Numbers
//! and the audit log are never touched here.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use database::calls::call_prune;
use database::events::event_prune;
use database::idempotency::idempotency_prune;
use database::routes::route_changes_prune;
use database::{DbError, Tx};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tracing::info;

use super::driver::{Outcome, Task};
use crate::app::{Nudges, Shared};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(60 * 60);
/// How many rows of one kind are forgotten in one transaction: so long others may wait for it.
pub const BATCH_ROWS: u32 = 200;

/// The task.
pub struct PruneRows;

/// Forgets at most so many rows that are older than a moment, and says how many they were.
type Prune = fn(&Tx<'_>, Timestamp, u32) -> Result<u64, DbError>;

#[async_trait]
impl Task for PruneRows {
    const NAME: &'static str = "prune_rows";

    fn period(&self, _: &Shared) -> Duration {
        PERIOD
    }

    fn nudge<'a>(&self, nudges: &'a Nudges) -> &'a Notify {
        &nudges.prune_rows
    }

    async fn run_once(&self, app: &Shared) -> anyhow::Result<Outcome> {
        let (now, retention) = (app.clock.now(), &app.config.retention);
        let answers = forget(app, now, idempotency_prune).await?;
        let events = forget(app, days_before(now, retention.events_days), event_prune).await?;
        let calls = match retention.calls_days {
            Some(days) => forget(app, days_before(now, days), call_prune).await?,
            None => 0,
        };
        let changes = app.database.write(route_changes_prune).await.context(FAILED)?;
        if answers + events + calls + changes > 0 {
            info!(
                answers,
                events,
                calls,
                changes,
                "forgot {answers} kept answers, {events} events, {calls} calls and {changes} notes of route changes"
            );
        }
        Ok(Outcome::Idle)
    }
}

const FAILED: &str = "failed to forget rows that nobody needs any more";

/// Forgets all rows of a kind that are older than this, batch by batch: other writers take their turn in between.
async fn forget(app: &Shared, older_than: Timestamp, prune: Prune) -> anyhow::Result<u64> {
    let stopping = app.tasks.stopping();
    let mut forgotten = 0;
    loop {
        let batch = app.database.write(move |tx| prune(tx, older_than, BATCH_ROWS)).await.context(FAILED)?;
        forgotten += batch;
        if batch < u64::from(BATCH_ROWS) || stopping.is_cancelled() {
            return Ok(forgotten);
        }
    }
}

fn days_before(now: Timestamp, days: u32) -> Timestamp {
    now.checked_sub(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MIN)
}
