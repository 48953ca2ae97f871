//! How Twilio answers: its JSON, read defensively. Unset is `null` for ids and `""` for URLs; keys of `capabilities` come in upper
//! and lower case; errors are Twilio's own, or RFC 9457 problems, or a proxy's HTML.
//!
//! The bytes come from outside: what cannot be read is an error or a doubt, never a panic.

use std::collections::BTreeMap;

use domain::number::{Capabilities, Country, E164, NumberType};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::carrier::{Account, Candidate, ListPage, OwnedNumber};

/// A text that may be missing, `null`, empty or a number; what says nothing is `None`.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) if !text.is_empty() => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

fn capabilities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Capabilities, D::Error> {
    let Value::Object(flags) = Value::deserialize(deserializer)? else {
        return Ok(Capabilities::default());
    };
    let flags: BTreeMap<String, bool> = flags
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_bool().unwrap_or(false)))
        .collect();
    let has = |name| flags.get(name).copied().unwrap_or(false);
    Ok(Capabilities { voice: has("voice"), sms: has("sms"), mms: has("mms") })
}

#[derive(Debug, Deserialize)]
struct IncomingNumber {
    #[serde(default, deserialize_with = "text")]
    sid: Option<String>,
    #[serde(default, deserialize_with = "text")]
    phone_number: Option<String>,
    #[serde(default, deserialize_with = "text")]
    friendly_name: Option<String>,
    #[serde(default, deserialize_with = "capabilities")]
    capabilities: Capabilities,
    #[serde(default, deserialize_with = "text")]
    voice_url: Option<String>,
    #[serde(default, deserialize_with = "text")]
    voice_fallback_url: Option<String>,
    #[serde(default, deserialize_with = "text")]
    status_callback: Option<String>,
    #[serde(default, deserialize_with = "text")]
    trunk_sid: Option<String>,
    #[serde(default, deserialize_with = "text")]
    voice_application_sid: Option<String>,
}

impl IncomingNumber {
    fn read(self) -> Option<OwnedNumber> {
        Some(OwnedNumber {
            carrier_number_id: self.sid.filter(|sid| is_sid(sid, "PN"))?,
            phone_number: E164::from_carrier(&self.phone_number?)?,
            label: self.friendly_name.unwrap_or_default(),
            capabilities: self.capabilities,
            voice_url: self.voice_url,
            voice_fallback_url: self.voice_fallback_url,
            status_callback: self.status_callback,
            voice_is_overridden: self.trunk_sid.is_some() || self.voice_application_sid.is_some(),
        })
    }
}

/// Whether this is an id of that kind: two letters and 32 hexadecimal digits.
pub(super) fn is_sid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|hex| hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// One number of ours; `None` if the bytes are not one.
pub(super) fn number(body: &[u8]) -> Option<OwnedNumber> {
    serde_json::from_slice::<IncomingNumber>(body).ok()?.read()
}

#[derive(Debug, Deserialize)]
struct IncomingNumbers {
    incoming_phone_numbers: Vec<IncomingNumber>,
    #[serde(default, deserialize_with = "text")]
    next_page_uri: Option<String>,
}

/// One page of our numbers. What the account holds besides phone numbers (short codes) is passed over.
pub(super) fn numbers(body: &[u8]) -> Option<ListPage> {
    let page: IncomingNumbers = serde_json::from_slice(body).ok()?;
    Some(ListPage {
        numbers: page.incoming_phone_numbers.into_iter().filter_map(IncomingNumber::read).collect(),
        next: page.next_page_uri,
    })
}

#[derive(Debug, Deserialize)]
struct AvailableNumber {
    #[serde(default, deserialize_with = "text")]
    phone_number: Option<String>,
    #[serde(default, deserialize_with = "text")]
    locality: Option<String>,
    #[serde(default, deserialize_with = "text")]
    region: Option<String>,
    #[serde(default, deserialize_with = "text")]
    iso_country: Option<String>,
    #[serde(default, deserialize_with = "text")]
    address_requirements: Option<String>,
    #[serde(default, deserialize_with = "capabilities")]
    capabilities: Capabilities,
}

#[derive(Debug, Deserialize)]
struct AvailableNumbers {
    available_phone_numbers: Vec<AvailableNumber>,
}

