//! The index: one pass over the bytes that notes where things are, and nothing more.
//!
//! What a header means is not looked at here (see [`crate::header`]); a header that nobody asks for costs a line
//! search and a name lookup. What is wrong with a message as a whole is kept as its first [`Flaw`], because whoever
//! sent a flawed request is still owed a 400, and for that we need its other headers.

use memchr::{memchr, memrchr};

use crate::header::name::{Name, TOKEN, words};
use crate::limits::{HEADER_BYTES_MAX, HEADERS_MAX, MESSAGE_BYTES_MAX};
use crate::lines::{Newlines, colon_in, has_bad_uri_byte};
use crate::method::Method;
use crate::status::Status;
use crate::work;

/// Bytes that are no SIP message at all: nothing can be answered, only dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// Nothing but line ends: a keep-alive.
    Empty,
    /// Longer than [`MESSAGE_BYTES_MAX`].
    TooLarge,
    /// The first line is neither a request line nor a status line: another protocol, or noise.
    NotSip,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ParseError::Empty => "nothing but line ends",
            ParseError::TooLarge => "longer than a message may be",
            ParseError::NotSip => "the first line is not SIP",
        })
    }
}

impl std::error::Error for ParseError {}

/// What is wrong with a message that can still be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The request line has white space or brackets where none may be.
    StartLine,
    /// The version is not SIP/2.0.
    Version,
    /// A line is no header: it has no colon, or a byte in its name that no name may have.
    HeaderLine,
    /// One header is longer than [`HEADER_BYTES_MAX`].
    HeaderTooLong,
    /// There are more than [`HEADERS_MAX`] headers.
    TooManyHeaders,
    /// The empty line that ends the headers is missing.
    Unterminated,
}

/// Where one header stands. Offsets are into the message's bytes, which are at most 64 KiB (and little more after
/// edits), so 32 bits hold them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) name: Name,
    pub(crate) start: u32,
    pub(crate) name_end: u32,
    pub(crate) value: u32,
    /// Behind the last byte of the value, before the line end.
    pub(crate) end: u32,
}

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Request { method: Method, method_end: u32, uri: u32, uri_end: u32 },
    Response { status: Status, reason: u32, reason_end: u32 },
}

/// Positions of everything in one message. Its memory is kept and used again for the next one.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub(crate) start: Start,
    pub(crate) lines: Vec<Line>,
    /// A bit for each name that a line has, or has had: most names that are asked for are not there.
    pub(crate) names: u64,
    /// The same for names that a second line has.
    pub(crate) repeated: u64,
    /// Where the empty line begins: new headers go here.
    pub(crate) headers_end: u32,
    /// Where the body begins.
    pub(crate) body: u32,
    pub(crate) flaw: Option<Flaw>,
}

/// Offsets are far below 4 GiB: messages are refused above 64 KiB and edits add a few hundred bytes each.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "see above; a checked conversion costs a tenth of the index"
)]
pub(crate) fn offset(at: usize) -> u32 {
    at as u32
}

/// Room for a usual message's headers, made once: reading into the same index again allocates nothing.
const LINES_USUAL: usize = 20;

impl Default for Index {
    fn default() -> Index {
        Index {
            start: Start::Response { status: Status::TRYING, reason: 0, reason_end: 0 },
            lines: Vec::new(),
            names: 0,
            repeated: 0,
            headers_end: 0,
            body: 0,
            flaw: None,
        }
    }
}

#[inline]
fn bit(name: Name) -> u64 {
    const { assert!((Name::Malformed as u32) < u64::BITS, "each name has a bit") };
    1 << (name as u32)
}

