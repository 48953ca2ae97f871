//! Messages out of a byte stream (RFC 3261 §18.3, RFC 5626 §3.5.1 for keep-alives).
//!
//! Bytes go in as they come; whole messages and pings come out, the same ones however the bytes were split. What
//! cannot be framed is an error after which the connection is closed: on a stream nobody can tell where the next
//! message would begin. Deadlines for peers that dawdle belong to whoever owns the socket.

use memchr::memchr;

use crate::header::name::TOKEN;
use crate::limits::{HEADERS_MAX, STREAM_BYTES_MAX};
use crate::lines::has_bare_cr_in;
use crate::message::Message;
use crate::work;

/// One thing found in the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Frame<'a> {
    /// A whole message, for [`crate::endpoint::Endpoint::handle_input`].
    Message(&'a [u8]),
    /// A double line end: answer with [`PONG`].
    Ping,
}

/// The answer to a ping.
pub const PONG: &[u8] = b"\r\n";

/// Why a connection has to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamError {
    /// What came is not SIP: TLS, HTTP, or noise.
    NotSip,
    /// A message is longer than [`STREAM_BYTES_MAX`].
    TooLong,
    /// Content-Length is no number, too large, or stands twice.
    ContentLength,
    /// There are too many headers, or a line that is no header, or a CR that ends no line: the length that this peer
    /// means may stand where we do not see it.
    Headers,
}

impl std::fmt::Display for StreamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            StreamError::NotSip => "the peer does not speak SIP",
            StreamError::TooLong => "a message is longer than it may be",
            StreamError::ContentLength => "Content-Length cannot be used",
            StreamError::Headers => "the headers may hide a message's length",
        })
    }
}

impl std::error::Error for StreamError {}

/// Frames one direction of one connection.
///
/// ```
/// use sip::stream::{Frame, Framer};
/// let mut framer = Framer::default();
/// framer.push(b"\r\n\r\nOPTIONS sip:a@b SIP/2.0\r\nContent-Length: 2\r\n\r\nh");
/// assert_eq!(framer.next_frame(), Ok(Some(Frame::Ping)));
/// assert_eq!(framer.next_frame(), Ok(None), "a byte of the body is missing");
/// framer.push(b"iOPTIONS");
/// assert!(matches!(framer.next_frame(), Ok(Some(Frame::Message(m))) if m.ends_with(b"\r\n\r\nhi")));
/// assert_eq!(framer.next_frame(), Ok(None));
/// ```
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Where the unread part begins.
    start: usize,
    /// Up to where line ends were looked for.
    scanned: usize,
    /// Where the line that is being looked at begins.
    line: usize,
    /// Behind the message that begins at `start`, once its headers are complete.
    end: Option<usize>,
    /// Line ends seen between messages since the last message or ping.
    line_ends: u8,
    /// Used again for each message's headers.
    headers: Message,
    failed: Option<StreamError>,
}

