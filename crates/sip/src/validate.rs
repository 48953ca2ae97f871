//! May this request be handled at all? (RFC 3261 §16.3 for proxies, §8.2 for user agents.)
//!
//! The checks stand in the order the RFC gives them, and the first that fails names the answer. They look at all
//! that must be right for state to be kept: what they let through can be keyed, answered and forwarded.

use std::borrow::Cow;

use crate::header::name::Name;
use crate::header::via::Via;
use crate::header::{Essentials, invalid};
use crate::limits::{IDENTIFIER_BYTES_MAX, OPTION_TAGS_MAX, URI_BYTES_MAX, USER_BYTES_MAX, VIAS_MAX};
use crate::lines::has_bare_cr_in;
use crate::message::Message;
use crate::method::{Method, MethodSet};
use crate::parse::Flaw;
use crate::status::Status;
use crate::uri::{SipUri, Uri};

/// Why a request is refused, and with what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The answer's status.
    pub status: Status,
    /// What is wrong, for the answer's reason phrase and for a log.
    pub text: Cow<'static, str>,
    /// A header that the answer needs: Allow with 405 and 501, Unsupported with 420.
    pub header: Option<(Name, String)>,
}

impl Refusal {
    fn new(code: u16, text: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { status: Status::known(code), text: text.into(), header: None }
    }
}

/// What this element takes.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Methods taken outside dialogs. Inside a dialog (a To tag) all methods pass: a proxy has no say there.
    pub methods: MethodSet,
    /// Option tags that may stand in Proxy-Require.
    pub proxy_extensions: &'a [String],
}

/// Checks a request, in the order of RFC 3261 §16.3. Loops (§16.3 step 4) need our own Via and are looked for in
/// [`crate::endpoint`], between Max-Forwards and Proxy-Require.
pub fn check_request(request: &Message, rules: &Rules<'_>) -> Result<(), Refusal> {
    let via = request.via_top().map_err(|error| Refusal::new(400, error.to_string()))?;
    check_request_from(request, via, rules).map(|_| ())
}

/// What checking a request has read of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked<'a> {
    pub(crate) essentials: Essentials<'a>,
    /// The first Route, if it is a SIP URI.
    pub(crate) route: Option<SipUri<'a>>,
    /// The request-URI, if it is one.
    pub(crate) uri: Option<SipUri<'a>>,
    hops: Option<u8>,
}

/// The same for a request whose top Via has been read; gives what it has read beside it.
pub(crate) fn check_request_from<'a>(
    request: &'a Message,
    via: Via<'a>,
    rules: &Rules<'_>,
) -> Result<Checked<'a>, Refusal> {
    let mut checked = check_syntax(request, via)?;
    checked.uri = check_uri(request)?.as_sip().copied();
    check_method(request, &checked.essentials, rules)?;
    check_hops(request, checked.hops)?;
    Ok(checked)
}

/// §16.3 step 1: reasonable syntax.
fn check_syntax<'a>(request: &'a Message, via: Via<'a>) -> Result<Checked<'a>, Refusal> {
    match request.flaw() {
        None => {}
        Some(Flaw::Version) => return Err(Refusal::new(505, "Version Not Supported")),
        Some(Flaw::StartLine) => return Err(Refusal::new(400, "Malformed Request Line")),
        Some(Flaw::HeaderLine) => return Err(Refusal::new(400, "Malformed Header Line")),
        Some(Flaw::HeaderTooLong) => return Err(Refusal::new(400, "Header Too Long")),
        Some(Flaw::TooManyHeaders) => return Err(Refusal::new(400, "Too Many Headers")),
        Some(Flaw::Unterminated) => return Err(Refusal::new(400, "Headers Do Not End")),
    }
    if has_bare_cr(request) {
        return Err(Refusal::new(400, "Bare CR In Header"));
    }
    let bad = |error: crate::header::HeaderError| Refusal::new(400, error.to_string());
    for (place, below) in request.list(Name::Via).enumerate().skip(1) {
        if Via::parse(below).is_none() {
            return Err(bad(invalid(Name::Via)));
        }
        if place >= VIAS_MAX {
            return Err(Refusal::new(400, "Too Many Via Headers"));
        }
    }
    let essentials = Essentials::read(request, via).map_err(bad)?;
    let Essentials { via, from, to, call_id, cseq } = essentials;
    if cseq.method_text != request.method_text() {
        return Err(Refusal::new(400, "CSeq Method Mismatch"));
    }
    // RFC 3261 §8.1.1.3 requires the tag; callers from before it (no magic cookie) had none (RFC 4475 §3.4.1).
    if from.tag().is_none() && via.has_cookie() {
        return Err(Refusal::new(400, "Missing From Tag"));
    }
    let identifiers = [from.tag(), to.tag(), via.branch(), Some(call_id)];
    if identifiers.into_iter().flatten().any(|text| text.len() > IDENTIFIER_BYTES_MAX) {
        return Err(Refusal::new(400, "Identifier Too Long"));
    }
    let hops = request.max_forwards().map_err(bad)?;
    request.expires().map_err(bad)?;
    // Content-Type and Expires decide nothing here, but two of them are two messages in one.
    request.optional(Name::ContentType).map_err(bad)?;
    for contact in request.contacts() {
        contact.map_err(bad)?;
    }
    let mut route = None;
    for name in [Name::Route, Name::RecordRoute] {
        for (place, address) in request.addresses(name).enumerate() {
            let address = address.map_err(bad)?;
            match address.uri() {
                Ok(uri) if address.bracketed => {
                    if name == Name::Route && place == 0 {
                        route = uri.as_sip().copied();
                    }
                }
                _ => return Err(Refusal::new(400, format!("Invalid {} Header", name.as_str()))),
            }
        }
    }
    let length = request.content_length().map_err(bad)?;
    if length.is_some_and(|length| length > request.body().len()) {
        return Err(Refusal::new(400, "Body Shorter Than Content-Length"));
    }
    Ok(Checked { essentials, route, uri: None, hops })
}

