//! Forms, queries, dates and the other small pieces of text on the wire, as the simulated carrier writes and reads them.

use std::fmt::Write as _;

use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};

/// The parameters of a query or a form body, in the order in which they came. Names may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form(pub(crate) Vec<(String, String)>);

impl Form {
    /// Reads `application/x-www-form-urlencoded`.
    pub(crate) fn parse(encoded: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// Writes `application/x-www-form-urlencoded`.
    pub(crate) fn encode(&self) -> String {
        let mut out = url::form_urlencoded::Serializer::new(String::new());
        out.extend_pairs(&self.0);
        out.finish()
    }

    /// The last value sent for `name`, which is the one that counts for a single-valued parameter.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name` where it was sent and is not empty.
    pub(crate) fn filled(&self, name: &str) -> Option<&str> {
        self.value(name).filter(|value| !value.is_empty())
    }

    /// Every value sent for `name`.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn push(&mut self, name: &str, value: impl Into<String>) {
        self.0.push((name.to_owned(), value.into()));
    }
}

/// The REST interface's dates: RFC 2822, always in GMT.
pub(crate) fn rfc2822(at: Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// A SID: its prefix and 32 hexadecimal digits from the system's generator.
pub(crate) fn sid(prefix: &str) -> String {
    let mut bytes = [0_u8; 16];
    SystemRandom::new().fill(&mut bytes).expect("the system's generator works");
    let mut out = String::from(prefix);
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a string can be written to");
    }
    out
}

/// Whether `text` is `prefix` and 32 hexadecimal digits.
pub(crate) fn is_sid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Whether `text` could be a phone number in E.164: the sign and 7 to 15 digits, not beginning with zero.
pub(crate) fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

/// Whether `text` is an absolute URL of one of `schemes`.
pub(crate) fn is_url(text: &str, schemes: &[&str]) -> bool {
    url::Url::parse(text).is_ok_and(|url| schemes.contains(&url.scheme()) && url.has_host())
}

/// `(808) 925-1571` for North America, the number itself elsewhere.
pub(crate) fn number_friendly(e164: &str) -> String {
    match e164.strip_prefix("+1") {
        Some(rest) if rest.len() == 10 => format!("({}) {}-{}", &rest[..3], &rest[3..6], &rest[6..]),
        _ => e164.to_owned(),
    }
}

/// A number for choosing with: the SplitMix64 step, the same for the same input on every machine and in every version.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_rfc_2822_in_gmt() {
        let at: Timestamp = "2015-07-30T23:19:04.5Z".parse().unwrap();
        assert_eq!(rfc2822(at), "Thu, 30 Jul 2015 23:19:04 +0000");
    }

    #[test]
    fn forms_keep_repeated_names_and_empty_values() {
        let form = Form::parse(
            b"StatusCallbackEvent=initiated&StatusCallbackEvent=answered&VoiceUrl=&To=%2B14155550100",
        );
        assert_eq!(form.values("StatusCallbackEvent").collect::<Vec<_>>(), ["initiated", "answered"]);
        assert_eq!(form.value("VoiceUrl"), Some(""));
        assert_eq!(form.filled("VoiceUrl"), None);
        assert_eq!(form.value("To"), Some("+14155550100"));
        assert_eq!(Form::parse(form.encode().as_bytes()), form);
    }

    #[test]
    fn sids_look_like_sids() {
        let one = sid("PN");
        assert!(is_sid(&one, "PN"), "{one}");
        assert!(!is_sid(&one, "CA"));
        assert_ne!(one, sid("PN"));
    }

    #[test]
    fn north_american_numbers_read_like_north_american_numbers() {
        assert_eq!(number_friendly("+18089251571"), "(808) 925-1571");
        assert_eq!(number_friendly("+442079460000"), "+442079460000");
    }
}
