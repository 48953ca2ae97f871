//! One message: its bytes as they came, and the index of where things are in them.
//!
//! Reading is lazy: [`Message::parse`] notes positions, and a header is understood only when it is asked for
//! ([`crate::header`] has the typed views). Writing is splicing ([`crate::edit`]): what is not edited leaves byte for
//! byte as it came, be it UTF-8, Latin-1 or neither.
//!
//! ```
//! use sip::{Message, Method};
//! let invite = Message::parse(
//!     b"INVITE sip:bob@example.com SIP/2.0\r\n\
//!       v: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK77, SIP/2.0/TCP 192.0.2.9;branch=z9hG4bK12\r\n\
//!       f: \"Alice\" <sip:alice@example.com>;tag=88\r\n\
//!       t: <sip:bob@example.com>\r\n\
//!       i: 42@192.0.2.1\r\n\
//!       CSeq: 1 INVITE\r\n\
//!       \r\n",
//! )?;
//! assert_eq!(invite.method(), Some(Method::Invite));
//! assert_eq!(invite.vias().count(), 2);
//! assert_eq!(invite.via_top()?.branch(), Some(&b"z9hG4bK77"[..]));
//! assert_eq!(invite.from()?.tag(), Some(&b"88"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;

use crate::header::name::Name;
use crate::parse::{Flaw, Index, Line, ParseError, Start};
use crate::scan::trim;
use crate::{Method, Status};

/// A request or a response.
#[derive(Clone, Default)]
pub struct Message {
    pub(crate) bytes: Vec<u8>,
    pub(crate) index: Index,
}

/// One header as it stands in the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// What it is.
    pub name: Name,
    /// Its name as written.
    pub name_text: &'a [u8],
    /// Its value without the white space around it; folds inside stay.
    pub value: &'a [u8],
}

/// `;received=…;rport=…` with the longest address.
const NOTE_BYTES: usize = 64;

impl Message {
    /// Reads one message. Empty lines before the start line are passed over (RFC 3261 §7.5).
    pub fn parse(bytes: &[u8]) -> Result<Message, ParseError> {
        let mut message = Message::default();
        message.read(bytes)?;
        Ok(message)
    }

    /// Reads one message into this one, whose memory is used again: in steady state reading allocates nothing.
    ///
    /// After an error the message is empty of sense and must be read into again.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).ok_or(ParseError::Empty)?;
        let bytes = &bytes[start..];
        self.bytes.clear();
        self.index.read(bytes)?;
        // With room for what the top Via is told about its sender.
        self.bytes.reserve(bytes.len() + NOTE_BYTES);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Reads bytes that are one message and nothing else, without copying them.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Result<Message, ParseError> {
        let mut message = Message { bytes, index: Index::default() };
        message.index.read(&message.bytes)?;
        Ok(message)
    }

    /// A copy with room for what a proxy adds.
    pub(crate) fn copy_to_forward(&self) -> Message {
        const ADDED_BYTES: usize = 512;
        const ADDED_LINES: usize = 4;
        let mut bytes = Vec::with_capacity(self.bytes.len() + ADDED_BYTES);
        bytes.extend_from_slice(&self.bytes);
        let mut lines = Vec::with_capacity(self.index.lines.len() + ADDED_LINES);
        lines.extend_from_slice(&self.index.lines);
        Message { bytes, index: Index { lines, ..self.index } }
    }

    /// For tests and benchmarks that want to measure the index alone.
    #[doc(hidden)]
    pub fn index_again(&mut self) -> Result<usize, ParseError> {
        self.index.read(&self.bytes)?;
        Ok(self.index.lines.len())
    }

    /// Whether this is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.index.start, Start::Request { .. })
    }

    /// A request's method.
    pub fn method(&self) -> Option<Method> {
        match self.index.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// A request's method as written; empty for a response.
    pub fn method_text(&self) -> &[u8] {
        match self.index.start {
            Start::Request { method_end, .. } => self.slice(0, method_end),
            Start::Response { .. } => &[],
        }
    }

    /// A request's URI as written; empty for a response.
    pub fn uri_text(&self) -> &[u8] {
        match self.index.start {
            Start::Request { uri, uri_end, .. } => self.slice(uri, uri_end),
            Start::Response { .. } => &[],
        }
    }

    /// A response's status.
    pub fn status(&self) -> Option<Status> {
        match self.index.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(status),
        }
    }

    /// A response's reason phrase as written; empty for a request.
    pub fn reason(&self) -> &[u8] {
        match self.index.start {
            Start::Request { .. } => &[],
            Start::Response { reason, reason_end, .. } => self.slice(reason, reason_end),
        }
    }

    /// The first line, for ladders and logs.
    pub fn start_line(&self) -> &[u8] {
        let end = memchr::memchr(b'\n', &self.bytes).unwrap_or(self.bytes.len());
        self.bytes[..end].trim_ascii_end()
    }

    /// What is wrong with the message as a whole, if anything is.
    pub fn flaw(&self) -> Option<Flaw> {
        self.index.flaw
    }

    /// All headers in their order. Lines that are no headers come as [`Name::Malformed`].
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> {
        self.index.lines.iter().map(|line| Header {
            name: line.name,
            name_text: self.slice(line.start, line.name_end),
            value: self.value(line),
        })
    }

    /// The values of all headers of this name, one for each line it stands on, not split at commas.
    pub fn lines(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let lines = self.index.lines_with(name).iter();
        lines.filter(move |line| line.name == name).map(|line| self.value(line))
    }

    /// The values of all headers with this name in any case, such as `X-Example`, one for each line. A known name
    /// finds its compact form too.
    pub fn lines_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let known = Name::of(name.as_bytes());
        self.index
            .lines
            .iter()
            .filter(move |line| self.is_named(line, known, name.as_bytes()))
            .map(|line| self.value(line))
    }

    /// The lines that are no headers, as they stand.
    pub(crate) fn lines_of_malformed(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.index.lines_with(Name::Malformed).iter();
        lines.filter(|line| line.name == Name::Malformed).map(|line| self.slice(line.start, line.end))
    }

    /// The body: all bytes behind the empty line.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.index.body as usize..).unwrap_or_default()
    }

    /// The whole message, ready to send.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The whole message, ready to send, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn slice(&self, start: u32, end: u32) -> &[u8] {
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    pub(crate) fn value(&self, line: &Line) -> &[u8] {
        trim(self.slice(line.value, line.end))
    }

    pub(crate) fn is_named(&self, line: &Line, known: Name, name: &[u8]) -> bool {
        match known {
            Name::Other => {
                line.name == Name::Other && self.slice(line.start, line.name_end).eq_ignore_ascii_case(name)
            }
            known => line.name == known,
        }
    }
}

impl fmt::Debug for Message {
    /// The first line only: headers may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({:?})", String::from_utf8_lossy(self.start_line()))
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Message) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Message {}
