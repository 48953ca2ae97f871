//! Datagrams, decisions and times in any order. What must hold is written beside the tests that share it.
#![no_main]

#[path = "../../crates/sip/tests/it/properties/endpoint.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| property::check(bytes));
