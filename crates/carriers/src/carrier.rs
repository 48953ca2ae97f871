//! What every carrier can do for the store, and every answer it can give, honestly: what is not known is an answer too.

use std::time::Duration;

use async_trait::async_trait;
use domain::id::PurchaseId;
use domain::number::{Capabilities, Country, E164, NumberType};
use domain::quote::Search;

/// The most characters of a carrier's own words that are kept.
pub const MESSAGE_CHARS_MAX: usize = 200;
/// The longest label that carriers keep.
pub const LABEL_CHARS_MAX: usize = 64;

/// One carrier account.
///
/// Reads are repeated a few times by the implementation. What changes something is sent at most once per call, on a connection of
/// its own; whoever calls decides what an unclear answer means.
#[async_trait]
pub trait Carrier: Send + Sync + std::fmt::Debug {
    /// Its name: what stands in the paths of its callbacks, and below `carriers` in the settings.
    fn name(&self) -> &'static str;

    /// What an operator corrects when the account is refused, and when nobody answers: names of settings below its own.
    fn setting_names(&self) -> SettingNames;

    /// How long one request may take in all. Whoever must be done by a time begins so much before it.
    fn request_limit(&self) -> Duration;

    /// Whether the credentials work, and for what kind of account.
    async fn account_check(&self) -> Result<Account, CarrierError>;

    /// Numbers on sale; none where the carrier has none of the kind, in the country or the area. That is an answer, not an error.
    async fn numbers_search(&self, search: &Search) -> Result<Vec<Candidate>, CarrierError>;

    /// Buys exactly this number, tagged and with its voice URLs set, in one request.
    async fn number_buy(&self, order: &Order) -> BuyOutcome;

    /// The number in our account, if it is there.
    async fn number_find(&self, phone_number: E164) -> Result<Option<OwnedNumber>, CarrierError>;

    /// What was bought under this tag and still carries it.
    async fn numbers_find_by_tag(&self, tag: &Tag) -> Result<Vec<OwnedNumber>, CarrierError>;

    /// Sets a number's label and voice URLs, and answers with what it has now.
    async fn number_configure(
        &self,
        carrier_number_id: &str,
        configuration: &Configuration,
    ) -> Result<OwnedNumber, CarrierError>;

    /// One page of all numbers in our account; `next` is what the page before gave.
    async fn numbers_list(&self, next: Option<&str>) -> Result<ListPage, CarrierError>;

    /// Gives a number back for good. Only ever called for what a person confirmed and a hold has passed.
    async fn number_release(&self, carrier_number_id: &str) -> Result<ReleaseOutcome, CarrierError>;
}

/// What an operator corrects when something is wrong with a carrier's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettingNames {
    /// Who we are there.
    pub credentials: &'static str,
    /// Where it is.
    pub address: &'static str,
}

/// An account at a carrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name there.
    pub name: String,
    /// Whether it may be used.
    pub active: bool,
    /// Whether it is a trial, which reaches few numbers.
    pub trial: bool,
}

/// A number on sale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The number.
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
}

/// The mark that a purchase leaves on its number at the carrier: `switchboard:<purchase id>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tag(String);

impl Tag {
    /// What every tag begins with.
    pub const PREFIX: &'static str = "switchboard:";

    /// The tag of a purchase.
    pub fn of_purchase(id: PurchaseId) -> Tag {
        Tag(format!("{}{id}", Tag::PREFIX))
    }

    /// As it is written at the carrier.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The purchase whose tag this label is, if it is one.
    pub fn purchase_of(label: &str) -> Option<PurchaseId> {
        label.strip_prefix(Tag::PREFIX)?.parse().ok()
    }
}

/// Where a carrier sends a number's calls. The URLs hold the number's callback token: do not log them.
#[derive(Clone, PartialEq, Eq)]
pub struct VoiceUrls {
    /// Asked when a call comes in.
    pub voice_url: String,
    /// Asked when `voice_url` does not answer; on another host.
    pub voice_fallback_url: Option<String>,
    /// Told when a call is over.
    pub status_callback: String,
}

impl std::fmt::Debug for VoiceUrls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VoiceUrls(…)")
    }
}

/// What is to be bought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Exactly this number: a carrier sells it only once.
    pub phone_number: E164,
    /// How it will be recognised.
    pub tag: Tag,
    /// Set in the same request, so that there is no moment in which it is ours and its calls go nowhere.
    pub voice: VoiceUrls,
}

