//! Endpoints: how a call reaches an agent, and what a call can be connected to at all.
//!
//! Addresses are parsed here for their form. Whether an address may be *reached* is policy and belongs to the server's one
//! egress function, which asks [`Address`] for host and port. Secrets never stand here: only references to them.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::error::{Code, Refusal, shown};
use crate::id::SecretId;
use crate::number::E164;

/// The longest URL or SIP URI, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 1024;
/// The longest SIP user name and password, in bytes (RFC 8760 sets none; carriers cut at 255).
pub const SIP_AUTH_BYTES_MAX: usize = 255;
/// How long a target may ring, in seconds, where nothing else is set.
pub const RING_TIMEOUT_S_DEFAULT: u16 = 20;
/// The shortest and longest ring time, in seconds.
pub const RING_TIMEOUT_S: std::ops::RangeInclusive<u16> = 5..=120;

/// Where an agent's calls go. Shared, since drafts, versions and the routes of many numbers hold the same one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Endpoint {
    /// The team's server decides per call.
    Webhook(#[serde(with = "shared")] Arc<Webhook>),
    /// Always the same target.
    Dial(#[serde(with = "shared")] Arc<Dial>),
}

/// A shared thing is written and read as the thing itself.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(thing: &Arc<T>, to: S) -> Result<S::Ok, S::Error> {
        thing.as_ref().serialize(to)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(from).map(Arc::new)
    }
}

/// One target and how long it may ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dial {
    /// What is connected.
    #[serde(flatten)]
    pub target: Target,
    /// How long it may ring before the next is tried, in seconds, within [`RING_TIMEOUT_S`]. A stream does not ring.
    pub ring_timeout_s: u16,
}

/// What a call can be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Target {
    /// A SIP user agent.
    Sip {
        /// Its address.
        uri: SipUri,
        /// The credentials it asks for, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        auth: Option<SipAuth>,
    },
    /// A WebSocket server that speaks the Twilio Media Streams protocol.
    Stream {
        /// Its address.
        url: StreamUrl,
    },
    /// A telephone.
    Phone {
        /// Its number.
        phone_number: E164,
    },
}

crate::words! {
    /// The kinds of endpoint.
    EndpointKind, "endpoint type" {
        /// A SIP user agent.
        Sip = "sip",
        /// A media stream.
        Stream = "stream",
        /// A telephone.
        Phone = "phone",
        /// The team's server decides per call.
        Webhook = "webhook",
    }
}

impl From<Dial> for Endpoint {
    fn from(dial: Dial) -> Self {
        Endpoint::Dial(Arc::new(dial))
    }
}

impl From<Webhook> for Endpoint {
    fn from(webhook: Webhook) -> Self {
        Endpoint::Webhook(Arc::new(webhook))
    }
}

impl Endpoint {
    /// Its kind.
    pub fn kind(&self) -> EndpointKind {
        match self {
            Endpoint::Webhook(_) => EndpointKind::Webhook,
            Endpoint::Dial(dial) => dial.target.kind(),
        }
    }
}

impl Target {
    /// Its kind.
    pub const fn kind(&self) -> EndpointKind {
        match self {
            Target::Sip { .. } => EndpointKind::Sip,
            Target::Stream { .. } => EndpointKind::Stream,
            Target::Phone { .. } => EndpointKind::Phone,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Sip { uri, .. } => f.write_str(uri.as_str()),
            Target::Stream { url } => f.write_str(url.as_str()),
            Target::Phone { phone_number } => phone_number.fmt(f),
        }
    }
}

/// The team's server, asked for each call; `default` is taken when it does not answer in time or makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Where it is asked.
    pub webhook_url: WebhookUrl,
    /// What our requests are signed with (Standard Webhooks), if set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// Taken when the server gives no usable answer; without it the fallback chain follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Dial>,
}

/// The credentials of a SIP target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SipAuth {
    /// The user name.
    pub username: String,
    /// Where the password is kept.
    pub password: SecretRef,
}

/// A stored secret, by reference: its row, and what people may see of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRef {
    /// The row that holds the ciphertext.
    pub id: SecretId,
    /// The last four characters, or fewer of a short secret.
    pub last4: String,
}

/// Host and port of an address that something would connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address.
    pub host: Host,
    /// The port, the scheme's own where none is written.
    pub port: u16,
}