/// What is on sale. Numbers that need an address registered first are left out: buying them would be refused.
pub(super) fn candidates(body: &[u8], country: Country, number_type: NumberType) -> Option<Vec<Candidate>> {
    let answer: AvailableNumbers = serde_json::from_slice(body).ok()?;
    let read = |item: AvailableNumber| {
        if item.address_requirements.is_some_and(|needed| !needed.eq_ignore_ascii_case("none")) {
            return None;
        }
        Some(Candidate {
            phone_number: E164::from_carrier(&item.phone_number?)?,
            country: item.iso_country.and_then(|code| code.parse().ok()).unwrap_or(country),
            number_type,
            capabilities: item.capabilities,
            locality: item.locality,
            region: item.region,
        })
    };
    Some(answer.available_phone_numbers.into_iter().filter_map(read).collect())
}

#[derive(Debug, Deserialize)]
struct WireAccount {
    #[serde(default, deserialize_with = "text")]
    friendly_name: Option<String>,
    #[serde(default, deserialize_with = "text")]
    status: Option<String>,
    #[serde(default, rename = "type", deserialize_with = "text")]
    kind: Option<String>,
    // `auth_token` is in the answer too, and deliberately not read.
}

/// The account; `None` if the bytes are not one.
pub(super) fn account(body: &[u8]) -> Option<Account> {
    let account: WireAccount = serde_json::from_slice(body).ok()?;
    Some(Account {
        name: account.friendly_name.unwrap_or_default(),
        active: account.status?.eq_ignore_ascii_case("active"),
        trial: account.kind.is_some_and(|kind| kind.eq_ignore_ascii_case("trial")),
    })
}

/// An error as Twilio says it: `code` is missing where a proxy answers in its place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WireError {
    pub(super) code: Option<u32>,
    pub(super) message: Option<String>,
}

/// Reads `{"code":…,"message":…}` or an RFC 9457 problem. Anything else says nothing.
pub(super) fn error(body: &[u8]) -> WireError {
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(body) else {
        return WireError::default();
    };
    let said = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    let code = match fields.get("code") {
        Some(Value::Number(number)) => number.as_u64().and_then(|code| u32::try_from(code).ok()),
        Some(Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    WireError { code, message: said("message").or_else(|| said("detail")).or_else(|| said("title")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_in_either_case() {
        for (body, voice, sms) in [
            (r#"{"voice":true,"SMS":true,"MMS":false}"#, true, true),
            (r#"{"Voice":true,"sms":false}"#, true, false),
            (r#"{"voice":"yes"}"#, false, false),
            ("null", false, false),
            ("[]", false, false),
        ] {
            let number = number(
                format!(r#"{{"sid":"PN{:032}","phone_number":"+12025550100","capabilities":{body}}}"#, 7)
                    .as_bytes(),
            )
            .expect(body);
            assert_eq!((number.capabilities.voice, number.capabilities.sms), (voice, sms), "{body}");
            assert_eq!(number.voice_url, None);
        }
    }

    #[test]
    fn what_is_no_number_is_not_taken_for_one() {
        for body in [
            "",
            "{",
            "[]",
            "null",
            "{}",
            r#"{"sid":"PN123","phone_number":"+12025550100"}"#,
            r#"{"sid":"CA00000000000000000000000000000000","phone_number":"+12025550100"}"#,
            r#"{"sid":"PN00000000000000000000000000000000","phone_number":"12025550100"}"#,
            r#"{"sid":"PN00000000000000000000000000000000","phone_number":null}"#,
            "<html><body>502</body></html>",
        ] {
            assert_eq!(number(body.as_bytes()), None, "{body}");
        }
        assert_eq!(numbers(b"{}"), None, "a page without a list is not an empty page");
    }

    #[test]
    fn errors_are_read_in_each_of_their_forms() {
        let twilio = error(br#"{"code":20404,"message":"not found","more_info":"x","status":404}"#);
        assert_eq!((twilio.code, twilio.message.as_deref()), (Some(20404), Some("not found")));
        let problem = error(br#"{"type":"about:blank","title":"Bad","detail":"too bad","status":400}"#);
        assert_eq!((problem.code, problem.message.as_deref()), (None, Some("too bad")));
        for nothing in [&b"<html>"[..], b"", b"[1]", b"\xff", br#"{"code":{}}"#] {
            assert_eq!(error(nothing), WireError::default());
        }
    }
}
