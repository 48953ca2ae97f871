//! Callers: who is calling, as far as the carrier says, and the rules of a number about whom it answers. A caller's number can
//! be forged, so these rules keep nuisance away; they prove nothing about anybody.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Refusal};
use crate::number::{Country, E164};

/// The most entries in each list of numbers or countries.
pub const LIST_MAX: usize = 1_000;

/// Who is calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A number.
    Number(E164),
    /// The caller withheld the number.
    Anonymous,
    /// Something that is no telephone number, such as a SIP address.
    Other,
}

impl Caller {
    /// Reads what a carrier sends as the caller. Never refuses: calls without a usable caller are calls too.
    pub fn read(text: &str) -> Caller {
        // Carriers write a withheld number as words, or as the letters of "anonymous" and the like on a keypad.
        const WITHHELD: &[&str] = &[
            "",
            "anonymous",
            "unknown",
            "restricted",
            "private",
            "unavailable",
            "blocked",
            "not-used",
            "+266696687",
            "+7378742833",
            "+2562533",
            "+8656696",
            "+86282452253",
        ];
        let text = text.trim();
        if WITHHELD.iter().any(|word| word.eq_ignore_ascii_case(text)) {
            return Caller::Anonymous;
        }
        E164::from_carrier(text).map_or(Caller::Other, Caller::Number)
    }

    /// The caller's number, if it is one.
    pub const fn number(self) -> Option<E164> {
        match self {
            Caller::Number(number) => Some(number),
            Caller::Anonymous | Caller::Other => None,
        }
    }
}

/// The rules of one number about its callers. Listed numbers are stronger than countries; blocking is stronger than
/// allowing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerRules {
    /// If any: only callers of these countries (and `allow_numbers`).
    #[serde(default)]
    pub allow_countries: Vec<Country>,
    /// Never callers of these countries (but `allow_numbers`).
    #[serde(default)]
    pub block_countries: Vec<Country>,
    /// Always these.
    #[serde(default)]
    pub allow_numbers: Vec<E164>,
    /// Never these.
    #[serde(default)]
    pub block_numbers: Vec<E164>,
    /// Whether callers who withhold their number are refused.
    #[serde(default)]
    pub block_anonymous: bool,
}

/// What the rules say of one caller, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No rule speaks against it.
    Allowed,
    /// `allow_numbers` names the caller.
    AllowedByNumber,
    /// `block_numbers` names the caller.
    BlockedByNumber,
    /// `block_countries` names the caller's country.
    BlockedByCountry(Country),
    /// `allow_countries` is set and does not name the caller's country.
    NotInAllowedCountries,
    /// The number is withheld, and `block_anonymous` is on.
    BlockedAnonymous,
}

impl Verdict {
    /// Whether the call goes on.
    pub const fn allows(self) -> bool {
        matches!(self, Verdict::Allowed | Verdict::AllowedByNumber)
    }
}

impl CallerRules {
    /// Checks limits and contradictions, and sorts the lists so that looking up is fast.
    pub fn check(mut self) -> Result<CallerRules, Refusal> {
        for (name, len) in [
            ("allow_countries", self.allow_countries.len()),
            ("block_countries", self.block_countries.len()),
            ("allow_numbers", self.allow_numbers.len()),
            ("block_numbers", self.block_numbers.len()),
        ] {
            if len > LIST_MAX {
                return Err(Refusal::new(
                    Code::TooMany,
                    format!("{name} has {len} entries; at most {LIST_MAX} are kept"),
                ));
            }
        }
        for list in [&mut self.allow_countries, &mut self.block_countries] {
            list.sort_unstable();
            list.dedup();
        }
        for list in [&mut self.allow_numbers, &mut self.block_numbers] {
            list.sort_unstable();
            list.dedup();
        }
        if let Some(both) =
            self.allow_numbers.iter().find(|number| self.block_numbers.binary_search(number).is_ok())
        {
            return Err(Refusal::new(
                Code::FieldConflict,
                format!("{both} stands in allow_numbers and in block_numbers; remove it from one"),
            ));
        }
        if let Some(both) =
            self.allow_countries.iter().find(|country| self.block_countries.binary_search(country).is_ok())
        {
            return Err(Refusal::new(
                Code::FieldConflict,
                format!("{both} stands in allow_countries and in block_countries; remove it from one"),
            ));
        }
        Ok(self)
    }

    /// Judges one caller. Allocates nothing, unless the rules name countries: only then the numbering plan is asked where the
    /// number belongs, which takes some microseconds.
    pub fn judge(&self, caller: Caller) -> Verdict {
        match caller {
            Caller::Anonymous if self.block_anonymous => Verdict::BlockedAnonymous,
            Caller::Anonymous | Caller::Other if self.allow_countries.is_empty() => Verdict::Allowed,
            Caller::Anonymous | Caller::Other => Verdict::NotInAllowedCountries,
            Caller::Number(number) => {
                if self.block_numbers.binary_search(&number).is_ok() {
                    return Verdict::BlockedByNumber;
                }
                if self.allow_numbers.binary_search(&number).is_ok() {
                    return Verdict::AllowedByNumber;
                }
                if self.allow_countries.is_empty() && self.block_countries.is_empty() {
                    return Verdict::Allowed;
                }
                let country = number.country();
                if let Some(country) =
                    country.filter(|country| self.block_countries.binary_search(country).is_ok())
                {
                    return Verdict::BlockedByCountry(country);
                }
                let listed =
                    country.is_some_and(|country| self.allow_countries.binary_search(&country).is_ok());
                if self.allow_countries.is_empty() || listed {
                    Verdict::Allowed
                } else {
                    Verdict::NotInAllowedCountries
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carriers_write_callers_in_many_ways() {
        let number: E164 = "+14385950345".parse().unwrap();
        assert_eq!(Caller::read("+14385950345"), Caller::Number(number));
        for text in ["", "anonymous", "Anonymous", "+266696687", "Restricted"] {
            assert_eq!(Caller::read(text), Caller::Anonymous, "{text:?}");
        }
        for text in ["sip:a@b", "client:jenny", "12345", "+1"] {
            assert_eq!(Caller::read(text), Caller::Other, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_stronger_than_countries() {
        let canadian = Caller::read("+14385950345");
        let french = Caller::read("+33612345678");
        let rules = CallerRules {
            allow_countries: vec![Country::CA],
            allow_numbers: vec!["+33612345678".parse().unwrap()],
            block_numbers: vec!["+14385950346".parse().unwrap()],
            block_anonymous: true,
            ..CallerRules::default()
        }
        .check()
        .unwrap();
        assert_eq!(rules.judge(canadian), Verdict::Allowed);
        assert_eq!(rules.judge(french), Verdict::AllowedByNumber);
        assert_eq!(rules.judge(Caller::read("+14385950346")), Verdict::BlockedByNumber);
        assert_eq!(rules.judge(Caller::read("+33612345679")), Verdict::NotInAllowedCountries);
        assert_eq!(rules.judge(Caller::Anonymous), Verdict::BlockedAnonymous);
        assert_eq!(rules.judge(Caller::Other), Verdict::NotInAllowedCountries);
    }

    #[test]
    fn contradictions_are_refused() {
        let rules = CallerRules {
            allow_countries: vec![Country::FR],
            block_countries: vec![Country::FR],
            ..CallerRules::default()
        };
        assert_eq!(rules.check().unwrap_err().code, Code::FieldConflict);
    }
}
