//! Forgets rows that nobody needs any more: answers kept for an `Idempotency-Key` whose time is over, and notes of route changes
//! that every node has seen. What people may want to look up – numbers, calls, the audit log – is never touched here.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use database::idempotency::idempotency_prune;
use database::routes::route_changes_prune;
use tokio::sync::Notify;
use tracing::info;

use super::driver::{Outcome, Task};
use crate::app::{Nudges, Shared};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// The task.
pub struct PruneRows;

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
        let now = app.clock.now();
        let (answers, changes) = app
            .database
            .write(move |tx| Ok((idempotency_prune(tx, now)?, route_changes_prune(tx)?)))
            .await
            .context("failed to forget rows that nobody needs any more")?;
        if answers + changes > 0 {
            info!(answers, changes, "forgot {answers} kept answers and {changes} notes of route changes");
        }
        Ok(Outcome::Idle)
    }
}
