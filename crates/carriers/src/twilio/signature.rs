//! `X-Twilio-Signature`: how Twilio proves that a request is its own. HMAC over the URL and the sorted form parameters.
//!
//! The URL is the one that Twilio was told, never one put together from headers. There is no timestamp in a signature: an old
//! request verifies for ever, so what it does must be harmless to do again.
//! See <https://www.twilio.com/docs/usage/security#validating-requests>.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};
use subtle::ConstantTimeEq as _;
use url::Url;

/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "x-twilio-signature";
/// Present where another algorithm, and the secret of a shared key, take the place of HMAC-SHA1 and the auth token.
pub const SETTINGS_HEADER: &str = "x-twilio-webhooks-signature-settings";
/// The query parameter that stands for a body that is no form.
const BODY_DIGEST: &str = "bodySHA256";

/// How the signature was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// With the account's auth token: the usual one.
    HmacSha1,
    /// With a shared key's secret.
    HmacSha256,
}

impl Algorithm {
    /// Reads the settings header; `None` names an algorithm that we do not know, and then the request is refused.
    pub fn read(settings: Option<&str>) -> Option<Algorithm> {
        let named = settings
            .into_iter()
            .flat_map(|settings| settings.split(','))
            .filter_map(|setting| setting.trim().split_once('='))
            .find_map(|(name, value)| (name.trim() == "algorithm").then(|| value.trim()));
        match named {
            None | Some("HMAC_SHA1") => Some(Algorithm::HmacSha1),
            Some("HMAC_SHA256") => Some(Algorithm::HmacSha256),
            Some(_) => None,
        }
    }

    fn key(self, secret: &str) -> hmac::Key {
        let algorithm = match self {
            Algorithm::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::HmacSha256 => hmac::HMAC_SHA256,
        };
        hmac::Key::new(algorithm, secret.as_bytes())
    }
}

/// Verifies the requests of one account. Several secrets may be good at once, while one takes over from another.
pub struct Verifier {
    keys: Vec<(Algorithm, hmac::Key)>,
}

impl Verifier {
    /// A verifier with the account's auth tokens.
    pub fn new<'a>(auth_tokens: impl IntoIterator<Item = &'a str>) -> Verifier {
        let key = |token| (Algorithm::HmacSha1, Algorithm::HmacSha1.key(token));
        Verifier { keys: auth_tokens.into_iter().map(key).collect() }
    }

    /// Whether the signature is that of this URL with these form parameters, under one of the account's secrets. Twilio signs
    /// with or without the port, so both are tried; nothing else is.
    pub fn verify<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        algorithm: Algorithm,
        url: &str,
        parameters: &[(N, V)],
        signature: &str,
    ) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        let tail = tail(parameters);
        let (bare, explicit) = with_and_without_port(url);
        let mut good = false;
        for (_, key) in self.keys.iter().filter(|(known, _)| *known == algorithm) {
            for url in [&bare, &explicit] {
                good |= bool::from(signed(key, url, &tail).as_ref().ct_eq(&signature));
            }
        }
        good
    }
}

/// The signature of a request, as the header holds it.
pub fn sign<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    algorithm: Algorithm,
    secret: &str,
    url: &str,
    parameters: &[(N, V)],
) -> String {
    STANDARD.encode(signed(&algorithm.key(secret), url, &tail(parameters)))
}

/// Whether a body that is no form is the one that the signed URL stands for.
pub fn body_matches(url: &str, body: &[u8]) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let Some((_, named)) = url.query_pairs().find(|(name, _)| name == BODY_DIGEST) else { return false };
    let hex = digest::digest(&digest::SHA256, body).as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    bool::from(hex.as_bytes().ct_eq(named.to_ascii_lowercase().as_bytes()))
}

fn signed(key: &hmac::Key, url: &str, tail: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(url.as_bytes());
    context.update(tail);
    context.sign()
}

/// Names and values without anything between them, sorted by name and then value, the same pair once.
fn tail<N: AsRef<[u8]>, V: AsRef<[u8]>>(parameters: &[(N, V)]) -> Vec<u8> {
    let mut pairs: Vec<(&[u8], &[u8])> =
        parameters.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut tail = Vec::with_capacity(pairs.iter().map(|(name, value)| name.len() + value.len()).sum());
    for (name, value) in pairs {
        tail.extend_from_slice(name);
        tail.extend_from_slice(value);
    }
    tail
}

