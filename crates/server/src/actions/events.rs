//! The event feed: what happened, in the order of commits, to those who may see it. Each kind of event needs the permission to read
//! the noun that it is about. A feed is long, so who listens is asked again and again whether the key still stands.

use database::events::{Entry, event_last, event_list, event_seq};
use database::keys::{key_find, key_find_by_public_id};
use database::{DbError, Read};
use domain::error::{Code, Refusal};
use domain::event::EventKind;
use domain::id::{EventId, WorkspaceId};
use domain::permission::Permission;
use tokio::sync::watch;

use super::{Caller, Failure};
use crate::app::Shared;

/// The permission that an event of this kind needs.
pub const fn permission_of(kind: EventKind) -> Permission {
    match kind {
        EventKind::NumberOrdering
        | EventKind::NumberActive
        | EventKind::NumberFailed
        | EventKind::NumberNeedsReview
        | EventKind::NumberUpdated
        | EventKind::NumberAssigned
        | EventKind::NumberUnassigned
        | EventKind::NumberReleaseScheduled
        | EventKind::NumberReleaseCancelled
        | EventKind::NumberReleased
        | EventKind::NumberDrifted => Permission::NumbersRead,
        EventKind::AgentCreated
        | EventKind::AgentUpdated
        | EventKind::AgentDeleted
        | EventKind::AgentPublished => Permission::AgentsRead,
        EventKind::CallStarted | EventKind::CallEnded => Permission::CallsRead,
        EventKind::WorkspaceUpdated => Permission::SettingsRead,
        EventKind::KeyCreated | EventKind::KeyRevoked | EventKind::RoleUpdated | EventKind::RoleDeleted => {
            Permission::KeysRead
        }
    }
}

/// A hint that something was committed, here or on another node.
pub fn feed_changes(app: &Shared) -> watch::Receiver<u64> {
    app.database.changes()
}

/// Where a listener begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Behind this place in the feed.
    pub after: i64,
    /// Why the listener has not seen all that is before it, if so.
    pub gap: Option<Gap>,
}

/// Why a feed cannot go on behind the event that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// It is older than all that is kept: what lay between is lost to this listener, and the oldest that is kept comes next.
    Forgotten,
    /// This workspace never had such an event, as far as is known. Everything that happened might have been missed, or nothing:
    /// only what comes next is sent.
    Unknown,
}

/// Finds where to begin: behind the event that the listener saw last, or with what comes next.
pub async fn feed_begin(
    app: &Shared,
    caller: &Caller,
    last_seen: Option<EventId>,
) -> Result<Beginning, Failure> {
    may_see_any(caller)?;
    let workspace = caller.workspace;
    let begin = app.database.read(move |read| match last_seen {
        None => Ok(Beginning { after: event_last(read, workspace)?, gap: None }),
        Some(id) => match event_seq(read, workspace, id)? {
            Some(after) => Ok(Beginning { after, gap: None }),
            None => lost(read, workspace, id),
        },
    });
    Ok(begin.await?)
}

/// Where to begin for whoever names an event that is not there. Its id tells how old it would be.
fn lost(read: &Read<'_>, workspace: WorkspaceId, id: EventId) -> Result<Beginning, DbError> {
    let oldest = event_list(read, workspace, 0, 1)?.pop();
    Ok(match oldest {
        // Where some were forgotten, the first that is kept is not the first that there was.
        Some(oldest) if oldest.seq > 1 && id < oldest.event.id => {
            Beginning { after: oldest.seq - 1, gap: Some(Gap::Forgotten) }
        }
        _ => Beginning { after: event_last(read, workspace)?, gap: Some(Gap::Unknown) },
    })
}

fn may_see_any(caller: &Caller) -> Result<(), Refusal> {
    if EventKind::ALL.iter().any(|&kind| caller.may(permission_of(kind)).is_ok()) {
        return Ok(());
    }
    Err(Refusal::new(
        Code::Forbidden,
        "events need the permission to read what they are about, such as numbers:read, and the role of your key has none of them",
    ))
}

/// What comes next in the feed, seen or not, and how far that reaches.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What this caller may see of it.
    pub entries: Vec<Entry>,
    /// The place behind the last, seen or not.
    pub after: i64,
    /// Whether there was anything at all.
    pub is_empty: bool,
}

/// Reads on in the feed.
pub async fn feed_read(app: &Shared, caller: &Caller, after: i64, limit: u32) -> Result<Batch, Failure> {
    may_see_any(caller)?;
    let workspace = caller.workspace;
    let mut entries = app.database.read(move |read| event_list(read, workspace, after, limit)).await?;
    let batch_after = entries.last().map_or(after, |entry| entry.seq);
    let is_empty = entries.is_empty();
    entries.retain(|entry| caller.may(permission_of(entry.event.kind)).is_ok());
    Ok(Batch { entries, after: batch_after, is_empty })
}

/// The caller as the key stands now: with the permissions that its role has by now, or refused.
pub async fn caller_again(app: &Shared, caller: &Caller) -> Result<Caller, Failure> {
    let (Some(id), workspace, now) = (caller.key, caller.workspace, app.clock.now()) else {
        return Ok(caller.clone());
    };
    let found = app
        .database
        .read(move |read| match key_find(read, workspace, id)? {
            Some(key) => key_find_by_public_id(read, &key.public_id),
            None => Ok(None),
        })
        .await?;
    let Some((key, permissions)) = found else {
        return Err(Refusal::new(Code::Unauthenticated, "the key is gone").into());
    };
    if key.revoked_at.is_some() {
        return Err(Refusal::new(Code::KeyRevoked, "the key was revoked").into());
    }
    if key.expires_at.is_some_and(|at| at <= now) {
        return Err(Refusal::new(Code::KeyExpired, "the key has expired").into());
    }
    Ok(Caller { permissions, ..caller.clone() })
}
