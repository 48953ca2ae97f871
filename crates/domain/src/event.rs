//! Events: what happened, for programs that listen. People read the audit log, which says who did it; both are written in the
//! transaction of the change.

use jiff::Timestamp;
use serde::Serialize;

use crate::id::{EventId, WorkspaceId};

crate::words! {
    /// The kinds of event.
    EventKind, "event type" {
        /// A purchase was accepted and is under way.
        NumberOrdering = "number.ordering",
        /// A number is ours and takes calls.
        NumberActive = "number.active",
        /// Nothing was bought.
        NumberFailed = "number.failed",
        /// Whether it was bought is unknown.
        NumberNeedsReview = "number.needs_review",
        /// Its settings changed.
        NumberUpdated = "number.updated",
        /// It is answered by another agent, environment or variant.
        NumberAssigned = "number.assigned",
        /// Nobody answers it now.
        NumberUnassigned = "number.unassigned",
        /// It is to be given back.
        NumberReleaseScheduled = "number.release_scheduled",
        /// It stays after all.
        NumberReleaseCancelled = "number.release_cancelled",
        /// It was given back.
        NumberReleased = "number.released",
        /// The carrier has something else than we set.
        NumberDrifted = "number.drifted",
        /// A new agent.
        AgentCreated = "agent.created",
        /// Its name or draft changed.
        AgentUpdated = "agent.updated",
        /// It is gone.
        AgentDeleted = "agent.deleted",
        /// An environment runs another version of it.
        AgentPublished = "agent.published",
        /// A call came in.
        CallStarted = "call.started",
        /// A call is over.
        CallEnded = "call.ended",
        /// The workspace's settings changed.
        WorkspaceUpdated = "workspace.updated",
        /// A new key.
        KeyCreated = "key.created",
        /// A key is refused from now on.
        KeyRevoked = "key.revoked",
        /// A new or changed role.
        RoleUpdated = "role.updated",
        /// A role is gone.
        RoleDeleted = "role.deleted",
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// Whose.
    pub workspace_id: WorkspaceId,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// When, as the node's clock said.
    pub at: Timestamp,
    /// The id of what it happened to.
    pub subject: String,
    /// The thing as the API shows it, or what matters of it. Never a secret.
    pub data: serde_json::Value,
}
