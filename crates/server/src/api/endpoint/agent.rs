//! The endpoints of agents and variants as JSON: what can be dialled, or a webhook that decides per call; and the names and values that
//! travel with a call.

use domain::agent::Parameters;
use domain::endpoint::{Endpoint, EndpointKind, Webhook, WebhookUrl};
use domain::error::Code;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Reading, SecretOut, TargetIn, TargetOut};
use crate::actions::endpoints::left_out;
use crate::actions::secrets::WEBHOOK_SECRET;
use crate::api::fields::{Fields, Json};
use crate::api::schema;
use crate::patch::Patch;

/// The shortest secret that webhooks are signed with, in bytes.
const WEBHOOK_SECRET_BYTES_MIN: usize = 16;

/// How calls reach an agent.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schema(as = Endpoint, example = json!({"type": "stream", "url": "wss://agent.example/media"}))]
pub enum EndpointOut {
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
    /// The team's server, asked for each call.
    Webhook {
        /// Where it is asked: https.
        #[schema(example = "https://agent.example/calls")]
        webhook_url: String,
        /// What our requests are signed with: sent as a text, shown as `set` and `last4`.
        secret: Option<SecretOut>,
        /// Taken when the server gives no usable answer within 3 seconds.
        #[schema(value_type = Option<TargetOut>)]
        default: Option<TargetOut>,
    },
}

/// An endpoint as it is sent.
#[derive(ToSchema)]
#[schema(as = EndpointIn, example = json!({"type": "stream", "url": "wss://agent.example/media"}))]
#[expect(dead_code, reason = "says what `Reading::endpoint` reads")]
pub struct EndpointIn {
    /// `sip`, `stream`, `phone` or `webhook`.
    #[schema(example = "stream")]
    r#type: String,
    /// Of a SIP endpoint: its address.
    uri: Option<String>,
    /// Of a SIP endpoint: the user name that it asks for.
    username: Option<String>,
    /// Of a SIP endpoint: the password; never shown again. Left out, the stored one of the same uri and username stays.
    password: Option<String>,
    /// Of a stream: its address, wss and without a query.
    url: Option<String>,
    /// Of a telephone: its number.
    #[schema(value_type = Option<schema::PhoneNumber>)]
    phone_number: Option<String>,
    /// Of a SIP endpoint or a telephone: how long it may ring, in seconds.
    #[schema(minimum = 5, maximum = 120, default = 20)]
    ring_timeout_s: Option<u16>,
    /// Of a webhook: where your server is asked, https.
    webhook_url: Option<String>,
    /// Of a webhook: what our requests are signed with, by the Standard Webhooks specification; never shown again. Left out, the
    /// stored one of the same host stays; null removes it.
    #[schema(min_length = 16)]
    secret: Option<String>,
    /// Of a webhook: taken when your server gives no usable answer within 3 seconds.
    default: Option<TargetIn>,
}

impl From<&Endpoint> for EndpointOut {
    fn from(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Dial(dial) => match (&**dial).into() {
                TargetOut::Sip { uri, username, password, ring_timeout_s } => {
                    EndpointOut::Sip { uri, username, password, ring_timeout_s }
                }
                TargetOut::Stream { url } => EndpointOut::Stream { url },
                TargetOut::Phone { phone_number, ring_timeout_s } => {
                    EndpointOut::Phone { phone_number, ring_timeout_s }
                }
            },
            Endpoint::Webhook(webhook) => EndpointOut::Webhook {
                webhook_url: webhook.webhook_url.as_str().to_owned(),
                secret: webhook.secret.as_ref().map(Into::into),
                default: webhook.default.as_ref().map(Into::into),
            },
        }
    }
}

