//! `/v1/store` and `POST /v1/numbers/buy`: what can be bought, and buying it.

use axum::extract::State;
use axum::response::Response;
use domain::error::{Code, Refusal, shown};
use domain::money::{Currency, Money};
use domain::number::{Capability, Country, E164, NumberType, parse_label};
use domain::quote::{AreaCode, Digits, Search};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::{Body, Query};
use super::error::Problem;
use super::fields::{Fields, Json};
use super::idempotency::{IdempotencyKey, answered};
use super::list::Page;
use super::number_shapes::{AssignmentIn, NumberOut};
use super::numbers::{assignment_fields, parse_words};
use super::router::Routes;
use super::schema::{self, time};
use super::{json_answer, json_text};
use crate::actions::Caller;
use crate::actions::numbers::Number;
use crate::actions::purchases::{Buy, Choose, Wanted, number_buy};
use crate::actions::store::{CountryOffer, Offer, TypeOffer, store_countries, store_search, usual_type};
use crate::app::Shared;

const BUY: &str = "POST /v1/numbers/buy";
/// The most candidates of one search: what carriers give at once.
const CANDIDATES_MAX: u16 = 50;
/// The candidates of one search, unless asked otherwise.
const CANDIDATES_DEFAULT: u16 = 20;

/// The routes of this file.
pub fn routes() -> Routes {
    Routes::new()
        .with(routes!(countries), &[Code::StoreUnavailable])
        .with(
            routes!(search),
            &[
                Code::StoreUnavailable,
                Code::Required,
                Code::InvalidValue,
                Code::BadCountry,
                Code::BadAreaCode,
                Code::CountryNotSold,
                Code::LimitRange,
                Code::CarrierUnavailable,
                Code::CarrierAuthFailed,
            ],
        )
        .with(
            routes!(buy),
            &[
                Code::IdempotencyKeyRequired,
                Code::IdempotencyKeyInvalid,
                Code::IdempotencyConflict,
                Code::StoreUnavailable,
                Code::BadQuote,
                Code::QuoteExpired,
                Code::FieldConflict,
                Code::BadCountry,
                Code::BadAreaCode,
                Code::BadPrice,
                Code::CountryNotSold,
                Code::PriceAboveMaximum,
                Code::NoNumberFound,
                Code::NumberUnavailable,
                Code::PurchaseInProgress,
                Code::BudgetExceeded,
                Code::PurchasesLocked,
                Code::InvalidId,
                Code::AgentNotFound,
                Code::VariantNotFound,
                Code::NotPublished,
                Code::VariantNotPublished,
                Code::CapabilityMissing,
                Code::FallbackLoop,
                Code::FallbackTooLong,
                Code::Blank,
                Code::TooLong,
                Code::ControlCharacter,
                Code::CarrierUnavailable,
                Code::CarrierAuthFailed,
            ],
        )
}

/// What can be bought where
#[utoipa::path(get, path = "/v1/store/countries", tag = "Store", operation_id = "store_countries",
    responses((status = 200, description = "Countries, with what is sold there", body = Page<CountryOut>)))]
async fn countries(State(app): State<Shared>, caller: Caller, query: Query) -> Result<Response, Problem> {
    query.read(|_| Some(()))?;
    let countries = store_countries(&app, &caller)?;
    Ok(json_answer(&Page { data: countries.iter().map(CountryOut::from).collect(), next_cursor: None }))
}

/// Search for numbers to buy
///
/// Each result is an offer of one exact number at one price, good until `quote_expires_at`. An empty list means that nothing matches now:
/// loosen `area_code`, `digits` or `type`.
#[utoipa::path(get, path = "/v1/store/numbers", tag = "Store", operation_id = "store_search",
    params(
        ("country" = schema::CountryCode, Query, description = "In which country."),
        ("area_code" = Option<String>, Query, description = "Beginning so, behind the country code; digits only, such as `415`."),
        ("digits" = Option<String>, Query, description = "With these digits anywhere; 2 to 12 of them."),
        ("type" = Option<schema::NumberType>, Query, description = "Of which kind. Left out: `local`, or what else is sold there."),
        ("capabilities" = Option<String>, Query, description = "Able to do all of these, separated by commas, such as `voice,sms`."),
        ("limit" = Option<u16>, Query, description = "1 to 50; 20 unless sent.")),
    responses((status = 200, description = "Numbers on sale; `next_cursor` is always null", body = Page<OfferOut>)))]
