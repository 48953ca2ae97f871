//! One header's value, read as everything that it could be.

use sip::header::address::Address;
use sip::header::via::Via;
use sip::{Message, Name};

pub(crate) fn check(bytes: &[u8]) {
    if let Some(via) = Via::parse(bytes) {
        let _ = (via.branch(), via.received(), via.rport(), via.has_cookie());
    }
    if let Some(address) = Address::parse(bytes) {
        let _ = (address.uri().is_ok(), address.tag(), address.expires());
    }
    for name in [Name::Via, Name::Route, Name::Contact, Name::Require, Name::CSeq, Name::Expires] {
        let mut text = b"OPTIONS sip:a@b SIP/2.0\r\n".to_vec();
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(bytes);
        text.extend_from_slice(b"\r\n\r\n");
        let Ok(mut message) = Message::parse(&text) else { continue };
        let elements = message.list(name).count();
        let _ = (message.vias().count(), message.addresses(name).count(), message.option_tags(name).count());
        let _ = (message.cseq(), message.expires());
        if message.flaw().is_none() && name == Name::Via {
            let mut popped = 0;
            while message.pop_via() {
                popped += 1;
                assert!(popped <= elements + 260, "popping ends");
            }
            assert_eq!(message.list(name).count(), 0);
        }
    }
}
