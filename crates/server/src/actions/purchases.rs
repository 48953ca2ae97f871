//! Buying: one exact number, written down as an intent in the transaction that reserves the budget. Nothing is asked of the
//! carrier here but a search; `background/order_numbers` carries the intent out.

use std::sync::atomic::Ordering;

use database::numbers::{Number, number_find_by_owner};
use database::purchases::{BudgetRefusal, Limits, purchase_create};
use database::{DbError, Tx};
use domain::assignment::Assignment;
use domain::call::Ingress;
use domain::error::{Code, Refusal};
use domain::event::EventKind;
use domain::id::{NumberId, PurchaseId};
use domain::money::Money;
use domain::number::{Capability, Country, NumberStatus, NumberType, Source};
use domain::permission::Permission;
use domain::quote::{AreaCode, Quote, Search};
use domain::route::row::{CallbackToken, NumberSettings};
use jiff::Timestamp;

use super::numbers::{assignment_check, recorded};
use super::secrets::key_is_not_checked;
use super::store::search_failure;
use super::store::{supplied, usual_type};
use super::{Answer, Caller, Failure, Once, chains};
use crate::app::Shared;
use crate::app::random::secret_bytes;

/// How many candidates are looked at where we choose.
const CANDIDATES: u16 = 20;

/// What is to be bought.
#[derive(Clone)]
pub struct Buy {
    /// Which number.
    pub wanted: Wanted,
    /// What people will call it.
    pub label: Option<String>,
    /// Who will answer it.
    pub assignment: Option<Assignment>,
}

/// Which number is to be bought.
#[derive(Clone)]
pub enum Wanted {
    /// The one of a quote.
    Quote(String),
    /// One that we choose.
    Choose(Choose),
}

/// What a number that we choose must be.
#[derive(Clone)]
pub struct Choose {
    /// Of which country.
    pub country: Country,
    /// Of which kind.
    pub number_type: Option<NumberType>,
    /// Beginning so.
    pub area_code: Option<AreaCode>,
    /// For at most so much.
    pub max_monthly_price: Money,
}

/// Writes down that a number is to be bought. The answer is the number in the state `ordering`.
pub async fn number_buy(
    app: &Shared,
    caller: &Caller,
    buy: Buy,
    once: Once<Number>,
) -> Result<Answer<Number>, Failure> {
    caller.may(Permission::NumbersBuy)?;
    if buy.assignment.is_some() {
        caller.may(Permission::NumbersWrite)?;
    }
    if !app.key_is_checked.load(Ordering::Acquire) {
        return Err(key_is_not_checked().into());
    }
    let now = app.clock.now();
    // A repeated request is answered before anything is asked of the carrier, and after its quote has expired.
    let (look, who) = (once.clone(), caller.clone());
    if let Some(replayed) = app.database.try_read(move |read| look.replay(read, &who, now)).await? {
        return Ok(replayed);
    }
    let quote = match &buy.wanted {
        Wanted::Quote(quote_id) => supplied(app)?
            .quote_open(quote_id, caller.workspace, now)
            .map_err(|refusal| Failure::field("quote_id", refusal))?,
        Wanted::Choose(choose) => choose_number(app, caller, choose, now).await?,
    };
    let purchase_id = PurchaseId::new(now, app.random.bits());
    let number = new_number(app, quote, purchase_id, &buy, now);
    let limits = limits(app)?;
    let caller = caller.clone();
    let answer = app
        .database
        .try_write(move |tx| {
            once.run(tx, &caller, now, || {
                if let Some(assignment) = number.assignment {
                    assignment_check(tx, &number, assignment, "assignment.")?;
                }
                match tx.attempt(|tx| purchase_create(tx, &number, purchase_id, limits, now)) {
                    Ok(Ok(_)) => {}
                    Ok(Err(refusal)) => return Err(over_budget(refusal).into()),
                    Err(DbError::Conflict("numbers_owner")) => return Err(taken(tx, &number)?.into()),
                    Err(error) => return Err(error.into()),
                }
                // A fallback may have named the number before it was anybody's.
                chains::number_check(tx, &number)?;
                caller
                    .change(now, "number.buy", number.id, EventKind::NumberOrdering)
                    .after(recorded(&number))
                    .record(tx)?;
                Ok(number.clone())
            })
        })
        .await?;
    if matches!(answer, Answer::Fresh(_)) {
        app.nudges.order_numbers.notify_one();
    }
    Ok(answer)
}

