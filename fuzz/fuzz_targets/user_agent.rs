//! A user agent among peers who answer and ask as they like. What must hold is written beside the tests that share it.
#![no_main]

#[path = "../../crates/sip/tests/it/properties/user_agent.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| property::check(bytes));
