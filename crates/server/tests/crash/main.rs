//! The true program, killed: `switchboard serve` and `switchboard simulator` as processes, on both engines, with named crash points,
//! SIGKILL at random moments and a carrier that misbehaves. In the end the carrier's ledger is the judge.
//!
//! How many purchases the random kills go through comes from `SWITCHBOARD_TEST_CRASH_SQLITE` and `SWITCHBOARD_TEST_CRASH_POSTGRES`;
//! without them it is a short run. The look-up schedule and the carrier's delays are divided by 100.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

mod failpoints;
mod kills;
mod nodes;
mod program;
mod races;
mod restore;
mod world;
