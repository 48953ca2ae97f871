//! SIP and tel URIs (RFC 3261 §19.1, RFC 3966).
//!
//! Parsing checks the grammar and finds the parts; escapes stay as written until [`unescape`] is asked to undo them.
//! What a phone number in a user part means is [`crate::number`]'s business.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;

use crate::header::via::read_port;
use crate::limits::URI_PARAMS_MAX;
use crate::scan::Params;
use crate::work;

/// A URI, its parts borrowed from the message.
#[derive(Clone, Copy, Debug)]
pub enum Uri<'a> {
    /// `sip:` or `sips:`.
    Sip(SipUri<'a>),
    /// `tel:`.
    Tel(TelUri<'a>),
    /// Any other scheme.
    Other {
        /// The scheme as written.
        scheme: &'a [u8],
        /// What stands behind the colon.
        rest: &'a [u8],
    },
}

/// `sip:user:password@host:port;params?headers`.
#[derive(Clone, Copy, Debug)]
pub struct SipUri<'a> {
    /// `sips:`.
    pub secure: bool,
    /// The user part as written; it may hold parameters of its own (`+1438…;npdi`).
    pub user: Option<&'a [u8]>,
    /// Deprecated, and never logged.
    pub password: Option<&'a [u8]>,
    /// Where it lives.
    pub host: Host<'a>,
    /// The port, if one is written.
    pub port: Option<u16>,
    /// `transport`, `lr`, `user`, … .
    pub params: Params<'a>,
    /// What stands behind the question mark.
    pub headers: &'a [u8],
}

/// `tel:+1-438-595-0345;params`.
#[derive(Clone, Copy, Debug)]
pub struct TelUri<'a> {
    /// The digits as written, with their visual separators.
    pub number: &'a [u8],
    /// `phone-context`, `ext`, `rn`, … .
    pub params: Params<'a>,
}

/// A host name or an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Host<'a> {
    /// A name, as written.
    Name(&'a [u8]),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address (written in brackets).
    V6(Ipv6Addr),
}

/// Where a URI breaks the grammar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UriError {
    /// There is no scheme.
    Scheme,
    /// The user part or password has a byte or an escape that may not be there.
    User,
    /// The host is neither a name nor an address.
    Host,
    /// The port is not 1 to 65535.
    Port,
    /// A parameter breaks the grammar.
    Param,
    /// The headers behind the question mark break the grammar.
    Header,
}

impl std::fmt::Display for UriError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            UriError::Scheme => "URI without a scheme",
            UriError::User => "Bad user in URI",
            UriError::Host => "Bad host in URI",
            UriError::Port => "Bad port in URI",
            UriError::Param => "Bad parameter in URI",
            UriError::Header => "Bad headers in URI",
        })
    }
}

impl std::error::Error for UriError {}

impl<'a> Uri<'a> {
    /// Reads a URI.
    ///
    /// ```
    /// use sip::uri::{Host, Uri};
    /// let Ok(Uri::Sip(uri)) = Uri::parse(b"sip:+14385950345;npdi@[2001:db8::1]:5070;transport=tcp") else { panic!() };
    /// assert_eq!(uri.user, Some(&b"+14385950345;npdi"[..]));
    /// assert_eq!(uri.host, Host::V6("2001:db8::1".parse()?));
    /// assert_eq!(uri.params.find("transport"), Some(&b"tcp"[..]));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn parse(text: &'a [u8]) -> Result<Uri<'a>, UriError> {
        let colon = memchr::memchr(b':', text).ok_or(UriError::Scheme)?;
        let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
        let well_formed = scheme.first().is_some_and(u8::is_ascii_alphabetic)
            && scheme.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        if !well_formed {
            return Err(UriError::Scheme);
        }
        work::visited(text.len());
        if scheme.eq_ignore_ascii_case(b"sip") {
            SipUri::parse(rest, false).map(Uri::Sip)
        } else if scheme.eq_ignore_ascii_case(b"sips") {
            SipUri::parse(rest, true).map(Uri::Sip)
        } else if scheme.eq_ignore_ascii_case(b"tel") {
            TelUri::parse(rest).map(Uri::Tel)
        } else {
            Ok(Uri::Other { scheme, rest })
        }
    }

    /// The `sip:` or `sips:` URI, if it is one.
    pub fn as_sip(&self) -> Option<&SipUri<'a>> {
        if let Uri::Sip(uri) = self { Some(uri) } else { None }
    }

    /// Whether both mean the same (RFC 3261 §19.1.4). Other schemes compare byte for byte.
    pub fn is_equivalent(&self, other: &Uri<'_>) -> bool {
        match (self, other) {
            (Uri::Sip(a), Uri::Sip(b)) => a.is_equivalent(b),
            (Uri::Tel(a), Uri::Tel(b)) => {
                let digits = |number: &[u8]| -> Vec<u8> {
                    number.iter().filter(|b| !is_separator(**b)).map(u8::to_ascii_lowercase).collect()
                };
                digits(a.number) == digits(b.number) && a.params.text().eq_ignore_ascii_case(b.params.text())
            }
            (Uri::Other { scheme: a, rest: x }, Uri::Other { scheme: b, rest: y }) => {
                a.eq_ignore_ascii_case(b) && x == y
            }
            _ => false,
        }
    }
}

