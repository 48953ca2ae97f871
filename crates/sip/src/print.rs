//! New messages: a request from its parts, a response from its request.
//!
//! Builders put headers in the order a reader expects and always write Content-Length. Text that would break out of
//! its line, or out of its place there, is refused once, at the end, so that calls can be chained.

use crate::edit::{UnsafeText, check_line, is_token};
use crate::header::name::Name;
use crate::lines::has_bad_uri_byte;
use crate::message::Message;
use crate::method::Method;
use crate::status::Status;
use crate::transaction::one_line;

/// Builds a request.
///
/// ```
/// use sip::{Method, RequestBuilder};
/// let options = RequestBuilder::new(Method::Options, "sip:example.com")
///     .header("Max-Forwards", "70")
///     .header("From", "<sip:ping@example.org>;tag=1")
///     .header("To", "<sip:example.com>")
///     .header("Call-ID", "abc")
///     .header("CSeq", "1 OPTIONS")
///     .build()?;
/// assert!(options.bytes().starts_with(b"OPTIONS sip:example.com SIP/2.0\r\n"));
/// assert!(options.bytes().ends_with(b"Content-Length: 0\r\n\r\n"));
/// # Ok::<(), sip::UnsafeText>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct RequestBuilder {
    text: Text,
}

/// Builds a response to a request: Via, From, To, Call-ID and CSeq are taken over as they stand (RFC 3261 §8.2.6.2).
///
/// ```
/// use sip::{Message, ResponseBuilder, Status};
/// # let request = Message::parse(b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
/// #     To: <sip:a@b>\r\nFrom: <sip:c@d>;tag=1\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n")?;
/// let status = Status::new(404).expect("in range");
/// let response = ResponseBuilder::new(&request, status).to_tag(b"9f3a").header("Server", "example").build()?;
/// assert_eq!(response.to()?.tag(), Some(&b"9f3a"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ResponseBuilder<'a> {
    request: &'a Message,
    status: Status,
    reason: Option<&'a str>,
    to_tag: Option<&'a [u8]>,
    text: Text,
}

/// Header lines as they grow, and the body that follows them.
#[derive(Clone, Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    body: Vec<u8>,
    is_unsafe: bool,
}

/// Room for a usual message.
const BYTES_USUAL: usize = 1024;

impl Text {
    fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn header(&mut self, name: &[u8], value: &[u8]) {
        self.is_unsafe |= !is_token(name) || check_line(value).is_err();
        self.raw(name);
        self.raw(b": ");
        self.raw(value);
        self.raw(b"\r\n");
    }

    fn finish(mut self) -> Result<Vec<u8>, UnsafeText> {
        if self.is_unsafe {
            return Err(UnsafeText);
        }
        if self.body.is_empty() {
            self.raw(b"Content-Length: 0\r\n\r\n");
            return Ok(self.bytes);
        }
        let length = self.body.len().to_string();
        self.header(b"Content-Length", length.as_bytes());
        self.raw(b"\r\n");
        self.bytes.extend_from_slice(&self.body);
        Ok(self.bytes)
    }
}

impl RequestBuilder {
    /// A request of this method to this URI.
    pub fn new(method: Method, uri: impl AsRef<[u8]>) -> RequestBuilder {
        RequestBuilder::with_method_text(method.as_str().as_bytes(), uri)
    }