/// How a number is to be set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// What people see at the carrier; cut to [`LABEL_CHARS_MAX`].
    pub label: String,
    /// Where its calls go.
    pub voice: VoiceUrls,
}

impl Configuration {
    /// The label as the carrier keeps it.
    pub fn label_kept(&self) -> String {
        self.label.chars().take(LABEL_CHARS_MAX).collect()
    }

    /// The settings in which the number differs, by the carrier's names. Empty: it is as we want it.
    pub fn differences(&self, number: &OwnedNumber) -> Vec<&'static str> {
        let mut found = Vec::new();
        let mut check = |same: bool, name| {
            if !same {
                found.push(name);
            }
        };
        check(number.label == self.label_kept(), "label");
        check(number.voice_url.as_deref() == Some(self.voice.voice_url.as_str()), "voice_url");
        check(
            number.voice_fallback_url.as_deref() == self.voice.voice_fallback_url.as_deref(),
            "voice_fallback_url",
        );
        check(
            number.status_callback.as_deref() == Some(self.voice.status_callback.as_str()),
            "status_callback",
        );
        check(!number.voice_is_overridden, "voice_application_or_trunk");
        found
    }
}

/// A number in our account, as the carrier shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedNumber {
    /// The carrier's id of it.
    pub carrier_number_id: String,
    /// The number.
    pub phone_number: E164,
    /// Its label: the tag, until it is set up.
    pub label: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Asked when a call comes in.
    pub voice_url: Option<String>,
    /// Asked when that does not answer.
    pub voice_fallback_url: Option<String>,
    /// Told when a call is over.
    pub status_callback: Option<String>,
    /// Whether a trunk or an application is set, which takes the calls in place of `voice_url`.
    pub voice_is_overridden: bool,
}

impl std::fmt::Debug for OwnedNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the URLs: they hold callback tokens.
        write!(f, "OwnedNumber({}, {}, {:?})", self.carrier_number_id, self.phone_number, self.label)
    }
}

/// One page of the account's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// The numbers.
    pub numbers: Vec<OwnedNumber>,
    /// How to ask for the next page; `None` at the end.
    pub next: Option<String>,
}

/// What a request to buy led to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum BuyOutcome {
    /// Bought.
    Confirmed(OwnedNumber),
    /// Not on sale any more – or ours already.
    Unavailable,
    /// Refused; this request surely did nothing.
    Refused {
        /// Whether it is the credentials or the account that is refused, not the number.
        account: bool,
        /// The carrier's own code.
        code: u32,
        /// The carrier's own words.
        message: String,
    },
    /// Surely not carried out; may be tried later.
    Deferred {
        /// After how long, if the carrier said so.
        retry_after: Option<Duration>,
        /// Why.
        why: String,
    },
    /// Nobody knows whether it was bought.
    Ambiguous {
        /// What came in place of an answer.
        why: String,
    },
}

/// What giving back led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum ReleaseOutcome {
    /// Given back now.
    Released,
    /// It was not there any more.
    AlreadyGone,
}

/// Why a carrier could not be asked. Never holds a credential or a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarrierError {
    /// The credentials or the account are refused.
    #[error("the carrier refuses the account's credentials: {message}")]
    Auth {
        /// The carrier's own words.
        message: String,
    },
    /// There is no such thing at the carrier.
    #[error("the carrier has no such thing")]
    NotFound,
    /// Too many requests, all tries used up.
    #[error("the carrier asks for fewer requests")]
    RateLimited {
        /// After how long it may be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// No answer, or a server error, all tries used up.
    #[error("the carrier does not answer: {0}")]
    Unavailable(String),
    /// It refuses the request.
    #[error("the carrier refuses: {message}")]
    Refused {
        /// The carrier's own code, if it gave one.
        code: Option<u32>,
        /// The carrier's own words.
        message: String,
    },
    /// An answer that cannot be understood.
    #[error("the carrier answered something else than its documents say: {0}")]
    Unexpected(String),
}

impl CarrierError {
    /// Whether the same request may succeed a little later.
    pub const fn is_passing(&self) -> bool {
        matches!(self, CarrierError::RateLimited { .. } | CarrierError::Unavailable(_))
    }
}
