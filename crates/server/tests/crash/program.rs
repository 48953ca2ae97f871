//! A child process with its log in a file; killed when the test lets go of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// How long anything that must happen may take; far more than it does, for machines that are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// How often is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running `switchboard`.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts it; what it says goes to the end of `log`.
    pub(crate) fn start(args: &[&str], log: &Path) -> Program {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .args(args)
            .env_remove("SWITCHBOARD_CONFIG")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Program { child, log: log.to_owned() }
    }

    /// What it has said so far, with what programs before it said to the same log.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL: as if the power had gone.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn wait(&mut self, what: &str) -> ExitStatus {
        let mut status = None;
        until(what, async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// Lets it live for so long; it must not end by itself meanwhile.
    pub(crate) async fn live(&mut self, time: Duration) {
        let ended = looked_at(async || self.child.try_wait().unwrap().is_some());
        assert!(tokio::time::timeout(time, ended).await.is_err(), "it has ended by itself");
    }

    /// Whether it is stopped, as by SIGSTOP.
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// SIGCONT.
    pub(crate) fn wake(&self) {
        let status = Command::new("kill").args(["-CONT", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let said = self.said();
            let tail = said.len().saturating_sub(4_000);
            let tail = (tail..said.len()).find(|&at| said.is_char_boundary(at)).unwrap_or(0);
            eprintln!("--- the end of {}:\n{}", self.log.display(), &said[tail..]);
        }
    }
}

/// Waits for a condition, with a deadline.
pub(crate) async fn until(what: &str, condition: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, looked_at(condition)).await;
    assert!(waited.is_ok(), "{what} did not happen within {PATIENCE:?}");
}

/// Looks at a condition until it holds.
async fn looked_at(mut condition: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !condition().await {
        looks.tick().await;
    }
}