async fn search(State(app): State<Shared>, caller: Caller, query: Query) -> Result<Response, Problem> {
    let search = query.read(|fields| {
        let country = fields.required("country", Json::parse::<Country>);
        let (number_type, area_code) = type_and_area_code(fields, country);
        let digits = fields.optional("digits", |json| json.text(Digits::parse));
        let capabilities = fields.optional("capabilities", |json| json.text(parse_words::<Capability>));
        let limit =
            fields.optional("limit", |json| json.text(parse_candidates)).unwrap_or(CANDIDATES_DEFAULT);
        let country = country?;
        let number_type = number_type.unwrap_or_else(|| usual_type(&app, country));
        let capabilities = capabilities.unwrap_or_default();
        Some(Search { country, number_type, area_code, digits, capabilities, limit })
    })?;
    let offers = store_search(&app, &caller, &search).await?;
    Ok(json_answer(&Page { data: offers.iter().map(OfferOut::from).collect(), next_cursor: None }))
}

/// Buy a number
///
/// Either the one of a quote, or, by country and at most so much a month, one that we choose. The answer comes before the purchase is
/// done: `status` is `ordering`, and soon `active`, or `failed` where nothing was bought, or `needs_review` where that is not known yet. With
/// the same `Idempotency-Key` a number is bought once, however often you ask. Bought numbers serve inbound only.
#[utoipa::path(post, path = "/v1/numbers/buy", tag = "Store", operation_id = "number_buy",
    params(("Idempotency-Key" = String, Header, description = "A value of your own, such as a UUID; the same when you repeat the request.")),
    request_body(content = BuyIn, example = json!({"country": "US", "area_code": "415", "max_monthly_price": {"amount": "2.00", "currency": "USD"}, "label": "Front desk"})),
    responses((status = 202, description = "The number, in the state `ordering`", body = NumberOut)))]
async fn buy(
    State(app): State<Shared>,
    caller: Caller,
    key: IdempotencyKey,
    body: Body,
) -> Result<Response, Problem> {
    let key = key.required()?;
    let sold_in = app.store.as_ref().map(|_| app.config.store.currency);
    let buy = body.read(|fields| {
        let quote_id = fields.optional("quote_id", |json| json.text(|text| Ok(text.to_owned())));
        let country = fields.optional("country", Json::parse::<Country>);
        let (number_type, area_code) = type_and_area_code(fields, country);
        let max_monthly_price = fields.optional("max_monthly_price", |json| money(json, sold_in));
        let label = fields.optional("label", |json| json.text(parse_label));
        let assignment = fields.optional("assignment", |json| json.object(assignment_fields));
        // Null is as good as absent.
        let sent = |fields: &Fields<'_>, name| fields.peek(name).is_some_and(|value| !value.is_null());
        let wanted = if sent(fields, "quote_id") {
            for other in ["country", "type", "area_code", "max_monthly_price"] {
                if sent(fields, other) {
                    fields.refuse(
                        other,
                        Refusal::new(
                            Code::FieldConflict,
                            "does not go with quote_id, which names one exact number at one price",
                        ),
                    );
                }
            }
            Wanted::Quote(quote_id?)
        } else {
            for name in ["country", "max_monthly_price"] {
                if !sent(fields, name) {
                    fields.refuse(
                        name,
                        Refusal::new(
                            Code::Required,
                            "is missing: send a quote_id, or country and max_monthly_price to let us choose",
                        ),
                    );
                }
            }
            Wanted::Choose(Choose {
                country: country?,
                number_type,
                area_code,
                max_monthly_price: max_monthly_price?,
            })
        };
        Some(Buy { wanted, label, assignment })
    })?;
    let once = key.once(&app, BUY, &body, ordered);
    Ok(answered(number_buy(&app, &caller, buy, once).await?, ordered))
}

fn ordered(number: &Number) -> (u16, String) {
    (202, json_text(&NumberOut::from(number)))
}

fn type_and_area_code(
    fields: &mut Fields<'_>,
    country: Option<Country>,
) -> (Option<NumberType>, Option<AreaCode>) {
    let number_type = fields.optional("type", Json::parse::<NumberType>);
    let area_code = fields.optional("area_code", |json| {
        json.text(|text| match country {
            Some(country) => AreaCode::parse(text, country).map(Some),
            // The country is refused or missing already; what an area code means there cannot be said, only what it never is.
            None if text.bytes().all(|b| b.is_ascii_digit()) => Ok(None),
            None => Err(Refusal::new(
                Code::BadAreaCode,
                format!("{} is no area code of any country; send digits only, such as 415", shown(text)),
            )),
        })
    });
    (number_type, area_code.flatten())
}

/// An amount of money, in the currency that is sold in, so that a wrong one is told beside a wrong amount.
fn money(json: &Json<'_>, sold_in: Option<Currency>) -> Option<Money> {
    json.object(|fields| {
        let currency = fields.required("currency", |json| {
            json.text(|text| {
                let currency: Currency = text.parse()?;
                match sold_in {
                    Some(sold_in) if sold_in != currency => Err(Refusal::new(
                        Code::BadPrice,
                        format!("is {currency}, and prices here are in {sold_in}"),
                    )),
                    _ => Ok(currency),
                }
            })
        });
        let amount = fields.required("amount", |json| {
            json.text(|text| Money::parse(text, currency.unwrap_or(Currency::USD)))
        });
        currency.and(amount)
    })
}

