//! Purchases: the budget is never overdrawn, and only the present holder of a lease goes on.

use crate::arena::{Arena, at};
use crate::stock::{HOME, number, phone_number, price, workspaces};
use database::meta;
use database::numbers::{Number, number_find};
use database::purchases::{
    BudgetRefusal, Limits, Purchase, purchase_claim, purchase_count, purchase_create, purchase_find,
    purchase_find_by_number, purchase_list_open, purchase_next_wake, purchase_renew, purchase_step,
};
use database::{Database, DbError};
use domain::id::{NumberId, PurchaseId};
use domain::money::{Currency, Money};
use domain::number::NumberStatus;
use domain::purchase::{Event, Progress, PurchaseState, Reason, Schedule, step};
use jiff::{SignedDuration, Timestamp};

crate::on_both_engines!(
    ten_a_day_are_ten_on_two_nodes,
    one_number_is_bought_once,
    a_failed_purchase_gives_its_budget_back,
    money_is_counted_by_the_month,
    a_locked_database_buys_nothing,
    a_purchase_is_claimed_by_one,
    a_lost_lease_writes_nothing,
);

const LEASE: SignedDuration = SignedDuration::from_secs(30);
const LIMITS: Limits = Limits { buys_per_day: 10, monthly_spend: None };

fn ordering(n: u64) -> Number {
    let id = Some(PurchaseId::from_bits(n.into()));
    Number { status: NumberStatus::Ordering, carrier_number_id: None, purchase_id: id, ..number(n) }
}

async fn buy(
    database: &Database,
    number: Number,
    limits: Limits,
    now: Timestamp,
) -> Result<Result<Purchase, BudgetRefusal>, DbError> {
    let id = number.purchase_id.unwrap();
    database.write(move |tx| purchase_create(tx, &number, id, limits, now)).await
}

async fn ten_a_day_are_ten_on_two_nodes(arena: Arena) {
    workspaces(&arena.database).await;
    let second = arena.another().await;
    let mut buyers = Vec::new();
    for n in 0..100 {
        let database = if n % 2 == 0 { arena.database.clone() } else { second.clone() };
        buyers.push(crate::arena::beside(async move { buy(&database, ordering(n), LIMITS, at(0)).await }));
    }
    let mut bought = 0;
    for buyer in buyers {
        match buyer.await.unwrap().unwrap() {
            Ok(_) => bought += 1,
            Err(refusal) => {
                let again_at: Timestamp = "2026-11-19T00:00:00Z".parse().unwrap();
                assert_eq!(refusal, BudgetRefusal::BuysPerDay { limit: 10, again_at });
            }
        }
    }
    assert_eq!(bought, 10);
    // The next day there is room again.
    let tomorrow: Timestamp = "2026-11-19T00:00:00Z".parse().unwrap();
    assert!(buy(&second, ordering(1000), LIMITS, tomorrow).await.unwrap().is_ok());
    second.close().await;
}

