//! Writes TwiML, the XML in which a carrier is told what to do with a call. What is told is decided elsewhere.
//!
//! See <https://www.twilio.com/docs/voice/twiml>.

use std::borrow::Cow;
use std::fmt::Write as _;

use domain::agent::Language;
use domain::endpoint::{SipUri, StreamUrl};
use domain::number::E164;
use secrecy::{ExposeSecret as _, SecretString};

/// Carriers take at most so much of a SIP URI, its headers included.
const SIP_URI_BYTES_MAX: usize = 1024;
/// The languages that are spoken without naming a voice; the first of a language is its default.
const SPOKEN: &[&str] = &[
    "en-US", "en-GB", "en-AU", "en-CA", "en-IN", "fr-FR", "fr-CA", "es-ES", "es-MX", "es-US", "de-DE",
    "it-IT", "pt-BR", "pt-PT", "nl-NL", "da-DK", "sv-SE", "nb-NO", "fi-FI", "pl-PL", "ru-RU", "ja-JP",
    "ko-KR", "zh-CN", "zh-HK", "zh-TW", "ca-ES",
];

/// One target with everything that dialling it needs.
#[derive(Clone, Debug)]
pub enum Leg {
    /// A media stream.
    Stream {
        /// Its address.
        url: StreamUrl,
    },
    /// A SIP user agent.
    Sip {
        /// Its address.
        uri: SipUri,
        /// User name and password.
        auth: Option<(String, SecretString)>,
    },
    /// A telephone.
    Phone {
        /// Its number.
        phone_number: E164,
    },
}

/// A name and its value, as they travel along with a call.
pub type Value<'v> = (Cow<'v, str>, Cow<'v, str>);

/// A document: told what to do, top to bottom. At its end the call ends.
#[derive(Debug)]
pub struct Document(String);

impl Document {
    /// Ends the call.
    pub fn hang_up() -> Document {
        Document("<Response/>".to_owned())
    }

    /// Refuses a call that was not answered yet; it costs nothing.
    pub fn reject() -> Document {
        Document("<Response><Reject/></Response>".to_owned())
    }

    /// Speaks a message and ends the call.
    pub fn say(message: &str, language: Option<&Language>) -> Document {
        let mut xml = Writer::new();
        xml.open("Say");
        if let Some(language) = language.and_then(spoken) {
            xml.attribute("language", language);
        }
        xml.text(message);
        xml.close("Say");
        xml.finish()
    }

    /// Connects the call to one target. `action` is asked what comes next when that has ended or failed. `values` travel along,
    /// the most important first: as parameters of a stream, as `X-` headers of a SIP call.
    pub fn connect(leg: &Leg, ring_timeout_s: u16, action: &str, values: &[Value<'_>]) -> Document {
        let mut xml = Writer::new();
        match leg {
            Leg::Stream { url } => {
                xml.open("Connect");
                xml.attribute("action", action);
                xml.attribute("method", "POST");
                xml.open("Stream");
                xml.attribute("url", url.as_str());
                for (name, value) in values {
                    xml.open("Parameter");
                    xml.attribute("name", name);
                    xml.attribute("value", value);
                    xml.close("Parameter");
                }
                xml.close("Stream");
                xml.close("Connect");
            }
            Leg::Sip { uri, auth } => {
                xml.dial(ring_timeout_s, action);
                xml.open("Sip");
                if let Some((username, password)) = auth {
                    xml.attribute("username", username);
                    xml.attribute("password", password.expose_secret());
                }
                xml.text(&with_headers(uri, values));
                xml.close("Sip");
                xml.close("Dial");
            }
            Leg::Phone { phone_number } => {
                xml.dial(ring_timeout_s, action);
                xml.open("Number");
                xml.text(&phone_number.to_string());
                xml.close("Number");
                xml.close("Dial");
            }
        }
        xml.finish()
    }

    /// The XML.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// The nearest language that is spoken: the very tag, or the first of its language.
fn spoken(language: &Language) -> Option<&'static str> {
    let tag = language.as_str();
    let base = tag.split('-').next().unwrap_or(tag);
    let of_base = |known: &&&str| known.split('-').next() == Some(base);
    SPOKEN.iter().find(|known| **known == tag).or_else(|| SPOKEN.iter().find(of_base)).copied()
}

/// A SIP URI with values as `X-` headers, as many as fit.
fn with_headers(uri: &SipUri, values: &[Value<'_>]) -> String {
    let mut text = uri.as_str().to_owned();
    let mut joint = '?';
    for (name, value) in values {
        let mut header = String::new();
        let _ = write!(header, "{joint}X-{}=", header_name(name));
        escape_into(&mut header, value);
        if text.len() + header.len() <= SIP_URI_BYTES_MAX {
            text.push_str(&header);
            joint = '&';
        }
    }
    text
}

/// `switchboard_call` travels as `X-Switchboard-Call`.
fn header_name(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        })
        .collect::<Vec<_>>()
        .join("-")
}

