//! The switchboard program.

pub mod clock;
