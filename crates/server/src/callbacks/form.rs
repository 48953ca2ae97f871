//! The form bodies of callbacks, byte for byte as they were sent: signatures are made over bytes, and a caller's name may be in
//! no encoding at all.

use std::borrow::Cow;

use domain::error::Code;

/// The largest body, in bytes. Carriers send one or two thousand.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// The most parameters.
pub(super) const PARAMETERS_MAX: usize = 500;

/// The parameters of a form, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Form(pub(super) Vec<(Vec<u8>, Vec<u8>)>);

impl Form {
    /// Reads `application/x-www-form-urlencoded` (WHATWG URL §5.1), without minding what the bytes mean.
    pub(super) fn parse(body: &[u8]) -> Result<Form, (Code, &'static str)> {
        let mut parameters = Vec::with_capacity(32);
        for pair in body.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
            if parameters.len() == PARAMETERS_MAX {
                return Err((Code::BodyTooLarge, "the form has more than 500 parameters"));
            }
            let at = pair.iter().position(|&byte| byte == b'=');
            let (name, value) = at.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
            parameters.push((decode(name), decode(value)));
        }
        Ok(Form(parameters))
    }

    /// The value of a parameter; bytes that are no UTF-8 are shown as �. A parameter that stands twice has its first value.
    pub(super) fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0
            .iter()
            .find(|(known, _)| known == name.as_bytes())
            .map(|(_, value)| String::from_utf8_lossy(value))
    }

    /// The value where it was sent and is not empty.
    pub(super) fn filled(&self, name: &str) -> Option<Cow<'_, str>> {
        self.value(name).filter(|value| !value.is_empty())
    }

    /// Whether everything is UTF-8.
    pub(super) fn is_utf8(&self) -> bool {
        self.0
            .iter()
            .all(|(name, value)| std::str::from_utf8(name).is_ok() && std::str::from_utf8(value).is_ok())
    }
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => decoded.push(b' '),
            b'%' => match after {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    decoded.push(hex(*high) << 4 | hex(*low));
                    rest = after;
                }
                _ => decoded.push(b'%'),
            },
            other => decoded.push(other),
        }
    }
    decoded
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
        assert!(Form::parse(b"").unwrap().0.is_empty());
    }

    proptest! {
        #[test]
        fn what_a_serializer_writes_is_read_back(pairs in proptest::collection::vec((".{0,9}", ".{0,9}"), 0..9)) {
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
            let form = Form::parse(body.as_bytes()).unwrap();
            let read: Vec<(String, String)> = form.0.into_iter()
                .map(|(name, value)| (String::from_utf8(name).unwrap(), String::from_utf8(value).unwrap()))
                .collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn nothing_panics(body: Vec<u8>) {
            let _ = Form::parse(&body);
        }
    }
}