/// Escapes what a SIP URI's header values cannot hold (RFC 3261 §25.1: `hnv-unreserved`, `unreserved`).
fn escape_into(text: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// XML as it grows. A start tag stays open for attributes until content or its end comes.
struct Writer {
    xml: String,
    tag_open: bool,
}

impl Writer {
    fn new() -> Writer {
        // A stream with its parameters takes about a thousand bytes.
        let mut xml = String::with_capacity(1024);
        xml.push_str("<Response>");
        Writer { xml, tag_open: false }
    }

    fn dial(&mut self, ring_timeout_s: u16, action: &str) {
        self.open("Dial");
        // The caller hears ringing, and pays, only once somebody answers.
        self.attribute("answerOnBridge", "true");
        self.attribute("timeout", &ring_timeout_s.to_string());
        self.attribute("action", action);
        self.attribute("method", "POST");
    }

    fn open(&mut self, name: &str) {
        self.tag_end();
        self.xml.push('<');
        self.xml.push_str(name);
        self.tag_open = true;
    }

    fn attribute(&mut self, name: &str, value: &str) {
        let _ = write!(self.xml, " {name}=\"");
        self.escaped(value);
        self.xml.push('"');
    }

    fn text(&mut self, text: &str) {
        self.tag_end();
        self.escaped(text);
    }

    fn close(&mut self, name: &str) {
        if std::mem::take(&mut self.tag_open) {
            self.xml.push_str("/>");
        } else {
            let _ = write!(self.xml, "</{name}>");
        }
    }

    fn tag_end(&mut self) {
        if std::mem::take(&mut self.tag_open) {
            self.xml.push('>');
        }
    }

    fn escaped(&mut self, text: &str) {
        // Nearly all text has nothing to escape, and is taken in pieces.
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !b"&<>\"".contains(byte);
        let mut rest = text;
        loop {
            let plain = rest.bytes().position(|byte| !is_plain(&byte)).unwrap_or(rest.len());
            self.xml.push_str(&rest[..plain]);
            rest = &rest[plain..];
            let Some(c) = rest.chars().next() else { return };
            rest = &rest[c.len_utf8()..];
            match c {
                '&' => self.xml.push_str("&amp;"),
                '<' => self.xml.push_str("&lt;"),
                '>' => self.xml.push_str("&gt;"),
                '"' => self.xml.push_str("&quot;"),
                // White space that an attribute's reader would fold, and what XML 1.0 §2.2 cannot hold at all.
                '\t' | '\n' | '\r' => {
                    let _ = write!(self.xml, "&#{};", c as u32);
                }
                c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => {}
                c => self.xml.push(c),
            }
        }
    }

    fn finish(mut self) -> Document {
        self.xml.push_str("</Response>");
        Document(self.xml)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::endpoint::Plain;
    use expect_test::{Expect, expect};

    fn check(document: Document, expect: &Expect) {
        expect.assert_eq(&document.into_string());
    }

    fn values() -> Vec<Value<'static>> {
        [("switchboard_call", "cal_1"), ("site", "Montréal & <co>"), ("Queue-Name", "a b")]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec()
    }

    const ACTION: &str = "https://pbx.example/callbacks/twilio/t/voice-after?call=cal_1&step=0";

    #[test]
    fn each_kind_of_target_is_written_as_the_carrier_reads_it() {
        let stream =
            Leg::Stream { url: StreamUrl::parse("wss://agent.example/media", Plain::Refuse).unwrap() };
        check(
            Document::connect(&stream, 20, ACTION, &values()),
            &expect![[
                r#"<Response><Connect action="https://pbx.example/callbacks/twilio/t/voice-after?call=cal_1&amp;step=0" method="POST"><Stream url="wss://agent.example/media"><Parameter name="switchboard_call" value="cal_1"/><Parameter name="site" value="Montréal &amp; &lt;co&gt;"/><Parameter name="Queue-Name" value="a b"/></Stream></Connect></Response>"#
            ]],
        );
        let uri = SipUri::parse("sip:support@agents.example;transport=tls").unwrap();
        let sip = Leg::Sip { uri: uri.clone(), auth: Some(("user".to_owned(), SecretString::from("p\"<&"))) };
        check(
            Document::connect(&sip, 15, ACTION, &values()),
            &expect![[
                r#"<Response><Dial answerOnBridge="true" timeout="15" action="https://pbx.example/callbacks/twilio/t/voice-after?call=cal_1&amp;step=0" method="POST"><Sip username="user" password="p&quot;&lt;&amp;">sip:support@agents.example;transport=tls?X-Switchboard-Call=cal_1&amp;X-Site=Montr%C3%A9al%20%26%20%3Cco%3E&amp;X-Queue-Name=a%20b</Sip></Dial></Response>"#
            ]],
        );
        check(
            Document::connect(&Leg::Sip { uri, auth: None }, 15, ACTION, &[]),
            &expect![[
                r#"<Response><Dial answerOnBridge="true" timeout="15" action="https://pbx.example/callbacks/twilio/t/voice-after?call=cal_1&amp;step=0" method="POST"><Sip>sip:support@agents.example;transport=tls</Sip></Dial></Response>"#
            ]],
        );
        let phone = Leg::Phone { phone_number: "+14385950345".parse().unwrap() };
        check(
            Document::connect(&phone, 25, ACTION, &values()),
            &expect![[
                r#"<Response><Dial answerOnBridge="true" timeout="25" action="https://pbx.example/callbacks/twilio/t/voice-after?call=cal_1&amp;step=0" method="POST"><Number>+14385950345</Number></Dial></Response>"#
            ]],
        );
    }

    #[test]
    fn messages_are_spoken_in_the_nearest_language() {
        let say = |message: &str, language: &str| {
            Document::say(message, Language::parse(language).ok().as_ref()).into_string()
        };
        assert_eq!(say("Désolé.", "fr-CA"), r#"<Response><Say language="fr-CA">Désolé.</Say></Response>"#);
        assert_eq!(say("Désolé.", "fr"), r#"<Response><Say language="fr-FR">Désolé.</Say></Response>"#);
        assert_eq!(say("Hm.", "en-ZA"), r#"<Response><Say language="en-US">Hm.</Say></Response>"#);
        assert_eq!(say("Hm.", "tlh"), r"<Response><Say>Hm.</Say></Response>");
        assert_eq!(
            say("a\u{0}b\nc</Say><Dial>", ""),
            r"<Response><Say>ab&#10;c&lt;/Say&gt;&lt;Dial&gt;</Say></Response>"
        );
        assert_eq!(Document::reject().into_string(), "<Response><Reject/></Response>");
        assert_eq!(Document::hang_up().into_string(), "<Response/>");
    }

    #[test]
    fn headers_that_do_not_fit_are_left_out() {
        let values: Vec<Value<'_>> =
            (0..20).map(|n| (format!("name{n}").into(), "é".repeat(40).into())).collect();
        let uri = SipUri::parse("sip:a@agents.example").unwrap();
        let text = with_headers(&uri, &values);
        assert!(text.len() <= SIP_URI_BYTES_MAX && text.len() > SIP_URI_BYTES_MAX - 300);
        assert!(text.contains("X-Name0=%C3%A9"));
    }
}