impl<'a> SipUri<'a> {
    fn parse(rest: &'a [u8], secure: bool) -> Result<SipUri<'a>, UriError> {
        let (userinfo, rest) = match memchr::memchr(b'@', rest) {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        };
        let (user, password) = match userinfo {
            None => (None, None),
            Some(info) => match memchr::memchr(b':', info) {
                Some(colon) => (Some(&info[..colon]), Some(&info[colon + 1..])),
                None => (Some(info), None),
            },
        };
        // RFC 3261 §25.1: user = 1*( unreserved / escaped / user-unreserved ), where ; and ? may stand too. An empty
        // user is sent by some callers who withhold their number; it is taken as none.
        if !fits(user.unwrap_or_default(), USER) || !fits(password.unwrap_or_default(), PASSWORD) {
            return Err(UriError::User);
        }
        let host_end = if rest.first() == Some(&b'[') {
            memchr::memchr(b']', rest).ok_or(UriError::Host)? + 1
        } else {
            rest.iter().position(|b| matches!(b, b':' | b';' | b'?')).unwrap_or(rest.len())
        };
        let host = Host::parse(&rest[..host_end]).ok_or(UriError::Host)?;
        let mut rest = &rest[host_end..];
        let mut port = None;
        if let [b':', after @ ..] = rest {
            let end = after.iter().position(|b| !b.is_ascii_digit()).unwrap_or(after.len());
            port = Some(read_port(&after[..end]).ok_or(UriError::Port)?);
            rest = &after[end..];
        }
        let (params, headers) = match memchr::memchr(b'?', rest) {
            Some(mark) => (&rest[..mark], &rest[mark + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        let whole = fits(params, PARAMS);
        let params = Params::of(params);
        if !whole || !are_good(params) {
            return Err(UriError::Param);
        }
        if !fits(headers, HEADERS) {
            return Err(UriError::Header);
        }
        let user = user.filter(|user| !user.is_empty());
        Ok(SipUri { secure, user, password, host, port, params, headers })
    }

    /// Whether the `lr` parameter says that this proxy is a loose router.
    pub fn is_loose(&self) -> bool {
        self.params.find("lr").is_some()
    }

    /// RFC 3261 §19.1.4.
    fn is_equivalent(&self, other: &SipUri<'_>) -> bool {
        let same_text = |a: Option<&[u8]>, b: Option<&[u8]>| match (a, b) {
            (Some(a), Some(b)) => unescape(a) == unescape(b),
            (None, None) => true,
            _ => false,
        };
        if self.secure != other.secure
            || self.port != other.port
            || !self.host.is_same(&other.host)
            || !same_text(self.user, other.user)
            || !same_text(self.password, other.password)
        {
            return false;
        }
        // What is written alike is alike, even where a name stands twice, which §19.1.1 forbids.
        if self.params.text() == other.params.text() && self.headers == other.headers {
            return true;
        }
        // A parameter in both must match; those that decide must be in both or in none, all but `lr`; others in one only
        // are ignored.
        let agrees = |a: &SortedParams<'_>, b: &SortedParams<'_>| {
            a.iter().all(|(name, value)| match b.binary_search_by(|(other, _)| in_order(other, name)) {
                Ok(at) => b[at].1.eq_ignore_ascii_case(value),
                Err(_) => deciding(name).is_none_or(|name| name == "lr"),
            })
        };
        self.headers == other.headers
            && matches!(
                (sorted(self.params), sorted(other.params)),
                (Some(a), Some(b)) if agrees(&a, &b) && agrees(&b, &a)
            )
    }
}

type SortedParams<'a> = ArrayVec<(&'a [u8], &'a [u8]), URI_PARAMS_MAX>;

/// The parameters by name, or `None` if they are too many to be compared or one of them stands twice.
fn sorted(params: Params<'_>) -> Option<SortedParams<'_>> {
    let mut all = ArrayVec::new();
    for (name, value) in params.flatten() {
        all.try_push((name, value.unwrap_or_default())).ok()?;
    }
    all.sort_unstable_by(|(a, _), (b, _)| in_order(a, b));
    all.is_sorted_by(|(a, _), (b, _)| in_order(a, b).is_lt()).then_some(all)
}

/// Lengths first: most names differ in them.
fn in_order(a: &[u8], b: &[u8]) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| {
        work::visited(a.len());
        a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase))
    })
}

/// Parameters by which it is decided where a request goes and what it means.
const DECIDING: [&str; 6] = ["lr", "ttl", "user", "maddr", "method", "transport"];

fn deciding(name: &[u8]) -> Option<&'static str> {
    DECIDING.into_iter().find(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Whether all keep to the grammar and none that decides stands twice with two values: whoever reads the last one would
/// send elsewhere than we do. (RFC 3261 §19.1.1 lets none stand twice at all, but what rewrites URIs on the way may
/// write `user=phone` into one that has it, and neither end could mend that.)
fn are_good(params: Params<'_>) -> bool {
    params.read_alike(DECIDING).is_some()
}

impl<'a> TelUri<'a> {
    fn parse(rest: &'a [u8]) -> Result<TelUri<'a>, UriError> {
        let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
        let (number, params) = (&rest[..end], Params::of(&rest[end..]));
        let digits = number.strip_prefix(b"+").unwrap_or(number);
        if digits.is_empty()
            || !digits.iter().all(|&b| b.is_ascii_hexdigit() || is_separator(b) || matches!(b, b'*' | b'#'))
        {
            return Err(UriError::User);
        }
        // RFC 3966 §3 lets no parameter stand twice; these say which number is meant.
        let once = params.read_alike(["phone-context", "ext", "isub", "rn", "cic", "npdi"]);
        if once.is_none() || !escapes_are_whole(params.text()) {
            return Err(UriError::Param);
        }
        Ok(TelUri { number, params })
    }
}

impl<'a> Host<'a> {
    /// Reads a host: a name of letters, digits and hyphens whose last label begins with a letter, an IPv4 address,
    /// or an IPv6 address in brackets (RFC 3261 §25.1).
    pub fn parse(text: &'a [u8]) -> Option<Host<'a>> {
        if let Some(inside) = text.strip_prefix(b"[") {
            return read_v6(inside.strip_suffix(b"]")?).map(Host::V6);
        }
        // No name's last label begins with a digit, so what reads as an address is one.
        if text.first()?.is_ascii_digit()
            && let Some(ip) = read_v4(text)
        {
            return Some(Host::V4(ip));
        }
        let name = text.strip_suffix(b".").unwrap_or(text);
        let last = memchr::memrchr(b'.', name).map_or(name, |dot| &name[dot + 1..]);
        if !last.first()?.is_ascii_alphabetic() {
            return None;
        }
        let label_is_good = |label: &[u8]| {
            label.first().is_some_and(u8::is_ascii_alphanumeric)
                && label.last().is_some_and(u8::is_ascii_alphanumeric)
                && label.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-')
        };
        (name.len() <= 253 && name.split(|&b| b == b'.').all(label_is_good)).then_some(Host::Name(text))
    }

    /// The address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Host::Name(_) => None,
            Host::V4(ip) => Some(IpAddr::V4(*ip)),
            Host::V6(ip) => Some(IpAddr::V6(*ip)),
        }
    }

    /// Whether both are the same host; names compare in any case.
    pub fn is_same(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            _ => self.ip().is_some() && self.ip() == other.ip(),
        }
    }
}

/// An IPv6 address without its brackets. RFC 3261's grammar makes three colons of two where an IPv4 address follows,
/// and RFC 5118 §4.10 wants that tolerated.
fn read_v6(inside: &[u8]) -> Option<Ipv6Addr> {
    let text = std::str::from_utf8(inside).ok()?;
    match text.split_once(":::") {
        Some((before, after)) if after.contains('.') => format!("{before}::{after}").parse().ok(),
        _ => text.parse().ok(),
    }
}

pub(crate) fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'.' | b'(' | b')')
}