impl Reading<'_> {
    /// The endpoint of an agent or a variant.
    pub fn endpoint(&self, json: &Json<'_>) -> Option<Endpoint> {
        json.object(|fields| match kind(fields) {
            Some(EndpointKind::Webhook) => {
                fields.required("type", |_| Some(()));
                self.webhook(fields).map(Endpoint::from)
            }
            Some(_) => self.dial_fields(fields).map(Endpoint::from),
            None => {
                fields.required("type", Json::parse::<EndpointKind>);
                // What belongs to some type is not called unknown as well.
                for name in OF_ANY_TYPE {
                    fields.optional(name, |_| None::<()>);
                }
                None
            }
        })
    }

    fn webhook(&self, fields: &mut Fields<'_>) -> Option<Webhook> {
        let webhook_url =
            fields.required("webhook_url", |json| json.text(|text| WebhookUrl::parse(text, self.plain())));
        let secret = fields.patch("secret", |json| {
            if json.value().as_str().is_some_and(|text| (1..WEBHOOK_SECRET_BYTES_MIN).contains(&text.len())) {
                json.refuse(
                    Code::InvalidValue,
                    format!("is shorter than {WEBHOOK_SECRET_BYTES_MIN} bytes, which is easy to guess; send a longer one"),
                );
                return None;
            }
            self.secret(WEBHOOK_SECRET, json)
        });
        let secret = match secret {
            Patch::Keep => self.may_keep().then(left_out),
            Patch::Clear => None,
            Patch::Set(secret) => Some(secret),
        };
        let default = fields.optional("default", |json| self.dial(json));
        Some(Webhook { webhook_url: webhook_url?, secret, default })
    }
}

/// Every field that some type of endpoint has.
const OF_ANY_TYPE: [&str; 9] = [
    "uri",
    "username",
    "password",
    "url",
    "phone_number",
    "ring_timeout_s",
    "webhook_url",
    "secret",
    "default",
];

fn kind(fields: &Fields<'_>) -> Option<EndpointKind> {
    fields.peek("type")?.as_str()?.parse().ok()
}