impl Index {
    /// Reads the positions of one message. `bytes` begin with the start line.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        self.lines.clear();
        self.lines.reserve(LINES_USUAL);
        self.flaw = None;
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(ParseError::TooLarge);
        }
        // A message of one line has no headers and thus no Via: nobody could be answered.
        let mut newlines = Newlines::of(bytes);
        let newline = newlines.next().ok_or(ParseError::NotSip)?;
        self.read_start(&bytes[..content_end(bytes, 0, newline)])?;
        let mut at = newline + 1;
        for newline in newlines {
            let end = content_end(bytes, at, newline);
            if end == at {
                self.headers_end = offset(at);
                self.body = offset(newline + 1);
                self.note_names();
                work::visited(self.body as usize);
                return Ok(());
            }
            self.read_line(bytes, at, end);
            at = newline + 1;
        }
        if at < bytes.len() {
            self.read_line(bytes, at, bytes.len());
        }
        self.headers_end = offset(bytes.len());
        self.body = self.headers_end;
        self.flaw(Flaw::Unterminated);
        self.note_names();
        work::visited(bytes.len());
        Ok(())
    }

    fn flaw(&mut self, flaw: Flaw) {
        self.flaw.get_or_insert(flaw);
    }

    /// The usual line: a known name, a colon right behind it. All others go the slow way.
    #[inline]
    fn read_line(&mut self, bytes: &[u8], at: usize, end: usize) {
        let words = words(&bytes[at..]);
        let name_length = if let Some(place) = colon_in(words[0]) {
            place
        } else if let Some(place) = colon_in(words[1]) {
            place + 8
        } else if let Some(place) = colon_in(words[2]) {
            place + 16
        } else {
            return self.read_unusual_line(bytes, at, end);
        };
        // A known name holds no line end, so its colon stands before this line's.
        let Some(name) = Name::find(&words, name_length) else {
            return self.read_unusual_line(bytes, at, end);
        };
        let start = offset(at);
        let name_end = start + offset(name_length);
        self.push(Line { name, start, name_end, value: name_end + 1, end: offset(end) });
    }

    #[cold]
    #[inline(never)]
    fn read_unusual_line(&mut self, bytes: &[u8], at: usize, end: usize) {
        let mut name_end = at;
        while name_end < end && TOKEN[usize::from(bytes[name_end])] {
            name_end += 1;
        }
        if name_end == at {
            return self.read_odd_line(bytes, at, end);
        }
        // RFC 3261 §25.1 (HCOLON): white space may stand before the colon.
        let mut colon = name_end;
        while colon < end && matches!(bytes[colon], b' ' | b'\t') {
            colon += 1;
        }
        let is_header = colon < end && bytes[colon] == b':';
        let (name, value) = if is_header {
            (Name::of(&bytes[at..name_end]), colon + 1)
        } else {
            self.flaw(Flaw::HeaderLine);
            (Name::Malformed, name_end)
        };
        let (start, name_end) = (offset(at), offset(name_end));
        self.push(Line { name, start, name_end, value: offset(value), end: offset(end) });
    }

    /// A line that begins with no token: a fold of the one before (RFC 3261 §7.3.1), or rubbish.
    #[cold]
    fn read_odd_line(&mut self, bytes: &[u8], at: usize, end: usize) {
        if matches!(bytes[at], b' ' | b'\t')
            && let Some(last) = self.lines.last_mut()
        {
            last.end = offset(end);
            if end - last.start as usize > HEADER_BYTES_MAX {
                self.flaw(Flaw::HeaderTooLong);
            }
            return;
        }
        self.flaw(Flaw::HeaderLine);
        let (start, end) = (offset(at), offset(end));
        self.push(Line { name: Name::Malformed, start, name_end: start, value: start, end });
    }

    #[inline]
    fn push(&mut self, line: Line) {
        if (line.end - line.start) as usize > HEADER_BYTES_MAX {
            self.flaw(Flaw::HeaderTooLong);
        }
        if self.lines.len() == HEADERS_MAX {
            return self.flaw(Flaw::TooManyHeaders);
        }
        self.lines.push(line);
    }

    /// Puts a line among the others.
    pub(crate) fn insert(&mut self, at: usize, line: Line) {
        self.note(line.name);
        self.lines.insert(at, line);
    }

    /// Once for all lines: noting each as it is read would wait for the one before.
    fn note_names(&mut self) {
        let note =
            |(names, repeated), line: &Line| (names | bit(line.name), repeated | (names & bit(line.name)));
        (self.names, self.repeated) = self.lines.iter().fold((0, 0), note);
    }

    #[inline]
    fn note(&mut self, name: Name) {
        self.repeated |= self.names & bit(name);
        self.names |= bit(name);
    }

    /// Whether a second line has this name, or has had it.
    #[inline]
    pub(crate) fn may_repeat(&self, name: Name) -> bool {
        self.repeated & bit(name) != 0
    }

    /// The lines among which those of this name are: all or none.
    #[inline]
    pub(crate) fn lines_with(&self, name: Name) -> &[Line] {
        if self.names & bit(name) == 0 { &[] } else { &self.lines }
    }

    /// Request-Line = Method SP Request-URI SP SIP-Version (RFC 3261 §7.1), or a status line.
    fn read_start(&mut self, line: &[u8]) -> Result<(), ParseError> {
        if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
            return self.read_status_line(line);
        }
        let method_end = line.iter().position(|&byte| byte == b' ').ok_or(ParseError::NotSip)?;
        let method = Method::read(&line[..method_end]);
        if method == Method::Other
            && (method_end == 0 || !line[..method_end].iter().all(|&byte| TOKEN[usize::from(byte)]))
        {
            return Err(ParseError::NotSip);
        }
        let uri = method_end + 1;
        let uri_end = match line.strip_suffix(b" SIP/2.0") {
            Some(before) => before.len().max(uri),
            None => self.read_odd_version(line, uri)?,
        };
        if uri == uri_end || has_bad_uri_byte(&line[uri..uri_end]) {
            self.flaw(Flaw::StartLine);
        }
        self.start = Start::Request {
            method,
            method_end: offset(method_end),
            uri: offset(uri),
            uri_end: offset(uri_end),
        };
        Ok(())
    }

    /// Another version, other case, or white space behind it, which is a flaw but hides nothing. Says where the URI
    /// ends.
    #[cold]
    fn read_odd_version(&mut self, line: &[u8], uri: usize) -> Result<usize, ParseError> {
        let trimmed = line.trim_ascii_end();
        let version_start = memrchr(b' ', trimmed).map_or(0, |space| space + 1);
        let version = &trimmed[version_start..];
        if version_start < uri || !version.get(..4).is_some_and(|v| v.eq_ignore_ascii_case(b"SIP/")) {
            return Err(ParseError::NotSip);
        }
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            self.flaw(Flaw::Version);
        }
        if trimmed.len() != line.len() {
            self.flaw(Flaw::StartLine);
        }
        Ok((version_start - 1).max(uri))
    }

    /// Status-Line = SIP-Version SP Status-Code SP Reason-Phrase (RFC 3261 §7.2).
    fn read_status_line(&mut self, line: &[u8]) -> Result<(), ParseError> {
        let version_end = memchr(b' ', line).ok_or(ParseError::NotSip)?;
        if !line[..version_end].eq_ignore_ascii_case(b"SIP/2.0") {
            self.flaw(Flaw::Version);
        }
        let code_start = version_end + 1;
        let rest = &line[code_start..];
        let [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', after @ ..] = rest else {
            return Err(ParseError::NotSip);
        };
        let code = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
        let status = Status::new(code).ok_or(ParseError::NotSip)?;
        let reason = match after {
            // Some send no space when the phrase is empty.
            [] => line.len(),
            [b' ', ..] => code_start + 4,
            _ => return Err(ParseError::NotSip),
        };
        self.start = Start::Response { status, reason: offset(reason), reason_end: offset(line.len()) };
        Ok(())
    }
}

/// The end of a line's content: before LF, or before CR LF.
#[inline]
fn content_end(bytes: &[u8], start: usize, newline: usize) -> usize {
    if newline > start && bytes[newline - 1] == b'\r' { newline - 1 } else { newline }
}
