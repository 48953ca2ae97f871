//! `X-Twilio-Signature`: how Twilio proves that a request is its own. HMAC over the URL and the sorted form parameters.
//!
//! The URL is the one that Twilio was told, never one put together from headers. There is no timestamp in a signature: an old
//! request verifies for ever, so what it does must be harmless to do again.
//! See <https://www.twilio.com/docs/usage/security#validating-requests>.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ring::digest;
use sha1::Sha1;
use sha2::Sha256;
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
}

/// A secret that has been taken in by its algorithm. With `sha1` and not with `ring`, whose SHA-1 is for rare use: it is several
/// times slower, and every callback of every call is hashed once.
#[derive(Clone)]
enum Key {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
}

impl Key {
    fn new(algorithm: Algorithm, secret: &str) -> Key {
        let secret = secret.as_bytes();
        match algorithm {
            Algorithm::HmacSha1 => Key::Sha1(Hmac::new_from_slice(secret).expect("keys have any length")),
            Algorithm::HmacSha256 => Key::Sha256(Hmac::new_from_slice(secret).expect("keys have any length")),
        }
    }

    const fn algorithm(&self) -> Algorithm {
        match self {
            Key::Sha1(_) => Algorithm::HmacSha1,
            Key::Sha256(_) => Algorithm::HmacSha256,
        }
    }

    fn sign(&self, url: &str, tail: &[u8]) -> Vec<u8> {
        match self {
            Key::Sha1(key) => {
                key.clone().chain_update(url).chain_update(tail).finalize().into_bytes().to_vec()
            }
            Key::Sha256(key) => {
                key.clone().chain_update(url).chain_update(tail).finalize().into_bytes().to_vec()
            }
        }
    }
}

/// Verifies the requests of one account. Several secrets may be good at once, while one takes over from another.
pub struct Verifier {
    keys: Vec<Key>,
}

impl Verifier {
    /// A verifier with the account's auth tokens.
    pub fn new<'a>(auth_tokens: impl IntoIterator<Item = &'a str>) -> Verifier {
        let key = |token| Key::new(Algorithm::HmacSha1, token);
        Verifier { keys: auth_tokens.into_iter().map(key).collect() }
    }

    /// Whether the signature is that of this URL with these form parameters, under one of the account's secrets. Twilio signs
    /// with or without the port, so both are tried; nothing else is. The URL as it was told comes first: it is nearly always the
    /// one, and which of them it was is no secret.
    pub fn verify<'p>(
        &self,
        algorithm: Algorithm,
        url: &str,
        parameters: impl IntoIterator<Item = (&'p [u8], &'p [u8])>,
        signature: &str,
    ) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        let tail = tail(parameters);
        let keys = || self.keys.iter().filter(|key| key.algorithm() == algorithm);
        let is_signed = |url: &str| keys().any(|key| bool::from(key.sign(url, &tail).ct_eq(&signature)));
        let url = url.split_once('#').map_or(url, |(before, _)| before);
        is_signed(url) || with_other_port(url).is_some_and(|url| is_signed(&url))
    }
}

/// The signature of a request, as the header holds it.
pub fn sign<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    algorithm: Algorithm,
    secret: &str,
    url: &str,
    parameters: &[(N, V)],
) -> String {
    let pairs = parameters.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
    STANDARD.encode(Key::new(algorithm, secret).sign(url, &tail(pairs)))
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

/// Names and values without anything between them, sorted by name and then value, the same pair once.
fn tail<'p>(parameters: impl IntoIterator<Item = (&'p [u8], &'p [u8])>) -> Vec<u8> {
    let mut pairs: Vec<(&[u8], &[u8])> = parameters.into_iter().collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut tail = Vec::with_capacity(pairs.iter().map(|(name, value)| name.len() + value.len()).sum());
    for (name, value) in pairs {
        tail.extend_from_slice(name);
        tail.extend_from_slice(value);
    }
    tail
}

