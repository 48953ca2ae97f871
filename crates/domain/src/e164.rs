//! Phone numbers as the world writes them: [`E164`] and the [`Country`] that one belongs to.
//!
//! A text becomes an [`E164`] once, at the door; inside, a malformed number cannot exist. What the text *may* have meant
//! is only ever suggested, never assumed. What a number is to us – its source, its states – is told in `number`.

use std::fmt;
use std::str::FromStr;

use rlibphonenumber::enums::Region;
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat};

use crate::error::{Code, Refusal, is_invisible, shown};

/// The most digits that an E.164 number has (ITU-T E.164 §6.2.1).
pub const E164_DIGITS_MAX: usize = 15;

/// The longest text that is looked at as a phone number.
const NUMBER_TEXT_MAX: usize = 64;

/// A phone number in E.164 form: a country code that exists, and a length that is possible there. At most 15 digits, so
/// it fits in 50 bits and is copied like an integer.
///
/// ```
/// use domain::number::E164;
/// let number: E164 = "+14385950345".parse()?;
/// assert_eq!(number.to_string(), "+14385950345");
/// assert!("438 595-0345".parse::<E164>().unwrap_err().detail.contains("+"));
/// # Ok::<(), domain::error::Refusal>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct E164(u64);

impl E164 {
    /// Does once what the first number of a country would otherwise have to wait for: what is known of its numbers is read, and
    /// its patterns are compiled. Later numbers of these countries find it done.
    pub fn warm_up() {
        for number in ["+12025550123", "+14165550123", "+447700900123", "+33199000123"] {
            // Suggestions read numbers as they are dialled at home.
            let _ = suggest(&number[2..], None);
            if let Ok(number) = number.parse::<E164>() {
                let _ = (number.country(), number.is_allocated(), number.international());
            }
        }
    }

