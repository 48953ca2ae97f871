//! What runs beside the requests: tracked, so that shutdown waits for it, and told when to stop.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

/// The tracker of everything that runs.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// None yet.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Runs a future to its end. One that panics is reported and harms nothing else.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(async move {
            if AssertUnwindSafe(future).catch_unwind().await.is_err() {
                error!(task = name, "the task {name} has panicked");
            }
        });
    }

    /// Ends when everything should. Long-running tasks wait for it beside their work.
    pub fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells all to stop, and waits at most so long. Whether all had ended by then.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stopping_waits_for_what_runs() {
        let tasks = Tasks::new();
        let stopping = tasks.stopping();
        tasks.spawn("patient", async move { stopping.cancelled().await });
        tasks.spawn("clumsy", async { panic!("on purpose") });
        assert!(tasks.stop(Duration::from_secs(5)).await, "the panic did not hang the tracker");
        let stuck = Tasks::new();
        stuck.spawn("stuck", std::future::pending());
        assert!(!stuck.stop(Duration::from_millis(10)).await);
    }
}
