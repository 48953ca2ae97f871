//! Facts about the database itself: whether purchases are locked, and when the carrier's list was last
//! compared with ours. (The encryption key's fingerprint is kept by `secrets`.)

use jiff::Timestamp;

use crate::engine::{Both, Database, Read, Tx};
use crate::error::DbError;

const READ: &str = "SELECT value FROM meta WHERE name = $1";
const WRITE: &str =
    "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
const CLEAR: &str = "DELETE FROM meta WHERE name = $1";
/// A write that changes nothing anyone reads, to prove that writing works.
const TOUCH: &str = "INSERT INTO meta (name, value) VALUES ('touched_at', $1) \
    ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// The engine's own clock; each has its own word for it. SQLite's is this machine's.
const CLOCK: Both = Both {
    sqlite: "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
    postgres: "SELECT clock_timestamp()",
};

/// The clock of a database server, which is another's; nothing where the database is a file of ours.
const SERVER_CLOCK: Both = Both { sqlite: "SELECT NULL", postgres: "SELECT clock_timestamp()" };

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("meta::READ", Both::same(READ)),
    ("meta::WRITE", Both::same(WRITE)),
    ("meta::CLEAR", Both::same(CLEAR)),
    ("meta::TOUCH", Both::same(TOUCH)),
    ("meta::CLOCK", CLOCK),
    ("meta::SERVER_CLOCK", SERVER_CLOCK),
];

const PURCHASES_LOCKED: &str = "purchases_locked";
const RECONCILED_AT: &str = "reconciled_at";

fn value(read: &Read<'_>, name: &str) -> Result<Option<String>, DbError> {
    read.query_opt(READ, &[name.into()], |row| row.read(0))
}

fn set(tx: &Tx<'_>, name: &str, value: &str) -> Result<(), DbError> {
    tx.execute(WRITE, &[name.into(), value.into()]).map(drop)
}

/// Why nothing may be bought now; none where buying is allowed. A restored database is locked until the
/// carrier's list has been compared with ours.
pub fn purchases_locked(read: &Read<'_>) -> Result<Option<String>, DbError> {
    value(read, PURCHASES_LOCKED)
}

/// Stops all buying until [`reconciled`].
pub fn purchases_lock(tx: &Tx<'_>, why: &str) -> Result<(), DbError> {
    set(tx, PURCHASES_LOCKED, why)
}

/// Notes that a full comparison with the carrier has ended: buying is allowed again.
pub fn reconciled(tx: &Tx<'_>, now: Timestamp) -> Result<(), DbError> {
    tx.execute(CLEAR, &[PURCHASES_LOCKED.into()])?;
    set(tx, RECONCILED_AT, &now.to_string())
}

/// When a full comparison with the carrier last ended.
pub fn reconciled_at(read: &Read<'_>) -> Result<Option<Timestamp>, DbError> {
    value(read, RECONCILED_AT)?
        .map(|text| text.parse().map_err(|error| DbError::Corrupt(format!("meta.{RECONCILED_AT}: {error}"))))
        .transpose()
}

/// What the database's own clock shows, to compare with ours.
pub fn clock(read: &Read<'_>) -> Result<Timestamp, DbError> {
    read.query_one(read.pick(CLOCK), &[], |row| row.read(0))
}

/// What the database server's clock shows, by which nodes can agree. None for SQLite, which has only this machine's.
pub fn server_clock(read: &Read<'_>) -> Result<Option<Timestamp>, DbError> {
    read.query_one(read.pick(SERVER_CLOCK), &[], |row| row.read(0))
}

impl Database {
    /// A real write and a real read, for readiness.
    pub async fn check_ready(&self, now: Timestamp) -> Result<(), DbError> {
        self.write(move |tx| tx.execute(TOUCH, &[now.to_string().into()]).map(drop)).await?;
        self.read(|read| value(read, "touched_at").map(drop)).await
    }
}
