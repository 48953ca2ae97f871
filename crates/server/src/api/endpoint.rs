//! Targets and fallbacks as JSON: how they are read from a request, and how they are shown. Secrets go in and never come out.

mod agent;

use std::cell::RefCell;

use domain::endpoint::{
    Dial, Plain, RING_TIMEOUT_S, RING_TIMEOUT_S_DEFAULT, SIP_AUTH_BYTES_MAX, SecretRef, SipAuth, SipUri,
    StreamUrl, Target,
};
use domain::error::{Code, Refusal};
use domain::fallback::{CHAIN_TARGETS_MAX, Fallback, MESSAGE_CHARS_MAX};
use domain::id::SecretId;
use domain::number::{E164, parse_text};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

pub use self::agent::{EndpointIn, EndpointOut, parameters};
use super::fields::{Fields, Json};
use super::schema;
use crate::actions::endpoints::left_out;
use crate::actions::secrets::{NewSecrets, SIP_PASSWORD, check_secret};
use crate::app::{App, Random};

/// What a request with targets in it may be refused for, beside what every body may.
pub const TARGET_CODES: &[Code] = &[
    Code::Blank,
    Code::TooLong,
    Code::TooMany,
    Code::ControlCharacter,
    Code::NotE164,
    Code::E164Length,
    Code::BadCountryCode,
    Code::EmergencyOrShortCode,
    Code::FallbackLoop,
    Code::FallbackTooLong,
    Code::AddressNotAllowed,
    Code::DestinationBlocked,
    Code::UrlInvalid,
    Code::UrlScheme,
    Code::UrlCredentials,
    Code::UrlQuery,
    Code::UrlPort,
    Code::SecretMasked,
    Code::SecretWhitespace,
];

/// What reading targets needs to know, and the secrets that it meets.
pub struct Reading<'a> {
    plain: Plain,
    random: &'a Random,
    now: Timestamp,
    secrets: RefCell<NewSecrets>,
    may_keep: bool,
}

impl<'a> Reading<'a> {
    /// By the settings of the app.
    pub fn new(app: &'a App) -> Reading<'a> {
        Reading::of(app.config.egress.plain(), &app.random, app.clock.now())
    }

    fn of(plain: Plain, random: &'a Random, now: Timestamp) -> Reading<'a> {
        Reading { plain, random, now, secrets: RefCell::default(), may_keep: false }
    }

    /// A secret that is left out stands for the stored one, which the action puts in its place.
    #[must_use]
    pub fn kept(self) -> Reading<'a> {
        Reading { may_keep: true, ..self }
    }

    /// Whether a secret may be left out.
    pub const fn may_keep(&self) -> bool {
        self.may_keep
    }

    /// Whether unencrypted addresses are accepted.
    pub const fn plain(&self) -> Plain {
        self.plain
    }

    /// A secret that was met; what refers to it keeps the reference.
    pub fn secret(&self, purpose: &'static str, json: &Json<'_>) -> Option<SecretRef> {
        if json.value().is_object() {
            json.refuse(
                Code::SecretMasked,
                "is what was shown of a secret, not the secret; leave the field out to keep the stored one, or send a new one",
            );
            return None;
        }
        json.secret(|text| {
            check_secret(text)?;
            let id = SecretId::new(self.now, self.random.bits());
            Ok(self.secrets.borrow_mut().take(id, purpose, text))
        })
    }

    /// All secrets that were met.
    pub fn secrets(self) -> NewSecrets {
        self.secrets.into_inner()
    }

    /// One target and how long it may ring.
    pub fn dial(&self, json: &Json<'_>) -> Option<Dial> {
        json.object(|fields| self.dial_fields(fields))
    }

    /// The fields of one target, in an object that may have others.
    pub fn dial_fields(&self, fields: &mut Fields<'_>) -> Option<Dial> {
        let kind = fields.required("type", |json| json.text(kind_of_target));
        let ring = |fields: &mut Fields<'_>| {
            fields
                .optional("ring_timeout_s", |json| json.integer(RING_TIMEOUT_S))
                .unwrap_or(RING_TIMEOUT_S_DEFAULT)
        };
        let Some(kind) = kind else {
            fields.leave_open(&["uri", "username", "password", "ring_timeout_s", "url", "phone_number"]);
            return None;
        };
        match kind {
            "sip" => {
                let uri = fields.required("uri", |json| json.text(SipUri::parse));
                let username = fields
                    .optional("username", |json| json.text(|text| parse_text(text, SIP_AUTH_BYTES_MAX)));
                let password = fields.optional("password", |json| self.secret(SIP_PASSWORD, json));
                let ring_timeout_s = ring(fields);
                let auth = match (username, password) {
                    (Some(username), Some(password)) => Some(SipAuth { username, password }),
                    (Some(username), None) if self.may_keep && !fields.has("password") => {
                        Some(SipAuth { username, password: left_out() })
                    }
                    (Some(_), None) if !fields.has("password") => {
                        fields.refuse(
                            "password",
                            Refusal::new(Code::Required, "is missing: a username needs its password"),
                        );
                        None
                    }
                    (None, Some(_)) if !fields.has("username") => {
                        fields.refuse(
                            "username",
                            Refusal::new(Code::Required, "is missing: a password needs its username"),
                        );
                        None
                    }
                    _ => None,
                };
                Some(Dial { target: Target::Sip { uri: uri?, auth }, ring_timeout_s })
            }
            "stream" => {
                let url = fields.required("url", |json| json.text(|text| StreamUrl::parse(text, self.plain)));
                Some(Dial { target: Target::Stream { url: url? }, ring_timeout_s: RING_TIMEOUT_S_DEFAULT })
            }
            _ => {
                let phone_number = fields.required("phone_number", Json::parse::<E164>);
                let ring_timeout_s = ring(fields);
                Some(Dial { target: Target::Phone { phone_number: phone_number? }, ring_timeout_s })
            }
        }
    }

