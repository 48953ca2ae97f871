//! The numbers that the simulated carrier has to sell: only those which regulators reserve for fiction, so that no
//! mistake in a demo or a test ever rings a stranger's telephone.
//!
//! United States and Canada: 555-0100 to 555-0199 in each area code. United Kingdom: Ofcom's drama ranges. France:
//! ARCEP's ranges for audiovisual works. What each number can do is a function of the number and the supply's seed;
//! who owns what is not known here.

use serde::{Deserialize, Serialize};

use super::form::mix;

mod places;

/// What kind of number it is, as the last part of a search path and as `type` on an owned number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberKind {
    Local,
    Mobile,
    National,
    TollFree,
}

impl NumberKind {
    pub(crate) const ALL: [Self; 4] = [Self::Local, Self::TollFree, Self::Mobile, Self::National];

    /// `Local`, as in `AvailablePhoneNumbers/US/Local.json`.
    pub(crate) fn path_name(self) -> &'static str {
        match self {
            Self::Local => "Local",
            Self::Mobile => "Mobile",
            Self::National => "National",
            Self::TollFree => "TollFree",
        }
    }

    /// `toll_free`, as in `subresource_uris`.
    pub(crate) fn uri_name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Mobile => "mobile",
            Self::National => "national",
            Self::TollFree => "toll_free",
        }
    }

    /// `toll-free`, as in `type`.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Self::TollFree => "toll-free",
            other => other.uri_name(),
        }
    }
}

/// What a number can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "four independent yes-or-no facts, as on the wire")]
pub(crate) struct Capabilities {
    pub(crate) voice: bool,
    pub(crate) sms: bool,
    pub(crate) mms: bool,
    pub(crate) fax: bool,
}

/// Where a range of numbers is at home.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) locality: &'static str,
    pub(crate) region: &'static str,
    pub(crate) postal_code: &'static str,
    pub(crate) latitude: &'static str,
    pub(crate) longitude: &'static str,
}

/// A run of consecutive numbers of one kind and place.
#[derive(Debug, Clone)]
pub(crate) struct Range {
    pub(crate) country: &'static str,
    pub(crate) kind: NumberKind,
    /// The number up to the digits that vary: `+1415555`.
    prefix: String,
    /// How many digits vary.
    digits: usize,
    first: u32,
    count: u32,
    /// The North American area code, where there is one.
    pub(crate) area_code: Option<&'static str>,
    pub(crate) place: Option<Place>,
}

impl Range {
    fn number(&self, index: u32) -> String {
        format!("{}{:0width$}", self.prefix, self.first + index, width = self.digits)
    }

    fn index_of(&self, e164: &str) -> Option<u32> {
        let rest = e164.strip_prefix(&self.prefix)?;
        if rest.len() != self.digits || !rest.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        rest.parse::<u32>().ok()?.checked_sub(self.first).filter(|index| *index < self.count)
    }
}

/// One number that could be sold.
#[derive(Debug, Clone)]
pub(crate) struct Candidate<'a> {
    pub(crate) phone_number: String,
    pub(crate) range: &'a Range,
    pub(crate) capabilities: Capabilities,
    /// `none`, `any`, `local` or `foreign`.
    pub(crate) address_requirements: &'static str,
}

/// Everything that could be sold, in an order given by a seed.
#[derive(Debug)]
pub(crate) struct Supply {
    ranges: Vec<Range>,
    seed: u64,
}

/// The countries that numbers are sold in, with their English names.
pub(crate) const COUNTRIES: [(&str, &str); 4] =
    [("US", "United States"), ("CA", "Canada"), ("GB", "United Kingdom"), ("FR", "France")];

impl Supply {
    pub(crate) fn new(seed: u64) -> Self {
        Self { ranges: places::ranges(), seed }
    }

    /// The kinds of number sold in `country`; empty for a country in which none are.
    pub(crate) fn kinds(&self, country: &str) -> Vec<NumberKind> {
        NumberKind::ALL
            .into_iter()
            .filter(|kind| self.ranges.iter().any(|range| range.country == country && range.kind == *kind))
            .collect()
    }

    /// Whether any number begins with this North American area code.
    pub(crate) fn area_code_known(&self, area_code: &str) -> bool {
        self.ranges.iter().any(|range| range.area_code == Some(area_code))
    }

