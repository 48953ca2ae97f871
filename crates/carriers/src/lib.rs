//! Carriers: what each of them actually sends and takes.
//!
//! [`Carrier`] is what the rest of the program knows: search, buy, find, configure, list, release. Each carrier has a folder with
//! a client (how it is asked), its wire format (how it answers) and its signature (how it proves that a callback is its own).
//!
//! Nothing here decides anything, keeps anything or retries anything that changes something: a purchase's course is told in
//! `domain::purchase`, and carried on by the server's background task.

pub mod carrier;
pub mod http;
pub mod twilio;

pub use carrier::{
    Account, BuyOutcome, Candidate, Carrier, CarrierError, Configuration, ListPage, Order, OwnedNumber,
    ReleaseOutcome, SettingNames, Tag, VoiceUrls,
};