    /// The fallback of one level.
    pub fn fallback(&self, json: &Json<'_>) -> Option<Fallback> {
        json.object(|fields| {
            let targets =
                fields.optional("targets", |json| json.array(CHAIN_TARGETS_MAX - 1, |json| self.dial(json)));
            let message =
                fields.optional("message", |json| json.text(|text| parse_text(text, MESSAGE_CHARS_MAX)));
            Some(Fallback { targets: targets.unwrap_or_default(), message })
        })
    }
}

fn kind_of_target(text: &str) -> Result<&'static str, Refusal> {
    ["sip", "stream", "phone"].into_iter().find(|kind| *kind == text).ok_or_else(|| {
        Refusal::new(
            Code::InvalidValue,
            format!("{} is no kind of target; it is one of sip, stream, phone", domain::error::shown(text)),
        )
    })
}

/// What a call can be connected to.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = Target, example = json!({"type": "phone", "phone_number": "+15145550142", "ring_timeout_s": 20}))]
pub enum TargetOut {
    /// A SIP user agent.
    Sip {
        /// Its address.
        #[schema(example = "sip:support@sip.agent.example;transport=tls")]
        uri: String,
        /// The user name that it asks for.
        username: Option<String>,
        /// The password that it asks for: sent as a text, shown as `set` and `last4`.
        password: Option<SecretOut>,
        /// How long it may ring.
        ring_timeout_s: u16,
    },
    /// A WebSocket server that speaks the Twilio Media Streams protocol.
    Stream {
        /// Its address: wss, without a query.
        #[schema(example = "wss://agent.example/media")]
        url: String,
    },
    /// A telephone.
    Phone {
        /// Its number.
        #[schema(value_type = schema::PhoneNumber)]
        phone_number: String,
        /// How long it may ring.
        ring_timeout_s: u16,
    },
}

/// A target as it is sent.
#[derive(ToSchema)]
#[schema(as = TargetIn)]
#[expect(dead_code, reason = "says what `Reading::dial_fields` reads; a test compares")]
pub struct TargetIn {
    /// `sip`, `stream` or `phone`.
    #[schema(example = "phone")]
    r#type: String,
    /// Of a SIP target: its address.
    uri: Option<String>,
    /// Of a SIP target: the user name that it asks for.
    username: Option<String>,
    /// Of a SIP target: the password; never shown again.
    password: Option<String>,
    /// Of a stream: its address, wss and without a query.
    url: Option<String>,
    /// Of a telephone: its number.
    #[schema(value_type = Option<schema::PhoneNumber>)]
    phone_number: Option<String>,
    /// How long it may ring, in seconds.
    #[schema(minimum = 5, maximum = 120, default = 20)]
    ring_timeout_s: Option<u16>,
}

/// A stored secret: write-only.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Secret)]
pub struct SecretOut {
    /// Always true.
    pub(super) set: bool,
    /// Its last characters.
    #[schema(example = "cdef")]
    pub(super) last4: String,
}

/// Where a call goes when the agent cannot take it.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Fallback)]
pub struct FallbackOut {
    /// Tried in order.
    pub targets: Vec<TargetOut>,
    /// Spoken when no target took the call.
    pub message: Option<String>,
}

/// Where a call goes when the agent cannot take it.
#[derive(ToSchema)]
#[schema(as = FallbackIn)]
#[expect(dead_code, reason = "says what `Reading::fallback` reads; a test compares")]
pub struct FallbackIn {
    /// Tried in order; a call tries at most 5 targets, the agent's own included.
    #[schema(max_items = 4)]
    targets: Option<Vec<TargetIn>>,
    /// Spoken when no target took the call.
    #[schema(max_length = 500)]
    message: Option<String>,
}

impl From<&SecretRef> for SecretOut {
    fn from(secret: &SecretRef) -> Self {
        SecretOut { set: true, last4: secret.last4.clone() }
    }
}

impl From<&Dial> for TargetOut {
    fn from(dial: &Dial) -> Self {
        let ring_timeout_s = dial.ring_timeout_s;
        match &dial.target {
            Target::Sip { uri, auth } => TargetOut::Sip {
                uri: uri.to_string(),
                username: auth.as_ref().map(|auth| auth.username.clone()),
                password: auth.as_ref().map(|auth| SecretOut::from(&auth.password)),
                ring_timeout_s,
            },
            Target::Stream { url } => TargetOut::Stream { url: url.to_string() },
            Target::Phone { phone_number } => {
                TargetOut::Phone { phone_number: phone_number.to_string(), ring_timeout_s }
            }
        }
    }
}

impl From<&Fallback> for FallbackOut {
    fn from(fallback: &Fallback) -> Self {
        FallbackOut {
            targets: fallback.targets.iter().map(TargetOut::from).collect(),
            message: fallback.message.clone(),
        }
    }
}