/// Chooses one exact number that is on sale now.
async fn choose_number(
    app: &Shared,
    caller: &Caller,
    choose: &Choose,
    now: Timestamp,
) -> Result<Quote, Failure> {
    let store = supplied(app)?;
    let number_type = choose.number_type.unwrap_or_else(|| usual_type(app, choose.country));
    if let Some(price) = store.price(choose.country, number_type) {
        let (asked, most) = (price.monthly, choose.max_monthly_price);
        if asked.currency() != most.currency() {
            return Err(Failure::field(
                "max_monthly_price.currency",
                Refusal::new(
                    Code::BadPrice,
                    format!("is {}, and prices here are in {}", most.currency(), asked.currency()),
                ),
            ));
        }
        if asked.minor() > most.minor() {
            return Err(Failure::field(
                "max_monthly_price",
                Refusal::new(
                    Code::PriceAboveMaximum,
                    format!(
                        "is {most}, and {} {number_type} numbers cost {asked} a month; nothing was bought",
                        choose.country
                    ),
                ),
            ));
        }
    }
    let search = Search {
        country: choose.country,
        number_type,
        area_code: choose.area_code.clone(),
        digits: None,
        capabilities: vec![Capability::Voice],
        limit: CANDIDATES,
    };
    let mut offers = store.search(caller.workspace, &search, now).await.map_err(search_failure)?;
    if offers.is_empty() {
        let (field, filter) = match &choose.area_code {
            Some(area_code) => {
                ("area_code", format!("area code {}; leave out area_code to take any", area_code.as_str()))
            }
            None => ("country", "voice; try another type or country".to_owned()),
        };
        return Err(Failure::field(
            field,
            Refusal::new(
                Code::NoNumberFound,
                format!(
                    "no {} {number_type} number is on sale with {filter}; nothing was bought",
                    choose.country
                ),
            ),
        ));
    }
    // Not always the first: two buyers at the same time would want the same one.
    let chosen = app.random.below(offers.len() as u64);
    Ok(offers.swap_remove(usize::try_from(chosen).unwrap_or(0)).quote)
}

fn new_number(app: &Shared, quote: Quote, purchase_id: PurchaseId, buy: &Buy, now: Timestamp) -> Number {
    Number {
        id: NumberId::new(now, app.random.bits()),
        workspace: quote.workspace_id,
        ingress: Ingress::STORE,
        phone_number: quote.phone_number,
        country: Some(quote.country),
        number_type: quote.number_type,
        source: Source::Store,
        status: NumberStatus::Ordering,
        status_reason: None,
        label: buy.label.clone(),
        tags: Vec::new(),
        capabilities: quote.capabilities,
        locality: quote.locality,
        region: quote.region,
        price: quote.price,
        carrier_number_id: None,
        callback_token: CallbackToken(secret_bytes()),
        purchase_id: Some(purchase_id),
        assignment: buy.assignment,
        release_lock: false,
        settings: NumberSettings::default(),
        hold: None,
        revision: 1,
        created_at: now,
        updated_at: now,
    }
}

fn limits(app: &Shared) -> Result<Limits, Failure> {
    let store = &app.config.store;
    let monthly_spend = match &store.limits.monthly_spend {
        // Checked at the start; a refusal here would be a mistake of ours, and buying without a limit a worse one.
        Some(amount) => Some(Money::parse(amount, store.currency)?),
        None => None,
    };
    Ok(Limits { buys_per_day: store.limits.buys_per_day, monthly_spend })
}

fn over_budget(refusal: BudgetRefusal) -> Refusal {
    match refusal {
        BudgetRefusal::Locked(why) => {
            Refusal::new(Code::PurchasesLocked, format!("nothing can be bought now: {why}"))
        }
        BudgetRefusal::BuysPerDay { limit, again_at } => Refusal::new(
            Code::BudgetExceeded,
            format!(
                "this workspace may buy {limit} numbers a day (UTC) and has; the next can be bought at {again_at:.0}. The operator sets store.limits.buys_per_day"
            ),
        ),
        BudgetRefusal::MonthlySpend { limit, spent_minor } => {
            let spent = Money::from_minor(spent_minor, limit.currency())
                .map_or_else(|| "the whole of it".to_owned(), |spent| spent.to_string());
            Refusal::new(
                Code::BudgetExceeded,
                format!(
                    "this workspace may spend {limit} a month on numbers, and {spent} of it is spent; release a number, or ask the operator to raise store.limits.monthly_spend"
                ),
            )
        }
    }
}

/// Why a number that somebody has cannot be bought. Other workspaces are not named.
fn taken(tx: &Tx<'_>, wanted: &Number) -> Result<Refusal, DbError> {
    let phone_number = wanted.phone_number;
    let holder = number_find_by_owner(tx, wanted.ingress, phone_number)?;
    Ok(match holder.filter(|holder| holder.workspace == wanted.workspace) {
        Some(holder) if matches!(holder.status, NumberStatus::Ordering | NumberStatus::NeedsReview) => {
            Refusal::new(
                Code::PurchaseInProgress,
                format!(
                    "{phone_number} is being bought already, as {}; see GET /v1/numbers/{}",
                    holder.id, holder.id
                ),
            )
        }
        Some(holder) => Refusal::new(
            Code::NumberUnavailable,
            format!("{phone_number} is yours already, as {}; choose another", holder.id),
        ),
        None => Refusal::new(
            Code::NumberUnavailable,
            format!("{phone_number} was just taken; search again and choose another, nothing was charged"),
        ),
    })
}
