//! A number that the account owns at the simulated carrier: its record, its settings and their rules, and the shelf
//! on which all of them stand.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::errors::{ApiError, Kind};
use super::form::{Form, is_sid, is_url, rfc2822};
use super::supply::Capabilities;

/// The longest `FriendlyName`.
const FRIENDLY_NAME_MAX: usize = 64;

/// How a setting is checked, and what it is when unset.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// `http` or `https`; unset is the empty string.
    Url,
    /// `GET` or `POST`, which is the default.
    Method,
    /// A SID with this prefix; unset is null.
    Sid(&'static str),
    /// False by default.
    Bool,
    /// One of these, the first by default.
    OneOf(&'static [&'static str]),
}

/// The settings of a number: the form's name, the JSON name, the shape.
const SETTINGS: [(&str, &str, Shape); 21] = [
    ("VoiceUrl", "voice_url", Shape::Url),
    ("VoiceMethod", "voice_method", Shape::Method),
    ("VoiceFallbackUrl", "voice_fallback_url", Shape::Url),
    ("VoiceFallbackMethod", "voice_fallback_method", Shape::Method),
    ("VoiceApplicationSid", "voice_application_sid", Shape::Sid("AP")),
    ("VoiceCallerIdLookup", "voice_caller_id_lookup", Shape::Bool),
    ("VoiceReceiveMode", "voice_receive_mode", Shape::OneOf(&["voice", "fax"])),
    ("SmsUrl", "sms_url", Shape::Url),
    ("SmsMethod", "sms_method", Shape::Method),
    ("SmsFallbackUrl", "sms_fallback_url", Shape::Url),
    ("SmsFallbackMethod", "sms_fallback_method", Shape::Method),
    ("SmsApplicationSid", "sms_application_sid", Shape::Sid("AP")),
    ("StatusCallback", "status_callback", Shape::Url),
    ("StatusCallbackMethod", "status_callback_method", Shape::Method),
    ("TrunkSid", "trunk_sid", Shape::Sid("TK")),
    ("AddressSid", "address_sid", Shape::Sid("AD")),
    ("BundleSid", "bundle_sid", Shape::Sid("BU")),
    ("IdentitySid", "identity_sid", Shape::Sid("RI")),
    ("EmergencyStatus", "emergency_status", Shape::OneOf(&["Inactive", "Active"])),
    ("EmergencyAddressSid", "emergency_address_sid", Shape::Sid("AD")),
    ("EmergencyAddressStatus", "emergency_address_status", Shape::OneOf(&["unregistered"])),
];

/// An owned number, as kept and as written in the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Number {
    pub(crate) sid: String,
    #[serde(rename = "phone_number")]
    pub(crate) e164: String,
    pub(crate) friendly_name: String,
    pub(crate) capabilities: Capabilities,
    pub(crate) address_requirements: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    settings: Map<String, Value>,
    pub(crate) created: Timestamp,
    updated: Timestamp,
}

impl Number {
    /// A number with every setting at its default.
    pub(crate) fn new(
        sid: String,
        e164: String,
        friendly_name: String,
        capabilities: Capabilities,
        (address_requirements, kind): (&str, &str),
        now: Timestamp,
    ) -> Self {
        let settings = SETTINGS.iter().map(|(_, name, shape)| ((*name).to_owned(), shape.unset())).collect();
        Self {
            sid,
            e164,
            friendly_name,
            capabilities,
            address_requirements: address_requirements.to_owned(),
            kind: kind.to_owned(),
            settings,
            created: now,
            updated: now,
        }
    }

