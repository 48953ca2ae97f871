//! API keys and custom roles.
//!
//! A key is found by its public part and proven by the hash of its secret; the secret itself is nowhere.
//! Comparing hashes, and what a role allows, is the server's business.

use std::str::FromStr as _;

use domain::id::{KeyId, RoleId, WorkspaceId};
use domain::permission::{BuiltInRole, Permissions};
use jiff::{SignedDuration, Timestamp};

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::value::{Row, Value};

/// A key's last use is noted at most this often.
pub const LAST_USE_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// What a key may do: one of the roles that every workspace has, or one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// One that every workspace has.
    BuiltIn(BuiltInRole),
    /// One of the workspace's own.
    Custom(RoleId),
}

/// One API key, without its secret.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// The part of the key that is not secret, and by which it is found.
    pub public_id: String,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// What people call it.
    pub name: String,
    /// The SHA-256 of its secret.
    pub secret_hash: Vec<u8>,
    /// The last characters of it.
    pub last4: String,
    /// What it may do.
    pub role: KeyRole,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When a person ended it.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, give or take [`LAST_USE_EVERY`].
    pub last_used_at: Option<Timestamp>,
}

/// A role of a workspace's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Role {
    /// Its id.
    pub id: RoleId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// What people call it; unique in the workspace.
    pub name: String,
    /// What it allows.
    pub permissions: Permissions,
    /// Grows with each change; the `ETag`.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

macro_rules! select_key {
    ($rest:literal) => {
        concat!(
            "SELECT k.id, k.public_id, k.workspace_id, k.name, k.secret_hash, k.last4, k.role, k.role_id, \
             k.created_at, k.created_by, k.expires_at, k.revoked_at, k.last_used_at, r.permissions \
             FROM api_keys k LEFT JOIN roles r ON r.id = k.role_id ",
            $rest
        )
    };
}
macro_rules! select_role {
    ($rest:literal) => {
        concat!(
            "SELECT id, workspace_id, name, permissions, revision, created_at, updated_at FROM roles ",
            $rest
        )
    };
}

const KEY_FIND: &str = select_key!("WHERE k.id = $1 AND k.workspace_id = $2");
const KEY_FIND_BY_PUBLIC_ID: &str = select_key!("WHERE k.public_id = $1");
const KEY_LIST: &str = select_key!("WHERE k.workspace_id = $1 AND k.id > $2 ORDER BY k.id LIMIT $3");
const KEY_CREATE: &str = "INSERT INTO api_keys (id, public_id, workspace_id, name, secret_hash, last4, role, \
    role_id, created_at, created_by, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
const KEY_REVOKE: &str = "UPDATE api_keys SET revoked_at = $3 \
    WHERE id = $1 AND workspace_id = $2 AND revoked_at IS NULL";
const KEY_USED: &str = "UPDATE api_keys SET last_used_at = $2 \
    WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $3)";
const ROLE_FIND: &str = select_role!("WHERE id = $1 AND workspace_id = $2");
const ROLE_LIST: &str = select_role!("WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3");
const ROLE_CREATE: &str = "INSERT INTO roles (id, workspace_id, name, permissions, revision, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, 1, $5, $5)";
const ROLE_UPDATE: &str = "UPDATE roles SET name = $4, permissions = $5, revision = revision + 1, updated_at = $6 \
    WHERE id = $1 AND workspace_id = $2 AND revision = $3";
