//! API keys: made, listed, revoked. A key's text is shown once; what is kept proves it and cannot give it back.

use std::sync::Arc;

pub use database::keys::{ApiKey, KeyRole};
use database::keys::{
    LAST_USE_EVERY, key_create as insert, key_find, key_find_by_public_id, key_list as select,
    key_revoke as revoke, key_used,
};
use database::{DbError, Read};
use domain::error::{Code, Refusal, shown};
use domain::event::EventKind;
use domain::id::{KeyId, WorkspaceId};
use domain::permission::{BuiltInRole, Permission, Permissions};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;
use subtle::ConstantTimeEq as _;
use tracing::warn;

use super::key_text::{NewKeyText, SentKey};
use super::{Answer, Caller, Failure, Once};
use crate::app::Shared;

/// The most keys of one workspace that are neither revoked nor expired.
pub const KEYS_MAX: usize = 200;
/// How many rows are looked at in one query.
const PAGE: u32 = 200;

/// What a key is made from.
#[derive(Clone)]
pub struct NewKey {
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: KeyRole,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

/// A key that was just made, with its text.
#[derive(Clone)]
pub struct KeyMade {
    /// What is kept.
    pub key: ApiKey,
    /// What is shown once.
    pub text: Arc<SecretString>,
}

/// Keys of the workspace, oldest first.
pub async fn key_list(
    app: &Shared,
    caller: &Caller,
    after: Option<KeyId>,
    limit: u32,
) -> Result<Vec<ApiKey>, Failure> {
    caller.may(Permission::KeysRead)?;
    let workspace = caller.workspace;
    Ok(app.database.read(move |read| select(read, workspace, after, limit)).await?)
}

/// One key.
pub async fn key_show(app: &Shared, caller: &Caller, id: KeyId) -> Result<ApiKey, Failure> {
    caller.may(Permission::KeysRead)?;
    let workspace = caller.workspace;
    let found = app.database.read(move |read| key_find(read, workspace, id)).await?;
    found.ok_or_else(|| no_such_key(id).into())
}

/// Makes a key. Nobody hands out more than they have.
pub async fn key_create(
    app: &Shared,
    caller: &Caller,
    new: NewKey,
    once: Once<KeyMade>,
) -> Result<Answer<KeyMade>, Failure> {
    caller.may(Permission::KeysWrite)?;
    let now = app.clock.now();
    if new.expires_at.is_some_and(|at| at <= now) {
        return Err(Failure::field(
            "expires_at",
            Refusal::new(Code::InvalidValue, "lies in the past; send a moment to come"),
        ));
    }
    let text = NewKeyText::generate();
    let key = ApiKey {
        id: KeyId::new(now, app.random.bits()),
        public_id: text.public_id,
        workspace: caller.workspace,
        name: new.name,
        secret_hash: text.secret_hash.to_vec(),
        last4: text.last4,
        role: new.role,
        created_at: now,
        created_by: caller.actor.clone(),
        expires_at: new.expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    let made = KeyMade { key, text: Arc::new(text.text) };
    let caller = caller.clone();
    app.database
        .try_write(move |tx| {
            once.run(tx, &caller, now, || {
                let permissions = role_permissions(tx, caller.workspace, made.key.role)?;
                caller.may_grant(&permissions)?;
                let live = live_keys(tx, caller.workspace, now)?;
                if live.len() >= KEYS_MAX {
                    return Err(Failure::Refused(Refusal::new(
                        Code::LimitReached,
                        format!(
                            "the workspace has {} keys, and at most {KEYS_MAX} are allowed; revoke one first",
                            live.len()
                        ),
                    )));
                }
                insert(tx, &made.key)?;
                caller
                    .change(now, "key.create", made.key.id, EventKind::KeyCreated)
                    .after(recorded(&made.key))
                    .record(tx)?;
                Ok(made.clone())
            })
        })
        .await
}

/// Ends a key, at once and for good. Ending it again changes nothing.
pub async fn key_revoke(app: &Shared, caller: &Caller, id: KeyId) -> Result<ApiKey, Failure> {
    caller.may(Permission::KeysWrite)?;
    let (now, caller) = (app.clock.now(), caller.clone());
    app.database
        .try_write(move |tx| {
            tx.workspace_lock(caller.workspace)?;
            let before = key_find(tx, caller.workspace, id)?.ok_or_else(|| no_such_key(id))?;
            if before.revoked_at.is_some() {
                return Ok(before);
            }
            let is_owner = |key: &ApiKey| key.role == KeyRole::BuiltIn(BuiltInRole::Owner);
            let others = live_keys(tx, caller.workspace, now)?.into_iter().filter(|key| key.id != id && is_owner(key));
            if is_owner(&before) && others.count() == 0 {
                return Err(Failure::Refused(Refusal::new(
                    Code::LastOwner,
                    "it is the last key with the role owner, and without one nobody could make keys; create another first",
                )));
            }
            revoke(tx, caller.workspace, id, now)?;
            let after = ApiKey { revoked_at: Some(now), ..before.clone() };
            caller
                .change(now, "key.revoke", id, EventKind::KeyRevoked)
                .before(recorded(&before))
                .after(recorded(&after))
                .record(tx)?;
            Ok(after)
        })
        .await
}

/// The key that somebody sent, if they hold its secret, with what it may do now. Whether it was revoked or has expired is not
/// looked at: the answer says so. Needs no permission: it is how permissions are found.
pub async fn key_prove(app: &Shared, sent: &SentKey<'_>) -> Result<Option<(ApiKey, Permissions)>, Failure> {
    let public_id = sent.public_id.to_owned();
    let found = app.database.read(move |read| key_find_by_public_id(read, &public_id)).await?;
    // The same work whether the id or the secret is wrong.
    let nobody = [0; 32];
    let hash = found.as_ref().map_or(nobody.as_slice(), |(key, _)| &key.secret_hash);
    let matches: bool = hash.ct_eq(&sent.secret_hash).into();
    Ok(found.filter(|_| matches))
}

/// Notes beside the request that a key was used, about once a minute.
pub fn key_note_use(app: &Shared, key: &ApiKey, now: Timestamp) {
    if key.last_used_at.is_some_and(|at| now.duration_since(at) < LAST_USE_EVERY) {
        return;
    }
    let (app, id) = (app.clone(), key.id);
    app.clone().tasks.spawn("note_key_use", async move {
        // A key that works is not refused because its use could not be noted.
        if let Err(error) = app.database.write(move |tx| key_used(tx, id, now)).await {
            warn!(key.id = %id, %error, "failed to note that the key {id} was used");
        }
    });
}

/// What a role allows, if the workspace has it.
pub(super) fn role_permissions(
    read: &Read<'_>,
    workspace: WorkspaceId,
    role: KeyRole,
) -> Result<Permissions, Failure> {
    match role {
        KeyRole::BuiltIn(role) => Ok(role.permissions()),
        KeyRole::Custom(id) => match database::keys::role_find(read, workspace, id)? {
            Some(role) => Ok(role.permissions),
            None => Err(Failure::field(
                "role",
                Refusal::new(
                    Code::InvalidValue,
                    format!("there is no role {id}; list them with GET /v1/roles"),
                ),
            )),
        },
    }
}

/// The keys that are neither revoked nor expired.
fn live_keys(read: &Read<'_>, workspace: WorkspaceId, now: Timestamp) -> Result<Vec<ApiKey>, DbError> {
    let (mut live, mut after) = (Vec::new(), None);
    loop {
        let page = select(read, workspace, after, PAGE)?;
        after = page.last().map(|key| key.id);
        let is_last = page.len() < PAGE as usize;
        live.extend(
            page.into_iter()
                .filter(|key| key.revoked_at.is_none() && key.expires_at.is_none_or(|at| at > now)),
        );
        if is_last {
            return Ok(live);
        }
    }
}

fn no_such_key(id: KeyId) -> Refusal {
    Refusal::new(Code::NotFound, format!("there is no API key {id} in this workspace"))
}

/// The key as the audit log keeps it: nothing that would help to guess it.
fn recorded(key: &ApiKey) -> serde_json::Value {
    json!({
        "id": key.id,
        "name": key.name,
        "role": role_text(key.role),
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
    })
}

/// A role as it is written: a word or an id.
pub fn role_text(role: KeyRole) -> String {
    match role {
        KeyRole::BuiltIn(role) => role.to_string(),
        KeyRole::Custom(id) => id.to_string(),
    }
}

/// Reads a role: the word of a built-in one, or the id of one of the workspace's own.
pub fn parse_role(text: &str) -> Result<KeyRole, Refusal> {
    if let Ok(role) = text.parse::<BuiltInRole>() {
        return Ok(KeyRole::BuiltIn(role));
    }
    text.parse().map(KeyRole::Custom).map_err(|_: Refusal| {
        Refusal::new(
            Code::InvalidValue,
            format!(
                "{} is no role; send owner, admin, builder, viewer, or the id of a role of yours (rol_…)",
                shown(text)
            ),
        )
    })
}
