//! Challenges and credentials of any kind: only the right password is ever accepted, also for a nonce of ours, and
//! an answer of ours can always be written into a header.

use sip::digest::{Asker, Authenticator, Credentials, Secret, Verdict, answer, is_stale};
use sip::{Instant, Keys, Message};

const REALM: &str = "r";

/// An `@` stands for a nonce of ours, so that what lies behind the nonce's check is met too.
pub(crate) fn check(bytes: &[u8]) {
    let mut server = Authenticator::new(&Keys { shared: [1; 32], unique: [2; 32] });
    let nonce = nonce_of(&mut server);
    let text: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| if *byte == b'@' { nonce.as_bytes() } else { std::slice::from_ref(byte) })
        .copied()
        .collect();
    let register = "REGISTER sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nAuthorization: ";
    if let Ok(request) = with_header(register, &text) {
        for password in [None, Some("secret")] {
            let verdict = server
                .verify(Instant::ZERO, &request, Asker::UserAgent, REALM, |_| password.map(Secret::new));
            assert!(
                !matches!(verdict, Verdict::Accepted { .. } | Verdict::Stale),
                "nobody knows the password"
            );
        }
        assert_eq!(server.remembered(), 0, "what was refused leaves nothing behind");
    }
    if let Ok(challenge) = with_header("SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: ", &text) {
        let _ = is_stale(&challenge);
        let me =
            Credentials { username: "a".into(), password: Secret::new("secret"), realm: Some(REALM.into()) };
        if let Some((_, value)) = answer(&challenge, &me, b"REGISTER", b"sip:h", 1, 7) {
            assert!(value.contains("realm=\"r\""), "no other realm is answered");
            assert!(!value.contains("secret"));
            assert!(!value.contains(['\r', '\n', '\0']), "an answer fits into one line: {value:?}");
        }
    }
}

fn nonce_of(server: &mut Authenticator) -> String {
    let headers = server.challenge(Instant::ZERO, Asker::UserAgent, REALM, false);
    let nonce = headers[0].1.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
    nonce.expect("a challenge has a nonce").to_owned()
}

fn with_header(start: &str, value: &[u8]) -> Result<Message, sip::ParseError> {
    Message::parse(&[start.as_bytes(), value, b"\r\n\r\n"].concat())
}
