//! Roles of a workspace's own: sets of permissions with a name. The built-in ones cannot be changed.

use database::DbError;
pub use database::keys::Role;
use database::keys::{
    role_create as insert, role_delete as delete, role_find, role_list as select, role_update as update,
};
use domain::error::{Code, Refusal, shown};
use domain::event::EventKind;
use domain::id::RoleId;
use domain::permission::{Permission, Permissions};
use serde_json::json;

use super::{Answer, Caller, Failure, IfMatch, Once};
use crate::app::Shared;

/// The longest name of a role, in characters.
pub const NAME_CHARS_MAX: usize = 60;
/// The most roles of one workspace's own.
pub const ROLES_MAX: u32 = 100;

/// A role as it is sent.
#[derive(Clone)]
pub struct NewRole {
    /// What people call it.
    pub name: String,
    /// What it allows.
    pub permissions: Permissions,
}

/// What a PATCH of a role says.
#[derive(Clone, Default)]
pub struct RolePatch {
    /// What people call it.
    pub name: Option<String>,
    /// What it allows.
    pub permissions: Option<Permissions>,
}

/// The workspace's own roles, oldest first.
pub async fn role_list(
    app: &Shared,
    caller: &Caller,
    after: Option<RoleId>,
    limit: u32,
) -> Result<Vec<Role>, Failure> {
    caller.may(Permission::KeysRead)?;
    let workspace = caller.workspace;
    Ok(app.database.read(move |read| select(read, workspace, after, limit)).await?)
}

/// One role of the workspace's own.
pub async fn role_show(app: &Shared, caller: &Caller, id: RoleId) -> Result<Role, Failure> {
    caller.may(Permission::KeysRead)?;
    let workspace = caller.workspace;
    let found = app.database.read(move |read| role_find(read, workspace, id)).await?;
    found.ok_or_else(|| no_such_role(id).into())
}

/// Makes a role.
pub async fn role_create(
    app: &Shared,
    caller: &Caller,
    new: NewRole,
    once: Once<Role>,
) -> Result<Answer<Role>, Failure> {
    caller.may(Permission::KeysWrite)?;
    caller.may_grant(&new.permissions)?;
    let (now, caller) = (app.clock.now(), caller.clone());
    let id = RoleId::new(now, app.random.bits());
    app.database
        .try_write(move |tx| {
            once.run(tx, &caller, now, || {
                if select(tx, caller.workspace, None, ROLES_MAX)?.len() >= ROLES_MAX as usize {
                    return Err(Failure::Refused(Refusal::new(
                        Code::LimitReached,
                        format!(
                            "the workspace has {ROLES_MAX} roles, the most that are allowed; delete one first"
                        ),
                    )));
                }
                insert(tx, caller.workspace, id, &new.name, &new.permissions, now)
                    .map_err(|error| name_taken(error, &new.name))?;
                let made = role_find(tx, caller.workspace, id)?.ok_or_else(|| {
                    DbError::Corrupt("a role that was just written is not there".to_owned())
                })?;
                caller
                    .change(now, "role.create", id, EventKind::RoleUpdated)
                    .after(recorded(&made))
                    .record(tx)?;
                Ok(made)
            })
        })
        .await
}

/// Changes a role; keys that have it may do what it allows from now on.
pub async fn role_patch(
    app: &Shared,
    caller: &Caller,
    id: RoleId,
    patch: RolePatch,
    if_match: IfMatch,
) -> Result<Role, Failure> {
    caller.may(Permission::KeysWrite)?;
    if let Some(permissions) = &patch.permissions {
        caller.may_grant(permissions)?;
    }
    let (now, caller) = (app.clock.now(), caller.clone());
    app.database
        .try_write(move |tx| {
            tx.workspace_lock(caller.workspace)?;
            let before = role_find(tx, caller.workspace, id)?.ok_or_else(|| no_such_role(id))?;
            if_match.check(before.revision)?;
            let mut after = before.clone();
            after.name = patch.name.clone().unwrap_or(after.name);
            after.permissions = patch.permissions.clone().unwrap_or(after.permissions);
            if after == before {
                return Ok(before);
            }
            let after = update(tx, &after, now).map_err(|error| name_taken(error, &after.name))?;
            caller
                .change(now, "role.update", id, EventKind::RoleUpdated)
                .before(recorded(&before))
                .after(recorded(&after))
                .record(tx)?;
            Ok(after)
        })
        .await
}

/// Deletes a role that no key has any more.
pub async fn role_delete(
    app: &Shared,
    caller: &Caller,
    id: RoleId,
    if_match: IfMatch,
) -> Result<(), Failure> {
    caller.may(Permission::KeysWrite)?;
    let (now, caller) = (app.clock.now(), caller.clone());
    app.database
        .try_write(move |tx| {
            tx.workspace_lock(caller.workspace)?;
            let before = role_find(tx, caller.workspace, id)?.ok_or_else(|| no_such_role(id))?;
            if_match.check(before.revision)?;
            if let Err(keys) = delete(tx, caller.workspace, id)? {
                return Err(Failure::Refused(Refusal::new(
                    Code::RoleInUse,
                    format!("{keys} API keys have the role {}; revoke them first", shown(&before.name)),
                )));
            }
            caller
                .change(now, "role.delete", id, EventKind::RoleDeleted)
                .before(recorded(&before))
                .record(tx)?;
            Ok(())
        })
        .await
}

fn name_taken(error: DbError, name: &str) -> Failure {
    match error {
        DbError::Conflict("roles_name") => Failure::field(
            "name",
            Refusal::new(
                Code::NameTaken,
                format!("there is a role {} already; choose another name", shown(name)),
            ),
        ),
        error => error.into(),
    }
}

fn no_such_role(id: RoleId) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no role {id} in this workspace"))
}

fn recorded(role: &Role) -> serde_json::Value {
    json!({ "id": role.id, "name": role.name, "permissions": role.permissions })
}