/// A CR that ends no line: other parsers may see a line end there.
fn has_bare_cr(request: &Message) -> bool {
    let head = request.bytes().get(..request.index.body as usize).unwrap_or_default();
    crate::work::visited(head.len());
    has_bare_cr_in(head)
}

/// §16.3 step 2: a URI we can read, of a scheme we know.
fn check_uri(request: &Message) -> Result<Uri<'_>, Refusal> {
    let text = request.uri_text();
    if text.len() > URI_BYTES_MAX {
        return Err(Refusal::new(414, "Request-URI Too Long"));
    }
    match Uri::parse(text) {
        Err(error) => Err(Refusal::new(400, error.to_string())),
        Ok(Uri::Other { .. }) => Err(Refusal::new(416, "Unsupported URI Scheme")),
        Ok(Uri::Sip(uri)) if uri.user.is_some_and(|user| user.len() > USER_BYTES_MAX) => {
            Err(Refusal::new(414, "User Part Too Long"))
        }
        // RFC 3261 §19.1.1: no headers in a request-URI.
        Ok(Uri::Sip(uri)) if !uri.headers.is_empty() => Err(Refusal::new(400, "Headers In Request-URI")),
        Ok(uri) => Ok(uri),
    }
}

/// §8.2.1: a method we take. In a dialog it is between the ends. One that nobody has heard of is not implemented
/// (§21.5.2), one that is known is not allowed (§21.4.6); both answers list what is.
fn check_method(request: &Message, read: &Essentials<'_>, rules: &Rules<'_>) -> Result<(), Refusal> {
    let Some(method) = request.method() else { return Ok(()) };
    let in_dialog = read.to.tag().is_some();
    if in_dialog || matches!(method, Method::Ack | Method::Cancel) || rules.methods.contains(method) {
        return Ok(());
    }
    let refusal = match method {
        Method::Other => Refusal::new(501, "Not Implemented"),
        _ => Refusal::new(405, "Method Not Allowed"),
    };
    Err(Refusal { header: Some((Name::Allow, rules.methods.to_string())), ..refusal })
}

/// §16.3 step 3. An OPTIONS or REGISTER that may go no further is for us (§11).
fn check_hops(request: &Message, hops: Option<u8>) -> Result<(), Refusal> {
    let is_for_us = matches!(request.method(), Some(Method::Options | Method::Register));
    if hops == Some(0) && !is_for_us { Err(Refusal::new(483, "Too Many Hops")) } else { Ok(()) }
}

/// §16.3 step 5: extensions that a proxy must understand.
pub(crate) fn check_proxy_require(request: &Message, rules: &Rules<'_>) -> Result<(), Refusal> {
    check_extensions(request, Name::ProxyRequire, rules.proxy_extensions)
}

/// §8.2.2.3: extensions that a user agent must understand. ACK and CANCEL are never refused.
pub fn check_require(request: &Message, supported: &[String]) -> Result<(), Refusal> {
    if matches!(request.method(), Some(Method::Ack | Method::Cancel)) {
        return Ok(());
    }
    check_extensions(request, Name::Require, supported)
}

fn check_extensions(request: &Message, name: Name, supported: &[String]) -> Result<(), Refusal> {
    let unknown: Vec<_> = request
        .option_tags(name)
        .filter(|tag| !supported.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(tag)))
        .take(OPTION_TAGS_MAX)
        .map(String::from_utf8_lossy)
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let list = unknown.join(", ").replace(['\r', '\n', '\0'], " ");
    Err(Refusal { header: Some((Name::Unsupported, list)), ..Refusal::new(420, "Bad Extension") })
}

/// Whether a response can be used. Those that cannot are dropped: nobody answers a response.
pub fn is_usable_response(response: &Message) -> bool {
    read_response(response).is_some()
}

/// What has to be there, if the response can be used.
pub(crate) fn read_response(response: &Message) -> Option<Essentials<'_>> {
    if response.flaw().is_some() || response.status().is_none() || has_bare_cr(response) {
        return None;
    }
    let length = response.content_length().ok()?;
    if length.is_some_and(|length| length > response.body().len()) {
        return None;
    }
    response.essentials().ok()
}
