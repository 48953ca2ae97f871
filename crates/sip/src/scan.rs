//! A cursor over one header's value: the few productions of RFC 3261 §25.1 that all headers are built from.
//!
//! Line folds are white space here (CR and LF inside a value can only come from a fold). Nothing allocates.

use crate::header::name::TOKEN;
use crate::lines::param_end_suspects;
use crate::work;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// White space inside a header value, folds included.
#[inline]
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether one of these bytes is such. All of them are looked at: without a way out the compiler takes many at once.
#[inline]
pub(crate) fn any(bytes: &[u8], is_such: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |found, &byte| found | is_such(byte))
}

/// Without the white space around it.
#[inline]
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

/// A decimal number: digits only, at most `max`. Overflow is a `None`, never a wrap.
pub(crate) fn number(digits: &[u8], max: u64) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        if value > max {
            return None;
        }
    }
    Some(value)
}

impl<'a> Scan<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Scan<'a> {
        Scan { bytes, at: 0 }
    }

    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        let to = self.at.saturating_add(count).min(self.bytes.len());
        work::visited(to - self.at);
        self.at = to;
    }

    /// Takes bytes as long as they fit.
    #[inline]
    pub(crate) fn take_while(&mut self, fits: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.rest();
        self.take(rest.iter().position(|&byte| !fits(byte)).unwrap_or(rest.len()))
    }

    /// Takes as many bytes as were found to belong together.
    #[inline]
    fn take(&mut self, length: usize) -> &'a [u8] {
        let rest = self.rest();
        work::visited(length + 1);
        self.at += length;
        &rest[..length]
    }

    #[inline]
    pub(crate) fn space(&mut self) {
        if self.peek().is_some_and(is_space) {
            self.take_while(is_space);
        }
    }

    pub(crate) fn token(&mut self) -> Option<&'a [u8]> {
        let token = self.take_while(|byte| TOKEN[usize::from(byte)]);
        (!token.is_empty()).then_some(token)
    }

    /// Takes this byte if it comes next.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.advance(1);
        }
        found
    }

    /// Takes this byte and the white space around it (`SLASH`, `EQUAL`, `SEMI`… of the grammar).
    pub(crate) fn eat_spaced(&mut self, byte: u8) -> bool {
        let before = self.at;
        self.space();
        if self.eat(byte) {
            self.space();
            true
        } else {
            self.at = before;
            false
        }
    }

    /// A quoted string, whose inside is returned as it stands (escapes not undone). `None` if it does not end.
    pub(crate) fn quoted(&mut self) -> Option<&'a [u8]> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
                None => {
                    work::visited(self.bytes.len() - self.at);
                    return None;
                }
            }
        }
        work::visited(at + 1 - self.at);
        self.at = at + 1;
        self.bytes.get(start..at)
    }
}

/// Values of a header that may be joined by commas (RFC 3261 §7.3.1); commas in quotes and in `<…>` do not count.
/// Empty elements are passed over.
#[derive(Clone, Debug)]
pub(crate) struct Values<'a> {
    rest: Option<&'a [u8]>,
    /// Where `rest` begins in the value we were made from.
    offset: usize,
}

/// The end of the first element: the index of the comma, or the length.
pub(crate) fn element_end(value: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = value.get(at..).and_then(|rest| memchr::memchr3(b'"', b'<', b',', rest)) {
        work::visited(found + 1);
        at += found;
        match value[at] {
            b'"' => {
                let mut scan = Scan::new(&value[at..]);
                match scan.quoted() {
                    Some(_) => at += scan.position(),
                    // A quote that does not end: all that follows belongs to it.
                    None => at = value.len(),
                }
            }
            b'<' => {
                let behind = memchr::memchr(b'>', &value[at..]).map_or(value.len(), |close| at + close + 1);
                work::visited(behind - at);
                at = behind;
            }
            _ => return at,
        }
    }
    work::visited(value.len().saturating_sub(at));
    value.len()
}

impl<'a> Values<'a> {
    pub(crate) fn of(value: &'a [u8]) -> Values<'a> {
        Values { rest: Some(value), offset: 0 }
    }

    /// The next element and where it stands.
    pub(crate) fn next_at(&mut self) -> Option<(usize, &'a [u8])> {
        while let Some(rest) = self.rest {
            let end = element_end(rest);
            let element = &rest[..end];
            let at = self.offset;
            self.rest = rest.get(end + 1..);
            self.offset += end + 1;
            let trimmed = trim(element);
            if !trimmed.is_empty() {
                let lead = element.iter().take_while(|&&byte| is_space(byte)).count();
                return Some((at + lead, trimmed));
            }
        }
        None
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        self.next_at().map(|(_, value)| value)
    }
}

/// Parameters behind a value: `;name`, `;name=value`, `;name="quoted"`.
#[derive(Clone, Copy, Debug)]
pub struct Params<'a> {
    scan: Scan<'a>,
}

impl<'a> Params<'a> {
    pub(crate) fn of(text: &'a [u8]) -> Params<'a> {
        Params { scan: Scan::new(text) }
    }

    /// The value of the parameter of this name (any case); empty when it stands without one.
    pub fn find(self, name: &str) -> Option<&'a [u8]> {
        let mut all = self;
        all.find_map(|param| match param {
            Ok((found, value)) if found.eq_ignore_ascii_case(name.as_bytes()) => {
                Some(value.unwrap_or_default())
            }
            _ => None,
        })
    }

