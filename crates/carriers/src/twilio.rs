//! Twilio: its REST API of version 2010-04-01, as far as the store needs it.
//!
//! Hand-written, because a carrier's SDK would be one more party that holds the account's keys.

mod client;
pub mod signature;
mod wire;

pub use client::{Credentials, Settings, TwilioClient};
