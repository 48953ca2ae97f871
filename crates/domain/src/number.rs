//! Numbers: what a phone number of ours can do, where it comes from, and which states it goes through. Its digits are an
//! [`E164`], told in `e164`; whether it is assigned, and to whom, in `assignment`.

use jiff::Timestamp;
use rlibphonenumber::enums::PhoneNumberType;

pub use crate::e164::{Country, E164, E164_DIGITS_MAX, suggest};
use crate::error::{Code, Refusal, is_invisible, shown};

crate::words! {
    /// What kind of number it is; decides its price and who may call it for free.
    NumberType, "number type" {
        /// A number of a town or region.
        Local = "local",
        /// The called party pays.
        TollFree = "toll_free",
        /// A mobile number.
        Mobile = "mobile",
        /// A number of the whole country, of no town.
        National = "national",
    }
}

impl NumberType {
    /// What the numbering plan says of a number, where it tells local and mobile apart (it does not in North America).
    pub fn of(number: E164) -> Option<NumberType> {
        match number.parsed()?.get_type() {
            PhoneNumberType::TollFree => Some(NumberType::TollFree),
            PhoneNumberType::Mobile => Some(NumberType::Mobile),
            PhoneNumberType::FixedLine | PhoneNumberType::FixedLineOrMobile => Some(NumberType::Local),
            PhoneNumberType::UAN | PhoneNumberType::VoIP => Some(NumberType::National),
            _ => None,
        }
    }
}

crate::words! {
    /// Where a number comes from. Imports (Twilio, Telnyx, a SIP trunk) have their place here and come later.
    Source, "number source" {
        /// Bought in the built-in store.
        Store = "store",
    }
}

crate::words! {
    /// One thing that a number can do.
    Capability, "capability" {
        /// Calls.
        Voice = "voice",
        /// Short messages.
        Sms = "sms",
        /// Messages with media.
        Mms = "mms",
    }
}

/// What a number can do, as its carrier says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Capabilities {
    /// Calls.
    pub voice: bool,
    /// Short messages.
    pub sms: bool,
    /// Messages with media.
    pub mms: bool,
}

impl Capabilities {
    /// Whether the number can do this.
    pub const fn has(self, capability: Capability) -> bool {
        match capability {
            Capability::Voice => self.voice,
            Capability::Sms => self.sms,
            Capability::Mms => self.mms,
        }
    }

    /// What the number can do, in the order of [`Capability::ALL`].
    pub fn list(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.iter().copied().filter(move |&capability| self.has(capability))
    }
}

crate::words! {
    /// The states of a number. `ordering` → `active` | `failed` | `needs_review`; `needs_review` → `active` | `failed`;
    /// `active` ⇄ `release_scheduled` → `releasing` → `released`.
    NumberStatus, "number status" {
        /// Being bought; not charged for yet, as far as is known.
        Ordering = "ordering",
        /// Ours, and calls to it are routed.
        Active = "active",
        /// Nothing was bought; the reason is given.
        Failed = "failed",
        /// Whether it was bought is unknown; a person is asked.
        NeedsReview = "needs_review",
        /// To be given back when the hold ends; still answers until then.
        ReleaseScheduled = "release_scheduled",
        /// The hold has ended and the carrier is told; cannot be kept any more, and answers until it is gone.
        Releasing = "releasing",
        /// Given back at the carrier.
        Released = "released",
    }
}

impl NumberStatus {
    /// Whether a number may go from this state to that one.
    pub const fn may_become(self, next: NumberStatus) -> bool {
        use NumberStatus::{Active, Failed, NeedsReview, Ordering, ReleaseScheduled, Released, Releasing};
        matches!(
            (self, next),
            (Ordering, Active | Failed | NeedsReview)
                | (NeedsReview, Active | Failed)
                | (Active, ReleaseScheduled)
                | (ReleaseScheduled, Active | Releasing)
                | (Releasing, Released)
        )
    }

    /// Whether calls to a number in this state are routed.
    pub const fn takes_calls(self) -> bool {
        matches!(self, NumberStatus::Active | NumberStatus::ReleaseScheduled | NumberStatus::Releasing)
    }

    /// Whether the number is, or may be, ours at the carrier: then no other row may claim it.
    pub const fn holds_the_number(self) -> bool {
        !matches!(self, NumberStatus::Failed | NumberStatus::Released)
    }
}

/// The longest label, in characters.
pub const LABEL_CHARS_MAX: usize = 100;
/// The most tags on one number.
pub const TAGS_MAX: usize = 20;
/// The longest tag, in characters.
pub const TAG_CHARS_MAX: usize = 40;

/// A name that a person gives to a thing: 1 to [`LABEL_CHARS_MAX`] characters, not only spaces, no control or invisible
/// characters. Kept as written otherwise; whoever shows it escapes it.
pub fn parse_label(text: &str) -> Result<String, Refusal> {
    parse_text(text, LABEL_CHARS_MAX)
}

/// A tag of a number.
pub fn parse_tag(text: &str) -> Result<String, Refusal> {
    parse_text(text, TAG_CHARS_MAX)
}

/// One line of text of at most `chars_max` characters that shows what it is.
pub fn parse_text(text: &str, chars_max: usize) -> Result<String, Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::new(Code::Blank, "is empty or only spaces; send some text"));
    }
    let chars = text.chars().count();
    if chars > chars_max {
        return Err(Refusal::new(
            Code::TooLong,
            format!("has {chars} characters; at most {chars_max} are kept"),
        ));
    }
    // No-break spaces are ordinary in French; what hides or turns text is not.
    if let Some(c) = text.chars().find(|&c| {
        c.is_control() || (is_invisible(c) && !matches!(c, '\u{00A0}' | '\u{202F}' | '\u{200D}' | '\u{3000}'))
    }) {
        return Err(Refusal::new(
            Code::ControlCharacter,
            format!("{} holds the character U+{:04X}, which does not show", shown(text), c as u32),
        ));
    }
    Ok(text.to_owned())
}

/// When a number that is to be released goes back to the carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseHold {
    /// When a person asked for it.
    pub requested_at: Timestamp,
    /// When it is given back, unless cancelled before.
    pub release_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_lead_only_where_they_may() {
        use NumberStatus::{Active, Failed, Ordering, ReleaseScheduled, Released, Releasing};
        assert!(
            Ordering.may_become(Active)
                && Active.may_become(ReleaseScheduled)
                && ReleaseScheduled.may_become(Active)
        );
        assert!(!Active.may_become(Released), "nothing is released without a hold");
        assert!(
            ReleaseScheduled.may_become(Releasing)
                && !ReleaseScheduled.may_become(Released)
                && !Releasing.may_become(Active),
            "the carrier is told only of what is decided for good"
        );
        for &end in &[Failed, Released] {
            assert!(NumberStatus::ALL.iter().all(|&next| !end.may_become(next)), "{end} is the end");
            assert!(!end.takes_calls() && !end.holds_the_number());
        }
    }

    #[test]
    fn labels_are_kept_as_written_or_refused() {
        assert_eq!(parse_label("Front desk – Montréal 🛎").unwrap(), "Front desk – Montréal 🛎");
        for (text, code) in [
            ("", Code::Blank),
            ("   ", Code::Blank),
            (&"x".repeat(101) as &str, Code::TooLong),
            ("a\nb", Code::ControlCharacter),
            ("a\u{202E}b", Code::ControlCharacter),
        ] {
            assert_eq!(parse_label(text).unwrap_err().code, code, "{text:?}");
        }
    }
}
