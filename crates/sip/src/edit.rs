//! Edits are splices: each replaces one stretch of bytes and moves the index behind it. All other bytes stay.
//!
//! A proxy does five things to a request it forwards, and these are they: push a Via, pop a Route, replace the
//! request-URI, count Max-Forwards down, push a Record-Route. Headers that may not pass are removed by name, on the
//! parsed form, so that no odd spelling slips through.

use std::ops::Range;

use crate::flow::Transport;
use crate::header::address::Address;
use crate::header::name::Name;
use crate::message::Message;
use crate::parse::{Line, Start, offset};
use crate::scan::{Scan, Values, element_end};
use crate::transaction::one_line;

/// A value that may not be written into a header: it has a line end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsafeText;

impl std::fmt::Display for UnsafeText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("text with a line end cannot stand in a header")
    }
}

impl std::error::Error for UnsafeText {}

/// Refuses what would break out of its line. A NUL may stand in a quoted string (RFC 4475 §3.1.1.2) and must pass
/// when it does, so it is no business of this check.
pub(crate) fn check_line(text: &[u8]) -> Result<(), UnsafeText> {
    if memchr::memchr2(b'\r', b'\n', text).is_some() { Err(UnsafeText) } else { Ok(()) }
}

impl Message {
    /// Replaces the request-URI. A response is left as it is.
    pub fn set_uri(&mut self, new: &[u8]) -> Result<(), UnsafeText> {
        if new.is_empty() || new.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
            return Err(UnsafeText);
        }
        if let Start::Request { uri, uri_end, .. } = &mut self.index.start {
            let range = *uri as usize..*uri_end as usize;
            *uri_end = offset(range.start + new.len());
            self.splice(range, &[new], 0);
        }
        Ok(())
    }

    /// Puts a Via on top: `value` is all that stands behind `Via: `.
    pub fn push_via(&mut self, value: &[u8]) -> Result<(), UnsafeText> {
        let at = self.first_line(Name::Via).unwrap_or(0);
        self.insert_line(at, Name::Via, b"Via", value)
    }

    /// Takes the top Via away; `false` when there is none.
    pub fn pop_via(&mut self) -> bool {
        self.pop_value(Name::Via)
    }

    /// Appends a parameter to the top Via: `received` or `rport` (RFC 3261 §18.2.1, RFC 3581 §4).
    pub(crate) fn set_via_param(&mut self, name: &str, value: &[u8]) -> Result<(), UnsafeText> {
        check_line(value)?;
        let Some(line) = self.first_line(Name::Via) else { return Ok(()) };
        let at = self.index.lines[line];
        let raw = self.slice(at.value, at.end);
        let Some((start, element)) = Values::of(raw).next_at() else { return Ok(()) };
        let start = at.value as usize + start;
        // A parameter of this name that stands there is replaced, wherever in the value it is.
        let range = param_range(element, name).unwrap_or(element.len()..element.len());
        let range = start + range.start..start + range.end;
        self.splice_value(line, range, &[b";", name.as_bytes(), b"=", value]);
        Ok(())
    }

    /// Puts a Route on top: the next proxy to go through.
    pub fn push_route(&mut self, value: &[u8]) -> Result<(), UnsafeText> {
        let at = self.first_line(Name::Route).unwrap_or_else(|| self.behind(Name::Via));
        self.insert_line(at, Name::Route, b"Route", value)
    }

    /// Takes the top Route away; `false` when there is none.
    pub fn pop_route(&mut self) -> bool {
        self.pop_value(Name::Route)
    }

    /// Puts a Record-Route on top: later requests of this dialog then come by us.
    pub fn push_record_route(&mut self, value: &[u8]) -> Result<(), UnsafeText> {
        let at = self.first_line(Name::RecordRoute).unwrap_or_else(|| self.behind(Name::Via));
        self.insert_line(at, Name::RecordRoute, b"Record-Route", value)
    }

    /// Counts Max-Forwards down, or adds one of 70 (RFC 3261 §16.6 step 3). False: it stands at 0, and the request may
    /// go no further. One that cannot be read stays as it is.
    pub fn decrement_max_forwards(&mut self) -> bool {
        let Some(line) = self.first_line(Name::MaxForwards) else {
            let at = self.behind(Name::Via);
            self.insert_line(at, Name::MaxForwards, b"Max-Forwards", b"70").expect("digits are safe text");
            return true;
        };
        if let Ok(Some(hops)) = self.max_forwards() {
            let Some(hops) = hops.checked_sub(1) else { return false };
            let digits = [b'0' + hops / 100, b'0' + hops / 10 % 10, b'0' + hops % 10];
            let zeros = if hops >= 100 { 0 } else { 1 + usize::from(hops < 10) };
            self.set_value(line, &digits[zeros..]).expect("digits are safe text");
        }
        true
    }

    /// Adds a header behind all others.
    pub fn add(&mut self, name: &str, value: &[u8]) -> Result<(), UnsafeText> {
        self.insert_line(self.index.lines.len(), Name::of(name.as_bytes()), name.as_bytes(), value)
    }

    /// Replaces the first header of this name and removes its others, or adds it.
    pub fn set(&mut self, name: Name, value: &[u8]) -> Result<(), UnsafeText> {
        check_line(value)?;
        match self.first_line(name) {
            None => self.add(name.as_str(), value),
            Some(first) => {
                self.set_value(first, value)?;
                self.remove_lines(|message, at| at != first && message.index.lines[at].name == name);
                Ok(())
            }
        }
    }

    /// Removes all headers of this name, however they are written; says how many lines went.
    pub fn remove(&mut self, name: Name) -> usize {
        self.remove_lines(|message, at| message.index.lines[at].name == name)
    }

    /// Removes all headers with this name in any case, such as `X-Example`; says how many lines went.
    pub fn remove_named(&mut self, name: &str) -> usize {
        let known = Name::of(name.as_bytes());
        self.remove_lines(|message, at| message.is_named(&message.index.lines[at], known, name.as_bytes()))
    }

    /// Removes all headers whose name begins so, in any case, such as `X-Switchboard-`.
    pub fn remove_prefixed(&mut self, prefix: &str) -> usize {
        self.remove_lines(|message, at| {
            let line = &message.index.lines[at];
            let name = message.slice(line.start, line.name_end);
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        })
    }

    /// Replaces the body and its Content-Length.
    pub fn set_body(&mut self, body: &[u8]) {
        self.bytes.truncate(self.index.body as usize);
        self.bytes.extend_from_slice(body);
        self.set(Name::ContentLength, body.len().to_string().as_bytes()).expect("digits are safe text");
    }

    /// Drops what stands behind the body that Content-Length announces (RFC 3261 §18.3); `false` if the body is too
    /// short for it. Without the header the body is all there is.
    pub(crate) fn cut_to_content_length(&mut self) -> bool {
        let Ok(Some(length)) = self.content_length() else { return true };
        let end = self.index.body as usize + length;
        if end > self.bytes.len() {
            return false;
        }
        self.bytes.truncate(end);
        true
    }

    /// Says how long the body is where the transport does not (RFC 3261 §18.3, §20.14): on a connection a body that
    /// is not announced would be read as the next message.
    pub(crate) fn frame_for(&mut self, transport: Transport) {
        if transport.is_reliable() && self.content_length() == Ok(None) {
            let length = self.body().len().to_string();
            self.add("Content-Length", length.as_bytes()).expect("digits are safe text");
        }
    }

    /// Makes the last Route the request-URI (RFC 3261 §16.4): a router from before that RFC put ours there.
    pub(crate) fn take_uri_from_last_route(&mut self) {
        let values: Vec<Vec<u8>> = self.list(Name::Route).map(<[u8]>::to_vec).collect();
        let Some((last, rest)) = values.split_last() else { return };
        let Some(address) = Address::parse(last) else { return };
        if self.set_uri(address.uri_text).is_ok() {
            self.set_routes(rest.iter().map(Vec::as_slice));
        }
    }

    /// Makes the first Route the request-URI and puts the request-URI last (RFC 3261 §16.6 step 6): so a router from
    /// before that RFC wants it.
    pub(crate) fn give_uri_to_last_route(&mut self) {
        let values: Vec<Vec<u8>> = self.list(Name::Route).map(<[u8]>::to_vec).collect();
        let Some((first, rest)) = values.split_first() else { return };
        let Some(address) = Address::parse(first) else { return };
        let last = [b"<", self.uri_text(), b">"].concat();
        if self.set_uri(address.uri_text).is_ok() {
            self.set_routes(rest.iter().map(Vec::as_slice).chain([&last[..]]));
        }
    }

    fn set_routes<'a>(&mut self, values: impl DoubleEndedIterator<Item = &'a [u8]>) {
        self.remove(Name::Route);
        for value in values.rev() {
            // Folds may stand in what was read, and nothing else that breaks a line.
            self.push_route(&one_line(value)).expect("it has no line ends");
        }
    }

    // The tools.

    pub(crate) fn first_line(&self, name: Name) -> Option<usize> {
        self.index.lines_with(name).iter().position(|line| line.name == name)
    }

    /// The place behind the last header of this name, or the very first place.
    fn behind(&self, name: Name) -> usize {
        self.index.lines_with(name).iter().rposition(|line| line.name == name).map_or(0, |at| at + 1)
    }

    fn line_start(&self, at: usize) -> u32 {
        self.index.lines.get(at).map_or(self.index.headers_end, |line| line.start)
    }

    fn insert_line(&mut self, at: usize, name: Name, text: &[u8], value: &[u8]) -> Result<(), UnsafeText> {
        check_line(value)?;
        check_line(text)?;
        self.finish_last_line();
        let start = self.line_start(at) as usize;
        self.splice(start..start, &[text, b": ", value, b"\r\n"], at);
        let name_end = start + text.len();
        let end = name_end + 2 + value.len();
        self.index.insert(
            at,
            Line {
                name,
                start: offset(start),
                name_end: offset(name_end),
                value: offset(name_end + 1),
                end: offset(end),
            },
        );
        Ok(())
    }

    /// A message whose headers do not end with an empty line gets its line end, or an insertion would join a line.
    fn finish_last_line(&mut self) {
        if self.index.headers_end == self.index.body && self.bytes.last() != Some(&b'\n') {
            self.bytes.extend_from_slice(b"\r\n");
            self.index.headers_end = offset(self.bytes.len());
            self.index.body = self.index.headers_end;
        }
    }

    fn pop_value(&mut self, name: Name) -> bool {
        let Some(line) = self.first_line(name) else { return false };
        let Line { value, end, .. } = self.index.lines[line];
        let raw = self.slice(value, end);
        let mut values = Values::of(raw);
        let first = values.next_at().map(|(at, _)| at);
        let next = values.next_at().map(|(at, _)| at);
        match (first, next) {
            (Some(start), Some(next)) => {
                let base = value as usize;
                self.splice_value(line, base + start..base + next, &[]);
            }
            (first, _) => {
                // An empty line is no value: it goes, and the next one is looked at.
                self.remove_lines(|_, at| at == line);
                if first.is_none() {
                    return self.pop_value(name);
                }
            }
        }
        true
    }

    fn set_value(&mut self, line: usize, new: &[u8]) -> Result<(), UnsafeText> {
        check_line(new)?;
        let Line { value, end, .. } = self.index.lines[line];
        self.splice_value(line, value as usize..end as usize, &[b" ", new]);
        Ok(())
    }

    fn remove_lines(&mut self, goes: impl Fn(&Message, usize) -> bool) -> usize {
        let mut removed = 0;
        for at in (0..self.index.lines.len()).rev() {
            if goes(self, at) {
                let range = self.index.lines[at].start as usize..self.line_start(at + 1) as usize;
                self.splice(range, &[], at + 1);
                self.index.lines.remove(at);
                removed += 1;
            }
        }
        removed
    }

    /// Replaces bytes inside one line's value.
    fn splice_value(&mut self, line: usize, range: Range<usize>, with: &[&[u8]]) {
        let end = self.index.lines[line].end as usize - range.len() + length_of(with);
        self.splice(range, with, line + 1);
        self.index.lines[line].end = offset(end);
    }

    /// Replaces bytes by these parts; the lines from `first_moved` on, and the body, move by the difference.
    fn splice(&mut self, range: Range<usize>, with: &[&[u8]], first_moved: usize) {
        let (gone, come) = (offset(range.len()), offset(length_of(with)));
        replace_bytes(&mut self.bytes, range, with);
        if gone == come {
            return;
        }
        let shift = |at: u32| (at + come).saturating_sub(gone);
        for line in self.index.lines.iter_mut().skip(first_moved) {
            line.start = shift(line.start);
            line.name_end = shift(line.name_end);
            line.value = shift(line.value);
            line.end = shift(line.end);
        }
        self.index.headers_end = shift(self.index.headers_end);
        self.index.body = shift(self.index.body);
    }
}

