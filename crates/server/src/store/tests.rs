//! Quotes cannot be forged, kept too long or taken elsewhere; what has no price is not sold.

use async_trait::async_trait;
use carriers::{
    Account, BuyOutcome, Configuration, ListPage, Order, OwnedNumber, ReleaseOutcome, SettingNames, Tag,
};
use domain::number::{Capabilities, E164};

use super::*;

/// A carrier that has one number on sale, or an error.
#[derive(Debug)]
struct Shelf(Result<(), CarrierError>);

#[async_trait]
impl Carrier for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn setting_names(&self) -> SettingNames {
        SettingNames { credentials: "carriers.shelf.key", address: "carriers.shelf.base_url" }
    }

    fn request_limit(&self) -> std::time::Duration {
        std::time::Duration::from_secs(1)
    }

    async fn account_check(&self) -> Result<Account, CarrierError> {
        Err(CarrierError::NotFound)
    }

    async fn numbers_search(&self, search: &Search) -> Result<Vec<Candidate>, CarrierError> {
        self.0.clone().map(|()| {
            vec![Candidate {
                phone_number: E164::from_carrier("+12025550173").unwrap(),
                country: search.country,
                number_type: search.number_type,
                capabilities: Capabilities { voice: true, sms: true, mms: false },
                locality: Some("Washington".into()),
                region: None,
            }]
        })
    }

    async fn number_buy(&self, _: &Order) -> BuyOutcome {
        BuyOutcome::Unavailable
    }

    async fn number_find(&self, _: E164) -> Result<Option<OwnedNumber>, CarrierError> {
        Ok(None)
    }

    async fn numbers_find_by_tag(&self, _: &Tag) -> Result<Vec<OwnedNumber>, CarrierError> {
        Ok(Vec::new())
    }

    async fn number_configure(&self, _: &str, _: &Configuration) -> Result<OwnedNumber, CarrierError> {
        Err(CarrierError::NotFound)
    }

    async fn numbers_list(&self, _: Option<&str>) -> Result<ListPage, CarrierError> {
        Ok(ListPage { numbers: Vec::new(), next: None })
    }

    async fn number_release(&self, _: &str) -> Result<ReleaseOutcome, CarrierError> {
        Err(CarrierError::NotFound)
    }
}

fn store(settings: &str, answer: Result<(), CarrierError>) -> Store {
    let settings = format!("public_url = \"https://calls.example.com/sw/\"\n{settings}");
    let config: Config = toml::from_str(&settings).unwrap();
    Store::with_carrier(&config, &Keyring::from_bytes(&[7; 32]), Arc::new(Shelf(answer))).unwrap()
}

const PRICES: &str = "store.prices = { US = { local = { monthly = \"1.15\" } }, GB = { mobile = { monthly = \"1.5\", setup = \"1\" } } }";

fn workspace() -> WorkspaceId {
    WorkspaceId::from_bits(1)
}

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn search(country: Country) -> Search {
    Search {
        country,
        number_type: NumberType::Local,
        area_code: None,
        digits: None,
        capabilities: Vec::new(),
        limit: 10,
    }
}

#[tokio::test]
async fn a_quote_is_opened_as_it_was_sealed() {
    let store = store(PRICES, Ok(()));
    let offers = store.search(workspace(), &search(Country::US), now()).await.unwrap();
    let offer = &offers[0];
    assert_eq!(offer.quote.price.monthly.to_string(), "1.15 USD");
    assert_eq!(offer.quote.expires_at.to_string(), "2026-11-21T12:10:00Z");
    assert_eq!(store.quote_open(&offer.quote_id, workspace(), now()).unwrap(), offer.quote);
    assert!(offer.quote_id.len() < 240, "{} bytes", offer.quote_id.len());

    let later = now().checked_add(SignedDuration::from_mins(10)).unwrap();
    let code = |id: &str, workspace, at| store.quote_open(id, workspace, at).unwrap_err().code;
    assert_eq!(code(&offer.quote_id, workspace(), later), Code::QuoteExpired);
    assert_eq!(code(&offer.quote_id, WorkspaceId::from_bits(2), now()), Code::BadQuote);
}

