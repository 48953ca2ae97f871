//! The switchboard program.

pub mod app;
pub mod clock;
pub mod config;
pub mod logs;
