//! How the carrier signs what it sends: HMAC-SHA1 over the URL and the sorted form parameters, in Base64.
//!
//! Written from the carrier's side and sharing nothing with the verifier in `carriers`; the vectors below come from
//! the carrier's official SDK, so both are held to the same outside truth.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::form::{Form, sid};

/// The header that carries the signature.
pub const SIGNATURE_HEADER: &str = "x-twilio-signature";

/// The signature of a request to `url` with the form parameters `params` (none for GET, and for WebSocket upgrades).
pub fn sign(auth_token: &str, url: &str, params: &[(String, String)]) -> String {
    let url = url.split_once('#').map_or(url, |(before, _)| before);
    let mut pairs: Vec<(&str, &str)> =
        params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut data = String::from(url);
    for (name, value) in pairs {
        data.push_str(name);
        data.push_str(value);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.as_bytes());
    STANDARD.encode(hmac::sign(&key, data.as_bytes()))
}

/// A correctly signed voice request, ready to be sent: for tests and load generators that need no whole simulator.
#[derive(Debug, Clone)]
pub struct SignedRequest {
    /// Where it goes, exactly as it was signed.
    pub url: String,
    /// The body, `application/x-www-form-urlencoded`.
    pub body: String,
    /// The value of the `X-Twilio-Signature` header.
    pub signature: String,
    /// The call that it is about.
    pub call_sid: String,
}

/// What [`signed_voice_request`] needs to know.
#[derive(Debug, Clone, Copy)]
pub struct VoiceRequest<'a> {
    /// The number's voice URL, exactly as it was set at the carrier.
    pub url: &'a str,
    /// The account's primary token.
    pub auth_token: &'a str,
    /// The account.
    pub account_sid: &'a str,
    /// Who calls.
    pub from: &'a str,
    /// The number called.
    pub to: &'a str,
    /// The call's SID; a new one where absent.
    pub call_sid: Option<&'a str>,
}

/// Builds the first request of an inbound call as the carrier would send it.
pub fn signed_voice_request(request: VoiceRequest<'_>) -> SignedRequest {
    let call_sid = request.call_sid.map_or_else(|| sid("CA"), str::to_owned);
    let mut form = Form::default();
    for (name, value) in [
        ("AccountSid", request.account_sid),
        ("ApiVersion", "2010-04-01"),
        ("CallSid", &call_sid),
        ("CallStatus", "ringing"),
        ("Called", request.to),
        ("Caller", request.from),
        ("Direction", "inbound"),
        ("From", request.from),
        ("To", request.to),
    ] {
        form.push(name, value);
    }
    let signature = sign(request.auth_token, request.url, &form.0);
    SignedRequest { url: request.url.to_owned(), body: form.encode(), signature, call_sid }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, params: &[(&str, &str)], expected: &str) {
        let params: Vec<_> = params.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(sign("12345", url, &params), expected, "{url}");
    }

    /// The vectors of the official Python SDK.
    #[test]
    fn signatures_match_the_official_vectors() {
        let call = [
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675309"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
        ];
        check("https://mycompany.com/myapp.php?foo=1&bar=2", &call, "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
        check("https://mycompany.com:443/myapp.php?foo=1&bar=2", &call, "kvajT1Ptam85bY51eRf/AJRuM3w=");
        check(
            "https://pbx.example.com/h",
            &[
                ("Body", "héllo & 100% «ok» 👍"),
                ("Empty", ""),
                ("B", "b"),
                ("B", "a"),
                ("B", "a"),
                ("a", "lower"),
                ("A", "upper"),
            ],
            "89odW3rJa1hcpskzjv4RQnLsMnc=",
        );
        check(
            "https://pbx.example.com/h?From=%2B14155550100&To=%2B14155550101",
            &[],
            "L7lPXE+YPS1ra7fG4a2Ekbs6/Rw=",
        );
        check(
            "https://pbx.example.com/h?bodySHA256=5041bf1f713df204784353e82f6a4a535931cb64f1f4b4a5aeaffcb720918b22",
            &[],
            "JLbib/QoDkT/qE6ROA+U9TDGGj0=",
        );
        check("wss://pbx.example.com/media", &[], "udi9FUtuRhn9KoiQkr6j2ARHPKo=");
        check("wss://pbx.example.com/media#rc=2", &[], "udi9FUtuRhn9KoiQkr6j2ARHPKo=");
    }

    #[test]
    fn a_signed_voice_request_verifies_against_its_own_body() {
        let request = signed_voice_request(VoiceRequest {
            url: "https://pbx.example.com/voice",
            auth_token: "12345",
            account_sid: "AC00000000000000000000000000000001",
            from: "+15145550100",
            to: "+14385550123",
            call_sid: None,
        });
        let form = Form::parse(request.body.as_bytes());
        assert_eq!(form.value("CallSid"), Some(request.call_sid.as_str()));
        assert_eq!(sign("12345", &request.url, &form.0), request.signature);
    }
}