#[tokio::test]
async fn no_changed_quote_is_opened() {
    let store = store(PRICES, Ok(()));
    let offer = store.search(workspace(), &search(Country::US), now()).await.unwrap().remove(0);
    let bytes = BASE64.decode(offer.quote_id.strip_prefix(QUOTE_PREFIX).unwrap()).unwrap();
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        let id = format!("{QUOTE_PREFIX}{}", BASE64.encode(changed));
        let refusal = store.quote_open(&id, workspace(), now()).unwrap_err();
        assert_eq!(refusal.code, Code::BadQuote, "byte {place}");
    }
    for id in ["", "quo_", "quo_AAAA", "nope", "quo_é", &"x".repeat(5_000), &offer.quote_id[..40]] {
        assert_eq!(store.quote_open(id, workspace(), now()).unwrap_err().code, Code::BadQuote, "{id}");
    }
    let other: Config = toml::from_str(&format!("public_url = \"https://x.example\"\n{PRICES}")).unwrap();
    let other = Store::with_carrier(&other, &Keyring::from_bytes(&[8; 32]), Arc::new(Shelf(Ok(())))).unwrap();
    assert_eq!(other.quote_open(&offer.quote_id, workspace(), now()).unwrap_err().code, Code::BadQuote);
}

#[tokio::test]
async fn a_changed_price_ends_a_quote() {
    let offer =
        store(PRICES, Ok(())).search(workspace(), &search(Country::US), now()).await.unwrap().remove(0);
    let dearer = store("store.prices = { US = { local = { monthly = \"1.16\" } } }", Ok(()));
    let refusal = dearer.quote_open(&offer.quote_id, workspace(), now()).unwrap_err();
    assert_eq!(refusal.code, Code::QuoteExpired);
    assert!(refusal.detail.contains("price"), "{refusal}");
}

#[tokio::test]
async fn what_has_no_price_is_not_sold() {
    let store = store(PRICES, Ok(()));
    let refusal = store.search(workspace(), &search(Country::FR), now()).await.unwrap_err();
    assert_eq!(refusal.code, Code::CountryNotSold);
    assert!(refusal.detail.contains("GB mobile, US local"), "{refusal}");
    let offers = store.countries();
    let names: Vec<&str> = offers.iter().map(|offer| offer.name.as_str()).collect();
    assert_eq!(names, ["United Kingdom", "United States"]);
    assert_eq!(offers[0].types[0].price.setup.amount(), "1.00");
}

#[tokio::test]
async fn a_carrier_in_trouble_is_told_as_such() {
    for (error, code) in [
        (CarrierError::Auth { message: "no".into() }, Some(Code::CarrierAuthFailed)),
        (CarrierError::Unavailable("x".into()), Some(Code::CarrierUnavailable)),
        (CarrierError::RateLimited { retry_after: None }, Some(Code::CarrierUnavailable)),
        (CarrierError::NotFound, Some(Code::CarrierUnavailable)),
    ] {
        let found = store(PRICES, Err(error.clone())).search(workspace(), &search(Country::US), now()).await;
        assert_eq!(found.err().map(|refusal| refusal.code), code, "{error}");
    }
}

#[test]
fn the_urls_of_a_number_hold_its_token() {
    let settings = format!("voice_fallback_url = \"https://other.example/v\"\n{PRICES}");
    let urls = store(&settings, Ok(())).voice_urls(CallbackToken([1; 16]));
    let base = format!("https://calls.example.com/sw/callbacks/shelf/{}", "01".repeat(16));
    assert_eq!(urls.voice_url, format!("{base}/voice"));
    assert_eq!(urls.status_callback, format!("{base}/voice-status"));
    assert_eq!(urls.voice_fallback_url.as_deref(), Some("https://other.example/v"));
}
