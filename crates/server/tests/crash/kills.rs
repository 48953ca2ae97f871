//! SIGKILL at random moments, again and again, while the carrier does everything that carriers do.

use std::time::Duration;

use database::Engine;
use serde_json::json;

use crate::world::World;

/// How many purchases the short runs make.
const SHORT_SQLITE: u32 = 60;
const SHORT_POSTGRES: u32 = 15;
/// How many are made between two kills.
const A_ROUND: u64 = 4;
/// The longest that a node lives, in milliseconds: it needs a part of that to start.
const LIFE_MS: u64 = 600;

#[expect(clippy::disallowed_methods, reason = "how long a run is wanted is told by whoever starts it")]
fn wanted(variable: &str, short: u32) -> u32 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(short)
}

#[tokio::test]
async fn random_kills_on_sqlite() {
    random_kills(Engine::Sqlite, wanted("SWITCHBOARD_TEST_CRASH_SQLITE", SHORT_SQLITE)).await;
}

#[tokio::test]
async fn random_kills_on_postgres() {
    random_kills(Engine::Postgres, wanted("SWITCHBOARD_TEST_CRASH_POSTGRES", SHORT_POSTGRES)).await;
}

async fn random_kills(engine: Engine, purchases: u32) {
    let seed = 20_261_121;
    let world = World::new(engine, seed).await;
    world
        .faults(json!([
            {"operation": "numbers.create", "probability": 0.05, "kind": "too_many_requests"},
            {"operation": "numbers.create", "probability": 0.03, "kind": "too_many_requests", "retry_after": 1},
            {"operation": "numbers.create", "probability": 0.04, "kind": "error_before"},
            {"operation": "numbers.create", "probability": 0.06, "kind": "error_after"},
            {"operation": "numbers.create", "probability": 0.04, "kind": "drop_before"},
            {"operation": "numbers.create", "probability": 0.06, "kind": "drop_after"},
            {"operation": "numbers.create", "probability": 0.04, "kind": "truncated_json"},
            {"operation": "numbers.create", "probability": 0.04, "kind": "truncated_json", "connection": true},
            {"operation": "numbers.create", "probability": 0.03, "kind": "html_502"},
            {"operation": "numbers.create", "probability": 0.03, "kind": "html_502", "after": true},
            {"operation": "numbers.create", "probability": 0.05, "kind": "late_effect", "seconds": 90},
            {"operation": "numbers.create", "probability": 0.10, "kind": "slow", "ms": 30_000},
            {"operation": "numbers.update", "probability": 0.05, "kind": "error_before"},
            {"operation": "numbers.update", "probability": 0.05, "kind": "drop_after"},
            {"operation": "numbers.list", "probability": 0.05, "kind": "error_before"},
            {"operation": "numbers.list", "probability": 0.15, "kind": "list_lag", "seconds": 120},
            {"operation": "numbers.list", "probability": 0.10, "kind": "list_shift", "by": 1},
            {"operation": "numbers.list", "probability": 0.03, "kind": "html_502"},
        ]))
        .await;
    let (mut made, mut kills) = (0, 0);
    while made < purchases {
        let mut node = world.node(None);
        for _ in 0..A_ROUND.min(u64::from(purchases - made)) {
            world.buy(world.next_number()).await;
            made += 1;
            node.live(Duration::from_millis(world.random.below(60))).await;
        }
        node.live(Duration::from_millis(world.random.below(LIFE_MS))).await;
        node.kill();
        kills += 1;
    }
    let last = world.node(None);
    let active = world.judge(&[]).await;
    last.kill();
    println!("{engine:?}: {made} purchases, {kills} kills, {active} numbers bought, each once, none lost");
    // Most are sold in the end: a carrier's bad minute does not fail a purchase.
    assert!(active * 10 >= purchases as usize * 9, "{active} of {purchases}");
    world.end().await;
}
