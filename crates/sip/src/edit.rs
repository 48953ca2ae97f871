//! Edits are splices: each replaces one stretch of bytes and moves the index behind it. All other bytes stay.
//!
//! A proxy does five things to a request it forwards, and these are they: push a Via, pop a Route, replace the
//! request-URI, count Max-Forwards down, push a Record-Route. Headers that may not pass are removed by name, on the
//! parsed form, so that no odd spelling slips through.

use std::ops::Range;

use crate::flow::Transport;
use crate::header::address::Address;
use crate::header::name::{Name, TOKEN};
use crate::lines::has_bad_uri_byte;
use crate::message::Message;
use crate::parse::{Line, Start, offset};
use crate::scan::{Scan, Values, is_space};
use crate::work;

/// What may not be written where it was to stand: a value with a line end, or a name, a method, a tag or a URI with a
/// byte that none has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnsafeText;

impl std::fmt::Display for UnsafeText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("text that would break out of its place in a message")
    }
}

impl std::error::Error for UnsafeText {}

/// Refuses what would break out of its line. A NUL may stand in a quoted string (RFC 4475 §3.1.1.2) and must pass
/// when it does, so it is no business of this check.
pub(crate) fn check_line(text: &[u8]) -> Result<(), UnsafeText> {
    if memchr::memchr2(b'\r', b'\n', text).is_some() { Err(UnsafeText) } else { Ok(()) }
}

/// Whether this can be a method, a header's name or a tag.
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| TOKEN[usize::from(byte)])
}