fn length_of(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// As `Vec::splice`, which goes byte by byte.
fn replace_bytes(bytes: &mut Vec<u8>, range: Range<usize>, with: &[&[u8]]) {
    let (length, new) = (bytes.len(), length_of(with));
    if new > range.len() {
        bytes.resize(length + new - range.len(), 0);
    }
    if new != range.len() {
        bytes.copy_within(range.end..length, range.start + new);
    }
    let mut at = range.start;
    for part in with {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    bytes.truncate(length + new - range.len());
}

/// Where `;name` or `;name=value` stands in a Via value.
fn param_range(element: &[u8], name: &str) -> Option<Range<usize>> {
    let mut at = memchr::memchr(b';', element)?;
    while at < element.len() {
        let mut scan = Scan::new(&element[at + 1..]);
        scan.space();
        let found = scan.token().unwrap_or_default();
        let length = semicolon_end(&element[at + 1..]);
        let end = at + 1 + length;
        if found.eq_ignore_ascii_case(name.as_bytes()) {
            return Some(at..end);
        }
        at = end;
    }
    None
}

/// The length up to the next semicolon that is not in quotes.
fn semicolon_end(text: &[u8]) -> usize {
    let limit = element_end(text);
    let mut at = 0;
    while at < limit {
        match text[at] {
            b';' => return at,
            b'"' => {
                let mut scan = Scan::new(&text[at..]);
                match scan.quoted() {
                    Some(_) => at += scan.position(),
                    None => return limit,
                }
            }
            _ => at += 1,
        }
    }
    limit
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:a@b SIP/2.0\r\n\
        v: SIP/2.0/UDP h1;rport;branch=z9hG4bK1 , SIP/2.0/UDP h2;branch=z9hG4bK2\r\n\
        Subject: caf\u{e9}\r\n folded\r\n\
        Max-Forwards: 0070\r\n\
        Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>, <sip:p3;lr>\r\n\
        x-thing: 1\r\nX-Thing : 2\r\n\
        \r\nbody";

    /// After an edit the index must say what a fresh reading of the bytes says.
    fn check(edit: impl FnOnce(&mut Message)) -> String {
        let mut message = Message::parse(INVITE.as_bytes()).unwrap();
        edit(&mut message);
        let fresh = Message::parse(message.bytes()).unwrap();
        assert!(message.headers().eq(fresh.headers()), "{:?}", String::from_utf8_lossy(message.bytes()));
        assert_eq!(message.body(), fresh.body());
        assert_eq!(message.uri_text(), fresh.uri_text());
        String::from_utf8(message.into_bytes()).unwrap()
    }

    #[test]
    fn each_edit_touches_only_its_own_bytes() {
        let replaced = |old: &str, new: &str| INVITE.replacen(old, new, 1);
        assert_eq!(
            check(|m| m.set_uri(b"sip:longer@example.com").unwrap()),
            replaced("sip:a@b", "sip:longer@example.com")
        );
        assert_eq!(
            check(|m| m.push_via(b"SIP/2.0/UDP me").unwrap()),
            replaced("v:", "Via: SIP/2.0/UDP me\r\nv:")
        );
        assert_eq!(check(|m| assert!(m.pop_via())), replaced("SIP/2.0/UDP h1;rport;branch=z9hG4bK1 , ", ""));
        assert_eq!(check(|m| assert!(m.pop_via() && m.pop_via() && !m.pop_via())), {
            let via = &INVITE[INVITE.find("v:").unwrap()..INVITE.find("Subject").unwrap()];
            replaced(via, "")
        });
        assert_eq!(check(|m| assert!(m.pop_route())), replaced("Route: <sip:p1;lr>\r\n", ""));
        assert_eq!(
            check(|m| assert!(m.pop_route() && m.pop_route())),
            replaced("Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>, ", "Route: ")
        );
        assert_eq!(check(|m| assert!(m.decrement_max_forwards())), replaced("0070", "69"));
        let at_zero = |m: &mut Message| {
            m.set(Name::MaxForwards, b"0").unwrap();
            assert!(!m.decrement_max_forwards());
        };
        assert_eq!(check(at_zero), replaced("0070", "0"));
        assert_eq!(
            check(|m| assert_eq!(m.remove_named("X-THING"), 2)),
            replaced("x-thing: 1\r\nX-Thing : 2\r\n", "")
        );
        assert_eq!(
            check(|m| assert_eq!(m.remove_prefixed("X-T"), 2)),
            replaced("x-thing: 1\r\nX-Thing : 2\r\n", "")
        );
        assert_eq!(
            check(|m| assert_eq!(m.remove(Name::Subject), 1)),
            replaced("Subject: caf\u{e9}\r\n folded\r\n", "")
        );
        assert_eq!(
            check(|m| m.push_record_route(b"<sip:me;lr>").unwrap()),
            replaced("Subject", "Record-Route: <sip:me;lr>\r\nSubject")
        );
        assert_eq!(
            check(|m| m.push_route(b"<sip:p0;lr>").unwrap()),
            replaced("Route", "Route: <sip:p0;lr>\r\nRoute")
        );
        assert_eq!(check(|m| m.add("X-New", b"1").unwrap()), replaced("\r\n\r\n", "\r\nX-New: 1\r\n\r\n"));
        assert_eq!(
            check(|m| m.set_body(b"new")),
            replaced("\r\n\r\nbody", "\r\nContent-Length: 3\r\n\r\nnew")
        );
        assert_eq!(check(|m| m.set_via_param("rport", b"99").unwrap()), replaced(";rport", ";rport=99"));
        assert_eq!(
            check(|m| m.set_via_param("received", b"::1").unwrap()),
            replaced("K1 ,", "K1;received=::1 ,")
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_survive() {
        let mut message =
            Message::parse(b"OPTIONS sip:a@b SIP/2.0\nVia: x\nSubject: \xe9\xff\n\n\xfe").unwrap();
        message.push_via(b"SIP/2.0/UDP me").unwrap();
        assert_eq!(
            message.bytes(),
            b"OPTIONS sip:a@b SIP/2.0\nVia: SIP/2.0/UDP me\r\nVia: x\nSubject: \xe9\xff\n\n\xfe"
        );
    }

    #[test]
    fn nothing_breaks_out_of_its_line() {
        let mut message = Message::parse(INVITE.as_bytes()).unwrap();
        assert_eq!(message.add("X", b"a\r\nEvil: 1"), Err(UnsafeText));
        assert_eq!(message.add("X\nY", b"a"), Err(UnsafeText));
        assert_eq!(message.set_uri(b"sip:a b"), Err(UnsafeText));
        assert_eq!(message.push_via(b"\n"), Err(UnsafeText));
        assert_eq!(message.bytes(), INVITE.as_bytes());
    }

    #[test]
    fn a_message_that_just_ends_can_be_edited() {
        let mut message = Message::parse(b"OPTIONS sip:a@b SIP/2.0\r\nVia: x").unwrap();
        message.add("To", b"y").unwrap();
        assert_eq!(message.bytes(), b"OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\nTo: y\r\n");
    }
}
