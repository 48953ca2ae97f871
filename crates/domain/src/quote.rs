//! Quotes: an offer of one exact number at one price, good for a while. And what a search in the store can ask for.
//!
//! A quote is a fact that the buyer carries; how it is kept from being forged is the server's business.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Code, Refusal, shown};
use crate::id::WorkspaceId;
use crate::money::Money;
use crate::number::{Capabilities, Capability, Country, E164, NumberType};

/// The longest area code, in digits.
pub const AREA_CODE_DIGITS_MAX: usize = 5;
/// The most digits that a search can ask for.
pub const SEARCH_DIGITS_MAX: usize = 12;

/// What the store asks for a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Each month.
    pub monthly: Money,
    /// Once.
    pub setup: Money,
}

/// One number on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// To whom.
    pub workspace_id: WorkspaceId,
    /// Which number.
    pub phone_number: E164,
    /// Its country.
    pub country: Country,
    /// Its kind.
    pub number_type: NumberType,
    /// What it can do.
    pub capabilities: Capabilities,
    /// The town, where the carrier tells.
    pub locality: Option<String>,
    /// The region or state, where the carrier tells.
    pub region: Option<String>,
    /// For how much.
    pub price: Price,
    /// Until when.
    pub expires_at: Timestamp,
}

impl Quote {
    /// Whether it can still be taken.
    pub fn check(&self, workspace: WorkspaceId, now: Timestamp) -> Result<(), Refusal> {
        if self.workspace_id != workspace {
            return Err(Refusal::new(
                Code::BadQuote,
                "this quote was not made for this workspace; search again with GET /v1/store/numbers",
            ));
        }
        if now >= self.expires_at {
            return Err(Refusal::new(
                Code::QuoteExpired,
                format!(
                    "the quote for {} expired at {:.0}; search again for {} to see whether it is still on sale, and at which price",
                    self.phone_number, self.expires_at, self.phone_number
                ),
            ));
        }
        Ok(())
    }
}

/// What a search asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// In which country.
    pub country: Country,
    /// Of which kind.
    pub number_type: NumberType,
    /// Beginning so, behind the country code.
    pub area_code: Option<AreaCode>,
    /// With these digits anywhere.
    pub digits: Option<Digits>,
    /// Able to do all of these.
    pub capabilities: Vec<Capability>,
    /// At most so many.
    pub limit: u16,
}

/// The digits of an area code, without a leading 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AreaCode(String);

/// A few digits that a number has to contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digits(String);

impl AreaCode {
    /// Reads an area code of a country.
    pub fn parse(text: &str, country: Country) -> Result<AreaCode, Refusal> {
        let refuse = |why: &str| Refusal::new(Code::BadAreaCode, format!("{} {why}", shown(text)));
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse("is not an area code; send its digits only, e.g. 415"));
        }
        if text.starts_with('0') {
            let without = text.trim_start_matches('0');
            let meant = AreaCode::parse(without, country).ok();
            let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {}?", meant.as_str()));
            return Err(refuse(&format!(
                "begins with 0, which is dialled only inside the country; leave it out{meant}"
            )));
        }
        // NANP area codes are NXX with N from 2 to 9.
        let north_american = country.calling_code() == Some(1);
        if north_american && (text.len() != 3 || text.starts_with('1')) {
            return Err(refuse(
                "is no area code of this country; they have three digits and begin with 2 to 9, e.g. 415",
            ));
        }
        if text.len() > AREA_CODE_DIGITS_MAX {
            return Err(refuse("has too many digits for an area code; search for longer runs with `digits`"));
        }
        Ok(AreaCode(text.to_owned()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Digits {
    /// Reads 2 to [`SEARCH_DIGITS_MAX`] digits.
    pub fn parse(text: &str) -> Result<Digits, Refusal> {
        if !(2..=SEARCH_DIGITS_MAX).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Refusal::new(
                Code::InvalidValue,
                format!(
                    "{} cannot be searched for; send 2 to {SEARCH_DIGITS_MAX} digits, e.g. 777",
                    shown(text)
                ),
            ));
        }
        Ok(Digits(text.to_owned()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_code_as_it_is_dialled_inside_the_country_is_understood_and_refused() {
        let refusal = |text: &str, country: &str| {
            AreaCode::parse(text, country.parse().unwrap()).map(|code| code.0).unwrap_err().detail
        };
        assert!(refusal("020", "GB").ends_with("leave it out; did you mean 20?"), "{}", refusal("020", "GB"));
        assert!(refusal("0", "GB").ends_with("leave it out"), "{}", refusal("0", "GB"));
        assert!(refusal("0415", "US").ends_with("did you mean 415?"), "{}", refusal("0415", "US"));
    }
}
