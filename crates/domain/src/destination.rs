//! Where a call may be sent on to over the telephone network, on the operator's account: never to numbers that are there to earn
//! from calls, and only to countries that somebody answers for.

use std::collections::BTreeSet;

use rlibphonenumber::enums::PhoneNumberType;

use crate::error::{Code, Refusal};
use crate::number::{Country, E164};

/// Country codes of no country, where a minute costs many times that of any country: satellites (870, 881, 882, 883), personal
/// numbers (878) and international premium numbers (979).
const GLOBAL_COSTLY: &[&str] = &["870", "878", "881", "882", "883", "979"];

/// The countries that calls may be sent on to.
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    /// Those that the operator names. Then no others.
    pub listed: Option<BTreeSet<Country>>,
    /// Otherwise those in which the store sells.
    pub sold: BTreeSet<Country>,
}

impl Destinations {
    /// Refuses a number that calls must not be sent on to. `home` is the workspace's own country: it is added where the operator
    /// has named none.
    pub fn check(&self, number: E164, home: Option<Country>) -> Result<(), Refusal> {
        let refuse = |why: String| {
            Err(Refusal::new(Code::DestinationBlocked, format!("{number} cannot be called from here: {why}")))
        };
        let digits = number.digits().to_string();
        if GLOBAL_COSTLY.iter().any(|code| digits.starts_with(code)) {
            return refuse("satellite and international premium numbers never are".to_owned());
        }
        let kind = number.parsed().map(|parsed| parsed.get_type());
        if let Some(PhoneNumberType::PremiumRate | PhoneNumberType::SharedCost) = kind {
            return refuse("numbers that charge the caller never are".to_owned());
        }
        let Some(country) = number.country() else {
            return refuse("it belongs to no country that is known".to_owned());
        };
        let allowed = match &self.listed {
            Some(listed) => listed.contains(&country),
            None => self.sold.contains(&country) || home == Some(country),
        };
        if allowed {
            return Ok(());
        }
        refuse(format!("{country} is not among the countries of egress.allowed_phone_countries"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_countries_that_somebody_answers_for_and_never_costly_numbers() {
        let country = |text: &str| text.parse::<Country>().unwrap();
        let sold = Destinations { listed: None, sold: [country("US")].into() };
        let listed = Destinations { listed: Some([country("GB")].into()), sold: [country("US")].into() };
        let all: BTreeSet<Country> = ["US", "CA", "GB", "CU", "JM", "FR"].into_iter().map(country).collect();
        let open = Destinations { listed: Some(all), sold: BTreeSet::new() };
        for (number, by_sold, by_home, by_listed, by_open) in [
            ("+14155550123", true, true, false, true),
            ("+14385950345", false, true, false, true),
            ("+441134960861", false, false, true, true),
            // One +1 is not like another.
            ("+18765550123", false, false, false, true),
            ("+5351234567", false, false, false, true),
            ("+19005550123", false, false, false, false),
            ("+449098790879", false, false, false, false),
            ("+33899123456", false, false, false, false),
            ("+88213123456", false, false, false, false),
            ("+881612345678", false, false, false, false),
            ("+870773111632", false, false, false, false),
            ("+979123456789", false, false, false, false),
            ("+80012345678", false, false, false, false),
        ] {
            let number = E164::from_carrier(number).unwrap();
            let passes = |rule: &Destinations, home| rule.check(number, home).is_ok();
            let found = (
                passes(&sold, None),
                passes(&sold, Some(country("CA"))),
                passes(&listed, Some(country("CA"))),
                passes(&open, None),
            );
            assert_eq!(found, (by_sold, by_home, by_listed, by_open), "{number}");
        }
        let refusal = sold.check(E164::from_carrier("+5351234567").unwrap(), None).unwrap_err();
        assert_eq!(refusal.code, Code::DestinationBlocked);
        assert!(refusal.detail.contains("CU"), "{refusal}");
    }
}
