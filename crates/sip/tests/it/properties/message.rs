//! Reading, every view and every edit. After an edit the index must say what a fresh reading of the bytes says.

use sip::validate::{Rules, check_request, is_usable_response};
use sip::{Message, Method, MethodSet, Name, ResponseBuilder, Status};

pub(crate) fn check(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else { return };
    let _ = (message.from(), message.to(), message.call_id(), message.cseq(), message.max_forwards());
    let _ = (message.content_length(), message.expires(), message.min_expires(), message.retry_after());
    let _ = (message.vias().count(), message.contacts().count(), message.routes().count());
    let _ = (message.content_type(), message.start_line(), message.reason(), message.body());
    let rules = Rules { methods: MethodSet::of(&Method::NAMED), proxy_extensions: &[] };
    let _ = check_request(&message, &rules);
    let _ = is_usable_response(&message);
    if message.is_request() {
        // A response repeats what stood in the request; whatever that was, it can be read.
        if let Ok(response) = ResponseBuilder::new(&message, Status::OK).to_tag(b"t").record_routes().build()
        {
            assert_eq!(response.status(), Some(Status::OK));
        }
    }
    if message.flaw().is_some() {
        return;
    }
    let mut edited = message.clone();
    for step in 0..13 {
        match step {
            0 => drop(edited.push_via(b"SIP/2.0/UDP edge;branch=z9hG4bKx")),
            1 => drop(edited.push_record_route(b"<sip:edge;lr>")),
            2 => drop(edited.push_route(b"<sip:next;lr>")),
            3 => _ = edited.decrement_max_forwards(),
            4 => drop(edited.set_uri(b"sip:somewhere@else")),
            5 => drop(edited.add("X-New", b"value")),
            6 => drop(edited.set(Name::Contact, b"<sip:us>")),
            7 => _ = edited.remove(Name::Supported),
            8 => _ = edited.remove_named("x-new"),
            9 => _ = edited.pop_route(),
            10 => edited.set_body(b"another body"),
            _ => _ = edited.pop_via(),
        }
        let fresh = Message::parse(edited.bytes()).expect("an edit leaves a message");
        assert!(edited.headers().eq(fresh.headers()), "step {step}");
        assert_eq!(edited.body(), fresh.body(), "step {step}");
        assert_eq!(edited.uri_text(), fresh.uri_text(), "step {step}");
    }
}
