//! The switchboard program.

pub mod actions;
pub mod anchor;
pub mod api;
pub mod app;
pub mod background;
pub mod callbacks;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connections;
pub mod demo;
pub mod limits;
pub mod logs;
pub mod patch;
pub mod record;
pub mod routes;
pub mod serve;
pub mod simulator;
pub mod store;
pub mod twiml;
pub mod webhooks;
