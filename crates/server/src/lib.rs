//! The switchboard program.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod logs;
pub mod simulator;
pub mod store;
