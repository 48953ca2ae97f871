//! Leases: what only one node may do at a time.
//!
//! A node that was paused and wakes believes that it still holds its lease. Whatever it then writes must
//! carry the lease's `fence`, which has grown with the next holder; see `purchases` for how that is used.

use jiff::{SignedDuration, Timestamp};

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;

/// A lease that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What may be done.
    pub name: String,
    /// By whom.
    pub holder: String,
    /// Until when, unless taken again.
    pub until: Timestamp,
    /// Grows with each holder.
    pub fence: i64,
}

const TAKE: &str = "INSERT INTO leases (name, holder, until, fence) VALUES ($1, $2, $3, 1) \
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until, \
    fence = CASE WHEN leases.holder = excluded.holder AND leases.until > $4 THEN leases.fence \
        ELSE leases.fence + 1 END \
    WHERE leases.until <= $4 OR leases.holder = excluded.holder \
    RETURNING fence";
const GIVE_BACK: &str = "UPDATE leases SET until = $3 WHERE name = $1 AND fence = $2";
const HOLDS: &str = "SELECT count(*) FROM leases WHERE name = $1 AND fence = $2 AND until > $3";
const LIST: &str = "SELECT name, holder, until, fence FROM leases ORDER BY name";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("leases::TAKE", Both::same(TAKE)),
    ("leases::GIVE_BACK", Both::same(GIVE_BACK)),
    ("leases::HOLDS", Both::same(HOLDS)),
    ("leases::LIST", Both::same(LIST)),
];

/// Takes a lease that is free, has run out or is one's own already. None where another holds it.
///
/// A holder that takes its own again before the end keeps its fence; after the end it gets a new one.
pub fn lease_take(
    tx: &Tx<'_>,
    name: &str,
    holder: &str,
    now: Timestamp,
    lasts: SignedDuration,
) -> Result<Option<Lease>, DbError> {
    let until = now.checked_add(lasts).unwrap_or(Timestamp::MAX);
    let fence =
        tx.query_opt(TAKE, &[name.into(), holder.into(), until.into(), now.into()], |row| row.read(0))?;
    Ok(fence.map(|fence| Lease { name: name.to_owned(), holder: holder.to_owned(), until, fence }))
}

/// Ends a lease early, if it is still the same.
pub fn lease_give_back(tx: &Tx<'_>, lease: &Lease, now: Timestamp) -> Result<bool, DbError> {
    Ok(tx.execute(GIVE_BACK, &[(&lease.name).into(), lease.fence.into(), now.into()])? > 0)
}

/// Whether a lease is still held; to be asked in the transaction of what it protects.
pub fn lease_holds(read: &Read<'_>, lease: &Lease, now: Timestamp) -> Result<bool, DbError> {
    let held: i64 =
        read.query_one(HOLDS, &[(&lease.name).into(), lease.fence.into(), now.into()], |row| row.read(0))?;
    Ok(held > 0)
}

/// All leases, for operators. There are as many as kinds of work.
pub fn lease_list(read: &Read<'_>) -> Result<Vec<Lease>, DbError> {
    read.query(LIST, &[], |row| {
        Ok(Lease { name: row.read(0)?, holder: row.read(1)?, until: row.read(2)?, fence: row.read(3)? })
    })
}