    /// Reads a number that must be in E.164 form already. The refusal names what is wrong and suggests the form that was
    /// probably meant; a national number is understood by `default_country`, for the suggestion only.
    pub fn parse(text: &str, default_country: Option<Country>) -> Result<E164, Refusal> {
        if text.len() > NUMBER_TEXT_MAX {
            return Err(Refusal::new(
                Code::E164Length,
                format!(
                    "{} is far too long for a phone number; an E.164 number has at most {E164_DIGITS_MAX} digits, e.g. +14385950345",
                    shown(text)
                ),
            ));
        }
        if let Some(hidden) = text.chars().find(|&c| is_invisible(c) || c.is_control()) {
            return Err(Refusal::new(
                Code::NotE164,
                format!(
                    "{} holds the hidden character U+{:04X}; {}",
                    shown(text),
                    hidden as u32,
                    advise(text, default_country)
                ),
            ));
        }
        let digits = text.strip_prefix('+').unwrap_or("");
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse_form(text, default_country));
        }
        if let Some(rest) = digits.strip_prefix('0') {
            return Err(Refusal::new(
                Code::BadCountryCode,
                format!(
                    "{} has no country code: none begins with 0; {}",
                    shown(text),
                    advise(rest, default_country)
                ),
            ));
        }
        if digits.len() > E164_DIGITS_MAX {
            return Err(Refusal::new(
                Code::E164Length,
                format!(
                    "{} has {} digits; an E.164 number has at most {E164_DIGITS_MAX}",
                    shown(text),
                    digits.len()
                ),
            ));
        }
        if is_emergency(digits) {
            return Err(Refusal::new(
                Code::EmergencyOrShortCode,
                format!(
                    "{} is an emergency number or a short code, which cannot be routed; send a full number, e.g. +14385950345",
                    shown(text)
                ),
            ));
        }
        let Ok(parsed) = PHONE_NUMBER_UTIL.parse(text, None) else {
            return Err(refuse_country_code(text));
        };
        if PHONE_NUMBER_UTIL
            .get_regions_for_country_calling_code(parsed.country_code)
            .is_none_or(|mut regions| regions.next().is_none())
        {
            return Err(refuse_country_code(text));
        }
        if !PHONE_NUMBER_UTIL.is_possible_number(&parsed) {
            let country = PHONE_NUMBER_UTIL.get_region_for_country_code(parsed.country_code);
            let example =
                country.and_then(example_of).map(|number| format!(", e.g. {number}")).unwrap_or_default();
            return Err(Refusal::new(
                Code::E164Length,
                format!(
                    "{} has {} digits behind +{}, which is not a possible length there{example}",
                    shown(text),
                    digits.len().saturating_sub(parsed.country_code.to_string().len()),
                    parsed.country_code
                ),
            ));
        }
        // The library may read digits differently (a trunk 0 left in, say): then this text was not the canonical form.
        let canonical = parsed.format_as(PhoneNumberFormat::E164);
        if canonical != text {
            return Err(Refusal::new(
                Code::NotE164,
                format!("{} is not the E.164 form of that number; did you mean {canonical}?", shown(text)),
            ));
        }
        Ok(E164(digits.parse().expect("1 to 15 ASCII digits fit in a u64")))
    }

    /// A number from its digits, as stored by us before: only the shape is checked, since metadata ages and a carrier's
    /// word on which numbers exist is better than ours.
    pub fn from_digits(digits: u64) -> Option<E164> {
        (1_000..1_000_000_000_000_000).contains(&digits).then_some(E164(digits))
    }

    /// A number that a carrier reports: `+` and 4 to 15 digits. Never refused for its country or length there.
    pub fn from_carrier(text: &str) -> Option<E164> {
        let digits = text.strip_prefix('+')?;
        if digits.starts_with('0')
            || !digits.bytes().all(|b| b.is_ascii_digit())
            || digits.len() > E164_DIGITS_MAX
        {
            return None;
        }
        E164::from_digits(digits.parse().ok()?)
    }

    /// The digits as an integer, without the `+`.
    pub const fn digits(self) -> u64 {
        self.0
    }

    /// The country that the number belongs to, where the numbering plan tells (not for +800 and the like).
    pub fn country(self) -> Option<Country> {
        PHONE_NUMBER_UTIL.get_region_for_number(&self.parsed()?).and_then(Country::from_region)
    }

    /// Whether the numbering plan knows this number as assigned to a use; a warning at most, since metadata lags.
    pub fn is_allocated(self) -> bool {
        self.parsed().is_some_and(|parsed| parsed.is_valid())
    }

    /// The number as people of its country write it, with the country code: `+1 438-595-0345`.
    pub fn international(self) -> String {
        self.parsed().map_or_else(
            || self.to_string(),
            |parsed| parsed.format_as(PhoneNumberFormat::International).into_owned(),
        )
    }

    pub(crate) fn parsed(self) -> Option<PhoneNumber> {
        PHONE_NUMBER_UTIL.parse(self.to_string(), None).ok()
    }
}

/// Emergency numbers behind a `+`, or behind +1: nobody owns them, and a call there must never be caught by us.
fn is_emergency(digits: &str) -> bool {
    digits.len() <= 3 || matches!(digits, "1911" | "1933" | "1988" | "44999" | "44112" | "33112")
}

fn refuse_country_code(text: &str) -> Refusal {
    Refusal::new(
        Code::BadCountryCode,
        format!(
            "{} begins with no country code that exists; check the digits right behind the +",
            shown(text)
        ),
    )
}

/// The refusal of a text that is not `+` and digits.
fn refuse_form(text: &str, default_country: Option<Country>) -> Refusal {
    let bare = text.trim();
    if (2..=6).contains(&bare.len()) && bare.bytes().all(|b| b.is_ascii_digit()) {
        return Refusal::new(
            Code::EmergencyOrShortCode,
            format!(
                "{} is an emergency number or a short code, which cannot be routed; send a full number, e.g. +14385950345",
                shown(text)
            ),
        );
    }
    let fault = if text.is_empty() {
        "the phone number is empty".to_owned()
    } else if text.trim() != text {
        format!("{} begins or ends with a space", shown(text))
    } else if let Some(c) =
        text.chars().skip(usize::from(text.starts_with('+'))).find(|c| !c.is_ascii_digit())
    {
        format!("{} holds {}, which E.164 does not allow", shown(text), character_name(c))
    } else {
        format!("{} does not start with +", shown(text))
    };
    Refusal::new(Code::NotE164, format!("{fault}; {}", advise(text, default_country)))
}

