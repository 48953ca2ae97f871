//! The switchboard program.

pub mod app;
pub mod clock;
pub mod config;
pub mod demo;
pub mod logs;
pub mod simulator;
