//! Challenges and credentials of any kind: only the right password is ever accepted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sip::digest::{Asker, Authenticator, Credentials, Secret, Verdict, answer, is_stale};
use sip::{Instant, Keys, Message};

fuzz_target!(|bytes: &[u8]| {
    let message = |header: &str| {
        let mut text = b"REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n".to_vec();
        if header.starts_with("WWW") {
            text = b"SIP/2.0 401 Unauthorized\r\n".to_vec();
        }
        text.extend_from_slice(header.as_bytes());
        text.extend_from_slice(bytes);
        text.extend_from_slice(b"\r\n\r\n");
        Message::parse(&text)
    };
    let mut server = Authenticator::new(&Keys { shared: [1; 32], unique: [2; 32] });
    if let Ok(request) = message("Authorization: ") {
        for password in [None, Some("secret")] {
            let verdict =
                server.verify(Instant::ZERO, &request, Asker::UserAgent, "r", |_| password.map(Secret::new));
            assert!(!matches!(verdict, Verdict::Accepted { .. } | Verdict::Stale), "nobody knows our nonces");
        }
    }
    if let Ok(challenge) = message("WWW-Authenticate: ") {
        let _ = is_stale(&challenge);
        let me = Credentials { username: "a".into(), password: Secret::new("secret"), realm: Some("r".into()) };
        if let Some((_, value)) = answer(&challenge, &me, b"REGISTER", b"sip:h", 1) {
            assert!(value.contains("realm=\"r\""), "no other realm is answered");
            assert!(!value.contains("secret"));
        }
    }
});
