//! Reconciling: the carrier's list of numbers held against ours. It only finds; it never buys, adopts, releases or reroutes.
//!
//! A carrier's list is evidence, not truth: it lags, and its pages shift while they are read. So a difference is a *finding* that
//! is believed only after it was seen in several listings some time apart, and forgotten as soon as a listing does not show it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::call::Ingress;
use crate::id::{NumberId, PurchaseId, WorkspaceId};
use crate::number::E164;

crate::words! {
    /// How the carrier's list and ours differ in a number.
    FindingKind, "finding" {
        /// The carrier has it in our account, and we do not know it.
        Orphan = "orphan",
        /// We have it, and the carrier's list does not.
        Ghost = "ghost",
        /// Both have it, and its calls are set to go elsewhere.
        Drifted = "drifted",
    }
}

/// One difference, as it is kept between listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// On which account.
    pub ingress: Ingress,
    /// What differs.
    pub observation: Observation,
    /// When it was first seen.
    pub first_seen_at: Timestamp,
    /// When it was last seen.
    pub last_seen_at: Timestamp,
    /// When it last counted.
    pub counted_at: Timestamp,
    /// In how many listings it was seen that were far enough apart.
    pub seen: u32,
    /// When it was reported.
    pub reported_at: Option<Timestamp>,
}

/// One difference in one listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which number.
    pub phone_number: E164,
    /// How it differs.
    pub kind: FindingKind,
    /// Our row, if there is one.
    pub owner: Option<Owner>,
    /// The carrier's id, if it has one.
    pub carrier_number_id: Option<String>,
    /// What exactly: names of settings, or the purchase whose tag it carries. Never a URL.
    pub detail: String,
}

/// Whose number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Our number.
    pub number_id: NumberId,
    /// Its workspace.
    pub workspace_id: WorkspaceId,
}

/// When a finding is believed.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// In how many listings it has to be seen.
    pub listings: u32,
    /// How far apart they have to be.
    pub gap: SignedDuration,
}

/// Settings are read number by number, not from a list that may omit something: two listings will do, however close.
const DRIFTED_LISTINGS: u32 = 2;

impl Finding {
    /// What a first or further listing makes of a difference.
    pub fn observed(
        known: Option<&Finding>,
        ingress: Ingress,
        observation: Observation,
        listed_at: Timestamp,
        rules: Rules,
    ) -> Finding {
        let Some(known) = known else {
            return Finding {
                ingress,
                observation,
                first_seen_at: listed_at,
                last_seen_at: listed_at,
                counted_at: listed_at,
                seen: 1,
                reported_at: None,
            };
        };
        let gap = if observation.kind == FindingKind::Drifted { SignedDuration::ZERO } else { rules.gap };
        let counts = listed_at > known.counted_at && listed_at.duration_since(known.counted_at) >= gap;
        Finding {
            observation,
            last_seen_at: listed_at,
            counted_at: if counts { listed_at } else { known.counted_at },
            seen: known.seen.saturating_add(u32::from(counts)),
            ..known.clone()
        }
    }

    /// Whether it was seen often enough.
    pub fn is_believed(&self, rules: Rules) -> bool {
        let needed = match self.observation.kind {
            FindingKind::Drifted => rules.listings.min(DRIFTED_LISTINGS),
            FindingKind::Orphan | FindingKind::Ghost => rules.listings,
        };
        self.seen >= needed
    }
}

/// A number as the carrier lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The carrier's id.
    pub carrier_number_id: String,
    /// The purchase whose tag it carries.
    pub purchase: Option<PurchaseId>,
}

/// A number as we know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// Which number.
    pub phone_number: E164,
    /// Whose.
    pub owner: Owner,
    /// Whether it takes calls, so that the carrier has to have it. One that is being bought may or may not be there.
    pub takes_calls: bool,
    /// Whether it changed after the listing began, so that the listing says nothing about it.
    pub is_newer: bool,
    /// The settings in which the carrier's differs, by its names.
    pub differences: Vec<&'static str>,
}