/// The URL without its port, and with it: the scheme's own where none is written.
fn with_and_without_port(url: &str) -> (String, String) {
    let url = url.split_once('#').map_or(url, |(before, _)| before);
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), url.to_owned()) };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // An IPv6 host has colons of its own, inside brackets.
    let port_at = authority.rfind(':').filter(|&at| !authority[at..].contains(']'));
    let own_port = if matches!(scheme, "https" | "wss") { "443" } else { "80" };
    match port_at {
        Some(at) => (format!("{scheme}://{}{path}", &authority[..at]), url.to_owned()),
        None => (url.to_owned(), format!("{scheme}://{authority}:{own_port}{path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &[(&str, &str)] = &[
        ("CallSid", "CA1234567890ABCDE"),
        ("Caller", "+14158675309"),
        ("Digits", "1234"),
        ("From", "+14158675309"),
        ("To", "+18005551212"),
    ];
    const NONE: &[(&str, &str)] = &[];
    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";

    /// The vectors of the official Python SDK.
    #[test]
    fn signatures_are_those_of_the_official_sdk() {
        let odd: &[(&str, &str)] = &[
            ("Body", "héllo & 100% «ok» 👍"),
            ("Empty", ""),
            ("B", "b"),
            ("B", "a"),
            ("B", "a"),
            ("a", "lower"),
            ("A", "upper"),
        ];
        let json = "https://pbx.example.com/h?bodySHA256=5041bf1f713df204784353e82f6a4a535931cb64f1f4b4a5aeaffcb720918b22";
        for (url, parameters, signature) in [
            (URL, CALL, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
            ("https://mycompany.com:443/myapp.php?foo=1&bar=2", CALL, "kvajT1Ptam85bY51eRf/AJRuM3w="),
            ("https://pbx.example.com/h", odd, "89odW3rJa1hcpskzjv4RQnLsMnc="),
            (
                "https://pbx.example.com/h?From=%2B14155550100&To=%2B14155550101",
                NONE,
                "L7lPXE+YPS1ra7fG4a2Ekbs6/Rw=",
            ),
            (json, NONE, "JLbib/QoDkT/qE6ROA+U9TDGGj0="),
            ("wss://pbx.example.com/media", NONE, "udi9FUtuRhn9KoiQkr6j2ARHPKo="),
        ] {
            assert_eq!(sign(Algorithm::HmacSha1, "12345", url, parameters), signature, "{url}");
            assert!(
                Verifier::new(["12345"]).verify(Algorithm::HmacSha1, url, parameters, signature),
                "{url}"
            );
        }
        assert_eq!(
            sign(Algorithm::HmacSha256, "12345", URL, CALL),
            "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s="
        );
        assert!(body_matches(json, br#"{"x":1}"#));
        assert!(!body_matches(json, br#"{"x": 1}"#));
        assert!(!body_matches("https://pbx.example.com/h", b""));
    }

    #[test]
    fn the_port_may_be_signed_or_not_and_nothing_else_may_differ() {
        let verifier = Verifier::new(["12345"]);
        let with = "https://mycompany.com:443/myapp.php?foo=1&bar=2";
        for (told, signed) in
            [(URL, with), (with, URL), (URL, URL), ("https://a.example:8443/x", "https://a.example/x")]
        {
            let signature = sign(Algorithm::HmacSha1, "12345", signed, CALL);
            assert!(verifier.verify(Algorithm::HmacSha1, told, CALL, &signature), "{told} {signed}");
        }
        for signed in [
            "http://mycompany.com/myapp.php?foo=1&bar=2",
            "https://mycompany.com/myapp.php?bar=2&foo=1",
            "https://mycompany.com/myapp.php/?foo=1&bar=2",
            "https://mycompany.com:8443/myapp.php?foo=1&bar=2",
            "https://mycompany.com/myapp.php",
            "https://MYCOMPANY.com/myapp.php?foo=1&bar=2",
            "https://user@mycompany.com/myapp.php?foo=1&bar=2",
        ] {
            let signature = sign(Algorithm::HmacSha1, "12345", signed, CALL);
            assert!(!verifier.verify(Algorithm::HmacSha1, URL, CALL, &signature), "{signed}");
        }
        assert_eq!(
            with_and_without_port("http://[2001:db8::1]/x#rc=2"),
            ("http://[2001:db8::1]/x".to_owned(), "http://[2001:db8::1]:80/x".to_owned())
        );
    }

    #[test]
    fn any_change_of_a_signed_request_is_noticed() {
        let verifier = Verifier::new(["12345"]);
        let signature = sign(Algorithm::HmacSha1, "12345", URL, CALL);
        let bytes = STANDARD.decode(&signature).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifier.verify(Algorithm::HmacSha1, URL, CALL, &STANDARD.encode(other)));
        }
        for place in 0..CALL.len() {
            let mut fewer = CALL.to_vec();
            let (name, value) = fewer.remove(place);
            assert!(!verifier.verify(Algorithm::HmacSha1, URL, &fewer, &signature));
            for changed in [(name, "x"), ("x", value), ("", value), (name, "")] {
                let mut other = fewer.clone();
                other.push(changed);
                assert!(!verifier.verify(Algorithm::HmacSha1, URL, &other, &signature));
            }
        }
        for wrong in [
            "",
            "=",
            "RSOYDt4T1cUTdK1PDd93/VVr8B8",
            "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s=",
            "RSOYDt4T1cUTdK1PDd93/VVr8B8= ",
        ] {
            assert!(!verifier.verify(Algorithm::HmacSha1, URL, CALL, wrong), "{wrong:?}");
        }
    }

    #[test]
    fn old_and_new_tokens_are_good_while_one_takes_over() {
        let verifier = Verifier::new(["new", "old"]);
        for (token, good) in [("new", true), ("old", true), ("older", false), ("", false)] {
            let signature = sign(Algorithm::HmacSha1, token, URL, CALL);
            assert_eq!(verifier.verify(Algorithm::HmacSha1, URL, CALL, &signature), good, "{token}");
        }
        assert!(!Verifier::new([]).verify(
            Algorithm::HmacSha1,
            URL,
            CALL,
            &sign(Algorithm::HmacSha1, "", URL, CALL)
        ));
        let sha256 = sign(Algorithm::HmacSha256, "new", URL, CALL);
        assert!(!verifier.verify(Algorithm::HmacSha256, URL, CALL, &sha256), "there is no shared key");
    }

    #[test]
    fn algorithms_are_read_from_the_settings_header() {
        assert_eq!(Algorithm::read(None), Some(Algorithm::HmacSha1));
        assert_eq!(Algorithm::read(Some("key=SK1,algorithm=HMAC_SHA256")), Some(Algorithm::HmacSha256));
        assert_eq!(Algorithm::read(Some("algorithm=HMAC_SHA1")), Some(Algorithm::HmacSha1));
        assert_eq!(Algorithm::read(Some("algorithm=NONE")), None);
    }
}
