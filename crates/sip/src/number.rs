//! Phone numbers as they stand in user parts and tel URIs, brought to digits.
//!
//! This is the wire's half of number handling: separators and escapes are undone and the parameters that matter are
//! found. Which E.164 number the digits are (national formats, prefixes, tech prefixes) is for whoever knows the
//! trunk; it is not decided here.

use arrayvec::ArrayVec;

use crate::scan::Params;
use crate::uri::{Uri, is_separator, unescape};

/// The longest dialled string we take for a number: E.164 has 15 digits, prefixes and extensions need some more.
pub const DIGITS_MAX: usize = 40;

/// Digits (and `*`, `#`), no separators.
pub type Digits = ArrayVec<u8, DIGITS_MAX>;

/// A phone number read from a URI.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Number {
    /// The digits, without `+` and separators. Local numbers may hold `*` and `#`.
    pub digits: Digits,
    /// Whether a `+` stood in front: the digits are then E.164.
    pub is_global: bool,
    /// `;phone-context=`: a domain, or a prefix that makes the number global.
    pub context: Option<Vec<u8>>,
    /// `;rn=`: the routing number that a ported number's lookup gave, digits only.
    pub routing_number: Option<Digits>,
    /// `;npdi`: the lookup for ported numbers was done.
    pub was_dipped: bool,
    /// `;ext=`.
    pub extension: Option<Digits>,
    /// `;user=phone` on the URI: the sender says that the user part is a number.
    pub user_is_phone: bool,
}

impl Number {
    /// The number in a URI, or `None` when the user part is a name and no number.
    ///
    /// ```
    /// use sip::number::Number;
    /// use sip::uri::Uri;
    /// for text in [
    ///     "sip:+14385950345@example.com",
    ///     "sip:%2B1438-595.0345;npdi;rn=+14385550000@example.com;user=phone",
    ///     "tel:+1(438)595-0345",
    /// ] {
    ///     let number = Number::read(&Uri::parse(text.as_bytes())?).expect("a number");
    ///     assert!(number.is_global);
    ///     assert_eq!(number.digits.as_slice(), b"14385950345");
    /// }
    /// assert!(Number::read(&Uri::parse(b"sip:support@example.com")?).is_none());
    /// # Ok::<(), sip::uri::UriError>(())
    /// ```
    pub fn read(uri: &Uri<'_>) -> Option<Number> {
        match uri {
            Uri::Tel(tel) => Number::from_parts(tel.number, tel.params, false),
            Uri::Sip(sip) => {
                let user = unescape(sip.user?);
                let end = memchr::memchr(b';', &user).unwrap_or(user.len());
                let user_is_phone =
                    sip.params.find("user").is_some_and(|value| value.eq_ignore_ascii_case(b"phone"));
                Number::from_parts(&user[..end], Params::of(&user[end..]), user_is_phone)
            }
            Uri::Other { .. } => None,
        }
    }

    fn from_parts(text: &[u8], params: Params<'_>, user_is_phone: bool) -> Option<Number> {
        let (digits, is_global) = read_digits(text)?;
        let find = |name| params.find(name).filter(|value| !value.is_empty());
        Some(Number {
            digits,
            is_global,
            context: find("phone-context").map(|value| unescape(value).into_owned()),
            routing_number: find("rn")
                .and_then(|value| read_digits(&unescape(value)))
                .map(|(digits, _)| digits),
            was_dipped: params.find("npdi").is_some(),
            extension: find("ext").and_then(read_digits).map(|(digits, _)| digits),
            user_is_phone,
        })
    }
}

/// Digits, and whether a plus stood before them.
fn read_digits(text: &[u8]) -> Option<(Digits, bool)> {
    let (text, is_global) = match text.strip_prefix(b"+") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let mut digits = Digits::new();
    for &byte in text {
        match byte {
            b'0'..=b'9' => digits.try_push(byte).ok()?,
            b'*' | b'#' if !is_global => digits.try_push(byte).ok()?,
            byte if is_separator(byte) => {}
            _ => return None,
        }
    }
    // Separators alone are no number.
    digits.iter().any(u8::is_ascii_digit).then_some((digits, is_global))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Number> {
        Number::read(&Uri::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn wire_variants_of_one_number() {
        for (text, global) in [
            ("sip:+14385950345@x.org", true),
            ("sips:+14385950345@x.org;user=phone", true),
            ("sip:%2B14385950345@x.org", true),
            ("sip:%2b1438595%3034%35@x.org", true),
            ("sip:14385950345@x.org", false),
            ("sip:1-438-595-0345@x.org", false),
            ("sip:1.438.595.0345@x.org", false),
            ("sip:+1(438)595-0345@x.org", true),
            ("sip:+14385950345;npdi@x.org", true),
            ("sip:+14385950345;npdi;rn=+14385550000@x.org", true),
            ("sip:+14385950345%3Bnpdi@x.org", true),
            ("sip:+14385950345:secret@x.org", true),
            ("tel:+14385950345", true),
            ("tel:+1-438-595-0345", true),
            ("tel:1-438-595-0345;phone-context=+1", false),
            ("TEL:+1.438.595.0345;ext=12", true),
        ] {
            let number = read(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(number.digits.as_slice(), b"14385950345", "{text}");
            assert_eq!(number.is_global, global, "{text}");
        }
    }

    #[test]
    fn parameters_of_the_number() {
        let number = read("sip:5950345;phone-context=%2B1438;rn=438-555-0000;npdi@x.org;user=PHONE").unwrap();
        assert_eq!(number.context.as_deref(), Some(&b"+1438"[..]));
        assert_eq!(number.routing_number.unwrap().as_slice(), b"4385550000");
        assert!(number.was_dipped && number.user_is_phone);
        assert_eq!(read("tel:595;ext=99;phone-context=x.org").unwrap().extension.unwrap().as_slice(), b"99");
    }

    #[test]
    fn names_are_no_numbers() {
        for text in [
            "sip:support@x.org",
            "sip:x.org",
            "sip:+@x.org",
            "sip:-.-@x.org",
            "sip:1438a@x.org",
            "sip:+1*2@x.org",
            "mailto:1@x.org",
            "sip:00000000000000000000000000000000000000000@x.org",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