/// The URL without its port where it names one, and with the scheme's own where it does not. `None` for what is no URL.
fn with_other_port(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // An IPv6 host has colons of its own, inside brackets.
    let port_at = authority.rfind(':').filter(|&at| !authority[at..].contains(']'));
    let own_port = if matches!(scheme, "https" | "wss") { "443" } else { "80" };
    Some(match port_at {
        Some(at) => format!("{scheme}://{}{path}", &authority[..at]),
        None => format!("{scheme}://{authority}:{own_port}{path}"),
    })
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
    fn pairs<'p>(parameters: &'p [(&str, &str)]) -> impl Iterator<Item = (&'p [u8], &'p [u8])> {
        parameters.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))
    }

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
                Verifier::new(["12345"]).verify(Algorithm::HmacSha1, url, pairs(parameters), signature),
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
            assert!(verifier.verify(Algorithm::HmacSha1, told, pairs(CALL), &signature), "{told} {signed}");
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
            assert!(!verifier.verify(Algorithm::HmacSha1, URL, pairs(CALL), &signature), "{signed}");
        }
        for (url, other) in [
            ("http://[2001:db8::1]/x", "http://[2001:db8::1]:80/x"),
            ("http://[2001:db8::1]:80/x", "http://[2001:db8::1]/x"),
        ] {
            assert_eq!(with_other_port(url).as_deref(), Some(other));
        }
        let without_fragment = sign(Algorithm::HmacSha1, "12345", URL, CALL);
        assert!(verifier.verify(Algorithm::HmacSha1, &format!("{URL}#rc=2"), pairs(CALL), &without_fragment));
    }

    #[test]
    fn any_change_of_a_signed_request_is_noticed() {
        let verifier = Verifier::new(["12345"]);
        let signature = sign(Algorithm::HmacSha1, "12345", URL, CALL);
        let bytes = STANDARD.decode(&signature).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut other = bytes.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifier.verify(Algorithm::HmacSha1, URL, pairs(CALL), &STANDARD.encode(other)));
        }
        for place in 0..CALL.len() {
            let mut fewer = CALL.to_vec();
            let (name, value) = fewer.remove(place);
            assert!(!verifier.verify(Algorithm::HmacSha1, URL, pairs(&fewer), &signature));
            for changed in [(name, "x"), ("x", value), ("", value), (name, "")] {
                let mut other = fewer.clone();
                other.push(changed);
                assert!(!verifier.verify(Algorithm::HmacSha1, URL, pairs(&other), &signature));
            }
        }
        for wrong in [
            "",
            "=",
            "RSOYDt4T1cUTdK1PDd93/VVr8B8",
            "033hgUJA9M/hXIZsYjwkerEP/DBm35nEri5FhCYjA5s=",
            "RSOYDt4T1cUTdK1PDd93/VVr8B8= ",
        ] {
            assert!(!verifier.verify(Algorithm::HmacSha1, URL, pairs(CALL), wrong), "{wrong:?}");
        }
    }

    #[test]
    fn old_and_new_tokens_are_good_while_one_takes_over() {
        let verifier = Verifier::new(["new", "old"]);
        for (token, good) in [("new", true), ("old", true), ("older", false), ("", false)] {
            let signature = sign(Algorithm::HmacSha1, token, URL, CALL);
            assert_eq!(verifier.verify(Algorithm::HmacSha1, URL, pairs(CALL), &signature), good, "{token}");
        }
        assert!(!Verifier::new([]).verify(
            Algorithm::HmacSha1,
            URL,
            pairs(CALL),
            &sign(Algorithm::HmacSha1, "", URL, CALL)
        ));
        let sha256 = sign(Algorithm::HmacSha256, "new", URL, CALL);
        assert!(!verifier.verify(Algorithm::HmacSha256, URL, pairs(CALL), &sha256), "there is no shared key");
    }

    #[test]
    fn algorithms_are_read_from_the_settings_header() {
        assert_eq!(Algorithm::read(None), Some(Algorithm::HmacSha1));
        assert_eq!(Algorithm::read(Some("key=SK1,algorithm=HMAC_SHA256")), Some(Algorithm::HmacSha256));
        assert_eq!(Algorithm::read(Some("algorithm=HMAC_SHA1")), Some(Algorithm::HmacSha1));
        assert_eq!(Algorithm::read(Some("algorithm=NONE")), None);
    }
}
