//! The routes of this node: one table in memory that every call is decided by, replaced as a whole when something changes, and
//! kept on disk so that a restart without a database still routes.
//!
//! Calls read [`Routes::current`] and wait for nothing. Who keeps the table up to date is `background::build_routes`; what is
//! in it is told in `domain::route`.

mod disk;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use database::Keyring;
use database::secrets::Place;
use domain::id::{SecretId, WorkspaceId};
use domain::route::RouteTable;
use jiff::Timestamp;
use secrecy::SecretString;
use tracing::error;

pub use self::disk::{Disk, Kept};
use crate::clock::Clock;

/// A table that was not confirmed for so long may miss numbers that were bought meanwhile.
pub const STALE_AFTER: Duration = Duration::from_secs(10);
/// "Never confirmed."
const NEVER: u64 = u64::MAX;

/// The table in use, and what is known about its age.
#[derive(Debug)]
pub struct Routes {
    table: ArcSwap<RouteTable>,
    clock: Arc<dyn Clock>,
    /// When the database last said that this is how things stand, in monotonic milliseconds.
    confirmed_ms: AtomicU64,
}

impl Routes {
    /// No routes yet: nothing is answered until a table is loaded.
    pub fn new(clock: Arc<dyn Clock>) -> Routes {
        Routes {
            table: ArcSwap::from_pointee(RouteTable::empty()),
            clock,
            confirmed_ms: AtomicU64::new(NEVER),
        }
    }

    /// The table as it is now. It stays whole however long it is held.
    pub fn current(&self) -> Arc<RouteTable> {
        self.table.load_full()
    }

    /// Takes a table into use if it is newer than the one in use.
    pub fn publish(&self, table: RouteTable) -> bool {
        let table = Arc::new(table);
        let before = self.table.rcu(|current| {
            if table.version() > current.version() { Arc::clone(&table) } else { Arc::clone(current) }
        });
        table.version() > before.version()
    }

    /// Takes a table into use whatever is in use: what the database says counts, also after it was restored from a backup and
    /// knows less than before.
    pub fn replace(&self, table: RouteTable) {
        self.table.store(Arc::new(table));
    }

    /// The database has just said that the table is up to date.
    pub fn confirm(&self) {
        self.confirmed_ms.store(self.now_ms(), Ordering::Release);
    }

    /// Whether there is a table to answer by: one was confirmed, or read from disk.
    pub fn is_ready(&self) -> bool {
        self.confirmed_ms.load(Ordering::Acquire) != NEVER || self.table.load().version() > 0
    }

    /// Whether numbers may be missing that are ours by now. What is there is routed all the same.
    pub fn is_stale(&self) -> bool {
        self.unconfirmed_for().is_none_or(|age| age > STALE_AFTER)
    }

    /// How long ago the database confirmed the table; `None` if it never did.
    pub fn unconfirmed_for(&self) -> Option<Duration> {
        let confirmed = self.confirmed_ms.load(Ordering::Acquire);
        (confirmed != NEVER).then(|| Duration::from_millis(self.now_ms().saturating_sub(confirmed)))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(NEVER - 1)
    }

    /// A secret that the table holds the ciphertext of, opened for this one use. `purpose` is what it was sealed for.
    pub fn secret_open(
        table: &RouteTable,
        keyring: &Keyring,
        workspace: WorkspaceId,
        purpose: &str,
        id: SecretId,
    ) -> Option<SecretString> {
        let row = id.to_string();
        let place = Place { workspace, table: "secrets", column: purpose, row: &row };
        let Some(ciphertext) = table.secret(id) else {
            error!(secret.id = %id, "the secret {id} is not among the routes, so a call goes on without it");
            return None;
        };
        match keyring.open(place, ciphertext) {
            Ok(secret) => std::str::from_utf8(&secret).ok().map(SecretString::from),
            Err(why) => {
                error!(secret.id = %id, "the secret {id} cannot be opened, so a call goes on without it: {why}");
                None
            }
        }
    }

    /// The wall clock, for the age of files.
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Takes the newest good snapshot into use, if there is one. For a start without a database, or before it answers.
    pub fn load_from(&self, disk: &Disk) -> Option<Kept> {
        let (table, kept) = disk.load(self.now())?;
        self.publish(table).then_some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::TestClock;

    #[test]
    fn a_node_never_goes_back_by_itself_and_knows_when_it_is_out_of_date() {
        let clock = Arc::new(TestClock::at(Timestamp::UNIX_EPOCH));
        let routes = Routes::new(clock.clone());
        assert!(!routes.is_ready() && routes.is_stale());
        assert!(routes.publish(RouteTable::build([], 7)));
        assert!(!routes.publish(RouteTable::build([], 7)));
        assert!(!routes.publish(RouteTable::build([], 3)));
        assert_eq!(routes.current().version(), 7);
        assert!(routes.is_ready() && routes.is_stale(), "nobody has confirmed it");
        routes.confirm();
        assert!(!routes.is_stale());
        clock.advance(STALE_AFTER + Duration::from_millis(1));
        assert!(routes.is_stale());
        routes.replace(RouteTable::build([], 3));
        assert_eq!(routes.current().version(), 3);
    }
}
