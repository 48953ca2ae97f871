//! Routes: what is done with one call, with every reason.
//!
//! [`row`] is what the database gives; [`RouteTable`] is made of it, immutable and in memory; [`decide()`] looks one call up in
//! a table and answers, without allocating; [`Explained`] is the same answer in words. [`snapshot`] turns a table into bytes
//! and back, for a restart without a database.

mod build;
mod decide;
mod explain;
mod reason;
pub mod row;
mod shard;
mod slab;
pub mod snapshot;
mod table;
#[cfg(test)]
mod tests;

pub use build::Builder;
pub use decide::{
    Answer, Answering, Cause, Decision, IncomingCall, Message, TARGETS_MAX, Targets, Tried, decide,
};
pub use explain::{Action, Ended, Explained, ExplainedTarget, Step};
pub use reason::{Origin, REASONS_MAX, Reason, Reasons, Rule};
pub use table::{Found, RouteTable};
