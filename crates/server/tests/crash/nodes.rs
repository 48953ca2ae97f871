//! Two nodes on one PostgreSQL: one that was paused in the worst moment wakes up when another has long gone on.

use database::Engine;
use domain::purchase::PurchaseState;

use crate::program::until;
use crate::world::World;

/// Stopped between writing `posting` down and the last check: it finds its lease gone and sends nothing.
#[tokio::test]
async fn a_paused_node_that_wakes_makes_no_second_request() {
    let world = World::new(Engine::Postgres, 3).await;
    world.count_posts().await;
    let paused = world.node(Some("order_numbers.before_check:stop"));
    let id = world.buy(world.next_number()).await;
    until("the first node's pause", async || paused.is_stopped()).await;
    let other = world.node(None);
    world.until(id, PurchaseState::Active).await;
    assert_eq!(world.posts_counted().await, 1);
    paused.wake();
    until("its waking", async || paused.said().contains("nothing was sent for")).await;
    assert_eq!(world.posts_counted().await, 1, "the sleeper sent a second request");
    assert_eq!(world.judge(&[]).await, 1);
    other.kill();
    paused.kill();
    world.end().await;
}

/// Stopped behind the last check, where no check can help: then the exact number is what saves us, since it is sold only once.
#[tokio::test]
async fn a_node_paused_behind_its_last_check_buys_nothing_twice() {
    let world = World::new(Engine::Postgres, 4).await;
    world.count_posts().await;
    let paused = world.node(Some("order_numbers.before_post:stop"));
    let id = world.buy(world.next_number()).await;
    until("the first node's pause", async || paused.is_stopped()).await;
    let other = world.node(None);
    world.until(id, PurchaseState::Active).await;
    paused.wake();
    until("the sleeper's request", async || world.posts_counted().await == 2).await;
    until("its answer", async || paused.said().contains("went to another worker")).await;
    assert_eq!(world.judge(&[]).await, 1);
    other.kill();
    paused.kill();
    world.end().await;
}
