//! The switchboard program.