/// An IPv4 or IPv6 address without brackets.
pub(crate) fn read_ip(text: &[u8]) -> Option<IpAddr> {
    read_v4(text).map(IpAddr::V4).or_else(|| read_v6(text).map(IpAddr::V6))
}

/// As the standard library reads it, which takes four times as long; one stands in nearly every Via and URI.
fn read_v4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut place = 0;
    let mut digits = 0;
    for &byte in text {
        match byte {
            // A zero in front could be meant as octal.
            b'0'..=b'9' if digits == 0 || octets[place] != 0 => {
                let value: u8 = octets[place];
                octets[place] = value.checked_mul(10)?.checked_add(byte - b'0')?;
                digits += 1;
            }
            b'.' if digits > 0 && place < 3 => (place, digits) = (place + 1, 0),
            _ => return None,
        }
    }
    (place == 3 && digits > 0).then(|| Ipv4Addr::from(octets))
}

// Which bytes may stand where in a URI (RFC 3261 §25.1), beside those that are unreserved.
const USER: u8 = 1;
const PASSWORD: u8 = 2;
const PARAMS: u8 = 4;
const HEADERS: u8 = 8;
const EVERYWHERE: u8 = USER | PASSWORD | PARAMS | HEADERS;
const ESCAPE: u8 = 16;

