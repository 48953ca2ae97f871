//! Who may do what: permissions, the four built-in roles, and custom roles as sets of permissions. Where the check is made
//! is not told here: only `server/src/actions` makes it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

crate::words! {
    /// The right to do one kind of thing.
    Permission, "permission" {
        /// See numbers, their readiness and the store.
        NumbersRead = "numbers:read",
        /// Change, assign and lock numbers.
        NumbersWrite = "numbers:write",
        /// Spend money on numbers.
        NumbersBuy = "numbers:buy",
        /// Give numbers back.
        NumbersRelease = "numbers:release",
        /// See agents, drafts, versions.
        AgentsRead = "agents:read",
        /// Edit drafts and variants.
        AgentsWrite = "agents:write",
        /// Publish, promote, roll back.
        AgentsPublish = "agents:publish",
        /// See calls and explain routes.
        CallsRead = "calls:read",
        /// See keys and roles.
        KeysRead = "keys:read",
        /// Create and revoke keys, change roles.
        KeysWrite = "keys:write",
        /// See the workspace's settings.
        SettingsRead = "settings:read",
        /// Change the workspace's settings.
        SettingsWrite = "settings:write",
        /// Read the audit log.
        AuditRead = "audit:read",
    }
}

crate::words! {
    /// The roles that every workspace has.
    BuiltInRole, "role" {
        /// Everything.
        Owner = "owner",
        /// Everything but keys and roles.
        Admin = "admin",
        /// Builds agents and assigns numbers; spends no money and releases nothing.
        Builder = "builder",
        /// Sees all but the audit log and keys.
        Viewer = "viewer",
    }
}

/// A set of permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permissions(BTreeSet<Permission>);

impl Permissions {
    /// A set of these.
    pub fn of(permissions: impl IntoIterator<Item = Permission>) -> Self {
        Permissions(permissions.into_iter().collect())
    }

    /// Whether the set holds this permission.
    pub fn allow(&self, permission: Permission) -> bool {
        self.0.contains(&permission)
    }

    /// Whether the set holds all of the other: nobody hands out more than they have.
    pub fn cover(&self, other: &Permissions) -> bool {
        other.0.is_subset(&self.0)
    }

    /// The permissions in their natural order.
    pub fn iter(&self) -> impl Iterator<Item = Permission> + '_ {
        self.0.iter().copied()
    }
}

impl BuiltInRole {
    /// What the role may do.
    pub fn permissions(self) -> Permissions {
        use Permission::{
            AgentsPublish, AgentsRead, AgentsWrite, CallsRead, KeysRead, KeysWrite, NumbersRead,
            NumbersWrite, SettingsRead,
        };
        match self {
            BuiltInRole::Owner => Permissions::of(Permission::ALL.iter().copied()),
            BuiltInRole::Admin => Permissions::of(
                Permission::ALL.iter().copied().filter(|&p| !matches!(p, KeysWrite | KeysRead)),
            ),
            BuiltInRole::Builder => Permissions::of([
                NumbersRead,
                NumbersWrite,
                AgentsRead,
                AgentsWrite,
                AgentsPublish,
                CallsRead,
                SettingsRead,
            ]),
            BuiltInRole::Viewer => Permissions::of([NumbersRead, AgentsRead, CallsRead, SettingsRead]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_built_in_role_covers_the_next() {
        for pair in BuiltInRole::ALL.windows(2) {
            assert!(pair[0].permissions().cover(&pair[1].permissions()), "{} covers {}", pair[0], pair[1]);
            assert!(
                !pair[1].permissions().cover(&pair[0].permissions()),
                "{} is more than {}",
                pair[0],
                pair[1]
            );
        }
    }
}
