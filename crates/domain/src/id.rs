//! Typed, prefixed ids: `num_01k5x…`. A prefix says the kind, the type keeps kinds apart, and the rest is a UUIDv7-shaped
//! value (RFC 9562 §5.7: 48 bits of milliseconds, then random bits) in 26 letters of Crockford's base 32, so that ids sort
//! by age and cannot be guessed. Time and random bits are handed in. A call's id alone tells no time: all of its bits are a keyed
//! hash of what the carrier calls it, so that every node gives it the same.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::error::{Code, Refusal, shown};

/// How many letters follow the prefix.
const LETTERS: usize = 26;
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The 128 bits behind an id: milliseconds since 1970 in the upper 48, random bits below.
pub fn bits(now: Timestamp, random: u128) -> u128 {
    let ms = u128::from(u64::try_from(now.as_millisecond()).unwrap_or(0)) & 0xFFFF_FFFF_FFFF;
    (ms << 80) | (random & ((1 << 80) - 1))
}

fn encode(bits: u128, out: &mut [u8; LETTERS]) {
    let mut rest = bits;
    for place in out.iter_mut().rev() {
        *place = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
}

/// What each byte stands for; 255 for those that are no letter of ours. A table, since a branch for each letter of something
/// random is mostly guessed wrong, and a start reads some for each number.
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0u8;
    while digit < 32 {
        digits[ALPHABET[digit as usize] as usize] = digit;
        digit += 1;
    }
    digits
};
const NO_DIGIT: u8 = 255;

fn decode(text: &str) -> Option<u128> {
    let letters: &[u8; LETTERS] = text.as_bytes().try_into().ok()?;
    let mut seen = 0;
    let mut bits = |letters: &[u8]| {
        letters.iter().fold(0u64, |bits, &letter| {
            let digit = DIGITS[usize::from(letter)];
            seen |= digit;
            (bits << 5) | u64::from(digit & 31)
        })
    };
    // Twelve letters fill 60 bits.
    let (upper, middle, lower) = (bits(&letters[..2]), bits(&letters[2..14]), bits(&letters[14..]));
    // 26 letters hold 130 bits: the first may only be 0 to 7.
    if seen == NO_DIGIT || upper > 0xFF {
        return None;
    }
    Some(u128::from(upper) << 120 | u128::from(middle) << 60 | u128::from(lower))
}

macro_rules! ids {
    ($( $(#[$doc:meta])* $name:ident, $prefix:literal, $noun:literal; )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u128);

        impl $name {
            /// What stands before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, sortable by `now`; only the lower 80 bits of `random` are used.
            pub fn new(now: Timestamp, random: u128) -> Self {
                $name(bits(now, random))
            }

            /// An id with exactly these bits.
            pub const fn from_bits(bits: u128) -> Self {
                $name(bits)
            }

            /// The bits of the id.
            pub const fn to_bits(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut letters = [0; LETTERS];
                encode(self.0, &mut letters);
                f.write_str(concat!($prefix, "_"))?;
                f.write_str(std::str::from_utf8(&letters).expect("the alphabet is ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Refusal;

            fn from_str(text: &str) -> Result<Self, Refusal> {
                text.strip_prefix(concat!($prefix, "_")).and_then(decode).map($name).ok_or_else(|| {
                    Refusal::new(Code::InvalidId, format!(
                        "{} is not the id of {}; such an id is {}_ and {LETTERS} letters and digits",
                        shown(text), $noun, $prefix,
                    ))
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )* };
}

ids! {
    /// A workspace: the tenant.
    WorkspaceId, "wsp", "a workspace";
    /// An API key.
    KeyId, "key", "an API key";
    /// A custom role.
    RoleId, "rol", "a role";
    /// A phone number.
    NumberId, "num", "a number";
    /// A purchase intent.
    PurchaseId, "pur", "a purchase";
    /// An agent.
    AgentId, "agt", "an agent";
    /// A variant of an agent.
    VariantId, "var", "a variant";
    /// A stored secret.
    SecretId, "sec", "a secret";
    /// A version of an agent.
    VersionId, "ver", "a version";
    /// A deployment: one version put into one environment at one time.
    DeploymentId, "dep", "a deployment";
    /// A call.
    CallId, "cal", "a call";
    /// An event.
    EventId, "evt", "an event";
    /// An audit row.
    AuditId, "aud", "an audit entry";
    /// One request, in logs and answers.
    RequestId, "req", "a request";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_of_another_kind_are_refused() {
        let id = NumberId::new(Timestamp::UNIX_EPOCH, 7);
        let refused = id.to_string().parse::<AgentId>().unwrap_err();
        assert_eq!(refused.code, Code::InvalidId);
        assert!(refused.detail.contains("agt_"), "{refused}");
    }

    proptest! {
        #[test]
        fn written_and_read_again_is_the_same(bits: u128) {
            let id = CallId::from_bits(bits);
            prop_assert_eq!(id.to_string().parse::<CallId>().unwrap(), id);
        }

        #[test]
        fn later_ids_sort_later_as_text(a in 0i64..4_000_000_000_000, b in 0i64..4_000_000_000_000, x: u128, y: u128) {
            let early = NumberId::new(Timestamp::from_millisecond(a.min(b)).unwrap(), x).to_string();
            let late = NumberId::new(Timestamp::from_millisecond(a.max(b) + 1).unwrap(), y).to_string();
            prop_assert!(early < late);
        }

        #[test]
        fn nothing_panics_and_what_is_accepted_is_canonical(text in "num_[0-9a-z]{24,28}") {
            if let Ok(id) = text.parse::<NumberId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
