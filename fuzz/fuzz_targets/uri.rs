//! URIs, and the numbers in them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sip::number::Number;
use sip::uri::{Uri, unescape};

fuzz_target!(|bytes: &[u8]| {
    let _ = unescape(bytes);
    let Ok(uri) = Uri::parse(bytes) else { return };
    assert!(uri.is_equivalent(&uri), "a URI is itself");
    if let Some(number) = Number::read(&uri) {
        assert!(number.digits.iter().any(u8::is_ascii_digit));
        assert!(!number.is_global || number.digits.iter().all(u8::is_ascii_digit));
    }
});