/// A `wss:` URL without a query (carriers drop it); plain `ws:` only to a loopback address and only where that is allowed.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamUrl(String);

/// An `https:` URL; plain `http:` only to a loopback address and only where that is allowed.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WebhookUrl(String);

/// A `sip:` or `sips:` URI with a host, without headers or credentials (RFC 3261 §19.1).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SipUri(String);

/// Whether unencrypted addresses are accepted. Only the demo's settings say [`Plain::ToLoopback`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Never.
    Refuse,
    /// To 127.0.0.0/8, `[::1]` and localhost only.
    ToLoopback,
}

impl StreamUrl {
    /// Reads a stream URL.
    pub fn parse(text: &str, plain: Plain) -> Result<StreamUrl, Refusal> {
        let url = parse_url(text, "wss", "ws", plain)?;
        if url.query().is_some() {
            return Err(Refusal::new(
                Code::UrlQuery,
                format!(
                    "{} has a query string, which carriers drop; send values as `call_parameters`, they arrive in the stream's start message",
                    shown(text)
                ),
            ));
        }
        Ok(StreamUrl(url.into()))
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port.
    pub fn address(&self) -> Address {
        address_of(&self.0)
    }
}

impl WebhookUrl {
    /// Reads a webhook URL.
    pub fn parse(text: &str, plain: Plain) -> Result<WebhookUrl, Refusal> {
        Ok(WebhookUrl(parse_url(text, "https", "http", plain)?.into()))
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port.
    pub fn address(&self) -> Address {
        address_of(&self.0)
    }
}

impl SipUri {
    /// Reads a SIP URI.
    pub fn parse(text: &str) -> Result<SipUri, Refusal> {
        let invalid = |why: &str| {
            Refusal::new(
                Code::UrlInvalid,
                format!(
                    "{} {why}; expected sip:user@host, optionally with :port and ;transport=udp, tcp or tls",
                    shown(text)
                ),
            )
        };
        check_text(text)?;
        let (scheme, rest) = text.split_once(':').ok_or_else(|| invalid("has no scheme"))?;
        if !matches!(scheme, "sip" | "sips") {
            return Err(Refusal::new(
                Code::UrlScheme,
                format!(
                    "{} has the scheme {}; a SIP endpoint takes sip: or sips:",
                    shown(text),
                    shown(scheme)
                ),
            ));
        }
        if rest.contains('?') {
            return Err(invalid("carries headers behind `?`, which are ours to set (use `call_parameters`)"));
        }
        let (user, after) = rest.split_once('@').unwrap_or(("", rest));
        if user.contains(':') {
            return Err(Refusal::new(
                Code::UrlCredentials,
                format!("{} holds a password; use the fields username and password", shown(text)),
            ));
        }
        if !user.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.!~*'()%&=+$,;?/".contains(&b)) {
            return Err(invalid("has characters in its user part that must be %-escaped"));
        }
        let (place, parameters) = after.split_once(';').unwrap_or((after, ""));
        if sip_host(place).is_none() {
            return Err(invalid("has no valid host"));
        }
        for parameter in parameters.split(';').filter(|p| !p.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match name {
                "transport" if matches!(value, "udp" | "tcp" | "tls") => {}
                "transport" => return Err(invalid("names a transport that does not exist")),
                "user" | "lr" => {}
                _ => {
                    return Err(invalid(
                        "has a parameter that is not allowed here (allowed: transport, user, lr)",
                    ));
                }
            }
        }
        Ok(SipUri(text.to_owned()))
    }

    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host and port (5060, or 5061 with TLS, where none is written; RFC 3261 §19.1.2).
    pub fn address(&self) -> Address {
        let rest = self.0.split_once(':').map_or("", |(_, rest)| rest);
        let after = rest.split_once('@').map_or(rest, |(_, after)| after);
        let (place, parameters) = after.split_once(';').unwrap_or((after, ""));
        let secure = self.0.starts_with("sips:") || parameters.split(';').any(|p| p == "transport=tls");
        let (host, port) = sip_host(place).expect("checked when it was parsed");
        Address { host, port: port.unwrap_or(if secure { 5061 } else { 5060 }) }
    }
}

fn sip_host(place: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, Some(port.parse().ok().filter(|&p| p > 0)?))
        }
        _ => (place, None),
    };
    Host::parse(host).ok().map(|host| (host, port))
}

