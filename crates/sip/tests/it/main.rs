//! Stories about whole calls, on a simulated network in virtual time; and every odd message we could find or make.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod calls;
mod chaos;
mod endpoint;
mod exchange;
mod limits;
mod network;
mod properties;
mod routing;
mod story;
mod torture;
mod user_agent;
