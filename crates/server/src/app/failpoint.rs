//! Places to crash at, for tests that kill the true program: `danger_failpoint` names one of [`FAILPOINTS`], and the process aborts
//! when it comes by. With `:stop` behind the name it stops instead, as a paused machine would, until somebody sends SIGCONT.

use std::time::Duration;

use super::App;

/// How long a stop signal may take to arrive.
const STOP_TAKES: Duration = Duration::from_secs(1);

/// Every place. The crash tests go through all of them.
pub const FAILPOINTS: &[&str] = &[
    "order_numbers.before_claim",
    "order_numbers.after_posting",
    "order_numbers.before_check",
    "order_numbers.before_post",
    "order_numbers.after_post",
    "order_numbers.after_requested",
    "order_numbers.after_ambiguous",
    "order_numbers.before_look_up",
    "order_numbers.after_look_up",
    "order_numbers.after_confirmed",
    "order_numbers.before_configure",
    "order_numbers.after_configure",
    "order_numbers.after_active",
    "order_numbers.after_failed",
    "order_numbers.after_needs_review",
    "release_numbers.before_delete",
    "release_numbers.after_delete",
    "release_numbers.after_released",
    "reconcile_numbers.before_listing",
    "reconcile_numbers.after_listing",
    "reconcile_numbers.after_findings",
];

impl App {
    /// Here the process may be made to die.
    pub fn failpoint(&self, name: &str) {
        debug_assert!(FAILPOINTS.contains(&name), "{name} is no known failpoint");
        let Some(wanted) = &self.config.danger_failpoint else { return };
        match wanted.strip_prefix(name) {
            // No unwinding, no destructors, nothing flushed: as if the power had gone.
            Some("") => std::process::abort(),
            Some(":stop") => {
                let pid = std::process::id().to_string();
                let _ = std::process::Command::new("kill").args(["-STOP", &pid]).status();
                // On a busy machine the signal reaches this thread a little after `kill` has ended.
                std::thread::sleep(STOP_TAKES);
            }
            _ => {}
        }
    }
}