fn check_text(text: &str) -> Result<(), Refusal> {
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(Refusal::new(
            Code::TooLong,
            format!("has {} bytes; an address has at most {ADDRESS_BYTES_MAX}", text.len()),
        ));
    }
    if let Some(c) = text.chars().find(|c| c.is_whitespace() || c.is_control() || !c.is_ascii()) {
        return Err(Refusal::new(
            Code::UrlInvalid,
            format!(
                "{} holds the character U+{:04X}, which an address cannot hold unescaped",
                shown(text),
                c as u32
            ),
        ));
    }
    Ok(())
}

fn parse_url(text: &str, secure: &str, unencrypted: &str, plain: Plain) -> Result<Url, Refusal> {
    check_text(text)?;
    let url = Url::parse(text).map_err(|why| {
        Refusal::new(
            Code::UrlInvalid,
            format!("{} is not a URL ({why}); expected {secure}://host/path", shown(text)),
        )
    })?;
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let allowed =
        url.scheme() == secure || (url.scheme() == unencrypted && loopback && plain == Plain::ToLoopback);
    if !allowed {
        return Err(Refusal::new(
            Code::UrlScheme,
            format!("{} has the scheme {}; only {secure}: is allowed here", shown(text), shown(url.scheme())),
        ));
    }
    if url.host().is_none() {
        return Err(Refusal::new(
            Code::UrlInvalid,
            format!("{} has no host; expected {secure}://host/path", shown(text)),
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::new(
            Code::UrlCredentials,
            "holds a user name or password, which would end up in logs; remove it".to_owned(),
        ));
    }
    if url.fragment().is_some() {
        return Err(Refusal::new(
            Code::UrlInvalid,
            format!("{} has a fragment (#…), which is never sent; remove it", shown(text)),
        ));
    }
    Ok(url)
}

fn address_of(text: &str) -> Address {
    let url = Url::parse(text).expect("checked when it was parsed");
    let port = url.port_or_known_default().expect("http, https, ws and wss have default ports");
    Address { host: url.host().expect("checked when it was parsed").to_owned(), port }
}

macro_rules! shown_as_text {
    ($($name:ident),*) => { $(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )* };
}

shown_as_text!(StreamUrl, WebhookUrl, SipUri);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_urls_are_wss_without_query() {
        assert!(StreamUrl::parse("wss://agent.example/media", Plain::Refuse).is_ok());
        for (text, code) in [
            ("wss://agent.example/media?x=1", Code::UrlQuery),
            ("ws://agent.example/", Code::UrlScheme),
            ("ws://127.0.0.1:9/", Code::UrlScheme),
            ("https://agent.example/", Code::UrlScheme),
            ("wss://u:p@agent.example/", Code::UrlCredentials),
            ("wss://agent.example/#x", Code::UrlInvalid),
            ("agent.example", Code::UrlInvalid),
            ("wss:// agent.example/", Code::UrlInvalid),
        ] {
            assert_eq!(StreamUrl::parse(text, Plain::Refuse).unwrap_err().code, code, "{text}");
        }
        assert!(StreamUrl::parse("ws://127.0.0.1:9/x", Plain::ToLoopback).is_ok());
        assert!(StreamUrl::parse("ws://10.0.0.1:9/x", Plain::ToLoopback).is_err());
    }

    #[test]
    fn sip_uris_know_where_they_lead() {
        for (text, host, port) in [
            ("sip:support@sip.agent.example", "sip.agent.example", 5060),
            ("sip:support@sip.agent.example;transport=tls", "sip.agent.example", 5061),
            ("sips:a@h.example", "h.example", 5061),
            ("sip:h.example:5080", "h.example", 5080),
            ("sip:+14385950345@[2001:db8::1]:5080;transport=tcp", "[2001:db8::1]", 5080),
        ] {
            let address = SipUri::parse(text).unwrap().address();
            assert_eq!((address.host.to_string().as_str(), address.port), (host, port), "{text}");
        }
        for text in [
            "sip:",
            "sip:a@",
            "tel:+1438",
            "sip:a:b@h",
            "sip:a@h?X=1",
            "sip:a@h:0",
            "sip:a@h:70000",
            "sip:a@h;maddr=1.2.3.4",
            "sip:a b@h",
            "sip:a@[::1",
        ] {
            assert!(SipUri::parse(text).is_err(), "{text}");
        }
    }
}