/// Holds one full listing against our numbers. Ours have to be read *after* the listing: what is bought meanwhile then has its row.
pub fn compare(mut listed: BTreeMap<E164, Listed>, ours: impl IntoIterator<Item = Ours>) -> Vec<Observation> {
    let mut found = Vec::new();
    for number in ours {
        let theirs = listed.remove(&number.phone_number);
        if number.is_newer || !number.takes_calls {
            continue;
        }
        let (kind, carrier_number_id, detail) = match theirs {
            None => (FindingKind::Ghost, None, "not in the carrier's list".to_owned()),
            Some(theirs) if !number.differences.is_empty() => {
                (FindingKind::Drifted, Some(theirs.carrier_number_id), number.differences.join(", "))
            }
            Some(_) => continue,
        };
        let owner = Some(number.owner);
        found.push(Observation { phone_number: number.phone_number, kind, owner, carrier_number_id, detail });
    }
    found.extend(listed.into_iter().map(|(phone_number, theirs)| Observation {
        phone_number,
        kind: FindingKind::Orphan,
        owner: None,
        carrier_number_id: Some(theirs.carrier_number_id),
        detail: theirs.purchase.map_or_else(
            || "in the account, bought elsewhere".to_owned(),
            |purchase| format!("in the account, tagged {purchase}"),
        ),
    }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { listings: 3, gap: SignedDuration::from_mins(10) };

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + minutes * 60).unwrap()
    }

    fn phone_number(last: u32) -> E164 {
        E164::from_carrier(&format!("+1202555{last:04}")).unwrap()
    }

    fn ours(last: u32) -> Ours {
        Ours {
            phone_number: phone_number(last),
            owner: Owner {
                number_id: NumberId::from_bits(last.into()),
                workspace_id: WorkspaceId::from_bits(1),
            },
            takes_calls: true,
            is_newer: false,
            differences: Vec::new(),
        }
    }

    fn listed(numbers: &[u32]) -> BTreeMap<E164, Listed> {
        numbers
            .iter()
            .map(|&last| {
                let theirs = Listed { carrier_number_id: format!("PN{last}"), purchase: None };
                (phone_number(last), theirs)
            })
            .collect()
    }

    #[test]
    fn each_difference_is_found_and_nothing_else() {
        let numbers = [
            ours(1),
            ours(2),
            Ours { differences: vec!["voice_url"], ..ours(3) },
            // Being bought: there or not, it is no difference.
            Ours { takes_calls: false, ..ours(4) },
            Ours { takes_calls: false, ..ours(5) },
            // Became ours while the list was read.
            Ours { is_newer: true, ..ours(6) },
        ];
        let found = compare(listed(&[1, 3, 4, 9]), numbers);
        let told: Vec<String> =
            found.iter().map(|it| format!("{} {} {}", it.phone_number, it.kind, it.detail)).collect();
        assert_eq!(
            told,
            [
                "+12025550002 ghost not in the carrier's list",
                "+12025550003 drifted voice_url",
                "+12025550009 orphan in the account, bought elsewhere"
            ]
        );
    }

    fn believed_at(kind: FindingKind, listings: &[i64]) -> Option<i64> {
        let observation = Observation {
            phone_number: phone_number(1),
            kind,
            owner: None,
            carrier_number_id: None,
            detail: String::new(),
        };
        let mut known = None;
        for &minutes in listings {
            let finding =
                Finding::observed(known.as_ref(), Ingress::STORE, observation.clone(), at(minutes), RULES);
            if finding.is_believed(RULES) {
                return Some(minutes);
            }
            known = Some(finding);
        }
        None
    }

    #[test]
    fn a_ghost_is_believed_after_three_listings_ten_minutes_apart() {
        use FindingKind::{Drifted, Ghost, Orphan};
        assert_eq!(believed_at(Ghost, &[0, 5, 10, 15, 20, 25]), Some(20));
        assert_eq!(
            believed_at(Orphan, &[0, 9, 18, 27, 36]),
            Some(36),
            "the gap is counted from what counted"
        );
        assert_eq!(believed_at(Ghost, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), None);
        assert_eq!(believed_at(Ghost, &[0, 60, 60, 60]), None, "the same listing does not count twice");
        assert_eq!(believed_at(Ghost, &[0, -60, 10, 20]), Some(20), "nor does a clock that jumps back");
        assert_eq!(believed_at(Drifted, &[0, 5, 10]), Some(5));
    }
}
