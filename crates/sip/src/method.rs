//! Request methods (RFC 3261 §7.1 and the RFCs that added to them). Methods are case-sensitive.

use std::fmt;

/// A request's method. What we have no name for is [`Method::Other`]; its text stays in the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[expect(missing_docs, reason = "each variant is the method of its name")]
pub enum Method {
    Invite,
    Ack,
    Cancel,
    Bye,
    Options,
    Register,
    Prack,
    Update,
    Info,
    Refer,
    Notify,
    Subscribe,
    Message,
    Publish,
    Other,
}

impl Method {
    /// Every method with a name of its own.
    pub const NAMED: [Method; 14] = [
        Method::Invite,
        Method::Ack,
        Method::Cancel,
        Method::Bye,
        Method::Options,
        Method::Register,
        Method::Prack,
        Method::Update,
        Method::Info,
        Method::Refer,
        Method::Notify,
        Method::Subscribe,
        Method::Message,
        Method::Publish,
    ];

    /// Reads a method's text.
    pub fn read(text: &[u8]) -> Method {
        match text {
            b"INVITE" => Method::Invite,
            b"ACK" => Method::Ack,
            b"CANCEL" => Method::Cancel,
            b"BYE" => Method::Bye,
            b"OPTIONS" => Method::Options,
            b"REGISTER" => Method::Register,
            b"PRACK" => Method::Prack,
            b"UPDATE" => Method::Update,
            b"INFO" => Method::Info,
            b"REFER" => Method::Refer,
            b"NOTIFY" => Method::Notify,
            b"SUBSCRIBE" => Method::Subscribe,
            b"MESSAGE" => Method::Message,
            b"PUBLISH" => Method::Publish,
            _ => Method::Other,
        }
    }

    /// The text on the wire. [`Method::Other`] has none of its own.
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Invite => "INVITE",
            Method::Ack => "ACK",
            Method::Cancel => "CANCEL",
            Method::Bye => "BYE",
            Method::Options => "OPTIONS",
            Method::Register => "REGISTER",
            Method::Prack => "PRACK",
            Method::Update => "UPDATE",
            Method::Info => "INFO",
            Method::Refer => "REFER",
            Method::Notify => "NOTIFY",
            Method::Subscribe => "SUBSCRIBE",
            Method::Message => "MESSAGE",
            Method::Publish => "PUBLISH",
            Method::Other => "OTHER",
        }
    }

    fn bit(self) -> u16 {
        1 << (self as u8)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of methods, such as those that an endpoint takes from outside a dialog.
///
/// ```
/// use sip::{Method, MethodSet};
/// let set = MethodSet::of(&[Method::Invite, Method::Options]);
/// assert!(set.contains(Method::Invite) && !set.contains(Method::Register));
/// assert_eq!(set.to_string(), "INVITE, OPTIONS");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MethodSet(u16);

impl MethodSet {
    /// The set of these.
    pub fn of(methods: &[Method]) -> MethodSet {
        MethodSet(methods.iter().fold(0, |bits, method| bits | method.bit()))
    }

    /// Whether `method` is one of the set.
    pub fn contains(self, method: Method) -> bool {
        self.0 & method.bit() != 0
    }
}

impl fmt::Display for MethodSet {
    /// As an Allow header's value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for method in Method::NAMED.into_iter().filter(|&method| self.contains(method)) {
            f.write_str(if first { "" } else { ", " })?;
            f.write_str(method.as_str())?;
            first = false;
        }
        Ok(())
    }
}