const ROLE_KEYS: &str = "SELECT count(*) FROM api_keys WHERE role_id = $1 AND revoked_at IS NULL";
const ROLE_DELETE: &str = "DELETE FROM roles WHERE id = $1 AND workspace_id = $2";
/// Revoked keys keep their row, but no longer need the role.
const ROLE_FORGET: &str = "UPDATE api_keys SET role_id = NULL, role = 'viewer' \
    WHERE role_id = $1 AND revoked_at IS NOT NULL";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("keys::KEY_FIND", Both::same(KEY_FIND)),
    ("keys::KEY_FIND_BY_PUBLIC_ID", Both::same(KEY_FIND_BY_PUBLIC_ID)),
    ("keys::KEY_LIST", Both::same(KEY_LIST)),
    ("keys::KEY_CREATE", Both::same(KEY_CREATE)),
    ("keys::KEY_REVOKE", Both::same(KEY_REVOKE)),
    ("keys::KEY_USED", Both::same(KEY_USED)),
    ("keys::ROLE_FIND", Both::same(ROLE_FIND)),
    ("keys::ROLE_LIST", Both::same(ROLE_LIST)),
    ("keys::ROLE_CREATE", Both::same(ROLE_CREATE)),
    ("keys::ROLE_UPDATE", Both::same(ROLE_UPDATE)),
    ("keys::ROLE_KEYS", Both::same(ROLE_KEYS)),
    ("keys::ROLE_DELETE", Both::same(ROLE_DELETE)),
    ("keys::ROLE_FORGET", Both::same(ROLE_FORGET)),
];

fn key(row: &Row<'_>) -> Result<ApiKey, DbError> {
    let role = match (row.parse_opt::<BuiltInRole>(6)?, row.parse_opt::<RoleId>(7)?) {
        (Some(role), None) => KeyRole::BuiltIn(role),
        (None, Some(id)) => KeyRole::Custom(id),
        _ => return Err(DbError::Corrupt("a key has no role, or two".into())),
    };
    Ok(ApiKey {
        id: row.parse(0)?,
        public_id: row.read(1)?,
        workspace: row.parse(2)?,
        name: row.read(3)?,
        secret_hash: row.read(4)?,
        last4: row.read(5)?,
        role,
        created_at: row.read(8)?,
        created_by: row.read(9)?,
        expires_at: row.read(10)?,
        revoked_at: row.read(11)?,
        last_used_at: row.read(12)?,
    })
}

fn role(row: &Row<'_>) -> Result<Role, DbError> {
    Ok(Role {
        id: row.parse(0)?,
        workspace: row.parse(1)?,
        name: row.read(2)?,
        permissions: row.json(3)?,
        revision: row.read(4)?,
        created_at: row.read(5)?,
        updated_at: row.read(6)?,
    })
}

/// A key of a workspace.
pub fn key_find(read: &Read<'_>, workspace: WorkspaceId, id: KeyId) -> Result<Option<ApiKey>, DbError> {
    read.query_opt(KEY_FIND, &[Value::text(&id), Value::text(&workspace)], key)
}

/// A key by its public part, in whatever workspace, with what its role allows now. Revoked and expired
/// ones are found too, so that the answer can say so.
pub fn key_find_by_public_id(
    read: &Read<'_>,
    public_id: &str,
) -> Result<Option<(ApiKey, Permissions)>, DbError> {
    read.query_opt(KEY_FIND_BY_PUBLIC_ID, &[public_id.into()], |row| {
        let key = key(row)?;
        let permissions = match key.role {
            KeyRole::BuiltIn(role) => role.permissions(),
            KeyRole::Custom(_) => row.json(13)?,
        };
        Ok((key, permissions))
    })
}

/// Keys of a workspace, oldest first; `after` is the last id of the page before.
pub fn key_list(
    read: &Read<'_>,
    workspace: WorkspaceId,
    after: Option<KeyId>,
    limit: u32,
) -> Result<Vec<ApiKey>, DbError> {
    let after = after.map_or_else(String::new, |id| id.to_string());
    read.query(KEY_LIST, &[Value::text(&workspace), after.into(), limit.into()], key)
}

