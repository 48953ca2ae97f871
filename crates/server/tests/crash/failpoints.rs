//! Every named crash point, on both engines: the program aborts there, is started again, and everything ends well.

use database::Engine;
use database::numbers::{Number, number_find, number_update};
use domain::number::{E164, NumberStatus, ReleaseHold};
use domain::purchase::PurchaseState;
use jiff::SignedDuration;
use serde_json::{Value, json};
use server::app::failpoint::FAILPOINTS;

use crate::program::until;
use crate::world::{WORKSPACE, World};

#[tokio::test]
async fn each_crash_point_on_sqlite() {
    each_crash_point(Engine::Sqlite).await;
}

#[tokio::test]
async fn each_crash_point_on_postgres() {
    each_crash_point(Engine::Postgres).await;
}

async fn each_crash_point(engine: Engine) {
    let world = World::new(engine, 11).await;
    let mut elsewhere = Vec::new();
    for failpoint in FAILPOINTS {
        match failpoint.split_once('.').unwrap().0 {
            "order_numbers" => order(&world, failpoint, &mut elsewhere).await,
            "reconcile_numbers" => reconcile(&world, failpoint).await,
            // They give numbers back, which the judge below does not forgive.
            "release_numbers" => {}
            task => panic!("nobody tries the crash points of {task}"),
        }
    }
    let bought = world.judge(&elsewhere).await;
    assert!(bought >= 12, "{bought}");
    for failpoint in FAILPOINTS.iter().filter(|name| name.starts_with("release_numbers.")) {
        release(&world, failpoint).await;
    }
    world.end().await;
}

/// What has to happen for the program to come by that point.
async fn provoke(world: &World, failpoint: &str, elsewhere: &mut Vec<E164>) -> (E164, PurchaseState) {
    let once = |kind: &str| json!([{"operation": "numbers.create", "times": 1, "kind": kind}]);
    let (faults, end): (Value, PurchaseState) = match failpoint {
        "order_numbers.after_requested" => (once("too_many_requests"), PurchaseState::Active),
        "order_numbers.after_ambiguous" | "order_numbers.before_look_up" | "order_numbers.after_look_up" => {
            (once("drop_after"), PurchaseState::Active)
        }
        "order_numbers.after_needs_review" => {
            let number = world.next_number();
            world.buy_elsewhere(number).await;
            elsewhere.push(number);
            world.faults(once("error_before")).await;
            return (number, PurchaseState::Failed);
        }
        // Reserved for nobody: it is never on sale.
        "order_numbers.after_failed" => {
            return (E164::from_carrier("+14155559999").unwrap(), PurchaseState::Failed);
        }
        _ => (json!([]), PurchaseState::Active),
    };
    world.faults(faults).await;
    (world.next_number(), end)
}

async fn order(world: &World, failpoint: &str, elsewhere: &mut Vec<E164>) {
    let (number, end) = provoke(world, failpoint, elsewhere).await;
    let mut dying = world.node(Some(failpoint));
    let id = world.buy(number).await;
    let status = dying.wait(failpoint).await;
    assert!(!status.success(), "{failpoint}: {status}");
    world.faults_clear().await;
    let node = world.node(None);
    let ended = world.until(id, end).await;
    assert!(ended.progress.posts <= 2, "{failpoint}: {:?}", ended.progress);
    node.kill();
}

async fn reconcile(world: &World, failpoint: &str) {
    let locked = |tx: &database::Tx<'_>| database::meta::purchases_lock(tx, "restored");
    world.database.write(locked).await.unwrap();
    let mut dying = world.node(Some(failpoint));
    assert!(!dying.wait(failpoint).await.success());
    let node = world.node(None);
    let id = {
        until("the next full comparison, which lifts the lock", async || {
            world.database.read(database::meta::purchases_locked).await.unwrap().is_none()
        })
        .await;
        world.buy(world.next_number()).await
    };
    world.until(id, PurchaseState::Active).await;
    node.kill();
}

async fn release(world: &World, failpoint: &str) {
    let number = world.numbers(&[NumberStatus::Active]).await.remove(0);
    let (id, now) = (number.id, server::clock::Clock::now(&world.clock));
    let hold = ReleaseHold {
        requested_at: now - SignedDuration::from_hours(2),
        release_at: now - SignedDuration::from_hours(1),
    };
    let phone_number = number.phone_number.to_string();
    let scheduled = Number { status: NumberStatus::ReleaseScheduled, hold: Some(hold), ..number };
    world.database.write(move |tx| number_update(tx, &scheduled, now).map(drop)).await.unwrap();
    let mut dying = world.node(Some(failpoint));
    assert!(!dying.wait(failpoint).await.success());
    let node = world.node(None);
    until("its release", async || {
        let found = world.database.read(move |read| number_find(read, WORKSPACE, id)).await.unwrap().unwrap();
        found.status == NumberStatus::Released
    })
    .await;
    assert_eq!(world.ledger().await[&phone_number], (1, 1), "{failpoint}");
    node.kill();
}