fn character_name(c: char) -> String {
    match c {
        ' ' => "a space".to_owned(),
        '-' => "a dash".to_owned(),
        '(' | ')' => "a parenthesis".to_owned(),
        '.' => "a dot".to_owned(),
        '+' => "a second +".to_owned(),
        c => format!("the character {} (U+{:04X})", shown(&c.to_string()), c as u32),
    }
}

/// "did you mean …?", or the general form where nothing can be made of the text.
fn advise(text: &str, default_country: Option<Country>) -> String {
    suggest(text, default_country).map_or_else(
        || "start with + and the country code, digits only, e.g. +14385950345".to_owned(),
        |number| format!("did you mean {number}?"),
    )
}

/// The E.164 number that a text probably means: cleaned of what people and spreadsheets add, or completed by
/// `default_country`. Only for suggestions.
pub fn suggest(text: &str, default_country: Option<Country>) -> Option<E164> {
    if text.len() > NUMBER_TEXT_MAX {
        return None;
    }
    let visible: String = text.chars().filter(|&c| !is_invisible(c) && !c.is_control()).collect();
    let visible = visible.trim();
    let digits: String = visible.chars().filter(char::is_ascii_digit).collect();
    let region = default_country.and_then(Country::region);
    let with_plus = || PHONE_NUMBER_UTIL.parse(format!("+{digits}"), None).ok().filter(PhoneNumber::is_valid);
    let as_written = || PHONE_NUMBER_UTIL.parse(visible, region).ok().filter(PhoneNumber::is_valid);
    let dialled_abroad = || {
        digits
            .strip_prefix("00")
            .or_else(|| digits.strip_prefix("011"))
            .and_then(|rest| PHONE_NUMBER_UTIL.parse(format!("+{rest}"), None).ok())
            .filter(PhoneNumber::is_valid)
    };
    let north_american = || {
        (digits.len() == 10 && region.is_none())
            .then(|| PHONE_NUMBER_UTIL.parse(format!("+1{digits}"), None).ok())
            .flatten()
            .filter(PhoneNumber::is_valid)
    };
    let found = (visible.starts_with('+').then(with_plus).flatten())
        .or_else(as_written)
        .or_else(dialled_abroad)
        .or_else(north_american)
        .or_else(with_plus)?;
    E164::from_carrier(&found.format_as(PhoneNumberFormat::E164))
}

fn example_of(region: Region) -> Option<String> {
    PHONE_NUMBER_UTIL
        .get_example_number(region)
        .ok()
        .map(|number| number.format_as(PhoneNumberFormat::E164).into_owned())
}

impl fmt::Display for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

impl fmt::Debug for E164 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for E164 {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<E164, Refusal> {
        E164::parse(text, None)
    }
}

impl serde::Serialize for E164 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for E164 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        E164::from_carrier(&text).ok_or_else(|| serde::de::Error::custom("not an E.164 number"))
    }
}

/// A country by its two letters of ISO 3166-1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

impl Country {
    /// The United States.
    pub const US: Country = Country(*b"US");
    /// Canada.
    pub const CA: Country = Country(*b"CA");
    /// The United Kingdom.
    pub const GB: Country = Country(*b"GB");
    /// France.
    pub const FR: Country = Country(*b"FR");

    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("two ASCII letters")
    }

    /// The country calling code, such as 1 or 44.
    pub fn calling_code(self) -> Option<u16> {
        PHONE_NUMBER_UTIL
            .get_country_code_for_region(self.region()?)
            .and_then(|code| u16::try_from(code).ok())
    }

    fn region(self) -> Option<Region> {
        self.as_str().parse().ok()
    }

    fn from_region(region: Region) -> Option<Country> {
        let text = region.to_string();
        let bytes: [u8; 2] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(u8::is_ascii_uppercase).then_some(Country(bytes))
    }
}

