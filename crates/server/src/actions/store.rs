//! The store: what can be bought where, and which numbers are on sale now. Asks the carrier, outside of any transaction.

use domain::error::{Code, Refusal};
use domain::number::{Country, NumberType};
use domain::permission::Permission;
use domain::quote::Search;

use super::{Caller, Failure};
use crate::app::{App, Shared};
use crate::store::Store;
pub use crate::store::{CountryOffer, Offer, TypeOffer};

/// What can be bought where.
pub fn store_countries(app: &Shared, caller: &Caller) -> Result<Vec<CountryOffer>, Failure> {
    caller.may(Permission::NumbersRead)?;
    Ok(supplied(app)?.countries())
}

/// Numbers on sale, with quotes.
pub async fn store_search(app: &Shared, caller: &Caller, search: &Search) -> Result<Vec<Offer>, Failure> {
    caller.may(Permission::NumbersRead)?;
    supplied(app)?.search(caller.workspace, search, app.clock.now()).await.map_err(search_failure)
}

/// What is not sold is the fault of the country that was asked for.
pub(super) fn search_failure(refusal: Refusal) -> Failure {
    match refusal.code {
        Code::CountryNotSold => Failure::field("country", refusal),
        _ => refusal.into(),
    }
}

/// The kind of number that is meant where none is named: local, or what else is sold there.
pub fn usual_type(app: &App, country: Country) -> NumberType {
    let sold = |&number_type: &NumberType| {
        app.store.as_ref().is_some_and(|store| store.price(country, number_type).is_some())
    };
    NumberType::ALL.iter().copied().find(sold).unwrap_or(NumberType::Local)
}

/// The store, where there is one.
pub(super) fn supplied(app: &App) -> Result<&Store, Refusal> {
    app.store.as_deref().ok_or_else(|| {
        Refusal::new(
            Code::StoreUnavailable,
            "this installation sells no numbers: the operator has set no store.supply",
        )
    })
}
