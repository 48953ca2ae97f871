//! Writes down, every so often and outside the database, where each audit chain ends: but only while all chains are whole, so that
//! the evidence of a break never gives way to what broke it. Each node keeps a file of its own, so several nodes are several witnesses.
//!
//! What was added since the last anchor is checked each time, everything at the start and every `WHOLE_EVERY`. A break is told and
//! stays told; what to do about it is a person's decision (`docs/guide/operate.md`).

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use database::DbError;
use database::audit::{AuditBreak, AuditHead, audit_head, audit_heads, audit_verify, audit_verify_since};
use domain::id::WorkspaceId;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use super::driver::{Outcome, Task};
use crate::anchor;
use crate::app::{Nudges, Shared};

/// How often chains are gone through from their first entry.
const WHOLE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// The task.
pub struct AnchorAudit {
    /// When every chain was found whole from its first entry to its end, by this process.
    whole_at: Mutex<Option<Duration>>,
    broken: Gauge<i64, AtomicI64>,
}

/// What became of one chain.
type Checked = Result<AuditHead, AuditBreak>;

impl AnchorAudit {
    /// Nothing was checked yet.
    pub fn new(app: &Shared) -> AnchorAudit {
        let broken = Gauge::default();
        app.metrics.register(
            "audit_chains_broken",
            "Workspaces whose audit log is not what it was",
            broken.clone(),
        );
        AnchorAudit { whole_at: Mutex::default(), broken }
    }

    /// Whether everything is to be gone through, rather than what is new.
    fn is_due(&self, now: Duration) -> bool {
        let whole_at = self.whole_at.lock().unwrap_or_else(PoisonError::into_inner);
        whole_at.is_none_or(|at| now.saturating_sub(at) >= WHOLE_EVERY)
    }
}

#[async_trait]
impl Task for AnchorAudit {
    const NAME: &'static str = "anchor_audit";

    fn period(&self, app: &Shared) -> Duration {
        Duration::from_millis(app.config.audit.anchor_period_ms.max(1_000))
    }

    fn nudge<'a>(&self, nudges: &'a Nudges) -> &'a Notify {
        &nudges.anchor_audit
    }

    async fn run_once(&self, app: &Shared) -> anyhow::Result<Outcome> {
        let path = app.config.audit_anchor_file();
        let file = path.clone();
        let kept = spawn_blocking(move || anchor::read(&file)).await?.map_err(|why| anyhow!(why))?;
        let is_first = kept.is_none();
        let kept: HashMap<WorkspaceId, AuditHead> =
            kept.into_iter().flatten().map(|head| (head.workspace, head)).collect();
        let heads = app.database.read(audit_heads).await.context(FAILED)?;
        let (now, everything) = (app.clock.monotonic(), self.is_due(app.clock.monotonic()));

        let (mut ends, mut broken, mut is_new) = (Vec::with_capacity(heads.len()), 0, is_first);
        let gone = kept.keys().filter(|id| !heads.iter().any(|head| head.workspace == **id));
        for workspace in gone {
            broken += 1;
            error!(workspace.id = %workspace, "the audit log of {workspace} is gone, and the anchor has seen it");
        }
        for head in heads {
            let anchor = kept.get(&head.workspace);
            if !everything && anchor == Some(&head) {
                ends.push(head);
                continue;
            }
            let workspace = head.workspace;
            match checked(app, workspace, anchor.cloned(), everything).await.context(FAILED)? {
                Ok(end) => {
                    is_new |= anchor != Some(&end);
                    ends.push(end);
                }
                Err(why) => {
                    broken += 1;
                    error!(workspace.id = %workspace, "the audit log of {workspace} is not what it was: {why}");
                }
            }
        }
        self.broken.set(broken);
        if broken > 0 {
            error!("the audit anchor {} stays as it is: it is the evidence of what was", path.display());
            return Ok(Outcome::Idle);
        }
        if everything {
            *self.whole_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        }
        if is_new {
            let (chains, entries) = (ends.len(), ends.iter().map(|end| end.seq).sum::<i64>());
            spawn_blocking(move || anchor::write(&path, &ends)).await?.map_err(|why| anyhow!(why))?;
            info!(chains, entries, "anchored the audit log: {chains} chains, {entries} entries");
        }
        Ok(Outcome::Idle)
    }
}

const FAILED: &str = "failed to check the audit log";

/// Checks one chain, and says where it ends. Both are seen at one moment.
async fn checked(
    app: &Shared,
    workspace: WorkspaceId,
    anchor: Option<AuditHead>,
    everything: bool,
) -> Result<Checked, DbError> {
    let check = move |read: &database::Read<'_>| {
        let outcome = match &anchor {
            Some(anchor) if !everything => audit_verify_since(read, anchor)?,
            anchor => audit_verify(read, workspace, anchor.as_ref())?,
        };
        let end = audit_head(read, workspace)?;
        Ok(match (outcome, end) {
            (Ok(_), Some(end)) => Ok(end),
            // A clock that was set does this too, and nothing can be done about it any more.
            (Err(AuditBreak::ClockBack(entry)), Some(end)) => {
                warn!(workspace.id = %workspace, "in the audit log of {workspace} the clock went back at entry {entry}");
                Ok(end)
            }
            (Err(why), _) => Err(why),
            (Ok(_), None) => Err(AuditBreak::EndMissing),
        })
    };
    app.database.in_bulk().read(check).await
}