async fn one_number_is_bought_once(arena: Arena) {
    workspaces(&arena.database).await;
    let mut buyers = Vec::new();
    for n in 0..20 {
        let database = arena.database.clone();
        let same = Number { phone_number: phone_number(7), ..ordering(n) };
        buyers.push(crate::arena::beside(async move {
            buy(&database, same, Limits { buys_per_day: 100, ..LIMITS }, at(0)).await
        }));
    }
    let mut bought = 0;
    for buyer in buyers {
        match buyer.await.unwrap() {
            Ok(Ok(_)) => bought += 1,
            Err(DbError::Conflict("numbers_owner")) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bought, 1);
    let open = arena.database.read(|read| purchase_list_open(read, None, 50)).await.unwrap();
    assert_eq!(open.len(), 1, "those that were refused have left nothing");
}

async fn a_failed_purchase_gives_its_budget_back(arena: Arena) {
    workspaces(&arena.database).await;
    let one = Limits { buys_per_day: 1, ..LIMITS };
    let first = buy(&arena.database, ordering(1), one, at(0)).await.unwrap().unwrap();
    assert!(buy(&arena.database, ordering(2), one, at(0)).await.unwrap().is_err());
    let claimed = claim(&arena.database, "node", at(1)).await.remove(0);
    assert_eq!(claimed.id, first.id);
    let failed = Progress {
        state: PurchaseState::Failed,
        reason: Some(Reason::Unavailable),
        wake_at: None,
        ..claimed.progress.clone()
    };
    let stepped =
        arena.database.write(move |tx| purchase_step(tx, &claimed, &failed, false, at(2))).await.unwrap();
    assert!(stepped.is_some());
    assert!(buy(&arena.database, ordering(2), one, at(3)).await.unwrap().is_ok());
}

async fn money_is_counted_by_the_month(arena: Arena) {
    workspaces(&arena.database).await;
    let limit = Money::from_minor(1_000, Currency::USD).unwrap();
    let limits = Limits { buys_per_day: 100, monthly_spend: Some(limit) };
    let costing = |n, monthly, setup| Number { price: price(monthly, setup), ..ordering(n) };
    let try_buy = async |number, now| buy(&arena.database, number, limits, now).await.unwrap();
    assert!(try_buy(costing(1, 400, 200), at(0)).await.is_ok());
    let refused = try_buy(costing(2, 401, 0), at(0)).await.unwrap_err();
    assert_eq!(refused, BudgetRefusal::MonthlySpend { limit, spent_minor: 600 });
    assert!(try_buy(costing(3, 300, 100), at(0)).await.is_ok());
    assert!(try_buy(costing(4, 1, 0), at(0)).await.is_err());
    // Next month the setup prices are history; the monthly ones go on.
    let next_month: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    assert!(try_buy(costing(5, 300, 0), next_month).await.is_ok());
    assert!(try_buy(costing(6, 1, 0), next_month).await.is_err());
}

async fn a_locked_database_buys_nothing(arena: Arena) {
    workspaces(&arena.database).await;
    arena.database.write(|tx| meta::purchases_lock(tx, "restored")).await.unwrap();
    let refused = buy(&arena.database, ordering(1), LIMITS, at(0)).await.unwrap();
    assert_eq!(refused, Err(BudgetRefusal::Locked("restored".into())));
    let found = arena.database.read(|read| number_find(read, HOME, NumberId::from_bits(1))).await.unwrap();
    assert_eq!(found, None);
    arena.database.write(|tx| meta::reconciled(tx, at(5))).await.unwrap();
    assert!(buy(&arena.database, ordering(1), LIMITS, at(6)).await.unwrap().is_ok());
    assert_eq!(arena.database.read(meta::reconciled_at).await.unwrap(), Some(at(5)));
}

async fn claim(database: &Database, holder: &'static str, now: Timestamp) -> Vec<Purchase> {
    database.write(move |tx| purchase_claim(tx, holder, LEASE, 5, now)).await.unwrap()
}

async fn a_purchase_is_claimed_by_one(arena: Arena) {
    workspaces(&arena.database).await;
    let second = arena.another().await;
    for n in 0..30 {
        buy(&arena.database, ordering(n), Limits { buys_per_day: 100, ..LIMITS }, at(0))
            .await
            .unwrap()
            .unwrap();
    }
    let mut workers = Vec::new();
    for n in 0..12 {
        let database = if n % 2 == 0 { arena.database.clone() } else { second.clone() };
        let holder = if n % 2 == 0 { "one" } else { "two" };
        workers.push(crate::arena::beside(async move { claim(&database, holder, at(1)).await }));
    }
    let mut claimed = Vec::new();
    for worker in workers {
        claimed.extend(worker.await.unwrap().into_iter().map(|purchase| purchase.id.to_bits()));
    }
    claimed.sort_unstable();
    assert_eq!(claimed, (0..30).collect::<Vec<u128>>(), "each once");
    let due = arena.database.read(purchase_next_wake).await.unwrap();
    assert_eq!(due, Some(at(31)), "when the leases end");
    second.close().await;
}

async fn a_lost_lease_writes_nothing(arena: Arena) {
    workspaces(&arena.database).await;
    let id = PurchaseId::from_bits(1);
    buy(&arena.database, ordering(1), LIMITS, at(0)).await.unwrap().unwrap();
    let slow = claim(&arena.database, "slow", at(1)).await.remove(0);
    assert_eq!(slow.lease, Some(("slow".into(), at(31))));
    assert!(claim(&arena.database, "other", at(30)).await.is_empty(), "not before the lease ends");
    let renewed = slow.clone();
    let held = arena.database.write(move |tx| purchase_renew(tx, &renewed, LEASE, at(20))).await.unwrap();
    assert!(held);
    assert!(claim(&arena.database, "other", at(49)).await.is_empty(), "it was made longer");

    // The slow worker is paused; another takes over and sends the request.
    let quick = claim(&arena.database, "quick", at(50)).await.remove(0);
    assert!(quick.fence > slow.fence);
    let event = Event::Claimed { price_holds: true };
    let (posting, _) = step(&quick.progress, event.clone(), at(50), &Schedule::default());
    let quick =
        arena.database.write(move |tx| purchase_step(tx, &quick, &posting, true, at(50))).await.unwrap();
    let quick = quick.expect("the present holder may write");

    // The slow one wakes and wants to send as well: it learns that it must not.
    let (stale, _) = step(&slow.progress, event, at(51), &Schedule::default());
    let written = {
        let slow = slow.clone();
        arena.database.write(move |tx| purchase_step(tx, &slow, &stale, true, at(51))).await.unwrap()
    };
    assert_eq!(written, None);
    assert!(!arena.database.write(move |tx| purchase_renew(tx, &slow, LEASE, at(51))).await.unwrap());
    let found = arena.database.read(move |read| purchase_find(read, id)).await.unwrap().unwrap();
    assert_eq!(found, quick);
    assert_eq!((found.progress.state, found.progress.posts), (PurchaseState::Posting, 1));
    let by_number = arena.database.read(|read| purchase_find_by_number(read, NumberId::from_bits(1))).await;
    assert_eq!(by_number.unwrap().as_ref(), Some(&quick));
    let counts = arena.database.read(purchase_count).await.unwrap();
    assert_eq!(counts, [(PurchaseState::Posting, 1)]);
}