impl Message {
    /// Replaces the request-URI. A response is left as it is.
    pub fn set_uri(&mut self, new: &[u8]) -> Result<(), UnsafeText> {
        if new.is_empty() || has_bad_uri_byte(new) {
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
        let Some(range) = place_for_param(raw, name) else { return Ok(()) };
        let range = at.value as usize + range.start..at.value as usize + range.end;
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
        let Some((line, _, value)) = self.last_value(Name::Route) else { return };
        let Some(uri) = Address::parse(value).map(|address| address.uri_text.to_vec()) else { return };
        if self.set_uri(&uri).is_err() {
            return;
        }
        // It has moved with the lines.
        match self.last_value(Name::Route) {
            Some((_, Some(behind), _)) => {
                let end = self.index.lines[line].end as usize;
                self.splice_value(line, behind..end, &[]);
            }
            _ => _ = self.remove_lines(|_, at| at == line),
        }
    }

    /// Makes the first Route the request-URI and puts the request-URI last (RFC 3261 §16.6 step 6): so a router from
    /// before that RFC wants it.
    pub(crate) fn give_uri_to_last_route(&mut self) {
        let first = self.list(Name::Route).next().and_then(Address::parse);
        let Some(uri) = first.map(|address| address.uri_text.to_vec()) else { return };
        let last = [b"<", self.uri_text(), b">"].concat();
        if check_line(&last).is_ok() && self.set_uri(&uri).is_ok() {
            self.pop_route();
            let at = self.behind(Name::Route);
            let at = if at == 0 { self.behind(Name::Via) } else { at };
            self.insert_line(at, Name::Route, b"Route", &last).expect("it was checked for line ends");
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

    /// The last value of this name: its line, where the value before it on that line ends, and itself.
    fn last_value(&self, name: Name) -> Option<(usize, Option<usize>, &[u8])> {
        let lines =
            self.index.lines_with(name).iter().enumerate().rev().filter(|(_, line)| line.name == name);
        for (at, line) in lines {
            let mut values = Values::of(self.slice(line.value, line.end));
            let (mut behind, mut last) = (None, values.next_at());
            while let Some(next) = values.next_at() {
                behind = last.map(|(start, value)| line.value as usize + start + value.len());
                last = Some(next);
            }
            if let Some((_, value)) = last {
                return Some((at, behind, value));
            }
        }
        None
    }

    fn line_start(&self, at: usize) -> u32 {
        self.index.lines.get(at).map_or(self.index.headers_end, |line| line.start)
    }

    fn insert_line(&mut self, at: usize, name: Name, text: &[u8], value: &[u8]) -> Result<(), UnsafeText> {
        check_line(value)?;
        if !is_token(text) {
            return Err(UnsafeText);
        }
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

    /// Takes the first value of this name away. Lines above it that hold none go with it.
    fn pop_value(&mut self, name: Name) -> bool {
        let mut empty = 0;
        // The line of the value, and what is to go of it if another value follows there.
        let mut found = None;
        for (at, line) in self.index.lines_with(name).iter().enumerate().filter(|(_, line)| line.name == name)
        {
            let base = line.value as usize;
            let mut values = Values::of(self.slice(line.value, line.end));
            if let Some((first, _)) = values.next_at() {
                found = Some((at, values.next_at().map(|(next, _)| base + first..base + next)));
                break;
            }
            empty += 1;
        }
        let is_found = found.is_some();
        let last_gone = match found {
            Some((at, Some(range))) => {
                self.splice_value(at, range, &[]);
                if empty == 0 {
                    return true;
                }
                at - 1
            }
            Some((at, None)) => at,
            None => self.index.lines.len(),
        };
        self.remove_lines(|message, at| at <= last_gone && message.index.lines[at].name == name);
        is_found
    }

    fn set_value(&mut self, line: usize, new: &[u8]) -> Result<(), UnsafeText> {
        check_line(new)?;
        let Line { value, end, .. } = self.index.lines[line];
        self.splice_value(line, value as usize..end as usize, &[b" ", new]);
        Ok(())
    }

    /// Removes lines in one pass: what stays moves once, by all that went before it.
    fn remove_lines(&mut self, goes: impl Fn(&Message, usize) -> bool) -> usize {
        let count = self.index.lines.len();
        let Some(first) = (0..count).find(|&at| goes(self, at)) else { return 0 };
        let (mut kept, mut gone) = (first, 0);
        // Where bytes begin that stay and have not moved yet.
        let mut waiting = self.line_start(first);
        for at in first..count {
            let line = self.index.lines[at];
            if goes(self, at) {
                let next = self.line_start(at + 1);
                self.move_back(waiting as usize..line.start as usize, gone);
                waiting = next;
                gone += next - line.start;
            } else {
                self.index.lines[kept] = line.moved_back(gone);
                kept += 1;
            }
        }
        self.index.lines.truncate(kept);
        let end = self.bytes.len();
        self.move_back(waiting as usize..end, gone);
        self.bytes.truncate(end - gone as usize);
        self.index.headers_end -= gone;
        self.index.body -= gone;
        count - kept
    }

    fn move_back(&mut self, range: Range<usize>, by: u32) {
        work::visited(range.len());
        let to = range.start - by as usize;
        self.bytes.copy_within(range, to);
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

impl Line {
    fn moved_back(self, by: u32) -> Line {
        Line {
            name: self.name,
            start: self.start - by,
            name_end: self.name_end - by,
            value: self.value - by,
            end: self.end - by,
        }
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
    work::visited(new);
    if new != range.len() {
        work::visited(length - range.end);
        bytes.copy_within(range.end..length, range.start + new);
    }
    let mut at = range.start;
    for part in with {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    bytes.truncate(length + new - range.len());
}

/// Where `;name` or `;name=value` stands in the first Via value, or the value's end if it does not.
fn place_for_param(raw: &[u8], name: &str) -> Option<Range<usize>> {
    let mut at = raw.iter().position(|&byte| !is_space(byte) && byte != b',')?;
    loop {
        let is_param = raw[at] == b';';
        let end = part_end(raw, at + usize::from(is_param));
        let trimmed = at + raw[at..end].trim_ascii_end().len();
        if is_param {
            let found = raw[at + 1..end].trim_ascii_start();
            let begins = found.get(..name.len()).is_some_and(|it| it.eq_ignore_ascii_case(name.as_bytes()));
            if begins && !found.get(name.len()).is_some_and(|&byte| TOKEN[usize::from(byte)]) {
                return Some(at..trimmed);
            }
        }
        if raw.get(end) != Some(&b';') {
            return Some(trimmed..trimmed);
        }
        at = end;
    }
}

/// The next semicolon or comma that is not in quotes, or the end.
fn part_end(raw: &[u8], mut at: usize) -> usize {
    while let Some(found) = raw.get(at..).and_then(|rest| memchr::memchr3(b';', b',', b'"', rest)) {
        work::visited(found + 1);
        at += found;
        if raw[at] != b'"' {
            return at;
        }
        let mut scan = Scan::new(&raw[at..]);
        match scan.quoted() {
            Some(_) => at += scan.position(),
            None => break,
        }
    }
    work::visited(raw.len().saturating_sub(at));
    raw.len()
}

#[cfg(test)]
mod tests;
