//! Headers, understood when they are asked for.
//!
//! Each view borrows from the message and copies nothing. A header that may stand only once is an error when it
//! stands twice: two Content-Lengths or two Froms are how messages are smuggled past one parser into another.

pub mod address;
pub mod name;
pub mod via;

use std::fmt;

use crate::header::address::Address;
use crate::header::name::Name;
use crate::header::via::Via;
use crate::limits::{CSEQ_MAX, MESSAGE_BYTES_MAX};
use crate::message::Message;
use crate::method::Method;
use crate::scan::{Scan, Values, any, number, trim};

/// What is wrong with a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It has to be there and is not.
    Missing,
    /// It may stand once and stands more often.
    Repeated,
    /// Its value breaks its grammar or a limit.
    Invalid,
}

/// A header that cannot be used, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeaderError {
    /// Which header.
    pub name: Name,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = match self.fault {
            Fault::Missing => "Missing",
            Fault::Repeated => "Repeated",
            Fault::Invalid => "Invalid",
        };
        write!(f, "{fault} {} Header", self.name.as_str())
    }
}

impl std::error::Error for HeaderError {}

pub(crate) fn invalid(name: Name) -> HeaderError {
    HeaderError { name, fault: Fault::Invalid }
}

/// A CSeq header (RFC 3261 §20.16).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CSeq<'a> {
    /// The number, below 2**31.
    pub number: u32,
    /// The method.
    pub method: Method,
    /// The method as written.
    pub method_text: &'a [u8],
}

/// The headers that every message has to have (RFC 3261 §8.1.1), read once for all who ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Essentials<'a> {
    pub(crate) via: Via<'a>,
    pub(crate) from: Address<'a>,
    pub(crate) to: Address<'a>,
    pub(crate) call_id: &'a [u8],
    pub(crate) cseq: CSeq<'a>,
}

impl<'a> Essentials<'a> {
    /// Reads those that stand beside the top Via.
    pub(crate) fn read(message: &'a Message, via: Via<'a>) -> Result<Essentials<'a>, HeaderError> {
        let (from, to) = (message.from()?, message.to()?);
        Ok(Essentials { via, from, to, call_id: message.call_id()?, cseq: message.cseq()? })
    }
}

