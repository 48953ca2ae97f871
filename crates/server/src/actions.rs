//! What the product can do, one file for each noun. **Permission is checked here and nowhere else**: every action takes the
//! [`Caller`] first and begins with `caller.may(…)?`.
//!
//! An action reads or changes in one transaction, in which it also writes the audit row and the event ([`Caller::change`] and
//! `tx.record`), and the answer kept for an `Idempotency-Key` ([`Once`]). Nothing is sent to the outside from inside a
//! transaction; an action leaves rows and a nudge, and a background task sends. HTTP and JSON belong to `api`.

pub mod agents;
pub mod audit;
mod caller;
pub mod callouts;
pub mod calls;
mod chains;
pub mod endpoints;
pub mod events;
mod failure;
pub mod findings;
pub mod health;
mod if_match;
pub mod key_text;
pub mod keys;
pub mod needs;
pub mod numbers;
mod once;
pub mod purchases;
pub mod roles;
pub mod routes;
pub mod secrets;
pub mod store;
pub mod variants;
pub mod versions;
pub mod workspace;

pub use self::caller::Caller;
pub use self::failure::{DATABASE_RETRY_AFTER_S, Failure, FieldRefusal, Told};
pub use self::if_match::{IfMatch, etag_text};
pub use self::once::{Answer, Once};