    /// A request whose method is written so. What is no token would end the method early, or the line.
    pub fn with_method_text(method: &[u8], uri: impl AsRef<[u8]>) -> RequestBuilder {
        let uri = uri.as_ref();
        let mut text = Text { bytes: Vec::with_capacity(BYTES_USUAL), ..Text::default() };
        text.is_unsafe = !is_token(method) || uri.is_empty() || has_bad_uri_byte(uri);
        text.raw(method);
        text.raw(b" ");
        text.raw(uri);
        text.raw(b" SIP/2.0\r\n");
        RequestBuilder { text }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> RequestBuilder {
        self.text.header(name.as_bytes(), value.as_ref());
        self
    }

    /// Adds a body and its type.
    pub fn body(mut self, content_type: &str, body: &[u8]) -> RequestBuilder {
        self.text.header(b"Content-Type", content_type.as_bytes());
        self.text.body = body.to_vec();
        self
    }

    /// The request, with its Content-Length.
    pub fn build(self) -> Result<Message, UnsafeText> {
        Message::from_bytes(self.text.finish()?).map_err(|_| UnsafeText)
    }
}

impl<'a> ResponseBuilder<'a> {
    /// A response to `request`.
    pub fn new(request: &'a Message, status: Status) -> ResponseBuilder<'a> {
        ResponseBuilder { request, status, reason: None, to_tag: None, text: Text::default() }
    }

    /// Another reason phrase than the usual one.
    pub fn reason(mut self, reason: &'a str) -> ResponseBuilder<'a> {
        self.reason = Some(reason);
        self
    }

    /// The tag for a To that has none yet. Every response but 100 needs one.
    pub fn to_tag(mut self, tag: &'a [u8]) -> ResponseBuilder<'a> {
        self.to_tag = Some(tag);
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> ResponseBuilder<'a> {
        self.text.header(name.as_bytes(), value.as_ref());
        self
    }

    /// Takes the request's Record-Route headers over, as a response that makes a dialog must (RFC 3261 §12.1.1).
    pub fn record_routes(mut self) -> ResponseBuilder<'a> {
        self.copy(Name::RecordRoute);
        self
    }

    /// Adds a body and its type.
    pub fn body(mut self, content_type: &str, body: &[u8]) -> ResponseBuilder<'a> {
        self.text.header(b"Content-Type", content_type.as_bytes());
        self.text.body = body.to_vec();
        self
    }

    fn copy(&mut self, name: Name) {
        for line in self.request.index.lines.iter().filter(|line| line.name == name) {
            let value = self.request.value(line);
            // Folds are made one line, so that nothing depends on how the sender broke it.
            let value = one_line(value);
            for part in [name.as_str().as_bytes(), b": ", &value, b"\r\n"] {
                self.text.raw(part);
            }
        }
    }

    /// The response, with its Content-Length.
    pub fn build(self) -> Result<Message, UnsafeText> {
        Message::from_bytes(self.build_bytes()?).map_err(|_| UnsafeText)
    }

    /// The same for the wire only.
    pub(crate) fn build_bytes(mut self) -> Result<Vec<u8>, UnsafeText> {
        let added = std::mem::replace(&mut self.text.bytes, Vec::with_capacity(BYTES_USUAL));
        let reason = self.reason.unwrap_or_else(|| self.status.reason());
        self.text.is_unsafe |= check_line(reason.as_bytes()).is_err();
        self.text.raw(b"SIP/2.0 ");
        self.text.raw(&self.status.digits());
        self.text.raw(b" ");
        self.text.raw(reason.as_bytes());
        self.text.raw(b"\r\n");
        self.copy(Name::Via);
        self.copy(Name::From);
        self.copy_to();
        self.copy(Name::CallId);
        self.copy(Name::CSeq);
        // RFC 3261 §8.2.6.1: a 100 gives the Timestamp back.
        if self.status == Status::TRYING {
            for value in self.request.lines_named("Timestamp") {
                if check_line(value).is_ok() {
                    self.text.header(b"Timestamp", value);
                }
            }
        }
        self.text.raw(&added);
        self.text.finish()
    }

    fn copy_to(&mut self) {
        let has_tag = self.request.to().is_ok_and(|to| to.tag().is_some());
        let before = self.text.bytes.len();
        self.copy(Name::To);
        if let Some(tag) = self.to_tag
            && !has_tag
            && self.text.bytes.len() > before
        {
            self.text.is_unsafe |= !is_token(tag);
            self.text.bytes.truncate(self.text.bytes.len() - 2);
            self.text.raw(b";tag=");
            self.text.raw(tag);
            self.text.raw(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_its_place() {
        let request = |method: &[u8], uri: &str, name: &str| {
            RequestBuilder::with_method_text(method, uri).header(name, "x").build().is_ok()
        };
        assert!(request(b"NEW-method.1", "sip:a@b", "X-Y"));
        for method in [
            &b""[..],
            b" ",
            b"A B",
            b"OPTIONS ",
            b"OPTIONS sip:c@d SIP/2.0\r\nX:",
            b"A\nB",
            b"SIP/2.0",
            b"A\xe9",
            b"A\0",
        ] {
            assert!(!request(method, "sip:a@b", "X"), "{:?}", String::from_utf8_lossy(method));
        }
        for uri in ["", "sip:a b", "<sip:a@b>", "sip:a@b\r\n", "sip:a\x7f"] {
            assert!(!request(b"A", uri, "X"), "{uri:?}");
        }
        let options =
            RequestBuilder::new(Method::Options, "sip:a@b").header("To", "<sip:a@b>").build().unwrap();
        let response = |name: &str, tag: &[u8]| {
            ResponseBuilder::new(&options, Status::OK).header(name, "x").to_tag(tag).build().is_ok()
        };
        assert!(response("X", b"9f-3a"));
        for name in ["", " X", "X ", "X:", "X: y\r\nZ", "X\0"] {
            assert!(!request(b"A", "sip:a@b", name) && !response(name, b"1"), "{name:?}");
            assert!(options.clone().add(name, b"x").is_err(), "{name:?}");
        }
        for tag in ["", "a;b", "a b", "a\r\n", "a,<sip:c@d>"] {
            assert!(!response("X", tag.as_bytes()), "{tag:?}");
        }
    }
}