impl FromStr for Country {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Country, Refusal> {
        let refuse = || {
            let upper = text.to_ascii_uppercase();
            if upper != text && upper.parse::<Country>().is_ok() {
                return Refusal::new(
                    Code::BadCountry,
                    format!("{} is not written in two capital letters; did you mean {upper}?", shown(text)),
                );
            }
            Refusal::new(
                Code::BadCountry,
                format!(
                    "{} is not a country with phone numbers; send two capital letters, such as US, CA, GB or FR",
                    shown(text)
                ),
            )
        };
        let bytes: [u8; 2] = text.as_bytes().try_into().map_err(|_| refuse())?;
        if !bytes.iter().all(u8::is_ascii_uppercase) {
            return Err(refuse());
        }
        let country = Country(bytes);
        country.calling_code().filter(|&code| code > 0).map(|_| country).ok_or_else(refuse)
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Country {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Country {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e164_numbers_are_accepted() {
        for (text, country) in [
            ("+14385950345", Some(Country::CA)),
            ("+447400123456", Some(Country::GB)),
            ("+33612345678", Some(Country::FR)),
            ("+12025550173", Some(Country::US)),
            ("+442079460123", Some(Country::GB)),
            ("+33199001234", Some(Country::FR)),
            ("+80012345678", None),
        ] {
            let number: E164 = text.parse().unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
            assert_eq!(number.to_string(), text);
            assert_eq!(number.country(), country, "{text}");
        }
    }

    /// Each refusal names what is wrong and, where anything can be made of the text, the E.164 form that was meant.
    #[test]
    fn everything_else_is_refused_and_the_right_form_suggested() {
        use Code::{BadCountryCode, E164Length, EmergencyOrShortCode, NotE164};
        let cases: &[(&str, Option<Country>, Code, &str)] = &[
            ("4385950345", None, NotE164, "does not start with +; did you mean +14385950345?"),
            (
                "+1 (438) 595-0345",
                None,
                NotE164,
                "a space, which E.164 does not allow; did you mean +14385950345?",
            ),
            (
                "+1-438-595-0345",
                None,
                NotE164,
                "a dash, which E.164 does not allow; did you mean +14385950345?",
            ),
            (
                "(438) 595-0345",
                Some(Country::CA),
                NotE164,
                "a parenthesis, which E.164 does not allow; did you mean +14385950345?",
            ),
            ("07911 123456", Some(Country::GB), NotE164, "did you mean +447911123456?"),
            ("0033612345678", None, NotE164, "did you mean +33612345678?"),
            ("01133612345678", None, NotE164, "did you mean +33612345678?"),
            ("+440791112345 ", None, NotE164, "ends with a space"),
            (
                "+14385950345\u{200B}",
                None,
                NotE164,
                "the hidden character U+200B; did you mean +14385950345?",
            ),
            ("+1\u{A0}4385950345", None, NotE164, "U+00A0"),
            ("+4407911123456", None, NotE164, "did you mean +447911123456?"),
            ("++14385950345", None, NotE164, "a second +"),
            ("＋14385950345", None, NotE164, "+14385950345"),
            ("hello", None, NotE164, "start with + and the country code"),
            ("", None, NotE164, "the phone number is empty"),
            ("+", None, NotE164, "start with +"),
            ("+1438", None, E164Length, "not a possible length there, e.g. +1"),
            ("+1438595034512345", None, E164Length, "has 16 digits; an E.164 number has at most 15"),
            ("+0438595034", None, BadCountryCode, "none begins with 0"),
            ("+999123456789", None, BadCountryCode, "no country code that exists"),
            ("911", None, EmergencyOrShortCode, "emergency"),
            ("+1911", None, EmergencyOrShortCode, "emergency"),
            ("12345", None, EmergencyOrShortCode, "short code"),
        ];
        for (text, country, code, part) in cases {
            let refusal = E164::parse(text, *country).expect_err(text);
            assert_eq!(refusal.code, *code, "{text:?}: {refusal}");
            assert!(refusal.detail.contains(part), "{text:?}: {refusal}");
        }
    }

    #[test]
    fn carriers_are_believed() {
        assert!(
            E164::from_carrier("+19995551234").is_some(),
            "metadata does not know this area code, the carrier does"
        );
        for text in ["14385950345", "+", "+0123456", "+12a", "+1234567890123456"] {
            assert_eq!(E164::from_carrier(text), None, "{text}");
        }
    }
}
