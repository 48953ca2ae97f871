//! URIs, and the numbers in them.

use sip::number::Number;
use sip::uri::{Uri, unescape};

pub(crate) fn check(bytes: &[u8]) {
    assert!(unescape(bytes).len() <= bytes.len());
    let Ok(uri) = Uri::parse(bytes) else { return };
    assert!(uri.is_equivalent(&uri), "a URI is itself");
    if let Some(number) = Number::read(&uri) {
        assert!(number.digits.iter().any(u8::is_ascii_digit));
        assert!(!number.is_global || number.digits.iter().all(u8::is_ascii_digit));
    }
}