impl Framer {
    /// Takes what was read from the connection. Drain [`Framer::next_frame`] before the next call.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.line -= self.start;
            self.end = self.end.map(|end| end - self.start);
            self.start = 0;
        }
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether nothing of a message has come yet.
    pub fn is_idle(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// The next whole thing, or `None` when more bytes are needed. After an error there is nothing more.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, StreamError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.find() {
            Ok(Some(Found::Ping)) => Ok(Some(Frame::Ping)),
            Ok(Some(Found::Message(start, end))) => Ok(Some(Frame::Message(&self.buffer[start..end]))),
            Ok(None) => Ok(None),
            Err(error) => {
                self.failed = Some(error);
                self.buffer = Vec::new();
                self.start = 0;
                self.scanned = 0;
                self.line = 0;
                self.end = None;
                Err(error)
            }
        }
    }

    fn find(&mut self) -> Result<Option<Found>, StreamError> {
        if self.end.is_none() {
            if self.pass_line_ends() {
                return Ok(Some(Found::Ping));
            }
            if let Some(&first) = self.buffer.get(self.start)
                && first != b'\r'
                && !TOKEN[usize::from(first)]
            {
                return Err(StreamError::NotSip);
            }
            self.find_end()?;
        }
        if let Some(end) = self.end
            && end <= self.buffer.len()
        {
            let start = self.start;
            self.start = end;
            self.scanned = end;
            self.line = end;
            self.end = None;
            self.line_ends = 0;
            return Ok(Some(Found::Message(start, end)));
        }
        if self.buffer.len() - self.start > STREAM_BYTES_MAX {
            return Err(StreamError::TooLong);
        }
        Ok(None)
    }

    /// Passes over line ends between messages; true for each second one.
    fn pass_line_ends(&mut self) -> bool {
        loop {
            let length = match self.buffer.get(self.start..) {
                Some([b'\n', ..]) => 1,
                Some([b'\r', b'\n', ..]) => 2,
                _ => return false,
            };
            self.start += length;
            self.scanned = self.start;
            self.line = self.start;
            self.line_ends += 1;
            if self.line_ends == 2 {
                self.line_ends = 0;
                return true;
            }
        }
    }

    /// Looks for the empty line, going on where the last look ended.
    fn find_end(&mut self) -> Result<(), StreamError> {
        while let Some(found) = memchr(b'\n', &self.buffer[self.scanned..]) {
            let newline = self.scanned + found;
            work::visited(found + 1);
            let line = &self.buffer[self.line..newline];
            self.scanned = newline + 1;
            let is_first = self.line == self.start;
            if !is_first && matches!(line, [] | [b'\r']) {
                return self.read_headers(newline + 1);
            }
            if is_first {
                // Another protocol is known by its first line; it need not go on until a limit.
                self.headers.read(&self.buffer[self.start..=newline]).map_err(|_| StreamError::NotSip)?;
            }
            self.line = newline + 1;
        }
        work::visited(self.buffer.len() - self.scanned);
        self.scanned = self.buffer.len();
        Ok(())
    }

    fn read_headers(&mut self, body: usize) -> Result<(), StreamError> {
        if body - self.start > STREAM_BYTES_MAX {
            return Err(StreamError::TooLong);
        }
        let head = &self.buffer[self.start..body];
        self.headers.read(head).map_err(|_| StreamError::NotSip)?;
        // What the index did not take, or another parser may read as a line of its own, can be the length: a body that
        // is framed without it would be taken for messages.
        work::visited(head.len());
        if hides_headers(&self.headers) || has_bare_cr_in(head) {
            return Err(StreamError::Headers);
        }
        // RFC 3261 §18.3: on a stream the header has to be there. If it is not, there is no body: then what follows
        // must be a message, or the connection is closed.
        let length = self.headers.content_length().map_err(|_| StreamError::ContentLength)?.unwrap_or(0);
        let end = body + length;
        if end - self.start > STREAM_BYTES_MAX {
            return Err(StreamError::TooLong);
        }
        self.end = Some(end);
        Ok(())
    }
}

/// Whether lines of the head are missing in the index, or could not be read. The first flaw may be another one, so it
/// is not enough to ask for these two; a flawed message that has just as many headers as fit is lost by that.
fn hides_headers(headers: &Message) -> bool {
    let is_full = headers.index.lines.len() == HEADERS_MAX && headers.flaw().is_some();
    is_full
        || headers
            .lines_of_malformed()
            .any(|line| headers.content_length() == Ok(None) || may_be_length(line))
}

/// Whether another parser could take a line that is no header for a length. Any other such line (a blank or a byte above
/// 127 in a header's name) is the sender's business, and no reason to end a connection that others use, too.
fn may_be_length(line: &[u8]) -> bool {
    let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
    let letters = || name.iter().filter(|byte| byte.is_ascii_alphabetic()).map(u8::to_ascii_lowercase);
    letters().eq(*b"l") || letters().take(13).eq(*b"contentlength")
}