    /// All numbers of one kind in one country: a different place each time, in the same order for the same seed.
    pub(crate) fn candidates(&self, country: &str, kind: NumberKind) -> impl Iterator<Item = Candidate<'_>> {
        let ranges: Vec<&Range> =
            self.ranges.iter().filter(|range| range.country == country && range.kind == kind).collect();
        let rounds = ranges.iter().map(|range| range.count).max().unwrap_or(0);
        (0..rounds).flat_map(move |round| {
            ranges
                .iter()
                .enumerate()
                .filter(|(_, range)| round < range.count)
                .map(|(at, range)| self.candidate(range, self.shuffled(at, range, round)))
                .collect::<Vec<_>>()
        })
    }

    /// The number, if it is one that is sold here.
    pub(crate) fn find(&self, e164: &str) -> Option<Candidate<'_>> {
        self.ranges.iter().find_map(|range| range.index_of(e164).map(|index| self.candidate(range, index)))
    }

    /// A permutation of the range: every step that shares no factor with the counts (powers of ten) visits all.
    fn shuffled(&self, at: usize, range: &Range, round: u32) -> u32 {
        const STEPS: [u32; 8] = [11, 37, 43, 61, 67, 73, 89, 97];
        let chance = mix(self.seed ^ mix(at as u64));
        let step = STEPS[usize::try_from(chance % 8).expect("less than eight")];
        let start = u32::try_from((chance >> 8) % u64::from(range.count)).expect("less than the count");
        let index = (u64::from(start) + u64::from(round) * u64::from(step)) % u64::from(range.count);
        u32::try_from(index).expect("less than the count")
    }

    fn candidate<'a>(&self, range: &'a Range, index: u32) -> Candidate<'a> {
        let phone_number = range.number(index);
        let chance = phone_number.bytes().fold(self.seed, |hash, byte| mix(hash ^ u64::from(byte)));
        let in_twenty = chance % 20;
        let voice_only = Capabilities { voice: true, sms: false, mms: false, fax: false };
        let (capabilities, address_requirements) = match (range.country, range.kind) {
            ("US" | "CA", NumberKind::Local) => (
                Capabilities { sms: in_twenty != 0, mms: in_twenty > 1, fax: in_twenty > 15, ..voice_only },
                "none",
            ),
            ("US" | "CA", _) => {
                (Capabilities { sms: in_twenty > 3, mms: in_twenty > 5, ..voice_only }, "none")
            }
            ("GB", NumberKind::Mobile) => {
                (Capabilities { voice: in_twenty != 0, sms: true, ..voice_only }, "none")
            }
            ("GB", NumberKind::Local) => (voice_only, if in_twenty < 5 { "any" } else { "none" }),
            ("FR", NumberKind::Mobile) => (
                Capabilities { sms: in_twenty > 4, ..voice_only },
                if in_twenty < 8 { "any" } else { "none" },
            ),
            ("FR", _) => (voice_only, if in_twenty < 8 { "local" } else { "none" }),
            _ => (voice_only, "none"),
        };
        Candidate { phone_number, range, capabilities, address_requirements }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_number_appears_once_and_is_found_again() {
        let supply = Supply::new(7);
        for (country, _) in COUNTRIES {
            for kind in supply.kinds(country) {
                let all: Vec<String> = supply.candidates(country, kind).map(|c| c.phone_number).collect();
                let distinct: HashSet<&String> = all.iter().collect();
                assert_eq!(distinct.len(), all.len(), "{country} {kind:?}");
                assert!(all.len() >= 700, "{country} {kind:?} has {}", all.len());
                for number in all.iter().step_by(97) {
                    assert_eq!(&supply.find(number).unwrap().phone_number, number);
                }
            }
        }
    }

    #[test]
    fn only_numbers_reserved_for_fiction_are_sold() {
        let supply = Supply::new(1);
        for kind in [NumberKind::Local, NumberKind::TollFree] {
            for country in ["US", "CA"] {
                for candidate in supply.candidates(country, kind) {
                    assert_eq!(&candidate.phone_number[5..10], "55501", "{}", candidate.phone_number);
                }
            }
        }
        assert!(supply.find("+442079460000").is_some());
        assert!(supply.find("+442079461000").is_none());
        assert!(supply.find("+447700900999").is_some());
        assert!(supply.find("+33199001234").is_some());
        assert!(supply.find("+33639981234").is_some());
        assert!(supply.find("+14155550200").is_none());
        assert!(supply.find("+14155550099").is_none());
    }

    #[test]
    fn the_order_is_the_seeds_and_mixes_places() {
        let first =
            |seed| Supply::new(seed).candidates("US", NumberKind::Local).map(|c| c.phone_number).next();
        assert_eq!(first(1), first(1));
        let supply = Supply::new(1);
        let places: HashSet<_> = supply
            .candidates("US", NumberKind::Local)
            .take(20)
            .map(|c| c.range.place.expect("local numbers have a place").locality)
            .collect();
        assert!(places.len() >= 15, "{places:?}");
    }

    #[test]
    fn what_numbers_can_do_varies() {
        let supply = Supply::new(1);
        let us: Vec<_> = supply.candidates("US", NumberKind::Local).collect();
        assert!(us.iter().any(|c| !c.capabilities.sms) && us.iter().any(|c| c.capabilities.mms));
        let fr: Vec<_> = supply.candidates("FR", NumberKind::Local).collect();
        assert!(fr.iter().any(|c| c.address_requirements == "local"));
        assert!(fr.iter().any(|c| c.address_requirements == "none"));
        assert!(supply.candidates("GB", NumberKind::Mobile).any(|c| !c.capabilities.voice));
    }
}
