//! All SQL: SQLite and PostgreSQL behind one facade.
//!
//! *Dramatis personae*: [`Database`] runs closures on database threads, [`Tx`] and [`Read`] are what such a
//! closure works with, and each noun has a file of functions that take one of them. A function that
//! changes something leaves recording it ([`Tx::record`]) to its caller, in the same transaction.
//!
//! ```no_run
//! # async fn example(database: database::Database, id: domain::id::WorkspaceId) -> Result<(), database::DbError> {
//! let locked = database.read(|read| database::meta::purchases_locked(read)).await?;
//! database.write(move |tx| tx.workspace_lock(id)).await?;
//! # Ok(()) }
//! ```
//!
//! What SQL means for callers who see it fail stands in [`DbError`]. Permissions, JSON for the API and
//! everything that leaves this process belong to the server.

mod engine;
mod error;
mod migrations;
mod value;

pub mod agents;
pub mod audit;
pub mod backup;
pub mod calls;
pub mod deployments;
pub mod events;
pub mod findings;
pub mod idempotency;
pub mod keys;
pub mod leases;
pub mod meta;
pub mod numbers;
pub mod purchases;
pub mod routes;
pub mod secrets;
pub mod versions;
pub mod workspaces;

pub use audit::Change;
pub use engine::{
    Address, Both, DEADLINE, DEADLINE_BULK, Database, Engine, POSTGRES_CONNECTIONS, QUEUE_LIMIT, Read,
    Settings, Tx,
};
pub use error::{CONSTRAINTS, DbError};
pub use migrations::SCHEMA_VERSION;
pub use routes::RouteChange;
pub use secrets::Keyring;
pub use value::{Cell, FromCell, Row, Value};

/// Every query that this crate holds as text, for the test that prepares each on both engines.
pub fn queries() -> impl Iterator<Item = (&'static str, Both)> {
    [
        agents::QUERIES,
        audit::QUERIES,
        backup::QUERIES,
        calls::QUERIES,
        deployments::QUERIES,
        events::QUERIES,
        findings::QUERIES,
        idempotency::QUERIES,
        keys::QUERIES,
        leases::QUERIES,
        meta::QUERIES,
        numbers::QUERIES,
        purchases::QUERIES,
        routes::QUERIES,
        secrets::QUERIES,
        versions::QUERIES,
        workspaces::QUERIES,
    ]
    .into_iter()
    .flatten()
    .copied()
}