enum Found {
    Ping,
    Message(usize, usize),
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a stream brings in these pieces, a ping as an empty message, and how it ends.
    pub(crate) fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<StreamError>) {
        let mut framer = Framer::default();
        let mut frames = Vec::new();
        for piece in pieces {
            framer.push(piece);
            loop {
                match framer.next_frame() {
                    Ok(None) => break,
                    Ok(Some(Frame::Ping)) => frames.push(Vec::new()),
                    Ok(Some(Frame::Message(message))) => frames.push(message.to_vec()),
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    }

    /// The same as text.
    fn texts(pieces: &[&[u8]]) -> Vec<String> {
        let (frames, error) = frames(pieces.iter().copied());
        let text = |frame: Vec<u8>| String::from_utf8_lossy(&frame).into_owned();
        let texts = frames.into_iter().map(text);
        let texts = texts.map(|text| if text.is_empty() { "ping".to_owned() } else { text });
        texts.chain(error.map(|error| format!("{error:?}"))).collect()
    }

    fn check_every_split(bytes: &[u8], expected: &[&str]) {
        assert_eq!(texts(&[bytes]), expected);
        for at in 0..=bytes.len() {
            assert_eq!(texts(&[&bytes[..at], &bytes[at..]]), expected, "split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(texts(&single), expected);
    }

    const ONE: &str = "OPTIONS sip:a@b SIP/2.0\r\nl: 3\r\n\r\nabc";
    const TWO: &str = "SIP/2.0 200 OK\nX: y\n\n";

    #[test]
    fn messages_and_pings_however_split() {
        let bytes = format!("\r\n{ONE}\r\n\r\n\r\n{TWO}\r\n\r\n{ONE}{TWO}");
        check_every_split(bytes.as_bytes(), &[ONE, "ping", TWO, "ping", ONE, TWO]);
    }

    #[test]
    fn a_hundred_pipelined() {
        let bytes = ONE.repeat(100);
        assert_eq!(texts(&[bytes.as_bytes()]).len(), 100);
    }

    #[test]
    fn what_closes_the_connection() {
        check_every_split(b"\x16\x03\x01", &["NotSip"]);
        check_every_split(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &["NotSip"]);
        for length in ["-1", "99999999999", "0x10", "70000", "1\r\nl: 1", ""] {
            let bytes = format!("OPTIONS sip:a@b SIP/2.0\r\nl: {length}\r\n\r\n");
            check_every_split(bytes.as_bytes(), &["ContentLength"]);
        }
        let endless = [b"OPTIONS sip:a@b SIP/2.0\r\n".as_slice(), &b"X: y\r\n".repeat(20_000)].concat();
        assert_eq!(texts(&endless.chunks(1000).collect::<Vec<_>>()), ["TooLong"]);
        let exact = format!("OPTIONS sip:a@b SIP/2.0\r\nl: 65500\r\n\r\n{}", "x".repeat(65500));
        assert_eq!(texts(&[exact.as_bytes()]), ["TooLong"]);
    }

    /// Whatever hides a Content-Length of ours from us, or one of theirs from the next parser, ends the connection: the
    /// body would be the next message.
    #[test]
    fn no_body_is_taken_for_a_message() {
        let smuggled = "REGISTER sip:victim SIP/2.0\r\n\r\n";
        let length = smuggled.len();
        let many = "X: y\r\n".repeat(HEADERS_MAX);
        for start in [
            "OPTIONS sip:a@b SIP/2.0",
            "OPTIONS sip:a@b SIP/3.0",
            "OPTIONS <sip:a@b> SIP/2.0",
            "SIP/2.0 200 OK",
        ] {
            for head in [
                format!("{many}l: {length}"),
                format!("X: a\rl: {length}"),
                format!("X: a\rContent-Length: {length}"),
                format!("l: 0\r\nX: a\r\rl: {length}"),
                format!("Content-Length\x0b: {length}"),
                format!("Content-Length\0: {length}"),
                format!("Content-Length {length}"),
                format!(": {length}"),
                format!(" l: {length}"),
                format!("\u{e9}: y\r\nContent Length: {length}"),
                format!("l: 0\r\nContent Length: {length}"),
                format!("l: 0\r\nL\0: {length}"),
            ] {
                let bytes = format!("{start}\r\n{head}\r\n\r\n{smuggled}");
                check_every_split(bytes.as_bytes(), &["Headers"]);
            }
        }
        // As many as fit hide nothing, and neither does white space before the colon or a fold.
        let most = "X: y\r\n".repeat(HEADERS_MAX - 1);
        let odd = "Caf\u{e9} X: y\r\nlocation y\r\nl: 3".to_owned();
        for head in [format!("{most}l: 3"), "Content-Length : 3".to_owned(), "l:\r\n 3".to_owned(), odd] {
            let bytes = format!("OPTIONS sip:a@b SIP/2.0\r\n{head}\r\n\r\nabc");
            check_every_split(&bytes.as_bytes().repeat(2), &[&bytes, &bytes]);
        }
    }

    #[test]
    fn looking_is_linear_even_byte_by_byte() {
        let message =
            [b"OPTIONS sip:a@b SIP/2.0\r\n".as_slice(), &b"X: y\r\n".repeat(200), b"l: 0\r\n\r\n"].concat();
        work::take();
        texts(&message.chunks(1).collect::<Vec<_>>());
        let visited = work::take();
        assert!(visited <= 8 * message.len(), "{visited} for {}", message.len());
    }
}
