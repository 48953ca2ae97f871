//! Runs background tasks: at the start, when nudged, when their own next moment has come, and every so often whatever happens. A
//! task that fails or panics is reported and tried again, ever more slowly; none can harm another.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::sync::Notify;
use tracing::{debug, error, warn};

use crate::app::{Nudges, Shared};

/// The longest pause of a task that goes on failing.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The pause after a first failure; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// The shortest wait between two runs, so that a task that always wants to go on leaves room for others.
const BREATH: Duration = Duration::from_millis(1);

/// One background task.
#[async_trait]
pub trait Task: Send + Sync + 'static {
    /// Its name: that of its file.
    const NAME: &'static str;

    /// How often it runs when nothing else wakes it.
    fn period(&self, app: &Shared) -> Duration;

    /// What wakes it early.
    fn nudge<'a>(&self, nudges: &'a Nudges) -> &'a Notify;

    /// Does what is to be done now.
    async fn run_once(&self, app: &Shared) -> anyhow::Result<Outcome>;
}

/// When a task wants to run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At the next nudge or period.
    Idle,
    /// At once: there is more to do.
    Again,
    /// Then, if nothing wakes it before.
    WakeAt(Timestamp),
}

/// Starts tasks and counts how they fare.
pub struct Driver {
    app: Shared,
    runs: Family<RunLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    task: &'static str,
    outcome: &'static str,
}

impl Driver {
    /// A driver for this app's tasks.
    pub fn new(app: &Shared) -> Driver {
        let runs = Family::default();
        app.metrics.register("task_runs", "Runs of background tasks", runs.clone());
        Driver { app: app.clone(), runs }
    }

    /// Runs a task until the app stops.
    pub fn spawn<T: Task>(&self, task: T) {
        let (app, runs) = (self.app.clone(), self.runs.clone());
        self.app.tasks.spawn(T::NAME, drive(app, runs, task));
    }
}

async fn drive<T: Task>(app: Shared, runs: Family<RunLabels, Counter>, task: T) {
    let stopping = app.tasks.stopping();
    let mut failures = 0;
    while !stopping.is_cancelled() {
        let ran = AssertUnwindSafe(task.run_once(&app)).catch_unwind().await;
        let (outcome, wait) = match ran {
            Ok(Ok(Outcome::Again)) => ("again", Some(BREATH)),
            Ok(Ok(outcome)) => ("ok", Some(wait(outcome, task.period(&app), app.clock.now()))),
            Ok(Err(why)) => {
                let pause = pause(failures, app.random.below(1_000));
                warn!(task = T::NAME, "the task {} failed and tries again in {pause:?}: {why:#}", T::NAME);
                ("failed", None)
            }
            Err(_) => {
                error!(task = T::NAME, "the task {} has panicked and goes on", T::NAME);
                ("panicked", None)
            }
        };
        runs.get_or_create(&RunLabels { task: T::NAME, outcome }).inc();
        if let Some(wait) = wait {
            failures = 0;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = task.nudge(&app.nudges).notified() => debug!(task = T::NAME, "nudged"),
                () = stopping.cancelled() => {}
            }
        } else {
            let pause = pause(failures, app.random.below(1_000));
            failures += 1;
            // Nudges do not shorten this: whoever nudges does not know that it fails.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopping.cancelled() => {}
            }
        }
    }
}

/// How long to wait for the next run.
fn wait(outcome: Outcome, period: Duration, now: Timestamp) -> Duration {
    match outcome {
        Outcome::Again => BREATH,
        Outcome::Idle => period,
        Outcome::WakeAt(at) => {
            let ahead = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            ahead.clamp(BREATH, period.max(BREATH))
        }
    }
}

/// How long to pause after so many failures in a row: doubling, with up to a quarter taken off by chance, so that nodes that
/// failed together do not come back together.
fn pause(failures: u32, chance_per_mille: u64) -> Duration {
    let full = PAUSE_FIRST.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
    let off = u32::try_from(chance_per_mille.min(1_000)).expect("at most a thousand");
    full.saturating_sub(full / 4 * off / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_within_their_bounds() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let period = Duration::from_secs(5);
        let at = |seconds| Outcome::WakeAt(now + jiff::SignedDuration::from_secs(seconds));
        assert_eq!(wait(Outcome::Idle, period, now), period);
        assert_eq!(wait(at(2), period, now), Duration::from_secs(2));
        assert_eq!(wait(at(3600), period, now), period, "a lost nudge is only a delay");
        assert_eq!(wait(at(-3600), period, now), BREATH);
    }

    #[test]
    fn pauses_double_to_their_maximum() {
        assert_eq!(pause(0, 0), PAUSE_FIRST);
        assert_eq!(pause(1, 0), PAUSE_FIRST * 2);
        assert_eq!(pause(1_000, 0), PAUSE_MAX);
        assert_eq!(pause(1_000, 1_000), Duration::from_secs(45));
    }
}
