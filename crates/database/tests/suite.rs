//! Every test of the database crate, each on SQLite and on PostgreSQL.
//!
//! A test is an async function that takes an [`Arena`]: a database of its own, gone when it ends. The
//! macro makes two tests of it, `sqlite` and `postgres`. PostgreSQL's address comes from
//! `SWITCHBOARD_TEST_POSTGRES_URL`; without it the `postgres` tests fail and say what to run.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

/// Makes two tests of each function: `name::sqlite` and `name::postgres`.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => { $(
        mod $name {
            #[test]
            fn sqlite() {
                $crate::arena::run(database::Engine::Sqlite, super::$name);
            }

            #[test]
            fn postgres() {
                $crate::arena::run(database::Engine::Postgres, super::$name);
            }
        }
    )* };
}
use on_both_engines;

#[path = "suite/accounts.rs"]
mod accounts;
#[path = "suite/agents.rs"]
mod agents;
#[path = "suite/arena.rs"]
mod arena;
#[path = "suite/backup.rs"]
mod backup;
#[path = "suite/calls.rs"]
mod calls;
#[path = "suite/durability.rs"]
mod durability;
#[path = "suite/engine.rs"]
mod engine;
#[path = "suite/findings.rs"]
mod findings;
#[path = "suite/numbers.rs"]
mod numbers;
#[path = "suite/outages.rs"]
mod outages;
#[path = "suite/purchases.rs"]
mod purchases;
#[path = "suite/records.rs"]
mod records;
#[path = "suite/routes.rs"]
mod routes;
#[path = "suite/schema.rs"]
mod schema;
#[path = "suite/secrets.rs"]
mod secrets;
#[path = "suite/stock.rs"]
mod stock;
#[path = "suite/tls.rs"]
mod tls;
