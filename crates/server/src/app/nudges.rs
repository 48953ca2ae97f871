//! Nudges: whoever leaves work for a background task wakes it, so that it need not wait for its period. A nudge that nobody
//! hears is only a delay.

use tokio::sync::Notify;

/// One bell for each background task.
#[derive(Debug, Default)]
pub struct Nudges {
    /// A purchase was written down.
    pub order_numbers: Notify,
    /// A hold may have ended.
    pub release_numbers: Notify,
    /// Someone wants to know now what the carrier has.
    pub reconcile_numbers: Notify,
    /// Something that calls depend on has changed.
    pub build_routes: Notify,
    /// A call record waits to be written.
    pub record_calls: Notify,
    /// Someone wants to know now whether the audit log is whole.
    pub anchor_audit: Notify,
    /// There is something to forget.
    pub prune_rows: Notify,
}
