//! The store: what is sold, at which price, and who supplies it. `actions/store` asks it for requests, after checking permission.
//!
//! A quote is a fact that the buyer carries: it is sealed with a key of this installation, so nothing is kept of a search and any
//! node can open it. Buying itself is elsewhere: `actions/purchases` writes the intent down, `background/order_numbers`
//! carries it out. Which carrier supplies the numbers is known to `supply` alone.

mod offers;
mod supply;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use carriers::{Candidate, Carrier, CarrierError, VoiceUrls};
use database::Keyring;
use domain::error::{Code, Refusal, shown};
use domain::id::WorkspaceId;
use domain::money::{Currency, Money};
use domain::number::{Capabilities, Country, E164, NumberType};
use domain::quote::{Price, Quote, Search};
use domain::route::row::CallbackToken;
use jiff::{SignedDuration, Timestamp};
use ring::hmac;
use subtle::ConstantTimeEq as _;
use tracing::warn;

pub use self::offers::{CountryOffer, TypeOffer};
use crate::config::Config;

/// How a quote's id begins.
const QUOTE_PREFIX: &str = "quo_";
/// The longest quote id that is looked at.
const QUOTE_ID_BYTES_MAX: usize = 2_048;
/// How many bytes seal a quote: half of an HMAC-SHA-256, as RFC 2104 §5 allows; people copy these ids.
const SEAL_BYTES: usize = 16;

/// The shop.
pub struct Store {
    carrier: Arc<dyn Carrier>,
    prices: BTreeMap<(Country, NumberType), Price>,
    quote_key: hmac::Key,
    quote_ttl: SignedDuration,
    public_base: String,
    voice_fallback_url: Option<String>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({} prices, {:?})", self.prices.len(), self.carrier)
    }
}

/// What a search found: an offer and the id under which it can be bought.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The sealed quote.
    pub quote_id: String,
    /// What is in it.
    pub quote: Quote,
}

impl Store {
    /// The store that the settings describe; none where they name no supply.
    pub fn open(config: &Config, keyring: &Keyring) -> anyhow::Result<Option<Store>> {
        match supply::carrier(config)? {
            Some(carrier) => Store::with_carrier(config, keyring, carrier).map(Some),
            None => Ok(None),
        }
    }

    /// A store supplied by this carrier.
    pub fn with_carrier(
        config: &Config,
        keyring: &Keyring,
        carrier: Arc<dyn Carrier>,
    ) -> anyhow::Result<Store> {
        let Some(public_base) = config.public_base() else {
            anyhow::bail!(
                "a store needs public_url: the address that the carrier sends the calls of bought numbers to"
            );
        };
        let currency = config.store.currency;
        let mut prices = BTreeMap::new();
        for (&country, types) in &config.store.prices {
            for (&number_type, setting) in types {
                let price = Price {
                    monthly: Money::parse(&setting.monthly, currency)?,
                    setup: Money::parse(&setting.setup, currency)?,
                };
                prices.insert((country, number_type), price);
            }
        }
        if prices.is_empty() {
            warn!("store.prices is empty: the store lists nothing, because what has no price is not sold");
        }
        let ttl = i64::try_from(config.store.quote_ttl_s).unwrap_or(i64::MAX / 2);
        Ok(Store {
            carrier,
            prices,
            quote_key: hmac::Key::new(hmac::HMAC_SHA256, &*keyring.derive("quotes/2")),
            quote_ttl: SignedDuration::from_secs(ttl),
            public_base,
            voice_fallback_url: config.voice_fallback_url.as_ref().map(ToString::to_string),
        })
    }

    /// Who supplies the numbers.
    pub fn carrier(&self) -> &dyn Carrier {
        &*self.carrier
    }

    /// What a number costs now; none: it is not sold.
    pub fn price(&self, country: Country, number_type: NumberType) -> Option<Price> {
        self.prices.get(&(country, number_type)).copied()
    }

    /// What can be bought where.
    pub fn countries(&self) -> Vec<CountryOffer> {
        offers::countries(&self.prices)
    }

    /// Where the carrier sends the calls of the number with this token.
    pub fn voice_urls(&self, token: CallbackToken) -> VoiceUrls {
        let base = format!("{}/callbacks/{}/{}", self.public_base, self.carrier.name(), token.to_hex());
        VoiceUrls {
            voice_url: format!("{base}/voice"),
            voice_fallback_url: self.voice_fallback_url.clone(),
            status_callback: format!("{base}/voice-status"),
        }
    }

    /// Numbers on sale, as offers to this workspace. An empty list is an answer.
    pub async fn search(
        &self,
        workspace_id: WorkspaceId,
        search: &Search,
        now: Timestamp,
    ) -> Result<Vec<Offer>, Refusal> {
        let price = self.price(search.country, search.number_type).ok_or_else(|| self.not_sold(search))?;
        let candidates = match self.carrier.numbers_search(search).await {
            Ok(candidates) => candidates,
            Err(error) => return Err(carrier_refusal(&error)),
        };
        let expires_at = now.checked_add(self.quote_ttl).unwrap_or(Timestamp::MAX);
        Ok(candidates.into_iter().map(|found| self.offer(workspace_id, found, price, expires_at)).collect())
    }

