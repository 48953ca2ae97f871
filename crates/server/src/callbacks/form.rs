//! The form bodies of callbacks, byte for byte as they were sent: signatures are made over bytes, and a caller's name may be in
//! no encoding at all.

use std::borrow::Cow;
use std::ops::Range;

use domain::error::Code;

/// The largest body, in bytes. Carriers send one or two thousand.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// The most parameters.
pub(super) const PARAMETERS_MAX: usize = 500;

/// The parameters of a form, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Form {
    /// All names and values, decoded, one behind the other: two allocations for a form, however many parameters it has.
    text: Vec<u8>,
    parameters: Vec<Parameter>,
}

/// Where a parameter stands in the text: its name up to `name_end`, its value from there.
#[derive(Clone, Debug)]
struct Parameter {
    start: u32,
    name_end: u32,
    end: u32,
}

impl Form {
    /// Reads `application/x-www-form-urlencoded` (WHATWG URL §5.1), without minding what the bytes mean.
    pub(super) fn parse(body: &[u8]) -> Result<Form, (Code, &'static str)> {
        if body.len() > BODY_BYTES_MAX {
            return Err((Code::BodyTooLarge, "the form has more than 65,536 bytes"));
        }
        let mut form = Form { text: Vec::with_capacity(body.len()), parameters: Vec::with_capacity(32) };
        for pair in body.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
            if form.parameters.len() == PARAMETERS_MAX {
                return Err((Code::BodyTooLarge, "the form has more than 500 parameters"));
            }
            let at = pair.iter().position(|&byte| byte == b'=');
            let (name, value) = at.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
            let start = form.end();
            decode(name, &mut form.text);
            let name_end = form.end();
            decode(value, &mut form.text);
            form.parameters.push(Parameter { start, name_end, end: form.end() });
        }
        Ok(form)
    }

    /// All names and values.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.parameters.iter().map(|parameter| {
            let Parameter { start, name_end, end } = *parameter;
            (self.slice(start..name_end), self.slice(name_end..end))
        })
    }

    /// The value of a parameter; bytes that are no UTF-8 are shown as �. A parameter that stands twice has its first value.
    pub(super) fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.pairs()
            .find(|(known, _)| *known == name.as_bytes())
            .map(|(_, value)| String::from_utf8_lossy(value))
    }

    /// The value where it was sent and is not empty.
    pub(super) fn filled(&self, name: &str) -> Option<Cow<'_, str>> {
        self.value(name).filter(|value| !value.is_empty())
    }

    /// Whether everything is UTF-8.
    pub(super) fn is_utf8(&self) -> bool {
        self.pairs()
            .all(|(name, value)| std::str::from_utf8(name).is_ok() && std::str::from_utf8(value).is_ok())
    }

    fn end(&self) -> u32 {
        u32::try_from(self.text.len()).expect("a decoded form is no longer than its body, which is limited")
    }

    fn slice(&self, range: Range<u32>) -> &[u8] {
        &self.text[range.start as usize..range.end as usize]
    }
}

fn decode(text: &[u8], into: &mut Vec<u8>) {
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => into.push(b' '),
            b'%' => match after {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    into.push(hex(*high) << 4 | hex(*low));
                    rest = after;
                }
                _ => into.push(b'%'),
            },
            other => into.push(other),
        }
    }
}
const fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms_are_read_byte_for_byte() {
        let form = Form::parse(b"a=1&a=2&b=x%2By+z&c&=v&d=%ff%&e=h%C3%A9").unwrap();
        assert_eq!(form.value("a").unwrap(), "1");
        assert_eq!(form.value("b").unwrap(), "x+y z");
        assert_eq!((form.value("c").unwrap(), form.filled("c")), ("".into(), None));
        assert_eq!(form.value("d").unwrap(), "\u{FFFD}%");
        assert_eq!(form.value("e").unwrap(), "hé");
        assert!(!form.is_utf8() && form.value("z").is_none());
        assert_eq!(Form::parse(&b"a=1&".repeat(501)).unwrap_err().0, Code::BodyTooLarge);
        assert_eq!(Form::parse(&b"a".repeat(BODY_BYTES_MAX + 1)).unwrap_err().0, Code::BodyTooLarge);
        assert_eq!(Form::parse(b"").unwrap().pairs().count(), 0);
    }

    proptest! {
        #[test]
        fn what_a_serializer_writes_is_read_back(pairs in proptest::collection::vec((".{0,9}", ".{0,9}"), 0..9)) {
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            let form = Form::parse(body.as_bytes()).unwrap();
            let text = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().to_owned();
            let read: Vec<(String, String)> = form.pairs().map(|(name, value)| (text(name), text(value))).collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn nothing_panics(body: Vec<u8>) {
            let _ = Form::parse(&body);
        }
    }
}
