//! Nouns and decisions. No I/O, no async, no clock and no randomness of its own: time, random bits and everything a carrier
//! or a database said come in as arguments, and what is to be done goes out as values.
//!
//! # The glossary
//!
//! | word | meaning | where |
//! |---|---|---|
//! | workspace | the tenant: everything below belongs to exactly one | [`workspace`] |
//! | role, permission, API key | who may do what in a workspace | [`permission`] |
//! | store | the built-in shop for numbers; its supply is a carrier account of the operator | [`quote`] |
//! | quote | an offer of one exact number at one price, good for a while | [`quote`] |
//! | purchase | the durable intent to buy one exact number, and its state machine | [`purchase`] |
//! | number | one phone number in E.164, owned once per ingress | [`number`] |
//! | finding | a difference between the carrier's list of numbers and ours | [`reconcile`] |
//! | ingress | what a call came in on; calls are routed by (ingress, E.164) | [`call`] |
//! | agent | the AI assistant that answers | [`agent`] |
//! | endpoint | how a call reaches the agent: `sip`, `stream`, `phone` or `webhook` | [`endpoint`] |
//! | variant | one agent, many sites: attributes and, if wanted, an endpoint of its own | [`agent`], [`variant`] |
//! | draft, version | an agent is edited as a draft; publishing freezes it into a numbered version | [`agent`] |
//! | publish, promote, roll back | draft → sandbox; sandbox → pre-release → live; back to a version that ran there | [`publishing`] |
//! | publish-preview | what a deployment would change for each number | [`preview`] |
//! | environment | `sandbox`, `pre_release`, `live`: each runs one version of each agent | [`environment`] |
//! | assignment | number → agent + environment + variant (or none) | [`assignment`] |
//! | callout | what was changed in variants and does not yet match what numbers do | [`assignment`] |
//! | destination | a telephone number that calls are sent on to; which may be, and which never | [`destination`] |
//! | fallback | where a call goes when the agent cannot take it | [`fallback`] |
//! | readiness | whether a number can do its work now, and what is missing | [`readiness`] |
//! | hours, caller rules | when a number answers as usual, and for whom | [`hours`], [`caller`] |
//! | route, decision | what is done with one call, with every reason | [`route`] |
//! | event, audit entry | what happened, for programs and for people | [`event`] |
//!
//! Every refusal has a code of one table, [`error`].

/// Defines a closed set of words: an enum with `ALL`, `as_str`, `Display`, `FromStr` (whose refusal lists the words), and
/// serde as text. One definition for the database, the API, the CLI and the docs.
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $noun:literal { $( $(#[$vdoc:meta])* $variant:ident = $word:literal, )+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$vdoc])* $variant, )+ }

        impl $name {
            /// Every word, in its natural order.
            pub const ALL: &'static [$name] = &[ $( $name::$variant, )+ ];

            /// The word as it is written everywhere: API, database, docs.
            pub const fn as_str(self) -> &'static str {
                match self { $( $name::$variant => $word, )+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::error::Refusal;

            fn from_str(text: &str) -> Result<Self, $crate::error::Refusal> {
                $name::ALL.iter().copied().find(|word| word.as_str() == text).ok_or_else(|| {
                    let words: Vec<&str> = $name::ALL.iter().map(|word| word.as_str()).collect();
                    $crate::error::Refusal::new(
                        $crate::error::Code::InvalidValue,
                        format!("{} is no {}; it is one of {}", $crate::error::shown(text), $noun, words.join(", ")),
                    )
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub mod agent;
pub mod assignment;
pub mod call;
pub mod caller;
pub mod destination;
pub mod difference;
pub mod e164;
pub mod endpoint;
pub mod environment;
pub mod error;
pub mod event;
pub mod fallback;
pub mod hours;
pub mod id;
pub mod money;
pub mod number;
pub mod permission;
pub mod preview;
pub mod publishing;
pub mod purchase;
pub mod quote;
pub mod readiness;
pub mod reconcile;
pub mod route;
pub mod variant;
pub mod workspace;
