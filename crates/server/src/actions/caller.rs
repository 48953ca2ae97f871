//! Who asks: proven by `api/auth.rs` (or trusted, as the command line on the machine itself), judged here.

use database::Change;
use domain::error::{Code, Refusal};
use domain::event::EventKind;
use domain::id::{KeyId, RequestId, WorkspaceId};
use domain::permission::{BuiltInRole, Permission, Permissions};
use jiff::Timestamp;

/// Who asks for something, in which workspace, and what they may do.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The workspace in which everything happens.
    pub workspace: WorkspaceId,
    /// Who it is in the audit log: `key:key_…` or `command line`.
    pub actor: String,
    /// The API key, unless it is the command line.
    pub key: Option<KeyId>,
    /// What they may do.
    pub permissions: Permissions,
    /// Under which request, for the audit log.
    pub request: Option<RequestId>,
}

impl Caller {
    /// Someone who proved to hold an API key.
    pub fn with_key(
        workspace: WorkspaceId,
        key: KeyId,
        permissions: Permissions,
        request: RequestId,
    ) -> Caller {
        Caller { workspace, actor: format!("key:{key}"), key: Some(key), permissions, request: Some(request) }
    }

    /// Someone with a shell on the machine that holds the database: the operator.
    pub fn command_line(workspace: WorkspaceId) -> Caller {
        Caller {
            workspace,
            actor: "command line".to_owned(),
            key: None,
            permissions: BuiltInRole::Owner.permissions(),
            request: None,
        }
    }

    /// Refuses what this caller may not do. The one place where permission is checked.
    pub fn may(&self, permission: Permission) -> Result<(), Refusal> {
        if self.permissions.allow(permission) {
            return Ok(());
        }
        Err(Refusal::new(
            Code::Forbidden,
            format!("this needs the permission {permission}, which the role of your key does not have"),
        ))
    }

    /// Refuses to hand out more than this caller has.
    pub fn may_grant(&self, permissions: &Permissions) -> Result<(), Refusal> {
        if self.permissions.cover(permissions) {
            return Ok(());
        }
        let missing: Vec<&str> = permissions
            .iter()
            .filter(|&permission| !self.permissions.allow(permission))
            .map(Permission::as_str)
            .collect();
        Err(Refusal::new(
            Code::Forbidden,
            format!("nobody hands out more than they have: your key lacks {}", missing.join(", ")),
        ))
    }

    /// A change for the audit log and the event feed, to be completed with `before` and `after`.
    pub fn change(
        &self,
        at: Timestamp,
        action: &'static str,
        target: impl std::fmt::Display,
        event: EventKind,
    ) -> ChangeBy<'_> {
        ChangeBy { caller: self, at, action, target: target.to_string(), event, before: None, after: None }
    }
}

/// A change, and who makes it.
pub struct ChangeBy<'a> {
    caller: &'a Caller,
    at: Timestamp,
    action: &'static str,
    target: String,
    event: EventKind,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
}

impl ChangeBy<'_> {
    /// What it was before. Never a secret.
    #[must_use]
    pub fn before(mut self, value: serde_json::Value) -> Self {
        self.before = Some(value);
        self
    }

    /// What it is now, which the event shows too. Never a secret.
    #[must_use]
    pub fn after(mut self, value: serde_json::Value) -> Self {
        self.after = Some(value);
        self
    }

    /// Writes the audit row and the event, in the transaction of the change.
    pub fn record(self, tx: &database::Tx<'_>) -> Result<(), database::DbError> {
        let request = self.caller.request.map(|request| request.to_string());
        tx.record(&Change {
            workspace: self.caller.workspace,
            at: self.at,
            actor: &self.caller.actor,
            action: self.action,
            target: self.target,
            before: self.before,
            after: self.after,
            request_id: request.as_deref(),
            event: Some(self.event),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_may_what_the_role_allows() {
        let mut caller = Caller::command_line(WorkspaceId::from_bits(1));
        assert!(caller.may(Permission::NumbersBuy).is_ok());
        caller.permissions = BuiltInRole::Viewer.permissions();
        let refusal = caller.may(Permission::NumbersBuy).unwrap_err();
        assert_eq!(refusal.code, Code::Forbidden);
        assert!(refusal.detail.contains("numbers:buy"), "{refusal}");
    }
}