impl Message {
    pub(crate) fn essentials(&self) -> Result<Essentials<'_>, HeaderError> {
        Essentials::read(self, self.via_top()?)
    }

    /// The value of a header that must stand exactly once.
    pub fn single(&self, name: Name) -> Result<&[u8], HeaderError> {
        self.optional(name)?.ok_or(HeaderError { name, fault: Fault::Missing })
    }

    /// The value of a header that may stand once.
    pub fn optional(&self, name: Name) -> Result<Option<&[u8]>, HeaderError> {
        let mut lines = self.lines(name);
        let first = lines.next();
        if self.index.may_repeat(name) && lines.next().is_some() {
            Err(HeaderError { name, fault: Fault::Repeated })
        } else {
            Ok(first)
        }
    }

    /// The elements of a header that may be joined by commas or stand several times, in order.
    pub fn list(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.lines(name).flat_map(Values::of)
    }

    /// The top Via: who sent this to us, and where a response goes.
    pub fn via_top(&self) -> Result<Via<'_>, HeaderError> {
        self.vias().next().unwrap_or(Err(HeaderError { name: Name::Via, fault: Fault::Missing }))
    }

    /// All Via values from the top.
    pub fn vias(&self) -> impl Iterator<Item = Result<Via<'_>, HeaderError>> {
        self.list(Name::Via).map(|value| Via::parse(value).ok_or(invalid(Name::Via)))
    }

    /// Who sends the request.
    pub fn from(&self) -> Result<Address<'_>, HeaderError> {
        self.address(Name::From)
    }

    /// Whom the request is for.
    pub fn to(&self) -> Result<Address<'_>, HeaderError> {
        self.address(Name::To)
    }

    /// The address in a header that stands once: From, To, Refer-To, Referred-By.
    pub fn address(&self, name: Name) -> Result<Address<'_>, HeaderError> {
        Address::parse(self.single(name)?).ok_or(invalid(name))
    }

    /// The addresses in a header that lists them: Contact, Route, Record-Route, P-Asserted-Identity, Diversion.
    pub fn addresses(&self, name: Name) -> impl Iterator<Item = Result<Address<'_>, HeaderError>> {
        self.list(name).map(move |value| Address::parse(value).ok_or(invalid(name)))
    }

    /// The Contact values. `Contact: *` comes as an address whose URI is `*`.
    pub fn contacts(&self) -> impl Iterator<Item = Result<Address<'_>, HeaderError>> {
        self.addresses(Name::Contact)
    }

    /// The Route values, the next hop first.
    pub fn routes(&self) -> impl Iterator<Item = Result<Address<'_>, HeaderError>> {
        self.addresses(Name::Route)
    }

    /// The Call-ID.
    pub fn call_id(&self) -> Result<&[u8], HeaderError> {
        let value = self.single(Name::CallId)?;
        let is_word = !value.is_empty() && !any(value, |byte| byte <= b' ' || byte == 0x7f);
        if is_word { Ok(value) } else { Err(invalid(Name::CallId)) }
    }

    /// The CSeq.
    pub fn cseq(&self) -> Result<CSeq<'_>, HeaderError> {
        let mut scan = Scan::new(self.single(Name::CSeq)?);
        let digits = scan.take_while(|byte| byte.is_ascii_digit());
        let spaced = scan.peek().is_some_and(crate::scan::is_space);
        scan.space();
        let mut read = || {
            let number = u32::try_from(number(digits, u64::from(CSEQ_MAX))?).ok()?;
            let method_text = scan.token()?;
            (spaced && scan.is_done()).then_some(CSeq {
                number,
                method: Method::read(method_text),
                method_text,
            })
        };
        read().ok_or(invalid(Name::CSeq))
    }

    /// Max-Forwards, 0 to 255.
    pub fn max_forwards(&self) -> Result<Option<u8>, HeaderError> {
        let value = self.number(Name::MaxForwards, u64::from(u8::MAX))?;
        Ok(value.and_then(|value| u8::try_from(value).ok()))
    }

    /// Content-Length. Values that no message of ours can have are invalid.
    pub fn content_length(&self) -> Result<Option<usize>, HeaderError> {
        let value = self.number(Name::ContentLength, MESSAGE_BYTES_MAX as u64)?;
        Ok(value.and_then(|value| usize::try_from(value).ok()))
    }

    /// Expires, in seconds. RFC 3261 §20.19: up to 2**32-1.
    pub fn expires(&self) -> Result<Option<u32>, HeaderError> {
        let value = self.number(Name::Expires, u64::from(u32::MAX))?;
        Ok(value.and_then(|value| u32::try_from(value).ok()))
    }

    /// Min-Expires, in seconds.
    pub fn min_expires(&self) -> Result<Option<u32>, HeaderError> {
        let value = self.number(Name::MinExpires, u64::from(u32::MAX))?;
        Ok(value.and_then(|value| u32::try_from(value).ok()))
    }

    /// Retry-After, in seconds; a comment or parameters behind the number are passed over.
    pub fn retry_after(&self) -> Result<Option<u32>, HeaderError> {
        let Some(value) = self.optional(Name::RetryAfter)? else { return Ok(None) };
        let digits = Scan::new(value).take_while(|byte| byte.is_ascii_digit());
        let seconds = number(digits, u64::from(u32::MAX)).and_then(|value| u32::try_from(value).ok());
        seconds.map(Some).ok_or(invalid(Name::RetryAfter))
    }

    fn number(&self, name: Name, max: u64) -> Result<Option<u64>, HeaderError> {
        match self.optional(name)? {
            None => Ok(None),
            Some(value) => number(trim(value), max).map(Some).ok_or(invalid(name)),
        }
    }

    /// Option tags of Require, Proxy-Require, Supported or Unsupported.
    pub fn option_tags(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.list(name)
    }

    /// Whether an option tag is in a list header, in any case.
    pub fn has_option(&self, name: Name, tag: &str) -> bool {
        self.option_tags(name).any(|found| found.eq_ignore_ascii_case(tag.as_bytes()))
    }

    /// Content-Type without its parameters, white space taken out of it.
    pub fn content_type(&self) -> Option<&[u8]> {
        let value = self.lines(Name::ContentType).next()?;
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        Some(trim(&value[..end]))
    }
}