fn parse_candidates(text: &str) -> Result<u16, Refusal> {
    text.parse().ok().filter(|limit| (1..=CANDIDATES_MAX).contains(limit)).ok_or_else(|| {
        Refusal::new(
            Code::LimitRange,
            format!("{} is not a limit; send a whole number from 1 to {CANDIDATES_MAX}", shown(text)),
        )
    })
}

/// A country in which numbers are sold.
#[derive(Serialize, ToSchema)]
#[schema(as = StoreCountry)]
struct CountryOut {
    /// The country.
    #[schema(value_type = schema::CountryCode)]
    country: Country,
    /// Its English name.
    #[schema(example = "United States")]
    name: String,
    /// What is sold there.
    types: Vec<TypeOut>,
}

/// One kind of number that is sold in a country.
#[derive(Serialize, ToSchema)]
#[schema(as = StoreType)]
struct TypeOut {
    /// The kind.
    #[serde(rename = "type")]
    #[schema(value_type = schema::NumberType)]
    number_type: NumberType,
    /// What such numbers can usually do; a search tells of each.
    #[schema(value_type = Vec<schema::Capability>)]
    capabilities: Vec<Capability>,
    /// What it takes to hold one.
    #[schema(example = "none")]
    requirements: String,
    /// What it costs each month.
    #[schema(value_type = schema::Money)]
    monthly_price: Money,
    /// What it costs once.
    #[schema(value_type = schema::Money)]
    setup_price: Money,
}

/// An offer of one exact number at one price.
#[derive(Serialize, ToSchema)]
#[schema(as = Offer)]
struct OfferOut {
    /// The number.
    #[schema(value_type = schema::PhoneNumber)]
    phone_number: E164,
    /// Its country.
    #[schema(value_type = schema::CountryCode)]
    country: Country,
    /// Its kind.
    #[serde(rename = "type")]
    #[schema(value_type = schema::NumberType)]
    number_type: NumberType,
    /// Its town.
    #[schema(example = "San Francisco")]
    locality: Option<String>,
    /// Its region or state.
    #[schema(example = "CA")]
    region: Option<String>,
    /// What it can do.
    #[schema(value_type = Vec<schema::Capability>)]
    capabilities: Vec<Capability>,
    /// What it costs each month.
    #[schema(value_type = schema::Money)]
    monthly_price: Money,
    /// What it costs once.
    #[schema(value_type = schema::Money)]
    setup_price: Money,
    /// Buy it with this.
    #[schema(example = "quo_eyJ3b3Jrc3BhY2VfaWQiOiJ3c3BfMDFrYjV4M2E3bTAwIn0")]
    quote_id: String,
    /// Until when.
    #[schema(value_type = schema::Time)]
    quote_expires_at: String,
}

/// What is to be bought: `quote_id`, or `country` and `max_monthly_price`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "says what `buy` reads; a test compares")]
struct BuyIn {
    /// The quote of one exact number, as a search gave it.
    quote_id: Option<String>,
    /// Where we choose: of which country.
    #[schema(value_type = Option<schema::CountryCode>)]
    country: Option<String>,
    /// Where we choose: of which kind. Left out: `local`, or what else is sold there.
    #[schema(value_type = Option<schema::NumberType>)]
    r#type: Option<String>,
    /// Where we choose: beginning so, behind the country code.
    area_code: Option<String>,
    /// Where we choose: for at most so much.
    max_monthly_price: Option<schema::Money>,
    /// What people will call it.
    #[schema(max_length = 100)]
    label: Option<String>,
    /// Who will answer it.
    assignment: Option<AssignmentIn>,
}

impl From<&CountryOffer> for CountryOut {
    fn from(offer: &CountryOffer) -> Self {
        CountryOut {
            country: offer.country,
            name: offer.name.clone(),
            types: offer.types.iter().map(TypeOut::from).collect(),
        }
    }
}

impl From<&TypeOffer> for TypeOut {
    fn from(offer: &TypeOffer) -> Self {
        TypeOut {
            number_type: offer.number_type,
            capabilities: offer.capabilities.clone(),
            requirements: offer.requirements.to_owned(),
            monthly_price: offer.price.monthly,
            setup_price: offer.price.setup,
        }
    }
}

impl From<&Offer> for OfferOut {
    fn from(offer: &Offer) -> Self {
        let quote = &offer.quote;
        OfferOut {
            phone_number: quote.phone_number,
            country: quote.country,
            number_type: quote.number_type,
            locality: quote.locality.clone(),
            region: quote.region.clone(),
            capabilities: quote.capabilities.list().collect(),
            monthly_price: quote.price.monthly,
            setup_price: quote.price.setup,
            quote_id: offer.quote_id.clone(),
            quote_expires_at: time(quote.expires_at),
        }
    }
}