    /// A setting's text; empty where unset.
    pub(crate) fn setting(&self, name: &str) -> &str {
        self.settings.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The number with the form's settings applied: what is not sent stays, an empty value clears.
    pub(crate) fn with_settings(mut self, form: &Form, now: Timestamp) -> Result<Self, ApiError> {
        if let Some(name) = form.value("FriendlyName") {
            if name.chars().count() > FRIENDLY_NAME_MAX {
                return Err(ApiError::new(
                    Kind::ParameterInvalid,
                    format!("FriendlyName is longer than {FRIENDLY_NAME_MAX} characters"),
                ));
            }
            name.clone_into(&mut self.friendly_name);
        }
        for (form_name, name, shape) in SETTINGS {
            if let Some(text) = form.value(form_name) {
                self.settings.insert(name.to_owned(), shape.read(form_name, text)?);
            }
        }
        // A trunk or an application takes the voice of the number, and each of the two ousts the other.
        if form.filled("TrunkSid").is_some() {
            self.settings.insert("voice_application_sid".to_owned(), Value::Null);
        } else if form.filled("VoiceApplicationSid").is_some() {
            self.settings.insert("trunk_sid".to_owned(), Value::Null);
        }
        self.updated = now;
        Ok(self)
    }

    /// The number as the REST interface shows it.
    pub(crate) fn body(&self, account_sid: &str) -> Value {
        let mut body = self.settings.clone();
        let own = json!({
            "sid": self.sid,
            "account_sid": account_sid,
            "phone_number": self.e164,
            "friendly_name": self.friendly_name,
            "capabilities": self.capabilities,
            "address_requirements": self.address_requirements,
            "type": self.kind,
            "beta": false,
            "origin": "twilio",
            "status": "in-use",
            "api_version": "2010-04-01",
            "date_created": rfc2822(self.created),
            "date_updated": rfc2822(self.updated),
            "uri": format!("/2010-04-01/Accounts/{account_sid}/IncomingPhoneNumbers/{}.json", self.sid),
        });
        if let Value::Object(own) = own {
            body.extend(own);
        }
        Value::Object(body)
    }
}

impl Shape {
    fn unset(self) -> Value {
        match self {
            Self::Url => json!(""),
            Self::Method => json!("POST"),
            Self::Sid(_) => Value::Null,
            Self::Bool => json!(false),
            Self::OneOf(values) => json!(values[0]),
        }
    }

    fn read(self, name: &str, text: &str) -> Result<Value, ApiError> {
        if text.is_empty() {
            return Ok(self.unset());
        }
        let refuse = |kind| Err(ApiError::new(kind, format!("{name} is not valid: {text}")));
        match self {
            Self::Url if is_url(text, &["http", "https"]) => Ok(json!(text)),
            Self::Url => refuse(Kind::UrlInvalid),
            Self::Method if matches!(text, "GET" | "POST") => Ok(json!(text)),
            Self::Sid(prefix) if is_sid(text, prefix) => Ok(json!(text)),
            Self::Sid("AP") => refuse(Kind::ApplicationInvalid),
            Self::Bool if matches!(text, "true" | "True") => Ok(json!(true)),
            Self::Bool if matches!(text, "false" | "False") => Ok(json!(false)),
            Self::OneOf(values) if values.contains(&text) => Ok(json!(text)),
            _ => refuse(Kind::ParameterInvalid),
        }
    }
}

/// All numbers that the account owns, in the order in which they were bought.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    by_order: BTreeMap<u64, Number>,
    order_by_sid: HashMap<String, u64>,
    sid_by_e164: HashMap<String, String>,
    next: u64,
}

impl Numbers {
    pub(crate) fn owns(&self, e164: &str) -> bool {
        self.sid_by_e164.contains_key(e164)
    }

    pub(crate) fn by_sid(&self, sid: &str) -> Option<&Number> {
        self.order_by_sid.get(sid).and_then(|order| self.by_order.get(order))
    }

    pub(crate) fn by_e164(&self, e164: &str) -> Option<&Number> {
        self.sid_by_e164.get(e164).and_then(|sid| self.by_sid(sid))
    }

    /// The latest bought first, as the carrier lists them.
    pub(crate) fn latest_first(&self) -> impl Iterator<Item = &Number> {
        self.by_order.values().rev()
    }

    /// Adds a number, or takes the new state of one that is there.
    pub(crate) fn put(&mut self, number: Number) {
        let order = *self.order_by_sid.entry(number.sid.clone()).or_insert_with(|| {
            self.next += 1;
            self.next
        });
        self.sid_by_e164.insert(number.e164.clone(), number.sid.clone());
        self.by_order.insert(order, number);
    }

    pub(crate) fn remove(&mut self, sid: &str) -> Option<Number> {
        let number = self.by_order.remove(&self.order_by_sid.remove(sid)?)?;
        self.sid_by_e164.remove(&number.e164);
        Some(number)
    }
}
