//! Money: an amount in minor units and its currency. Integers only; no floats come near it.

use std::fmt;

use crate::error::{Code, Refusal, shown};

/// The largest amount, in minor units: ten million, so that no sum of a workspace's numbers overflows.
pub const MINOR_MAX: i64 = 1_000_000_000;

/// A currency by its three letters of ISO 4217. Those with two decimals are supported; carriers price in them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The United States dollar.
    pub const USD: Currency = Currency(*b"USD");

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("three ASCII letters")
    }
}

impl std::str::FromStr for Currency {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Currency, Refusal> {
        // ISO 4217 currencies with another number of decimals would be read a hundred times too large.
        const OTHER_DECIMALS: &[&str] = &[
            "BHD", "BIF", "CLP", "DJF", "GNF", "IQD", "ISK", "JOD", "JPY", "KMF", "KRW", "KWD", "LYD", "OMR",
            "PYG", "RWF", "TND", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF",
        ];
        let bytes: [u8; 3] = text.as_bytes().try_into().map_err(|_| refuse_currency(text))?;
        if !bytes.iter().all(u8::is_ascii_uppercase) || OTHER_DECIMALS.contains(&text) {
            return Err(refuse_currency(text));
        }
        Ok(Currency(bytes))
    }
}

fn refuse_currency(text: &str) -> Refusal {
    Refusal::new(
        Code::BadPrice,
        format!(
            "{} is not a currency that can be used; send three capital letters of a currency with two decimals, such as USD or EUR",
            shown(text)
        ),
    )
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An amount of money, never negative. Written as `{"amount":"1.15","currency":"USD"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

impl Money {
    /// From minor units (cents), 0 to [`MINOR_MAX`].
    pub fn from_minor(minor: i64, currency: Currency) -> Option<Money> {
        (0..=MINOR_MAX).contains(&minor).then_some(Money { minor, currency })
    }

    /// From a decimal text such as `1.15`, `1.1` or `1`.
    pub fn parse(amount: &str, currency: Currency) -> Result<Money, Refusal> {
        let refuse = || {
            Refusal::new(
                Code::BadPrice,
                format!(
                    "{} is not an amount; send digits with at most two decimals behind a dot, up to 10000000.00, e.g. \"1.15\"",
                    shown(amount)
                ),
            )
        };
        let (whole, decimals) = amount.split_once('.').unwrap_or((amount, "0"));
        let plain = |text: &str, max: usize| {
            (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
        };
        if !plain(whole, 8) || !plain(decimals, 2) {
            return Err(refuse());
        }
        let units: i64 = whole.parse().map_err(|_| refuse())?;
        let mut hundredths: i64 = decimals.parse().map_err(|_| refuse())?;
        if decimals.len() == 1 {
            hundredths *= 10;
        }
        Money::from_minor(units * 100 + hundredths, currency).ok_or_else(refuse)
    }

    /// The amount in minor units (cents).
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// The currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The amount as decimal text with two decimals.
    pub fn amount(self) -> String {
        format!("{}.{:02}", self.minor / 100, self.minor % 100)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount(), self.currency)
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Written {
    amount: String,
    currency: Currency,
}

impl serde::Serialize for Money {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written { amount: self.amount(), currency: self.currency }.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Money {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Written::deserialize(deserializer)?;
        Money::parse(&written.amount, written.currency).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn amounts_read_as_written() {
        for (text, minor) in
            [("1.15", 115), ("1.1", 110), ("1", 100), ("0.05", 5), ("10000000.00", MINOR_MAX)]
        {
            assert_eq!(Money::parse(text, Currency::USD).unwrap().minor(), minor, "{text}");
        }
        for text in ["", ".5", "1.", "1.155", "-1", "1,15", "1e3", "10000000.01", "99999999999", " 1", "+1"] {
            assert_eq!(Money::parse(text, Currency::USD).unwrap_err().code, Code::BadPrice, "{text:?}");
        }
        assert!("JPY".parse::<Currency>().is_err());
        assert!("usd".parse::<Currency>().is_err());
    }

    proptest! {
        #[test]
        fn written_and_read_again_is_the_same(minor in 0..=MINOR_MAX) {
            let money = Money::from_minor(minor, Currency::USD).unwrap();
            prop_assert_eq!(Money::parse(&money.amount(), Currency::USD).unwrap(), money);
        }
    }
}