/// Names and values that travel with a call: `call_parameters`, and a variant's `attributes`.
pub fn parameters(json: &Json<'_>) -> Option<Parameters> {
    let entries = json.entries(|name, json| {
        json.text(|text| Parameters::check_entry(name, text).map(|()| text.to_owned()))
    })?;
    json.check(Parameters::check(entries.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::endpoints::{Place, endpoint_places, fallback_places};
    use crate::api::fields::read_object;
    use crate::app::Random;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    #[expect(clippy::needless_pass_by_value, reason = "`json!` reads better as an argument")]
    fn check(body: Value, expected: Expect) {
        let random = Random::from_seed(1);
        let reading =
            Reading::of(domain::endpoint::Plain::Refuse, &random, jiff::Timestamp::UNIX_EPOCH).kept();
        let outcome = read_object(&body, |fields| {
            let endpoint = fields.optional("endpoint", |json| reading.endpoint(json));
            let fallback = fields.optional("fallback", |json| reading.fallback(json));
            let parameters = fields.optional("call_parameters", parameters);
            Some((endpoint, fallback, parameters))
        });
        let told = match outcome {
            Ok((endpoint, fallback, _)) => {
                let mut found = Vec::new();
                if let Some(endpoint) = &endpoint {
                    endpoint_places(endpoint, "endpoint", &mut found);
                }
                if let Some(fallback) = &fallback {
                    fallback_places(fallback, "fallback", &mut found);
                }
                let told = found.iter().map(|(field, place)| match place {
                    Place::Address(at) => format!("{field} → {}:{}\n", at.host, at.port),
                    Place::PhoneNumber(number) => format!("{field} → {number}\n"),
                });
                let told: Vec<String> = told.collect();
                format!("ok\n{}", told.concat())
            }
            Err(problem) => problem
                .errors
                .iter()
                .map(|error| format!("{} {}: {}\n", error.field, error.code, error.detail))
                .collect::<Vec<_>>()
                .concat(),
        };
        assert!(!told.contains("hunter2"), "no error repeats a secret: {told}");
        expected.assert_eq(&told);
    }

    #[test]
    fn endpoints_are_read_with_every_address() {
        check(
            json!({"endpoint": {"type": "sip", "uri": "sip:bot@agents.example.com", "username": "us", "password": "hunter2"}}),
            expect![[r#"
                ok
                endpoint.uri → agents.example.com:5060
            "#]],
        );
        check(
            json!({
                "endpoint": {
                    "type": "webhook", "webhook_url": "https://team.example/calls", "secret": "hunter2-hunter2-hunter2",
                    "default": {"type": "stream", "url": "wss://agents.example/media"},
                },
                "fallback": {"targets": [
                    {"type": "phone", "phone_number": "+14385950345", "ring_timeout_s": 30},
                    {"type": "sip", "uri": "sips:desk@example.com", "username": "kept"},
                ], "message": "Please try again later."},
            }),
            expect![[r#"
                ok
                endpoint.webhook_url → team.example:443
                endpoint.default.url → agents.example:443
                fallback.targets[0].phone_number → +14385950345
                fallback.targets[1].uri → example.com:5061
            "#]],
        );
        check(
            json!({"endpoint": null, "fallback": {}, "call_parameters": {"tier": "gold"}}),
            expect![[r#"
            ok
        "#]],
        );
    }

    #[test]
    fn everything_wrong_is_told_at_once_and_no_secret_is() {
        check(
            json!({"endpoint": {"type": "sip", "uri": "tel:+1", "username": " ", "password": "hunter2\n", "ring_timeout_s": 1, "url": "x"}}),
            expect![[r#"
                endpoint.uri url_scheme: `tel:+1` has the scheme `tel`; a SIP endpoint takes sip: or sips:
                endpoint.username blank: is empty or only spaces; send some text
                endpoint.password secret_whitespace: begins or ends with white space, which is seldom meant; copy it again without
                endpoint.ring_timeout_s invalid_value: is `1`; expected a whole number from 5 to 120
                endpoint.url unknown_field: there is no field `url`; did you mean `uri`?
            "#]],
        );
        check(
            json!({"endpoint": {"type": "webhook", "webhook_url": "http://127.0.0.1:9/", "secret": "hunter2", "default": {"type": "webhook"}}}),
            expect![[r#"
                endpoint.webhook_url url_scheme: `http://127.0.0.1:9/` has the scheme `http`; only https: is allowed here
                endpoint.secret invalid_value: is shorter than 16 bytes, which is easy to guess; send a longer one
                endpoint.default.type invalid_value: `webhook` is no kind of target; it is one of sip, stream, phone
            "#]],
        );
        check(
            json!({"endpoint": {"type": "sip", "uri": "sip:a@b.example", "username": "u", "password": {"set": true, "last4": "ter2"}},
                   "fallback": {"targets": [{"type": "fax", "number": "1"}], "message": " "}}),
            expect![[r#"
                endpoint.password secret_masked: is what was shown of a secret, not the secret; leave the field out to keep the stored one, or send a new one
                fallback.targets[0].type invalid_value: `fax` is no kind of target; it is one of sip, stream, phone
                fallback.targets[0].number unknown_field: there is no field `number`; did you mean `phone_number`?
                fallback.message blank: is empty or only spaces; send some text
            "#]],
        );
        check(
            json!({"endpoint": {"type": "sip", "uri": "sip:a@b.example", "username": "u", "password": "****ter2"},
                   "fallback": {"targets": [{"type": "stream", "url": "wss://a.example/?q=1"}, {}, {}, {}, {}]}}),
            expect![[r#"
                endpoint.password secret_masked: is a mask as pages show it, not a secret; send the whole secret
                fallback.targets too_many: has 5 entries; at most 4 are allowed
            "#]],
        );
        check(
            json!({"endpoint": {"type": "carrier_pigeon", "uri": "x"}, "call_parameters": {"switchboard_x": "1", "b c": "2"}}),
            expect![[r#"
                endpoint.type invalid_value: `carrier_pigeon` is no endpoint type; it is one of sip, stream, phone, webhook
                call_parameters["b c"] invalid_value: the name `b c` cannot travel in a SIP header; use a letter, then letters, digits, _ and -, at most 40 in all
                call_parameters.switchboard_x invalid_value: the name `switchboard_x` begins with switchboard_, which is kept for what Switchboard itself sends; choose another
            "#]],
        );
        check(
            json!({"endpoint": {"type": "sip", "uri": "sip:a@b.example", "password": "hunter2"}}),
            expect![[r#"
                endpoint.username required: is missing: a password needs its username
            "#]],
        );
        check(
            json!({"endpoint": []}),
            expect![[r#"
            endpoint wrong_type: is an array; expected an object
        "#]],
        );
    }
}