const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u8;
    loop {
        table[byte as usize] = match byte {
            b'0'..=b'9'
            | b'A'..=b'Z'
            | b'a'..=b'z'
            | b'-'
            | b'_'
            | b'.'
            | b'!'
            | b'~'
            | b'*'
            | b'\''
            | b'('
            | b')'
            | b'&'
            | b'='
            | b'+'
            | b'$' => EVERYWHERE,
            b'%' => EVERYWHERE | ESCAPE,
            b',' => USER | PASSWORD,
            b';' => USER | PARAMS,
            b'?' => USER | HEADERS,
            b'/' => USER | PARAMS | HEADERS,
            b'[' | b']' | b':' => PARAMS | HEADERS,
            _ => 0,
        };
        if byte == 255 {
            break;
        }
        byte += 1;
    }
    table
};

/// Whether all bytes may stand in this part, and all escapes in it are whole.
fn fits(text: &[u8], part: u8) -> bool {
    let (all, any) = text.iter().fold((part, 0), |(all, any), &byte| {
        let class = CLASS[usize::from(byte)];
        (all & class, any | class)
    });
    all == part && (any & ESCAPE == 0 || escapes_are_whole(text))
}

fn escapes_are_whole(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text)
        .all(|at| matches!(text.get(at + 1..at + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}

/// Undoes `%xx`. What is no whole escape stays as it is.
pub fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', text).is_none() {
        return Cow::Borrowed(text);
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        if let [b'%', a, b, after @ ..] = rest
            && let (Some(a), Some(b)) = (digit(*a), digit(*b))
        {
            out.push(a * 16 + b);
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
