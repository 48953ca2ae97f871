//! We call users' servers: the one way out to addresses that users name, signed requests, and asking a team's server what to do
//! with a call. Carriers are not called from here; they have addresses that the operator sets.

pub mod ask;
pub mod guard;
pub mod sign;
