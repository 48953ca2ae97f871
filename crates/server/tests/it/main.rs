//! Tests of the program through its own doors, one file per noun.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and so do the functions that it uses")]

mod calls;
mod cli;
mod contract;
mod errors;
mod harness;
mod keys;
mod line;
mod numbers;
mod openapi;
mod simulator;
mod store;
mod tenants;
mod tidy;
mod workspace;