/// Keeps a new key.
pub fn key_create(tx: &Tx<'_>, key: &ApiKey) -> Result<(), DbError> {
    let (built_in, custom) = match key.role {
        KeyRole::BuiltIn(role) => (Value::from(role.as_str()), Value::Null),
        KeyRole::Custom(id) => (Value::Null, Value::text(&id)),
    };
    tx.execute(
        KEY_CREATE,
        &[
            Value::text(&key.id),
            (&key.public_id).into(),
            Value::text(&key.workspace),
            (&key.name).into(),
            (&key.secret_hash).into(),
            (&key.last4).into(),
            built_in,
            custom,
            key.created_at.into(),
            (&key.created_by).into(),
            key.expires_at.into(),
        ],
    )
    .map(drop)
}

/// Ends a key. False where it had ended, or is not there.
pub fn key_revoke(tx: &Tx<'_>, workspace: WorkspaceId, id: KeyId, now: Timestamp) -> Result<bool, DbError> {
    tx.nudge();
    Ok(tx.execute(KEY_REVOKE, &[Value::text(&id), Value::text(&workspace), now.into()])? > 0)
}

/// Notes when a key was used, unless that was noted a moment ago.
pub fn key_used(tx: &Tx<'_>, id: KeyId, now: Timestamp) -> Result<(), DbError> {
    let stale = now.checked_sub(LAST_USE_EVERY).unwrap_or(Timestamp::MIN);
    tx.execute(KEY_USED, &[Value::text(&id), now.into(), stale.into()]).map(drop)
}

/// A role of a workspace's own.
pub fn role_find(read: &Read<'_>, workspace: WorkspaceId, id: RoleId) -> Result<Option<Role>, DbError> {
    read.query_opt(ROLE_FIND, &[Value::text(&id), Value::text(&workspace)], role)
}

/// Roles of a workspace, oldest first; `after` is the last id of the page before.
pub fn role_list(
    read: &Read<'_>,
    workspace: WorkspaceId,
    after: Option<RoleId>,
    limit: u32,
) -> Result<Vec<Role>, DbError> {
    let after = after.map_or_else(String::new, |id| id.to_string());
    read.query(ROLE_LIST, &[Value::text(&workspace), after.into(), limit.into()], role)
}

/// Makes a role. [`DbError::Conflict`] where its name is taken, by a built-in one too.
pub fn role_create(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    id: RoleId,
    name: &str,
    permissions: &Permissions,
    now: Timestamp,
) -> Result<(), DbError> {
    if BuiltInRole::from_str(name).is_ok() {
        return Err(DbError::Conflict("roles_name"));
    }
    tx.execute(
        ROLE_CREATE,
        &[Value::text(&id), Value::text(&workspace), name.into(), Value::json(permissions), now.into()],
    )
    .map(drop)
}

/// Writes a role's name and permissions, if it is still at its `revision`; gives it as it is now.
pub fn role_update(tx: &Tx<'_>, role: &Role, now: Timestamp) -> Result<Role, DbError> {
    if BuiltInRole::from_str(&role.name).is_ok() {
        return Err(DbError::Conflict("roles_name"));
    }
    let written = tx.execute(
        ROLE_UPDATE,
        &[
            Value::text(&role.id),
            Value::text(&role.workspace),
            role.revision.into(),
            (&role.name).into(),
            Value::json(&role.permissions),
            now.into(),
        ],
    )?;
    tx.nudge();
    if written == 0 {
        return Err(DbError::StaleVersion);
    }
    Ok(Role { revision: role.revision + 1, updated_at: now, ..role.clone() })
}

/// Deletes a role that no key has any more; otherwise says how many still have it.
pub fn role_delete(tx: &Tx<'_>, workspace: WorkspaceId, id: RoleId) -> Result<Result<bool, i64>, DbError> {
    let keys: i64 = tx.query_one(ROLE_KEYS, &[Value::text(&id)], |row| row.read(0))?;
    if keys > 0 {
        return Ok(Err(keys));
    }
    tx.execute(ROLE_FORGET, &[Value::text(&id)])?;
    Ok(Ok(tx.execute(ROLE_DELETE, &[Value::text(&id), Value::text(&workspace)])? > 0))
}