    /// Reads them all in one pass: the values that [`Params::find`] would give for these names. `None` if one of them
    /// breaks the grammar, or if one of these names stands there twice (RFC 3261 §7.3.1): whoever reads the last one
    /// would see another transaction or another dialog than we do.
    pub(crate) fn read<const COUNT: usize>(self, names: [&str; COUNT]) -> Option<[Option<&'a [u8]>; COUNT]> {
        self.read_with(names, |_, _| false)
    }

    /// The same, but that a name may stand again where its second value says the same.
    pub(crate) fn read_alike<const COUNT: usize>(
        self,
        names: [&str; COUNT],
    ) -> Option<[Option<&'a [u8]>; COUNT]> {
        self.read_with(names, <[u8]>::eq_ignore_ascii_case)
    }

    fn read_with<const COUNT: usize>(
        self,
        names: [&str; COUNT],
        may_repeat: impl Fn(&[u8], &[u8]) -> bool,
    ) -> Option<[Option<&'a [u8]>; COUNT]> {
        let mut values: [Option<&[u8]>; COUNT] = [None; COUNT];
        for param in self {
            let (name, value) = param.ok()?;
            for (slot, wanted) in values.iter_mut().zip(names) {
                if name.len() == wanted.len()
                    && name.eq_ignore_ascii_case(wanted.as_bytes())
                    && let Some(before) = slot.replace(value.unwrap_or_default())
                    && !may_repeat(before, value.unwrap_or_default())
                {
                    return None;
                }
            }
        }
        Some(values)
    }

    /// The text of them all, from the first semicolon on.
    pub fn text(self) -> &'a [u8] {
        self.scan.rest()
    }
}

/// A parameter that breaks the grammar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadParam;

#[expect(clippy::copy_iterator, reason = "a view of a few words; a copy is a fresh look at the same text")]
impl<'a> Iterator for Params<'a> {
    /// Name and value; the quotes around a quoted value are taken away, its escapes are not.
    type Item = Result<(&'a [u8], Option<&'a [u8]>), BadParam>;

    fn next(&mut self) -> Option<Self::Item> {
        self.scan.space();
        if self.scan.is_done() {
            return None;
        }
        let param = read_param(&mut self.scan);
        if param.is_none() {
            // Nothing behind a break in the grammar can be trusted.
            self.scan.advance(usize::MAX);
        }
        Some(param.ok_or(BadParam))
    }
}

/// What ends a parameter's name: white space and `;="<>,`.
const NAME_ENDS: u8 = 1;
/// What ends a parameter's value: white space and `;",`.
const VALUE_ENDS: u8 = 2;

const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u8;
    loop {
        table[byte as usize] = match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b';' | b'"' | b',' => NAME_ENDS | VALUE_ENDS,
            b'=' | b'<' | b'>' => NAME_ENDS,
            _ => 0,
        };
        if byte == 255 {
            break;
        }
        byte += 1;
    }
    table
};

/// How many bytes stand before the first that ends this.
#[inline]
fn length_before(text: &[u8], ends: u8) -> usize {
    let is_end = |at: usize| CLASS[usize::from(text[at])] & ends != 0;
    let mut at = 0;
    // Sixteen at a time: those that look like an end are asked about.
    while let Some(block) = text.get(at..).and_then(|rest| rest.first_chunk::<16>()) {
        let mut suspects = param_end_suspects(block);
        while suspects != 0 {
            let suspect = at + suspects.trailing_zeros() as usize;
            if is_end(suspect) {
                return suspect;
            }
            suspects &= suspects - 1;
        }
        at += 16;
    }
    while at < text.len() && !is_end(at) {
        at += 1;
    }
    at
}

fn read_param<'a>(scan: &mut Scan<'a>) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    if !scan.eat(b';') {
        return None;
    }
    scan.space();
    let name = scan.take(length_before(scan.rest(), NAME_ENDS));
    if name.is_empty() {
        return None;
    }
    // Nearly always the sign stands right behind the name, and the value right behind it.
    if !scan.eat(b'=') && !scan.eat_spaced(b'=') {
        return Some((name, None));
    }
    scan.space();
    let value = if scan.peek() == Some(b'"') {
        scan.quoted()?
    } else {
        let value = scan.take(length_before(scan.rest(), VALUE_ENDS));
        if value.is_empty() {
            return None;
        }
        value
    };
    scan.space();
    Some((name, Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_wrap() {
        assert_eq!(number(b"0068", 255), Some(68));
        for bad in [&b""[..], b"-1", b"+1", b"0x10", b"256", b"99999999999999999999999"] {
            assert_eq!(number(bad, 255), None);
        }
    }

    #[test]
    fn commas_in_quotes_and_brackets_do_not_split() {
        let values: Vec<_> = Values::of(b" \"a,\\\"b\" <sip:x,y@z> , , c;d=\",\",").collect();
        assert_eq!(values, [&b"\"a,\\\"b\" <sip:x,y@z>"[..], b"c;d=\",\""]);
        let unclosed: Vec<_> = Values::of(b"\"a, b").collect();
        assert_eq!(unclosed, [b"\"a, b"]);
    }

    #[test]
    fn params_know_flags_values_and_quotes() {
        let params = Params::of(b";lr ; tag = x ;q=\"a;b\"");
        assert_eq!(params.find("LR"), Some(&b""[..]));
        assert_eq!(params.find("tag"), Some(&b"x"[..]));
        assert_eq!(params.find("q"), Some(&b"a;b"[..]));
        assert_eq!(params.find("nope"), None);
        assert!(Params::of(b";a;;b").any(|param| param.is_err()));
        assert!(Params::of(b" junk").any(|param| param.is_err()));
    }
}
