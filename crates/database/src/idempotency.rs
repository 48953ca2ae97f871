//! Idempotency keys: what was answered to a request, kept in the transaction of what it did.
//!
//! A key belongs to one workspace and one route. [`idempotency_find`] comes first in the transaction; where
//! a twin runs at the same time, [`idempotency_keep`] waits for it to commit and then answers
//! [`DbError::Conflict`] (`idempotency_keys_pkey`): run the closure again and the first answer is found.

use domain::id::WorkspaceId;
use jiff::{SignedDuration, Timestamp};

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::value::Value;

/// How long an answer is kept.
pub const KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The longest answer that is kept, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// A keyed fingerprint of the request that it answers: method, address, condition and body.
    pub body_hash: Vec<u8>,
    /// Its HTTP status.
    pub status: u16,
    /// Its body, byte for byte, without any secret.
    pub body: String,
}

/// Which request it is.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The route, such as `POST /v1/numbers/buy`.
    pub route: &'a str,
    /// The key that the caller sent.
    pub key: &'a str,
}

const FIND: &str = "SELECT body_hash, status, body FROM idempotency_keys \
    WHERE workspace_id = $1 AND route = $2 AND idempotency_key = $3 AND expires_at > $4";
const FORGET: &str = "DELETE FROM idempotency_keys \
    WHERE workspace_id = $1 AND route = $2 AND idempotency_key = $3 AND expires_at <= $4";
const KEEP: &str = "INSERT INTO idempotency_keys \
    (workspace_id, route, idempotency_key, body_hash, status, body, created_at, expires_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const PRUNE: &str = "DELETE FROM idempotency_keys WHERE (workspace_id, route, idempotency_key) IN \
    (SELECT workspace_id, route, idempotency_key FROM idempotency_keys \
    WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("idempotency::FIND", Both::same(FIND)),
    ("idempotency::FORGET", Both::same(FORGET)),
    ("idempotency::KEEP", Both::same(KEEP)),
    ("idempotency::PRUNE", Both::same(PRUNE)),
];

/// What was answered to this request before.
pub fn idempotency_find(read: &Read<'_>, slot: Slot<'_>, now: Timestamp) -> Result<Option<Answer>, DbError> {
    read.query_opt(
        FIND,
        &[Value::text(&slot.workspace), slot.route.into(), slot.key.into(), now.into()],
        |row| {
            let status = u16::try_from(row.read::<i64>(1)?)
                .map_err(|_| DbError::Corrupt("an idempotency key holds no HTTP status".into()))?;
            Ok(Answer { body_hash: row.read(0)?, status, body: row.read(2)? })
        },
    )
}

/// Keeps an answer with what it is about. [`DbError::Conflict`] where a twin was first.
pub fn idempotency_keep(tx: &Tx<'_>, slot: Slot<'_>, answer: &Answer, now: Timestamp) -> Result<(), DbError> {
    if answer.body.len() > BODY_BYTES_MAX {
        let length = answer.body.len();
        return Err(DbError::Internal(format!("an answer of {length} bytes is too long to be kept")));
    }
    let workspace = slot.workspace.to_string();
    // One that has expired and is not swept up yet is in nobody's way.
    tx.execute(FORGET, &[(&workspace).into(), slot.route.into(), slot.key.into(), now.into()])?;
    let expires = now.checked_add(KEPT).unwrap_or(Timestamp::MAX);
    tx.execute(
        KEEP,
        &[
            (&workspace).into(),
            slot.route.into(),
            slot.key.into(),
            (&answer.body_hash).into(),
            i64::from(answer.status).into(),
            (&answer.body).into(),
            now.into(),
            expires.into(),
        ],
    )
    .map(drop)
}

/// Forgets answers that have expired, at most so many, and says how many they were.
pub fn idempotency_prune(tx: &Tx<'_>, now: Timestamp, most: u32) -> Result<u64, DbError> {
    tx.execute(PRUNE, &[now.into(), most.into()])
}
