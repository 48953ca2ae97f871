//! What can be bought where, for `GET /v1/store/countries`: what numbers of each country and type can usually do, and what it
//! takes to hold one. A table of facts; the prices are the operator's.

use std::collections::BTreeMap;

use domain::number::{Capability, Country, NumberType};
use domain::quote::Price;

/// A country in which numbers are sold.
#[derive(Clone, Debug, PartialEq)]
pub struct CountryOffer {
    /// The country.
    pub country: Country,
    /// Its English name; its code where the table does not know it.
    pub name: String,
    /// What is sold there.
    pub types: Vec<TypeOffer>,
}

/// One kind of number that is sold in a country.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeOffer {
    /// The kind.
    pub number_type: NumberType,
    /// What such numbers can usually do; a search tells of each.
    pub capabilities: Vec<Capability>,
    /// What it takes to hold one.
    pub requirements: &'static str,
    /// What it costs.
    pub price: Price,
}

const NOTHING: &str = "none";
const ADDRESS: &str =
    "numbers that need an address registered at the carrier first are not listed; the others need nothing";
const UNKNOWN: &str = "the carrier may ask for documents; then the purchase fails and nothing is charged";

use Capability::{Mms, Sms, Voice};
use NumberType::{Local, Mobile, National, TollFree};

const NAMES: &[(Country, &str)] = &[
    (Country::US, "United States"),
    (Country::CA, "Canada"),
    (Country::GB, "United Kingdom"),
    (Country::FR, "France"),
];

type Fact = (Country, NumberType, &'static [Capability], &'static str);
const FACTS: &[Fact] = &[
    (Country::US, Local, &[Voice, Sms, Mms], NOTHING),
    (Country::US, TollFree, &[Voice, Sms, Mms], NOTHING),
    (Country::CA, Local, &[Voice, Sms, Mms], NOTHING),
    (Country::CA, TollFree, &[Voice, Sms, Mms], NOTHING),
    (Country::GB, Local, &[Voice], ADDRESS),
    (Country::GB, Mobile, &[Voice, Sms], ADDRESS),
    (Country::GB, TollFree, &[Voice], ADDRESS),
    (Country::GB, National, &[Voice], ADDRESS),
    (Country::FR, Local, &[Voice], ADDRESS),
    (Country::FR, Mobile, &[Voice, Sms], ADDRESS),
];

/// Everything that has a price, by country.
pub(super) fn countries(prices: &BTreeMap<(Country, NumberType), Price>) -> Vec<CountryOffer> {
    let mut offers: Vec<CountryOffer> = Vec::new();
    for (&(country, number_type), &price) in prices {
        let fact = FACTS.iter().find(|fact| (fact.0, fact.1) == (country, number_type));
        let (capabilities, requirements) = fact.map_or((&[Voice] as &[_], UNKNOWN), |fact| (fact.2, fact.3));
        let offer = TypeOffer { number_type, capabilities: capabilities.to_vec(), requirements, price };
        match offers.last_mut().filter(|last| last.country == country) {
            Some(last) => last.types.push(offer),
            None => offers.push(CountryOffer { country, name: name(country), types: vec![offer] }),
        }
    }
    offers
}

fn name(country: Country) -> String {
    let known = NAMES.iter().find(|(known, _)| *known == country);
    known.map_or_else(|| country.to_string(), |(_, name)| (*name).to_owned())
}
