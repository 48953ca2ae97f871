//! Tests of the program through its own doors, one file per noun.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and so do the functions that it uses")]

mod agents;
mod assignments;
mod audit;
mod callbacks;
mod callouts;
mod calls;
mod calls_read;
mod cli;
mod connections;
mod contract;
mod demo;
mod errors;
mod events;
mod explain;
mod findings;
mod harness;
mod keys;
mod line;
mod nodes;
mod numbers;
mod openapi;
mod outage;
mod purchases;
mod records;
mod requests;
mod secrets;
mod simulator;
mod store;
mod tenants;
mod tidy;
mod versions;
mod webhooks;
mod workspace;
