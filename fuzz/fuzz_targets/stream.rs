//! Any bytes, split anywhere. What must hold is written beside the tests that share it.
#![no_main]

#[path = "../../crates/sip/tests/it/properties/stream.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| property::check(bytes));
