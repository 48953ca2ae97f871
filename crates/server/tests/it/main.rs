//! Tests of the program through its own doors, one file per noun.

mod cli;
mod simulator;
mod tidy;