    fn offer(
        &self,
        workspace_id: WorkspaceId,
        found: Candidate,
        price: Price,
        expires_at: Timestamp,
    ) -> Offer {
        let quote = Quote {
            workspace_id,
            phone_number: found.phone_number,
            country: found.country,
            number_type: found.number_type,
            capabilities: found.capabilities,
            locality: found.locality,
            region: found.region,
            price,
            expires_at,
        };
        Offer { quote_id: self.quote_seal(&quote), quote }
    }

    fn not_sold(&self, search: &Search) -> Refusal {
        let sold: Vec<String> =
            self.prices.keys().map(|(country, number_type)| format!("{country} {number_type}")).collect();
        let sold = if sold.is_empty() { "nothing".to_owned() } else { sold.join(", ") };
        Refusal::new(
            Code::CountryNotSold,
            format!(
                "the store does not sell {} numbers of {}; it sells {sold}",
                search.number_type, search.country
            ),
        )
    }

    /// The id under which a quote can be bought.
    pub fn quote_seal(&self, quote: &Quote) -> String {
        let mut bytes = serde_json::to_vec(&packed(quote)).expect("a quote is plain data");
        let seal = hmac::sign(&self.quote_key, &bytes);
        bytes.extend_from_slice(&seal.as_ref()[..SEAL_BYTES]);
        format!("{QUOTE_PREFIX}{}", BASE64.encode(bytes))
    }

    /// Opens a quote id, if it is ours, this workspace's, still good, and the price still holds.
    pub fn quote_open(
        &self,
        quote_id: &str,
        workspace: WorkspaceId,
        now: Timestamp,
    ) -> Result<Quote, Refusal> {
        let quote = self.unseal(quote_id).ok_or_else(|| {
            Refusal::new(
                Code::BadQuote,
                format!(
                    "{} is not a quote_id of ours; search with GET /v1/store/numbers and send one of its quote_id values unchanged",
                    shown(quote_id)
                ),
            )
        })?;
        quote.check(workspace, now)?;
        if self.price(quote.country, quote.number_type) != Some(quote.price) {
            return Err(Refusal::new(
                Code::QuoteExpired,
                format!(
                    "the price of {} has changed since this quote ({} a month); search again for the new one",
                    quote.phone_number, quote.price.monthly
                ),
            ));
        }
        Ok(quote)
    }

    fn unseal(&self, quote_id: &str) -> Option<Quote> {
        if quote_id.len() > QUOTE_ID_BYTES_MAX {
            return None;
        }
        let bytes = BASE64.decode(quote_id.strip_prefix(QUOTE_PREFIX)?).ok()?;
        let (sealed, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL_BYTES)?)?;
        let expected = hmac::sign(&self.quote_key, sealed);
        let is_ours: bool = expected.as_ref()[..SEAL_BYTES].ct_eq(seal).into();
        is_ours.then(|| unpacked(serde_json::from_slice(sealed).ok()?)).flatten()
    }
}

/// A quote without the names of its fields: it travels with the buyer, so it is to be short.
type Packed = (
    WorkspaceId,
    E164,
    Country,
    NumberType,
    (bool, bool, bool),
    Option<String>,
    Option<String>,
    (String, String, Currency),
    i64,
);

fn packed(quote: &Quote) -> Packed {
    let (can, price) = (quote.capabilities, quote.price);
    (
        quote.workspace_id,
        quote.phone_number,
        quote.country,
        quote.number_type,
        (can.voice, can.sms, can.mms),
        quote.locality.clone(),
        quote.region.clone(),
        (price.monthly.amount(), price.setup.amount(), price.monthly.currency()),
        quote.expires_at.as_millisecond(),
    )
}

fn unpacked(packed: Packed) -> Option<Quote> {
    let (workspace_id, phone_number, country, number_type, can, locality, region, price, expires_at) = packed;
    let (monthly, setup, currency) = price;
    Some(Quote {
        workspace_id,
        phone_number,
        country,
        number_type,
        capabilities: Capabilities { voice: can.0, sms: can.1, mms: can.2 },
        locality,
        region,
        price: Price {
            monthly: Money::parse(&monthly, currency).ok()?,
            setup: Money::parse(&setup, currency).ok()?,
        },
        expires_at: Timestamp::from_millisecond(expires_at).ok()?,
    })
}

/// What a user is told when the carrier could not be asked. Its details are the operator's business and go to the log.
pub fn carrier_refusal(error: &CarrierError) -> Refusal {
    warn!("the store's carrier could not be asked: {error}");
    match error {
        CarrierError::Auth { .. } => Refusal::new(
            Code::CarrierAuthFailed,
            "the carrier refuses the operator's credentials; nothing was bought",
        ),
        CarrierError::RateLimited { .. } => Refusal::new(
            Code::CarrierUnavailable,
            "the carrier asks for fewer requests; try again in a minute, nothing was bought",
        ),
        CarrierError::Refused { message, .. } => {
            Refusal::new(Code::CarrierUnavailable, format!("the carrier refuses the search: {message}"))
        }
        CarrierError::NotFound | CarrierError::Unavailable(_) | CarrierError::Unexpected(_) => Refusal::new(
            Code::CarrierUnavailable,
            "the carrier did not answer as expected; try again, nothing was bought",
        ),
    }
}

#[cfg(test)]
mod tests;
